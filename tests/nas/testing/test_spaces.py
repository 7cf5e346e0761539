"""A good space passes the shipped checks, and every check catches its fault."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas import testing
from nas.errors import InvalidArchitecture, PluginError, UserError
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task, TrainingSpec
from nas.spaces.references import Reference

from .failing import fails

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def _network(task, width, points, *, depth=1):
    builder = Builder(task)
    x = builder.input
    for _ in range(depth):
        x = builder.conv(x, tuple(width * (level + 1) for level in range(points)), after=("norm", "relu"))
    builder.head(x)
    return builder.architecture(points)


class Good:
    """One or two convolutions."""

    def architecture(self, choose, task, *, points=4):
        return _network(task, choose("width", (2, 4, 8)), points, depth=choose("depth", (1, 2)))


class Undocumented(Good):
    __doc__ = None


class NeedsAnArgument(Good):
    """It cannot be made without arguments."""

    def __init__(self, width):
        self.width = width


class RefusesAll(Good):
    """It serves nothing."""

    def architecture(self, choose, task, *, points=4):
        raise UserError("Only on Sundays.")


class Crashes(Good):
    """It breaks on video."""

    def architecture(self, choose, task, *, points=4):
        _, _height, _width = task.input_shape
        return super().architecture(choose, task, points=points)


class ReturnsText(Good):
    """It returns no architecture."""

    def architecture(self, choose, task, *, points=4):
        return str(choose("width", (2, 4, 8)))


class OtherTask(Good):
    """It solves a different task."""

    def architecture(self, choose, task, *, points=4):
        other = Task(input_shape=task.input_shape, num_classes=task.num_classes + 1)
        return super().architecture(choose, other, points=points)


class MostlyInvalid(Good):
    """Three of four proposals are no network."""

    def architecture(self, choose, task, *, points=4):
        if choose("bad", (0, 1, 2, 3)):
            raise InvalidArchitecture("Bad luck.")
        return super().architecture(choose, task, points=points)


class FourPoints(Good):
    """It always has four points."""

    def architecture(self, choose, task, *, points=4):
        return super().architecture(choose, task, points=4)


class OnePoint(Good):
    """It has one operating point, and says so."""

    def architecture(self, choose, task, *, points=4):
        if points != 1:
            raise UserError(f"These networks have one operating point. Got {points=}: add --points 1.")
        return super().architecture(choose, task, points=1)


class SixPoints(Good):
    """It has six operating points, and says so."""

    def architecture(self, choose, task, *, points=4):
        if points != 6:
            raise UserError(f"These networks have six operating points. Got {points=}.")
        return super().architecture(choose, task, points=6)


class ShiftingOptions(Good):
    """Options depend on an answer that is not in the name."""

    def architecture(self, choose, task, *, points=4):
        width = choose("width", (2, 4, 8))
        return _network(task, width, points, depth=choose("depth", (1, 2) if width > 2 else (1, 3)))


class Stateful(Good):
    """It counts its calls."""

    def __init__(self):
        self.calls = 0

    def architecture(self, choose, task, *, points=4):
        self.calls += 1
        return _network(task, choose("width", (2, 4, 8)) + self.calls % 3, points)


class OwnDice(Good):
    """It throws dice of its own."""

    def architecture(self, choose, task, *, points=4):
        return _network(task, choose("width", (2, 4, 8)) + int(np.random.default_rng().integers(8)), points)


class Monotonous(Good):
    """It always says the same."""

    def architecture(self, choose, task, *, points=4):
        choose("width", (2, 4, 8))
        return _network(task, 4, points)


class Shrinking(Good):
    """Its points are in the wrong order, behind the back of the validation."""

    def architecture(self, choose, task, *, points=4):
        architecture = super().architecture(choose, task, points=points)
        object.__setattr__(architecture, "points", architecture.points[::-1])
        return architecture


class NotPlainData(Good):
    """Its settings do not survive JSON."""

    def architecture(self, choose, task, *, points=4):
        architecture = super().architecture(choose, task, points=points)
        object.__setattr__(architecture.training, "settings", (("classes", frozenset({1})),))
        return architecture


class Untrimmed(Good):
    """It leaves a dead branch in."""

    def architecture(self, choose, task, *, points=4):
        builder = Builder(task)
        slices = tuple(choose("width", (2, 4, 8)) * (level + 1) for level in range(points))
        x = builder.conv(builder.input, slices)
        builder.conv(x, 3)
        builder.head(x)
        whole = [builder.point(level, without=(1,)) for level in range(points)]
        live = [
            type(point)(channels=(*point.channels[:2], 0, *point.channels[3:]), operations=point.operations, output=4)
            for point in whole
        ]
        return Architecture(task=task, topology=builder.topology(), points=tuple(live))


class Unpicklable(Good):
    """It holds a lock."""

    def __init__(self):
        self.lock = threading.Lock()


class GlobalPython(Good):
    """It draws from Python's global generator."""

    def architecture(self, choose, task, *, points=4):
        random.random()
        return super().architecture(choose, task, points=points)


class GlobalNumpy(Good):
    """It seeds numpy's global generator."""

    def architecture(self, choose, task, *, points=4):
        np.random.seed(0)  # noqa: NPY002
        return super().architecture(choose, task, points=points)


class Referring(Good):
    """It names two references."""

    sizes: tuple[tuple[str, int], ...] = (("small", 2), ("large", 8))

    def references(self, task, max_macs, *, points=4):
        found = [
            Reference(design="chain", size=size, origin="this test", choices={"width": width, "depth": 1})
            for size, width in self.sizes
        ]
        return [one for one in found if _network(task, one.choices["width"], points).costs[-1] <= max_macs]


class Nameless(Referring):
    """A reference has no size."""

    sizes = (("", 2),)


class Unlimited(Referring):
    """It ignores the limit."""

    def references(self, task, max_macs, *, points=4):
        return super().references(task, float("inf"), points=points)


class Strict(Referring):
    """It leaves out a network at the limit."""

    def references(self, task, max_macs, *, points=4):
        return super().references(task, max_macs / 2, points=points)


class NoRule(Referring):
    """Its networks have a rule that does not exist."""

    def architecture(self, choose, task, *, points=4):
        return replace(super().architecture(choose, task, points=points), training=TrainingSpec(rule="no-such-rule"))


class Twins(Referring):
    """One network under two names."""

    sizes = (("small", 2), ("tiny", 2))


class Namesakes(Referring):
    """Two networks under one name."""

    sizes = (("small", 2), ("small", 4))


class Undecided(Referring):
    """It draws its references."""

    def references(self, task, max_macs, *, points=4):
        return super().references(task, max_macs, points=points)[:: int(np.random.default_rng().choice([1, -1]))]


BROKEN_SPACES = [
    ("docstring", Undocumented, "docstring"),
    ("constructible", NeedsAnArgument, "width"),
    ("serves_or_refuses", RefusesAll, "Only on Sundays"),
    ("serves_or_refuses", Crashes, "ValueError"),
    ("returns_architectures", ReturnsText, "Got str"),
    ("returns_architectures", OtherTask, "for the requested task"),
    ("few_invalid", MostlyInvalid, r"rejected.*the last because: Bad luck\."),
    ("points_as_asked", FourPoints, "1 operating points, as requested. Got 4"),
    ("options_stay", ShiftingOptions, "same options"),
    ("deterministic", Stateful, "Equal choices"),
    ("deterministic", OwnDice, "Equal choices"),
    ("varied", Monotonous, "Proposals must differ"),
    ("costs_grow", Shrinking, "positive, growing MACs"),
    ("json_round_trip", NotPlainData, "JSON"),
    ("canonical", Untrimmed, "no operating point uses"),
    ("picklable", Unpicklable, "pickle"),
    ("references_build", Nameless, "must be text in one line. Got ''"),
    ("references_build", Unlimited, "at most max_macs="),
    ("references_build", Strict, "at which a size was offered"),
    ("references_build", NoRule, "no-such-rule"),
    ("references_differ", Twins, "different networks"),
    ("references_differ", Namesakes, r"Got \['chain, small'\]"),
    ("references_deterministic", Undecided, "the same every time"),
    ("global_randomness", GlobalPython, "changed in: random"),
    ("global_randomness", GlobalNumpy, "changed in: numpy"),
]


@pytest.mark.parametrize(
    ("name", "space", "message"), BROKEN_SPACES, ids=[f"{name}-{space.__name__}" for name, space, _ in BROKEN_SPACES]
)
def test_every_check_of_a_space_catches_its_fault(name, space, message):
    fails(testing.search_space_checks(space), name, message)


def test_every_check_of_a_space_has_a_fault_that_it_catches():
    assert {name for name, _, _ in BROKEN_SPACES} == {name for name, _ in testing.search_space_checks(Good)}


@pytest.mark.parametrize(
    "space",
    [Good, Good(), Referring, f"{EXAMPLES}/own_space.py:Ladder"],
    ids=["class", "object", "references", "spec"],
)
def test_a_good_space_passes(space):
    testing.check_search_space(space)


def test_a_check_of_a_space_that_does_not_exist_fails_when_it_runs():
    checks = testing.search_space_checks("no-such-space")
    fails(checks, "docstring", "Unknown space 'no-such-space'")


def test_checking_all_at_once_raises_at_the_first_failure():
    with pytest.raises(PluginError, match="MostlyInvalid fails the check 'few_invalid'"):
        testing.check_search_space(MostlyInvalid)
