"""Speed of the Markov chains' scores on one core, and checks of their correctness.

Scores populations of architectures with 50 operations and four levels: proposals of the residual space (all levels run
equal operations), the same with operations dropped at each level (four graphs), and random graphs. Compares the passes
with naive methods in the same run: a dense solve of the chain, and lists of all paths. Then checks (chain_checks.py)
the three walks against the dense eigen-solve on random graphs, and all closed forms. CPU time (machines are shared).
Prints tables; writes raw rows to rows/chain.csv. Exits with 1 if a check fails.

    OMP_NUM_THREADS=1 python benchmarks/chain.py [--population 4000] [--graphs 300] [--repeats 5]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from chain_checks import checks
from chain_graphs import log_path_totals, random_graph, residual, with_drops
from chain_oracles import dense_tas, listed_walk_weights
from controls import learned_paths

from nas.chain.graph import graph_of
from nas.chain.walks import WALKS
from nas.proxies.dtmc import dtmc, walk_weights
from nas.representation.architecture import Architecture


def cpu(function: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def speeds(name: str, population: list[Architecture], repeats: int) -> Iterator[dict[str, Any]]:
    """Rows of one population: all methods of scoring, in turns, under equal load of the machine."""
    first_1000, first_20 = population[:1000], population[:20]
    short = [a for a in population if max(log_path_totals(graph_of(a).graph)) < math.log(2e4)][:3]
    methods: dict[str, tuple[Callable[[], Any], int]] = {
        "dtmc": (lambda: [dtmc(a) for a in first_1000], len(first_1000)),
        "walk_weights": (lambda: [walk_weights(a) for a in first_1000], len(first_1000)),
        "learned paths": (lambda: [learned_paths(a) for a in first_1000], len(first_1000)),
        **{
            f"{walk}, TAS and importance": (
                lambda walk=walk: [WALKS[walk](graph_of(a).graph) for a in first_1000],
                len(first_1000),
            )
            for walk in ("flow", "paths")
        },
    }
    methods["naive: dense solve of flow"] = (
        lambda: [dense_tas(graph_of(a).graph, "flow", "linear") for a in first_20],
        len(first_20),
    )
    if short:
        methods["naive: list of paths (at most 20,000)"] = (lambda: [listed_walk_weights(a) for a in short], len(short))
    operations = float(np.mean([len(a.topology.operations) for a in population]))
    graphs = float(np.mean([len({(p.operations, p.output) for p in a.points}) for a in population]))
    for repeat in range(repeats):
        for method, (function, count) in methods.items():
            seconds = cpu(function)
            yield {
                "part": "speed",
                "what": method,
                "of": name,
                "operations": operations,
                "graphs_each": graphs,
                "repeat": repeat,
                "count": count,
                "cpu_seconds": seconds,
                "per_cpu_second": count / max(seconds, 1e-9),
            }


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
    timed, checked = frame[frame.part == "speed"], frame[frame.part == "check"]
    sizes = timed.groupby("of", sort=False)[["operations", "graphs_each"]].first()
    print(f"{options.population:,} architectures of 4 levels: operations, and different graphs among the levels")
    print(sizes.round(1).to_string())
    print("\nArchitectures a second of CPU, median of repeats")
    table = timed.pivot_table(index="what", columns="of", values="per_cpu_second", aggfunc="median", sort=False)
    print(table.round(1).map("{:,.1f}".format).to_string())
    print("\nChecks: largest deviation")
    passed = checked.deviation <= checked.bound
    outcome = checked.assign(passed=passed.map({True: "yes", False: "NO"}))[
        ["of", "count", "deviation", "bound", "passed"]
    ]
    outcome.index = checked.what.str.ljust(66)
    print(
        outcome.to_string(formatters={"deviation": "{:.1e}".format, "bound": "{:.0e}".format, "count": "{:.0f}".format})
    )
    folder = Path(__file__).parent / "rows"
    folder.mkdir(exist_ok=True)
    frame.to_csv(folder / "chain.csv", index=False)
    sys.exit(not passed.all())


if __name__ == "__main__":
    main()
