"""The graph that walks see of an architecture, and what learned computation lies on its walks and paths.

An operation's output is a node of its own, so that parallel alternatives are told apart, and at level k only what takes
part in subnetwork k is live. What the chain finds important in such a graph is in :mod:`nas.chain.importance`; many
graphs at once are in :mod:`nas.chain.packed`.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023
    (operations' outputs as nodes). Weights on a walk, and learned operations on all paths, are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain, product
from operator import mul

import numpy as np

from nas.chain.walks import Graph
from nas.errors import UserError
from nas.representation.architecture import Architecture
from nas.representation.cost import live_weights
from nas.representation.supernet import choice_groups, picked_operations
from nas.representation.topology import Topology
from nas.seeds import seed


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureGraph:
    """The graph of an architecture, and where its maps and operations are in it.

    graph: edge 2o leads from the source of operation o to its node, edge 2o + 1 from there to its target.
    map_nodes, operation_nodes: the node of every map and of every operation.
    """

    graph: Graph
    map_nodes: tuple[int, ...]
    operation_nodes: tuple[int, ...]


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


def log_walk_weights(architecture: Architecture) -> tuple[float, ...]:
    """Per level, the logarithm of the number of weights that a walk is expected to meet.

    The walk is that of :func:`nas.chain.walks.flow`: from the input, at every map each live operation that leaves it is
    as likely as the others, up to the output. So the weights of an operation count by its importance, the share of
    walks through it. A level without weights has 0.0, as one that meets a single one.

    Notes
    -----
    O(V + E) a level; levels with the same operations share the walk.
    """
    topology = architecture.topology
    known: dict[tuple[tuple[int, ...], int], list[float]] = {}  # levels mostly run the same operations
    levels = []
    for point in architecture.points:
        key = (point.operations, point.output)
        if key not in known:
            known[key] = _shares(topology, point.operations)
        weights = live_weights(topology, point)
        levels.append(math.log(max(1.0, sum(map(mul, known[key], weights)))))
    return tuple(levels)


def _shares(topology: Topology, live: tuple[int, ...]) -> list[float]:
    """The share of walks through each live operation of a subnetwork, in the same order."""
    operations = topology.operations
    leaving, visits = [0] * len(topology.maps), [0.0] * len(topology.maps)
    for o in live:
        leaving[operations[o].source] += 1
    visits[0] = 1.0
    shares = dict.fromkeys(live, 0.0)
    for o in sorted(live, key=lambda o: operations[o].target):
        operation = operations[o]
        shares[o] = share = visits[operation.source] / leaving[operation.source]
        visits[operation.target] += share
    return list(shares.values())


SUBNETWORKS = 4096
"""Of the chain: all sets of choices where there are no more than these, else so many draws."""


def sampled_graph(architecture: Architecture, *, subnetworks: int = SUBNETWORKS) -> Graph:
    """The graph that the chain walks: the nodes of :func:`nas.chain.graph.graph_of`, with drawn subnetworks G_1..G_T.

    Every set of choices once where there are at most ``subnetworks``, so that shares are exact; else so many uniform
    draws, from a seed that is a function of the network. Widths play no part.

    Raises UserError unless there is at least one subnetwork.
    """
    if subnetworks < 1:
        raise UserError(f"A chain must have at least one subnetwork. Got {subnetworks=}.")
    topology, made = architecture.topology, choice_groups(architecture.topology)
    options = [range(len(choice.alternatives)) for choice in made]
    outputs = sorted({point.output for point in architecture.points})
    drawn: Iterable[tuple[int, ...]]
    if math.prod(map(len, options)) * len(outputs) <= subnetworks:
        drawn = product(*options, range(len(outputs)))
    else:
        rng = np.random.default_rng(seed("sampled graph", architecture.network_key))
        sizes = [*map(len, options), len(outputs)]
        drawn = map(tuple, rng.integers(sizes, size=(subnetworks, len(sizes))).tolist())
    live, sinks = [], []
    view = graph_of(architecture)
    for *picks, exit_ in drawn:
        operations = topology.live(picked_operations(topology, made, picks, outputs[exit_]), outputs[exit_])
        live.append(tuple(e for o in operations for e in (2 * o, 2 * o + 1)))
        sinks.append(view.map_nodes[outputs[exit_]])
    return replace(view.graph, live=tuple(live), sinks=tuple(sinks))
