"""Random architectures and graphs for the benchmark of the Markov chain, and their numbers of paths."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from nas.chain.walks import Graph, log_path_weights, path_counts
from nas.errors import InvalidArchitecture
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.representation.liveness import trim_point
from search_spaces.residual import Residual

TASK = Task(input_shape=(3, 32, 32), num_classes=10)
OPERATIONS = 50


def residual(rng: np.random.Generator) -> Architecture:
    """A proposal of the residual space at full depth, with nearly the largest number of operations: about 50."""

    def choose(name: str, options: Any) -> Any:
        if name.endswith("depth"):
            return options[-1]
        if name.endswith("body"):
            return "bottleneck"
        some = [option for option in options if option not in ("none", 0)]
        return some[int(rng.integers(len(some)))]

    return Residual().architecture(choose, TASK)


def random_graph(rng: np.random.Generator, operations: int = OPERATIONS, levels: int = 4) -> Architecture:
    """Maps with one to three incoming operations from earlier maps; the last map reads all unread maps."""
    builder, widths = Builder(TASK), (2, 4, 6, 8)[-levels:]
    maps, unread = [builder.conv(builder.input, widths, stride=8)], set()
    while len(builder.topology().operations) + len(unread) + 3 < operations:
        target = builder.map(widths)
        for source in rng.choice(maps, size=min(len(maps), int(rng.integers(1, 4))), replace=False).tolist():
            if rng.random() < 0.6:
                builder.add("conv", source, target, kernel=3, optional=True)
            else:
                builder.identity(source, target, optional=True)
            unread.discard(source)
        maps.append(target)
        unread.add(target)
    last = builder.map(widths)
    for source in sorted(unread):
        builder.identity(source, last)
    builder.head(last)
    return with_drops(builder.architecture(levels), rng)


def with_drops(architecture: Architecture, rng: np.random.Generator) -> Architecture:
    """The architecture with random optional operations dropped at each level; unchanged if 20 attempts fail."""
    topology = architecture.topology
    optional = [o for o, operation in enumerate(topology.operations) if operation.optional]
    for _ in range(20):
        points = []
        for point in architecture.points:
            dropped = {o for o in optional if rng.random() < 0.15}
            kept = tuple(o for o in point.operations if o not in dropped)
            try:
                points.append(trim_point(topology, replace(point, operations=kept)))
            except InvalidArchitecture:
                break
        try:
            return architecture.with_points(points)
        except InvalidArchitecture:
            continue
    return architecture


def random_walkable(rng: np.random.Generator) -> Graph:
    """A random graph of 3 to 12 nodes with 1 to 4 subnetworks, parallel edges, early exits and possibly weights."""
    nodes = int(rng.integers(3, 13))
    edges = [*pairwise(range(nodes))]
    for _ in range(int(rng.integers(0, 2 * nodes))):
        u, v = sorted(rng.choice(nodes, size=2, replace=False).tolist())
        edges.append((u, v))
    live, sinks = [], []
    for _ in range(int(rng.integers(1, 5))):
        sink = int(rng.integers(nodes // 2, nodes))
        kept = [e for e in range(len(edges)) if rng.random() < 0.8]
        live.append(on_paths(edges, kept, sink) or on_paths(edges, list(range(len(edges))), sink))
        sinks.append(sink)
    weights = tuple(rng.uniform(0.1, 10, len(edges)).tolist()) if rng.random() < 0.5 else None
    return Graph(num_nodes=nodes, edges=tuple(edges), live=tuple(live), sinks=tuple(sinks), weights=weights)


def on_paths(edges: list[tuple[int, int]], kept: list[int], sink: int) -> tuple[int, ...]:
    """The edges on a path from node 0 to the sink."""
    reached, needed = {0}, {sink}
    for e in sorted(kept, key=edges.__getitem__):
        if edges[e][0] in reached:
            reached.add(edges[e][1])
    for e in sorted(kept, key=edges.__getitem__, reverse=True):
        if edges[e][1] in needed:
            needed.add(edges[e][0])
    return tuple(e for e in kept if edges[e][0] in reached and edges[e][1] in needed)


def log_path_totals(graph: Graph) -> np.ndarray:
    """Logarithm of the number of paths of every subnetwork, or of their total weight if edges have weights."""
    if graph.weights is None:
        return np.array([math.log(path_counts(graph, level)[graph.source]) for level in range(len(graph.live))])
    return np.array([log_path_weights(graph, level)[graph.source] for level in range(len(graph.live))])
