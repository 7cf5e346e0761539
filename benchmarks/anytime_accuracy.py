"""Anytime networks at matched MACs and equal epochs: those that reuse their results against those that do not.

Networks of matched.py, trained alike from the same seeds. Two views: each point's own MACs, as if the budget were
known; and cumulative MACs, when the deadline is not: a dense network then runs every point afresh, where reuse is exact
each point costs its increment. And the MACs at which the others are as accurate as the dense anytime networks.

Resumable: rows are appended to rows/anytime_accuracy.csv as they come, a seed of all methods and data sets after the
other, and what is there is not trained again. Prints test accuracy and paired differences with 95 % t-intervals over
seeds. What is called best is best on validation images; test images are only reported.

    python benchmarks/anytime_accuracy.py --data npz:cifar10.npz --data npz:fashion_mnist.npz --seeds 3
    python benchmarks/anytime_accuracy.py --data digits --epochs 2 --seeds 2 --width 8 --csv digits.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matched import (
    any_width,
    dense,
    early_exits,
    independent,
    narrow_i_resnext,
    norm_per_width,
    sliced,
    sliced_own_heads,
    sparse,
    stepping,
    trained_by,
)
from resumable import Rows, paired_difference, parser_of

from evaluators.training.evaluator import Training as Trainer
from nas.errors import UserError
from nas.evaluation.jobs import Job
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.elements import Task
from nas.seeds import seed

METHODS: dict[str, Callable[[Task, int], Architecture | list[Architecture]]] = {
    "sandwich": dense,
    "sparse ResNeXt": sparse,
    "sparse ResNeXt, distilled": lambda t, width: trained_by(sparse(t, width), "causal", distill=1.0),
    "slicing": sliced,
    "slicing, own heads": sliced_own_heads,
    "slicing, own heads, distilled": lambda t, width: trained_by(sliced_own_heads(t, width), "causal", distill=1.0),
    "independent": lambda t, width: independent(dense(t, width)),
    "independent ResNeXt": lambda t, width: independent(narrow_i_resnext(t, width)),
    "norm per width": norm_per_width,
    "early exits": early_exits,
    "any-width": any_width,
    "I-ResNeXt": narrow_i_resnext,
    "SteppingNet": stepping,
}
CONTROLS = (
    "sandwich",
    "I-ResNeXt",
    "slicing",
    "slicing, own heads",
    "sparse ResNeXt",
    "independent",
    "independent ResNeXt",
)
"""What the others are compared with, seed by seed."""
DENSE = ("sandwich", "norm per width", "I-ResNeXt")
"""The anytime networks that run every point afresh."""
TOLERANCE = 1.06
"""How much more than its budget a point may cost, as sizes match no closer than that."""
RUN = ("data", "images", "epochs", "width", "method", "seed")
COLUMNS = (
    *RUN,
    "level",
    "macs",
    "cumulative_macs",
    "params",
    "accuracy",
    "loss",
    "test_accuracy",
    "test_loss",
    "seconds",
)
"""seconds: of the whole training, on a machine that may have been busy."""


def run(trainer: Trainer, options: argparse.Namespace, method: str, number: int) -> list[dict[str, Any]]:
    """The rows of one method and seed, a level each."""
    made = METHODS[method](trainer.dataset.task, options.width)
    name = f"{trainer.dataset.name} {options.epochs} {method} {number}".replace("/", "_")
    folder = Path(options.folder, name).resolve()
    if isinstance(made, Architecture):
        return train(trainer, options, made, number, folder)
    rows = [train(trainer, options, one, number, folder / str(level))[0] for level, one in enumerate(made)]
    spent = accumulate(row["macs"] for row in rows)
    return [row | {"level": level, "cumulative_macs": total} for level, (row, total) in enumerate(zip(rows, spent))]


def train(
    trainer: Trainer, options: argparse.Namespace, architecture: Architecture, number: int, folder: Path
) -> list[dict[str, Any]]:
    """Train a network and measure its points."""
    job = Job(
        candidate=0,
        architecture=architecture.to_json(),
        seed=seed("anytime accuracy", number),
        epochs=options.epochs,
        until=options.epochs,
        images=options.images,
        folder=str(folder),
        test=True,
    )
    outcome = trainer.evaluate(job, lambda epoch: None)
    trainer.discard(folder)
    spent = cumulative_macs(Architecture.from_json(outcome.realised or job.architecture))
    common = {"seconds": round(outcome.seconds, 1)}
    return [point | common | {"cumulative_macs": total} for point, total in zip(outcome.points, spent)]


def cumulative_macs(architecture: Architecture) -> list[int]:
    """MACs spent on one example until each point has answered, all smaller ones before it."""
    try:
        steps = AnytimeNetwork(architecture).refine_macs
    except UserError:  # nothing can be reused
        steps = architecture.costs
    return list(accumulate(steps))


# Report ----------------------------------------------------------------------------------------------------------


def report(frame: pd.DataFrame, methods: list[str]) -> None:
    """Print what was found on one data set."""
    print(f"\n=== {frame.data.iloc[0]}: {frame.seed.nunique()} seeds, {frame.epochs.iloc[0]} epochs ===")
    for column, what, unit in (
        ("macs", "MACs of the points in millions", 1e-6),
        ("cumulative_macs", "MACs spent until a point answers, in millions", 1e-6),
        ("accuracy", "validation accuracy in %", 100),
        ("test_accuracy", "test accuracy in %", 100),
    ):
        table = frame.pivot_table(index="method", columns="level", values=column, sort=False) * unit
        if unit == 100:
            table["mean"] = table.mean(axis=1)
        print(f"\n{what}, by level, mean of seeds\n{table.reindex(methods).round(2).to_string()}")
    for control in (control for control in CONTROLS if control in set(frame.method)):
        print(f"\ntest accuracy less that of {control}, in points, by level, mean and 95 % interval over seeds")
        levels = {str(level): rows for level, rows in frame.groupby("level")} | {"mean": frame}
        others = [method for method in methods if method != control]
        cells = {
            name: {method: paired_difference(rows, "method", method, control) for method in others}
            for name, rows in levels.items()
        }
        print(pd.DataFrame(cells).to_string())
    deadline_unknown(frame, methods)
    for reference in DENSE:
        if reference in set(frame.method):
            equal_accuracy(frame, methods, reference)


def deadline_unknown(frame: pd.DataFrame, methods: list[str]) -> None:
    """Print accuracy when time runs out after as many MACs as each point takes, all points in turn until then.

    A network's point 2 is compared with what the best dense anytime network, by validation images, has answered by
    then.
    """
    budgets = frame.groupby("level").macs.median()
    answers = []
    for (method, number), rows in frame.groupby(["method", "seed"], sort=False):
        for budget in budgets:
            given = rows[rows.cumulative_macs <= TOLERANCE * budget]
            if len(given):
                latest = given.loc[given.level.idxmax()]
                answers.append((method, number, budget / 1e6, latest.accuracy, latest.test_accuracy))
    known = pd.DataFrame(answers, columns=["method", "seed", "budget", "accuracy", "test_accuracy"])
    table = known.pivot_table(index="method", columns="budget", values="test_accuracy", sort=False) * 100
    print("\ntest accuracy in % by millions of MACs spent when time runs out, all points in turn, mean of seeds")
    print(table.reindex(methods).round(2).to_string(float_format="%.2f"))
    second = known[known.budget == budgets.iloc[1] / 1e6]
    rivals = second[second.method.isin(DENSE)].groupby("method").accuracy.mean()
    if len(rivals):
        best = rivals.idxmax()
        print(f"\nthere, after the MACs of the second point, less that of the best dense anytime network, {best}")
        for method in methods:
            if method != best:
                print(f"  {method}: {paired_difference(second, 'method', method, best)}")


def equal_accuracy(frame: pd.DataFrame, methods: list[str], reference: str) -> None:
    """Print how many MACs fewer others take for the mean test accuracy of each of a dense anytime network's points."""
    mean = frame.groupby(["method", "level"])[["macs", "cumulative_macs", "test_accuracy"]].mean()
    for column, view in (("macs", "own MACs"), ("cumulative_macs", "cumulative MACs")):
        print(f"\nMACs at equal test accuracy against {reference}, {view}, by level")
        for method in methods:
            if method != reference and method in mean.index:
                smallest = mean.loc[method][column].iloc[0]
                told = [
                    _fewer(macs_at(mean.loc[method], column, target), cost, smallest)
                    for cost, target in zip(mean.loc[reference][column], mean.loc[reference].test_accuracy)
                ]
                print(f"  {method}: {', '.join(told)}")


def macs_at(points: pd.DataFrame, column: str, accuracy: float) -> float:
    """MACs at which an accuracy is reached, interpolated on log MACs; at most those of the smallest point, and infinite
    where no point reaches it.
    """
    reached = points.test_accuracy.cummax().to_numpy()
    if accuracy > reached[-1]:
        return np.inf
    above = int(np.searchsorted(reached, accuracy))
    if above == 0:
        return float(points[column].iloc[0])
    logs = np.log(points[column].to_numpy())
    share = (accuracy - reached[above - 1]) / (reached[above] - reached[above - 1])
    return float(np.exp(logs[above - 1] + share * (logs[above] - logs[above - 1])))


def _fewer(needed: float, cost: float, smallest: float) -> str:
    if np.isinf(needed):
        return "not reached"
    bound = "" if needed > smallest else "at least " if needed <= cost else "at most "
    return f"{bound}{100 * abs(1 - needed / cost):.1f} % {'fewer' if needed <= cost else 'more'}"


def main() -> None:
    """Train what is missing, then print."""
    parser = parser_of(
        __doc__, "anytime_accuracy", epochs=8, width=16, width_of="of the first stage of the dense network"
    )
    parser.add_argument("--data", action="append", default=[], help="as nas search takes it; digits by default")
    parser.add_argument("--layout", help="axes of the images where their shape leaves it open")
    parser.add_argument("--method", action="append", default=[], choices=METHODS, help="all by default")
    options = parser.parse_args()
    methods, rows = options.method or list(METHODS), Rows(options.csv, COLUMNS)
    trainers = [
        Trainer(data, device=options.device, threads=options.threads, layout=options.layout)
        for data in options.data or ["digits"]
    ]
    fixed = {name: getattr(options, name) for name in ("images", "epochs", "width")}
    for number in range(options.seeds):
        for method in methods:
            for trainer in trainers:
                about = {"data": trainer.dataset.name, **fixed, "method": method, "seed": number}
                if rows.of(about).empty:
                    found = run(trainer, options, method, number)
                    rows.append(about | {c: v for c, v in row.items() if c in COLUMNS} for row in found)
                    told = [round(row["test_accuracy"], 4) for row in found]
                    print(f"{trainer.dataset.name}, {method}, seed {number}: {told}", flush=True)
    for trainer in trainers:
        frame = rows.of({"data": trainer.dataset.name, **fixed})
        report(frame[(frame.seed < options.seeds) & frame.method.isin(methods)], methods)


if __name__ == "__main__":
    main()
