"""Candidates that a search trains to match random search after 60, by strategy and order of training.

Simulates searches on a *table* of trained candidates: the free candidates of population.py (candidates with matched
MACs are no random sample of a space), averaged over seeds. The target is a hypervolume of the front over all points of
all trained candidates. ``--half report`` excludes the half on which the default score was chosen.

A proposal is mapped to the most similar untrained candidate of the table: similarity is the number of the candidate's
choices with equal answers, in standard deviations above the mean of random answers. (The share of equal choices would
favour candidates with few choices, which are small.) "random" draws from the table. "random, mapped" proposes at random
and is mapped like the strategies; it shows the effect of the mapping.

A generation trains 9 of 36 proposals: the first 9 (order "none"), the best by rank of proxy and MACs ("proxy"), or the
best by the surrogate of `guided`, without the proxy ("surrogate") or with it ("surrogate+proxy"). As in a search, every
tenth candidate of an ordered generation is a random control. No training is stopped early.

Appends a row per search to rows/strategies.csv and skips the searches in that file. Prints the median number of
candidates over seeds and its ratio to random search, with 95 % bootstrap intervals.

    python benchmarks/strategies.py [--population rows/population.csv] [--seeds 20] [--proxy dtmc] [--after 60]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from population import read

from nas.funnel.generation import CONTROL_EVERY
from nas.funnel.ranking import order_of_training, with_controls
from nas.plugins import load_plugin, trust_named
from nas.proxies.contract import load_proxy
from nas.representation.architecture import Architecture, macs
from nas.seeds import seed as derived_seed
from nas.spaces.choices import index_of
from nas.strategies.contract import Strategy, Trial
from results.front import hypervolume

METHODS = (
    ("random, mapped", "none"),
    *((strategy, order) for strategy in ("random", "tpe", "nsga2", "guided") for order in ("none", "proxy")),
    ("guided", "surrogate"),
    ("guided", "surrogate+proxy"),
)
GENERATION, POOL = 9, 36
ROWS = Path(__file__).parent / "rows"
TARGET_RUNS = 400  # number of random searches; their median is the target


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """A population of trained candidates.

    choices: choices of every candidate, within the domains. codes: their indices, shape (N, names); -1 if a candidate
    has no choice of this name. values: anytime accuracies. points: MACs and accuracies of every candidate.
    """

    architectures: tuple[Architecture, ...]
    choices: tuple[dict[str, Any], ...]
    values: np.ndarray
    points: tuple[tuple[Sequence[float], Sequence[float]], ...]
    domains: dict[str, tuple[Any, ...]] = field(init=False)
    codes: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        seen: dict[str, list[Any]] = {}
        for choices in self.choices:
            for name, value in choices.items():
                if index_of(tuple(seen.setdefault(name, [])), value) < 0:
                    seen[name].append(value)
        domains = {name: tuple(sorted(options, key=lambda o: (repr(type(o)), o))) for name, options in seen.items()}
        codes = [[index_of(domains[n], c[n]) if n in c else -1 for n in domains] for c in self.choices]
        object.__setattr__(self, "domains", domains)
        object.__setattr__(self, "codes", np.array(codes))

    def __len__(self) -> int:
        return len(self.values)

    def resembling(self, strategy: Strategy, left: np.ndarray) -> int:
        """The remaining candidate that the next proposal of a strategy is mapped to."""
        decide = strategy.ask()
        answers = np.array([decide(name, options) for name, options in self.domains.items()])
        codes, chance = self.codes[left], 1 / np.array([len(options) for options in self.domains.values()])
        asked = codes >= 0
        deviation = np.sqrt(np.maximum(1e-12, asked @ (chance * (1 - chance))))
        return int(left[np.argmax((((codes == answers) & asked).sum(axis=1) - asked @ chance) / deviation)])


def read_table(path: str | Path, half: str) -> Table:
    """A table from the CSV of a population; see :mod:`population`. half: "all" or "report"."""
    frame = read(path)
    frame = frame[(frame.group == "free") & ((frame.number % 2 == 1) | (half == "all"))]
    first = frame.drop_duplicates("key")
    rows = dict(list(frame.groupby("key")))
    several = first.space.nunique() > 1
    return Table(
        architectures=tuple(first.architecture),
        choices=tuple(
            {f"{space}/{name}": value for name, value in choices.items()} | ({"space": space} if several else {})
            for space, choices in zip(first.space, first.choices)
        ),
        values=np.array([rows[key].anytime_accuracy.mean() for key in first.key]),
        points=tuple((macs, np.mean(list(rows[key].accuracy), axis=0)) for key, macs in zip(first.key, first.macs)),
    )


class Reached:
    """Hypervolume of the front of a search.

    Log MACs from ``low`` to 1 % above the most expensive point. As in the anytime accuracy, points below ``low`` count
    as points at ``low``, which is the largest cost among the smallest points of all candidates.
    """

    def __init__(self, table: Table):
        low = max(min(costs) for costs, _ in table.points)
        self.costs = [np.maximum(low, costs) for costs, _ in table.points]
        self.accuracies = [np.asarray(accuracies) for _, accuracies in table.points]
        self.corner = {
            "reference_cost": 1.01 * max(map(np.max, self.costs)),
            "reference_accuracy": min(map(np.min, self.accuracies)),
        }

    def by(self, trained: Sequence[int]) -> float:
        """The hypervolume of all points of these candidates."""
        costs, accuracies = (np.concatenate([of[i] for i in trained]) for of in (self.costs, self.accuracies))
        return hypervolume(costs, accuracies, **self.corner)

    def curve(self, trained: Sequence[int]) -> np.ndarray:
        """The hypervolume after each of the candidates, in order."""
        return np.array([self.by(trained[: n + 1]) for n in range(len(trained))])


def target(reached: Reached, after: int) -> float:
    """The median hypervolume of random searches after this number of candidates."""
    rng, count = np.random.default_rng(derived_seed(0, "target")), len(reached.costs)
    return float(np.median([reached.by(rng.permutation(count)[:after].tolist()) for _ in range(TARGET_RUNS)]))


def play(
    table: Table, method: tuple[str, str], scores: np.ndarray, largest: np.ndarray, seed: int, limit: int
) -> list[int]:
    """The candidates that one search trains, in order. scores: by proxy. largest: MACs of every candidate."""
    name, order = method
    make = load_plugin("nas.strategies", name.partition(",")[0])
    rng = np.random.default_rng(derived_seed(seed, name, order))
    history: list[Trial] = []
    trained: list[int] = []
    number = 0
    while len(trained) < limit:
        strategy = make(seed=derived_seed(seed, "strategy", number), history=history)
        left = np.setdiff1d(np.arange(len(table)), trained)
        rng.shuffle(left)
        size = min(GENERATION, limit - len(trained))
        if name == "random":
            pool = left[:POOL].tolist()
        else:
            asked = min(POOL, strategy.pool_limit or POOL)
            pool = list(dict.fromkeys(table.resembling(strategy, left) for _ in range(asked)))
            pool += [i for i in left.tolist() if i not in pool][: max(0, size - len(pool))]
        ranked = ordered(table, strategy, order, pool, scores, largest)
        chosen = ranked[:size]
        if order != "none":
            controls = [i for i in left.tolist() if i not in chosen]
            mixed = with_controls(ranked, controls, every=CONTROL_EVERY, start=len(trained))
            chosen = list(dict.fromkeys(i for i, _ in mixed))[:size]
        for index in chosen:
            choices = table.choices[index]
            history.append(
                Trial(
                    choices=choices,
                    domains={n: table.domains[n] for n in choices},
                    value=float(table.values[index]),
                    generation=number,
                    architecture=table.architectures[index],
                    proxy=float(scores[index]),
                )
            )
        trained += chosen
        number += 1
    return trained


def ordered(
    table: Table, strategy: Strategy, order: str, pool: list[int], scores: np.ndarray, largest: np.ndarray
) -> list[int]:
    """A pool in the order of training."""
    if order.startswith("surrogate"):
        expected = [
            strategy.score(table.architectures[i], float(scores[i]) if "proxy" in order else None) for i in pool
        ]
        if None not in expected:
            return [pool[i] for i in order_of_training(expected, np.ones(len(pool)), keys=pool)]
        if order == "surrogate":
            return pool
    if order == "none":
        return pool
    return [pool[i] for i in order_of_training(scores[pool], largest[pool], keys=pool)]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Median number of candidates and its ratio to unordered random search; 95 % bootstrap intervals over seeds."""
    rng = np.random.default_rng(derived_seed(0, "bootstrap"))
    needed = {key: group.needed.to_numpy(float) for key, group in rows.groupby(["strategy", "order"], sort=False)}
    needed = {key: np.where(np.isnan(n), math.inf, n) for key, n in needed.items()}
    base = _medians(needed["random", "none"], rng)
    lines = []
    for (strategy, order), numbers in needed.items():
        medians = _medians(numbers, rng)
        both = np.isfinite(medians) & np.isfinite(base)
        ratios = np.where(both, medians / np.where(both, base, 1.0), math.inf)
        lines.append(
            {
                "strategy": strategy,
                "order": order,
                "needed": _formatted(np.median(numbers), "g"),
                "interval": _interval(medians, "g"),
                "ratio": _formatted(np.median(numbers) / np.median(needed["random", "none"]), ".2f"),
                "ratio interval": _interval(ratios, ".2f"),
                "seeds": len(numbers),
                "not reached": int(np.isinf(numbers).sum()),
            }
        )
    return pd.DataFrame(lines)


def _medians(numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.median(rng.choice(numbers, (2000, len(numbers))), axis=1)


def _interval(values: np.ndarray, form: str) -> str:
    low, high = np.quantile(values, (0.025, 0.975), method="nearest")
    return f"{_formatted(low, form)} to {_formatted(high, form)}"


def _formatted(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "never"


def main() -> None:
    """Simulate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--population", type=Path, default=ROWS / "population.csv")
    parser.add_argument("--half", choices=("all", "report"), default="all")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--proxy", default="dtmc")
    parser.add_argument("--after", type=int, default=60, help="candidates of the random search that sets the target")
    parser.add_argument("--limit", type=int, default=180, help="largest number of candidates per search")
    parser.add_argument("--out", type=Path, default=ROWS / "strategies.csv")
    options = parser.parse_args()
    table = read_table(options.population, options.half)
    if len(table) <= options.after:
        parser.error(f"the table must have more candidates than --after {options.after}; got {len(table)}")
    rows = run(table, options.population.name, options)
    print(
        f"{len(table)} candidates; target: hypervolume {rows.target.iloc[0]:.4f}, the median of random search after "
        f"{options.after}. Candidates trained until the target is reached:"
    )
    print(summary(rows).to_string(index=False))


def run(table: Table, name: str, options: argparse.Namespace) -> pd.DataFrame:
    """The rows of all searches; simulates the missing searches and appends each to the file."""
    trust_named(options.proxy)
    proxy = load_proxy(options.proxy)
    scores = np.array([proxy(architecture) for architecture in table.architectures])
    largest = np.array([macs(architecture)[-1] for architecture in table.architectures])
    reached, limit = Reached(table), min(options.limit, len(table))
    goal = target(reached, options.after)
    content = sha256(repr((table.values.tolist(), [a.key for a in table.architectures])).encode()).hexdigest()[:8]
    setting = {"table": name, "content": content, "proxy": options.proxy, "after": options.after, "limit": limit}
    setting["target"] = goal
    done = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame(columns=list(setting))
    same = [(done[column] == value) if column != "target" else True for column, value in setting.items()]
    done = done[np.logical_and.reduce([np.broadcast_to(s, len(done)) for s in same])] if len(done) else done
    present = set(zip(done.get("strategy", ()), done.get("order", ()), done.get("seed", ())))
    for seed in range(options.seeds):
        for method in METHODS:
            if (*method, seed) in present:
                continue
            curve = reached.curve(play(table, method, scores, largest, seed, limit))
            hits = np.flatnonzero(curve >= goal)
            needed = int(hits[0]) + 1 if hits.size else None
            row = setting | {"strategy": method[0], "order": method[1], "seed": seed, "needed": needed}
            row |= {f"after {n}": round(float(curve[min(n, limit) - 1]), 6) for n in (12, 30, 60)}
            frame = pd.DataFrame([row])
            frame.to_csv(options.out, mode="a", index=False, header=not options.out.exists())
            done = pd.concat([done, frame]) if len(done) else frame
    rows = done[done.seed < options.seeds]
    return rows.assign(needed=rows.needed.astype(float)).sort_values("seed", kind="stable")


if __name__ == "__main__":
    main()
