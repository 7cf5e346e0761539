"""Checks that plug-in authors run over their own work, each small and named; a failure says why.

In a test of yours, one line each::

    @pytest.mark.parametrize(("name", "check"), search_space_checks("my_space.py:MySpace"))
    def test_my_space(name, check):
        check()

or all at once: ``check_search_space(MySpace)``. A check that fails raises PluginError. A plug-in is given as an object,
its class, or the name or `file.py:Name` that the command line takes; it is loaded when a check runs.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import math
import pickle
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, get_args

import numpy as np

from nas.errors import InvalidArchitecture, PluginError, UserError
from nas.plugins import load_plugin
from nas.proxies.contract import Needs
from nas.representation.architecture import Architecture, params
from nas.representation.builder import Builder
from nas.representation.cost import subnetwork_macs
from nas.representation.elements import Task
from nas.spaces.choices import Choose, Decide, Domains, Primitive, Recorder, at_random, replay
from nas.spaces.contract import SearchSpace
from nas.strategies.contract import Trial

Check = tuple[str, Callable[[], None]]
Choices = dict[str, Primitive]

TASKS = (
    *(
        Task(input_shape=shape, num_classes=10)
        for shape in ((1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 4, 4), (1, 16, 48), (3, 64, 64), (3, 4, 16, 16))
    ),
    Task(input_shape=(1, 8, 8), num_classes=10, hierarchy=((0, 1, 2, 3, 4) * 2, (0, 1, 0, 1, 0) * 2)),
)
"""Small and large, square and not, gray and coloured images, a video, and labels with a hierarchy. A space may refuse
some, but not all.
"""
PROPOSALS = 24
"""Random proposals that a check looks at, per task."""


def search_space_checks(space: Any, tasks: Sequence[Task] = TASKS) -> list[Check]:
    """The checks of a search space as (name, function without arguments).

    tasks: what the space is tried on; one that it refuses with a UserError is passed over.
    """
    return _named(_SEARCH_SPACE, _Subject(space, "nas.search_spaces", tuple(tasks)))


def check_search_space(space: Any, tasks: Sequence[Task] = TASKS) -> None:
    """Run all checks of a search space; raises PluginError at the first that fails."""
    _run_all(search_space_checks(space, tasks))


def proxy_checks(proxy: Any) -> list[Check]:
    """The checks of a proxy that needs the architecture alone, as (name, function without arguments)."""
    return _named(_PROXY, _Subject(proxy, "nas.proxies"))


def check_proxy(proxy: Any) -> None:
    """Run all checks of a proxy; raises PluginError at the first that fails."""
    _run_all(proxy_checks(proxy))


def strategy_checks(strategy: Any) -> list[Check]:
    """The checks of a strategy class, as (name, function without arguments)."""
    return _named(_STRATEGY, _Subject(strategy, "nas.strategies"))


def check_strategy(strategy: Any) -> None:
    """Run all checks of a strategy class; raises PluginError at the first that fails."""
    _run_all(strategy_checks(strategy))


@dataclass(frozen=True)
class _Subject:
    """What is checked: an object, a class, or the spec of one."""

    given: Any
    group: str
    tasks: tuple[Task, ...] = TASKS

    def load(self) -> Any:
        return load_plugin(self.group, self.given) if isinstance(self.given, str) else self.given

    def space(self) -> SearchSpace:
        """A new search space."""
        loaded = self.load()
        return loaded() if isinstance(loaded, type) else type(loaded)()

    def proposals(self, points: int = 4) -> Iterator[tuple[Task, Choices, Architecture | None]]:
        """Random proposals for every task that the space accepts; None for an architecture that was rejected."""
        space, rng = self.space(), np.random.default_rng(0)
        for task in self.tasks:
            for _ in range(PROPOSALS):
                try:
                    yield task, *_propose(space, task, points, at_random(rng), Domains())
                except _Refusal:
                    break

    def valid(self, points: int = 4) -> list[tuple[Task, Choices, Architecture]]:
        """The random proposals that are networks."""
        return [(task, choices, found) for task, choices, found in self.proposals(points) if found is not None]

    def __str__(self) -> str:
        return self.given if isinstance(self.given, str) else getattr(self.given, "__name__", type(self.given).__name__)


class _Refusal(Exception):
    """A space does not serve a task."""


def _propose(
    space: SearchSpace, task: Task, points: int, decide: Decide, domains: Domains
) -> tuple[Choices, Architecture | None]:
    recorder = Recorder(decide, domains)
    try:
        return recorder.choices, space.architecture(recorder, task, points=points)
    except InvalidArchitecture:
        return recorder.choices, None
    except PluginError:
        raise
    except UserError as error:
        raise _Refusal(str(error)) from error


def _named(checks: Sequence[Callable[[_Subject], None]], subject: _Subject) -> list[Check]:
    return [(name := check.__name__.removeprefix("_"), partial(_run, name, check, subject)) for check in checks]


def _run(name: str, check: Callable[[_Subject], None], subject: _Subject) -> None:
    try:
        check(subject)
    except Exception as error:
        said = str(error) if isinstance(error, UserError) else f"It raised {type(error).__name__}: {error}"
        raise PluginError(f"{subject} fails the check {name!r}. {said}") from error


def _run_all(checks: Sequence[Check]) -> None:
    for _, check in checks:
        check()


def _require(condition: object, message: str) -> None:
    if not condition:
        raise PluginError(message)


@contextlib.contextmanager
def _global_randomness_untouched() -> Iterator[None]:
    """Fails when what runs inside draws from, or seeds, a global random generator."""

    def state() -> list[tuple[str, Any]]:
        found = [("random", repr(random.getstate())), ("numpy.random", repr(np.random.get_state(legacy=False)))]  # noqa: NPY002
        if "torch" in sys.modules:
            found.append(("torch", sys.modules["torch"].get_rng_state().tolist()))
        return found

    before = state()
    yield
    touched = [name for (name, old), (_, new) in zip(before, state()) if old != new]
    _require(not touched, f"Global random state must not be used. It changed in: {', '.join(touched)}.")


def _docstring(subject: _Subject) -> None:
    first_line = inspect.cleandoc(getattr(subject.load(), "__doc__", None) or "").partition("\n")[0].strip()
    _require(first_line, "Its docstring must begin with a line that says what it is, for listings. Got none.")


def _constructible(subject: _Subject) -> None:
    good = isinstance(subject.space(), SearchSpace)
    _require(good, "A space must have a method architecture(choose, task, *, points).")


def _serves_or_refuses(subject: _Subject) -> None:
    space, refusals = subject.space(), []
    for task in subject.tasks:
        try:
            _propose(space, task, 4, at_random(np.random.default_rng(0)), Domains())
        except _Refusal as refusal:
            _require(str(refusal).strip(), f"A refusal must say why. Got no message for {task.input_shape=}.")
            refusals.append(str(refusal))
    _require(len(refusals) < len(subject.tasks), f"A space must serve some task. It refused all: {refusals[:1]}.")


def _returns_architectures(subject: _Subject) -> None:
    for task, _, found in subject.valid():
        _require(isinstance(found, Architecture), f"It must return an Architecture. Got {type(found).__name__}.")
        _require(found.task == task, f"The architecture must be for the task given, {task}. Got {found.task}.")


def _few_invalid(subject: _Subject) -> None:
    rejected: dict[Task, list[bool]] = {}
    for task, _, found in subject.proposals():
        rejected.setdefault(task, []).append(found is None)
    for task, invalid in rejected.items():
        share, said = sum(invalid) / len(invalid), "Fewer than half of random proposals may be rejected"
        _require(share < 0.5, f"{said}; refuse a whole task with a UserError. Got {share:.0%} for {task.input_shape=}.")


def _points_as_asked(subject: _Subject) -> None:
    for points in (1, 2, 3, 4):
        for _, _, found in subject.valid(points):
            got = len(found.points)
            _require(got == points, f"There must be as many operating points as asked, {points}. Got {got}.")


def _options_stay(subject: _Subject) -> None:
    space, rng = subject.space(), np.random.default_rng(0)
    for task in subject.tasks:
        domains = Domains()
        with contextlib.suppress(_Refusal):
            for _ in range(PROPOSALS):
                _propose(space, task, 4, at_random(rng), domains)


def _deterministic(subject: _Subject) -> None:
    space = subject.space()
    for task, choices, found in reversed(subject.valid()):
        for other, where in ((space, "the same object, in another order"), (subject.space(), "a new object")):
            again, repeated = _propose(other, task, 4, replay(choices), Domains())
            same = repeated is not None and repeated.key == found.key and list(again) == list(choices)
            _require(same, f"Equal choices must give an equal architecture. They did not for {where}: {choices}.")


def _varied(subject: _Subject) -> None:
    keys: dict[Task, set[str]] = {}
    for task, _, found in subject.valid():
        keys.setdefault(task, set()).add(found.key)
    same = [task.input_shape for task, found in keys.items() if len(found) == 1]
    _require(not same, f"Proposals must differ. All of {PROPOSALS} were the same network for {same[:1]}.")


def _costs_grow(subject: _Subject) -> None:
    for points in (1, 4):
        for _, choices, found in subject.valid(points):
            costs = [subnetwork_macs(found.topology, point) for point in found.points]
            good = costs[0] > 0 and min(params(found)) > 0 and all(a < b for a, b in pairwise(costs))
            _require(good, f"Points must cost something, and each more than the last. Got {costs=} for {choices}.")


def _json_round_trip(subject: _Subject) -> None:
    for _, choices, found in subject.valid():
        back = Architecture.from_json(json.loads(json.dumps(found.to_json())))
        same = back == found and back.key == found.key
        _require(same, f"JSON must give the architecture back. It did not for {choices}.")


def _canonical(subject: _Subject) -> None:
    for _, choices, found in subject.valid():
        said = "It must be without operations, maps and channels that no point uses: return its `canonical`"
        _require(found.canonical == found, f"{said}. It has some for {choices}.")


def _picklable(subject: _Subject) -> None:
    copy = pickle.loads(pickle.dumps(subject.space()))
    for task, choices, found in subject.valid()[:5]:
        _, again = _propose(copy, task, 4, replay(choices), Domains())
        same = again is not None and again.key == found.key
        _require(same, f"A pickled copy must answer the same. It did not for {choices}.")


def _global_randomness(subject: _Subject) -> None:
    with _global_randomness_untouched():
        subject.valid()


_FORM = (_docstring, _constructible, _serves_or_refuses, _returns_architectures, _few_invalid, _points_as_asked)
_BEHAVIOUR = (_options_stay, _deterministic, _varied, _costs_grow, _json_round_trip, _canonical, _picklable)
_SEARCH_SPACE = (*_FORM, *_BEHAVIOUR, _global_randomness)


def sample_architectures() -> list[Architecture]:
    """A few small networks that differ in depth, width and skips, for trying things on; the same every time."""
    return [_sample((n, 2 * n), depth, skip) for n in (4, 8) for depth in (1, 3) for skip in (False, True)]


def _sample(slices: tuple[int, ...], depth: int, skip: bool) -> Architecture:
    builder = Builder(TASKS[0])
    x = builder.conv(builder.input, slices, after=("norm", "relu"))
    for _ in range(depth):
        source, x = x, builder.conv(x, slices, after=("norm",), activation="relu")
        if skip:
            builder.identity(source, x)
    builder.head(x)
    return builder.architecture(points=2)


def _scores(subject: _Subject) -> list[float]:
    proxy = subject.load()
    scorer = proxy() if isinstance(proxy, type) else proxy
    return [scorer(architecture) for architecture in sample_architectures()]


def _declares_needs(subject: _Subject) -> None:
    needs = getattr(subject.load(), "needs", None)
    _require(needs in get_args(Needs), f"A proxy must declare needs as one of {get_args(Needs)}. Got {needs!r}.")


def _finite_numbers(subject: _Subject) -> None:
    bad = [score for score in _scores(subject) if not (isinstance(score, (int, float)) and math.isfinite(score))]
    _require(not bad, f"A score must be a finite number. Got {bad[:1]}.")


def _pure(subject: _Subject) -> None:
    with _global_randomness_untouched():
        first, second = _scores(subject), _scores(subject)
    _require(first == second, f"Equal architectures must have equal scores. Got {first} and then {second}.")


def _tells_apart(subject: _Subject) -> None:
    scores = _scores(subject)
    _require(
        len(set(scores)) > 1, f"A proxy must tell networks apart. Got {scores[0]!r} for all {len(scores)} samples."
    )


_PROXY = (_docstring, _declares_needs, _finite_numbers, _pure, _tells_apart)


def _toy_choices(choose: Choose) -> None:
    """Conditional names, a name whose options are equal as numbers, and one that history seldom has."""
    for index in range(choose("depth", (1, 2, 3))):
        if choose(f"{index} skip", (False, True)):
            choose(f"{index} reach", (0, 1, True))
    choose("width", (8, 16, 32, 64))


def _toy_history(count: int) -> list[Trial]:
    """Trained candidates of the toy space; every fourth was stopped early."""
    decide, trials = at_random(np.random.default_rng(1)), []
    for index in range(count):
        recorder = Recorder(decide, Domains())
        _toy_choices(recorder)
        choices, value, complete = recorder.choices, 0.5 + 0.01 * index, index % 4 != 3
        domains = recorder.domains.of(choices)
        trials.append(Trial(choices=choices, domains=domains, value=value, complete=complete, generation=index // 12))
    return trials


def _asked(strategy: Any, count: int = 8) -> list[Choices]:
    """Proposals of the toy space, every third of which the space gives up half-way."""
    out = []
    for index in range(count):
        recorder = Recorder(strategy.ask(), Domains())
        recorder("width", (8, 16, 32, 64))
        if index % 3 != 2:
            _toy_choices(recorder)
            recorder(f"new in {index}", ("a", "b"))
        out.append(recorder.choices)
    return out


def _answers_everything(subject: _Subject) -> None:
    for trials in (0, 1, 24):
        _asked(subject.load()(seed=0, history=_toy_history(trials)))


def _reproducible(subject: _Subject) -> None:
    history = _toy_history(24)
    for trials in ([], history):
        first, second = (_asked(subject.load()(seed=3, history=given)) for given in (trials, trials[::-1]))
        _require(first == second, "Equal seed and history, in any order, must give equal proposals. They did not.")


def _seed_matters(subject: _Subject) -> None:
    first, second = (_asked(subject.load()(seed=seed), 16) for seed in (1, 2))
    _require(first != second, "Another seed must give other proposals. Got the same ones.")


def _told_late(subject: _Subject) -> None:
    strategy = subject.load()(seed=0)
    for trial in reversed(_toy_history(24)):
        strategy.ask()
        strategy.tell(trial)
    _asked(strategy)


def _quiet_and_contained(subject: _Subject) -> None:
    out = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        warnings.simplefilter("error")
        with _global_randomness_untouched():
            _asked(subject.load()(seed=0, history=_toy_history(24)))
    _require(not out.getvalue(), f"A strategy prints nothing. It printed {out.getvalue()!r}.")


_STRATEGY = (_docstring, _answers_everything, _reproducible, _seed_matters, _told_late, _quiet_and_contained)
