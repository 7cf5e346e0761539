"""Liveness: live operations, refused subnetworks, and trimming without changing the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

import nas
import nas.representation.liveness
from nas.errors import InvalidArchitecture
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Subnetwork, Task
from nas.representation.liveness import check_point, check_points, trim_point
from nas.representation.topology import Topology, live_operations

from ..execution.test_network_properties import transplant
from ..hand_built import ALL, NR, TASK
from ..messages import untested
from ..networks import random_images, random_network, random_statistics
from ..random_networks import architectures


def _chain() -> tuple[Topology, Subnetwork]:
    """A grouped convolution beside an identity, a dead end, and a classifier."""
    builder = Builder(TASK)
    x = builder.conv(builder.input, (2, 4, 6))
    y = builder.conv(x, (2, 4, 6), groups=3)
    builder.identity(x, y)
    builder.conv(x, 2)
    builder.head(y)
    topology = builder.topology()
    return topology, trim_point(topology, builder.point(2))


TOPOLOGY, WHOLE = _chain()
REFUSED: dict[str, Subnetwork] = {
    "It must declare the channels of the 6 maps that are not a concat. Got 2": replace(WHOLE, channels=(3, 6)),
    "Map 1 may have (0, 2, 4, 6) active channels. Got 3": replace(WHOLE, channels=(3, 3, 6, 0, 6, 5)),
    "active channels. Got -2": replace(WHOLE, channels=(3, -2, 6, 0, 6, 5)),
    "All 3 channels of the input must be active. Got 0": replace(WHOLE, channels=(0, 6, 6, 0, 6, 5)),
    "The output map must be a vector of the task's 5 classes. Got map 4": replace(WHOLE, output=4),
    "Got map -1": replace(WHOLE, output=-1),
    f"Got map {10**30}": replace(WHOLE, output=10**30),
    "Got map 0": replace(WHOLE, output=0),
    "Operations must be sorted, each once": replace(WHOLE, operations=(1, 0, 2, 4, 5)),
    "sorted, each once": replace(WHOLE, operations=(0, 1, 1, 2, 4, 5)),
    "There are 6 operations. Got point.operations=(0, 1, 2, 4, 5, 6)": replace(WHOLE, operations=(0, 1, 2, 4, 5, 6)),
    "There are 6 operations. Got point.operations=(-1, 0, 1, 2, 4, 5)": replace(WHOLE, operations=(-1, 0, 1, 2, 4, 5)),
    "The input does not reach the output": replace(WHOLE, operations=(0, 1, 2, 4)),
    "does not reach the output": replace(WHOLE, operations=()),
    "not reach the output": replace(WHOLE, channels=(3, 0, 0, 0, 6, 5)),
    "Every operation and map must lie on a path": replace(WHOLE, channels=(3, 6, 6, 2, 6, 5)),
    "lie on a path from input to output": replace(WHOLE, operations=tuple(range(6)), channels=(3, 6, 6, 2, 6, 5)),
    "All classes of the output map must be active": replace(WHOLE, channels=(3, 6, 6, 0, 6, 3)),
    "Operating point 0: ": replace(WHOLE, channels=(3, 3, 6, 0, 6, 5)),
    "Operation 1 must have the same groups active in source and target. Got 4 of 6 and 6 of 6": replace(
        WHOLE, channels=(3, 4, 6, 0, 6, 5)
    ),
}


def _said(message: str) -> str:
    topology = TOPOLOGY
    if message.startswith("All classes"):
        classes = replace(topology.maps[-1], slices=(3, 5))
        topology = replace(topology, maps=(*topology.maps[:-1], classes))
    with pytest.raises(InvalidArchitecture) as caught:
        check_points(topology, TASK, (REFUSED[message],))
    return str(caught.value)


@pytest.mark.parametrize("message", REFUSED)
def test_invalid_subnetworks_are_refused(message: str) -> None:
    assert message in _said(message)


def test_every_message_is_tested() -> None:
    assert not untested(nas.representation.liveness, map(_said, REFUSED))


def test_the_point_that_the_table_breaks_is_one() -> None:
    check_point(TOPOLOGY, TASK, WHOLE)
    check_points(TOPOLOGY, TASK, (WHOLE, WHOLE))


def test_points_with_equal_operations_are_checked_each() -> None:
    odd = replace(WHOLE, channels=(3, 3, 6, 0, 6, 5))
    with pytest.raises(InvalidArchitecture, match=r"Operating point 1: Map 1 may have \(0, 2, 4, 6\) active channels"):
        check_points(TOPOLOGY, TASK, (WHOLE, odd))


# Live operations -------------------------------------------------------------------------------------------------


def _on_a_path(topology: Topology, operations: tuple[int, ...], output: int) -> set[int]:
    """By matrix powers: operations whose source the input reaches, and whose target reaches the output."""
    count = len(topology.maps)
    steps = np.eye(count, dtype=bool)
    for o in operations:
        steps[topology.operations[o].source, topology.operations[o].target] = True
    reach = np.linalg.matrix_power(steps.astype(float), count) > 0
    ends = {o: (topology.operations[o].source, topology.operations[o].target) for o in operations}
    return {o for o, (source, target) in ends.items() if reach[0, source] and reach[target, output]}


@given(architectures())
@settings(max_examples=60, deadline=None)
def test_live_operations_are_those_on_a_path(architecture: Architecture) -> None:
    topology = architecture.topology
    everything = tuple(range(len(topology.operations)))
    for left_out in [(), *((o,) for o in everything), *list(combinations(everything, 2))[:20]]:
        operations = tuple(o for o in everything if o not in left_out)
        for output in range(1, len(topology.maps)):
            assert set(live_operations(topology, operations, output)) == _on_a_path(topology, operations, output)


def test_the_cache_of_live_operations_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(nas.representation.topology, "ROUTE_CACHE_SIZE", 4)
    topology = ALL["residual"]().topology
    everything = tuple(range(len(topology.operations)))
    for operations in combinations(everything, len(everything) - 1):
        output = len(topology.maps) - 1
        route, live = topology.route(operations, output), _on_a_path(topology, operations, output)
        assert route.operations == tuple(sorted(live))
        assert route.maps == {end for o in live for end in (topology.sources[o], topology.targets[o])}
        assert len(topology.route_cache) <= 4


@pytest.mark.parametrize("name", ALL)
def test_trimming_a_point_is_idempotent_and_makes_it_valid(name: str) -> None:
    architecture = ALL[name]()
    topology, point = architecture.topology, architecture.points[-1]
    for o in point.operations:
        less = replace(point, operations=tuple(p for p in point.operations if p != o))
        try:
            trimmed = trim_point(topology, less)
        except InvalidArchitecture:
            continue  # it was on every path
        assert trim_point(topology, trimmed) is trimmed
        assert set(trimmed.operations) <= set(less.operations)
        check_point(topology, architecture.task, trimmed)


def test_switching_a_map_off_takes_its_operations_along() -> None:
    architecture = ALL["gated_dense"]()
    topology, point = architecture.topology, architecture.points[-1]
    off = replace(point, channels=(*point.channels[:2], 0, *point.channels[3:]))
    trimmed = trim_point(topology, off)
    index = topology.declared[2]
    assert all(index not in (o.source, o.target) for o in (topology.operations[o] for o in trimmed.operations))
    assert trimmed.channels[2] == 0


# Trimming unused parts -------------------------------------------------------------------------------------


def _same_function(architecture: Architecture) -> None:
    network = random_statistics(random_network(architecture, dtype=torch.float64)).eval()
    trimmed, x = transplant(network).eval(), random_images(network)
    with torch.no_grad():
        for level in range(network.levels):
            torch.testing.assert_close(trimmed(x, level), network(x, level), rtol=1e-9, atol=1e-9)
    assert nas.macs(architecture.canonical) == nas.macs(architecture)


def _raw(builder: Builder, *points: Subnetwork, **rest: Any) -> Architecture:
    """The architecture as it is, with its dead parts."""
    return Architecture(task=builder.task, topology=builder.topology(), points=points, **rest)


def _point(builder: Builder, channels: dict[int, int], without: tuple[int, ...] = ()) -> Subnetwork:
    """Every map whole but some."""
    topology = builder.topology()
    counts = tuple(channels.get(i, topology.maps[i].channels) for i in topology.declared)
    operations = tuple(o for o in range(len(topology.operations)) if o not in without)
    return trim_point(topology, Subnetwork(channels=counts, operations=operations, output=len(topology.maps) - 1))


def test_dead_operations_maps_and_channels_go() -> None:
    builder = Builder(TASK)
    x = builder.conv(builder.input, (2, 4, 8), after=NR)
    builder.conv(x, 7)
    y = builder.conv(x, (2, 4, 8), after=NR)
    builder.identity(x, y)
    builder.head(y)
    narrow = [_point(builder, dict.fromkeys((x, y, y + 1), n), without=(2 + 1,)) for n in (2, 4)]
    architecture = _raw(builder, *narrow)
    canonical = architecture.canonical
    assert [m.channels for m in canonical.topology.maps] == [3, 4, 4, 4, 5]
    assert [m.slices for m in canonical.topology.maps] == [(3,), (2, 4), (2, 4), (2, 4), (5,)]
    assert [o.kind for o in canonical.topology.operations] == ["conv", "conv", "global_avg_pool", "linear"]
    again = Builder(TASK)
    z = again.conv(again.conv(again.input, (2, 4), after=NR), (2, 4), after=NR)
    again.head(z)
    assert again.architecture(2).key == architecture.key
    _same_function(architecture)


def test_an_architecture_without_dead_parts_is_its_own_canonical_form() -> None:
    for make in ALL.values():
        assert make().canonical is make().canonical or make().canonical == make()
        architecture = make()
        assert architecture.canonical is architecture


def _scaled_sum() -> Architecture:
    """n / c counts all n components, also those that no point uses."""
    builder = Builder(TASK)
    gated = builder.map((2, 4, 8), scale="full")
    builder.add("conv", builder.input, gated, kernel=3)
    builder.head(gated)
    return _raw(builder, *(_point(builder, {gated: n, gated + 1: n}) for n in (2, 4)), norm="shared")


def _scaled_concat() -> Architecture:
    """n / c counts all n sources."""
    builder = Builder(TASK)
    parts = [builder.conv(builder.input, 2) for _ in range(3)]
    builder.head(builder.conv(builder.concat(parts, scale="full"), 4))
    return _raw(builder, _point(builder, {parts[1]: 0, parts[2]: 0}), _point(builder, {parts[2]: 0}), norm="shared")


def _groups_of_other_widths() -> Architecture:
    """A grouped operation is live only at narrow widths; another operation uses the source at full width."""
    builder = Builder(TASK)
    x = builder.conv(builder.input, (2, 4, 8))
    y = builder.conv(x, (2, 4, 8), groups=8)
    builder.add("conv", x, y, kernel=1)
    builder.head(y)
    return _raw(builder, _point(builder, {x: 4, y: 4, y + 1: 4}), _point(builder, {x: 8, y: 4, y + 1: 4}, (1,)))


def _groups_without_a_common_slice() -> Architecture:
    builder = Builder(TASK)
    x = builder.conv(builder.input, (2, 8))
    y = builder.conv(x, (2, 4, 8), groups=4)
    builder.add("conv", x, y, kernel=1)
    builder.head(y)
    return _raw(builder, _point(builder, {x: 2, y: 4, y + 1: 4}, (1,)), _point(builder, {x: 2, y: 2, y + 1: 2}))


def _causal_of_fewer_slices() -> Architecture:
    """The source's last slice is dead, the target's is not: a causal operation needs both."""
    builder = Builder(TASK)
    x = builder.conv(builder.input, (2, 4, 6))
    y = builder.conv(x, (2, 4, 6), wiring="causal", kernel=1)
    builder.head(y)
    return _raw(builder, *(_point(builder, {x: min(n, 4), y: n, y + 1: n}) for n in (2, 4, 6)))


def _causal_to_fewer_slices() -> Architecture:
    builder = Builder(TASK)
    x = builder.conv(builder.input, (2, 4, 6))
    y = builder.conv(x, (2, 4, 6), wiring="causal", kernel=1)
    builder.identity(x, y, wiring="causal")
    builder.head(y)
    return _raw(builder, *(_point(builder, {x: n, y: 2, y + 1: 2}) for n in (2, 4, 6)))


def _causal_through_a_concat() -> Architecture:
    """A causal operation needs slices of the sources of a concat."""
    builder = Builder(TASK)
    a, b = (builder.conv(builder.input, (2, 4, 6)) for _ in range(2))
    y = builder.conv(builder.concat([a, b]), (2, 4, 6), wiring="causal", kernel=1)
    builder.head(y)
    return _raw(builder, *(_point(builder, {a: 2, b: min(4, n), y: n, y + 1: n}) for n in (2, 4, 6)))


def _causal_from_a_concat_whose_deep_source_is_dead() -> Architecture:
    """Without its deep source, slice 0 of the concat would no longer stop at the end of slice 0 of the target."""
    builder = Builder(TASK)
    a, b = builder.conv(builder.input, 4), builder.conv(builder.input, (2, 4, 6))
    both, y = builder.concat([a, b]), builder.map((1, 4, 6))
    builder.add("avg_pool", both, y, kernel=1, wiring="causal")
    builder.add("conv", both, y, kernel=1, wiring="causal")
    builder.head(y)
    return _raw(builder, *(_point(builder, {b: 0, y: n, y + 1: n}) for n in (1, 4, 6)))


def _causal_convolution_of_a_concat_whose_deepest_source_is_dead() -> Architecture:
    """Two slices cannot be read by three: the dead source with three of them has to stay, and the one it reads."""
    builder = Builder(TASK)
    a, behind = builder.conv(builder.input, (2, 4)), builder.conv(builder.input, 3)
    b = builder.conv(behind, (2, 4, 6))
    y = builder.conv(builder.concat([a, b]), (2, 4, 6), kernel=1, wiring="causal")
    builder.head(y)
    return _raw(builder, *(_point(builder, {b: 0, a: min(4, n), y: n, y + 1: n}) for n in (2, 4, 6)))


def _identity_from_a_concat_with_a_dead_source() -> Architecture:
    """An aligned operation finds channels by their place in the concat."""
    builder = Builder(TASK)
    a, b, c = (builder.conv(builder.input, n) for n in (2, 3, 4))
    both = builder.concat([a, b, c])
    y = builder.conv(builder.input, 9)
    builder.identity(both, y)
    builder.head(builder.conv(y, 4))
    return _raw(builder, _point(builder, {b: 0}))


def _identity_from_a_nested_concat_with_dead_channels() -> Architecture:
    builder = Builder(TASK)
    a, b, c = (builder.conv(builder.input, (2, 4)) for _ in range(3))
    inner = builder.concat([a, b])
    both = builder.concat([inner, c])
    y = builder.conv(builder.input, 12)
    builder.identity(both, y)
    builder.head(builder.conv(y, 4))
    return _raw(builder, *(_point(builder, {a: 2, b: 2, c: n}) for n in (2, 4)))


def _head_of_a_concat_with_a_dead_source() -> Architecture:
    builder = Builder(TASK)
    a, b, c = (builder.conv(builder.input, n) for n in (2, 3, 4))
    builder.head(builder.concat([a, b, c]))
    return _raw(builder, _point(builder, {b: 0}))


def _dead_source_of_a_convolved_concat() -> Architecture:
    builder = Builder(TASK)
    a, b, c = (builder.conv(builder.input, (2, n)) for n in (3, 4, 5))
    builder.head(builder.conv(builder.concat([a, b, c, a]), 4, before=NR))
    return _raw(builder, *(_point(builder, {b: 0, a: n}) for n in (2, 3)))


SUBTLE: dict[str, Callable[[], Architecture]] = {
    f.__name__.strip("_").replace("_", " "): f
    for f in (
        _scaled_sum,
        _scaled_concat,
        _groups_of_other_widths,
        _groups_without_a_common_slice,
        _causal_of_fewer_slices,
        _causal_to_fewer_slices,
        _causal_through_a_concat,
        _causal_from_a_concat_whose_deep_source_is_dead,
        _causal_convolution_of_a_concat_whose_deepest_source_is_dead,
        _identity_from_a_concat_with_a_dead_source,
        _identity_from_a_nested_concat_with_dead_channels,
        _head_of_a_concat_with_a_dead_source,
        _dead_source_of_a_convolved_concat,
    )
}


@pytest.mark.parametrize("name", SUBTLE)
def test_trimming_does_not_change_the_outputs(name: str) -> None:
    architecture = SUBTLE[name]()
    _same_function(architecture)
    assert architecture.canonical.canonical == architecture.canonical


def test_trimming_trims_beside_parts_that_stay() -> None:
    builder = Builder(Task(input_shape=(1, 6, 6), num_classes=2))
    gated = builder.map((2, 4, 8), scale="full")
    builder.add("conv", builder.input, gated, kernel=3)
    dead = builder.conv(builder.input, 4)
    x = builder.conv(gated, (2, 4, 8))
    builder.add("conv", dead, x, kernel=1)
    builder.head(x)
    architecture = _raw(builder, *(_point(builder, {gated: n, dead: 0, x: n, x + 1: n}) for n in (2, 4)), norm="shared")
    assert [m.channels for m in architecture.canonical.topology.maps] == [1, 8, 4, 4, 2]
