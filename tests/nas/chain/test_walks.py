"""The walks against closed forms, dense solves of the explicit chain, simulation, brute force and invariances."""

import math
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.chain.walks import WALKS, Graph, best_path, flow, log_path_weights, path_counts, paths, undirected
from nas.errors import InvalidArchitecture, UserError

CHAIN = tuple(pairwise(range(6)))
SKIP = (*CHAIN, (1, 4))
EXAMPLE = ((0, 1), (1, 4), (0, 2), (2, 4), (2, 3), (3, 4))
THREE = Graph(num_nodes=5, edges=EXAMPLE, live=((0, 1, 2, 3, 4, 5), (2, 3, 4, 5), (0, 1, 2, 3)), sinks=(4, 4, 4))


def whole(edges, **rest):
    """The graph whose only subnetwork is all of it."""
    nodes = 1 + max(v for _, v in edges)
    return Graph(num_nodes=nodes, edges=tuple(edges), live=(tuple(range(len(edges))),), sinks=(nodes - 1,), **rest)


def trimmed(edges, live, sink):
    """The live edges on a path from node 0 to the sink, by networkx."""
    graph = nx.MultiDiGraph([edges[e] for e in live])
    if 0 not in graph or sink not in graph:
        return ()
    on = (nx.descendants(graph, 0) | {0}) & (nx.ancestors(graph, sink) | {sink})
    return tuple(e for e in live if set(edges[e]) <= on)


@st.composite
def graphs(draw, weighted=True):
    nodes = draw(st.integers(3, 8))
    all_pairs = [(u, v) for v in range(nodes) for u in range(v)]
    chosen = draw(st.lists(st.sampled_from(all_pairs), max_size=14))
    edges = (*pairwise(range(nodes)), *chosen)  # parallel edges included
    live, sinks = [], []
    for _ in range(draw(st.integers(1, 4))):
        sink = draw(st.sampled_from([nodes - 1, nodes - 1, max(1, nodes - 2)]))
        some = trimmed(edges, [e for e in range(len(edges)) if draw(st.integers(0, 3))], sink)
        live.append(some or trimmed(edges, range(len(edges)), sink))
        sinks.append(sink)
    weights = None
    if weighted and draw(st.booleans()):
        weights = tuple(draw(st.floats(0.1, 10)) for _ in edges)
    return Graph(num_nodes=nodes, edges=edges, live=tuple(live), sinks=tuple(sinks), weights=weights)


def hyper_adjacency(graph, coupling, every_copy=False, self_loops=False):
    """H of TIPS, written out; state k·N + v."""
    levels, n = len(graph.live), graph.num_nodes
    matrix, alive = np.zeros((levels * n, levels * n)), np.zeros((levels, n), dtype=bool)
    for k, live in enumerate(graph.live):
        for e in live:
            u, v = graph.edges[e]
            matrix[k * n + u, k * n + v] += graph.weight(e)
            matrix[k * n + v, k * n + u] += graph.weight(e)
            alive[k, [u, v]] = True
        for v in (graph.source, graph.sinks[k]):
            matrix[k * n + v, k * n + v] += self_loops
    coupled = alive | alive.any(axis=0) if every_copy else alive
    for i in range(levels):
        for j in range(levels):
            for v in range(n):
                if i != j and coupled[i, v] and coupled[j, v]:
                    matrix[i * n + v, j * n + v] = coupling
    return matrix


def return_chain(graph):
    """P of the flow walk, written out: the sink of every level leads to the sources of all of them."""
    levels, n = len(graph.live), graph.num_nodes
    matrix = np.zeros((levels * n, levels * n))
    for k, live in enumerate(graph.live):
        for e in live:
            u, v = graph.edges[e]
            matrix[k * n + u, k * n + v] += graph.weight(e)
        matrix[k * n + graph.sinks[k], [j * n + graph.source for j in range(levels)]] = 1
    return matrix


def stationary(matrix):
    """π P = π over the non-empty rows, by a linear solve."""
    states = np.flatnonzero(matrix.sum(axis=1))
    transition = matrix[np.ix_(states, states)]
    transition = transition / transition.sum(axis=1, keepdims=True)
    system = np.vstack([transition.T - np.eye(len(states)), np.ones(len(states))])
    pi = np.zeros(len(matrix))
    pi[states] = np.linalg.lstsq(system, np.append(np.zeros(len(states)), 1), rcond=None)[0]
    return pi


def all_paths(graph, level):
    """Every path of a level as a list of edges, parallel ones apart, by networkx."""
    multi = nx.MultiDiGraph()
    for e in graph.live[level]:
        multi.add_edge(*graph.edges[e], key=e)
    edge_paths = nx.all_simple_edge_paths(multi, graph.source, graph.sinks[level])
    return [[e for _, _, e in path] for path in edge_paths]


def test_chain_of_six():
    assert undirected(whole(CHAIN)).nodes_N == pytest.approx(np.array([1, 2, 2, 2, 2, 1]) / 10)
    for walk in (flow, paths):
        assert walk(whole(CHAIN)).nodes_N == pytest.approx(np.full(6, 1 / 6))


def test_chain_of_six_with_a_skip():
    assert undirected(whole(SKIP)).nodes_N == pytest.approx(np.array([1, 3, 2, 2, 3, 1]) / 12)
    assert flow(whole(SKIP)).nodes_N == pytest.approx(np.array([2, 2, 1, 1, 2, 2]) / 10)


def test_residual_stack_of_four():
    edges = [edge for b in range(0, 8, 2) for edge in ((b, b + 1), (b + 1, b + 2), (b, b + 2))]
    tas = flow(whole(edges)).nodes_N
    assert tas[::2] == pytest.approx(1 / 7)
    assert tas[1::2] == pytest.approx(1 / 14)
    assert paths(whole(edges)).nodes_N == pytest.approx(tas)
    assert path_counts(whole(edges), 0)[0] == 16


@pytest.mark.parametrize(
    ("every_copy", "expected"),
    [(True, np.array([11, 10, 14, 10, 13]) / 58), (False, np.array([11, 6, 14, 6, 13]) / 50)],
)
def test_coupled_example(every_copy, expected):
    assert undirected(THREE, 1.0, every_copy=every_copy).nodes_N == pytest.approx(expected)


def test_one_subnetwork_is_node_degree():
    degree = np.bincount(np.array(SKIP).ravel())
    assert undirected(whole(SKIP)).nodes_N == pytest.approx(degree / degree.sum())


@given(graphs(), st.floats(0.01, 10), st.booleans())
@settings(max_examples=60, deadline=None)
def test_undirected_agrees_with_dense_solves(graph, coupling, every_copy):
    matrix = hyper_adjacency(graph, coupling, every_copy)
    pi = stationary(matrix)
    scores = undirected(graph, coupling, every_copy=every_copy)
    tas = pi.reshape(len(graph.live), -1).sum(axis=0)
    assert scores.nodes_N == pytest.approx(tas, abs=1e-10)
    states = np.flatnonzero(matrix.sum(axis=1))
    transition = matrix[np.ix_(states, states)] / matrix.sum(axis=1)[states][:, None]
    values, vectors = np.linalg.eig(transition.T)
    leading = np.real(vectors[:, np.argmax(values.real)])
    assert pi[states] == pytest.approx(leading / leading.sum(), abs=1e-10)
    flux = pi[states][:, None] * transition
    assert flux == pytest.approx(flux.T, abs=1e-12)  # detailed balance


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_flow_agrees_with_a_dense_solve(graph):
    pi = stationary(return_chain(graph)).reshape(len(graph.live), -1)
    assert flow(graph).nodes_N == pytest.approx(pi.sum(axis=0), abs=1e-10)


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_paths_agree_with_listing_them(graph):
    scores = paths(graph)
    for level in range(len(graph.live)):
        listed = all_paths(graph, level)
        weights = np.array([math.prod(graph.weight(e) for e in path) for path in listed])
        assert log_path_weights(graph, level)[graph.source] == pytest.approx(math.log(weights.sum()), abs=1e-10)
        assert path_counts(graph, level)[graph.source] == len(listed)
        shares = np.zeros(len(graph.edges))
        for path, weight in zip(listed, weights / weights.sum()):
            shares[path] += weight
        assert scores.edges_TE[level] == pytest.approx(shares, abs=1e-10)


@given(graphs(weighted=False), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_sums_and_invariances(graph, random):
    order = list(range(len(graph.live)))
    random.shuffle(order)
    edge_order = list(range(len(graph.edges)))
    random.shuffle(edge_order)
    shuffled = Graph(
        num_nodes=graph.num_nodes,
        edges=tuple(graph.edges[e] for e in edge_order),
        live=tuple(tuple(edge_order.index(e) for e in graph.live[k]) for k in order),
        sinks=tuple(graph.sinks[k] for k in order),
    )
    for walk in WALKS.values():
        scores, other = walk(graph), walk(shuffled)
        assert scores.nodes_N.sum() == pytest.approx(1)
        assert scores.nodes_N.min() >= 0
        assert other.nodes_N == pytest.approx(scores.nodes_N)
        assert other.visits_TN == pytest.approx(scores.visits_TN[order])
        assert other.edges_TE == pytest.approx(scores.edges_TE[np.ix_(order, edge_order)])
    for walk in (flow, paths):
        visits_TN = walk(graph).visits_TN
        assert visits_TN[:, graph.source] == pytest.approx(1)
        assert visits_TN[range(len(graph.sinks)), graph.sinks] == pytest.approx(1)


def test_relabelling_permutes():
    """Nodes 1 and 2 are not ordered between each other, so that their numbers may be exchanged."""
    edges = ((0, 1), (0, 2), (1, 3), (2, 3), (2, 4), (3, 4))
    names = [0, 2, 1, 3, 4]
    other = whole([(names[u], names[v]) for u, v in edges])
    for walk in WALKS.values():
        assert walk(other).nodes_N[names] == pytest.approx(walk(whole(edges)).nodes_N)


@given(graphs(), st.floats(0.1, 5), st.floats(0.1, 10))
@settings(max_examples=40, deadline=None)
def test_scaling_weights_and_coupling_together(graph, coupling, scale):
    def weighted(factor):
        weights = tuple(factor * graph.weight(e) for e in range(len(graph.edges)))
        return Graph(num_nodes=graph.num_nodes, edges=graph.edges, live=graph.live, sinks=graph.sinks, weights=weights)

    expected = undirected(graph, coupling).nodes_N
    assert undirected(weighted(scale), scale * coupling).nodes_N == pytest.approx(expected)
    assert flow(weighted(scale)).nodes_N == pytest.approx(flow(graph).nodes_N)


def test_parallel_edges_are_one_edge_of_their_weight():
    split = whole([(0, 1), (0, 1), (1, 2), (0, 2)])
    merged = whole([(0, 1), (1, 2), (0, 2)], weights=(2.0, 1.0, 1.0))
    for walk in WALKS.values():
        assert walk(split).nodes_N == pytest.approx(walk(merged).nodes_N)


@pytest.mark.parametrize("matrix", [hyper_adjacency(THREE, 0.7), return_chain(THREE)], ids=["undirected", "flow"])
def test_agrees_with_a_simulated_walk(matrix):
    """64 independent walks of 1,500 steps: every node within 4.5 standard errors of the mean over walks."""
    rng = np.random.default_rng(0)
    transition = np.cumsum(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-300), axis=1)
    state, visits = np.zeros(64, dtype=int), np.zeros((64, len(matrix)))
    for step in range(1700):
        state = (rng.random((64, 1)) < transition[state]).argmax(axis=1)
        if step >= 200:
            visits[np.arange(64), state] += 1 / 1500
    tas = visits.reshape(64, 3, 5).sum(axis=1)
    expected = (undirected(THREE, 0.7) if matrix[0, 5] == 0.7 else flow(THREE)).nodes_N
    error = tas.std(axis=0, ddof=1) / 8
    assert np.all(np.abs(tas.mean(axis=0) - expected) < 4.5 * error)


def test_simulated_paths_are_equally_likely():
    rng = np.random.default_rng(1)
    graph = whole([(0, 1), (0, 1), (0, 2), (1, 2), (1, 3), (2, 3)])
    listed = all_paths(graph, 0)
    used = paths(graph).edges_TE[0]
    leaving = {u: [e for e in graph.live[0] if graph.edges[e][0] == u] for u in range(3)}
    seen: dict[tuple[int, ...], int] = {}
    for _ in range(5000):
        at, path = 0, []
        while at != 3:
            chances = used[leaving[at]]
            path.append(int(rng.choice(leaving[at], p=chances / chances.sum())))
            at = graph.edges[path[-1]][1]
        seen[tuple(path)] = seen.get(tuple(path), 0) + 1
    expected = 5000 / len(listed)
    assert set(seen) == {tuple(path) for path in listed}
    assert sum((n - expected) ** 2 / expected for n in seen.values()) < 18.5  # χ² of 4 degrees of freedom, p = 0.001


def test_path_counts_never_overflow():
    edges = [edge for b in range(0, 4000, 2) for edge in ((b, b + 1), (b + 1, b + 2), (b, b + 2))]
    graph = whole(edges)
    assert path_counts(graph, 0)[0] == 2**2000
    weighted = whole(edges, weights=(1.0,) * len(edges))
    assert log_path_weights(weighted, 0)[0] == pytest.approx(2000 * math.log(2))
    assert paths(graph).edges_TE[0] == pytest.approx(0.5)


@given(graphs(weighted=False), st.data())
@settings(max_examples=60, deadline=None)
def test_best_path_agrees_with_listing_them(graph, data):
    scores = data.draw(st.lists(st.floats(-1, 1), min_size=graph.num_nodes, max_size=graph.num_nodes))
    avoid, prefer = (data.draw(st.sets(st.integers(0, graph.num_nodes - 1))) for _ in range(2))
    union = nx.DiGraph([graph.edges[e] for live in graph.live for e in live])
    sink = graph.sinks[0]
    listed = list(nx.all_simple_paths(union, 0, sink))
    for compare in ("sum", "mean", "fewest"):

        def value(path, compare=compare):
            total = sum(scores[v] for v in path)
            counted = -sum(v in avoid for v in path), sum(v in prefer for v in path)
            if compare == "fewest":
                counted = *counted, -len(path)
            return counted, total / len(path) if compare == "mean" else total

        path = best_path(graph, scores, sink=sink, avoid=avoid, prefer=prefer, compare=compare)
        assert list(path) in listed
        best = max(map(value, listed))
        assert value(path)[0] == best[0]
        assert value(path)[1] == pytest.approx(best[1], abs=1e-12)


@pytest.mark.parametrize("coupling", [-1.0, math.nan, math.inf, 0.0])
def test_coupling_without_unique_distribution_is_refused(coupling):
    with pytest.raises(UserError, match=r"coupling"):
        undirected(THREE, coupling)


def test_one_subnetwork_needs_no_coupling():
    assert undirected(whole(CHAIN), 0.0).nodes_N == pytest.approx(undirected(whole(CHAIN), 3.0).nodes_N)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": ((0, 1), (2, 1))}, "later"),
        ({"live": ((0,),)}, "on a path"),
        ({"live": ((0, 0, 1),)}, "each once"),
        ({"live": ((),)}, "each once"),
        ({"sinks": ()}, "sink"),
        ({"weights": (1.0, 0.0)}, "positive"),
        ({"weights": (1.0,)}, "positive"),
    ],
)
def test_bad_graphs_are_refused(change, message):
    good = {"num_nodes": 3, "edges": ((0, 1), (1, 2)), "live": ((0, 1),), "sinks": (2,)}
    with pytest.raises(InvalidArchitecture, match=message):
        Graph(**(good | change))


def test_best_path_needs_a_path():
    graph = Graph(num_nodes=4, edges=((0, 2), (2, 3)), live=((0, 1),), sinks=(3,))
    with pytest.raises(InvalidArchitecture, match="No path"):
        best_path(graph, [0.0] * 4, sink=1)
