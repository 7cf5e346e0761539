"""Selection of the chain's default score: all scores that were tried, on one half of all trained networks.

Ideas of the training chain (score_ideas.py), and scores of random walks. A score of walks assigns a value to every
live operation of a level (1, or the logarithm, the root or the number of its weights), sums the values, either expected
along a walk (flow or paths) or over all paths, and averages over levels. Higher is better for all scores.

Networks: the population of population.py, in which even numbers are for choosing; the table of digits_cells.py, which
is only reported; and public tables of trained networks (public_tables.py), if their files are given, in which a hash of
the network decides the half. For each score and measure: Kendall's τ, τ over pairs with similar MACs (five bins with
equal numbers of networks), and τ after size is removed.

The tuning half prints all scores. The report half prints the chosen score, other candidates and controls with bootstrap
intervals, and paired differences to the former score and to the number of parameters; on the population also a ridge
regression of the results on the score's terms, fitted on the tuning half. Writes rows/score_selection.csv and
rows/score_confirmation.csv; rows of sources that are not read stay.

    python benchmarks/score_selection.py [--half report] [--table cells=FILE] [--table macro=FILE] …
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from controls import log_learned_paths
from numpy.typing import NDArray
from population import HIGH, LOW, read
from public_tables import READERS
from ranking import DIGITS, ROWS, digits, measures, references
from score_ideas import BEFORE, CHOSEN, OTHERS, ideas, surrogate

from nas.audit.audit import sizes_of
from nas.audit.statistics import percentile_interval, resample_counts, size_residuals
from nas.chain.graph import graph_of
from nas.chain.walks import WALKS
from nas.proxies.dtmc import walk_weights
from nas.representation.architecture import Architecture, params
from nas.representation.cost import live_weights
from nas.representation.kinds import kind
from nas.seeds import seed

Floats = NDArray[np.float64]
LIMIT = 600
"""Largest number of networks of a half of a table."""
BINS = 5
RESAMPLES = 1_000
PARAMETERS = "no chain: log of parameters, mean over levels"
CONTROLS = (PARAMETERS, "no chain: log of MACs, mean over levels", "no chain: count")
FITTED = "surrogate: ridge regression on the terms"
WEIGHS: dict[str, Callable[[int], float]] = {
    "operations": lambda weights: 1.0,
    "log weights": lambda weights: math.log(weights),
    "root of weights": lambda weights: math.sqrt(weights),
    "weights": lambda weights: float(weights),
}


def walks(architecture: Architecture) -> dict[str, float]:
    """All scores of an architecture by walks, and by size, by name."""
    topology, view = architecture.topology, graph_of(architecture)
    weights = [
        {o: w for o, w in zip(point.operations, live_weights(topology, point)) if w} for point in architecture.points
    ]
    score_by_name = {}
    for walk in ("flow", "paths"):
        visits = WALKS[walk](view.graph).visits_TN[:, list(view.operation_nodes)]
        for name, weigh in WEIGHS.items():
            met = [sum(visits[k, o] * weigh(w) for o, w in level.items()) for k, level in enumerate(weights)]
            score_by_name[f"{walk}: expected {name}"] = fmean(met)
            score_by_name[f"{walk}: log of expected {name}"] = fmean(math.log(max(1.0, m)) for m in met)
    score_by_name["paths: log of learned operations on all (learned_paths)"] = fmean(log_learned_paths(architecture))
    score_by_name[PARAMETERS] = fmean(math.log(p) for p in params(architecture))
    score_by_name["no chain: log of parameters, largest level"] = math.log(params(architecture)[-1])
    score_by_name["no chain: log of MACs, mean over levels"] = fmean(map(math.log, architecture.costs))
    learned = [sum(kind(topology.operations[o].kind).learned for o in p.operations) for p in architecture.points]
    score_by_name["no chain: count"] = fmean(learned)
    return score_by_name


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Trained networks of one space or table, in one half.

    groups: shape (N,); only networks of one group are compared. measured: results by the name of their measure, each of
    shape (N,). sample: random networks, to fit the effect of size; the trained ones if empty.
    """

    name: str
    networks: list[Architecture]
    groups: NDArray[np.str_]
    measured: dict[str, Floats]
    sample: list[Architecture]


def population(frame: pd.DataFrame, half: str) -> Iterator[Source]:
    """The spaces of a population."""
    mean = measures(frame).groupby("key")[["accuracy", "-loss"]].mean()
    for space, group in frame[frame.number % 2 == (half == "report")].groupby("space"):
        chosen = group.drop_duplicates("key")
        yield Source(
            name="cells, digits" if space == "cells" else str(space),
            networks=list(chosen.architecture),
            groups=np.full(len(chosen), ""),
            measured={measure: mean.loc[chosen.key, measure].to_numpy() for measure in mean},
            sample=references(str(space), chosen.architecture.iloc[0].task),
        )


def public(name: str, path: Path, half: str, limit: int) -> Iterator[Source]:
    """The data sets of a public table: one network of each class of isomorphic networks, in random order."""
    trained = sorted((t for t in READERS[name](path) if t.half == half), key=lambda t: t.table)
    for table, each in groupby(trained, key=lambda t: t.table):
        of_class = list({t.identity: t for t in each}.values())
        order = np.random.default_rng(seed("score_selection", table, half)).permutation(len(of_class))
        built = ((of_class[i], of_class[i].build()) for i in order)
        chosen = [(t, network) for t, network in built if network is not None][:limit]
        yield Source(
            name=table,
            networks=[network for _, network in chosen],
            groups=np.array([t.group for t, _ in chosen]),
            measured={"accuracy": np.array([t.accuracy for t, _ in chosen])},
            sample=[],
        )


class Pairs:
    """The pairs of networks within one block, for τ-b and its bootstrap. blocks: label of each network, shape (N,)."""

    def __init__(self, blocks: NDArray[np.str_]):
        self.same = blocks[:, None] == blocks[None, :]
        np.fill_diagonal(self.same, False)

    def tau(self, x: Floats, y: Floats, counts_BN: Floats | None = None) -> Floats:
        """τ-b of every resample, shape (B,); of the networks themselves without counts."""
        counts_BN = np.ones((1, len(x))) if counts_BN is None else counts_BN
        x_NN, y_NN = (np.sign(np.subtract.outer(*2 * [np.asarray(v)])).astype(np.float32) * self.same for v in (x, y))
        agree, x_untied, y_untied = (
            np.einsum("bn,bn->b", counts_BN.astype(np.float32) @ form, counts_BN)
            for form in (x_NN * y_NN, np.abs(x_NN), np.abs(y_NN))
        )
        scale = np.sqrt(x_untied * y_untied)
        return np.divide(agree, scale, out=np.full(len(counts_BN), np.nan), where=scale > 0)


def of_source(
    source: Source, names: list[str] | None, more: dict[str, Callable[[Architecture], float]]
) -> Iterator[dict[str, Any]]:
    """The rows of a source.

    names: scores with intervals and differences; all scores without them if None. more: scores of this source only.
    """
    more = {"walk_weights": walk_weights} | more
    names = names and [*names, *more]
    own, sample = (
        pd.DataFrame([ideas(a) | walks(a) | {name: of(a) for name, of in more.items()} for a in of_]).round(9)
        for of_ in (source.networks, source.sample)
    )
    sizes, sample_sizes = (np.array([sizes_of(a) for a in of]) for of in (source.networks, source.sample))
    if sample.empty:
        sample, sample_sizes = own, sizes
    residuals = {name: size_residuals(own[name], sizes, sample[name], sample_sizes) for name in names or own}
    edges = {g: np.quantile(sizes[source.groups == g, 1], np.arange(1, BINS) / BINS) for g in set(source.groups)}
    bins = np.array([f"{g} {np.searchsorted(edges[g], s, side='right')}" for g, s in zip(source.groups, sizes[:, 1])])
    everyone, similar = Pairs(source.groups), Pairs(bins)
    counts = resample_counts(len(own), RESAMPLES, np.random.default_rng(seed("score_selection", source.name)))
    for measure, result in source.measured.items():
        left = size_residuals(result, sizes, result, sizes)
        kinds = {
            "raw": (everyone, own, result),
            "similar MACs": (similar, own, result),
            "size removed": (everyone, residuals, left),
        }
        for kind_, (pairs, values, target) in kinds.items():
            taus = {name: pairs.tau(values[name], target)[0] for name in names or own}
            drawn = {name: pairs.tau(values[name], target, counts) for name in names or ()}
            for name, tau in taus.items():
                row = {"source": source.name, "n": len(own), "measure": measure, "pairs": kind_, "score": name}
                yield row | {"tau": tau} | (_compared(name, taus, drawn) if drawn else {})


def _compared(name: str, taus: dict[str, float], drawn: dict[str, Floats]) -> dict[str, float]:
    """The interval of a score, and its differences to its rivals with theirs."""
    low, high = percentile_interval(drawn[name])
    columns = {"low": low, "high": high}
    for column, rival in (("ahead of former", BEFORE), ("ahead of parameters", PARAMETERS)):
        columns[column] = taus[name] - taus[rival]
        columns[f"{column} low"], columns[f"{column} high"] = percentile_interval(drawn[name] - drawn[rival])
    return columns


def main() -> None:
    """Score, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", choices=("tuning", "report"), default="tuning")
    parser.add_argument("--population", type=Path, default=ROWS / "population.csv")
    parser.add_argument("--digits", type=Path, default=DIGITS, help="table of digits_cells.py, if it exists")
    parser.add_argument("--table", action="append", default=[], help="NAME=FILE, a public table", metavar="NAME=FILE")
    parser.add_argument("--limit", type=int, default=LIMIT, help="largest number of networks of a half of a table")
    options = parser.parse_args()
    names = None if options.half == "tuning" else [BEFORE, *CONTROLS, CHOSEN, *OTHERS]
    frame, more = read(options.population).assign(low=LOW, high=HIGH), {}
    sources = [*population(frame, options.half)]
    if options.half == "report":
        sources += population(digits(options.digits), options.half) if options.digits.exists() else ()
        for known in population(frame, "tuning"):
            more[known.name] = {FITTED: surrogate(known.networks, known.measured["accuracy"])}
    for name, _, path in (text.partition("=") for text in options.table):
        if name not in READERS or not path or not Path(path).exists():
            parser.error(
                f"--table takes NAME=FILE, an existing file, with a NAME of {', '.join(READERS)}. Got {name}={path}."
            )
        sources += public(name, Path(path), options.half, options.limit)
    found = pd.DataFrame(
        row for source in sources for row in of_source(source, names, more.get(source.name, {}))
    ).round(6)
    file = ROWS / ("score_selection.csv" if names is None else "score_confirmation.csv")
    if file.exists():
        old = pd.read_csv(file)
        found = pd.concat([old[~old.source.isin(found.source)], found], ignore_index=True)
    found.to_csv(file, index=False)
    _print(found, detailed=names is not None)


def _print(found: pd.DataFrame, *, detailed: bool) -> None:
    accuracy = found[found.measure == "accuracy"]
    for pairs, rows in accuracy.groupby("pairs", sort=False):
        print(f"\nKendall τ with accuracy, {pairs}; n = {rows.groupby('source').n.first().to_dict()}")
        table = rows.pivot_table(index="score", columns="source", values="tau", sort=False, dropna=False)
        print(table.round(3).to_string())
        for column in ("ahead of former", "ahead of parameters") if detailed else ():
            shown = [f"{d:+.3f} [{low:+.3f}, {high:+.3f}]" for d, low, high in _columns(rows, column)]
            differences = rows.assign(shown=shown)
            print(f"\n{column}:")
            print(differences.pivot(index="score", columns="source", values="shown").loc[table.index].to_string())


def _columns(rows: pd.DataFrame, name: str) -> NDArray[np.float64]:
    return rows[[name, f"{name} low", f"{name} high"]].to_numpy()


if __name__ == "__main__":
    main()
