"""Do important widths help? Width schedules of a small residual supernet, at equal MACs of every point.

The network is the TIPS ResNet of the space `tips` with uniform widths: no projections, two blocks per stage, four
operating points. Schedules change the widths of its smaller points: `path` widens what every path must pass, as the
authors of TIPS do; `inverse` the rest; `random` and `degree` as many groups of maps as `path`; `tas` by accumulated
scores. All train under the sandwich rule on equal numbers of images. The parts of the training of TIPS are added one
after the other: two sampled points, the answers of the largest point, those of a moving average, its mean answer for
the smallest point; then label smoothing and norms that start at zero, each alone; and all of them. The table gives the
accuracy on *test* images per operating point, the difference of the mean over points to uniform widths and to the
plain rule, paired by seed, and the epochs until the mean on *validation* images is that of the control at its end.

Appends a row per operating point to rows/width_schedules.csv, with the mean accuracy on validation images after each
epoch, and skips the trainings in that file.

    python benchmarks/width_schedules.py --data npz:cifar10_10k.npz --data npz:fashion_mnist.npz
    python benchmarks/width_schedules.py --data npz:cifar10_10k.npz --seeds 3 --schedule uniform --part teacher tips
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from resumable import Rows, name_of, paired_difference

from evaluators.training.evaluator import Training
from evaluators.training.measurement import measure_points
from nas.chain import width_schedule
from nas.evaluation.jobs import Job
from nas.representation.architecture import Architecture
from nas.representation.elements import Task, TrainingSpec
from nas.seeds import seed as derived_seed
from nas.spaces.choices import Domains, Recorder, replay
from nas.spaces.references import Design, sizes_within
from search_spaces.images import stem_strides
from search_spaces.tips import WIDTHS, Tips

SCHEDULES = ("uniform", "path", "inverse", "tas", "random", "degree")
DECAY = 0.99
"""Of the moving average: a short training is too fast for the authors' 0.997."""
_TEACHER = {"sampled": 2, "soft": True, "ema": DECAY}
PARTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two sampled": {"sampled": 2},
    "soft": {"sampled": 2, "soft": True},
    "teacher": _TEACHER,
    "ensemble": {**_TEACHER, "ensemble": True},
    "smoothing": {"smoothing": 0.1},
    "zero norms": {"zero_init": True},
    "tips": {**_TEACHER, "ensemble": True, "smoothing": 0.1, "zero_init": True},
}
"""Settings of the sandwich rule."""
RUN = ("data", "images", "epochs", "width", "beta", "schedule", "part", "seed")
COLUMNS = (*RUN, "level", "macs", "accuracy", "test_accuracy", "seconds", "curve")
CURVE_IMAGES = 2_000
"""Validation images on which a network is measured after each epoch, at most."""


def network(task: Task, width: int) -> Architecture:
    """The network with uniform widths."""
    answers = {"width": width, "spacing": "linear", "smallest fraction": 0.25, "growth": 2.0, "depth": 2}
    answers |= {"block": "basic", "optional": "none", "schedule": "uniform", "stem stride": stem_strides(task)[-1]}
    design = Design(name="ResNet", size="", origin="", answers=answers, sizes=[{}])
    (reference,) = sizes_within(Tips(), [design], task, math.inf)
    return Tips().architecture(Recorder(replay(reference.choices), Domains()), task)


def train(options: argparse.Namespace, run: dict[str, Any], data: str) -> list[dict[str, Any]]:
    """The rows of one training."""
    trainer = Training(data, threads=1)
    architecture = network(trainer.dataset.task, options.width)
    if run["schedule"] != "uniform":
        architecture = width_schedule(architecture, run["schedule"], beta=options.beta, draw=run["seed"])
    settings = tuple(sorted(PARTS[run["part"]].items()))
    architecture = replace(architecture, training=TrainingSpec(rule="sandwich", settings=settings))
    job = Job(
        candidate=0,
        architecture=architecture.to_json(),
        seed=derived_seed("width schedules", run["seed"]),
        epochs=options.epochs,
        until=options.epochs,
        images=min(options.images, len(trainer.source.training_rows)),
        folder="",
    )
    started, curve = time.process_time(), []
    training = trainer.start(job)
    for epoch in range(options.epochs):
        training.train_epoch(epoch)
        points = measure_points(training.network, trainer.source, training.calibration, test=False, images=CURVE_IMAGES)
        curve.append(sum(point["accuracy"] for point in points) / len(points))
    points = measure_points(training.network, trainer.source, training.calibration, test=True)
    common = {"seconds": round(time.process_time() - started, 1), "curve": " ".join(f"{mean:.4f}" for mean in curve)}
    return [point | common for point in points]


def main() -> None:
    """Train what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True, help="data as for nas search; may be repeated")
    parser.add_argument("--images", type=int, default=10_000, help="training images of an epoch at most")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--width", type=int, default=16, choices=WIDTHS, help="of the network")
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--schedule", nargs="+", default=list(SCHEDULES[1:3]), choices=SCHEDULES)
    parser.add_argument("--part", nargs="+", default=["plain"], choices=PARTS)
    parser.add_argument("--csv", default=str(Path(__file__).parent / "rows" / "width_schedules.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = Rows(options.csv, COLUMNS)
    for seed in range(options.seeds):
        for data in options.data:
            for schedule, part in product(
                dict.fromkeys(["uniform", *options.schedule]), dict.fromkeys(["plain", *options.part])
            ):
                run = {name: getattr(options, name) for name in ("images", "epochs", "width", "beta")}
                run |= {"data": name_of(data), "schedule": schedule, "part": part, "seed": seed}
                if rows.of(run).empty:
                    rows.append(run | row for row in train(options, run, data))
                    print(*run.values(), flush=True)
    show(pd.read_csv(options.csv))


def show(rows: pd.DataFrame) -> None:
    """Print the table of each data set."""
    rows = rows.assign(name=rows.schedule + ", " + rows.part)
    for values, of_data in rows.groupby(["data", "images", "epochs", "width", "beta"]):
        table = of_data.pivot_table(index="name", columns="level", values="test_accuracy", sort=False) * 100
        macs = of_data.groupby(["name", "level"], sort=False).macs.first().unstack()
        table["seeds"] = of_data.groupby("name").seed.nunique()
        table["MACs, of uniform"] = [
            " ".join(f"{ratio:.3f}" for ratio in macs.loc[name] / macs.loc["uniform, plain"]) for name in table.index
        ]
        for column, control in (("schedule", "uniform"), ("part", "plain")):
            table[f"− {control}"] = [
                _against(of_data, *name.split(", "), column=column, control=control) for name in table.index
            ]
        table["epochs to uniform, plain"] = [_epochs(of_data, name, "uniform, plain") for name in table.index]
        print("\n=== {}, {} images, {} epochs, width {}, beta {}: test accuracy in % by point ===".format(*values))
        print(table.round(2).to_string())


def _against(rows: pd.DataFrame, schedule: str, part: str, *, column: str, control: str) -> str:
    """The difference to the control in one column, equal in the other one."""
    own = {"schedule": schedule, "part": part}
    if own[column] == control:
        return ""
    (other,) = own.keys() - {column}
    return paired_difference(rows[rows[other] == own[other]], column, own[column], control)


def _epochs(rows: pd.DataFrame, name: str, control: str) -> str:
    """Mean epochs until the mean curve reaches the end of the control's; "never" counts as one epoch more than all."""
    curves = rows.dropna(subset="curve").groupby(["name", "seed"]).curve.first()
    if not {name, control} <= set(curves.index.get_level_values("name")):
        return ""
    curves = curves.astype(str).str.split().map(lambda words: np.array(words, float))
    seeds = curves[name].index.intersection(curves[control].index)
    found = [first_epoch(curves[name][seed], curves[control][seed][-1]) for seed in seeds]
    return f"{np.mean(found):.1f} ({len(found)} seeds)" if found else ""


def first_epoch(curve: np.ndarray, accuracy: float) -> int:
    """The first epoch, from 1, after which a curve reaches an accuracy; one more than all if it never does.

    >>> first_epoch(np.array([0.1, 0.5, 0.6]), 0.5), first_epoch(np.array([0.1, 0.5]), 0.6)
    (2, 3)
    """
    reached = np.flatnonzero(curve >= accuracy)
    return int(reached[0]) + 1 if len(reached) else len(curve) + 1


if __name__ == "__main__":
    main()
