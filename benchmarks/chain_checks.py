"""Correctness of the Markov chain: closed forms, invariants on random graphs, lists of paths, and a simulation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from chain_graphs import log_path_totals, random_graph, random_walkable
from chain_oracles import dense_chain, dense_tas, listed, listed_learned_paths, listed_walk_weights
from controls import learned_paths

from nas.chain.walks import WALKS, Graph, best_path, flow, paths, undirected
from nas.errors import UserError
from nas.proxies.dtmc import walk_weights

EXACT, SOLVED, ERRORS = 1e-12, 1e-10, 4.5
"""Bounds of deviations: rounding, a dense solve, and standard errors of a simulation."""
CHAIN = tuple(pairwise(range(6)))
EXAMPLE = Graph(
    num_nodes=5,
    edges=((0, 1), (1, 4), (0, 2), (2, 4), (2, 3), (3, 4)),
    live=((0, 1, 2, 3, 4, 5), (2, 3, 4, 5), (0, 1, 2, 3)),
    sinks=(4, 4, 4),
)


def whole(edges: Any, levels: int = 1) -> Graph:
    """A graph with all its edges in every subnetwork."""
    nodes = 1 + max(v for _, v in edges)
    return Graph(
        num_nodes=nodes, edges=tuple(edges), live=(tuple(range(len(edges))),) * levels, sinks=(nodes - 1,) * levels
    )


def far(values: Any, expected: Any) -> float:
    """The largest deviation; NaN if any is NaN, which fails every bound."""
    return float(np.abs(np.asarray(values) - np.asarray(expected)).max())


def closed_forms(rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """Checks of closed forms: name, deviation, bound."""
    skip = whole((*CHAIN, (1, 4)))
    yield (
        "undirected, chain of 6: (1,2,2,2,2,1)/10",
        far(undirected(whole(CHAIN)).nodes_N * 10, [1, 2, 2, 2, 2, 1]),
        EXACT,
    )
    yield "undirected, with skip(1,4): (1,3,2,2,3,1)/12", far(undirected(skip).nodes_N * 12, [1, 3, 2, 2, 3, 1]), EXACT
    yield "flow, with skip(1,4): (2,2,1,1,2,2)/10", far(flow(skip).nodes_N * 10, [2, 2, 1, 1, 2, 2]), EXACT
    stack = whole([edge for b in range(0, 8, 2) for edge in ((b, b + 1), (b + 1, b + 2), (b, b + 2))])
    yield "flow, residual stack of 4: 1/7, 1/14", far(flow(stack).nodes_N, [1 / 7, *[1 / 14, 1 / 7] * 4]), EXACT
    yield "paths, residual stack of 4: log 16", far(log_path_totals(stack), math.log(16)), EXACT
    every = undirected(EXAMPLE, every_copy=True).nodes_N * 58
    yield "undirected, 3 coupled, every copy: (11,10,14,10,13)/58", far(every, [11, 10, 14, 10, 13]), EXACT
    live = undirected(EXAMPLE).nodes_N * 50
    yield "undirected, 3 coupled, live copies: (11,6,14,6,13)/50", far(live, [11, 6, 14, 6, 13]), EXACT
    nodes, levels, coupling = 9, 3, 0.7
    extra = [tuple(sorted(rng.choice(nodes, size=2, replace=False).tolist())) for _ in range(8)]
    edges = (*pairwise(range(nodes)), *extra)
    lives = tuple(tuple(e for e in range(len(edges)) if e < nodes - 1 or rng.random() < 0.5) for _ in range(levels))
    graph = Graph(num_nodes=nodes, edges=edges, live=lives, sinks=(nodes - 1,) * levels)
    degree = sum(np.bincount(np.array([edges[e] for e in live_]).ravel(), minlength=nodes) for live_ in lives)
    between = coupling * levels * (levels - 1)
    expected = (degree + between) / (2 * sum(map(len, lives)) + nodes * between)
    yield (
        "undirected, all maps live: [Σdeg + λT(T−1)]/[2Σ|E| + NλT(T−1)]",
        far(undirected(graph, coupling).nodes_N, expected),
        EXACT,
    )
    degree = np.bincount(np.array(edges).ravel())
    yield "undirected, one subnetwork: degree", far(undirected(whole(edges)).nodes_N, degree / degree.sum()), EXACT
    try:
        undirected(EXAMPLE, 0.0)
        refused = False
    except UserError:
        refused = True
    yield "undirected, λ = 0 with 3 subnetworks is refused (0: yes)", float(not refused), EXACT


def relabelled(graph: Graph, rng: np.random.Generator) -> tuple[Graph, list[int]]:
    """The graph with its nodes in a different topological order, and the new number of every node."""
    before: dict[int, set[int]] = {v: {u for u, w in graph.edges if w == v} for v in range(graph.num_nodes)}
    names, ready = [-1] * graph.num_nodes, [0]
    for number in range(graph.num_nodes):
        node = ready.pop(int(rng.integers(len(ready))))
        names[node] = number
        done = {v for v in range(graph.num_nodes) if names[v] >= 0}
        ready = [v for v in range(graph.num_nodes) if v not in done and before[v] <= done]
    edges = tuple((names[u], names[v]) for u, v in graph.edges)
    return replace(graph, edges=edges, sinks=tuple(names[s] for s in graph.sinks), source=names[0]), names


def thinned(graph: Graph) -> Graph:
    """The graph without the edges that no subnetwork has, so that it has several topological orders."""
    live_edges = [e for live in graph.live for e in live]
    used = sorted(set(live_edges))
    place = {e: i for i, e in enumerate(used)}
    weights = None if graph.weights is None else tuple(graph.weights[e] for e in used)
    return replace(
        graph,
        edges=tuple(graph.edges[e] for e in used),
        live=tuple(tuple(place[e] for e in live) for live in graph.live),
        weights=weights,
    )


def on_random_graphs(count: int, rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """Checks of invariants, largest deviation over this number of random graphs: name, deviation, bound."""
    noted: dict[tuple[str, float], list[float]] = {}

    def note(name: str, deviation: float, bound: float = EXACT) -> None:
        noted.setdefault((name, bound), []).append(deviation)

    for _ in range(count):
        graph = thinned(random_walkable(rng))
        order = rng.permutation(len(graph.live)).tolist()
        shuffled = replace(graph, live=tuple(graph.live[k] for k in order), sinks=tuple(graph.sinks[k] for k in order))
        other, names = relabelled(graph, rng)
        for walk, score in WALKS.items():
            tas = score(graph).nodes_N
            note(f"dense eigen-solve: {walk}", far(tas, dense_tas(graph, walk)), SOLVED)
            note("ΣTAS = 1", abs(tas.sum() - 1))
            note("permuting subnetworks changes nothing", far(score(shuffled).nodes_N, tas))
            note("relabelling maps permutes", far(score(other).nodes_N[names], tas))
        scaled = replace(graph, weights=tuple(3.7 * graph.weight(e) for e in range(len(graph.edges))))
        note(
            "scaling A and λ together changes nothing", far(undirected(scaled, 3.7).nodes_N, undirected(graph).nodes_N)
        )
        matrix = dense_chain(graph, "undirected")
        strength = matrix.sum(axis=1)
        flux = (strength / strength.sum())[:, None] * np.divide(
            matrix, strength[:, None], where=strength[:, None] > 0, out=np.zeros_like(matrix)
        )
        ours = undirected(graph).nodes_N
        note("detailed balance of symmetric H, π by strength", far(flux, flux.T))
        note("π by strength is ours", far((strength / strength.sum()).reshape(len(graph.live), -1).sum(axis=0), ours))
        shares, totals = paths(graph).edges_TE, log_path_totals(graph)
        for level in range(len(graph.live)):
            every = listed(graph, level)
            weights = np.array([math.prod(graph.weight(e) for e in path) for path in every])
            through = np.zeros(len(graph.edges))
            for path, weight in zip(every, weights / weights.sum()):
                through[path] += weight
            note("paths: share of listed paths through an edge", far(shares[level], through))
            note("paths: log Z of listed paths", abs(totals[level] - math.log(weights.sum())))
        tas, union = flow(graph).nodes_N, whole_of(graph)
        best = max(sum(tas[[0, *(graph.edges[e][1] for e in path)]]) for path in listed(union, 0))
        nodes = best_path(union, tas, sink=union.sinks[0])
        note("best path by dynamic programming, TPS against the best listed", abs(tas[list(nodes)].sum() - best))
    yield from ((name, far(deviations, 0.0), bound) for (name, bound), deviations in noted.items())


def whole_of(graph: Graph) -> Graph:
    """The graph with only its first subnetwork."""
    return replace(graph, live=graph.live[:1], sinks=graph.sinks[:1])


def of_architectures(count: int, rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """Checks of the scores of random architectures against lists of all paths: name, deviation, bound."""
    architectures = [random_graph(rng, int(rng.integers(7, 16)), int(rng.integers(1, 4))) for _ in range(count)]
    for name, score, oracle in (
        ("walk_weights", walk_weights, listed_walk_weights),
        ("learned paths", learned_paths, listed_learned_paths),
    ):
        deviation = far([score(a) for a in architectures], [oracle(a) for a in architectures])
        yield f"{name} against a list of paths", deviation, EXACT


def simulated(rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """Simulation of 64 walks of 1,500 steps in each chain of the example: largest deviation in standard errors."""
    for walk, score in WALKS.items():
        matrix = dense_chain(EXAMPLE, walk)
        transition = np.cumsum(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-300), axis=1)
        state, visits = np.zeros(64, dtype=int), np.zeros((64, len(matrix)))
        for step in range(1700):
            state = (rng.random((64, 1)) < transition[state]).argmax(axis=1)
            if step >= 200:
                visits[np.arange(64), state] += 1 / 1500
        tas = visits.reshape(64, len(EXAMPLE.live), -1).sum(axis=1)
        error = tas.std(axis=0, ddof=1) / 8
        yield (
            f"simulated {walk}, standard errors",
            float((np.abs(tas.mean(axis=0) - score(EXAMPLE).nodes_N) / error).max()),
            ERRORS,
        )


def checks(graphs: int) -> Iterator[dict[str, Any]]:
    """One row per check."""
    rng = np.random.default_rng(0)
    groups = (
        ("example", 1, closed_forms(rng)),
        ("random graphs", graphs, on_random_graphs(graphs, rng)),
        ("random architectures", graphs, of_architectures(graphs, rng)),
        ("example", 1, simulated(rng)),
    )
    for of, count, results in groups:
        for name, deviation, bound in results:
            yield {"part": "check", "what": name, "of": of, "count": count, "deviation": deviation, "bound": bound}
