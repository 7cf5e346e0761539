"""Candidates that a search trains until it is good, by strategy, proxy and order of training.

Simulates searches with the product's own code on a table, see tables.py: the report half of the population, the
networks of the space `cells` on digits, or a file of NATS-Bench (public_tables.py). Two goals:

- *front*: the hypervolume of the front over all points that random search has after ``--after`` candidates (the median
  of 400 searches);
- *top*: a candidate among the best 1 % of the table by anytime accuracy, at least three candidates.

Orders: "none" is a search without a proxy and without random controls; "share" is the product, whose proxy chooses a
share of the candidates that depends on their accuracies; "always" lets the proxy choose all but the controls. Proxies:
installed ones; ``-NAME`` is one with the opposite sign; "constant"; "noise", random scores that differ between seeds.

Appends a row per search to rows/strategies.csv and skips the searches in that file. Prints the median number of
candidates over seeds, and its ratio to the same strategy without a proxy, with 95 % bootstrap intervals.

    python benchmarks/strategies.py [--table cells|nats=FILE --after 100] [--seeds 20] [--proxy dtmc] [--strategy tpe] …
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from resumable import Rows
from tables import ALWAYS, NO_ORDER, PRODUCT, ROWS, Hypervolumes, Table, read_cells, read_nats, read_population, search

from nas.plugins import load_plugin, trust_named
from nas.proxies.contract import load_proxy
from nas.seeds import seed as derived_seed

TABLES = {"population": read_population, "cells": read_cells, "nats": read_nats}
STRATEGIES = ("random", "tpe", "nsga2", "guided", "evolution")
PROXIES = ("dtmc", "-dtmc", "noise")
ORDERS = {"none": NO_ORDER, "share": PRODUCT, "always": ALWAYS}
TARGET_RUNS = 400  # number of random searches; their median is the goal
COLUMNS = ("table", "content", "goal", "strategy", "proxy", "order", "seed", "limit", "front", "top", "seconds")


def scores_by(proxy: str, table: Table) -> np.ndarray:
    """Scores of all candidates by a proxy other than "noise", shape (N,)."""
    if proxy.startswith("-"):
        return -scores_by(proxy[1:], table)
    if proxy in ("constant", "none"):
        return np.zeros(len(table))
    trust_named(proxy)
    score = load_proxy(proxy)
    return np.array([score(build()) for build in table.build])


def goals(table: Table, hypervolumes: Hypervolumes, after: int) -> tuple[float, float]:
    """The hypervolume and the anytime accuracy to reach."""
    rng = np.random.default_rng(derived_seed(0, "goal"))
    front = [hypervolumes.of(rng.permutation(len(table))[:after].tolist()) for _ in range(TARGET_RUNS)]
    best = max(3, len(table) // 100)
    return float(np.median(front)), float(np.sort(table.values)[-best])


def needed(table: Table, hypervolumes: Hypervolumes, goal: tuple[float, float], searched: Iterable[list[int]]) -> Any:
    """Candidates until each goal is reached, None if it is not. Ends the search as soon as both are."""
    front = top = None
    done = 0
    for trained in searched:
        for count in range(done + 1, len(trained) + 1):
            if top is None and table.values[trained[count - 1]] >= goal[1]:
                top = count
            if front is None and hypervolumes.of(trained[:count]) >= goal[0]:
                front = count
        done = len(trained)
        if front and top:
            break
    return front, top


def summary(rows: pd.DataFrame, goal: str) -> pd.DataFrame:
    """Medians over seeds, the share of seeds that arrive, and ratios to the strategy without proxy."""
    rng = np.random.default_rng(derived_seed(0, "bootstrap"))
    numbers = {
        key: group.sort_values("seed")[goal].fillna(math.inf).to_numpy(float)
        for key, group in rows.groupby(["strategy", "proxy", "order"], sort=False)
    }
    lines = []
    for (strategy, proxy, order), of in numbers.items():
        line = {"strategy": strategy, "proxy": proxy, "order": order, "seeds": len(of), "median": _median(of)}
        line["arrived"] = f"{np.isfinite(of).mean():.0%}"
        medians = _medians(of, rng)
        line["interval"] = _interval(medians)
        if (base := numbers.get((strategy, "none", "none"))) is not None and order != "none":
            line["ratio"] = _median(of) / _median(base) if np.isfinite(_median(base)) else math.nan
            with np.errstate(invalid="ignore"):
                line["ratio interval"] = _interval(medians / _medians(base, rng))
        lines.append(line)
    return pd.DataFrame(lines).round(2).astype(object).fillna("")


def _median(numbers: np.ndarray) -> float:
    """The median; infinite if half of the searches do not arrive."""
    return float(np.quantile(numbers, 0.5, method="inverted_cdf"))


def _medians(numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.quantile(rng.choice(numbers, (2000, len(numbers))), 0.5, axis=1, method="inverted_cdf")


def _interval(values: np.ndarray) -> str:
    low, high = np.quantile(values[~np.isnan(values)], (0.025, 0.975), method="nearest")
    return f"{low:.3g} to {high:.3g}" if math.isfinite(high) else f"{low:.3g} to never"


def run(table: Table, options: argparse.Namespace) -> pd.DataFrame:
    """The rows of all searches on a table; simulates the missing ones and appends each to the file."""
    hypervolumes, file = Hypervolumes(table), Rows(options.out, COLUMNS)
    goal = goals(table, hypervolumes, options.after)
    content = sha256(repr((table.values.tolist(), list(table.choices))).encode()).hexdigest()[:8]
    setting = {"table": table.name, "content": content, "limit": options.limit}
    methods = [("none", "none"), *((proxy, order) for proxy in options.proxy for order in options.order)]
    scores = {proxy: scores_by(proxy, table) for proxy, _ in methods if proxy != "noise"}
    done = file.of(setting)
    present = set(zip(done.strategy, done.proxy, done.order, done.seed))
    for seed in range(options.seeds):
        for strategy in options.strategy:
            for proxy, order in methods:
                if (strategy, proxy, order, seed) in present:
                    continue
                noise = np.random.default_rng(derived_seed(seed, "noise")).random(len(table))
                started = time.process_time()
                searched = search(
                    table,
                    load_plugin("nas.strategies", strategy),
                    scores.get(proxy, noise),
                    ORDERS[order],
                    seed=derived_seed(seed, strategy, "simulated") % 2**31,
                    limit=options.limit,
                )
                front, top = needed(table, hypervolumes, goal, searched)
                row = setting | {"strategy": strategy, "proxy": proxy, "order": order, "seed": seed, "goal": goal[0]}
                row |= {"front": front, "top": top, "seconds": round(time.process_time() - started, 3)}
                file.append([row])
    rows = file.of(setting)
    return rows[rows.seed < options.seeds]


def main() -> None:
    """Simulate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", default="population", help="population, cells, or nats=FILE")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--strategy", action="append", help="by default all")
    parser.add_argument("--proxy", action="append", help=f"by default {', '.join(PROXIES)}")
    parser.add_argument("--order", action="append", choices=("share", "always"), help="by default share")
    parser.add_argument("--after", type=int, default=60, help="candidates of the random search that sets the goal")
    parser.add_argument("--limit", type=int, default=400, help="largest number of candidates per search")
    parser.add_argument("--out", type=Path, default=ROWS / "strategies.csv")
    options = parser.parse_args()
    options.strategy, options.proxy = options.strategy or STRATEGIES, options.proxy or PROXIES
    options.order = options.order or ["share"]
    name, _, path = options.table.partition("=")
    if name not in TABLES or (name == "nats") != Path(path).is_file():
        parser.error(f"--table takes population, cells, or nats=FILE with an existing file. Got {options.table}.")
    table = TABLES[name](*filter(None, [path]))
    if len(table) <= options.after:
        parser.error(f"the table must have more candidates than --after {options.after}; got {len(table)}")
    rows = run(table, options)
    for goal in ("front", "top"):
        print(f"\n{len(table)} candidates; candidates trained until the goal {goal!r} is reached:")
        print(summary(rows, goal).to_string(index=False))


if __name__ == "__main__":
    main()
