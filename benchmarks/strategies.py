"""How many candidates a search trains until it has what random search has after 60, by strategy and order of training.

Plays searches over a *table*: the free candidates of population.py (those of matched MACs are no sample of a space),
other seeds of a network averaged. What is to be reached is the hypervolume of the front over all points of all
candidates trained. ``--half report`` leaves out the half that the default score was chosen on.

A proposal stands for the candidate of the table that it resembles most among those not trained: by how many of that
candidate's choices it answers alike, in standard deviations above what random answers would. (By the share of choices,
random proposals would stand for candidates of few choices, which are small.) "random" draws from the table; "random,
mapped" proposes at random as the strategies do, so that what this way of standing for does is seen apart.

A generation trains 9 of the 36 that were proposed: the first ones (order "none"); by rank of proxy and MACs ("proxy");
or by what the surrogate of `guided` expects, alone ("surrogate") or knowing the proxy ("surrogate+proxy"); where there
is an order, with a random control in every tenth place, as the driver does. All training is complete: nothing is
stopped early.

Writes a row per search to rows/strategies.csv; searches that are there already are not played again. Prints the
median number needed over seeds and its ratio to random's, with 95 % bootstrap intervals.

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
from nas.plugins import load_plugin
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
TARGET_RUNS = 400  # random searches whose median after so many candidates is the target


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """A population of trained candidates.

    choices: of every candidate, all among the domains. codes: their indices, shape (N, names), -1 where a candidate
    has no such name. values: anytime accuracy. points: MACs and accuracies of every candidate.
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
        """The candidate among those left that the next proposal of a strategy stands for."""
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
    """What a search has reached: the hypervolume of its front.

    Log MACs count from ``low`` on, to 1 % above the dearest point: cheaper points are not better than those of that
    cost, as in the anytime accuracy. low: the dearest among the smallest points of all candidates.
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
        """By these candidates together."""
        costs, accuracies = (np.concatenate([of[i] for i in trained]) for of in (self.costs, self.accuracies))
        return hypervolume(costs, accuracies, **self.corner)

    def curve(self, trained: Sequence[int]) -> np.ndarray:
        """After each of the candidates, in their order."""
        return np.array([self.by(trained[: n + 1]) for n in range(len(trained))])


def target(reached: Reached, after: int) -> float:
    """The median of what random searches have reached after so many candidates."""
    rng, count = np.random.default_rng(derived_seed(0, "target")), len(reached.costs)
    return float(np.median([reached.by(rng.permutation(count)[:after].tolist()) for _ in range(TARGET_RUNS)]))


def play(
    table: Table, method: tuple[str, str], scores: np.ndarray, largest: np.ndarray, seed: int, limit: int
) -> list[int]:
    """The candidates that one search trains, in order. scores, largest: by the proxy, and MACs, of every candidate."""
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
        wanted = min(GENERATION, limit - len(trained))
        if name == "random":
            pool = left[:POOL].tolist()
        else:
            asked = min(POOL, strategy.pool_limit or POOL)
            pool = list(dict.fromkeys(table.resembling(strategy, left) for _ in range(asked)))
            pool += [i for i in left.tolist() if i not in pool][: max(0, wanted - len(pool))]
        ranked = ordered(table, strategy, order, pool, scores, largest)
        chosen = ranked[:wanted]
        if order != "none":
            controls = [i for i in left.tolist() if i not in chosen]
            mixed = with_controls(ranked, controls, every=CONTROL_EVERY, start=len(trained))
            chosen = list(dict.fromkeys(i for i, _ in mixed))[:wanted]
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
    """A pool in order of training."""
    if order.startswith("surrogate"):
        given = [strategy.score(table.architectures[i], float(scores[i]) if "proxy" in order else None) for i in pool]
        if None not in given:
            return [pool[i] for i in order_of_training(given, np.ones(len(pool)), keys=pool)]
        if order == "surrogate":
            return pool
    if order == "none":
        return pool
    return [pool[i] for i in order_of_training(scores[pool], largest[pool], keys=pool)]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Median number needed and its ratio to random's without an order, with 95 % bootstrap intervals over seeds."""
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
                "needed": _told(np.median(numbers), "g"),
                "interval": _interval(medians, "g"),
                "ratio": _told(np.median(numbers) / np.median(needed["random", "none"]), ".2f"),
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
    return f"{_told(low, form)} to {_told(high, form)}"


def _told(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "never"


def main() -> None:
    """Play, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--population", type=Path, default=ROWS / "population.csv")
    parser.add_argument("--half", choices=("all", "report"), default="all")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--proxy", default="dtmc")
    parser.add_argument("--after", type=int, default=60, help="candidates of the random search to be matched")
    parser.add_argument("--limit", type=int, default=180, help="candidates after which a search gives up")
    parser.add_argument("--out", type=Path, default=ROWS / "strategies.csv")
    options = parser.parse_args()
    table = read_table(options.population, options.half)
    if len(table) <= options.after:
        parser.error(f"the table must hold more than the {options.after} candidates to be matched; got {len(table)}")
    rows = run(table, options.population.name, options)
    print(
        f"{len(table)} candidates; hypervolume to reach: {rows.target.iloc[0]:.4f}, what random search has after "
        f"{options.after} (median). Trained until it is reached:"
    )
    print(summary(rows).to_string(index=False))


def run(table: Table, name: str, options: argparse.Namespace) -> pd.DataFrame:
    """The rows of all searches; plays those that the file does not hold, and adds each as it is done."""
    proxy = load_proxy(options.proxy)
    scores = np.array([proxy(architecture) for architecture in table.architectures])
    largest = np.array([macs(architecture)[-1] for architecture in table.architectures])
    reached, limit = Reached(table), min(options.limit, len(table))
    goal = target(reached, options.after)
    content = sha256(repr((table.values.tolist(), [a.key for a in table.architectures])).encode()).hexdigest()[:8]
    about = {"table": name, "content": content, "proxy": options.proxy, "after": options.after, "limit": limit}
    about["target"] = goal
    done = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame(columns=list(about))
    same = [(done[column] == value) if column != "target" else True for column, value in about.items()]
    done = done[np.logical_and.reduce([np.broadcast_to(s, len(done)) for s in same])] if len(done) else done
    present = set(zip(done.get("strategy", ()), done.get("order", ()), done.get("seed", ())))
    for seed in range(options.seeds):
        for method in METHODS:
            if (*method, seed) in present:
                continue
            curve = reached.curve(play(table, method, scores, largest, seed, limit))
            hits = np.flatnonzero(curve >= goal)
            needed = int(hits[0]) + 1 if hits.size else None
            row = about | {"strategy": method[0], "order": method[1], "seed": seed, "needed": needed}
            row |= {f"after {n}": round(float(curve[min(n, limit) - 1]), 6) for n in (12, 30, 60)}
            frame = pd.DataFrame([row])
            frame.to_csv(options.out, mode="a", index=False, header=not options.out.exists())
            done = pd.concat([done, frame]) if len(done) else frame
    rows = done[done.seed < options.seeds]
    return rows.assign(needed=rows.needed.astype(float)).sort_values("seed", kind="stable")


if __name__ == "__main__":
    main()
