"""Random walks over the subnetworks of a graph, and what they say of its nodes, edges and paths.

Three walks behind one interface, :class:`Walk`: *flow* (directed, back to the source after the sink), *paths* (every
source→sink path equally likely) and *undirected* (the hyper-adjacency of TIPS). All are computed in closed form or by
passes in topological order; no matrix is built and nothing is iterated. Suffixes: T subnetworks, N nodes, E edges.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023.
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

from nas.errors import InvalidArchitecture, UserError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A directed acyclic graph and the parts of it that are its subnetworks.

    num_nodes: nodes are numbered in topological order.
    edges: pairs (u, v) with u < v; parallel edges are allowed.
    live: per subnetwork, the indices of its edges.
    sinks: per subnetwork, the node that it ends at (an early exit ends earlier).
    source: the node that all of them start from.
    weights: of the edges, positive; None is 1 for all.

    Raises InvalidArchitecture unless every live edge lies on a path from the source to its subnetwork's sink.
    """

    num_nodes: int
    edges: tuple[tuple[int, int], ...]
    live: tuple[tuple[int, ...], ...]
    sinks: tuple[int, ...]
    source: int = 0
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for u, v in self.edges:
            if not (0 <= u < v < self.num_nodes):
                raise InvalidArchitecture(
                    f"Edges must lead to a later one of the {self.num_nodes} nodes. Got {(u, v)}."
                )
        if not (1 <= len(self.live) == len(self.sinks)):
            raise InvalidArchitecture(
                f"There must be subnetworks, each with a sink. Got {len(self.live)} and {len(self.sinks)} sinks."
            )
        weights = self.weights
        if weights is not None and not (len(weights) == len(self.edges) and all(0 < w < math.inf for w in weights)):
            raise InvalidArchitecture(f"Weights must be positive and finite, one an edge. Got {weights=}.")
        for level in range(len(self.live)):
            self._check_level(level)

    def _check_level(self, level: int) -> None:
        live = self.live[level]
        if not (len(live) > 0 and len(set(live)) == len(live) and all(0 <= e < len(self.edges) for e in live)):
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
            if not (u in reached and v in needed):
                raise InvalidArchitecture(
                    f"Live edges must lie on a path from source to sink. Edge {(u, v)} of subnetwork {level} does not."
                )

    def ordered(self, level: int) -> list[int]:
        """The live edges of a subnetwork such that all edges into a node come before all edges out of it."""
        return sorted(self.live[level], key=self.edges.__getitem__)

    def weight(self, edge: int) -> float:
        """The weight of an edge."""
        return 1.0 if self.weights is None else self.weights[edge]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """What a walk says of a graph.

    nodes_N: TAS, the topological accumulated score: the long-run share of time at each node, all its copies together.
        It sums to 1.
    visits_TN: the probability that a walk through subnetwork k passes a node; for the undirected walk, which neither
        starts nor ends, the share of its time in subnetwork k that it spends there.
    edges_TE: the same for edges; for the undirected walk, the share of its steps inside subnetwork k, either way.
    """

    nodes_N: Floats
    visits_TN: Floats
    edges_TE: Floats


class Walk(Protocol):
    """A random walk over the subnetworks of a graph. Pure."""

    def __call__(self, graph: Graph, /) -> Scores: ...


def flow(graph: Graph) -> Scores:
    """The walk along the edges, by weight, that draws a subnetwork uniformly whenever it returns to the source.

    Returns the scores; TAS(v) = Σ_k Pr_k(pass v) / Σ_k E_k[nodes per walk].

    Notes
    -----
    One pass per subnetwork in topological order, O(T (N + E log E)). Equals the stationary distribution of the chain
    with the sink leading back to the sources of all subnetworks.

    Examples
    --------
    >>> skip = Graph(num_nodes=3, edges=((0, 1), (1, 2), (0, 2)), live=((0, 1, 2),), sinks=(2,))
    >>> flow(skip).nodes_N.tolist()
    [0.4, 0.2, 0.4]
    """
    return _directed(graph, [_shares_by_weight(graph, level) for level in range(len(graph.live))])


def paths(graph: Graph) -> Scores:
    """The walk that makes every path from source to sink equally likely (or as likely as the product of its weights).

    Returns the scores; ``edges_TE`` is the share of the paths that use an edge.

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


def undirected(graph: Graph, coupling: float = 1.0, *, every_copy: bool = False) -> Scores:
    """The walk of TIPS: along edges either way, and between the copies of a node in different subnetworks.

    coupling: weight λ of a step between two copies of a node.
    every_copy: couple all copies of a node that is live anywhere, instead of only those live in both subnetworks.

    Returns the scores. With one subnetwork and no weights, TAS is node degree.

    Raises
    ------
    UserError
        For λ < 0, and for λ = 0 with several subnetworks, whose stationary distribution is not unique.

    Notes
    -----
    The hyper-adjacency is symmetric, so π is proportional to strength: O(T (N + E)). Iterating P instead would not
    converge for one or two subnetworks of a bipartite graph, which are periodic.

    Examples
    --------
    >>> chain = Graph(num_nodes=3, edges=((0, 1), (1, 2)), live=((0, 1),), sinks=(2,))
    >>> undirected(chain).nodes_N.tolist()
    [0.25, 0.5, 0.25]
    """
    levels = len(graph.live)
    if not (0 <= coupling < math.inf):
        raise UserError(f"The coupling must be finite and not negative. Got {coupling=}.")
    if not (coupling > 0 or levels == 1):
        raise UserError(
            f"Without coupling, {levels} subnetworks have no unique stationary distribution. Use coupling > 0."
        )
    within_TN, edges_TE = np.zeros((levels, graph.num_nodes)), np.zeros((levels, len(graph.edges)))
    for level, live in enumerate(graph.live):
        for e in live:
            weight = graph.weight(e)
            within_TN[level, graph.edges[e]] += weight
            edges_TE[level, e] = weight
    live_TN = within_TN > 0
    if every_copy:
        live_TN = np.broadcast_to(live_TN.any(axis=0), live_TN.shape)
    strength_TN = within_TN + coupling * live_TN * (live_TN.sum(axis=0) - 1)
    return Scores(
        nodes_N=strength_TN.sum(axis=0) / strength_TN.sum(),
        visits_TN=strength_TN / strength_TN.sum(axis=1, keepdims=True),
        edges_TE=edges_TE / edges_TE.sum(axis=1, keepdims=True),
    )


WALKS: Mapping[str, Walk] = {"flow": flow, "paths": paths, "undirected": undirected}


def log_path_totals(graph: Graph) -> Floats:
    """Path diversity: the logarithm of the number, or of the total weight, of paths. Shape (T,), always finite.

    Notes
    -----
    O(T E). Without weights the number is counted exactly first, in integers of as many digits as it takes.

    Examples
    --------
    >>> skip = Graph(num_nodes=3, edges=((0, 1), (1, 2), (0, 2)), live=((0, 1, 2), (2,)), sinks=(2, 2))
    >>> np.exp(log_path_totals(skip)).round(9).tolist()
    [2.0, 1.0]
    """
    return np.array([_log_totals(graph, level)[graph.source] for level in range(len(graph.live))])


def best_path(
    graph: Graph,
    scores: Sequence[float] | Floats,
    *,
    sink: int,
    avoid: Collection[int] = (),
    prefer: Collection[int] = (),
    mean: bool = False,
) -> tuple[int, ...]:
    """The nodes of the path from source to sink, over edges live anywhere, with the highest score.

    scores: of the nodes, shape (N,); a path's score is their sum, with ``mean`` their mean.
    avoid, prefer: of all paths those with the fewest nodes to avoid, of these those with the most nodes to prefer, and
        only of these the one with the highest score.

    Raises
    ------
    InvalidArchitecture
        When no path leads to the sink.

    Notes
    -----
    Dynamic programming in topological order, O(E); for the mean once per path length, O(N E). Ties go to the edge that
    comes first.

    Examples
    --------
    >>> skip = Graph(num_nodes=3, edges=((0, 1), (1, 2), (0, 2)), live=((0, 1, 2),), sinks=(2,))
    >>> best_path(skip, [0.4, 0.2, 0.4], sink=2), best_path(skip, [0.4, 0.2, 0.4], sink=2, mean=True)
    ((0, 1, 2), (0, 2))
    """
    values, shunned, sought = [float(s) for s in scores], frozenset(avoid), frozenset(prefer)
    edges = sorted({graph.edges[e] for live in graph.live for e in live})
    # Per node and number of steps (0 for the sum, where it does not matter): (-avoided, preferred, score), and the node
    # that it came from.
    start = (-int(graph.source in shunned), int(graph.source in sought), values[graph.source])
    best: list[dict[int, tuple[tuple[int, int, float], int]]] = [{} for _ in range(graph.num_nodes)]
    best[graph.source][0] = (start, -1)
    for u, v in edges:
        for steps, ((avoided, preferred, score), _) in best[u].items():
            key = steps + 1 if mean else 0
            candidate = (avoided - (v in shunned), preferred + (v in sought), score + values[v])
            if key not in best[v] or candidate > best[v][key][0]:
                best[v][key] = (candidate, u)
    if not best[sink]:
        raise InvalidArchitecture(f"No path leads from node {graph.source} to node {sink}.")
    steps = max(best[sink], key=lambda n: (*best[sink][n][0][:2], best[sink][n][0][2] / (n + 1)))
    path = [sink]
    while path[-1] != graph.source:
        path.append(best[path[-1]][steps][1])
        steps -= mean
    return tuple(reversed(path))


def _directed(graph: Graph, shares: Iterable[Mapping[int, float]]) -> Scores:
    """The scores of walks that leave every node by the given share of each of its edges."""
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
    return Scores(nodes_N=visits_TN.sum(axis=0) / visits_TN.sum(), visits_TN=visits_TN, edges_TE=edges_TE)


def _shares_by_weight(graph: Graph, level: int) -> dict[int, float]:
    leaving = [0.0] * graph.num_nodes
    for e in graph.live[level]:
        leaving[graph.edges[e][0]] += graph.weight(e)
    return {e: graph.weight(e) / leaving[graph.edges[e][0]] for e in graph.live[level]}


def _shares_by_paths(graph: Graph, level: int) -> dict[int, float]:
    if graph.weights is None:  # exact, however many paths there are
        counts = _counts(graph, level)
        return {e: counts[graph.edges[e][1]] / counts[graph.edges[e][0]] for e in graph.live[level]}
    totals = _log_totals(graph, level)
    return {
        e: math.exp(math.log(graph.weights[e]) + totals[graph.edges[e][1]] - totals[graph.edges[e][0]])
        for e in graph.live[level]
    }


def _counts(graph: Graph, level: int) -> list[int]:
    """Number of paths from every node to the sink."""
    counts = [0] * graph.num_nodes
    counts[graph.sinks[level]] = 1
    for e in reversed(graph.ordered(level)):
        u, v = graph.edges[e]
        counts[u] += counts[v]
    return counts


def _log_totals(graph: Graph, level: int) -> list[float]:
    """Logarithm of the total weight of the paths from every node to the sink."""
    if graph.weights is None:
        return [math.log(count) if count else -math.inf for count in _counts(graph, level)]
    totals = [-math.inf] * graph.num_nodes
    totals[graph.sinks[level]] = 0.0
    for e in reversed(graph.ordered(level)):
        u, v = graph.edges[e]
        totals[u] = float(np.logaddexp(totals[u], math.log(graph.weights[e]) + totals[v]))
    return totals
