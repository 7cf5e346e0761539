"""Does another recipe train better? One change at a time, on references of several spaces.

Every recipe trains every network on equal numbers of images. The table gives the difference of anytime accuracy on
*validation* images to the first recipe of the rows, paired by network and seed, over the last decade of MACs, and the
ratio of CPU time, a median over the trainings. Machines are shared, therefore compare times only of recipes that ran
one after the other.

Appends a row per operating point to rows/recipe.csv and skips the trainings in that file.

    python benchmarks/recipe.py --data npz:fashion_mnist.npz [--passes 2] [--seeds 1]
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch
from resumable import Rows, in_points, name_of, scored

from evaluators.data.augmentation import Augmentation
from evaluators.training.evaluator import Training
from evaluators.training.run import TrainingRun
from evaluators.training.schedule import default_batch_size, default_learning_rate
from nas.config.recipes import parse_recipe
from nas.evaluation.jobs import Job
from nas.plugins import load_plugin
from nas.representation.architecture import Architecture
from nas.seeds import seed as derived_seed
from nas.spaces.references import BuiltReference, built_references

SPACES = ("slicing", "slimmable", "mobile")
"""Of each, the largest reference of the first design within --max-macs is trained."""
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "all images shifted": {"augment": "crop"},
    "half of the images shifted": {"augment": "crop", "augmented": 0.5},
    "no augmentation": {"augment": "none"},
    "no shifts in the last quarter": {"augment": "crop", "plain_end": 0.25},
    "flips only": {"augment": "flip"},
    "half the batch": {"batch": 0.5},
    "twice the batch": {"batch": 2.0},
    "half the rate": {"rate": 0.5},
    "twice the rate": {"rate": 2.0},
    "decay 1e-4": {"recipe": "default:weight_decay=1e-4"},
    "decay 1e-3": {"recipe": "default:weight_decay=1e-3"},
    "AdamW": {"recipe": "default:optimiser=adamw,weight_decay=0.05"},
    "label smoothing 0.1": {"rule": {"smoothing": 0.1}},
    "moving average": {"rule": {"ema": 0.99}},
    "bfloat16": {"precision": "bfloat16"},
    "contiguous layout": {"contiguous": True},
}
EARLIER = ("half the batch", "label smoothing 0.1", "moving average", "half the rate")
"""Measured with all images shifted, too, as by default at that time."""
RECIPES |= {f"all images shifted, {name}": RECIPES[name] | {"augment": "crop"} for name in EARLIER}
COLUMNS = (
    *("data", "max_macs", "passes", "recipe", "network", "seed", "level", "macs", "accuracy", "loss"),
    *("batch_size", "learning_rate", "seconds"),
)


@contextmanager
def changed(changes: dict[str, Any]) -> Iterator[None]:
    """The changes of a recipe that are no settings of the evaluator."""
    if "augmented" in changes:
        with mock.patch.object(Augmentation, "share", return_value=changes["augmented"]):
            yield
    elif "plain_end" in changes:
        with augmented_until(1 - changes["plain_end"]):
            yield
    elif "contiguous" in changes:
        with mock.patch("evaluators.training.run.channels_last", lambda module, shape: module):
            yield
    else:
        yield


@contextmanager
def augmented_until(share: float) -> Iterator[None]:
    """Augment only in this share of the epochs, the first ones."""
    train_epoch = TrainingRun.train_epoch

    def epoch_of(run: TrainingRun, epoch: int) -> None:
        now = 1.0 if epoch < share * run.job.epochs else 0.0
        with mock.patch.object(Augmentation, "share", return_value=now):
            train_epoch(run, epoch)

    with mock.patch.object(TrainingRun, "train_epoch", epoch_of):
        yield


def with_settings(architecture: Architecture, settings: dict[str, Any]) -> Architecture:
    """The architecture with further settings of its training rule."""
    training = architecture.training
    merged = dict(training.settings) | settings
    return replace(architecture, training=replace(training, settings=tuple(sorted(merged.items()))))


def train(options: argparse.Namespace, name: str, reference: BuiltReference, seed: int) -> list[dict[str, Any]]:
    """The rows of one training."""
    changes = RECIPES[name]
    plain = Training(options.data)
    batch = default_batch_size(len(plain.source.training_rows))
    batch = round(batch * changes.get("batch", 1.0))
    architecture = with_settings(reference.architecture, changes.get("rule", {}))
    own = {key: changes[key] for key in ("recipe", "augment", "precision") if key in changes}
    optimiser = parse_recipe(own.get("recipe", "default")).optimiser
    rate = changes.get("rate", 1.0) * default_learning_rate(batch, architecture, optimiser)
    trainer = Training(plain.dataset, batch_size=batch, learning_rate=rate, **own)
    folder = Path(options.folder)
    shutil.rmtree(folder, ignore_errors=True)
    job = Job(
        candidate=0,
        architecture=architecture.to_json(),
        seed=derived_seed("recipe", seed),
        epochs=options.passes,
        until=options.passes,
        images=len(trainer.source.training_rows),
        folder=str(folder),
    )
    with changed(changes):
        started = time.process_time()
        outcome = trainer.evaluate(job, lambda epoch: None)
    seconds = round(time.process_time() - started, 1)
    points = [point | {"accuracy": point.get("average_accuracy", point["accuracy"])} for point in outcome.points]
    return [point | {"batch_size": batch, "learning_rate": round(rate, 4), "seconds": seconds} for point in points]


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--passes", type=int, default=2, help="over all training images")
    parser.add_argument("--max-macs", type=float, default=2e6)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--space", nargs="+", default=list(SPACES), choices=SPACES)
    parser.add_argument("--recipe", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--folder", default="runs/recipe", help="trained networks")
    parser.add_argument("--csv", default=str(Path(__file__).parent / "rows" / "recipe.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    task, rows = Training(options.data).dataset.task, Rows(options.csv, COLUMNS)
    for seed in range(options.seeds):
        for recipe in options.recipe:
            for space in options.space:
                built = built_references(load_plugin("nas.search_spaces", space)(), task, options.max_macs)
                largest = [one for one in built if one.reference.design == built[0].reference.design][-1]
                place = {"data": name_of(options.data), "max_macs": options.max_macs, "passes": options.passes}
                place |= {"recipe": recipe, "network": largest.reference.name, "seed": seed}
                if rows.of(place).empty:
                    rows.append(place | row for row in train(options, recipe, largest, seed))
                    print(*place.values(), flush=True)
    show(pd.read_csv(options.csv))


def show(rows: pd.DataFrame) -> None:
    """Print the table of each data set and number of passes."""
    by = ["data", "max_macs", "passes", "recipe", "network", "seed"]
    for values, of_data in scored(rows, by).groupby(by[:3]):
        trainings = of_data.set_index(["network", "seed"])
        base = trainings[trainings.recipe == of_data.recipe.iloc[0]]
        lines = [
            {
                "recipe": recipe,
                "trainings": len(own),
                "accuracy": round(100 * own.accuracy.mean(), 2),
                "gain": in_points(own.accuracy - base.accuracy),
                "seconds": round((own.seconds / base.seconds).median(), 2),
            }
            for recipe, own in trainings.groupby("recipe", sort=False)
        ]
        print("\n=== {}, {:g} MACs, {} passes ===".format(*values))
        print(pd.DataFrame(lines).to_string(index=False))


if __name__ == "__main__":
    main()
