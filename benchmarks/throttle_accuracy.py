r"""What throttling costs in accuracy, and what a controller wins back: networks with and without gates, trained alike.

First the same network without gates and with them, trained at a random utilization for each sample, or at utilization 1
and, from half of the training on, in groups of samples of one utilization: test accuracy at every utilization. Then
controllers of the gated ones at several penalties, against fixed utilizations: at equal mean MACs of an example, of all
that runs.

Resumable: rows are appended to rows/throttle_accuracy.csv as they come, a seed of all methods after the other, and
what is there is not trained again. Paired differences have 95 % t-intervals over seeds. Which utilizations and
controllers make up a curve is chosen on validation images; test images are only reported.

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
from nas.evaluation.controllers import ControlSettings
from nas.evaluation.jobs import Job
from nas.execution.controller_architectures import SEES, actions
from nas.representation.architecture import Architecture
from nas.representation.elements import Setting, Task
from nas.seeds import seed
from search_spaces.throttleable import c3d, vgg

NETWORKS: dict[str, Callable[..., Architecture]] = {"vgg": vgg, "c3d": c3d}


def gated(task: Task, options: argparse.Namespace, norm: str = "shared", **changed: Setting) -> Architecture:
    """The throttleable network, with an operating point for every utilization that controllers pick from.

    changed: settings of its training rule.
    """
    make = partial(NETWORKS[options.network], options.width, stages(options.depths), task=task, always=options.always)
    made = make(utilizations=actions(make()), norm=norm)
    return trained_by(made, made.training.rule, **{**dict(made.training.settings), **changed})


def ungated(task: Task, options: argparse.Namespace) -> Architecture:
    """The same operations and weights without gates, trained on the labels alone."""
    made = gated(task, options)
    alone = replace(made, topology=replace(made.topology, gated=()), points=made.points[-1:])
    return trained_by(alone, "joint")


def stages(depths: str) -> tuple[int, ...]:
    """Layers of each stage, as the command line has them."""
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
"""kind: a fixed utilization, or a controller, of whose macs and test_macs each is a mean over the images that the
accuracy beside it is of. seconds: of the training of the network, on a machine that may have been busy.
"""


def run(trainer: Trainer, options: argparse.Namespace, method: str, number: int) -> list[dict[str, Any]]:
    """The rows of one method and seed: a fixed utilization each, and a controller each where there are gates."""
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
        found = [point | common | {"kind": FIXED, "utilization": 1.0, "test_macs": point["macs"]}]
    else:
        names = (*actions(gated(trainer.dataset.task, options))[:-1], 1.0)
        found = [row | common for row in throttled(trainer, job.folder, number, names)]
    trainer.discard(Path(job.folder))
    return found


def throttled(trainer: Trainer, folder: str, number: int, utilizations: Sequence[float]) -> list[dict[str, Any]]:
    """The rows of a trained network: validation accuracies are of the images that controllers did not learn from.

    utilizations: of its operating points; where these have norms of their own, controllers call them by other numbers.
    """
    policies: list[dict[str, Any]] = []
    for sees in SEES:
        controlled = trainer.control(nas.load(folder), ControlSettings(penalties=PENALTIES, sees=sees), seed=number)
        policies += [row | {"kind": CONTROLLER, "utilization": ""} for row in controlled.policies]
    fixed = zip(controlled.fixed, utilizations, strict=True)
    return [row | {"kind": FIXED, "test_macs": row["macs"], "utilization": u} for row, u in fixed] + policies


def about_of(options: argparse.Namespace) -> dict[str, Any]:
    """What is the same for all methods and seeds, beside the data."""
    return {column: getattr(options, column) for column in RUN[1:-2]}


# Curves ----------------------------------------------------------------------------------------------------------


def frontier(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one network that are worth their MACs on validation images, ascending in the MACs of test images."""
    ascending = rows.sort_values(["macs", "accuracy"])
    best_before = ascending.accuracy.cummax().shift(fill_value=-np.inf)
    return ascending[ascending.accuracy > best_before].sort_values("test_macs")


def staircase(rows: pd.DataFrame, macs: np.ndarray) -> np.ndarray:
    """Test accuracy of the dearest row that so many MACs pay for; NaN where they pay for none."""
    latest = np.searchsorted(rows.test_macs.to_numpy(), macs, side="right") - 1
    return np.where(latest < 0, np.nan, rows.test_accuracy.to_numpy()[np.maximum(latest, 0)])


def interpolated(rows: pd.DataFrame, macs: np.ndarray) -> np.ndarray:
    """Test accuracy of two neighbouring rows taken in turn, so that so many MACs are the mean; NaN below the first."""
    return np.interp(macs, rows.test_macs, rows.test_accuracy, left=np.nan)


CURVES = {"staircase": staircase, "interpolated": interpolated}


def shares_ahead(rows: pd.DataFrame, sees: str) -> dict[str, float]:
    """In how much of the range of MACs of the fixed utilizations the controllers of one network are the more accurate,
    both as staircases and both interpolated; and by how much on average, where controllers have an answer, if anywhere.
    """
    fixed, steered = (frontier(rows[chosen]) for chosen in (rows.kind == FIXED, rows.sees == sees))
    all_macs = rows[rows.kind == FIXED].test_macs
    macs = np.linspace(all_macs.min(), all_macs.max(), 1001)
    found = {}
    for name, curve in CURVES.items():
        lead = pd.Series(curve(steered, macs) - curve(fixed, macs))
        found |= {f"ahead, {name}": float((lead > 0).mean()), f"lead, {name}": float(lead.mean())}
    return found


# Report ----------------------------------------------------------------------------------------------------------


def report(frame: pd.DataFrame) -> None:
    """Print what was found on one data set."""
    about = ", ".join(f"{column} {frame[column].iloc[0]}" for column in RUN[:-2])
    print(f"\n=== {about} ===")
    fixed, steered = frame[frame.kind == FIXED], frame[frame.kind == CONTROLLER]
    table = fixed.assign(percent=fixed.test_accuracy * 100, M=fixed.macs / 1e6)
    print("\ntest accuracy in % by utilization, mean of seeds")
    shown = table.pivot_table(index="method", columns="utilization", values="percent", sort=False)
    print(pd.concat([shown, table.groupby("utilization").M.mean().to_frame("MACs in millions").T]).round(2).to_string())
    print("\ntest accuracy at utilization 1 less that of the ungated network, in points, and 95 % interval over seeds")
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
    """Train what is missing, then print."""
    parser = parser_of(__doc__, "throttle_accuracy", epochs=8, width=8, width_of="of the first stage")
    parser.add_argument("--data", default="digits", help="as nas search takes it")
    parser.add_argument("--network", default="vgg", choices=NETWORKS)
    parser.add_argument("--depths", default="1-1-1", help="convolutions of every stage, fit for few epochs")
    parser.add_argument("--always", type=int, default=2, help="components of eight that are on at every utilization")
    parser.add_argument("--rate", type=float, default=0.0, help="of learning; 0: the trainer's own")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"), help="of training")
    parser.add_argument(
        "--method", action="append", choices=METHODS, help=f"these alone; by default {', '.join(STANDARD)}"
    )
    options = parser.parse_args()
    rows, settings = Rows(options.csv, COLUMNS), {"device": options.device, "threads": options.threads}
    trainer = Trainer(options.data, learning_rate=options.rate or None, precision=options.precision, **settings)
    fixed = {"data": trainer.dataset.name} | about_of(options)
    for number in range(options.seeds):
        for method in options.method or STANDARD:
            about = fixed | {"method": method, "seed": number}
            if rows.of(about).empty:
                found = run(trainer, options, method, number)
                rows.append(row | about for row in found)
                told = [round(row["test_accuracy"], 4) for row in found]
                print(f"{trainer.dataset.name}, {method}, seed {number}: {told}", flush=True)
    frame = rows.of(fixed)
    report(frame[frame.seed < options.seeds])


if __name__ == "__main__":
    main()
