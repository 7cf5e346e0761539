"""Define-by-run choices: a search space is a function of `choose(name, options)`.

One such function serves random sampling, Optuna, enumeration, replay and mutation, because what differs between them is
only the *decision* behind `choose`: a function `decide(name, options) -> index`. The `Recorder` stands between the two:
it holds the space to its contract, answers a repeated name from its record, and remembers what was chosen.
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
    """What a search space is called with: picks one of the options, under a name.

    A space calls it any number of times in a proposal, in any order, and may let later calls depend on earlier answers.

    - `name` is unique to the decision: the same name is the same decision, and asked twice in one proposal it gives the
      same answer.
    - `options` are plain `str`, `int`, `float`, `bool` or None, not empty, finite, without duplicates, and *the same
      whenever the name comes up*, in this proposal and in every other one of the study. Options that depend on an
      earlier answer need that answer in the name: `choose(f"kernel of {kind}", kernels[kind])`.
    - Two options are the same if type and value are: 1, 1.0 and True are three options.

    A constant tuple is fastest: it is recognised by identity.

    Raises
    ------
    PluginError
        When the space does not keep to this.
    """

    def __call__(self, name: str, options: Sequence[P]) -> P: ...


class Domains:
    """The options of every name that a study has seen; shared by all its recorders.

    The driver makes one for a study, from the stored options when it resumes, so that a space that was edited in
    between is told so. Grows as names come up; nothing is ever removed. Not thread-safe: one writer a study.

    known: name → options, in the order in which the names came up first.
    """

    __slots__ = ("_types", "known")

    def __init__(self, known: Mapping[str, Sequence[Primitive]] | None = None) -> None:
        self.known: dict[str, Options] = {}
        self._types: dict[str, tuple[type, ...]] = {}
        for name, options in (known or {}).items():
            self.check(name, options)

    def check(self, name: str, options: Sequence[Primitive]) -> Options:
        """The options as first seen under this name, which these must equal in type, value and order; notes a new name.

        Raises
        ------
        PluginError
            When the options are no valid options, or not those seen before.
        """
        known = self.known.get(name) if isinstance(name, str) else None
        if known is None:
            known = self.known[name] = _valid_options(name, options)
            self._types[name] = tuple(map(type, known))
            return known
        if options is known:
            return known
        now = tuple(options) if isinstance(options, (tuple, list, range)) else _valid_options(name, options)
        if now != known or tuple(map(type, now)) != self._types[name]:
            raise PluginError(
                f"A name must come with the same options every time. Got choose({name!r}, {_shown(now)}) after "
                f"choose({name!r}, {_shown(known)}). "
                "If the options depend on a condition, put the condition into the name."
            )
        self.known[name] = now  # The latest object: options restored from a store are then met by identity as well.
        return now

    def of(self, names: Iterable[str]) -> dict[str, Options]:
        """The options of some of the names, such as the choices of one proposal: what a `Trial` carries."""
        known = self.known
        return {name: known[name] for name in names}


class Recorder:
    """The `Choose` that a space is called with: checks it, asks `decide` once a name, and records the answers.

    One a proposal. `choices` holds what was chosen, in the order in which the names came up; it is complete when the
    space returns, and holds what was chosen so far when the space raises.

    Examples
    --------
    >>> recorder = Recorder(lambda name, options: len(options) - 1, Domains())
    >>> recorder("width", (16, 32)), recorder("norm", (None, "batch")), recorder("width", (16, 32))
    (32, 'batch', 32)
    >>> recorder.choices
    {'width': 32, 'norm': 'batch'}
    """

    __slots__ = ("_decide", "_known", "choices", "domains")

    def __init__(self, decide: Decide, domains: Domains) -> None:
        self._decide = decide
        self._known = domains.known
        self.domains = domains
        self.choices: dict[str, Primitive] = {}

    def __call__(self, name: str, options: Sequence[P]) -> P:
        """One decision; see `Choose`. About 0.3 µs with a random decision; 0.75 µs for a list."""
        # A constant tuple is the very object seen before; at a first call, or with options built afresh, check in full.
        try:
            known: Any = self._known[name]
        except (KeyError, TypeError):
            known = None
        if known is not options or known is None:
            known = self.domains.check(name, options)
        choices: dict[str, Any] = self.choices
        if name in choices:
            return choices[name]
        index = self._decide(name, known)
        try:
            answer = choices[name] = known[index]
        except (IndexError, TypeError):
            raise PluginError(
                f"A decision must be the index of an option. Got {index!r} for {name!r} with options {_shown(known)}."
            ) from None
        return answer


def index_of(options: Sequence[Primitive], value: Primitive) -> int:
    """The index of an option equal in type and value, or -1.

    >>> index_of((0, 1, True, 1.0), True), index_of((0, 1), True)
    (2, -1)
    """
    for index, option in enumerate(options):
        if option == value and type(option) is type(value):
            return index
    return -1


def at_random(rng: np.random.Generator) -> Decide:
    """A decision that draws every option uniformly; may serve any number of proposals, and draws ahead from `rng`."""
    draw = _uniforms(rng).__next__

    def decide(name: str, options: Options) -> int:
        return int(draw() * len(options))

    return decide


def replay(choices: Mapping[str, Primitive]) -> Decide:
    """A decision that repeats stored choices.

    Raises
    ------
    PluginError
        When the space asks for a name that is not stored, or no longer offers what is stored. (From the decision.)
    """

    def decide(name: str, options: Options) -> int:
        if name not in choices:
            raise PluginError(
                f"Stored choices must answer every name of the space. Got none for {name!r}, with options "
                f"{_shown(options)}; stored: {_shown(choices)}. Has the space changed since? Then start a new study."
            )
        return _stored_index(name, options, choices[name])

    return decide


def mutate(
    choices: Mapping[str, Primitive], rng: np.random.Generator, domains: Domains, rate: float | None = None
) -> Decide:
    """A decision that keeps stored choices, but re-draws each with a probability among its *other* options.

    At least one choice that the space is going to ask for is changed, provided that some name has two options at all.
    Names that are not stored (a change may open a new branch of the space) are drawn uniformly. Serves one proposal.

    rate: probability of change for each choice; 1 / number of choices by default.

    Raises
    ------
    PluginError
        When the space no longer offers what is stored. (From the decision.)
    """
    names = [name for name in choices if len(domains.known.get(name, ())) > 1]
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


def enumerate_choices(function: Callable[[Choose], object], limit: int) -> Iterator[dict[str, Primitive]]:
    """Every complete set of choices of a define-by-run function, depth first, the last name varying fastest.

    Calls the function once for each. What it returns is dropped, what it raises ends the enumeration.

    Raises
    ------
    UserError
        After `limit` sets of choices, if there are more.

    Examples
    --------
    >>> def space(choose):
    ...     if choose("skip", (False, True)):
    ...         choose("kernel", (3, 5))
    >>> list(enumerate_choices(space, 10))
    [{'skip': False}, {'skip': True, 'kernel': 3}, {'skip': True, 'kernel': 5}]
    """
    domains = Domains()
    path: list[int] = []
    sizes: list[int] = []

    def decide(name: str, options: Options) -> int:
        depth = len(sizes)
        sizes.append(len(options))
        if depth == len(path):
            path.append(0)
        return path[depth]

    for _ in range(limit):
        sizes.clear()
        recorder = Recorder(decide, domains)
        function(recorder)
        yield recorder.choices
        while path and path[-1] + 1 == sizes[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1
    raise UserError(
        f"A space to enumerate must have at most {limit} sets of choices; this one has more. Raise the limit?"
    )


def _uniforms(rng: np.random.Generator) -> Iterator[float]:
    """Uniform numbers in [0, 1), without end, drawn in blocks: one at a time costs ten times as much."""
    while True:
        yield from rng.random(64).tolist()


def _stored_index(name: str, options: Options, value: Primitive) -> int:
    index = index_of(options, value)
    if index < 0:
        raise PluginError(
            f"Stored choices must be among the options. Got {value!r} for {name!r}, with options {_shown(options)}. "
            "Has the space changed since? Then start a new study."
        )
    return index


def _valid_options(name: str, options: Sequence[Primitive]) -> Options:
    """The options of a name that is new, as a tuple."""
    if type(name) is not str or not name:
        raise PluginError(
            f"A choice needs a name: a str that is not empty. Got {name!r}, with options {_shown(options)}."
        )
    if isinstance(options, str) or not isinstance(options, Sequence):
        raise PluginError(f"Options must be a sequence, such as a tuple. Got {_shown(options)} for {name!r}.")
    for option in options:
        if type(option) not in _PRIMITIVES or (type(option) is float and not math.isfinite(option)):
            raise PluginError(
                "Options must be plain str, int, float (finite), bool or None. "
                f"Got {option!r} of type {type(option).__name__} for {name!r}. "
                "Choose among names or numbers, and look the object up afterwards."
            )
    if len({repr(option) for option in options}) != len(options) or not options:
        problem = "must not repeat" if options else "must not be empty"
        raise PluginError(f"Options {problem}. Got {_shown(options)} for {name!r}.")
    return tuple(options)


def _shown(value: object) -> str:
    """A value as text, cut where it would fill the screen."""
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"
