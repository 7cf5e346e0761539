"""Gated modules: the formula of c(u), identity and JSON, and refused modules."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nas.representation.gates
from nas.errors import InvalidArchitecture, UserError
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.cost import subnetwork_macs
from nas.representation.elements import GatedModule, Task
from nas.representation.gates import distinct_utilizations, gated_maps, round_robin, throttled
from nas.representation.topology import Topology

from ..hand_built import ALL
from ..messages import untested

GATED = sorted(name for name in ALL if ALL[name]().topology.gated)
TASK = Task(input_shape=(3, 8, 8), num_classes=5)
modules = st.integers(1, 12).flatmap(
    lambda n: st.builds(
        GatedModule, components=st.just(tuple((i + 1,) for i in range(n))), always=st.integers(0, n - 1)
    )
)


@given(module=modules, utilization=st.fractions(0, 1, max_denominator=1000))
def test_the_number_of_components_is_the_published_formula(module: GatedModule, utilization: Fraction) -> None:
    n, lo = len(module.components), module.always
    steps = utilization * (n - lo + 1)
    if steps.denominator == 1:  # a threshold itself: half-way to the next one, and exactly in floating point or not
        utilization = min(Fraction(1), utilization + Fraction(1, 2 * (n - lo + 1)))
    assert module.on(float(utilization)) == min(lo + floor(utilization * (n - lo + 1)), n)


@given(module=modules)
def test_the_smallest_and_the_largest_utilization(module: GatedModule) -> None:
    assert module.on(0.0) == module.always
    assert module.on(1.0) == len(module.components)


@given(module=modules, ends=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_more_utilization_never_switches_off(module: GatedModule, ends: tuple[float, float]) -> None:
    assert module.on(min(ends)) <= module.on(max(ends))


@given(module=modules)
def test_levels_have_equal_measure(module: GatedModule) -> None:
    starts = [0.0, *module.thresholds[module.always :], 1.0]
    assert [b - a for a, b in pairwise(starts)] == pytest.approx([1 / (len(starts) - 1)] * (len(starts) - 1))
    for index, (a, b) in enumerate(pairwise(starts)):
        assert module.on((a + b) / 2) == module.always + index


@pytest.mark.parametrize("name", GATED)
def test_subnetworks_grow_with_the_utilization(name: str) -> None:
    architecture = ALL[name]()
    topology, largest = architecture.topology, architecture.points[-1]
    subnetworks = [throttled(topology, u, largest) for u in distinct_utilizations(topology)]
    for small, large in pairwise(subnetworks):
        assert all(a <= b for a, b in zip(small.channels, large.channels))
        assert set(small.operations) <= set(large.operations)
        assert subnetwork_macs(topology, small) < subnetwork_macs(topology, large)
    counts = topology.active(subnetworks[-1])
    assert counts == [m.channels for m in topology.maps]
    assert architecture.points[-1] == subnetworks[-1]


@pytest.mark.parametrize("name", GATED)
def test_between_distinct_utilizations_nothing_changes(name: str) -> None:
    architecture = ALL[name]()
    topology, largest = architecture.topology, architecture.points[-1]
    for a, b in pairwise([*distinct_utilizations(topology), 1.0]):
        assert throttled(topology, a, largest) == throttled(topology, a + 0.9 * (b - a), largest)


def test_round_robin_starts_in_the_last_module_and_forgets_none() -> None:
    order = round_robin([2, 3, 1])
    assert order == [(2, 0), (1, 0), (0, 0), (1, 1), (0, 1), (1, 2)]
    assert round_robin([]) == []


# Keys and JSON ---------------------------------------------------------------------------------------


def _gated(*components: tuple[int, ...], always: int = 1, points: int = 3) -> Architecture:
    """Two convolutions and a head, maps 1 to 4, all in one module unless components are given."""
    b = Builder(TASK)
    b.head(b.conv(b.conv(b.input, (2, 4, 6)), (2, 4, 6)))
    b.gate(components or ((1, 2, 3),) * 3, always=always)
    return b.architecture(points, norm="shared")


def test_gates_are_part_of_the_identity() -> None:
    plain = replace(_gated(), topology=replace(_gated().topology, gated=()))
    apart = replace(_gated().topology, gated=tuple(GatedModule(components=((i,),) * 3, always=1) for i in (1, 2, 3)))
    keys = {a.network_key for a in (plain, _gated(), _gated(always=2), replace(_gated(), topology=apart))}
    assert len(keys) == 4
    assert plain.costs == _gated(always=2).costs == _gated().costs


def test_json_keeps_gates_and_has_no_entry_without_any() -> None:
    data = json.loads(json.dumps(_gated().to_json()))
    assert data["gated"] == [{"components": [[1, 2, 3]] * 3, "always": 1}]
    assert Architecture.from_json(data) == _gated()
    assert "gated" not in ALL["residual"]().to_json()


def test_new_points_cut_the_gates_to_the_components_of_the_largest() -> None:
    architecture = _gated()
    assert architecture.with_points(architecture.points[1:]).topology == architecture.topology
    smaller = architecture.with_points(architecture.points[:2])
    assert smaller.topology.gated == (GatedModule(components=((1, 2, 3),) * 2, always=1),)
    assert smaller.costs == architecture.costs[:2]
    assert throttled(smaller.topology, 1.0, smaller.points[-1]) == architecture.points[1]
    assert smaller.canonical.topology.maps[1].slices == (2, 4)
    assert smaller.canonical.topology.gated == smaller.topology.gated
    assert architecture.with_points(architecture.points[:1]).topology.gated == ()


def test_gated_maps_are_renumbered_when_maps_are_trimmed() -> None:
    b = Builder(TASK)
    b.conv(b.input, 3)  # leads nowhere
    x = b.conv(b.input, (2, 4))
    b.gate([(x,)] * 2, always=1)
    b.head(x)
    topology = b.architecture(b.throttled((0.0, 1.0)), norm="shared").topology
    assert [gated_maps(module) for module in topology.gated] == [[1]]
    assert topology.maps[1].slices == (2, 4)


# Refused -------------------------------------------------------------------------------------------------


def _gated_output() -> Architecture:
    b = Builder(TASK)
    b.add("linear", b.add("global_avg_pool", b.conv(b.input, 2), b.map(2)), b.map((2, 5)))
    b.gate([(3,)] * 2, always=1)
    return b.architecture([b.point(1)], norm="shared")


def _half_of_a_depthwise() -> Architecture:
    b = Builder(TASK)
    x = b.conv(b.input, (2, 4))
    b.head(b.depthwise(x))
    b.gate([(x,)] * 2, always=1)
    return b.architecture(2, norm="shared")


def _with(*modules: GatedModule, name: str = "gated_dense") -> Topology:
    return replace(ALL[name]().topology, gated=modules)


ONE = GatedModule(components=((1,),))
INVALID = {
    "components must be a tuple of non-empty tuples of maps. Got ()": lambda: GatedModule(components=()),
    "non-empty tuples of maps. Got ((),)": lambda: GatedModule(components=((),)),
    "Got ((1.0,),)": lambda: GatedModule(components=((1.0,),)),  # type: ignore[arg-type]
    "Got [(1,)]": lambda: GatedModule(components=[(1,)]),  # type: ignore[arg-type]
    "The maps of a component must ascend, each once. Got ((2, 1),)": lambda: GatedModule(components=((2, 1),)),
    "each once. Got ((1, 1),)": lambda: GatedModule(components=((1, 1),)),
    "always must leave one of the 1 components to switch. Got 1": lambda: GatedModule(components=((1,),), always=1),
    "to switch. Got -1": lambda: GatedModule(components=((1,),), always=-1),
    "to switch. Got True": lambda: GatedModule(components=((1,), (1,)), always=True),
    "gated must be a tuple of GatedModule": lambda: replace(_with(), gated=[ONE]),
    "Gated maps must be sums, and not the input. Got map 0": lambda: _with(replace(ONE, components=((0,),))),
    "must be sums, and not the input. Got map 99": lambda: _with(replace(ONE, components=((99,),))),
    "must be sums, and not the input. Got map 3": lambda: _with(replace(ONE, components=((3,),))),
    "A map must belong to one gated module only. Got map 1 in two": lambda: _with(ONE, ONE),
    "Map 1 may be in at most 1 components, one per slice. Got 2": lambda: _with(replace(ONE, components=((1,),) * 2)),
    "The output map must not be gated. Got map 3": _gated_output,
    "At utilization 0: Operation 1 must have the same groups active": _half_of_a_depthwise,
    "The largest operating point must have all components of all gated modules on.": lambda: _gated(points=2),
}


@pytest.mark.parametrize("message", INVALID)
def test_invalid_modules_are_refused(message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=re.escape(message)):
        INVALID[message]()


def test_every_message_is_tested() -> None:
    assert not untested(nas.representation.gates, INVALID)


@pytest.mark.parametrize("utilization", [-0.1, 1.01, math.nan])
def test_invalid_utilizations_are_refused(utilization: float) -> None:
    with pytest.raises(UserError, match=r"A utilization must lie between 0 and 1. Got"):
        throttled(_gated().topology, utilization, _gated().points[-1])
