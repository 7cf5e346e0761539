"""Naive computations of the chain's scores, as references: a dense matrix of the chain, and lists of all paths."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from nas.chain.graph import graph_of
from nas.chain.walks import Graph
from nas.representation.architecture import Architecture
from nas.representation.cost import live_weights
from nas.representation.kinds import kind


def adjacency(graph: Graph, level: int) -> np.ndarray:
    """Total weights of the live edges between nodes, shape (N, N)."""
    matrix = np.zeros((graph.num_nodes, graph.num_nodes))
    for e in graph.live[level]:
        matrix[graph.edges[e]] += graph.weight(e)
    return matrix


def dense_chain(graph: Graph, walk: str, coupling: float = 1.0) -> np.ndarray:
    """The dense matrix of the chain's weights; state k · N + v. Rows need not sum to 1."""
    levels, n = len(graph.live), graph.num_nodes
    matrix = np.zeros((levels, n, levels, n))
    alive = np.zeros((levels, n), dtype=bool)
    for k in range(levels):
        within = adjacency(graph, k)
        alive[k] = (within.sum(axis=0) + within.sum(axis=1)) > 0
        if walk == "undirected":
            within = within + within.T
        elif walk == "paths":
            ends = np.eye(n)[graph.sinks[k]]
            ways = np.linalg.solve(np.eye(n) - within, ends)  # total weight of the paths from every node to the sink
            within = np.divide(within * ways, ways[:, None], where=ways[:, None] > 0, out=np.zeros((n, n)))
        matrix[k, :, k] = within
        if walk != "undirected":
            matrix[k, graph.sinks[k], :, graph.source] = 1.0
    if walk == "undirected":
        for i in range(levels):
            for j in set(range(levels)) - {i}:
                both = alive[i] & alive[j]
                matrix[i, both, j, both] = coupling
    return matrix.reshape(levels * n, levels * n)


def stationary(matrix: np.ndarray, how: str = "eigen") -> np.ndarray:
    """π P = π over the non-empty rows: the eigenvector of the eigenvalue 1, or a linear solve."""
    states = np.flatnonzero(matrix.sum(axis=1))
    transition = matrix[np.ix_(states, states)]
    transition = transition / transition.sum(axis=1, keepdims=True)
    pi = np.zeros(len(matrix))
    if how == "eigen":
        values, vectors = np.linalg.eig(transition.T)
        leading = np.real(vectors[:, np.abs(values - 1).argmin()])
        pi[states] = leading / leading.sum()
    else:
        system = transition.T - np.eye(len(states))
        system[-1] = 1.0
        pi[states] = np.linalg.solve(system, np.eye(len(states))[-1])
    return pi


def dense_tas(graph: Graph, walk: str, how: str = "eigen") -> np.ndarray:
    """TAS of the nodes by the dense chain."""
    return stationary(dense_chain(graph, walk), how).reshape(len(graph.live), -1).sum(axis=0)


def listed(graph: Graph, level: int) -> list[list[int]]:
    """Every path of a level, as a list of edges."""
    leaving: dict[int, list[int]] = {}
    for e in graph.live[level]:
        leaving.setdefault(graph.edges[e][0], []).append(e)
    finished, open_ = [], [(graph.source, [])]
    while open_:
        at, path = open_.pop()
        if at == graph.sinks[level]:
            finished.append(path)
            continue
        open_ += [(graph.edges[e][1], [*path, e]) for e in leaving[at]]
    return finished


def listed_walk_weights(architecture: Architecture) -> float:
    """The score by listing all paths of every level with their probabilities and weights."""
    graph, levels = graph_of(architecture).graph, []
    for level, point in enumerate(architecture.points):
        weights = dict(zip(point.operations, live_weights(architecture.topology, point)))
        leaving = Counter(graph.edges[e][0] for e in graph.live[level])
        met = 0.0
        for path in listed(graph, level):
            likely = math.prod(1 / leaving[graph.edges[e][0]] for e in path)
            met += likely * sum(weights[e // 2] for e in path[::2])
        levels.append(math.log(max(1.0, met)))
    return sum(levels) / len(levels)


def listed_learned_paths(architecture: Architecture) -> float:
    """Learned operations on all paths by listing the paths; mean logarithm over levels."""
    graph, levels = graph_of(architecture).graph, []
    learned = [kind(operation.kind).learned for operation in architecture.topology.operations]
    for level in range(len(graph.live)):
        levels.append(math.log(max(1, sum(learned[e // 2] for path in listed(graph, level) for e in path[::2]))))
    return sum(levels) / len(levels)
