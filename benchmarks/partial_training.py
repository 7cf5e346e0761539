"""Does a short training predict the long one? Rank correlations of anytime accuracy, per CPU second.

Each reference of the installed spaces is trained on 2,000, on 10,000 and on all training images, and measured after 1,
2, 4 and 9 epochs. The learning rate falls to zero before each measurement, by half a cosine, and restarts after it, as
in a search. The result after the most epochs on all images is what the other results shall predict.

Appends a row per operating point to rows/partial_training.csv and skips the trainings in that file. Prints, for each
fidelity, the CPU seconds per network, and Kendall's tau of its anytime accuracies over the last decade of MACs with the
last ones.

    python benchmarks/partial_training.py --data npz:fashion_mnist.npz
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from resumable import Rows, name_of, scored
from scipy.stats import kendalltau

from evaluators.training.checkpoint import read_checkpoint, write_checkpoint
from evaluators.training.evaluator import Training
from nas.evaluation.jobs import Job, Stage
from nas.plugins import load_plugin
from nas.seeds import seed as derived_seed
from nas.spaces.references import BuiltReference, built_references

SPACES = ("slicing", "slimmable", "mobile", "residual", "cells", "stepping", "throttleable")
EPOCHS = (1, 2, 4, 9)
SMALLEST = 0.15
"""References are left out whose largest point has less than this share of --max-macs."""
COLUMNS = (
    *("data", "max_macs", "network", "seed", "images", "epochs", "level", "macs", "accuracy"),
    *("train_seconds", "measure_seconds"),
)


def train(trainer: Training, place: dict, reference: BuiltReference, images: int, folder: str) -> list[dict]:
    """The rows of one network that trains on this number of images."""
    shutil.rmtree(folder, ignore_errors=True)
    job = Job(
        candidate=0,
        architecture=reference.architecture.to_json(),
        seed=derived_seed("partial training", place["seed"]),
        epochs=EPOCHS[-1],
        until=EPOCHS[-1],
        images=images,
        folder=folder,
        stages=[list(Stage(end, images)) for end in EPOCHS],
    )
    rows, done, spent = [], 0, 0.0
    for end in EPOCHS:
        run, started = trainer.start(replace(job, until=end)), time.process_time()
        if done:
            saved = read_checkpoint(Path(folder, trainer.checkpoint), trainer.device)
            assert saved is not None
            assert run.resume(saved)
        for epoch in range(done, end):
            run.train_epoch(epoch)
        spent, started, done = spent + time.process_time() - started, time.process_time(), end
        points = run.outcome(lambda: 0.0).points
        measured = time.process_time() - started
        write_checkpoint(Path(folder, trainer.checkpoint), run.checkpoint(end, 0.0, None))
        common = {"train_seconds": spent, "measure_seconds": measured, "epochs": end}
        rows += [place | common | point for point in points]
    return rows


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, nargs="+", default=[2_000, 10_000, 0], help="0: all")
    parser.add_argument("--max-macs", type=float, default=3e6)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folder", default="runs/partial_training", help="trained networks")
    parser.add_argument("--csv", default=str(Path(__file__).parent / "rows" / "partial_training.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    trainer, rows = Training(options.data), Rows(options.csv, COLUMNS)
    name, count = name_of(options.data), len(trainer.source.training_rows)
    spaces = {space: load_plugin("nas.search_spaces", space)() for space in SPACES}
    for seed in range(options.seeds):
        for wanted in options.images:
            for space in spaces.values():
                for reference in built_references(space, trainer.dataset.task, options.max_macs):
                    if reference.architecture.costs[-1] < SMALLEST * options.max_macs:
                        continue
                    images = wanted if 0 < wanted < count else count
                    place = {"data": name, "max_macs": options.max_macs, "network": reference.reference.name}
                    place |= {"seed": seed, "images": images}
                    if rows.of(place).empty:
                        rows.append(train(trainer, place, reference, images, options.folder))
                        print(*place.values(), flush=True)
    show(pd.read_csv(options.csv))


def show(rows: pd.DataFrame) -> None:
    """Print the table of each data set."""
    place = ["data", "max_macs", "network", "seed", "images", "epochs"]
    found = scored(rows, place)
    found = found.assign(seconds=found.train_seconds + found.measure_seconds)
    for values, of_data in found.groupby(place[:2]):
        last = of_data[(of_data.images == of_data.images.max()) & (of_data.epochs == EPOCHS[-1])]
        last = last.set_index(["network", "seed"]).accuracy
        lines = []
        for (images, epochs), group in of_data.groupby(["images", "epochs"]):
            both = group.set_index(["network", "seed"]).join(last.rename("last"), how="inner")
            tau = kendalltau(both.accuracy, both["last"]).statistic if len(both) > 2 else float("nan")
            lines.append(
                {
                    "images": images,
                    "epochs": epochs,
                    "networks": len(both),
                    "seconds per network": round(group.seconds.mean(), 1),
                    "tau": round(tau, 2),
                }
            )
        print(f"\n=== {values[0]}, {values[1]:g} MACs ===")
        print(pd.DataFrame(lines).to_string(index=False))


if __name__ == "__main__":
    main()
