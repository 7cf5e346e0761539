"""Selection of the chain's default score: all scores that were tried, on the tuning half of the population.

A score assigns a value to every live operation of a level (1, or the logarithm, the root or the number of its weights),
sums the values, either expected along a walk (flow or paths) or over all paths, and averages over levels. Higher is
better for all scores: more weights along likely paths. Prints Kendall's τ with anytime accuracy and loss, raw and with
size removed; writes rows/score_selection.csv. ranking.py evaluates the chosen score on the other half.

    python benchmarks/score_selection.py [--population rows/population.csv]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd
from controls import log_learned_paths
from population import read
from ranking import ROWS, measures, references

from nas.audit.audit import sizes_of
from nas.audit.statistics import kendall_tau, size_residuals
from nas.chain.graph import graph_of
from nas.chain.walks import WALKS
from nas.representation.architecture import Architecture, params
from nas.representation.cost import live_weights
from nas.representation.kinds import kind

WEIGHS: dict[str, Callable[[int], float]] = {
    "operations": lambda weights: 1.0,
    "log weights": lambda weights: math.log(weights),
    "root of weights": lambda weights: math.sqrt(weights),
    "weights": lambda weights: float(weights),
}


def scores(architecture: Architecture) -> dict[str, float]:
    """All scores of an architecture by name."""
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
    score_by_name["no chain: log of parameters, mean over levels"] = fmean(math.log(p) for p in params(architecture))
    score_by_name["no chain: log of parameters, largest level"] = math.log(params(architecture)[-1])
    learned = [sum(kind(topology.operations[o].kind).learned for o in p.operations) for p in architecture.points]
    score_by_name["no chain: count"] = fmean(learned)
    return score_by_name


def main() -> None:
    """Score, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--population", type=Path, default=ROWS / "population.csv")
    frame = read(parser.parse_args().population)
    mean = measures(frame).groupby("key")[["accuracy", "-loss"]].mean()
    rows = []
    for space, group in frame[frame.number % 2 == 0].groupby("space"):
        chosen = group.drop_duplicates("key")
        sample = references(str(space), chosen.architecture.iloc[0].task)
        own, reference = (pd.DataFrame([scores(a) for a in of]) for of in (chosen.architecture, sample))
        size, size_R = (np.array([sizes_of(a) for a in of]) for of in (chosen.architecture, sample))
        for measure in ("accuracy", "-loss"):
            target = mean.loc[chosen.key, measure].to_numpy()
            left = size_residuals(target, size, target, size)
            for name in own:
                removed = kendall_tau(size_residuals(own[name], size, reference[name], size_R), left)
                rows.append(
                    {
                        "space": space,
                        "n": len(chosen),
                        "score": name,
                        "measure": measure,
                        "raw": kendall_tau(own[name], target),
                        "size removed": removed,
                    }
                )
    correlations = pd.DataFrame(rows)
    table = correlations.pivot_table(
        index="score", columns=["space", "measure"], values=["raw", "size removed"], sort=False
    )
    print(f"Tuning half: {correlations.groupby('space').n.max().to_dict()} candidates\n{table.round(2).to_string()}")
    correlations.round(6).to_csv(ROWS / "score_selection.csv", index=False)


if __name__ == "__main__":
    main()
