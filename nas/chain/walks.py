"""Random walks over the subnetworks of a graph, and scores of its nodes, edges and paths.

The walks have one interface, :class:`Walk`: *flow* (directed, back to the source after the sink), *paths* (every path
from source to sink has the same probability), *undirected* (the hyper-adjacency of TIPS) and *tips* (the same with the
values of the authors' code). All are computed in closed form or by passes in topological order, without matrices and
iterations. Suffixes: T subnetworks, N nodes, E edges.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023, and
    the code that its first author released.
Kemeny & Snell, Finite Markov Chains, ch. 3.
Doyle & Snell, Random Walks and Electric Networks, ch. 3 (the stationary distribution is proportional to strength).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas.errors import InvalidArchitecture, UserError, unknown_name

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A directed acyclic graph and its subnetworks.

    Attributes
    ----------
    num_nodes : int
        Nodes are numbered in topological order.
    edges : tuple of (int, int)
        Pairs (u, v) with u < v; parallel edges are allowed.
    live : tuple of tuple of int
        The indices of the edges of each subnetwork.
    sinks : tuple of int
        The last node of each subnetwork; an early exit has an earlier one.
    source : int
        The first node of all subnetworks.
    weights : tuple of float, optional
        Positive weights of the edges; all 1 by default.

    Raises
    ------
    InvalidArchitecture
        If a live edge is not on a path from the source to the sink of its subnetwork, or if fields do not fit together.
    """

    num_nodes: int
    edges: tuple[tuple[int, int], ...]
    live: tuple[tuple[int, ...], ...]
    sinks: tuple[int, ...]
    source: int = 0
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for u, v in self.edges:
            if not 0 <= u < v < self.num_nodes:
                raise InvalidArchitecture(
                    f"Edges must lead to a later one of the {self.num_nodes} nodes. Got {(u, v)}."
                )
        if not self.live or len(self.live) != len(self.sinks):
            raise InvalidArchitecture(
                f"A graph must have subnetworks, each with a sink. Got {len(self.live)} with {len(self.sinks)} sinks."
            )
        weights = self.weights
        if weights is not None and not (len(weights) == len(self.edges) and all(0 < w < math.inf for w in weights)):
            raise InvalidArchitecture(f"Weights must be positive and finite, one per edge. Got {weights=}.")
        for level in range(len(self.live)):
            self._check_level(level)

    def _check_level(self, level: int) -> None:
        live = self.live[level]
        if not live or len(set(live)) < len(live) or not all(0 <= e < len(self.edges) for e in live):
            raise InvalidArchitecture(
                f"Subnetwork {level} must have edges 0..{len(self.edges) - 1}, each once. Got {live}."
            )
        ordered = sorted([self.edges[e] for e in live])
        reached, needed = {self.source}, {self.sinks[level]}
        for u, v in ordered:
            if u in reached:
                reached.add(v)
        for u, v in reversed(ordered):
            if v in needed:
                needed.add(u)
        for u, v in ordered:
            if u not in reached or v not in needed:
                raise InvalidArchitecture(
                    f"Live edges must lie on a path from source to sink. Edge {(u, v)} of subnetwork {level} does not."
                )

    def ordered(self, level: int) -> list[int]:
        """The live edges of a subnetwork, with all edges into a node before all edges out of it."""
        return sorted(self.live[level], key=self.edges.__getitem__)

    def weight(self, edge: int) -> float:
        """The weight of an edge."""
        return 1.0 if self.weights is None else self.weights[edge]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WalkScores:
    """WalkScores of the nodes and edges of a graph by a random walk.

    Attributes
    ----------
    nodes_N : ndarray, shape (N,)
        TAS, the topological accumulated score: the long-run share of time at a node, summed over its copies in all
        subnetworks. Sums to 1.
    visits_TN : ndarray, shape (T, N)
        Probability that a walk through a subnetwork passes a node. For the undirected walk, which neither starts nor
        ends: the share of its time in the subnetwork that it spends at the node.
    edges_TE : ndarray, shape (T, E)
        Probability that a walk through a subnetwork passes an edge. For the undirected walk: the share of its steps
        inside the subnetwork, in either direction.
    """

    nodes_N: Floats
    visits_TN: Floats
    edges_TE: Floats


class Walk(Protocol):
    """A random walk over the subnetworks of a graph. Pure."""

    def __call__(self, graph: Graph, /) -> WalkScores: ...


def flow(graph: Graph) -> WalkScores:
    """The walk along the edges that draws a subnetwork uniformly whenever it returns to the source.

    Parameters
    ----------
    graph : Graph
        The walk leaves a node by one of its live edges, with probability proportional to the weight of the edge.

    Returns
    -------
    WalkScores
        With TAS(v) = Σ_k Pr_k(pass v) / Σ_k E_k[nodes per walk].

    Notes
    -----
    One pass per subnetwork in topological order, O(T (N + E log E)). TAS equals the stationary distribution of the
    chain in which every sink leads back to the sources of all subnetworks.

    Examples
    --------
    >>> skip = Graph(num_nodes=3, edges=((0, 1), (1, 2), (0, 2)), live=((0, 1, 2),), sinks=(2,))
    >>> flow(skip).nodes_N.tolist()
    [0.4, 0.2, 0.4]
    """
    return _directed(graph, [_shares_by_weight(graph, level) for level in range(len(graph.live))])


def paths(graph: Graph) -> WalkScores:
    """The walk that takes every path from source to sink with the same probability.

    Parameters
    ----------
    graph : Graph
        If it has weights, the probability of a path is proportional to the product of its weights.

    Returns
    -------
    WalkScores
        ``edges_TE`` is the share of the paths that use an edge.

    Notes
    -----
    P(u→v) = w(u, v) Z(v) / Z(u) with Z(u) the number of paths from u to the sink: one pass back and one forward, O(E).

    Examples
    --------
    >>> skip = Graph(num_nodes=4, edges=((0, 1), (0, 1), (1, 3), (0, 3)), live=((0, 1, 2, 3),), sinks=(3,))
    >>> [round(p, 3) for p in paths(skip).edges_TE[0].tolist()]
    [0.333, 0.333, 0.667, 0.333]
    """
    return _directed(graph, [_shares_by_paths(graph, level) for level in range(len(graph.live))])


def undirected(
    graph: Graph, coupling: float = 1.0, *, every_copy: bool = False, self_loops: bool = False
) -> WalkScores:
    """The walk of TIPS: along edges in both directions, and between the copies of a node in different subnetworks.

    Parameters
    ----------
    graph : Graph
        If it has weights, the probability of a step along an edge is proportional to the weight of the edge.
    coupling : float
        Weight λ of a step between two copies of a node.
    every_copy : bool
        Couple all copies of a node that is live in some subnetwork. By default only copies that are live are coupled.
    self_loops : bool
        Whether the walk may stay at the source and at the sink of a subnetwork, as along an edge of weight 1.

    Returns
    -------
    WalkScores
        With one subnetwork and no weights, TAS is proportional to the degree of a node.

    Raises
    ------
    UserError
        If λ < 0, or if λ = 0 with several subnetworks: the stationary distribution is not unique.

    Notes
    -----
    The hyper-adjacency is symmetric, so π is proportional to strength: O(T (N + E)). Iteration of P would not converge
    for one or two subnetworks of a bipartite graph, because these chains are periodic.

    Examples
    --------
    >>> chain = Graph(num_nodes=3, edges=((0, 1), (1, 2)), live=((0, 1),), sinks=(2,))
    >>> undirected(chain).nodes_N.tolist()
    [0.25, 0.5, 0.25]
    """
    levels = len(graph.live)
    if not 0 <= coupling < math.inf:
        raise UserError(f"The coupling must be finite and not negative. Got {coupling=}.")
    if coupling == 0 and levels > 1:
        raise UserError(
            f"Without coupling, {levels} subnetworks have no unique stationary distribution. Use coupling > 0."
        )
    within_TN, edges_TE = np.zeros((levels, graph.num_nodes)), np.zeros((levels, len(graph.edges)))
    for level, live in enumerate(graph.live):
        for e in live:
            weight = graph.weight(e)
            within_TN[level, graph.edges[e]] += weight
            edges_TE[level, e] = weight
        within_TN[level, [graph.source, graph.sinks[level]]] += self_loops
    live_TN = within_TN > 0
    if every_copy:
        live_TN = np.broadcast_to(live_TN.any(axis=0), live_TN.shape)
    strength_TN = within_TN + coupling * live_TN * (live_TN.sum(axis=0) - 1)
    return WalkScores(
        nodes_N=strength_TN.sum(axis=0) / strength_TN.sum(),
        visits_TN=strength_TN / strength_TN.sum(axis=1, keepdims=True),
        edges_TE=edges_TE / edges_TE.sum(axis=1, keepdims=True),
    )


def tips(graph: Graph) -> WalkScores:
    """The undirected walk as in the authors' code: coupling 1 between all copies, self-loops at source and sink."""
    return undirected(graph, every_copy=True, self_loops=True)


WALKS: Mapping[str, Walk] = {"flow": flow, "paths": paths, "undirected": undirected, "tips": tips}
"""The walks by name."""


COMPARISONS = ("sum", "mean", "fewest")
"""How :func:`best_path` compares paths."""


def best_path(
    graph: Graph,
    scores: Sequence[float] | Floats,
    *,
    sink: int,
    avoid: Collection[int] = (),
    prefer: Collection[int] = (),
    compare: str = "sum",
) -> tuple[int, ...]:
    """The path from source to sink with the highest score.

    Parameters
    ----------
    graph : Graph
        The path uses edges that are live in at least one subnetwork.
    scores : array_like, shape (N,)
        Scores of the nodes.
    sink : int
        The last node of the path.
    avoid, prefer : collection of int
        Nodes to avoid and to prefer. Paths are compared by the number of avoided nodes (fewer is better), then by the
        number of preferred nodes (more is better), then by score.
    compare : {"sum", "mean", "fewest"}
        The score of a path is the sum or the mean of the scores of its nodes. "fewest": of the paths with the fewest
        nodes, the one with the largest sum.

    Returns
    -------
    tuple of int
        The nodes of the path, in order.

    Raises
    ------
    InvalidArchitecture
        If no path leads to the sink.
    UserError
        If ``compare`` is unknown.

    Notes
    -----
    Dynamic programming in topological order, O(E); for mean and fewest once per path length, O(N E). Of paths with
    equal scores, the path over earlier edges is taken.

    Examples
    --------
    >>> skip = Graph(num_nodes=3, edges=((0, 1), (1, 2), (0, 2)), live=((0, 1, 2),), sinks=(2,))
    >>> best_path(skip, [0.4, 0.2, 0.4], sink=2), best_path(skip, [0.4, 0.2, 0.4], sink=2, compare="mean")
    ((0, 1, 2), (0, 2))
    """
    if compare not in COMPARISONS:
        raise UserError(unknown_name("way to compare paths", compare, COMPARISONS))
    values, avoid, prefer = [float(s) for s in scores], frozenset(avoid), frozenset(prefer)
    edges = sorted({graph.edges[e] for live in graph.live for e in live})
    by_length = compare != "sum"
    # By node and number of steps (always 0 for the sum): (-avoided, preferred, score), and the node before.
    start = (-int(graph.source in avoid), int(graph.source in prefer), values[graph.source])
    best: list[dict[int, tuple[tuple[int, int, float], int]]] = [{} for _ in range(graph.num_nodes)]
    best[graph.source][0] = (start, -1)
    for u, v in edges:
        for steps, ((avoided, preferred, score), _) in best[u].items():
            key = steps + by_length
            candidate = (avoided - (v in avoid), preferred + (v in prefer), score + values[v])
            if key not in best[v] or candidate > best[v][key][0]:
                best[v][key] = (candidate, u)
    if not best[sink]:
        raise InvalidArchitecture(f"No path leads from node {graph.source} to node {sink}.")

    def value(steps: int) -> tuple[float, ...]:
        avoided, preferred, score = best[sink][steps][0]
        return avoided, preferred, -steps if compare == "fewest" else score / (steps + 1)

    steps = max(best[sink], key=value)
    path = [sink]
    while path[-1] != graph.source:
        path.append(best[path[-1]][steps][1])
        steps -= by_length
    return tuple(reversed(path))


def _directed(graph: Graph, shares: Iterable[Mapping[int, float]]) -> WalkScores:
    """The scores of the walk that leaves nodes by their edges with these probabilities, per subnetwork."""
    levels = len(graph.live)
    visits_TN, edges_TE = np.zeros((levels, graph.num_nodes)), np.zeros((levels, len(graph.edges)))
    for level, share in enumerate(shares):
        visits, used = [0.0] * graph.num_nodes, [0.0] * len(graph.edges)
        visits[graph.source] = 1.0
        for e in graph.ordered(level):
            u, v = graph.edges[e]
            used[e] = visits[u] * share[e]
            visits[v] += used[e]
        visits_TN[level], edges_TE[level] = visits, used
    return WalkScores(nodes_N=visits_TN.sum(axis=0) / visits_TN.sum(), visits_TN=visits_TN, edges_TE=edges_TE)


def _shares_by_weight(graph: Graph, level: int) -> dict[int, float]:
    leaving = [0.0] * graph.num_nodes
    for e in graph.live[level]:
        leaving[graph.edges[e][0]] += graph.weight(e)
    return {e: graph.weight(e) / leaving[graph.edges[e][0]] for e in graph.live[level]}


def _shares_by_paths(graph: Graph, level: int) -> dict[int, float]:
    if graph.weights is None:  # ratios of exact integers: no overflow for any number of paths
        counts = path_counts(graph, level)
        return {e: counts[graph.edges[e][1]] / counts[graph.edges[e][0]] for e in graph.live[level]}
    totals = log_path_weights(graph, level)
    return {
        e: math.exp(math.log(graph.weights[e]) + totals[graph.edges[e][1]] - totals[graph.edges[e][0]])
        for e in graph.live[level]
    }


def path_counts(graph: Graph, level: int) -> list[int]:
    """Number of paths from every node to the sink of a subnetwork: exact, in integers of arbitrary size."""
    counts = [0] * graph.num_nodes
    counts[graph.sinks[level]] = 1
    for e in reversed(graph.ordered(level)):
        u, v = graph.edges[e]
        counts[u] += counts[v]
    return counts


def log_path_weights(graph: Graph, level: int) -> list[float]:
    """Logarithm of the total weight of the paths from every node to the sink of a subnetwork; −∞ without a path.

    The weight of a path is the product of the weights of its edges.
    """
    totals = [-math.inf] * graph.num_nodes
    totals[graph.sinks[level]] = 0.0
    for e in reversed(graph.ordered(level)):
        u, v = graph.edges[e]
        totals[u] = float(np.logaddexp(totals[u], math.log(graph.weight(e)) + totals[v]))
    return totals
