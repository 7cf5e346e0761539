"""Define-by-run choices: a search space is a function of `choose(name, options)`.

The same function serves random sampling, Optuna, enumeration, replay and mutation: they differ only in the *decision*
behind `choose`, a function `decide(name, options) -> index`. The `Recorder` connects the two: it checks the contract,
answers a repeated name from its record, and stores the choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from nas.errors import PluginError, UserError

Primitive: TypeAlias = str | int | float | bool | None
Options: TypeAlias = tuple[Primitive, ...]
Decide: TypeAlias = Callable[[str, Options], int]
P = TypeVar("P", bound=Primitive)

_PRIMITIVES = (str, int, float, bool, type(None))


class Choose(Protocol):
    """The argument with which a search space makes its choices: ``choose(name, options)`` returns one of the options.

    A space may call it any number of times per proposal, in any order, and later calls may depend on earlier answers.

    Parameters
    ----------
    name : str
        Identifies the choice. A repeated name returns the same answer within a proposal.
    options : sequence of str, int, float, bool or None
        Not empty, finite, without duplicates, and *the same whenever the name occurs*, in this proposal and in every
        other proposal of the study. If the options depend on an earlier answer, put that answer into the name:
        ``choose(f"kernel of {kind}", kernels[kind])``. Options are equal if type and value are equal: 1, 1.0 and True
        are three options.

    Returns
    -------
    str, int, float, bool or None
        One of the options.

    Raises
    ------
    PluginError
        If the space violates this contract.

    Notes
    -----
    A constant tuple is fastest, because it is recognised by identity.
    """

    def __call__(self, name: str, options: Sequence[P]) -> P: ...


class Domains:
    """The options of every name that occurred in a study; shared by all its recorders.

    The driver constructs one per study. On resume it starts with the stored options, so that a space that was edited
    in between is detected. Names are added as they occur and never removed. Not thread-safe: one writer per study.

    Parameters
    ----------
    options : mapping of str to sequence, optional
        Stored options by name.

    Attributes
    ----------
    options : dict of str to tuple
        Options by name, in the order in which the names first occurred.
    """

    __slots__ = ("_types", "options")

    def __init__(self, options: Mapping[str, Sequence[Primitive]] | None = None) -> None:
        self.options: dict[str, Options] = {}
        self._types: dict[str, tuple[type, ...]] = {}
        for name, stored in (options or {}).items():
            self.check(name, stored)

    def check(self, name: str, options: Sequence[Primitive]) -> Options:
        """Check the options of a name, and add the name if it is new.

        Parameters
        ----------
        name : str
        options : sequence
            Must equal the first options of this name in type, value and order.

        Returns
        -------
        tuple
            The options.

        Raises
        ------
        PluginError
            If the options are invalid, or differ from the first ones.
        """
        first = self.options.get(name) if isinstance(name, str) else None
        if first is None:
            first = self.options[name] = _valid_options(name, options)
            self._types[name] = tuple(map(type, first))
            return first
        if options is first:
            return first
        now = tuple(options) if isinstance(options, (tuple, list, range)) else _valid_options(name, options)
        if now != first or tuple(map(type, now)) != self._types[name]:
            raise PluginError(
                f"A name must have the same options every time. Got choose({name!r}, {_shown(now)}) after "
                f"choose({name!r}, {_shown(first)}). "
                "If the options depend on a condition, put the condition into the name."
            )
        self.options[name] = now  # the latest object, so that options from a store are also recognised by identity
        return now

    def of(self, names: Iterable[str]) -> dict[str, Options]:
        """The options of some of the names, such as the choices of one proposal.

        Parameters
        ----------
        names : iterable of str
            Names that occurred.

        Returns
        -------
        dict of str to tuple
            Options by name, in the order of the names.
        """
        options = self.options
        return {name: options[name] for name in names}


class Recorder:
    """The `Choose` of one proposal: it checks the options, asks `decide` once per name, and records the answers.

    Parameters
    ----------
    decide : callable
        Function from a name and its options to the index of an option.
    domains : Domains
        The options of the study.

    Attributes
    ----------
    choices : dict
        Answers by name, in the order in which the names occurred; complete when the space returns, partial if it
        raises.

    Examples
    --------
    >>> recorder = Recorder(lambda name, options: len(options) - 1, Domains())
    >>> recorder("width", (16, 32)), recorder("norm", (None, "batch")), recorder("width", (16, 32))
    (32, 'batch', 32)
    >>> recorder.choices
    {'width': 32, 'norm': 'batch'}
    """

    __slots__ = ("_decide", "_options", "choices", "domains")

    def __init__(self, decide: Decide, domains: Domains) -> None:
        self._decide = decide
        self._options = domains.options
        self.domains = domains
        self.choices: dict[str, Primitive] = {}

    def __call__(self, name: str, options: Sequence[P]) -> P:
        """One choice; see `Choose`. About 0.3 µs with a random decision, 0.75 µs for a list."""
        # A constant tuple is the same object as before; first and newly built options are checked in full.
        try:
            checked: Any = self._options[name]
        except (KeyError, TypeError):
            checked = None
        if checked is not options or checked is None:
            checked = self.domains.check(name, options)
        choices: dict[str, Any] = self.choices
        if name in choices:
            return choices[name]
        index = self._decide(name, checked)
        try:
            answer = choices[name] = checked[index]
        except (IndexError, TypeError):
            raise PluginError(
                f"A decision must be the index of an option. Got {index!r} for {name!r} with options {_shown(checked)}."
            ) from None
        return answer


def index_of(options: Sequence[Primitive], value: Primitive) -> int:
    """The index of an option equal in type and value.

    Parameters
    ----------
    options : sequence
    value : str, int, float, bool or None

    Returns
    -------
    int
        -1 if there is none.

    Examples
    --------
    >>> index_of((0, 1, True, 1.0), True), index_of((0, 1), True)
    (2, -1)
    """
    for index, option in enumerate(options):
        if option == value and type(option) is type(value):
            return index
    return -1


def at_random(rng: np.random.Generator) -> Decide:
    """A decision that draws options uniformly, for any number of proposals.

    Parameters
    ----------
    rng : numpy.random.Generator
        Numbers are drawn in blocks, ahead of their use.

    Returns
    -------
    callable
        The decision, a function from a name and its options to an index.
    """
    draw = _uniforms(rng).__next__

    def decide(name: str, options: Options) -> int:
        return int(draw() * len(options))

    return decide


def replay(choices: Mapping[str, Primitive]) -> Decide:
    """A decision that repeats stored choices.

    Parameters
    ----------
    choices : mapping
        Stored choices by name.

    Returns
    -------
    callable
        The decision. It raises PluginError if the space asks for a name that is not stored, or if a stored choice is
        not among the options.
    """

    def decide(name: str, options: Options) -> int:
        if name not in choices:
            raise PluginError(
                f"Stored choices must include every name of the space. Got none for {name!r}, with options "
                f"{_shown(options)}; stored: {_shown(choices)}. If the space has changed, start a new study."
            )
        return _stored_index(name, options, choices[name])

    return decide


def mutate(
    choices: Mapping[str, Primitive], rng: np.random.Generator, domains: Domains, rate: float | None = None
) -> Decide:
    """A decision that changes some of the stored choices, for one proposal.

    Each choice changes with probability `rate`, to another option drawn uniformly. At least one choice changes, if a
    stored name has two options. Names that are not stored, because a change opened a new branch of the space, are drawn
    uniformly. The decision raises PluginError if a stored choice is not among the options.

    Parameters
    ----------
    choices : mapping
        Stored choices by name.
    rng : numpy.random.Generator
    domains : Domains
        The options of the stored names.
    rate : float, optional
        Probability of a change, 1 / number of choices by default.

    Returns
    -------
    callable
        The decision.

    Raises
    ------
    UserError
        If the rate is outside [0, 1].
    """
    names = [name for name in choices if len(domains.options.get(name, ())) > 1]
    if rate is None:
        rate = 1 / max(1, len(names))
    if not 0 <= rate <= 1:
        raise UserError(f"A mutation rate must lie in [0, 1]. Got {rate=}.")
    changed = {name for name, u in zip(names, rng.random(len(names)).tolist()) if u < rate}
    if names and not changed:
        changed.add(names[int(rng.integers(len(names)))])
    draw = _uniforms(rng).__next__

    def decide(name: str, options: Options) -> int:
        if name not in choices:
            return int(draw() * len(options))
        index = _stored_index(name, options, choices[name])
        if name in changed:
            return (index + 1 + int(draw() * (len(options) - 1))) % len(options)
        return index

    return decide


def _uniforms(rng: np.random.Generator) -> Iterator[float]:
    """Endless uniform numbers in [0, 1), drawn in blocks, which is ten times faster than one at a time."""
    while True:
        yield from rng.random(64).tolist()


def _stored_index(name: str, options: Options, value: Primitive) -> int:
    index = index_of(options, value)
    if index < 0:
        raise PluginError(
            f"Stored choices must be among the options. Got {value!r} for {name!r}, with options {_shown(options)}. "
            "If the space has changed, start a new study."
        )
    return index


def _valid_options(name: str, options: Sequence[Primitive]) -> Options:
    """The options of a new name as a tuple; raises PluginError if they are invalid."""
    if type(name) is not str or not name:
        raise PluginError(
            f"The name of a choice must be a non-empty str. Got {name!r}, with options {_shown(options)}."
        )
    if isinstance(options, str) or not isinstance(options, Sequence):
        raise PluginError(f"Options must be a sequence, such as a tuple. Got {_shown(options)} for {name!r}.")
    for option in options:
        if type(option) not in _PRIMITIVES or (type(option) is float and not math.isfinite(option)):
            raise PluginError(
                "Options must be plain str, int, float (finite), bool or None. "
                f"Got {option!r} of type {type(option).__name__} for {name!r}. "
                "Choose among names or numbers, and look the object up by name."
            )
    if len({repr(option) for option in options}) != len(options) or not options:
        problem = "must not repeat" if options else "must not be empty"
        raise PluginError(f"Options {problem}. Got {_shown(options)} for {name!r}.")
    return tuple(options)


def _shown(value: object) -> str:
    """A value as text of at most 300 characters."""
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"
