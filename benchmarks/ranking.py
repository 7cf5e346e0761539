"""Rank correlation of every proxy with the results of training, on the population of population.py, and on digits.

Per space and half (even numbers: "tuning", on which the default score was chosen; odd: "report"): Kendall τ of every
proxy with the anytime accuracy and with the negative anytime loss, raw, with size removed (see nas.audit.audit), and
among candidates with matched MACs; the noise ceiling, τ between trainings of the same candidates with different seeds;
paired bootstrap differences of the default score to every other proxy; CPU seconds per network, and the ratio of NASWOT
to the default score.

The noise ceiling is no upper bound: it compares two trainings, and a score without noise may correlate better with
their mean. It uses the repeated candidates of both halves.

The table of digits_cells.py is the space `cells`, with all of its networks in the report half, because no score was
chosen on it. It has only proxies that need no weights.

Scores of expensive proxies are stored in rows/proxy_scores.csv and computed once. Times are measured anew in every run,
on one thread; on each network, the proxies run in turn. Writes rows/ranking_HALF.csv.

    python benchmarks/ranking.py [--population rows/population.csv] [--half report] [--proxy dtmc --proxy naswot …]
"""

from __future__ import annotations

import argparse
import math
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from bootstrap import bootstrap_difference, bootstrap_interval
from digits_cells import DATA, EPOCHS, OPTIONS, enumerated
from digits_cells import ROWS as DIGITS
from population import HIGH, LOW, read

from evaluators.training.evaluator import Training
from nas.audit.audit import Sample, audit, sizes_of
from nas.audit.statistics import kendall_tau, size_residuals
from nas.plugins import load_plugin, trust_named
from nas.proxies.contract import Proxy, load_proxy
from nas.representation.architecture import Architecture, macs
from nas.representation.elements import Task
from nas.screening.constraints import Constraints
from nas.screening.proposals import Proposal
from nas.screening.screener import Screener
from nas.seeds import seed
from nas.spaces.choices import at_random
from results.front import anytime_accuracy

ROWS = Path(__file__).parent / "rows"
PROXIES = (
    "dtmc",
    "walk_weights",
    "learned_paths",
    "macs",
    "params",
    "depth",
    "count",
    "nn_mass",
    "naswot",
    "synflow",
    "zico",
)
REFERENCES = 150  # random architectures of a space, to fit the effect of size
RESAMPLES = 2_000
TIMED = 10  # networks per space on which proxies are timed
CONTROLS = {"learned_paths": f"{Path(__file__).parent / 'controls.py'}:learned_paths"}


def named(name: str) -> Proxy:
    """An installed proxy, or a control of controls.py."""
    spec = CONTROLS.get(name, name)
    trust_named(spec)
    return load_proxy(spec)


def digits(path: Path) -> pd.DataFrame:
    """The trained networks of a table of digits_cells.py, in the columns of :func:`population.read`.

    Budgets are between the median cheapest point and the most expensive point.
    """
    table = pd.read_csv(path)
    table = table[table.epochs == EPOCHS[-1]]
    by_choices = {choices: rows.sort_values("level") for choices, rows in table.groupby([*OPTIONS, "seed"], sort=False)}
    low, high = table[table.level == 0].macs.median(), table.macs.max()
    rows = []
    for number, network in enumerate(enumerated(Training(DATA).info().task)[0]):
        for repeat in range(2):
            found = by_choices.get((*network.choices[0].values(), repeat))
            if found is not None:
                macs_, accuracy, loss = (found[name].to_numpy(float) for name in ("macs", "accuracy", "loss"))
                rows.append(
                    {
                        "space": "cells",
                        "group": "free",
                        "number": 2 * number + 1,
                        "repeat": repeat,
                        "key": network.architecture.key,
                        "macs": macs_,
                        "loss": loss,
                        "anytime_accuracy": anytime_accuracy(macs_, accuracy, low=low, high=high, floor=0.1),
                        "low": low,
                        "high": high,
                        "architecture": network.architecture,
                    }
                )
    return pd.DataFrame(rows)


def references(space: str, task: Task) -> list[Architecture]:
    """Random architectures of a space within the population's limits, equal in every run; all of `cells`."""
    if space == "cells":
        return [network.architecture for network in enumerated(task)[0]]
    screener = Screener(
        {space: load_plugin("nas.search_spaces", space)()},
        task,
        proxy=("macs", load_proxy("macs")),
        constraints=Constraints(max_macs=HIGH, low=LOW),
    )
    decide, architecture_by_key = at_random(np.random.default_rng(seed("ranking references", space))), {}
    while len(architecture_by_key) < REFERENCES:
        proposal = screener.propose(decide)
        if isinstance(proposal, Proposal):
            architecture_by_key.setdefault(proposal.key, proposal.architecture)
    return list(architecture_by_key.values())


class Scores:
    """Scores of architectures by proxies. Scores of proxies that need weights are computed once and stored in a CSV."""

    def __init__(self, path: Path):
        self.path = path
        rows = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["proxy", "key", "score"])
        self.stored = {(r.proxy, r.key): r.score for r in rows.itertuples()}

    def of(self, name: str, architectures: list[Architecture]) -> np.ndarray:
        """Scores of the architectures by one proxy, shape (N,)."""
        proxy, new = named(name), []
        if proxy.needs == "topology":
            return np.array([proxy(architecture) for architecture in architectures])
        for architecture in architectures:
            if (name, architecture.key) not in self.stored:
                self.stored[name, architecture.key] = score = proxy(architecture)
                new.append({"proxy": name, "key": architecture.key, "score": score})
        if new:
            pd.DataFrame(new).to_csv(self.path, mode="a", index=False, header=not self.path.exists())
        return np.array([self.stored[name, a.key] for a in architectures])


def times(names: list[str], architectures: list[Architecture]) -> dict[str, float]:
    """Median CPU seconds of every proxy on the same architectures, in turns, on one thread.

    As in a search, each architecture is scored for the first time, and only its costs are computed before.
    """
    proxies, taken = {name: named(name) for name in names}, {name: [] for name in names}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for architecture in architectures:
        for name, proxy in proxies.items():
            fresh = [
                Architecture.from_json(architecture.to_json()) for _ in range(20 if proxy.needs == "topology" else 1)
            ]
            for one in fresh:
                macs(one)
            started = time.process_time()
            for one in fresh:
                proxy(one)
            taken[name].append((time.process_time() - started) / len(fresh))
    torch.set_num_threads(threads)
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


def measures(rows: pd.DataFrame) -> pd.DataFrame:
    """Per training: anytime accuracy, and the negative anytime loss in nats."""

    def of(row: Any) -> pd.Series:
        loss = anytime_accuracy(row.macs, -row.loss, low=row.low, high=row.high, floor=-math.log(10))
        return pd.Series({"accuracy": row.anytime_accuracy, "-loss": loss})

    return rows[["key", "repeat"]].join(rows.apply(of, axis=1))


def ceiling(values: pd.DataFrame, keys: list[str], measure: str) -> tuple[float, float, float, int]:
    """τ between trainings with different seeds, mean over pairs of seeds; its interval; number of candidates."""
    table = values[values.key.isin(keys)].pivot_table(index="key", columns="repeat", values=measure).dropna()
    if len(table) < 5 or table.shape[1] < 2:
        return math.nan, math.nan, math.nan, len(table)
    pairs = list(combinations(table.columns, 2))

    def tau(frame: pd.DataFrame) -> float:
        return float(np.mean([kendall_tau(frame[a], frame[b]) for a, b in pairs]))

    rng = np.random.default_rng(seed("ceiling", measure))
    drawn = [tau(table.iloc[rng.integers(len(table), size=len(table))]) for _ in range(500)]
    return tau(table), *np.nanquantile(drawn, (0.025, 0.975)), len(table)


def rank(
    frame: pd.DataFrame, names: list[str], scores: Scores, half: str, seconds: dict[str, float]
) -> list[dict[str, Any]]:
    """The rows of one half. seconds: CPU time of every proxy."""
    out: list[dict[str, Any]] = []
    values = measures(frame)
    mean = values.groupby("key")[["accuracy", "-loss"]].mean()
    task = frame.architecture.iloc[0].task
    for space in frame.space.unique():
        chosen = frame[(frame.space == space) & (frame.number % 2 == (half == "report"))].drop_duplicates("key")
        sample = references(space, task)
        architectures = list(chosen.architecture)
        size, size_R = (np.array([sizes_of(a) for a in of]) for of in (architectures, sample))
        trained = Sample(proxies={n: scores.of(n, architectures) for n in names}, sizes=size)
        reference = Sample(proxies={n: scores.of(n, sample) for n in names}, sizes=size_R)
        matched = (chosen.group == "matched").to_numpy()
        for measure in ("accuracy", "-loss"):
            target = mean.loc[chosen.key, measure].to_numpy()
            setting = {"space": space, "half": half, "measure": measure}
            top, top_low, top_high, count = ceiling(values, list(frame[frame.space == space].key), measure)
            out.append(setting | {"proxy": "noise ceiling", "n": count, "tau": top, "low": top_low, "high": top_high})
            audited = audit(
                trained, target, reference, rng=np.random.default_rng(seed("audit", space)), resamples=RESAMPLES
            )
            residual_target = size_residuals(target, size, target, size)
            for row in audited:
                rng = np.random.default_rng(seed("ranking", space, row.proxy))
                ours, theirs = trained.proxies[names[0]], trained.proxies[row.proxy]
                raw = bootstrap_difference(ours, theirs, target, rng=rng, resamples=RESAMPLES)
                residual = [
                    size_residuals(trained.proxies[n], size, reference.proxies[n], size_R)
                    for n in (names[0], row.proxy)
                ]
                removed = bootstrap_difference(*residual, residual_target, rng=rng, resamples=RESAMPLES)
                matched_values = theirs[matched], target[matched]
                alike = kendall_tau(*matched_values)
                alike_low, alike_high = bootstrap_interval(*matched_values, rng=rng, resamples=RESAMPLES)
                out.append(
                    setting
                    | {
                        "proxy": row.proxy,
                        "n": row.n,
                        "tau": row.tau,
                        "low": row.tau_low,
                        "high": row.tau_high,
                        "size removed": row.tau_size_removed,
                        "removed low": row.size_removed_low,
                        "removed high": row.size_removed_high,
                        "matched n": int(matched.sum()),
                        "matched": alike,
                        "matched low": alike_low,
                        "matched high": alike_high,
                        "verdict": row.verdict,
                        **_difference(f"{names[0]} ahead", raw),
                        **_difference(f"{names[0]} ahead, size removed", removed),
                        "seconds": seconds[row.proxy],
                    }
                )
    return out


def _difference(name: str, interval: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name} low", f"{name} high"), interval))


def _formatted(value: float, low: float, high: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def main() -> None:
    """Score, rank, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--population", type=Path, default=ROWS / "population.csv")
    parser.add_argument("--digits", type=Path, default=DIGITS, help="table of digits_cells.py, if it exists")
    parser.add_argument("--half", choices=("tuning", "report"), default="report")
    parser.add_argument("--proxy", action="append", help="the first is compared with the rest")
    parser.add_argument("--scores", type=Path, default=ROWS / "proxy_scores.csv")
    options = parser.parse_args()
    names, scores, frame = options.proxy or list(PROXIES), Scores(options.scores), read(options.population)
    seconds = times(names, [a for _, group in frame.groupby("space") for a in group.architecture[:TIMED]])
    results = pd.DataFrame(rank(frame.assign(low=LOW, high=HIGH), names, scores, options.half, seconds))
    if options.half == "report" and options.digits.exists():
        light = [name for name in names if named(name).needs == "topology"]
        of_cells = pd.DataFrame(rank(digits(options.digits), light, scores, options.half, seconds))
        results = pd.concat([results, of_cells], ignore_index=True)
    for (space, measure), rows in results.groupby(["space", "measure"], sort=False):
        print(f"\n{space}, {options.half} half, τ with {measure}; n = {rows.n.max():.0f}")
        ahead = f"{names[0]} ahead"
        table = pd.DataFrame(
            {
                "proxy": rows.proxy,
                "raw": [_formatted(*v) for v in rows[["tau", "low", "high"]].to_numpy()],
                "size removed": [
                    _formatted(*v) for v in rows[["size removed", "removed low", "removed high"]].to_numpy()
                ],
                "matched MACs": [_formatted(*v) for v in rows[["matched", "matched low", "matched high"]].to_numpy()],
                ahead: [_formatted(*v) for v in rows[[ahead, f"{ahead} low", f"{ahead} high"]].to_numpy()],
                "verdict": rows.verdict.fillna(""),
                "ms": [("" if math.isnan(s) else f"{1e3 * s:.3g}") for s in rows.seconds],
            }
        )
        print(table.to_string(index=False))
    if "naswot" in names:
        print(f"\nNASWOT takes {seconds['naswot'] / seconds[names[0]]:,.0f} times as long as {names[0]}.")
    results.round(9).to_csv(ROWS / f"ranking_{options.half}.csv", index=False)


if __name__ == "__main__":
    main()
