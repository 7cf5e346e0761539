"""Candidates that the user names: proposals from given choices, with the other choices drawn at random."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nas.errors import PluginError, UserError
from nas.screening.budgets import ATTEMPTS
from nas.screening.proposals import Proposal
from nas.screening.screener import Screener
from nas.seeds import seed
from nas.spaces.choices import Decide, Options, Primitive, at_random, index_of


def as_text(choices: str | Mapping[str, Primitive]) -> str:
    """Choices as the setting ``enqueue`` holds them: a JSON object as text, its names sorted.

    Raises
    ------
    UserError
        If they are neither a mapping of plain values nor the text of a JSON object.

    Examples
    --------
    >>> as_text({"space": "residual", "width": 24})
    '{"space": "residual", "width": 24}'
    """
    if isinstance(choices, str):
        choices = _parsed(choices)
    if not isinstance(choices, Mapping):
        raise UserError(f"enqueue must be a list of dicts of choices. Got {choices!r:.200}.")
    try:
        return json.dumps(dict(choices), allow_nan=False, sort_keys=True, default=_plain)
    except (TypeError, ValueError) as error:
        raise UserError(f"Choices must be plain text, numbers, true, false or None. Got {choices!r:.200}.") from error


def as_texts(choices: Iterable[str | Mapping[str, Primitive]]) -> tuple[str, ...]:
    """The setting ``enqueue`` from a list of choices. Raises UserError as `as_text`, and unless it is a list."""
    if isinstance(choices, str | Mapping) or not isinstance(choices, Iterable):
        raise UserError(f"enqueue must be a list of dicts of choices. Got {choices!r:.200}.")
    return tuple(map(as_text, choices))


def enqueued(screener: Screener, texts: Iterable[str], study_seed: int) -> list[Proposal]:
    """The proposals that the user enqueued, in their order, each network once.

    Parameters
    ----------
    screener
        Of the study.
    texts
        JSON objects from the names of choices, with or without the name of their space, to options; and "space", if the
        study has several.
    study_seed
        Seed of the study, for the choices that are not given.

    Returns
    -------
    list of Proposal

    Raises
    ------
    UserError
        If a text is no such object, if a name or an option is unknown to the space, or if the constraints reject the
        network.
    """
    found: dict[str, Proposal] = {}
    for place, text in enumerate(texts):
        space, given = _choices(screener, text)
        drawn = at_random(np.random.default_rng(seed(study_seed, "enqueued", place)))
        known: set[str] = set()
        for _ in range(ATTEMPTS):
            asked: set[str] = set()
            try:
                proposal = screener.propose(_decide(given, drawn, asked), space)
            except PluginError as error:
                raise UserError(f"--enqueue {text}: {error}") from error
            known |= asked
            found_it = isinstance(proposal, Proposal) and given.keys() <= asked
            if found_it or asked <= given.keys():  # or nothing was drawn
                break
        if unused := [name for name in given if name not in asked]:
            names = ", ".join(sorted(name.partition("/")[2] for name in known))
            raise UserError(
                f"--enqueue must name choices of the space {space!r}: {names}. Got {unused[0].partition('/')[2]!r} in "
                f"{text}."
            )
        if not isinstance(proposal, Proposal):
            raise UserError(f"--enqueue must name networks within the limits. Got {text}: {proposal.reason}")
        found.setdefault(proposal.key, proposal)
    return list(found.values())


def _choices(screener: Screener, text: str) -> tuple[str, dict[str, Primitive]]:
    """The space of an enqueued candidate, and its given choices by full name."""
    choices = _parsed(text)
    spaces = list(screener.spaces)
    space = choices.pop("space", spaces[0] if len(spaces) == 1 else None)
    if space not in spaces:
        raise UserError(f'--enqueue must name one of the spaces {", ".join(spaces)} as "space". Got {text}.')
    prefix = f"{space}/"
    return space, {prefix + name.removeprefix(prefix): option for name, option in choices.items()}


def _parsed(text: str) -> dict[str, Any]:
    """The choices of a text. Raises UserError unless it is a JSON object."""
    try:
        choices = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"--enqueue must be a JSON object of choices. Got {text!r:.200}: {error}.") from error
    if not isinstance(choices, dict):
        raise UserError(f"--enqueue must be a JSON object of choices. Got {text!r:.200}.")
    return choices


def _plain(value: Any) -> Any:
    """A scalar of NumPy as a plain value."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"no plain value: {value!r}")


def _decide(given: Mapping[str, Primitive], drawn: Decide, asked: set[str]) -> Decide:
    """A decision that takes the given choices and draws the others; asked: gets the names that occur."""

    def decide(name: str, options: Options) -> int:
        asked.add(name)
        if name not in given:
            return drawn(name, options)
        index = index_of(options, given[name])
        if index < 0:
            raise UserError(
                f"--enqueue must choose among the options of {name.partition('/')[2]!r}: "
                f"{', '.join(map(str, options))}. Got {given[name]!r}."
            )
        return index

    return decide
