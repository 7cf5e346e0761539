"""Which channel reads which, against a definition channel by channel."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings

from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Subnetwork, Task
from nas.representation.kinds import kind
from nas.representation.topology import Topology
from nas.representation.wiring import active_channels, active_pairs, alignment, channel_mask, connections, reads_any

from ..hand_built import ALL
from ..random_networks import architectures


def _slices_of(topology: Topology, index: int) -> list[int]:
    """The slice of each channel of a map; a concat has the slices of its sources."""
    item = topology.maps[index]
    if item.merge == "concat":
        return [j for o in topology.incoming[index] for j in _slices_of(topology, topology.operations[o].source)]
    return [sum(c >= stop for stop in item.slices) for c in range(item.channels)]


def _feeds(topology: Topology, index: int) -> np.ndarray:
    """By definition: which source channel (column) feeds which target channel (row)."""
    operation = topology.operations[index]
    sources, targets = _slices_of(topology, operation.source), _slices_of(topology, operation.target)
    causal = operation.wiring == "causal" and max(sources) > 0
    feeds = np.zeros((len(targets), len(sources)), dtype=bool)
    for t in range(len(targets)):
        for s in range(len(sources)):
            if not kind(operation.kind).mixing:
                feeds[t, s] = _place(topology, index, s) == t
            else:
                group = s * operation.groups // len(sources) == t * operation.groups // len(targets)
                feeds[t, s] = group and (not causal or sources[s] <= targets[t])
    return feeds


def _place(topology: Topology, index: int, channel: int) -> int | None:
    """The target of a channel under an aligned operation, by definition."""
    operation = topology.operations[index]
    sources, targets = _slices_of(topology, operation.source), _slices_of(topology, operation.target)
    if topology.maps[operation.target].merge == "concat":
        before = [topology.operations[o].source for o in topology.incoming[operation.target] if o < index]
        return channel + sum(topology.maps[i].channels for i in before)
    if operation.wiring == "causal" and max(sources) > 0:
        here = sources[channel]
        rank = sum(j == here for j in sources[:channel])
        places = [t for t, j in enumerate(targets) if j == here]
        return places[rank] if rank < len(places) else None
    return channel if channel < len(targets) else None


def _active(topology: Topology, point: Subnetwork, index: int) -> np.ndarray:
    """Which channels of a map are active, by definition."""
    item = topology.maps[index]
    if item.merge != "concat":
        return np.arange(item.channels) < point.channels[topology.declared.index(index)]
    return np.concatenate(
        [
            _active(topology, point, topology.operations[o].source) & (o in point.operations)
            for o in topology.incoming[index]
        ]
    )


def _check(architecture: Architecture) -> None:
    topology = architecture.topology
    for index, operation in enumerate(topology.operations):
        feeds = _feeds(topology, index)
        assert np.array_equal(channel_mask(topology, index), feeds)
        blocks = [np.repeat(range(len(b)), [n for n, _ in b]) for b in map(topology.blocks, _ends(operation))]
        expected = [
            [bool(feeds[np.ix_(blocks[1] == t, blocks[0] == s)].any()) for s in range(blocks[0][-1] + 1)]
            for t in range(blocks[1][-1] + 1)
        ]
        assert connections(topology, index).tolist() == expected
        if not kind(operation.kind).mixing:
            places = [_place(topology, index, c) for c in range(topology.maps[operation.source].channels)]
            assert alignment(topology, index).tolist() == [-1 if p is None else p for p in places]
        assert (index in topology.causal) == (
            operation.wiring == "causal" and max(_slices_of(topology, operation.source)) > 0
        )
    for point in architecture.points:
        counts = topology.active(point)
        for index in range(len(topology.maps)):
            active = _active(topology, point, index)
            ranges = active_channels(topology, point, index)
            assert [c for start, stop in ranges for c in range(start, stop)] == np.flatnonzero(active).tolist()
            assert all(a[1] < b[0] for a, b in pairwise(ranges))
            assert counts[index] == active.sum()
        for o, pairs in zip(point.operations, active_pairs(topology, point), strict=True):
            operation = topology.operations[o]
            rows, columns = (_active(topology, point, i) for i in (operation.target, operation.source))
            learned = kind(operation.kind).learned
            assert pairs == (_feeds(topology, o)[np.ix_(rows, columns)].sum() if learned else 0)


def _ends(operation) -> tuple[int, int]:
    return operation.source, operation.target


@pytest.mark.parametrize("name", ALL)
def test_hand_built(name: str) -> None:
    _check(ALL[name]())


@given(architectures())
@settings(max_examples=80, deadline=None)
def test_random(architecture: Architecture) -> None:
    _check(architecture)


def _two_maps(source: tuple[int, ...], target: tuple[int, ...], kind_name: str, **operation) -> Topology:
    builder = Builder(Task(input_shape=(source[-1], 4, 4), num_classes=2))
    first = builder.identity(builder.input, builder.map(source))
    window = {"kernel": 3} if kind_name in ("conv", "max_pool", "avg_pool") else {}
    builder.add(kind_name, first, builder.map(target), **window, **operation)
    return builder.topology()


@given(architectures())
@settings(max_examples=40, deadline=None)
def test_reads_any_equals_the_channel_mask(architecture: Architecture) -> None:
    topology, rng = architecture.topology, np.random.default_rng(0)
    for index in range(len(topology.operations)):
        feeds = _feeds(topology, index)
        for share in (0.1, 0.5):
            rows, columns = (rng.random(n) < share for n in feeds.shape)
            assert reads_any(topology, index, rows, columns) == feeds[np.ix_(rows, columns)].any()


def test_dense_reads_everything_and_causal_the_slices_up_to_its_own() -> None:
    dense = _two_maps((2, 4, 6), (1, 2, 3), "conv")
    causal = _two_maps((2, 4, 6), (1, 2, 3), "conv", wiring="causal")
    assert connections(dense, 1).all()
    assert connections(causal, 1).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert channel_mask(causal, 1).sum() == 2 + 4 + 6


def test_causal_from_one_slice_reads_all_of_it() -> None:
    topology = _two_maps((6,), (1, 2, 3), "conv", wiring="causal")
    assert 1 not in topology.causal
    assert channel_mask(topology, 1).all()


def test_a_fully_triangular_layer_costs_its_known_share_of_a_dense_one() -> None:
    levels = 5
    slices = tuple(range(4, 4 * levels + 1, 4))
    causal, dense = (_two_maps(slices, slices, "conv", wiring=w) for w in ("causal", "dense"))
    for k in range(1, levels + 1):
        counts = [4 * levels, 4 * k, 4 * k]
        point = Subnetwork(channels=tuple(counts), operations=(0, 1), output=2)
        whole = replace(point, channels=(4 * levels,) * 3)
        share = active_pairs(causal, point)[1] / active_pairs(dense, whole)[1]
        assert math.isclose(share, k * (k + 1) / (levels * (levels + 1)) * (levels + 1) / (2 * levels))


@pytest.mark.parametrize("kind_name", ["identity", "max_pool", "avg_pool", "global_avg_pool"])
def test_aligned_channel_to_channel_or_slice_to_slice(kind_name: str) -> None:
    wider, narrower = (2, 4, 6), (1, 2, 5)
    dense = _two_maps(wider, narrower, kind_name)
    assert alignment(dense, 1).tolist() == [0, 1, 2, 3, 4, -1]
    assert alignment(_two_maps(wider, narrower, kind_name, wiring="causal"), 1).tolist() == [0, -1, 1, -1, 2, 3]
    assert alignment(_two_maps(narrower, wider, kind_name, wiring="causal"), 1).tolist() == [0, 2, 4, 5, -1]


def test_grouped_causal_stays_within_its_slices() -> None:
    topology = _two_maps((2, 4, 6), (4, 8, 12), "conv", groups=3, wiring="causal")
    assert connections(topology, 1).tolist() == np.eye(3, dtype=bool).tolist()
    depthwise = _two_maps((2, 4, 6), (2, 4, 6), "conv", groups=6, wiring="causal")
    assert np.array_equal(channel_mask(depthwise, 1), np.eye(6, dtype=bool))


def _nested() -> tuple[Topology, int, int]:
    """A concat of a concat: (a, b) and then a again; read slice by slice by a convolution and by an identity."""
    builder = Builder(Task(input_shape=(1, 4, 4), num_classes=2))
    a = builder.conv(builder.input, (1, 3))
    b = builder.conv(builder.input, (2, 3))
    inner = builder.concat([a, b])
    outer = builder.concat([inner, a])
    read = builder.conv(outer, (1, 2), kernel=1, wiring="causal")
    aligned = builder.map((4, 9))
    builder.identity(outer, aligned, wiring="causal")
    topology = builder.topology()
    at = {o.target: i for i, o in enumerate(topology.operations)}
    return topology, at[read], at[aligned]


def test_causal_through_nested_concats() -> None:
    topology, read, aligned = _nested()
    #        a0 a1 a1 b0 b0 b1 a0 a1 a1
    slices = [0, 1, 1, 0, 0, 1, 0, 1, 1]
    assert channel_mask(topology, read).tolist() == [[j == 0 for j in slices], [True] * 9]
    assert alignment(topology, aligned).tolist() == [0, 4, 5, 1, 2, 6, 3, 7, 8]


def test_blocks_of_one_slice_that_do_not_fit_its_place_are_cut_at_its_end() -> None:
    builder = Builder(Task(input_shape=(1, 4, 4), num_classes=2))
    a, b = (builder.conv(builder.input, (2, 3)) for _ in range(2))
    both = builder.concat([a, b])
    builder.identity(both, builder.map((3, 4)), wiring="causal")
    topology = builder.topology()
    #       a: 0  0  1   b: 0   0   1
    assert alignment(topology, len(topology.operations) - 1).tolist() == [0, 1, 3, 2, -1, -1]


def test_holes_of_a_concat_are_ranges() -> None:
    topology, _, _ = _nested()
    outer = next(i for i, m in enumerate(topology.maps) if m.channels == 9 and m.merge == "concat")
    into_outer = topology.incoming[outer]
    everything = tuple(range(len(topology.operations)))

    def ranges(a: int, b: int, *without: int) -> list[tuple[int, int]]:
        channels = tuple({1: a, 2: b}.get(i, topology.maps[i].channels) for i in topology.declared)
        point = Subnetwork(channels=channels, operations=tuple(o for o in everything if o not in without), output=1)
        return active_channels(topology, point, outer)

    assert ranges(3, 3) == [(0, 9)]
    assert ranges(1, 2) == [(0, 1), (3, 5), (6, 7)]
    assert ranges(3, 2) == [(0, 5), (6, 9)]
    assert ranges(3, 0) == [(0, 3), (6, 9)]
    assert ranges(3, 3, into_outer[0]) == [(6, 9)]
    assert ranges(3, 3, into_outer[1]) == [(0, 6)]
