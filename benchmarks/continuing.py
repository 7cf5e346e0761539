"""How should the winner of partial training go on? Ways to spend equal numbers of images on one network.

Partial training is 9 epochs over 10,000 images each, in the stages of a search. The *total* is a number of passes over
all training images; every way spends it as a whole, the partial training included:

- `fresh`: the partial training is wasted; a new training with a cosine over the rest of the images, from new weights;
- `restart`: a cosine over the rest of the images, from the weights after the partial training, whose cosines had ended;
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
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pandas as pd
import torch
from resumable import Rows, paired_difference, scored

from evaluators.training.evaluator import Training
from nas.config.recipes import Recipe
from nas.evaluation.jobs import Job, Outcome, Stage
from nas.plugins import load_plugin
from nas.representation.architecture import Architecture
from nas.seeds import seed as derived_seed
from nas.spaces.references import built_references

SPACES = ("slicing", "slimmable")
"""Of each, the largest reference of the first design within --max-macs is trained."""
RUNGS, PARTIAL_IMAGES = (1, 3, 9), 10_000
DECAY = 1 / 3
"""Share of all images over which a constant rate decays in the end."""
WAYS = ("fresh", "restart", "constant", "whole")
COLUMNS = ("data", "network", "passes", "way", "seed", "level", "macs", "accuracy", "loss", "epochs", "images")


def constant(progress: float) -> float:
    """A schedule: warm-up, then a constant rate that ends with half a cosine to zero."""
    decayed = max(0.0, (progress - (1 - DECAY)) / DECAY)
    return min(1.0, progress / Recipe().warm_up, 0.5 * (1 + math.cos(math.pi * decayed)))


def stages_of(way: str, passes: float, count: int) -> list[Stage]:
    """The stages of a way to train. count: all training images."""
    images = min(PARTIAL_IMAGES, count)
    partial, total = RUNGS[-1] * images, passes * count
    if total <= 2 * partial:
        raise SystemExit(f"--passes must be more than {2 * partial / count:.2f}, twice the partial training.")
    if way == "whole":
        return [_rest(0, total, count)]
    if way == "fresh":
        return [_rest(0, total - partial, count)]
    if way == "restart":
        return [*(Stage(end, images) for end in RUNGS), _rest(RUNGS[-1], total - partial, count)]
    share = partial / total
    return [
        Stage(RUNGS[-1], images, 0.0, share),
        _rest(RUNGS[-1], total - partial, count)._replace(start=share),
    ]


def _rest(begin: int, images: float, count: int) -> Stage:
    """A stage with about this number of images, in epochs of nearly all training images."""
    epochs = math.ceil(images / count)
    return Stage(begin + epochs, min(count, round(images / epochs)))


def trained(
    trainer: Training, architecture: Architecture, stages: list[Stage], way: str, seed: int, folder: str
) -> Outcome:
    """Train a network in one way."""
    job = Job(
        candidate=0,
        architecture=architecture.to_json(),
        seed=derived_seed("continuing", seed),
        epochs=stages[-1].end,
        until=stages[-1].end,
        images=stages[-1].images,
        folder=folder,
        stages=[list(stage) for stage in stages],
    )
    shutil.rmtree(folder, ignore_errors=True)
    factor = (lambda recipe, progress: constant(progress)) if way == "constant" else Recipe.factor
    with mock.patch.object(Recipe, "factor", factor):
        return trainer.evaluate(job, lambda epoch: None)


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
                        stages = stages_of(way, passes, len(trainer.source.training_rows))
                        outcome = trained(trainer, architecture, stages, way, seed, options.folder)
                        common = {"epochs": outcome.epochs, "images": outcome.images}
                        rows.append([place | common | point for point in outcome.points])
                        print(*place.values(), flush=True)
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
    scores = scored(rows, place, max_macs)
    lines = []
    for values, found in scores.groupby(place[:3], sort=False):
        for way, of_way in found.groupby("way", sort=False):
            difference = "" if way == "fresh" else paired_difference(found, "way", str(way), "fresh", value="accuracy")
            mean = 100 * of_way.accuracy.mean()
            lines.append(
                dict(zip(place, values)) | {"way": way, "anytime accuracy, %": round(mean, 2), "to fresh": difference}
            )
    print(pd.DataFrame(lines).to_string(index=False))


if __name__ == "__main__":
    main()
