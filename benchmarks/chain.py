"""How many architectures the Markov chain scores a second on one core, in batch and one by one, and how exact it is.

Populations of 50 operations and four levels: proposals of the residual space (whose levels all run the same operations,
so share one graph), the same with operations dropped at every level (four graphs each), and random graphs. Beside our
passes, the naive way in the same run: a dense solve of the chain, and a list of all paths. Then the deviation of all
three walks from the dense eigen-solve over random graphs, and of every closed form that the chain must keep. CPU time,
since machines are shared. Prints tables; writes raw rows to rows/chain.csv. Exits with 1 where a check fails.

    OMP_NUM_THREADS=1 python benchmarks/chain.py [--population 4000] [--graphs 300] [--repeats 5]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from controls import learned_paths, log_learned_paths
from packed import PACKED_WALKS, pack, packed_dtmc, packed_learned_paths, packed_scores

from nas.chain.graph import graph_of
from nas.chain.walks import WALKS, Graph, best_path, flow, log_path_totals, paths, undirected
from nas.errors import InvalidArchitecture, UserError
from nas.proxies.dtmc import dtmc
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.cost import live_weights
from nas.representation.elements import Task
from nas.representation.kinds import kind
from nas.representation.liveness import trim_point
from search_spaces.residual import Residual

TASK = Task(input_shape=(3, 32, 32), num_classes=10)
OPERATIONS = 50
EXACT, SOLVED, ERRORS = 1e-12, 1e-10, 4.5
"""Bounds: of what agrees but for rounding, of what agrees with a dense solve, of standard errors."""

# ---------------------------------------------------------------------------------------------------- populations


def residual(rng: np.random.Generator) -> Architecture:
    """A proposal of the residual space at full depth, with about as many operations as it can have: some 50."""

    def choose(name: str, options: Any) -> Any:
        if name.endswith("depth"):
            return options[-1]
        if name.endswith("body"):
            return "bottleneck"
        some = [option for option in options if option not in ("none", 0)]
        return some[int(rng.integers(len(some)))]

    return Residual().architecture(choose, TASK)


def random_graph(rng: np.random.Generator, operations: int = OPERATIONS, levels: int = 4) -> Architecture:
    """Maps written by one to three operations from any earlier ones; what nothing reads goes into the last."""
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
    """The same with some optional operations dropped at every level, others at each; as it is where that fails."""
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
    """A random graph of up to 12 nodes with up to 4 subnetworks, parallel edges, early exits and maybe weights."""
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
    """Those of the edges that lie on a path from node 0 to the sink."""
    reached, needed = {0}, {sink}
    for e in sorted(kept, key=edges.__getitem__):
        if edges[e][0] in reached:
            reached.add(edges[e][1])
    for e in sorted(kept, key=edges.__getitem__, reverse=True):
        if edges[e][1] in needed:
            needed.add(edges[e][0])
    return tuple(e for e in kept if edges[e][0] in reached and edges[e][1] in needed)


# ------------------------------------------------------------------------------------------------ the naive ways


def adjacency(graph: Graph, level: int) -> np.ndarray:
    """Total weights of the live edges between nodes, shape (N, N)."""
    matrix = np.zeros((graph.num_nodes, graph.num_nodes))
    for e in graph.live[level]:
        matrix[graph.edges[e]] += graph.weight(e)
    return matrix


def dense_chain(graph: Graph, walk: str, coupling: float = 1.0) -> np.ndarray:
    """The chain's weights, written out; state k · N + v. Rows need not sum to 1."""
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
    """TAS of the nodes by the chain written out."""
    return stationary(dense_chain(graph, walk), how).reshape(len(graph.live), -1).sum(axis=0)


def listed(graph: Graph, level: int) -> list[list[int]]:
    """Every path of a level, as its edges."""
    leaving: dict[int, list[int]] = {}
    for e in graph.live[level]:
        leaving.setdefault(graph.edges[e][0], []).append(e)
    found, open_ = [], [(graph.source, [])]
    while open_:
        at, path = open_.pop()
        if at == graph.sinks[level]:
            found.append(path)
            continue
        open_ += [(graph.edges[e][1], [*path, e]) for e in leaving[at]]
    return found


def listed_dtmc(architecture: Architecture) -> float:
    """The score by listing all paths of every level: how likely each is, and the weights on it."""
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
    """Learned operations on all paths by listing them, mean logarithm over levels."""
    graph, levels = graph_of(architecture).graph, []
    learned = [kind(operation.kind).learned for operation in architecture.topology.operations]
    for level in range(len(graph.live)):
        levels.append(math.log(max(1, sum(learned[e // 2] for path in listed(graph, level) for e in path[::2]))))
    return sum(levels) / len(levels)


# --------------------------------------------------------------------------------------------------------- speed


def cpu(function: Callable[[], Any]) -> float:
    """Seconds of CPU of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def speeds(name: str, population: list[Architecture], repeats: int) -> Iterator[dict[str, Any]]:
    """Rows of one population: every way of scoring it, in turn, so that all meet the same machine."""
    packed = pack(population)
    some, few = population[:1000], population[:20]
    short = [a for a in population if max(log_path_totals(graph_of(a).graph)) < math.log(2e4)][:3]
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "pack": (lambda: pack(population), len(population)),
        "batch: dtmc": (lambda: packed_dtmc(packed), len(population)),
        "batch: learned paths": (lambda: packed_learned_paths(packed), len(population)),
        **{
            f"batch: {walk}, TAS and importance": (lambda walk=walk: packed_scores(packed, walk), len(population))
            for walk in PACKED_WALKS
        },
        "one by one: dtmc": (lambda: [dtmc(a) for a in some], len(some)),
        "one by one: learned paths": (lambda: [learned_paths(a) for a in some], len(some)),
        **{
            f"one by one: {walk}, TAS and importance": (
                lambda walk=walk: [WALKS[walk](graph_of(a).graph) for a in some],
                len(some),
            )
            for walk in PACKED_WALKS
        },
    }
    ways["naive: dense solve of flow"] = (
        lambda: [dense_tas(graph_of(a).graph, "flow", "linear") for a in few],
        len(few),
    )
    if short:
        ways["naive: list of paths (at most 20,000)"] = (lambda: [listed_dtmc(a) for a in short], len(short))
    operations = float(np.mean([len(a.topology.operations) for a in population]))
    for repeat in range(repeats):
        for what, (function, count) in ways.items():
            seconds = cpu(function)
            yield {
                "part": "speed",
                "what": what,
                "of": name,
                "operations": operations,
                "graphs_each": packed.output_G.size / len(population),
                "repeat": repeat,
                "count": count,
                "cpu_seconds": seconds,
                "per_cpu_second": count / max(seconds, 1e-9),
            }


# --------------------------------------------------------------------------------------------------------- checks

CHAIN = tuple(pairwise(range(6)))
EXAMPLE = Graph(
    num_nodes=5,
    edges=((0, 1), (1, 4), (0, 2), (2, 4), (2, 3), (3, 4)),
    live=((0, 1, 2, 3, 4, 5), (2, 3, 4, 5), (0, 1, 2, 3)),
    sinks=(4, 4, 4),
)


def whole(edges: Any, levels: int = 1) -> Graph:
    """The graph of which every subnetwork is all."""
    nodes = 1 + max(v for _, v in edges)
    return Graph(
        num_nodes=nodes, edges=tuple(edges), live=(tuple(range(len(edges))),) * levels, sinks=(nodes - 1,) * levels
    )


def far(found: Any, expected: Any) -> float:
    """The largest deviation; NaN where one is NaN, which no bound lets pass."""
    return float(np.abs(np.asarray(found) - np.asarray(expected)).max())


def closed_forms(rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """What has a known value: name, deviation, bound."""
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
    """The same graph with its nodes in another topological order, and the new name of every node."""
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
    """The graph with only those edges that some subnetwork runs: so there are several topological orders."""
    kept = [e for live in graph.live for e in live]
    used = sorted(set(kept))
    place = {e: i for i, e in enumerate(used)}
    weights = None if graph.weights is None else tuple(graph.weights[e] for e in used)
    return replace(
        graph,
        edges=tuple(graph.edges[e] for e in used),
        live=tuple(tuple(place[e] for e in live) for live in graph.live),
        weights=weights,
    )


def on_random_graphs(count: int, rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """What holds of any graph, largest deviation over so many random ones: name, deviation, bound."""
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
        found = best_path(union, tas, sink=union.sinks[0])
        note("best path by dynamic programming, TPS against the best listed", abs(tas[list(found)].sum() - best))
    yield from ((name, far(found, 0.0), bound) for (name, bound), found in noted.items())


def whole_of(graph: Graph) -> Graph:
    """The first subnetwork alone."""
    return replace(graph, live=graph.live[:1], sinks=graph.sinks[:1])


def of_packed(count: int, rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """Packed architectures against one by one, and against the dense eigen-solve: name, deviation, bound."""
    made = [random_graph(rng, int(rng.integers(7, 16)), int(rng.integers(1, 4))) for _ in range(count)]
    packed = pack(made)
    levels_AL = packed_learned_paths(packed)
    yield "batch dtmc against one by one", far(packed_dtmc(packed), [dtmc(a) for a in made]), EXACT
    each = [far(levels_AL[a, : len(one.points)], log_learned_paths(one)) for a, one in enumerate(made)]
    yield "batch learned paths per level against one by one", far(each, 0.0), EXACT
    yield "batch dtmc against a list of paths", far(packed_dtmc(packed), [listed_dtmc(a) for a in made]), EXACT
    expected = [listed_learned_paths(a) for a in made]
    yield "batch learned paths against a list of paths", far(np.nanmean(levels_AL, axis=1), expected), EXACT
    for walk in PACKED_WALKS:
        scores, one, dense = packed_scores(packed, walk), [], []
        for a, architecture in enumerate(made):
            view = graph_of(architecture)
            tas = np.zeros(view.graph.num_nodes)
            tas[list(view.map_nodes)] = scores.tas_maps_AM[a, : len(view.map_nodes)]
            tas[list(view.operation_nodes)] = scores.tas_outputs_AO[a, : len(view.operation_nodes)]
            expected = WALKS[walk](view.graph)
            one.append(far(tas, expected.nodes_N))
            used = scores.operations_GO[packed.graph_AL[a, : len(architecture.points)], : len(view.operation_nodes)]
            one.append(far(used, expected.visits_TN[:, list(view.operation_nodes)]))
            dense.append(far(tas, dense_tas(view.graph, walk)))
        yield f"batch {walk}, TAS and importance, against one by one", far(one, 0.0), EXACT
        yield f"batch {walk} against the dense eigen-solve", far(dense, 0.0), SOLVED


def simulated(rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """64 walks of 1,500 steps in each chain of the example: the largest deviation in standard errors."""
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
    """A row for every check."""
    rng = np.random.default_rng(0)
    groups = (
        ("example", 1, closed_forms(rng)),
        ("random graphs", graphs, on_random_graphs(graphs, rng)),
        ("random architectures", graphs, of_packed(graphs, rng)),
        ("example", 1, simulated(rng)),
    )
    for of, count, found in groups:
        for what, deviation, bound in found:
            yield {"part": "check", "what": what, "of": of, "count": count, "deviation": deviation, "bound": bound}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--population", type=int, default=4000)
    parser.add_argument("--graphs", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    residuals = [residual(rng) for _ in range(options.population)]
    populations = {
        "residual": residuals,
        "residual, drops": [with_drops(architecture, rng) for architecture in residuals],
        "random graphs": [random_graph(rng) for _ in range(options.population)],
    }
    for name, population in populations.items():
        rows += speeds(name, population, options.repeats)
    rows += checks(options.graphs)
    frame = pd.DataFrame(rows)
    fast, held = frame[frame.part == "speed"], frame[frame.part == "check"]
    about = fast.groupby("of", sort=False)[["operations", "graphs_each"]].first()
    print(f"{options.population:,} architectures of 4 levels: operations, and different graphs among the levels")
    print(about.round(1).to_string())
    print("\nArchitectures a second of CPU, median of repeats")
    table = fast.pivot_table(index="what", columns="of", values="per_cpu_second", aggfunc="median", sort=False)
    print(table.round(1).map("{:,.1f}".format).to_string())
    print("\nChecks: largest deviation")
    passed = held.deviation <= held.bound
    told = held.assign(passed=passed.map({True: "yes", False: "NO"}))[["of", "count", "deviation", "bound", "passed"]]
    told.index = held.what.str.ljust(66)
    print(told.to_string(formatters={"deviation": "{:.1e}".format, "bound": "{:.0e}".format, "count": "{:.0f}".format}))
    folder = Path(__file__).parent / "rows"
    folder.mkdir(exist_ok=True)
    frame.to_csv(folder / "chain.csv", index=False)
    sys.exit(not passed.all())


if __name__ == "__main__":
    main()
