"""SteppingNet's construction against its ablations and baselines, at equal epochs and budgets of MACs.

LeNet-3C1L from the same seeds: the complete rule `stepping`, without suppression (beta=1), without the original network
(gamma=1) and with random ownership; the even split with joint training; any-width slices; and a dense network of equal
budgets with the sandwich rule. Appends rows to rows/stepping.csv after each training and skips the trainings in that
file. Prints test accuracy and MACs of every point, and paired differences of the first variant to each other variant
with 95 % t-intervals over seeds.

    python benchmarks/stepping.py --data digits
    python benchmarks/stepping.py --data npz:cifar10_10k.npz --epochs 8 --seeds 1
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from resumable import Rows, paired_difference, parser_of

from evaluators.training import Training as Trainer
from nas.evaluation.jobs import Job
from nas.evaluation.rule import parse_rule
from nas.representation.architecture import Architecture
from nas.representation.elements import Task, TrainingSpec
from nas.representation.ownership import OwnershipMacs, with_slices
from nas.seeds import seed
from search_spaces.stepping import BUDGETS, SMALLEST_UNPADDED, any_width, lenet_3c1l

VARIANTS = (
    "stepping",
    "stepping:beta=1",
    "stepping:gamma=1",
    "stepping:importance=random",
    "even split",
    "any-width",
    "sandwich",
)
RUN = ("data", "images", "epochs", "width", "variant", "seed")
COLUMNS = (*RUN, "level", "macs", "params", "accuracy", "loss", "test_accuracy", "test_loss", "seconds")


def variant(name: str, task: Task, width: int) -> Architecture:
    """The network of a variant, with its training rule."""
    padded = min(task.input_shape[1:]) < SMALLEST_UNPADDED
    if name == "any-width":
        return any_width("lenet_3c1l", width, task=task, padded=padded)
    proposal = lenet_3c1l(width, task=task, padded=padded)
    if name == "sandwich":
        return dense(proposal, width)
    if name == "even split":
        return replace(proposal, training=TrainingSpec(rule="joint"))
    settings = dict(proposal.training.settings) | dict(parse_rule(name).settings)
    return replace(proposal, training=TrainingSpec(rule="stepping", settings=tuple(sorted(settings.items()))))


def dense(proposal: Architecture, width: int) -> Architecture:
    """The same layers with dense wiring and recalibrated norms; every point has the largest width within its budget."""
    count, macs = len(dict(proposal.training.settings)["original"].split("-")), OwnershipMacs(proposal)
    cost = [int(macs(np.full((count, 1), n))[0]) for n in range(1, width + 1)]
    full = cost[-1]
    widths = tuple(max(n for n, c in enumerate(cost, start=1) if c <= budget * full) for budget in BUDGETS)
    wide = with_slices(proposal, [widths] * count)
    operations = tuple(replace(operation, wiring="dense") for operation in wide.topology.operations)
    topology = replace(wide.topology, operations=operations)
    return replace(wide, topology=topology, norm="recalibrated", training=TrainingSpec(rule="sandwich"))


def run(trainer: Trainer, options: argparse.Namespace, name: str, number: int) -> list[dict]:
    """The rows of one training, one per level."""
    architecture = variant(name, trainer.dataset.task, options.width)
    folder = Path(options.folder, trainer.dataset.name, str(options.epochs), name.replace(":", "_"), str(number))
    job = Job(
        candidate=0,
        architecture=architecture.to_json(),
        seed=seed("stepping", number),
        epochs=options.epochs,
        until=options.epochs,
        images=options.images,
        folder=str(folder.resolve()),
        test=True,
    )
    outcome = trainer.evaluate(job, lambda epoch: None)
    trainer.discard(folder)
    return [point | {"seconds": round(outcome.seconds, 1)} for point in outcome.points]


def report(frame: pd.DataFrame, variants: list[str]) -> None:
    """Print accuracies and paired differences."""
    for column, unit in (("test_accuracy", 100), ("macs", 1e-6), ("seconds", 1)):
        table = frame.pivot_table(index="variant", columns="level", values=column, sort=False) * unit
        print(f"\n{column} by level, mean of seeds\n{table.reindex(variants).round(3).to_string()}")
    ours, *controls = variants
    for control in controls:
        print(f"\n{ours} − {control}, test accuracy in points, mean and 95 % interval over seeds")
        for level in sorted(frame.level.unique()):
            print(f"  level {level}: {paired_difference(frame[frame.level == level], 'variant', ours, control)}")


def main() -> None:
    """Train the missing networks, then print."""
    parser = parser_of(__doc__, "stepping", epochs=12, width=16, width_of="filters per layer of the original network")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--layout", help="axes of the images, if their shape is ambiguous")
    parser.add_argument(
        "--variant", action="append", default=[], help="the first is compared with the rest; default: all"
    )
    options = parser.parse_args()
    variants, rows = options.variant or list(VARIANTS), Rows(options.csv, COLUMNS)
    trainer = Trainer(options.data, device=options.device, threads=options.threads, layout=options.layout)
    fixed = {"data": trainer.dataset.name, **{n: getattr(options, n) for n in ("images", "epochs", "width")}}
    for number in range(options.seeds):
        for name in variants:
            key = fixed | {"variant": name, "seed": number}
            if rows.of(key).empty:
                trained = run(trainer, options, name, number)
                rows.append(key | row for row in trained)
                print(f"{name} seed {number}: {[round(row['test_accuracy'], 4) for row in trained]}", flush=True)
    frame = rows.of(fixed)
    report(frame[(frame.seed < options.seeds) & frame.variant.isin(variants)], variants)


if __name__ == "__main__":
    main()
