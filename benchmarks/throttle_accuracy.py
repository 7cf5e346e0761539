r"""Accuracy lost by throttling and regained by controllers: networks with and without gates, with equal training.

First, test accuracy at every utilization of one network without and with gates. Gates are trained at a random
utilization of each sample, or at utilization 1 and, from half of the training on, in groups of samples with equal
utilization. Second, controllers of the gated networks at several penalties against fixed utilizations, at equal mean
MACs per example; the controller's own MACs count.

Appends rows to rows/throttle_accuracy.csv after each training, one seed of all methods after the other, and skips the
trainings in that file. Paired differences have 95 % t-intervals over seeds. The utilizations and controllers of a curve
are chosen on validation images; test images are only reported.

    cd benchmarks
    python throttle_accuracy.py --data npz:cifar10_10k.npz --width 32 --depths 2-2-3-3-3 --epochs 40 --rate 0.05 \
        --precision bfloat16
    python throttle_accuracy.py --data npz:fashion_mnist.npz --width 16 --epochs 12
    python throttle_accuracy.py --network c3d --data moving_digits --epochs 12
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matched import trained_by
from resumable import Rows, paired_difference, parser_of

import nas
from evaluators.training.evaluator import Training as Trainer
from nas.evaluation.controllers import ControllerSettings
from nas.evaluation.jobs import Job
from nas.execution.controller_architectures import SEES, actions
from nas.representation.architecture import Architecture
from nas.representation.elements import SettingValue, Task
from nas.seeds import seed
from search_spaces.throttleable import c3d, vgg

NETWORKS: dict[str, Callable[..., Architecture]] = {"vgg": vgg, "c3d": c3d}


def gated(task: Task, options: argparse.Namespace, norm: str = "shared", **changed: SettingValue) -> Architecture:
    """The throttleable network, with an operating point for every utilization that controllers choose from.

    changed: changed settings of its training rule.
    """
    make = partial(NETWORKS[options.network], options.width, stages(options.depths), task=task, always=options.always)
    architecture = make(utilizations=actions(make()), norm=norm)
    return trained_by(architecture, architecture.training.rule, **{**dict(architecture.training.settings), **changed})


def ungated(task: Task, options: argparse.Namespace) -> Architecture:
    """The same operations and weights without gates, trained only on the labels."""
    network = gated(task, options)
    plain = replace(network, topology=replace(network.topology, gated=()), points=network.points[-1:])
    return trained_by(plain, "joint")


def stages(depths: str) -> tuple[int, ...]:
    """Layers of each stage, from the text of the option ``--depths``."""
    return tuple(int(depth) for depth in depths.split("-"))


METHODS: dict[str, Callable[[Task, argparse.Namespace], Architecture]] = {
    "ungated": ungated,
    "in groups": partial(gated, norm="recalibrated"),
    "per sample": gated,
    "in groups, no warm-up": partial(gated, norm="recalibrated", warm_up=0.0),
    "in groups, on labels": partial(gated, norm="recalibrated", soft=False),
    "in groups, weight ¼": partial(gated, norm="recalibrated", weight=0.25),
}
STANDARD = ("ungated", "in groups", "per sample")
PENALTIES = (0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
FIXED, CONTROLLER = "fixed", "controller"
RUN = ("data", "images", "epochs", "rate", "precision", "width", "network", "depths", "always", "method", "seed")
COLUMNS = (
    *RUN,
    "kind",
    "utilization",
    "penalty",
    "sees",
    "macs",
    "accuracy",
    "test_macs",
    "test_accuracy",
    "seconds",
)
"""kind: fixed utilization or controller. macs, test_macs: means over validation images and over test images; of the
network and its controller. seconds: wall-clock time of the network's training, on a machine that may have been busy.
"""


def run(trainer: Trainer, options: argparse.Namespace, method: str, number: int) -> list[dict[str, Any]]:
    """The rows of one method and seed: one per fixed utilization and, for gated networks, one per controller."""
    architecture = METHODS[method](trainer.dataset.task, options)
    name = " ".join(str(value) for value in (trainer.dataset.name, *about_of(options).values(), method, number))
    job = Job(
        candidate=0,
        architecture=architecture.to_json(),
        seed=seed("throttle accuracy", number),
        epochs=options.epochs,
        until=options.epochs,
        images=options.images,
        folder=str(Path(options.folder, name.replace("/", "_")).resolve()),
        test=True,
    )
    outcome = trainer.evaluate(job, lambda epoch: None)
    common = {"seconds": round(outcome.seconds, 1)}
    if not architecture.topology.gated:
        point = outcome.points[-1]
        rows = [point | common | {"kind": FIXED, "utilization": 1.0, "test_macs": point["macs"]}]
    else:
        names = (*actions(gated(trainer.dataset.task, options))[:-1], 1.0)
        rows = [row | common for row in throttled(trainer, job.folder, number, names)]
    trainer.discard(Path(job.folder))
    return rows


def throttled(trainer: Trainer, folder: str, number: int, utilizations: Sequence[float]) -> list[dict[str, Any]]:
    """The rows of a trained network. Validation accuracies exclude the images that controllers learned from.

    utilizations: of its operating points, replacing the numbers that controllers use if points have norms of their own.
    """
    policies: list[dict[str, Any]] = []
    for sees in SEES:
        controlled = trainer.train_controllers(
            nas.load(folder), ControllerSettings(penalties=PENALTIES, sees=sees), seed=number
        )
        policies += [row | {"kind": CONTROLLER, "utilization": ""} for row in controlled.policies]
    fixed = zip(controlled.fixed, utilizations, strict=True)
    return [row | {"kind": FIXED, "test_macs": row["macs"], "utilization": u} for row, u in fixed] + policies


def about_of(options: argparse.Namespace) -> dict[str, Any]:
    """Columns with equal values for all methods and seeds, without the data."""
    return {column: getattr(options, column) for column in RUN[1:-2]}


# Curves ----------------------------------------------------------------------------------------------------------


def frontier(rows: pd.DataFrame) -> pd.DataFrame:
    """The Pareto-optimal rows of one network on validation images, ascending in the MACs of test images."""
    ascending = rows.sort_values(["macs", "accuracy"])
    best_before = ascending.accuracy.cummax().shift(fill_value=-np.inf)
    return ascending[ascending.accuracy > best_before].sort_values("test_macs")


def staircase(rows: pd.DataFrame, macs: np.ndarray) -> np.ndarray:
    """Test accuracy of the most expensive row within each budget of MACs; NaN if no row is within the budget."""
    latest = np.searchsorted(rows.test_macs.to_numpy(), macs, side="right") - 1
    return np.where(latest < 0, np.nan, rows.test_accuracy.to_numpy()[np.maximum(latest, 0)])


def interpolated(rows: pd.DataFrame, macs: np.ndarray) -> np.ndarray:
    """Test accuracy of mixing two neighbouring rows to the given mean MACs; NaN below the first row."""
    return np.interp(macs, rows.test_macs, rows.test_accuracy, left=np.nan)


CURVES = {"staircase": staircase, "interpolated": interpolated}


def shares_ahead(rows: pd.DataFrame, sees: str) -> dict[str, float]:
    """Comparison of the controllers of one network with its fixed utilizations, over the MACs of the latter.

    "ahead": share of the range in which controllers are more accurate. "lead": their mean difference in accuracy, over
    the part of the range that controllers cover; NaN if they cover none. Each for both curves.
    """
    fixed, steered = (frontier(rows[chosen]) for chosen in (rows.kind == FIXED, rows.sees == sees))
    all_macs = rows[rows.kind == FIXED].test_macs
    macs = np.linspace(all_macs.min(), all_macs.max(), 1001)
    comparison = {}
    for name, curve in CURVES.items():
        lead = pd.Series(curve(steered, macs) - curve(fixed, macs))
        comparison |= {f"ahead, {name}": float((lead > 0).mean()), f"lead, {name}": float(lead.mean())}
    return comparison


# Report ----------------------------------------------------------------------------------------------------------


def report(frame: pd.DataFrame) -> None:
    """Print the results on one data set."""
    setting = ", ".join(f"{column} {frame[column].iloc[0]}" for column in RUN[:-2])
    print(f"\n=== {setting} ===")
    fixed, steered = frame[frame.kind == FIXED], frame[frame.kind == CONTROLLER]
    table = fixed.assign(percent=fixed.test_accuracy * 100, M=fixed.macs / 1e6)
    print("\ntest accuracy in % by utilization, mean of seeds")
    shown = table.pivot_table(index="method", columns="utilization", values="percent", sort=False)
    print(pd.concat([shown, table.groupby("utilization").M.mean().to_frame("MACs in millions").T]).round(2).to_string())
    print("\ntest accuracy at utilization 1 minus accuracy of the ungated network, in points, 95 % interval over seeds")
    largest = fixed[fixed.utilization == 1.0]
    for method in METHODS:
        if method != "ungated":
            print(f"  {method}: {paired_difference(largest, 'method', method, 'ungated')}")
    if len(steered):
        columns = ["macs", "accuracy", "test_macs", "test_accuracy"]
        print("\ncontrollers, mean of seeds (accuracies in %, MACs in millions)")
        means = steered.groupby(["method", "sees", "penalty"], sort=False)[columns].mean()
        print((means * [1e-6, 100, 1e-6, 100]).round(2).to_string())
        print("\ncontrollers against fixed utilizations, by network: share of the range ahead, mean lead in accuracy")
        gated_rows = frame[frame.method.isin(steered.method)]
        by_network = list(gated_rows.groupby(["method", "seed"], sort=False))
        shares = {(sees, *key): shares_ahead(rows, sees) for sees in SEES for key, rows in by_network}
        print(pd.DataFrame(shares).T.round(4).to_string())


def main() -> None:
    """Train the missing networks, then print."""
    parser = parser_of(__doc__, "throttle_accuracy", epochs=8, width=8, width_of="of the first stage")
    parser.add_argument("--data", default="digits", help="data as for nas search")
    parser.add_argument("--network", default="vgg", choices=NETWORKS)
    parser.add_argument("--depths", default="1-1-1", help="convolutions per stage; the default suits few epochs")
    parser.add_argument(
        "--always", type=int, default=2, help="of eight components, the number that is on at every utilization"
    )
    parser.add_argument("--rate", type=float, default=0.0, help="learning rate; 0: the trainer's default")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"), help="precision of training")
    parser.add_argument(
        "--method", action="append", choices=METHODS, help=f"only these; default: {', '.join(STANDARD)}"
    )
    options = parser.parse_args()
    rows, settings = Rows(options.csv, COLUMNS), {"device": options.device, "threads": options.threads}
    trainer = Trainer(options.data, learning_rate=options.rate or None, precision=options.precision, **settings)
    fixed = {"data": trainer.dataset.name} | about_of(options)
    for number in range(options.seeds):
        for method in options.method or STANDARD:
            key = fixed | {"method": method, "seed": number}
            if rows.of(key).empty:
                trained = run(trainer, options, method, number)
                rows.append(row | key for row in trained)
                accuracies = [round(row["test_accuracy"], 4) for row in trained]
                print(f"{trainer.dataset.name}, {method}, seed {number}: {accuracies}", flush=True)
    frame = rows.of(fixed)
    report(frame[frame.seed < options.seeds])


if __name__ == "__main__":
    main()
