"""Wiring: the source channels that each target channel of an operation reads.

Masks, MACs, parameters, chain weights and reuse are derived from :func:`connections`, directly or through the closed
forms below, which the tests compare with it.
"""

from __future__ import annotations

import numpy as np

from nas.representation.elements import Operation, Subnetwork
from nas.representation.kinds import kind
from nas.representation.topology import Topology


def connections(topology: Topology, index: int) -> np.ndarray:
    """The connected pairs of blocks of operation ``index``.

    Returns a boolean array of shape (target blocks, source blocks), with the blocks of :meth:`Topology.blocks`. Within
    a connected pair, grouped and aligned operations connect only the channels of :func:`channel_mask`.
    """
    operation = topology.operations[index]
    source, target = topology.blocks(operation.source), topology.blocks(operation.target)
    if index in topology.causal:
        wired = np.array([[i <= j for _, i in source] for _, j in target])
    else:
        wired = np.ones((len(target), len(source)), dtype=bool)
    if _channelwise(operation):
        rows, columns = _starts(target), _starts(source)
        mask = _local_mask(topology, index).astype(int)
        wired &= np.add.reduceat(np.add.reduceat(mask, rows, axis=0), columns, axis=1) > 0
    return wired


def channel_mask(topology: Topology, index: int) -> np.ndarray:
    """The connected pairs of channels of operation ``index``: boolean array (target channels, source channels)."""
    operation = topology.operations[index]
    source, target = topology.blocks(operation.source), topology.blocks(operation.target)
    mask = connections(topology, index)
    mask = np.repeat(np.repeat(mask, [n for n, _ in target], axis=0), [n for n, _ in source], axis=1)
    return mask & _local_mask(topology, index) if _channelwise(operation) else mask


def reads_any(topology: Topology, index: int, rows: np.ndarray, columns: np.ndarray) -> bool:
    """Whether a target channel in ``rows`` reads a source channel in ``columns``; both are masks over all channels.

    Closed form of ``channel_mask(topology, index)[rows][:, columns].any()``.
    """
    operation = topology.operations[index]
    read, reading = np.flatnonzero(columns), np.flatnonzero(rows)
    if not (len(read) and len(reading)):
        return False
    if operation.groups > 1:
        per_source, per_target = (
            topology.maps[end].channels // operation.groups for end in (operation.source, operation.target)
        )
        return bool(np.isin(read // per_source, reading // per_target).any())
    if not kind(operation.kind).mixing:
        to = alignment(topology, index)[read]
        return bool(rows[to[to >= 0]].any())
    if index not in topology.causal:
        return True
    source_slices, target_slices = (
        np.repeat(*np.array(topology.blocks(end)).T[::-1]) for end in (operation.source, operation.target)
    )
    return bool(source_slices[read].min() <= target_slices[reading].max())


def alignment(topology: Topology, index: int) -> np.ndarray:
    """The target channel of each source channel of an aligned operation.

    Returns an integer array of shape (source channels,), with -1 for a source channel that has no target. Dense wiring
    aligns channel c with channel c. Causal wiring aligns slice with slice: a wider slice is padded at its own end, and
    several blocks of one slice in a concat follow each other. In a concat as the target, each source has its own range.
    """
    operation = topology.operations[index]
    source, target = topology.maps[operation.source], topology.maps[operation.target]
    channels = np.arange(source.channels)
    if target.merge == "concat":
        before = topology.incoming[operation.target]
        return channels + sum(topology.maps[topology.operations[o].source].channels for o in before if o < index)
    if index not in topology.causal:
        return np.where(channels < target.channels, channels, -1)
    starts = np.cumsum([0, *(n for n, _ in topology.blocks(operation.target))])
    free, placed = starts[:-1].copy(), []
    for n, j in topology.blocks(operation.source):
        placed.append(np.where(free[j] + np.arange(n) < starts[j + 1], free[j] + np.arange(n), -1))
        free[j] += n
    return np.concatenate(placed)


def active_channels(topology: Topology, point: Subnetwork, index: int) -> list[tuple[int, int]]:
    """The active channels of a map in a subnetwork, as ranges (start, stop); adjacent ranges are merged."""
    counts = dict(zip(topology.declared, point.channels))
    ranges: list[tuple[int, int]] = []
    for start, stop in _ranges(topology, counts, frozenset(point.operations), index, 0):
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], stop)
        else:
            ranges.append((start, stop))
    return ranges


def active_mask(topology: Topology, point: Subnetwork, index: int) -> np.ndarray:
    """Mask of the active channels of a map in a subnetwork, shape (channels,)."""
    out = np.zeros(topology.maps[index].channels, dtype=bool)
    for start, stop in active_channels(topology, point, index):
        out[start:stop] = True
    return out


def active_pairs(topology: Topology, point: Subnetwork) -> tuple[int, ...]:
    """Connected (target channel, source channel) pairs that are active in a subnetwork, for each of its operations.

    0 for operations without weights. Closed form of counting :func:`channel_mask` over active channels.
    """
    counts, weights = topology.active(point), topology.weights_per_pair
    sources, targets = topology.sources, topology.targets
    grouped, causal = topology.grouped, topology.causal
    pairs = []
    for o in point.operations:
        if not weights[o]:
            pairs.append(0)
        elif o in grouped:
            pairs.append(counts[targets[o]] * grouped[o])
        elif o in causal:
            pairs.append(_causal_pairs(topology, point, o, counts[targets[o]]))
        else:
            pairs.append(counts[targets[o]] * counts[sources[o]])
    return tuple(pairs)


def _causal_pairs(topology: Topology, point: Subnetwork, index: int, written: int) -> int:
    """Connected pairs of active channels of a causal operation. written: number of active target channels."""
    source, target = topology.sources[index], topology.targets[index]
    read = _active_blocks(topology, source, active_channels(topology, point, source))
    rows = _active_blocks(topology, target, [(0, written)])
    return sum(n * sum(size for size, i in read if i <= j) for n, j in rows)


def _active_blocks(topology: Topology, index: int, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    out, at = [], 0
    for n, j in topology.blocks(index):
        if any(start <= at and at + n <= stop for start, stop in ranges):
            out.append((n, j))
        at += n
    return out


def _ranges(
    topology: Topology, counts: dict[int, int], live: frozenset[int], index: int, offset: int
) -> list[tuple[int, int]]:
    if topology.maps[index].merge != "concat":
        return [(offset, offset + counts[index])] if counts[index] else []
    out = []
    for o in topology.incoming[index]:
        source = topology.operations[o].source
        if o in live:
            out += _ranges(topology, counts, live, source, offset)
        offset += topology.maps[source].channels
    return out


def _channelwise(operation: Operation) -> bool:
    return operation.groups > 1 or not kind(operation.kind).mixing


def _starts(blocks: tuple[tuple[int, int], ...]) -> np.ndarray:
    return np.cumsum([0, *(n for n, _ in blocks[:-1])])


def _local_mask(topology: Topology, index: int) -> np.ndarray:
    """Channel mask of the groups of an operation, or of its alignment if it does not mix channels."""
    operation = topology.operations[index]
    sources, targets = topology.maps[operation.source].channels, topology.maps[operation.target].channels
    if kind(operation.kind).mixing:
        groups = operation.groups
        return np.arange(targets)[:, None] // (targets // groups) == np.arange(sources)[None, :] // (sources // groups)
    return alignment(topology, index)[None, :] == np.arange(targets)[:, None]
