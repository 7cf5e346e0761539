"""Topological importance of the maps, operations and paths of an architecture.

The chain sees an operation's output as a node of its own, so that parallel alternatives are told apart, and at level k
only what takes part in subnetwork k. TAS sums to 1 over all nodes: the path of highest *summed* TPS runs through every
map it can, and that of highest *mean* avoids what a skip avoids. So what matters is read off operations that are
alternatives: :func:`important_operations`, and :func:`important_path`, which runs through them.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023.
    Nodes,
TAS and TPS are the paper's; the walks, choice groups and the absence of an operation as an alternative are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from nas.errors import UserError, unknown_name
from nas.kinds import kind
from nas.markov import WALKS, Graph, Scores, best_path
from nas.topology import Architecture, Topology

Floats = NDArray[np.float64]

_TIE = 9  # decimals in which two importances must differ to differ at all


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureGraph:
    """The graph of an architecture, and where its maps and operations are in it.

    graph: edge 2o leads from the source of operation o to its node, edge 2o + 1 from there to its target.
    map_nodes, operation_nodes: the node of every map and of every operation.
    """

    graph: Graph
    map_nodes: tuple[int, ...]
    operation_nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceGroup:
    """Operations that are alternatives.

    operations: sorted indices.
    absence: whether the alternative to the one operation is to leave it out.
    """

    operations: tuple[int, ...]
    absence: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A path from input to output. operations: in order; maps: one more; total, mean: its TPS, operations included."""

    operations: tuple[int, ...]
    maps: tuple[int, ...]
    total: float
    mean: float


def graph_of(architecture: Architecture) -> ArchitectureGraph:
    """The graph that walks see: maps and operations are nodes, operating points its subnetworks.

    Notes
    -----
    O(V + E). Points hold live operations only (they are checked at birth), so nothing needs trimming.
    """
    topology = architecture.topology
    map_nodes, operation_nodes, node = [0] * len(topology.maps), [0] * len(topology.operations), 0
    for index, writers in enumerate(topology.incoming):
        for o in writers:
            operation_nodes[o] = node
            node += 1
        map_nodes[index] = node
        node += 1
    halves = (
        ((map_nodes[operation.source], operation_nodes[o]), (operation_nodes[o], map_nodes[operation.target]))
        for o, operation in enumerate(topology.operations)
    )
    graph = Graph(
        num_nodes=node,
        edges=tuple(chain.from_iterable(halves)),
        live=tuple(tuple(e for o in point.operations for e in (2 * o, 2 * o + 1)) for point in architecture.points),
        sinks=tuple(map_nodes[point.output] for point in architecture.points),
        source=map_nodes[0],
    )
    return ArchitectureGraph(graph=graph, map_nodes=tuple(map_nodes), operation_nodes=tuple(operation_nodes))


def map_importance(architecture: Architecture, walk: str = "flow") -> Floats:
    """TAS of every feature map, shape (num_maps,); with the nodes of the operations it sums to 1.

    Raises UserError when there is no walk of this name in :data:`nas.markov.WALKS`.
    """
    view = graph_of(architecture)
    return _scores(view.graph, walk).nodes_N[list(view.map_nodes)]


def operation_importance(architecture: Architecture, walk: str = "paths") -> Floats:
    """The share of walks that pass through each operation, mean over levels. Shape (num_operations,).

    0 at a level that the operation is not live at. For the undirected walk it is a share of time; as every operation
    has two ends, that walk tells alternatives apart only by the levels that they are live at.

    Raises UserError when there is no walk of this name.
    """
    view = graph_of(architecture)
    return _scores(view.graph, walk).visits_TN[:, list(view.operation_nodes)].mean(axis=0)


def path_score(
    architecture: Architecture, operations: Iterable[int], walk: str = "flow", *, mean: bool = False
) -> float:
    """TPS of a path: the sum of the TAS of its maps and operations, or their mean.

    operations: of the path, in order from the input.

    Raises UserError when the operations do not follow one another from the input, or when there is no walk of this
    name.
    """
    view = graph_of(architecture)
    nodes, at = [view.map_nodes[0]], 0
    for o in operations:
        operation = architecture.topology.operations[o]
        if not (operation.source == at):
            raise UserError(
                f"A path's operations must follow one another. Operation {o} reads map {operation.source}, not {at}."
            )
        at = operation.target
        nodes += [view.operation_nodes[o], view.map_nodes[at]]
    score = float(_scores(view.graph, walk).nodes_N[nodes].sum())
    return score / len(nodes) if mean else score


def choice_groups(topology: Topology) -> tuple[ChoiceGroup, ...]:
    """The operations among which a subnetwork chooses, in order of their first one.

    Parallel operations between the same two maps are a group when one of them is optional (otherwise all of them always
    run, as a residual's do); an optional operation with no parallel is a group with its own absence.
    """
    parallel: dict[tuple[int, int], list[int]] = {}
    for o, operation in enumerate(topology.operations):
        parallel.setdefault((operation.source, operation.target), []).append(o)
    return tuple(
        ChoiceGroup(operations=tuple(group), absence=len(group) == 1)
        for group in parallel.values()
        if any(topology.operations[o].optional for o in group)
    )


def important_operations(architecture: Architecture, walk: str = "paths") -> tuple[int, ...]:
    """The most important operation of every choice group, sorted; none for a group whose absence is more important.

    The importance of an absence is the mean share of the other operations that leave the same map: what walks do
    instead; where there is no other, presence is more important. Where nothing tells alternatives apart, presence goes
    before absence, learned before unlearned, first before later.

    Raises UserError when there is no walk of this name.
    """
    operations, importance = architecture.topology.operations, operation_importance(architecture, walk).round(_TIE)
    leaving: dict[int, list[int]] = {}
    for o, operation in enumerate(operations):
        leaving.setdefault(operation.source, []).append(o)
    chosen = []
    for group in choice_groups(architecture.topology):
        best = max(group.operations, key=lambda o: (importance[o], kind(operations[o].kind).learned, -o))
        others = [importance[o] for o in leaving[operations[best].source] if o != best]
        if not (group.absence and others and importance[best] < round(sum(others) / len(others), _TIE)):
            chosen.append(best)
    return tuple(sorted(chosen))


def important_path(architecture: Architecture, walk: str = "paths") -> Path:
    """The path from the input to the largest point's output that runs through the important operations.

    Of the paths with the fewest operations that lost in their choice group, and of these those with the most that won,
    the one with the highest summed TPS.

    Raises UserError when there is no walk of this name.

    Notes
    -----
    Dynamic programming in topological order, O(E). No path is ever listed. The path may combine operations that no
    single point has together: it is one of the supernet.
    """
    view = graph_of(architecture)
    chosen = set(important_operations(architecture, walk))
    offered = {o for group in choice_groups(architecture.topology) for o in group.operations}
    nodes_N = _scores(view.graph, walk).nodes_N
    nodes = best_path(
        view.graph,
        nodes_N,
        sink=view.graph.sinks[-1],
        avoid={view.operation_nodes[o] for o in offered - chosen},
        prefer={view.operation_nodes[o] for o in chosen},
    )
    map_of = {node: index for index, node in enumerate(view.map_nodes)}
    operation_of = {node: o for o, node in enumerate(view.operation_nodes)}
    total = float(nodes_N[list(nodes)].sum())
    return Path(
        operations=tuple(operation_of[node] for node in nodes[1::2]),
        maps=tuple(map_of[node] for node in nodes[::2]),
        total=total,
        mean=total / len(nodes),
    )


def log_learned_paths(architecture: Architecture) -> tuple[float, ...]:
    """Per level, the logarithm of the number of learned operations on all input→output paths together.

    That is log(number of paths × expected number of learned operations on a path of the path-uniform walk). A level
    without any learned operation has 0.0, as one with a single one.

    Notes
    -----
    One pass over the operations in topological order, in exact integers; levels with the same operations share it.
    """
    found: dict[tuple[tuple[int, ...], int], float] = {}
    levels = []
    for point in architecture.points:
        key = (point.operations, point.output)
        if key not in found:
            found[key] = _log_learned(architecture.topology, *key)
        levels.append(found[key])
    return tuple(levels)


def _log_learned(topology: Topology, live: tuple[int, ...], output: int) -> float:
    operations = topology.operations
    number, learned = [0] * len(topology.maps), [0] * len(topology.maps)
    number[0] = 1
    for operation in sorted([operations[o] for o in live], key=lambda operation: operation.target):
        source, target = operation.source, operation.target
        ways = number[source]
        number[target] += ways
        learned[target] += learned[source] + ways if kind(operation.kind).learned else learned[source]
    return math.log(max(1, learned[output]))


def _scores(graph: Graph, walk: str) -> Scores:
    if walk not in WALKS:
        raise UserError(unknown_name("walk", walk, WALKS))
    return WALKS[walk](graph)
