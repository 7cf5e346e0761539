"""The graphs of an architecture: for random walks, and for networkx.

In the graph of the walks the output of an operation is a node of its own, so that parallel operations are distinct
nodes, and subnetwork k has only the operations that run at level k. :mod:`nas.chain.importance` computes importances
from this graph.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023
    (outputs of operations as nodes, chains over sampled subnetworks).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import chain, product
from typing import TYPE_CHECKING

import numpy as np

from nas.chain.walks import Graph
from nas.errors import UserError
from nas.representation.architecture import Architecture
from nas.representation.kinds import kind
from nas.representation.supernet import choice_groups, picked_operations
from nas.seeds import seed

if TYPE_CHECKING:
    import networkx

SUBNETWORKS = 4096
"""Largest number of subnetworks of :func:`sampled_graph`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureGraph:
    """The graph of an architecture, with the node of every map and operation.

    Attributes
    ----------
    graph : Graph
        Edge 2o leads from the source of operation o to the node of o, edge 2o + 1 from there to its target.
    map_nodes : tuple of int
        The node of every map.
    operation_nodes : tuple of int
        The node of every operation's output.
    """

    graph: Graph
    map_nodes: tuple[int, ...]
    operation_nodes: tuple[int, ...]


def graph_of(architecture: Architecture) -> ArchitectureGraph:
    """The graph of the random walks.

    Parameters
    ----------
    architecture : Architecture
        Its operating points are the subnetworks of the graph.

    Returns
    -------
    ArchitectureGraph
        One node per map and per operation, numbered in topological order.

    Notes
    -----
    O(V + E). Operating points contain live operations only (checked at construction), so no edge needs trimming.
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
        live=tuple(edges_of(point.operations) for point in architecture.points),
        sinks=tuple(map_nodes[point.output] for point in architecture.points),
        source=map_nodes[0],
    )
    return ArchitectureGraph(graph=graph, map_nodes=tuple(map_nodes), operation_nodes=tuple(operation_nodes))


def edges_of(operations: Iterable[int]) -> tuple[int, ...]:
    """The edges of operations in the graph of :func:`graph_of`.

    >>> edges_of((0, 3))
    (0, 1, 6, 7)
    """
    return tuple(e for o in operations for e in (2 * o, 2 * o + 1))


def sampled_operations(
    architecture: Architecture, *, subnetworks: int = SUBNETWORKS
) -> list[tuple[tuple[int, ...], int]]:
    """Operations and output of the sampled subnetworks G_1..G_T of an architecture.

    Parameters
    ----------
    architecture : Architecture
        Subnetworks take one alternative of each of its choice groups, and the output of one of its points. Widths have
        no influence.
    subnetworks : int
        Largest number of subnetworks. If there are no more combinations, each is taken once, so that shares are exact;
        otherwise this number is drawn uniformly, with a seed derived from the network's key.

    Returns
    -------
    list of (tuple of int, int)
        T ≤ ``subnetworks`` pairs of live operations and output map.

    Raises
    ------
    UserError
        If ``subnetworks`` is less than 1.
    """
    if subnetworks < 1:
        raise UserError(f"A chain must have at least one subnetwork. Got {subnetworks=}.")
    topology, groups = architecture.topology, choice_groups(architecture.topology)
    options = [range(len(group.alternatives)) for group in groups]
    outputs = sorted({point.output for point in architecture.points})
    combinations: Iterable[tuple[int, ...]]
    if math.prod(map(len, options)) * len(outputs) <= subnetworks:
        combinations = product(*options, range(len(outputs)))
    else:
        rng = np.random.default_rng(seed("sampled graph", architecture.network_key))
        sizes = [*map(len, options), len(outputs)]
        combinations = map(tuple, rng.integers(sizes, size=(subnetworks, len(sizes))).tolist())
    sampled = []
    for *picks, exit_ in combinations:
        output = outputs[exit_]
        sampled.append((topology.live(picked_operations(topology, groups, picks, output), output), output))
    return sampled


def sampled_graph(architecture: Architecture, *, subnetworks: int = SUBNETWORKS) -> Graph:
    """The graph of :func:`graph_of` with the subnetworks of :func:`sampled_operations` in place of operating points.

    Parameters
    ----------
    architecture : Architecture
        Any architecture.
    subnetworks : int
        See :func:`sampled_operations`, also for errors.

    Returns
    -------
    Graph
        With T ≤ ``subnetworks`` subnetworks.
    """
    sampled, view = sampled_operations(architecture, subnetworks=subnetworks), graph_of(architecture)
    live = tuple(edges_of(operations) for operations, _ in sampled)
    return replace(view.graph, live=live, sinks=tuple(view.map_nodes[output] for _, output in sampled))


def to_networkx(architecture: Architecture) -> networkx.MultiDiGraph:
    """The architecture as a networkx graph: feature maps are nodes, operations are edges.

    Parameters
    ----------
    architecture : Architecture
        Any architecture. Maps and operations that no operating point uses are included.

    Returns
    -------
    networkx.MultiDiGraph
        Nodes are the indices of the maps, with 0 the input; keys of edges are the indices of the operations. Parallel
        operations are parallel edges.

        Attributes of the graph: ``key`` (of the architecture), ``input_shape``, ``num_classes``, ``norm``, and ``macs``
        (per level).

        Attributes of a node: the fields of :class:`nas.FeatureMap` (``channels``, ``size``, ``slices``, ``merge``,
        ``activation``, ``scale``); ``active``, the active channels per level, 0 if the map is off; and ``output_of``,
        the levels whose output it is.

        Attributes of an edge: the fields of :class:`nas.Operation` except ``source`` and ``target`` (``kind``,
        ``kernel``, ``stride``, ``padding``, ``groups``, ``before``, ``after``, ``wiring``, ``bias``, ``optional``);
        ``learned``, if it has weights; and ``levels``, the levels at which it runs.

    Notes
    -----
    O(V + E) per level. Changes of the graph do not change the architecture.

    Examples
    --------
    >>> from nas import Builder, Task
    >>> builder = Builder(Task(input_shape=(3, 8, 8), num_classes=10))
    >>> x = builder.conv(builder.input, (4, 8))
    >>> output = builder.head(x)
    >>> graph = to_networkx(builder.architecture(2))
    >>> [(source, target, kind) for source, target, kind in graph.edges(data="kind")]
    [(0, 1, 'conv'), (1, 2, 'global_avg_pool'), (2, 3, 'linear')]
    >>> graph.nodes[x]["active"], graph.nodes[output]["output_of"], graph.edges[0, 1, 0]["levels"]
    ((4, 8), (0, 1), (0, 1))
    """
    import networkx

    topology, points = architecture.topology, architecture.points
    graph = networkx.MultiDiGraph(
        key=architecture.key,
        input_shape=architecture.task.input_shape,
        num_classes=architecture.task.num_classes,
        norm=architecture.norm,
        macs=architecture.costs,
    )
    active = zip(*(topology.active(point) for point in points))
    for index, (feature_map, channels) in enumerate(zip(topology.maps, active)):
        output_of = tuple(level for level, point in enumerate(points) if point.output == index)
        graph.add_node(index, **asdict(feature_map), active=channels, output_of=output_of)
    levels_of: list[list[int]] = [[] for _ in topology.operations]
    for level, point in enumerate(points):
        for o in point.operations:
            levels_of[o].append(level)
    for o, operation in enumerate(topology.operations):
        attributes = asdict(operation) | {"learned": kind(operation.kind).learned, "levels": tuple(levels_of[o])}
        graph.add_edge(attributes.pop("source"), attributes.pop("target"), key=o, **attributes)
    return graph
