"""Accuracy of anytime networks with and without reuse of results, at matched MACs and equal epochs.

Compares the networks of matched.py, trained with equal settings and seeds, by two costs. Known budget: the MACs of each
point. Unknown deadline: cumulative MACs; a dense network computes every point from the start, a network with exact
reuse pays only the increment. Also prints the MACs at which each network reaches the accuracy of a dense one.

Appends rows to rows/anytime_accuracy.csv after each training, one seed of all methods and data sets after the other,
and skips the trainings in that file. Prints test accuracy and paired differences with 95 % t-intervals over seeds.
"Best" always means best on validation images; test images are only reported.

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
"""Methods that all methods are compared with, seed by seed."""
DENSE = ("sandwich", "norm per width", "I-ResNeXt")
"""Anytime networks without reuse: every point is computed from the start."""
TOLERANCE = 1.06
"""Tolerated ratio of a point's MACs to its budget: whole channels cannot match the budgets more closely."""
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
"""seconds: wall-clock time of the whole training, on a machine that may have been busy."""


def run(trainer: Trainer, options: argparse.Namespace, method: str, number: int) -> list[dict[str, Any]]:
    """The rows of one method and seed, one per level."""
    architectures = METHODS[method](trainer.dataset.task, options.width)
    name = f"{trainer.dataset.name} {options.epochs} {method} {number}".replace("/", "_")
    folder = Path(options.folder, name).resolve()
    if isinstance(architectures, Architecture):
        return train(trainer, options, architectures, number, folder)
    rows = [train(trainer, options, one, number, folder / str(level))[0] for level, one in enumerate(architectures)]
    spent = accumulate(row["macs"] for row in rows)
    return [row | {"level": level, "cumulative_macs": total} for level, (row, total) in enumerate(zip(rows, spent))]


def train(
    trainer: Trainer, options: argparse.Namespace, architecture: Architecture, number: int, folder: Path
) -> list[dict[str, Any]]:
    """Train a network and measure its operating points."""
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
    """MACs of one example until each point has answered, if all points run in order."""
    try:
        steps = AnytimeNetwork(architecture).refine_macs()
    except UserError:  # no result can be reused
        steps = architecture.costs
    return list(accumulate(steps))


# Report ----------------------------------------------------------------------------------------------------------


def report(frame: pd.DataFrame, methods: list[str]) -> None:
    """Print the results on one data set."""
    print(f"\n=== {frame.data.iloc[0]}: {frame.seed.nunique()} seeds, {frame.epochs.iloc[0]} epochs ===")
    for column, title, unit in (
        ("macs", "MACs of the points in millions", 1e-6),
        ("cumulative_macs", "cumulative MACs until a point answers, in millions", 1e-6),
        ("accuracy", "validation accuracy in %", 100),
        ("test_accuracy", "test accuracy in %", 100),
    ):
        table = frame.pivot_table(index="method", columns="level", values=column, sort=False) * unit
        if unit == 100:
            table["mean"] = table.mean(axis=1)
        print(f"\n{title}, by level, mean of seeds\n{table.reindex(methods).round(2).to_string()}")
    for control in (control for control in CONTROLS if control in set(frame.method)):
        print(f"\ntest accuracy minus accuracy of {control}, in points, by level, mean and 95 % interval over seeds")
        levels = {str(level): rows for level, rows in frame.groupby("level")} | {"mean": frame}
        compared = [method for method in methods if method != control]
        cells = {
            name: {method: paired_difference(rows, "method", method, control) for method in compared}
            for name, rows in levels.items()
        }
        print(pd.DataFrame(cells).to_string())
    deadline_unknown(frame, methods)
    for reference in DENSE:
        if reference in set(frame.method):
            equal_accuracy(frame, methods, reference)


def deadline_unknown(frame: pd.DataFrame, methods: list[str]) -> None:
    """Print accuracy at unknown deadlines: points run in order until the MACs of each point are spent.

    At the MACs of point 2, every network is also compared with the dense anytime network that is best on validation
    images.
    """
    budgets = frame.groupby("level").macs.median()
    answers = []
    for (method, number), rows in frame.groupby(["method", "seed"], sort=False):
        for budget in budgets:
            completed = rows[rows.cumulative_macs <= TOLERANCE * budget]
            if len(completed):
                latest = completed.loc[completed.level.idxmax()]
                answers.append((method, number, budget / 1e6, latest.accuracy, latest.test_accuracy))
    answered = pd.DataFrame(answers, columns=["method", "seed", "budget", "accuracy", "test_accuracy"])
    table = answered.pivot_table(index="method", columns="budget", values="test_accuracy", sort=False) * 100
    print("\ntest accuracy in % by millions of MACs at the deadline, points in order, mean of seeds")
    print(table.reindex(methods).round(2).to_string(float_format="%.2f"))
    second = answered[answered.budget == budgets.iloc[1] / 1e6]
    rivals = second[second.method.isin(DENSE)].groupby("method").accuracy.mean()
    if len(rivals):
        best = rivals.idxmax()
        print(f"\ntest accuracy after the MACs of point 2, minus accuracy of {best}, the best dense anytime network")
        for method in methods:
            if method != best:
                print(f"  {method}: {paired_difference(second, 'method', method, best)}")


def equal_accuracy(frame: pd.DataFrame, methods: list[str], reference: str) -> None:
    """Print the MACs that each method saves at the mean test accuracy of every point of a dense anytime network."""
    mean = frame.groupby(["method", "level"])[["macs", "cumulative_macs", "test_accuracy"]].mean()
    for column, view in (("macs", "own MACs"), ("cumulative_macs", "cumulative MACs")):
        print(f"\nMACs at equal test accuracy against {reference}, {view}, by level")
        for method in methods:
            if method != reference and method in mean.index:
                smallest = mean.loc[method][column].iloc[0]
                savings = [
                    _fewer(macs_at(mean.loc[method], column, target), cost, smallest)
                    for cost, target in zip(mean.loc[reference][column], mean.loc[reference].test_accuracy)
                ]
                print(f"  {method}: {', '.join(savings)}")


def macs_at(points: pd.DataFrame, column: str, accuracy: float) -> float:
    """MACs at which an accuracy is reached, interpolated on log MACs.

    An upper bound, the MACs of the smallest point, if that point reaches it; infinite if no point does.
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
    """Train the missing networks, then print."""
    parser = parser_of(
        __doc__, "anytime_accuracy", epochs=8, width=16, width_of="of the first stage of the dense network"
    )
    parser.add_argument("--data", action="append", default=[], help="data as for nas search; default: digits")
    parser.add_argument("--layout", help="axes of the images, if their shape is ambiguous")
    parser.add_argument("--method", action="append", default=[], choices=METHODS, help="default: all")
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
                key = {"data": trainer.dataset.name, **fixed, "method": method, "seed": number}
                if rows.of(key).empty:
                    trained = run(trainer, options, method, number)
                    rows.append(key | {c: v for c, v in row.items() if c in COLUMNS} for row in trained)
                    accuracies = [round(row["test_accuracy"], 4) for row in trained]
                    print(f"{trainer.dataset.name}, {method}, seed {number}: {accuracies}", flush=True)
    for trainer in trainers:
        frame = rows.of({"data": trainer.dataset.name, **fixed})
        report(frame[(frame.seed < options.seeds) & frame.method.isin(methods)], methods)


if __name__ == "__main__":
    main()
