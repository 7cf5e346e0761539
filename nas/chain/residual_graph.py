"""The graph of a residual network as the authors of TIPS draw it, and its important path.

Every operation has one node, its output. The results that meet at a map are summed at a node of their own; an identity
skip is an edge without a node. An operation that changes size or width beside a longer way, such as a projection, is
left out: the block has no skip then. So a basic block is a chain of four nodes with an edge from the first to the last,
and an inverted residual or bottleneck one of five. The subnetworks are copies of the whole graph, or graphs in which
blocks keep their convolutions alone or their skip alone.

Of the paths from input to output those with the fewest nodes are compared by TPS: they take every skip, and pass the
operations that have none beside them.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023, and
    the code that its first author released (the nodes, the blocks, ten copies). The choice of the path among those of
    other lengths, and the rules for graphs other than stacks of blocks, are ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nas.chain.walks import WALKS, Graph, Walk, best_path
from nas.errors import UserError, unknown_name
from nas.representation.architecture import Architecture
from nas.representation.topology import Topology, live_operations
from nas.seeds import seed

SUBNETWORKS = 10
"""Copies of the graph, as in the authors' code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualGraph:
    """A graph with the nodes of maps and operations.

    Attributes
    ----------
    graph : Graph
        The subnetworks, each with the output of the largest operating point as its sink.
    map_nodes : tuple of (int or None)
        Of every map; None if the largest operating point does not use it.
    operation_nodes : tuple of (int or None)
        Of every operation. An identity has the node of its target; None for operations that are left out.
    """

    graph: Graph
    map_nodes: tuple[int | None, ...]
    operation_nodes: tuple[int | None, ...]


def residual_graph(
    architecture: Architecture, *, subnetworks: int = SUBNETWORKS, dropped: float = 0.0
) -> ResidualGraph:
    """The graph of the largest operating point.

    Parameters
    ----------
    architecture : Architecture
        Any architecture.
    subnetworks : int
        Their number T, at least 1.
    dropped : float
        Probability that a block with a skip has only one of both in a subnetwork: its convolutions or its skip, with
        equal probability. Drawn with a seed derived from the network's key. At 0, the default of the authors' code,
        all subnetworks are equal.

    Returns
    -------
    ResidualGraph

    Raises
    ------
    UserError
        If there is no subnetwork, or if ``dropped`` is no probability.
    """
    if type(subnetworks) is not int or subnetworks < 1 or not 0 <= dropped <= 1:
        raise UserError(
            f"There must be at least one subnetwork, and dropped must be from 0 to 1. Got {subnetworks=}, {dropped=}."
        )
    topology, output = architecture.topology, architecture.points[-1].output
    kept = _without_projections(topology, architecture.points[-1].operations)
    map_nodes: list[int | None] = [None] * len(topology.maps)
    operation_nodes: list[int | None] = [None] * len(topology.operations)
    edges: list[tuple[int, int]] = []
    edges_of: dict[int, list[int]] = {o: [] for o in kept}
    count = 0

    def edge(source: int | None, target: int, operation: int) -> None:
        assert source is not None  # maps are in topological order
        edges_of[operation].append(len(edges))
        edges.append((source, target))

    for index, incoming in enumerate(topology.incoming):
        writers = [o for o in incoming if o in edges_of]
        if index and not writers:
            continue
        for o in writers:
            if not _is_skip(topology, o):
                operation_nodes[o] = count
                edge(map_nodes[topology.sources[o]], count, o)
                count += 1
        if len(writers) == 1 and operation_nodes[writers[0]] is not None:
            map_nodes[index] = operation_nodes[writers[0]]
            continue
        map_nodes[index] = count
        for o in writers:
            node = operation_nodes[o]
            edge(map_nodes[topology.sources[o]] if node is None else node, count, o)
            operation_nodes[o] = count if node is None else node
        count += 1
    sink = map_nodes[output]
    assert sink is not None
    assert map_nodes[0] is not None
    live = _subnetworks(architecture, kept, subnetworks, dropped)
    graph = Graph(
        num_nodes=count,
        edges=tuple(edges),
        live=tuple(tuple(sorted(e for o in operations for e in edges_of[o])) for operations in live),
        sinks=(sink,) * subnetworks,
        source=map_nodes[0],
    )
    return ResidualGraph(graph=graph, map_nodes=tuple(map_nodes), operation_nodes=tuple(operation_nodes))


def accumulated_scores(graph: ResidualGraph, walk: str | Walk = "tips") -> list[float]:
    """TAS of every node.

    Parameters
    ----------
    graph : ResidualGraph
    walk : str or Walk
        A name in :data:`nas.chain.walks.WALKS`, or a walk such as ``partial(undirected, coupling=0.005)``.

    Raises
    ------
    UserError
        If there is no walk with this name.
    """
    if isinstance(walk, str):
        if walk not in WALKS:
            raise UserError(unknown_name("walk", walk, WALKS))
        walk = WALKS[walk]
    if not callable(walk):
        raise UserError(f"A walk must be one of {', '.join(WALKS)} or a function of a graph. Got {walk!r}.")
    return [float(score) for score in walk(graph.graph).nodes_N]


def path_operations(
    architecture: Architecture, graph: ResidualGraph, scores: Iterable[float], *, compare: str = "fewest"
) -> tuple[int, ...]:
    """The operations of the important path, apart from skips, ascending.

    Parameters
    ----------
    architecture, graph
        An architecture and its graph.
    scores : iterable of float
        TAS of every node, from :func:`accumulated_scores`.
    compare : {"fewest", "mean", "sum"}
        See :func:`nas.chain.walks.best_path`.
    """
    sink = graph.map_nodes[architecture.points[-1].output]
    assert sink is not None
    path = best_path(graph.graph, list(scores), sink=sink, compare=compare)
    on_path = set(pairwise(path))
    passed = set(path)
    return tuple(
        o
        for o, node in enumerate(graph.operation_nodes)
        if node in passed
        and not _is_skip(architecture.topology, o)
        and (graph.map_nodes[architecture.topology.sources[o]], node) in on_path
    )


def _is_skip(topology: Topology, operation: int) -> bool:
    return topology.operations[operation].kind == "identity"


def _without_projections(topology: Topology, operations: tuple[int, ...]) -> tuple[int, ...]:
    """Operations without those that change size or width beside a longer way."""

    def changes(operation: int) -> bool:
        source, target = (topology.maps[ends[operation]] for ends in (topology.sources, topology.targets))
        return (source.size, source.channels) != (target.size, target.channels)

    return tuple(o for o in operations if not (changes(o) and _beside(topology, o, operations)))


def _beside(topology: Topology, operation: int, operations: Iterable[int]) -> set[int]:
    """The operations on ways of at least two operations between the ends of an operation."""
    source, target = topology.sources[operation], topology.targets[operation]
    others = [o for o in operations if (topology.sources[o], topology.targets[o]) != (source, target)]
    reached, needed = {source}, {target}
    forward = []
    for o in sorted(others, key=topology.targets.__getitem__):
        if topology.sources[o] in reached:
            reached.add(topology.targets[o])
            forward.append(o)
    between = set()
    for o in reversed(forward):
        if topology.targets[o] in needed:
            needed.add(topology.sources[o])
            between.add(o)
    return between


def _subnetworks(
    architecture: Architecture, operations: tuple[int, ...], count: int, dropped: float
) -> list[tuple[int, ...]]:
    """The operations of every subnetwork."""
    topology, output = architecture.topology, architecture.points[-1].output
    whole = live_operations(topology, operations, output)
    if dropped == 0:
        return [whole] * count
    blocks = [(o, _beside(topology, o, operations)) for o in operations if _is_skip(topology, o)]
    rng = np.random.default_rng(seed("residual graph", architecture.network_key))
    subnetworks = []
    for _ in range(count):
        left = set(operations)
        for skip, body in blocks:
            if body and rng.random() < dropped:
                left -= body if rng.random() < 0.5 else {skip}
        subnetworks.append(live_operations(topology, left, output) or whole)
    return subnetworks
