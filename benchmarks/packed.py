"""Scores of many architectures at once: graphs packed into arrays, and passes of the chain over all graphs.

For populations that are scored repeatedly: by a second walk, or with the importance of all operations. A pass visits
the positions in topological order, all graphs at once. Packing takes as long as
:func:`nas.proxies.dtmc.walk_weights` (see chain.py), so it gains nothing if a candidate is scored *once*, as in the
funnel and the audit. The results are equal up to rounding.

Suffixes: A architectures, L levels, G graphs, P positions, M maps, O operations.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023 (the
    chain). Walks and score: :mod:`nas.chain.walks`, :mod:`nas.chain.graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from nas.errors import UserError, unknown_name
from nas.representation.architecture import Architecture
from nas.representation.cost import live_weights
from nas.representation.kinds import kind

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

PACKED_WALKS = ("flow", "paths")
"""Walks of :data:`nas.chain.walks.WALKS` that are computed by passes along the edges."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedGraphs:
    """The graphs of many architectures, from :func:`pack`.

    A graph has the live operations of a level; levels with equal operations share a graph. Graphs are sorted by size,
    largest first, so that the graphs with an operation at a position are a prefix of all graphs. Passes use only these
    prefixes, and never the padding of the arrays.

    num_maps, num_operations: the largest numbers of all architectures.
    graph_AL: the graph of every level, −1 if an architecture has fewer levels.
    output_G: the output map.
    count_P: number of graphs with an operation at each position.
    source_PG, target_PG: maps of the operation at each position, ordered by target, as map · G + graph; padded with
        num_maps · G.
    operation_PG: index of the operation in its topology, padded with 0. learned_PG: whether it is learned.
    weights_ALO: live weights of every operation at every level; 0 for dead operations and missing levels.
    """

    num_maps: int
    num_operations: int
    graph_AL: Indices
    output_G: Indices
    count_P: Indices
    source_PG: Indices
    target_PG: Indices
    operation_PG: Indices
    learned_PG: NDArray[np.bool_]
    weights_ALO: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedScores:
    """Scores of packed graphs by a walk; 0 for maps and operations that are missing or not live.

    maps_GM, operations_GO: probability that a walk through the graph passes each map and each operation;
        ``maps_GM[packed.graph_AL[a, k]]`` belongs to level k of architecture a.
    tas_maps_AM, tas_outputs_AO: TAS of maps and of operations' outputs in the chain over an architecture's levels;
        together they sum to 1 for each architecture.
    """

    maps_GM: Floats
    operations_GO: Floats
    tas_maps_AM: Floats
    tas_outputs_AO: Floats


def pack(architectures: Sequence[Architecture]) -> PackedGraphs:
    """The graphs of the operating points of arbitrary architectures.

    Notes
    -----
    O(operations of all levels); counting the weights takes most of the time.
    """
    table, firsts = _operations_of(architectures)
    graph_AL = np.full((len(architectures), max((len(a.points) for a in architectures), default=0)), -1)
    num_operations = max((len(a.topology.operations) for a in architectures), default=0)
    weights_ALO = np.zeros((*graph_AL.shape, num_operations))
    live: list[tuple[int, ...]] = []
    outputs, owners = [], []
    for index, architecture in enumerate(architectures):
        graph_of_level: dict[tuple[tuple[int, ...], int], int] = {}
        for level, point in enumerate(architecture.points):
            weights_ALO[index, level, list(point.operations)] = live_weights(architecture.topology, point)
            key = (point.operations, point.output)
            if key not in graph_of_level:
                graph_of_level[key] = len(live)
                live.append(point.operations)
                outputs.append(point.output)
                owners.append(index)
            graph_AL[index, level] = graph_of_level[key]
    sizes = np.array([len(operations) for operations in live], dtype=np.intp)
    ranks = np.argsort(-sizes, kind="stable")
    place_G = np.empty_like(ranks)
    place_G[ranks] = np.arange(len(ranks))

    count, most = len(live), max((len(a.topology.maps) for a in architectures), default=0)
    graph_K = np.repeat(np.arange(count), sizes)  # K: live operations of all graphs, one after the other
    operation_K = np.fromiter(chain.from_iterable(live), np.intp, int(sizes.sum()))
    source_K, target_K, learned_K = table[:, operation_K + firsts[np.array(owners, dtype=np.intp)][graph_K]]
    order = np.lexsort((target_K, graph_K))
    at = np.arange(len(graph_K)) - np.repeat(np.cumsum(sizes) - sizes, sizes), place_G[graph_K]
    shape = (int(sizes.max(initial=0)), count)
    packed = {name: np.full(shape, most * count) for name in ("source", "target")}
    packed["source"][at] = source_K[order] * count + at[1]
    packed["target"][at] = target_K[order] * count + at[1]
    operation_PG, learned_PG = np.zeros(shape, dtype=np.intp), np.zeros(shape, dtype=bool)
    operation_PG[at], learned_PG[at] = operation_K[order], learned_K[order]
    return PackedGraphs(
        num_maps=most,
        num_operations=num_operations,
        graph_AL=np.where(graph_AL < 0, -1, place_G[graph_AL]) if count else graph_AL,
        output_G=np.array(outputs, dtype=np.intp)[ranks],
        count_P=(sizes[:, None] > np.arange(shape[0])).sum(axis=0),
        source_PG=packed["source"],
        target_PG=packed["target"],
        operation_PG=operation_PG,
        learned_PG=learned_PG,
        weights_ALO=weights_ALO,
    )


def packed_learned_paths(packed: PackedGraphs) -> Floats:
    """``controls.log_learned_paths`` of every level, shape (A, L); NaN for missing levels.

    Notes
    -----
    O(operations of all graphs). Counts are stored as logarithms: the number of paths may exceed the range of floats.
    """
    count = packed.output_G.size
    ways = np.full(packed.num_maps * count, -np.inf)  # log of the number of paths from the input to here
    learned = np.full_like(ways, -np.inf)  # log of the number of learned operations on all these paths
    ways[:count] = 0.0
    for p, n in enumerate(packed.count_P.tolist()):
        source, target = packed.source_PG[p, :n], packed.target_PG[p, :n]
        here = ways[source]
        ways[target] = np.logaddexp(ways[target], here)
        new = np.logaddexp(learned[source], np.where(packed.learned_PG[p, :n], here, -np.inf))
        learned[target] = np.logaddexp(learned[target], new)
    return _by_level(packed, np.maximum(0.0, learned[packed.output_G * count + np.arange(count)]))


def packed_walk_weights(packed: PackedGraphs) -> Floats:
    """:func:`nas.chain.scores.log_walk_weights` of every level, shape (A, L); NaN for missing levels."""
    passed_GO = _passes(packed, _shares_by_number(packed))[1]
    met_AL = (passed_GO[packed.graph_AL] * packed.weights_ALO).sum(axis=2)
    return np.where(packed.graph_AL >= 0, np.log(np.maximum(1.0, met_AL)), np.nan)


def packed_mean_walk_weights(packed: PackedGraphs) -> Floats:
    """:func:`nas.proxies.dtmc.walk_weights` of every architecture, shape (A,)."""
    levels_AL = packed_walk_weights(packed)
    return np.nansum(levels_AL, axis=1) / (packed.graph_AL >= 0).sum(axis=1)


def packed_scores(packed: PackedGraphs, walk: str = "paths") -> PackedScores:
    """The walks "flow" and "paths" of :mod:`nas.chain.walks` over the graphs of every architecture.

    Raises UserError for other walks.

    Notes
    -----
    O(operations of all graphs): a backward pass for the probabilities of leaving a map by each operation, then a
    forward pass.
    """
    if walk not in PACKED_WALKS:
        raise UserError(unknown_name("walk of packed graphs", walk, PACKED_WALKS))
    shares_P = _shares_by_paths(packed) if walk == "paths" else _shares_by_number(packed)
    maps_GM, operations_GO = _passes(packed, shares_P)
    tas_AM, tas_AO = _over_levels(packed, maps_GM), _over_levels(packed, operations_GO)
    totals_A1 = (tas_AM.sum(axis=1) + tas_AO.sum(axis=1))[:, None]
    return PackedScores(
        maps_GM=maps_GM,
        operations_GO=operations_GO,
        tas_maps_AM=tas_AM / totals_A1,
        tas_outputs_AO=tas_AO / totals_A1,
    )


def _passes(packed: PackedGraphs, shares_P: list[Floats]) -> tuple[Floats, Floats]:
    """The probability that a walk passes every map and every operation of a graph, shapes (G, M) and (G, O)."""
    count = packed.output_G.size
    visits = np.zeros(packed.num_maps * count)
    visits[:count] = 1.0
    used_OG = np.zeros((packed.num_operations, count))
    for p, n in enumerate(packed.count_P.tolist()):
        used = visits[packed.source_PG[p, :n]] * shares_P[p]
        visits[packed.target_PG[p, :n]] += used
        used_OG[packed.operation_PG[p, :n], np.arange(n)] = used
    return visits.reshape(packed.num_maps, count).T, used_OG.T


def _operations_of(architectures: Sequence[Architecture]) -> tuple[Indices, Indices]:
    """Rows source, target and learned of all operations of all topologies, and the first column of each topology."""
    sources: list[int] = []
    targets: list[int] = []
    kinds: list[str] = []
    firsts = []
    for architecture in architectures:
        operations = architecture.topology.operations
        firsts.append(len(sources))
        sources += [operation.source for operation in operations]
        targets += [operation.target for operation in operations]
        kinds += [operation.kind for operation in operations]
    learned = {name: kind(name).learned for name in set(kinds)}
    return np.array([sources, targets, [learned[name] for name in kinds]], dtype=np.intp), np.array(firsts, np.intp)


def _shares_by_number(packed: PackedGraphs) -> list[Floats]:
    """Probability of leaving the source by each operation, per position: equal for all its operations."""
    size = packed.num_maps * packed.output_G.size
    leaving = np.bincount(packed.source_PG.ravel(), minlength=size + 1)
    return [1.0 / leaving[packed.source_PG[p, :n]] for p, n in enumerate(packed.count_P.tolist())]


def _shares_by_paths(packed: PackedGraphs) -> list[Floats]:
    """Probability of leaving the source by each operation, per position: proportional to the paths that follow."""
    count, positions = packed.output_G.size, packed.count_P.tolist()
    ways = np.full(packed.num_maps * count, -np.inf)  # log of the number of paths from here to the output
    ways[packed.output_G * count + np.arange(count)] = 0.0
    for p in reversed(range(len(positions))):
        source, target = packed.source_PG[p, : positions[p]], packed.target_PG[p, : positions[p]]
        ways[source] = np.logaddexp(ways[source], ways[target])
    return [np.exp(ways[packed.target_PG[p, :n]] - ways[packed.source_PG[p, :n]]) for p, n in enumerate(positions)]


def _by_level(packed: PackedGraphs, values_G: Floats) -> Floats:
    """Values of graphs at their levels, shape (A, L); NaN for missing levels."""
    values_AL = np.full(packed.graph_AL.shape, np.nan)
    there_AL = packed.graph_AL >= 0
    values_AL[there_AL] = values_G[packed.graph_AL[there_AL]]
    return values_AL


def _over_levels(packed: PackedGraphs, values_GX: Floats) -> Floats:
    """Sums over the levels of every architecture, shape (A, X)."""
    sums_AX = np.zeros((len(packed.graph_AL), values_GX.shape[1]))
    for graph_A in packed.graph_AL.T:
        there_A = graph_A >= 0
        sums_AX[there_A] += values_GX[graph_A[there_A]]
    return sums_AX
