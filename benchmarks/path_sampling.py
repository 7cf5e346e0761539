"""Path-sampled training against its controls, and against sandwich and joint training, at equal epochs.

All rules train one supernet with alternatives (or a proposal of a space) from the same seeds. Measures the operating
points on validation images every ``--every`` epochs, and at the end also on test images, which are only reported. Also
measures uniformly drawn subnetworks, equal for all rules (candidates of a search over the trained supernet), and with
``--final N`` the operating points that a final search of N measurements chooses.

Appends rows to rows/path_sampling.csv after each measurement and skips the trainings in that file. Prints accuracies,
expected MACs per step, and paired differences of the first rule to each other rule with 95 % t-intervals over seeds.

cifar10_10k.npz holds 10,000 training images of CIFAR-10 and all its test images, as x_train, y_train, x_test, y_test,
and mirror_invariant=True.

    python benchmarks/path_sampling.py --data npz:cifar10_10k.npz
    python benchmarks/path_sampling.py --data digits --epochs 2 --seeds 2 --rule path_sampling:walk=flow \\
        --rule uniform_sampling
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from resumable import Rows, paired_difference, parser_of
from step_cost import step_macs

from evaluators.training import Training as Trainer
from evaluators.training.measurement import measure_points
from nas.errors import InvalidArchitecture
from nas.evaluation.jobs import Job
from nas.evaluation.operating_points import SelectionSettings
from nas.evaluation.rule import parse_rule
from nas.execution.network import AnytimeNetwork
from nas.plugins import load_plugin
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.cost import subnetwork_macs
from nas.representation.elements import Subnetwork, Task, TrainingSpec
from nas.representation.supernet import choice_groups, sample_subnetwork
from nas.seeds import seed
from nas.spaces.choices import Domains, Recorder, at_random
from results.front import anytime_accuracy
from search_spaces.images import num_stages, prefixes

RULES = (
    "path_sampling",
    "uniform_sampling",
    "degree_sampling",
    "random_path_sampling",
    "sandwich:sampled=2",
    "joint",
)
RUN = ("data", "arch", "images", "epochs", "rule", "seed")
COLUMNS = (
    *RUN,
    "epoch",
    "kind",
    "level",
    "macs",
    "params",
    "accuracy",
    "loss",
    "test_accuracy",
    "test_loss",
    "step_macs",
    "seconds",
)
FRACTIONS = (0.25, 0.5, 0.75, 1.0)


def supernet(task: Task, width: int) -> Architecture:
    """Stages of two blocks, six blocks if the image is large enough, with two alternating kinds of alternatives.

    A block is a body of two 3×3 convolutions in parallel to a shortcut. The body of a stage's first block is optional;
    the second block has an optional parallel 1×1 convolution. An optional skip connects the input of every block and
    the output of the next block, and a long optional skip connects the stem and the last map.
    """
    b, norm = Builder(task), ("norm",)
    x = first = b.conv(b.input, prefixes(width, FRACTIONS), after=("norm", "relu"))
    count, before = num_stages(b.size(x)), None
    for stage in range(count):
        slices = prefixes(width * 2**stage, FRACTIONS)
        for opens in (True, False):
            stride = 2 if stage and opens else 1
            inner = b.conv(x, slices, stride=stride, after=("norm", "relu"), optional=opens)
            y = b.conv(inner, slices, after=norm, activation="relu")
            if stride == 1:
                b.identity(x, y)
            else:
                b.add("avg_pool", x, y, kernel=3, stride=stride)
            if not opens:
                b.add("conv", x, y, kernel=1, stride=stride, after=norm, optional=True)
            if before is not None:
                shrink = b.size(before)[0] // b.size(y)[0]
                b.add("conv", before, y, kernel=1, stride=shrink, after=norm, optional=True)
            before, x = x, y
    if count > 1:
        b.add("avg_pool", first, x, kernel=2 ** (count - 1) + 1, stride=2 ** (count - 1), optional=True)
    b.head(x)
    return b.architecture(len(FRACTIONS))


def architecture_of(name: str, task: Task, width: int) -> Architecture:
    """``supernet``, or ``SPACE:N``: the N-th random proposal of a space with at least three choices."""
    if name == "supernet":
        return supernet(task, width)
    space, _, number = name.partition(":")
    proposer, decide, domains = (
        load_plugin("nas.search_spaces", space)(),
        at_random(np.random.default_rng(0)),
        Domains(),
    )
    left = int(number or 0)
    while True:
        try:
            architecture = proposer.architecture(Recorder(decide, domains), task)
        except InvalidArchitecture:
            continue
        if len(choice_groups(architecture.topology)) >= 3:
            if not left:
                return architecture
            left -= 1


def trained_by(architecture: Architecture, rule: str, number: int) -> Architecture:
    """The architecture with a training rule; every seed has its own random path."""
    training = parse_rule(rule)
    settings = dict(training.settings)
    if training.rule == "random_path_sampling":
        settings.setdefault("path", number)
    return replace(architecture, training=TrainingSpec(rule=training.rule, settings=tuple(sorted(settings.items()))))


def drawn_subnetworks(architecture: Architecture, count: int, number: int) -> list[Subnetwork]:
    """Subnetworks drawn uniformly from a seed, ascending in MACs; fewer than count if their MACs repeat too often."""
    rng, groups = np.random.default_rng(seed("drawn subnetworks", number)), choice_groups(architecture.topology)
    point_by_macs: dict[int, Subnetwork] = {}
    for _ in range(20 * count):
        point = sample_subnetwork(architecture, groups, rng)
        if len(point_by_macs) < count:
            point_by_macs.setdefault(subnetwork_macs(architecture.topology, point), point)
    return [point_by_macs[cost] for cost in sorted(point_by_macs)]


def measure(trainer: Trainer, network: AnytimeNetwork, points: list[Subnetwork], images: int) -> list[dict[str, Any]]:
    """Accuracy of subnetworks of a trained network on validation and test images, each with its own norms."""
    calibration = trainer.source.calibration(trainer.source.training_subset(images), 0, share=network.augmented)
    return measure_points(network.with_points(points), trainer.source, calibration, test=True)


def run(trainer: Trainer, options: argparse.Namespace, rule: str, number: int, done: set[int]) -> Iterator[list[dict]]:
    """The rows of one training, epoch by epoch, without the epochs that are measured already."""
    architecture = trained_by(architecture_of(options.arch, trainer.dataset.task, options.width), rule, number)
    identity = {"epochs": options.epochs, "rule": rule, "seed": number, "step_macs": step_macs(architecture)}
    folder = Path(options.folder, *(str(part).replace("/", "_") for part in _key(trainer, options, rule, number)))
    for epoch in sorted({*range(options.every, options.epochs, options.every), options.epochs} - done):
        job = Job(
            candidate=0,
            architecture=architecture.to_json(),
            seed=seed("path sampling", number),
            epochs=options.epochs,
            until=epoch,
            images=options.images,
            folder=str(folder.resolve()),
            test=epoch == options.epochs,
        )
        outcome = trainer.evaluate(job, lambda epoch: None)
        common = identity | {"epoch": epoch, "seconds": round(outcome.seconds, 1)}
        rows = [common | {"kind": "point"} | point for point in outcome.points]
        if outcome.saved and options.subnetworks:
            network = AnytimeNetwork.load(folder).to(trainer.device)
            drawn = drawn_subnetworks(architecture, options.subnetworks, number)
            rows += [common | {"kind": "drawn"} | row for row in measure(trainer, network, drawn, options.images)]
        yield rows
    trainer.discard(folder)


def final_search(trainer: Trainer, options: argparse.Namespace, rule: str, number: int) -> list[dict]:
    """Rows of the operating points that a final search over a trained supernet chooses."""
    folder = Path(options.folder, *(str(part).replace("/", "_") for part in _key(trainer, options, rule, number)))
    if not folder.is_dir():
        print(f"{rule} seed {number}: no final search, because {folder} has no network", flush=True)
        return []
    network = AnytimeNetwork.load(folder)
    selection = SelectionSettings(evaluations=options.final, low=network.macs[0], high=1.01 * network.macs[-1])
    started = time.monotonic()
    chosen = trainer.select(network, selection, seed=seed("path sampling", number))
    identity = {"epochs": options.epochs, "rule": rule, "seed": number, "epoch": options.epochs, "kind": "final"}
    identity["seconds"] = round(time.monotonic() - started, 1)
    return [identity | {name: value for name, value in point.items() if name in COLUMNS} for point in chosen.points]


def _key(trainer: Trainer, options: argparse.Namespace, rule: str, number: int) -> tuple:
    return trainer.dataset.name, _arch(options), options.images, options.epochs, rule, number


def _arch(options: argparse.Namespace) -> str:
    return f"{options.arch}-{options.width}" if options.arch == "supernet" else options.arch


def report(frame: pd.DataFrame, rules: list[str]) -> None:
    """Print accuracies and paired differences."""
    last = frame[frame.epoch == frame.epochs]
    points, drawn, final = (last[last.kind == kind] for kind in ("point", "drawn", "final"))
    print(
        "\nOperating points, test accuracy by level; drawn subnetworks; expected MACs per step; seconds (mean of seeds)"
    )
    table = points.pivot_table(index="rule", columns="level", values="test_accuracy", sort=False)
    table.columns = [f"level {level}" for level in table.columns]
    for name, rows, column in (
        ("mean", points, "test_accuracy"),
        ("validation", points, "accuracy"),
        ("drawn", drawn, "test_accuracy"),
        ("step MMACs", points.assign(step_macs=points.step_macs / 1e6), "step_macs"),
        ("seconds", points, "seconds"),
    ):
        table[name] = rows.groupby("rule")[column].mean()
    print(table.reindex(rules).round(4).to_string())
    ours, *controls = rules
    for control in controls:
        print(f"\n{ours} − {control}, test accuracy in points, mean and 95 % interval over seeds")
        for level in sorted(points.level.unique()):
            print(f"  level {level}: {paired_difference(points[points.level == level], 'rule', ours, control)}")
        print(f"  mean of levels: {paired_difference(points, 'rule', ours, control)}")
        if len(drawn):
            print(f"  drawn subnetworks: {paired_difference(drawn, 'rule', ours, control)}")
        if len(final):
            for description, chosen in (("after the final search", final), ("as proposed", points)):
                difference = paired_difference(_anytime(chosen, points), "rule", ours, control)
                print(f"  anytime accuracy {description}: {difference}")
        print(f"  epochs to the control's final validation accuracy: {_epochs_to(frame, ours, control)}")


def _anytime(rows: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Test anytime accuracy over the MACs of the architecture's own points, with points chosen on validation images."""
    low, high = points.macs.min(), 1.01 * points.macs.max()
    accuracies = [
        {
            "rule": rule,
            "seed": number,
            "test_accuracy": anytime_accuracy(
                group.macs, group.test_accuracy, low=low, high=high, floor=0.1, chosen_by=group.accuracy
            ),
        }
        for (rule, number), group in rows.groupby(["rule", "seed"])
    ]
    return pd.DataFrame(accuracies)


def _epochs_to(frame: pd.DataFrame, ours: str, control: str) -> str:
    curves = frame[frame.kind == "point"].groupby(["seed", "rule", "epoch"]).accuracy.mean()
    reached = []
    for number in sorted(frame.seed.unique()):
        if (number, ours) in curves.index and (number, control) in curves.index:
            goal = curves[number, control].iloc[-1]
            enough = curves[number, ours][lambda curve, goal=goal: curve >= goal]
            reached.append(str(enough.index[0]) if len(enough) else "never")
    return f"{', '.join(reached)} of {frame.epochs.iloc[0]}"


def main() -> None:
    """Train the missing networks, then print."""
    parser = parser_of(__doc__, "path_sampling", epochs=8, width=8, width_of="of the supernet's first stage")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--layout", help="axes of the images, if their shape is ambiguous")
    parser.add_argument("--every", type=int, default=2, help="epochs between measurements on validation images")
    parser.add_argument("--arch", default="supernet", help="supernet, or SPACE:N for the N-th proposal of a space")
    parser.add_argument(
        "--rule", action="append", default=[], help="as for nas search; the first is compared with the rest"
    )
    parser.add_argument("--subnetworks", type=int, default=4, help="subnetworks to draw and measure after training")
    parser.add_argument("--final", type=int, default=0, help="measurements of a final search after training; 0: none")
    options = parser.parse_args()
    rules, rows = options.rule or list(RULES), Rows(options.csv, COLUMNS)
    trainer = Trainer(options.data, device=options.device, threads=options.threads, layout=options.layout)
    for number in range(options.seeds):
        for rule in rules:
            recorded = rows.of(dict(zip(RUN, _key(trainer, options, rule, number))))
            done = set(recorded.epoch)
            fixed = {"data": trainer.dataset.name, "arch": _arch(options), "images": options.images}
            steps = run(trainer, options, rule, number, done) if options.epochs not in done else iter(())
            if options.final and not (recorded.kind == "final").any():
                steps = chain(steps, (final_search(trainer, options, rule, number) for _ in range(1)))
            for new_rows in filter(None, steps):
                rows.append(fixed | row for row in new_rows)
                print(f"{rule} seed {number}, epoch {new_rows[0]['epoch']}: {_short(new_rows)}", flush=True)
    frame = rows.of(dict(zip(RUN[:4], _key(trainer, options, rules[0], 0))))
    report(frame[frame.seed < options.seeds], rules)


def _short(rows: list[dict]) -> str:
    final = [row for row in rows if row["kind"] in ("point", "final")]
    measure = "test_accuracy" if "test_accuracy" in final[0] else "accuracy"
    return f"{final[0]['kind']}s, {measure} {[round(row[measure], 4) for row in final]}, {final[-1]['seconds']} s"


if __name__ == "__main__":
    main()
