"""Checks of search spaces; the contract is :class:`nas.spaces.contract.SearchSpace`."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from nas.errors import InvalidArchitecture, PluginError, UserError
from nas.evaluation.training_rules import check_accepts, load_rule
from nas.representation.architecture import Architecture, params
from nas.representation.cost import subnetwork_macs
from nas.representation.elements import Task
from nas.spaces.choices import Decide, Domains, Primitive, Recorder, at_random, replay
from nas.spaces.contract import SearchSpace
from nas.spaces.references import BuiltReference, ReferringSpace, built_references
from nas.testing.checks import Check, Subject, global_randomness_untouched, has_docstring, named, require, run_all

Choices = dict[str, Primitive]

TASKS = (
    *(
        Task(input_shape=shape, num_classes=10)
        for shape in ((1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 4, 4), (1, 16, 48), (3, 64, 64), (3, 4, 16, 16))
    ),
    Task(input_shape=(1, 8, 8), num_classes=10, hierarchy=((0, 1, 2, 3, 4) * 2, (0, 1, 0, 1, 0) * 2)),
)
"""Small and large, square and oblong, gray and coloured images, a video, and labels with a hierarchy. A space may
refuse some of the tasks, but not all.
"""
PROPOSALS = 24
"""Random proposals of each check, per task."""
POINTS = (4, 1, 2, 3)
"""Numbers of operating points of the proposals, the usual one first. A space may refuse some of them."""
LARGE_POINTS = (5, 6, 7, 8)
"""Numbers of which one is tried if a space refuses all of :data:`POINTS`; it may not refuse all of these too."""


def search_space_checks(space: Any, tasks: Sequence[Task] = TASKS) -> list[Check]:
    """The checks of a search space, for use as test parameters.

    Parameters
    ----------
    space : object, type or str
        A search space, its class, or its name or ``file.py:Name``.
    tasks : sequence of Task
        The tasks that proposals are made for. A task that the space refuses with a UserError is skipped, and so is a
        number of operating points among :data:`POINTS`.

    Returns
    -------
    list of (str, callable)
        Name and function of each check. The function takes no arguments and raises PluginError if the check fails.
    """
    return named(_CHECKS, _Space(Subject(space, "nas.search_spaces"), tuple(tasks)))


def check_search_space(space: Any, tasks: Sequence[Task] = TASKS) -> None:
    """Run all checks of a search space.

    Parameters
    ----------
    space, tasks
        As in :func:`search_space_checks`.

    Raises
    ------
    PluginError
        At the first check that fails.
    """
    run_all(search_space_checks(space, tasks))


@dataclass(frozen=True)
class _Space:
    """A search space under test, with the tasks.

    The numbers of operating points are found by asking: the space refuses the others with a UserError.
    """

    subject: Subject
    tasks: tuple[Task, ...]

    def new(self) -> SearchSpace:
        return self.subject.instance()

    @cached_property
    def points(self) -> tuple[int, ...]:
        """The numbers of operating points that the space serves for some task, the usual one first; 4 if none."""

        def serves(points: int) -> bool:
            return any(self.refusal(task, points) is None for task in self.tasks)

        return tuple(filter(serves, POINTS)) or (next(filter(serves, LARGE_POINTS), POINTS[0]),)

    def refusal(self, task: Task, points: int) -> str | None:
        """The message with which the space refuses a task or a number of points; None if it serves both."""
        try:
            _propose(self.new(), task, points, at_random(np.random.default_rng(0)), Domains())
        except _Refusal as refusal:
            return str(refusal)
        return None

    def proposals(self, points: int | None = None) -> Iterator[tuple[Task, Choices, Architecture | _Invalid]]:
        """Random proposals for every task that the space accepts; the reason for an architecture that was rejected.

        points: the usual number by default, if the space serves it.
        """
        points = points or self.points[0]
        space, rng = self.new(), np.random.default_rng(0)
        for task in self.tasks:
            for _ in range(PROPOSALS):
                try:
                    yield task, *_propose(space, task, points, at_random(rng), Domains())
                except _Refusal:
                    break

    def valid(self, points: int | None = None) -> list[tuple[Task, Choices, Architecture]]:
        """The random proposals that were not rejected."""
        return [
            (task, choices, network)
            for task, choices, network in self.proposals(points)
            if not isinstance(network, _Invalid)
        ]

    def __str__(self) -> str:
        return str(self.subject)


@dataclass(frozen=True)
class _Invalid:
    """A proposal that describes no valid network, with the reason."""

    reason: str


class _Refusal(Exception):
    """The space does not serve a task or a number of operating points."""


def _propose(
    space: SearchSpace, task: Task, points: int, decide: Decide, domains: Domains
) -> tuple[Choices, Architecture | _Invalid]:
    """The choices and the architecture; for an invalid one, the reason."""
    recorder = Recorder(decide, domains)
    try:
        return recorder.choices, space.architecture(recorder, task, points=points)
    except InvalidArchitecture as error:
        return recorder.choices, _Invalid(str(error))
    except PluginError:
        raise
    except UserError as error:
        raise _Refusal(str(error)) from error


def _docstring(space: _Space) -> None:
    has_docstring(space.subject.load())


def _constructible(space: _Space) -> None:
    good = isinstance(space.new(), SearchSpace)
    require(good, "A space must have a method architecture(choose, task, *, points).")


def _serves_or_refuses(space: _Space) -> None:
    refusals = []
    for task in space.tasks:
        refusal = space.refusal(task, space.points[0])
        if refusal is not None:
            require(refusal.strip(), f"A refusal must have a message. Got none for {task.input_shape=}.")
            refusals.append(refusal)
    numbers = f"{min(POINTS)} to {max(LARGE_POINTS)}"
    require(
        len(refusals) < len(space.tasks),
        f"A space must serve some task with {numbers} operating points. It refused all: {refusals[:1]}.",
    )


def _returns_architectures(space: _Space) -> None:
    for task, _, network in space.valid():
        require(isinstance(network, Architecture), f"It must return an Architecture. Got {type(network).__name__}.")
        require(network.task == task, f"The architecture must be for the requested task, {task}. Got {network.task}.")


def _few_invalid(space: _Space) -> None:
    of_task: dict[Task, list[Architecture | _Invalid]] = {}
    for task, _, proposed in space.proposals():
        of_task.setdefault(task, []).append(proposed)
    for task, proposals in of_task.items():
        reasons = [proposed.reason for proposed in proposals if isinstance(proposed, _Invalid)]
        share = len(reasons) / len(proposals)
        require(
            share < 0.5,
            "Fewer than half of random proposals may be rejected; refuse a whole task with a UserError. "
            f"Got {share:.0%} for {task.input_shape=}, the last because: {''.join(reasons[-1:])}",
        )


def _points_as_asked(space: _Space) -> None:
    for points in space.points:
        for _, _, network in space.valid(points):
            got = len(network.points)
            require(
                got == points,
                f"The architecture must have {points} operating points, as requested. Got {got}: refuse other numbers "
                "with a UserError.",
            )


def _options_stay(space: _Space) -> None:
    instance, rng = space.new(), np.random.default_rng(0)
    for task in space.tasks:
        domains = Domains()
        with contextlib.suppress(_Refusal):
            for _ in range(PROPOSALS):
                _propose(instance, task, space.points[0], at_random(rng), domains)


def _deterministic(space: _Space) -> None:
    instance = space.new()
    for task, choices, network in reversed(space.valid()):
        for other, origin in ((instance, "the same object, in another order"), (space.new(), "a new object")):
            again, repeated = _propose(other, task, space.points[0], replay(choices), Domains())
            same = not isinstance(repeated, _Invalid) and repeated.key == network.key and list(again) == list(choices)
            require(same, f"Equal choices must give an equal architecture. They did not for {origin}: {choices}.")


def _varied(space: _Space) -> None:
    keys: dict[Task, set[str]] = {}
    for task, _, network in space.valid():
        keys.setdefault(task, set()).add(network.key)
    same = [task.input_shape for task, distinct in keys.items() if len(distinct) == 1]
    require(not same, f"Proposals must differ. All {PROPOSALS} were the same network for {same[:1]}.")


def _costs_grow(space: _Space) -> None:
    for points in space.points[:2]:
        for _, choices, network in space.valid(points):
            costs = [subnetwork_macs(network.topology, point) for point in network.points]
            good = costs[0] > 0 and min(params(network)) > 0 and all(a < b for a, b in pairwise(costs))
            require(good, f"Operating points must have positive, growing MACs. Got {costs=} for {choices}.")


def _json_round_trip(space: _Space) -> None:
    for _, choices, network in space.valid():
        copy = Architecture.from_json(json.loads(json.dumps(network.to_json())))
        require(copy == network and copy.key == network.key, f"JSON must restore the architecture. Got {choices}.")


def _canonical(space: _Space) -> None:
    for _, choices, network in space.valid():
        require(
            network.canonical == network,
            "The architecture must have no operation, map or channel that no operating point uses: return its "
            f"`canonical`. Got some for {choices}.",
        )


def _picklable(space: _Space) -> None:
    copy = pickle.loads(pickle.dumps(space.new()))
    for task, choices, network in space.valid()[:5]:
        _, again = _propose(copy, task, space.points[0], replay(choices), Domains())
        same = not isinstance(again, _Invalid) and again.key == network.key
        require(same, f"A pickled copy must propose the same architecture. It did not for {choices}.")


def _global_randomness(space: _Space) -> None:
    with global_randomness_untouched():
        space.valid()


def _references_build(space: _Space) -> None:
    """Valid networks of the requested points within the limit, under a rule that accepts them."""
    for task, points, limit, built in _built(space):
        for one in built:
            network, name = one.architecture, one.reference.name
            for text in (one.reference.design, one.reference.size, one.reference.origin):
                good = isinstance(text, str) and text.strip() and len(text.splitlines()) == 1
                require(good, f"Design, size and origin of a reference must be text in one line. Got {text!r}.")
            require(isinstance(network, Architecture), f"It must return an Architecture. Got {network!r:.200}.")
            good = network.task == task and len(network.points) == points and network.canonical == network
            require(good, f"A reference must be a proposal like any other, for the task and points. Got {name!r}.")
            check_accepts(load_rule(network.training), network)
        if limit < math.inf:
            require(
                len(built) > 0,
                f"A limit on MACs at which a size was offered must offer it too. Got none at {limit:,.0f}.",
            )


def _references_differ(space: _Space) -> None:
    for task, _, _, built in _built(space):
        for values in ([one.architecture.key for one in built], [one.reference.name for one in built]):
            same = sorted({value for value in values if values.count(value) > 1})
            require(not same, f"References must be different networks with different names. Got {same} for {task}.")


def _references_deterministic(space: _Space) -> None:
    for task, points, limit, built in _built(space):
        again = built_references(space.new(), task, limit, points=points)
        require(again == built, f"references(…) must return the same every time. It did not for {task.input_shape=}.")
        for one in built:
            choices = dict(one.reference.choices)
            copy = json.loads(json.dumps(choices))
            require(
                copy == choices, f"Choices of a reference must be plain str, int, float, bool or None. Got {choices}."
            )


def _built(space: _Space) -> Iterator[tuple[Task, int, float, list[BuiltReference]]]:
    """Task, points, limit of MACs and references; limits are infinite, or the cost of the smallest reference."""
    instance = space.new()
    if not isinstance(instance, ReferringSpace):
        return
    for task in space.tasks:
        for points in space.points[:2]:
            try:
                built = built_references(instance, task, points=points)
            except PluginError:
                raise
            except UserError:
                continue
            yield task, points, math.inf, built
            if built:
                least = min(one.architecture.costs[-1] for one in built)
                yield task, points, least, built_references(instance, task, least, points=points)


_FORM = (_docstring, _constructible, _serves_or_refuses, _returns_architectures, _few_invalid, _points_as_asked)
_BEHAVIOUR = (_options_stay, _deterministic, _varied, _costs_grow, _json_round_trip, _canonical, _picklable)
_REFERENCES = (_references_build, _references_differ, _references_deterministic)
_CHECKS = (*_FORM, *_BEHAVIOUR, *_REFERENCES, _global_randomness)
