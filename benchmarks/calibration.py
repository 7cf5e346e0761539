"""Recalibration of norms on unchanged images, and on images augmented as in training.

A throttleable VGG, trained in groups on cropped and flipped images, is recalibrated in both ways on the same 2,048
training images. Measures the accuracy of its smallest and its largest operating point. Appends rows to
rows/calibration.csv and skips the trainings in that file.

    python benchmarks/calibration.py --data npz:cifar10_10k.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from resumable import Rows, paired_difference, parser_of

import nas
from evaluators.training import Training as Trainer
from evaluators.training.measurement import measure_points
from nas.evaluation.jobs import Job
from nas.seeds import seed
from search_spaces.throttleable import vgg

RUN = ("data", "images", "epochs", "width", "seed")
COLUMNS = (*RUN, "statistics", "level", "accuracy", "test_accuracy")
STATISTICS = {"as they are": 0.0, "changed": 1.0}
"""Share of augmented images by name of the statistics; all are augmented in training."""


def run(options: argparse.Namespace, number: int) -> list[dict[str, Any]]:
    """The rows of one seed: both statistics at both points."""
    trainer = Trainer(options.data, device=options.device, threads=options.threads, augment="crop+flip")
    network = vgg(
        options.width,
        (1, 1, 1),
        task=trainer.dataset.task,
        always=2,
        utilizations=(0.0, 1.0),
        norm="recalibrated",
    )
    folder = str(Path(options.folder, f"{options.width} {options.epochs} {number}").resolve())
    job = Job(
        candidate=0,
        architecture=network.to_json(),
        seed=seed("calibration", number),
        epochs=options.epochs,
        until=options.epochs,
        images=options.images,
        folder=folder,
    )
    trainer.evaluate(job, lambda epoch: None)
    rows = []
    for name, share in STATISTICS.items():
        images = trainer.source.calibration(trainer.source.training_subset(options.images), job.seed, share=share)
        points = measure_points(nas.load(folder), trainer.source, images, test=True)
        rows += [point | {"statistics": name} for point in points]
    trainer.discard(Path(folder))
    return rows


def main() -> None:
    """Train the missing networks, then print."""
    parser = parser_of(__doc__, "calibration", epochs=8, width=16, width_of="of the first stage")
    parser.add_argument("--data", default="digits", help="data as for nas search")
    options = parser.parse_args()
    rows = Rows(options.csv, COLUMNS)
    fixed = {"data": Trainer(options.data).dataset.name} | {name: getattr(options, name) for name in RUN[1:-1]}
    for number in range(options.seeds):
        key = fixed | {"seed": number}
        if rows.of(key).empty:
            rows.append(row | key for row in run(options, number))
    frame = rows.of(fixed)
    table = frame.assign(percent=frame.test_accuracy * 100)
    print(table.pivot_table(index="statistics", columns="level", values="percent").round(2).to_string())
    for level in sorted(frame.level.unique()):
        difference = paired_difference(frame[frame.level == level], "statistics", *reversed(STATISTICS))
        print(f"level {level}, accuracy on changed minus unchanged images: {difference}")


if __name__ == "__main__":
    main()
