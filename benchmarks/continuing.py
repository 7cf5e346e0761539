"""How should the winner of partial training go on? Ways to spend equal numbers of images on one network.

Partial training is 9 epochs over 10,000 images. The *total* is a number of passes over all training images; every way
spends it as a whole, the partial training included:

- `fresh`: the partial training is wasted; a new training with a cosine over the rest of the images, from new weights;
- `restart`: a cosine over the rest of the images, from the weights after the partial training, whose cosine had ended;
  `restart, half rate` with half of the learning rate;
- `constant`: the learning rate stays constant in the partial training and after it; it ends with half a cosine over the
  last third of all images;
- `whole`: a single cosine over all images, without a partial training: what the others lose.

The networks are references of two search spaces. Appends a row per operating point to rows/continuing.csv and skips the
trainings in that file. Prints the mean anytime accuracy on validation images over the last decade of MACs, and its
difference to `fresh`, paired by seed.

    python benchmarks/continuing.py --data npz:fashion_mnist.npz [--passes 6 18] [--seeds 3]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch
from resumable import Rows, paired_difference

from evaluators.training.evaluator import Training
from evaluators.training.run import TrainingRun
from evaluators.training.schedule import WARM_UP, schedule
from nas.evaluation.jobs import Job
from nas.plugins import load_plugin
from nas.representation.architecture import Architecture
from nas.seeds import seed as derived_seed
from nas.spaces.references import built_references
from results.front import anytime_accuracy

SPACES = ("slicing", "slimmable")
"""Of each, the largest reference of the first design within --max-macs is trained."""
PARTIAL = {"epochs": 9, "images": 10_000}
DECAY = 1 / 3
"""Share of all images over which a constant rate decays in the end."""
WAYS = ("fresh", "restart", "restart, half rate", "constant", "whole")
DECADE = 10.0
COLUMNS = ("data", "network", "passes", "way", "seed", "level", "macs", "accuracy", "loss", "epochs", "images")


def constant(progress: float) -> float:
    """A schedule: warm-up, then a constant rate."""
    return min(1.0, progress / WARM_UP)


def decaying(spent: float) -> Callable[[float], float]:
    """The schedule of the rest: constant, then half a cosine to zero. spent: share of all images before it."""

    def rate(progress: float) -> float:
        decayed = max(0.0, (spent + progress * (1 - spent) - (1 - DECAY)) / DECAY)
        return 0.5 * (1 + math.cos(math.pi * decayed))

    return rate


@contextmanager
def rates(factor: Callable[[float], float]) -> Iterator[None]:
    """Train with another schedule of the learning rate."""
    with mock.patch("evaluators.training.run.schedule", factor):
        yield


class Ways:
    """Trainings of one network with one seed and one total."""

    def __init__(self, trainer: Training, architecture: Architecture, passes: float, seed: int, folder: str):
        self.trainer, self.architecture, self.folder = trainer, architecture, folder
        self.seed = derived_seed("continuing", seed)
        self.all = len(trainer.source.training_rows)
        self.total = passes * self.all
        self.partial = PARTIAL["epochs"] * min(PARTIAL["images"], self.all)
        if self.total <= 2 * self.partial:
            least = 2 * self.partial / self.all
            raise SystemExit(f"--passes must be more than {least:.2f}, twice the partial training. Got {passes:g}.")

    def points(self, way: str) -> tuple[list[dict[str, Any]], int, int]:
        """Train in one way; the measured points, and epochs and images of the last stretch of training."""
        if way == "whole":
            return self._measured(self._run(self.total))
        rest = self._run(self.total - self.partial)
        if way == "fresh":
            return self._measured(rest)
        before = constant if way == "constant" else schedule
        after = decaying(self.partial / self.total) if way == "constant" else schedule
        partial = self.trainer.start(self._job(**PARTIAL))
        with rates(before):
            train(partial)
        rest.state.load_state_dict(partial.state.state_dict())
        if way == "restart, half rate":
            rest.learning_rate /= 2
        with rates(after):
            return self._measured(rest)

    def _run(self, images: float) -> TrainingRun:
        """A training with this many images in all, in epochs of nearly all training images."""
        epochs = math.ceil(images / self.all)
        return self.trainer.start(self._job(epochs=epochs, images=min(self.all, round(images / epochs))))

    def _measured(self, run: TrainingRun) -> tuple[list[dict[str, Any]], int, int]:
        train(run)
        return run.outcome(lambda: 0.0).points, run.job.epochs, run.images

    def _job(self, *, epochs: int, images: int) -> Job:
        return Job(
            candidate=0,
            architecture=self.architecture.to_json(),
            seed=self.seed,
            epochs=epochs,
            until=epochs,
            images=images,
            folder=self.folder,
        )


def train(run: TrainingRun) -> None:
    """All epochs of a training."""
    for epoch in range(run.job.epochs):
        run.train_epoch(epoch)


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--passes", type=float, nargs="+", default=[6.0, 18.0])
    parser.add_argument("--max-macs", type=float, default=1e6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--way", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--folder", default="runs/continuing", help="trained networks")
    parser.add_argument("--csv", default=str(Path(__file__).parent / "rows" / "continuing.csv"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    trainer = Training(options.data, threads=options.threads)
    name, rows = trainer.dataset.name, Rows(options.csv, COLUMNS)
    for seed in range(options.seeds):
        for passes in options.passes:
            for network, architecture in networks(trainer, options.max_macs):
                for way in options.way:
                    place = {"data": name, "network": network, "passes": passes, "way": way, "seed": seed}
                    if rows.of(place).empty:
                        ways = Ways(trainer, architecture, passes, seed, options.folder)
                        points, epochs, images = ways.points(way)
                        rows.append([place | point | {"epochs": epochs, "images": images} for point in points])
    show(pd.read_csv(options.csv), options.max_macs)


def networks(trainer: Training, max_macs: float) -> Iterator[tuple[str, Architecture]]:
    """The references with their names."""
    for name in SPACES:
        built = built_references(load_plugin("nas.search_spaces", name)(), trainer.dataset.task, max_macs)
        if not built:
            raise SystemExit(f"The space {name} has no reference within --max-macs {max_macs:g} for these data.")
        largest = [each for each in built if each.reference.design == built[0].reference.design][-1]
        yield largest.reference.name, largest.architecture


def show(rows: pd.DataFrame, max_macs: float) -> None:
    """Print the mean anytime accuracy of each way, and its difference to a fresh training."""
    place = ["data", "passes", "network", "way", "seed"]
    scores = pd.DataFrame(
        [
            dict(zip(place, values)) | {"accuracy": score(points, max_macs)}
            for values, points in rows.groupby(place, sort=False)
        ]
    )
    lines = []
    for values, found in scores.groupby(place[:3], sort=False):
        for way, of_way in found.groupby("way", sort=False):
            difference = "" if way == "fresh" else paired_difference(found, "way", str(way), "fresh", value="accuracy")
            mean = 100 * of_way.accuracy.mean()
            lines.append(
                dict(zip(place, values)) | {"way": way, "anytime accuracy, %": round(mean, 2), "to fresh": difference}
            )
    print(pd.DataFrame(lines).to_string(index=False))


def score(points: pd.DataFrame, max_macs: float) -> float:
    """Anytime accuracy on validation images over the last decade of MACs."""
    return anytime_accuracy(
        points.macs.to_numpy(), points.accuracy.to_numpy(), low=max_macs / DECADE, high=max_macs, floor=0.0
    )


if __name__ == "__main__":
    main()
