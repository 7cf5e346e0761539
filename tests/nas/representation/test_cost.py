"""MACs and parameters by hand, by counting connections, and as integers of any size. Against torch: test_network."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings

import nas
from nas.representation.architecture import Architecture, macs, params
from nas.representation.builder import Builder
from nas.representation.cost import subnetwork_macs, subnetwork_params
from nas.representation.elements import Subnetwork, Task
from nas.representation.kinds import kind
from nas.representation.wiring import active_channels, channel_mask

from ..hand_built import ALL
from ..random_networks import architectures


def _counted(architecture: Architecture, point: Subnetwork) -> tuple[int, int]:
    """MACs and parameters, connection by connection."""
    topology = architecture.topology
    multiplications = parameters = 0

    def active(index: int) -> list[int]:
        return [c for start, stop in active_channels(topology, point, index) for c in range(start, stop)]

    for o in point.operations:
        operation, rows, columns = (topology.operations[o], *map(active, _ends(topology.operations[o])))
        if kind(operation.kind).learned:
            weights = int(channel_mask(topology, o)[rows][:, columns].sum()) * math.prod(operation.kernel)
            multiplications += weights * math.prod(topology.maps[operation.target].size)
            parameters += weights + operation.bias * len(rows)
        parameters += 2 * ("norm" in operation.before) * len(columns) + 2 * ("norm" in operation.after) * len(rows)
    return multiplications, parameters


def _ends(operation) -> tuple[int, int]:
    return operation.target, operation.source


@pytest.mark.parametrize("name", ALL)
def test_hand_built(name: str) -> None:
    architecture = ALL[name]()
    counted = [_counted(architecture, point) for point in architecture.points]
    assert list(zip(macs(architecture), params(architecture))) == counted


@given(architectures())
@settings(max_examples=80, deadline=None)
def test_random(architecture: Architecture) -> None:
    counted = [_counted(architecture, point) for point in architecture.points]
    assert list(zip(macs(architecture), params(architecture))) == counted


def _one(add, points: int = 1, shape=(4, 6, 6), **rest) -> Architecture:
    builder = Builder(Task(input_shape=shape, num_classes=10))
    builder.head(add(builder))
    return builder.architecture(points, **rest)


HEAD = 8 * 10  # MACs of the classifier on 8 channels; 10 more parameters for its bias

BY_HAND = {
    "conv": (lambda b: b.conv(b.input, 8), 36 * 9 * 4 * 8, 9 * 4 * 8),
    "bias": (lambda b: b.conv(b.input, 8, bias=True), 36 * 9 * 4 * 8, 9 * 4 * 8 + 8),
    "norms": (lambda b: b.conv(b.input, 8, before=("norm",), after=("norm", "relu")), 36 * 9 * 4 * 8, 288 + 2 * 12),
    "stride": (lambda b: b.conv(b.input, 8, stride=2), 9 * 9 * 4 * 8, 9 * 4 * 8),
    "no padding": (lambda b: b.conv(b.input, 8, padding=0), 16 * 9 * 4 * 8, 9 * 4 * 8),
    "kernel": (lambda b: b.conv(b.input, 8, kernel=(5, 1)), 36 * 5 * 4 * 8, 5 * 4 * 8),
    "groups": (lambda b: b.conv(b.input, 8, groups=2), 36 * 9 * 4 * 8 // 2, 9 * 4 * 8 // 2),
    "depthwise": (lambda b: b.depthwise(b.conv(b.input, 8, kernel=1)), 36 * (4 * 8 + 9 * 8), 4 * 8 + 9 * 8),
    "depthwise multiplier": (lambda b: b.conv(b.input, 8, groups=4), 36 * 9 * 8, 9 * 8),
    "skips and poolings are free": (
        lambda b: b.add("max_pool", b.identity(b.input, b.map(8)), b.map(8), kernel=3, before=("relu",)),
        0,
        0,
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name: str) -> None:
    add, multiplications, parameters = BY_HAND[name]
    architecture = _one(add)
    assert macs(architecture) == (multiplications + HEAD,)
    assert params(architecture) == (parameters + HEAD + 10,)


def test_a_causal_layer_costs_blocks_on_and_below_the_diagonal() -> None:
    def two(b: Builder) -> int:
        x = b.conv(b.input, (2, 4, 8), kernel=1, wiring="causal")
        return b.conv(x, (2, 4, 8), kernel=1, wiring="causal")

    first = [4 * n for n in (2, 4, 8)]
    second = [2 * 2, 2 * 2 + 2 * 4, 2 * 2 + 2 * 4 + 4 * 8]
    expected = tuple(36 * (a + b) + 10 * n for a, b, n in zip(first, second, (2, 4, 8)))
    assert macs(_one(two, 3)) == expected


def test_each_level_counts_its_own_norms_under_every_policy() -> None:
    def normed(b: Builder) -> int:
        return b.conv(b.input, (4, 8), after=("norm",))

    got = {norm: params(_one(normed, 2, norm=norm)) for norm in ("shared", "per_point", "recalibrated")}
    assert set(got.values()) == {(9 * 4 * 4 + 8 + 4 * 10 + 10, 9 * 4 * 8 + 16 + 8 * 10 + 10)}


def test_costs_are_plain_integers_of_any_size() -> None:
    huge = _one(lambda b: b.conv(b.input, 10**7, kernel=1), shape=(10**6, 1000, 1000))
    assert macs(huge) == (10**6 * 10**7 * 10**6 + 10**8,)
    assert all(type(n) is int for n in (*macs(huge), *params(huge)))


def test_a_convolution_over_a_whole_map_costs_as_a_flattened_linear_layer() -> None:
    assert macs(_one(lambda b: b.conv(b.input, 8, kernel=6, padding=0))) == (4 * 36 * 8 + HEAD,)


def test_any_subnetwork_has_a_cost_not_only_operating_points() -> None:
    architecture = ALL["residual"]()
    point = architecture.points[0]
    mixed = replace(point, channels=(3, 4, 12, 4, 20, 20, 5))
    cost = subnetwork_macs(architecture.topology, mixed), subnetwork_params(architecture.topology, mixed)
    assert cost == _counted(architecture, mixed)
    low, high = nas.macs(architecture)[0], nas.macs(architecture)[-1]
    assert low < cost[0] < high


def test_dropping_an_operation_drops_its_cost() -> None:
    architecture = ALL["residual"]()
    topology, point = architecture.topology, architecture.points[-1]
    parallel = next(o for o, op in enumerate(topology.operations) if op.kernel == (1, 1))
    less = replace(point, operations=tuple(o for o in point.operations if o != parallel))
    assert subnetwork_macs(topology, point) - subnetwork_macs(topology, less) == 64 * 12 * 12


def test_costs_need_no_torch() -> None:
    code = """
import sys, nas
builder = nas.Builder(nas.Task(input_shape=(1, 8, 8), num_classes=2))
builder.head(builder.conv(builder.input, (2, 4)))
made = builder.architecture(2)
nas.macs(made), nas.params(made), made.key, nas.Architecture.from_json(made.to_json())
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
