"""Does the search pay? Searches against fixed networks that train for all of the same CPU time.

Methods, in equal CPU time, the start of Python included:

- `search`: `nas search` with its defaults; `random`: the same with random proposals that no proxy orders;
- the fixed networks, the largest reference of each design within the MACs: `slimmable` (a ResNet-8 under the sandwich
  rule), `block-triangular` (ResNeXt under causal training with distillation) and `mobile` (MobileNetV2). The cosine
  ends when the time is over: a short run measures the seconds of an epoch, and the number of epochs, and if necessary
  of images, follows from it; after a tenth and after half of the schedule, the rest is planned anew. All this is part
  of the time;
- `supernet`: one supernet of `residual` under path sampling, and a final search for its operating points.

The *time* is CPU time of the process and its children, because machines are shared; with several threads it is the
clock's (``--threads 2``). CPU time also grows under load, therefore each row has the load and the time of a fixed piece
of work (probe_ms) before and after its run; the methods of a seed run one after the other.

All methods may use MACs up to --max-macs (3 M for gray images, 4.5 M for coloured ones by default) and are scored by
anytime accuracy over the last decade of MACs, and by the hypervolume over it, with points chosen on validation images
and measured on test images: of the best network, and of the front of all networks that were fully trained.

Appends a row per operating point to rows/pays.csv and skips the runs in that file.

    python benchmarks/pays.py --data npz:fashion_mnist.npz --data npz:cifar10_10k.npz --minutes 5
    python benchmarks/pays.py --data npz:fashion_mnist.npz --minutes 20 --method search --method block-triangular
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from pays_report import FIXED, report
from resumable import DECADE, Rows, name_of

import nas
from evaluators.data.augmentation import Augmentation
from evaluators.training.evaluator import Training
from evaluators.training.measurement import calibrate
from evaluators.training.schedule import default_batch_size
from nas.evaluation.jobs import Job
from nas.evaluation.operating_points import SelectionSettings
from nas.plugins import load_plugin
from nas.representation.architecture import Architecture
from nas.representation.elements import Task, TrainingSpec
from nas.seeds import seed
from nas.spaces.references import Design, built_references, sizes_within
from search_spaces.images import stem_strides

MAX_MACS = {1: 3e6, 3: 4.5e6}
"""Default of --max-macs by the number of channels of the images."""
CALIBRATION_SHARE = 0.02
"""Share of the time that may be spent on measuring the seconds of an epoch, about."""
MEASURED_IMAGES = 1_000
"""Images on which the seconds of an answer are measured."""
FEWEST_EVALUATIONS = 16
FINAL_SEARCH_SHARE = 0.2
"""Share of the time for the final search over a supernet."""
REPLANNED = (0.1, 0.5, 1.0)
"""Shares of a fixed network's schedule after which the rest is planned anew."""
LEFT_OUT = 0.2
"""Up to this part of an epoch is left out; if more is left, an epoch is added, and all have fewer images."""
RUN = ("data", "minutes", "threads", "max_macs", "method", "seed")
COLUMNS = (
    *RUN,
    "network",
    "best",
    "level",
    "macs",
    "accuracy",
    "test_accuracy",
    "epochs",
    "images",
    "networks",
    "cpu_seconds",
    "wall_seconds",
    "load_before",
    "load_after",
    "probe_ms_before",
    "probe_ms_after",
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run. seconds: the time, see the top."""

    data: str
    method: str
    seed: int
    seconds: float
    threads: int
    max_macs: float
    folder: str

    def spent(self) -> float:
        """Seconds of this process so far."""
        own = psutil.Process()
        return cpu_seconds(own) if self.threads == 1 else time.time() - own.create_time()


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process, its children that have ended, and, recursively, those that run."""
    total = sum(process.cpu_times()[:4])
    for child in process.children():
        try:
            total += cpu_seconds(child)
        except psutil.NoSuchProcess:
            continue
    return total


# Fixed networks ----------------------------------------------------------------------------------------------------


def fixed(run: Run) -> list[dict[str, Any]]:
    """Train the largest reference within the MACs for all of the time."""
    trainer = Training(run.data, threads=run.threads)
    space = load_plugin("nas.search_spaces", FIXED[run.method])()
    built = built_references(space, trainer.dataset.task, run.max_macs)
    largest = [one for one in built if one.reference.design == built[0].reference.design][-1]
    torch.set_num_threads(run.threads)
    costs = calibrated(run, trainer, largest.architecture)
    result = trained(run, trainer, largest.architecture, costs, until=run.seconds)
    return result.rows(largest.reference.name, result.points)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds of a network: of an epoch over all images, of the norms of its points, of an answer of all points."""

    epoch: float
    norms: float
    answer: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained network with its measured points. images: mean of an epoch."""

    points: list[dict[str, Any]]
    epochs: int
    images: int

    def rows(self, name: str, points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of points of this network."""
        common = {"network": name, "best": True, "epochs": self.epochs, "images": self.images, "networks": 1}
        return [point | common for point in points]


def calibrated(run: Run, trainer: Training, architecture: Architecture) -> Costs:
    """Measure a network's costs by short runs with the batch size of the long one."""
    count = len(trainer.source.training_rows)
    batch = default_batch_size(count)
    short = Training(trainer.dataset, threads=run.threads, batch_size=batch)
    images = min(count, 2 * batch)  # the first run warms up
    first = run.spent()
    while True:
        work = short.start(_job(run, architecture, 1, images))
        started = run.spent()
        work.train_epoch(0)
        now = run.spent()
        if images == count or now - first > CALIBRATION_SHARE / 2 * run.seconds:
            break
        images = min(count, 4 * images)
    epoch = (now - started) * count / images
    network, started = work.network, run.spent()
    if architecture.norm == "recalibrated":
        calibrate(network, work.calibration)
    norms, seen = run.spent() - started, 0
    started = run.spent()
    with torch.no_grad():
        for x, _ in short.source.validation().evaluate():
            network.eval().forward_all(x)
            seen += len(x)
            if seen >= MEASURED_IMAGES:
                break
    return Costs(epoch=epoch, norms=norms, answer=(run.spent() - started) / seen)


@dataclass(frozen=True, kw_only=True)
class OfWholeTraining(Augmentation):
    """Changes as many images from the beginning as in one training of the expected passes, whatever is planned anew."""

    expected: float

    def share(self, passes: float) -> float:
        return super().share(self.expected)


def trained(run: Run, trainer: Training, architecture: Architecture, costs: Costs, *, until: float) -> Trained:
    """Train a network until the time and measure it. until: seconds of the process.

    The rest of the schedule is planned anew after a tenth and after half of it, because machines are shared and their
    speed changes.
    """
    count, measured = (
        len(trainer.source.training_rows),
        len(trainer.source.validation_rows) + len(trainer.dataset.y_test),
    )
    reserve = costs.norms + measured * costs.answer
    pace, done, stages, passes = costs.epoch, 0.0, list[list[Any]](), 0.0
    augmented = trainer.source.augmentation
    expected = (until - run.spent() - reserve) / pace
    trainer.source.augmentation = OfWholeTraining(**vars(augmented), expected=expected)
    for share in REPLANNED:
        started = run.spent()
        affordable = (until - started - reserve) / pace * (share - done) / (1 - done)
        epochs, images = plan(affordable, count)
        stages.append([sum(stage[0] for stage in stages[-1:]) + epochs, images, done, share])
        last = share == 1
        job = replace(
            _job(run, architecture, stages[-1][0], images),
            stages=stages,
            epochs=stages[-1][0] + (not last),  # a schedule that has not ended saves no network
            test=last,
            measured_images=None if last else MEASURED_IMAGES,
        )
        outcome = trainer.evaluate(job, lambda epoch: None)
        pace, done = (run.spent() - started) / (epochs * images / count), share
        passes += epochs * images / count
    return Trained(points=outcome.points, epochs=stages[-1][0], images=round(passes * count / stages[-1][0]))


def plan(affordable: float, count: int) -> tuple[int, int]:
    """Epochs, and images of each, that take as long as ``affordable`` passes over ``count`` images.

    >>> plan(6.0, 1000), plan(6.1, 1000), plan(5.5, 1000), plan(0.1, 1000)
    ((6, 1000), (6, 1000), (6, 917), (1, 100))
    """
    epochs = max(1, math.ceil(affordable - LEFT_OUT))
    return epochs, max(2, min(count, round(count * affordable / epochs)))


def _job(run: Run, architecture: Architecture, epochs: int, images: int) -> Job:
    return Job(
        candidate=0,
        architecture=architecture.to_json(),
        seed=seed("pays", run.seed),
        epochs=epochs,
        until=epochs,
        images=images,
        folder=run.folder,
        test=True,
    )


# Searches ----------------------------------------------------------------------------------------------------------


def supernet(run: Run) -> list[dict[str, Any]]:
    """Train one supernet under path sampling, then search for its operating points within the MACs."""
    trainer = Training(run.data, threads=run.threads)
    network = supernet_of(trainer.dataset.task, run.max_macs)
    torch.set_num_threads(run.threads)
    costs = calibrated(run, trainer, network)
    result = trained(run, trainer, network, costs, until=(1 - FINAL_SEARCH_SHARE) * run.seconds)
    of_subnetwork = (costs.norms + costs.answer * len(trainer.source.validation_rows)) / len(network.points)
    left = run.seconds - run.spent() - costs.norms - costs.answer * len(trainer.dataset.y_test)
    selection = SelectionSettings(
        evaluations=max(FEWEST_EVALUATIONS, int(left / of_subnetwork)),
        low=run.max_macs / DECADE,
        high=run.max_macs,
        max_macs=run.max_macs,
    )
    chosen = trainer.select(nas.load(run.folder), selection, seed=seed("pays", run.seed))
    return result.rows(f"supernet, {selection.evaluations} subnetworks measured", chosen.points)


def supernet_of(task: Task, max_macs: float) -> Architecture:
    """The largest supernet of `residual` within twice the MACs: blocks with branches and skips that are optional."""
    space = load_plugin("nas.search_spaces", "residual")()
    answers = {"smallest fraction": 0.25, "spacing": "linear", "growth": 2.0, "body": "basic", "kernel": 3}
    answers |= {"shortcut": "project", "branch": "project", "long skip": "pool"}
    answers |= {"skip": 2, "skip across": "project", "skip within": "identity"}
    design = Design(
        name="supernet",
        size="width {width}",
        origin="this benchmark",
        answers=answers,
        sizes=[{"width": width, "depth": 2, "stem stride": stem_strides(task)[-1]} for width in (16, 20, 24)],
    )
    largest = sizes_within(space, [design], task, 2 * max_macs)[-1]
    network = space.architecture(lambda name, options: largest.choices[name], task)
    return replace(network, training=TrainingSpec(rule="path_sampling"))


def random(run: Run) -> list[dict[str, Any]]:
    """A search with random proposals that no proxy orders."""
    return search(run, strategy="random", generation=9, pool=9)


def search(run: Run, *, evaluator: str = "TrainingInCpuTime", **settings: Any) -> list[dict[str, Any]]:
    """A search, whose clock is the time of this benchmark. evaluator: if the time is CPU time."""
    import nas.funnel.eta

    if run.threads == 1:  # the time is CPU time
        assert hasattr(nas.funnel.eta, "monotonic")
        nas.funnel.eta.monotonic = run.spent
        settings["evaluator"] = f"{Path(__file__).with_name('pays_evaluator.py')}:{evaluator}"
    study = nas.search(
        run.data,
        study="pays",
        store=f"{run.folder}/store.db",
        hours=(run.seconds - run.spent()) / 3600,
        max_macs=run.max_macs,
        low=run.max_macs / DECADE,
        seed=run.seed,
        threads=1,
        workers=run.threads,
        **settings,
    )
    points, count = study.points(), int(study.candidates().fidelity.notna().sum())
    final = points[points.test_accuracy.notna()]
    if final.empty:  # no network was trained to the end: the row scores as the best constant answer
        return [{"network": "none", "best": True, "level": 0, "macs": run.max_macs, "networks": count}]
    best = study.best().key
    return [
        {
            "network": f"{row.space} {row.candidate[:8]}",
            "best": row.candidate == best,
            "level": row.level,
            "macs": row.macs,
            "accuracy": row.accuracy,
            "test_accuracy": row.test_accuracy,
            "epochs": row.fidelity,
            "networks": count,
        }
        for row in final.itertuples()
    ]


OTHERS: dict[str, Callable[[Run], list[dict[str, Any]]]] = {"search": search, "random": random, "supernet": supernet}

# Runs --------------------------------------------------------------------------------------------------------------


def execute(run: Run, does: Callable[[Run], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of a run, from a process of its own. does: a function of a module."""
    shutil.rmtree(run.folder, ignore_errors=True)
    Path(run.folder).mkdir(parents=True)
    before = _surroundings()
    receiver, sender = get_context("spawn").Pipe(duplex=False)
    process = get_context("spawn").Process(target=_child, args=(run, does, sender))
    started = time.monotonic()
    process.start()
    sender.close()
    try:
        rows, cpu = receiver.recv()
    except EOFError:
        raise SystemExit(f"{run.method}, seed {run.seed}: the process ended without a result.") from None
    finally:
        process.join()
    after = _surroundings()
    common: dict[str, Any] = {"cpu_seconds": round(cpu, 1), "wall_seconds": round(time.monotonic() - started, 1)}
    common |= {f"{name}_before": value for name, value in before.items()}
    common |= {f"{name}_after": value for name, value in after.items()}
    return [common | row for row in rows]


def _child(run: Run, does: Callable[[Run], list[dict[str, Any]]], sender: Connection) -> None:
    if hasattr(os, "sched_setaffinity"):  # a search uses all cores that it finds
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: run.threads])
    rows = does(run)
    sender.send((rows, cpu_seconds(psutil.Process())))


def _surroundings() -> dict[str, float]:
    """Load of the machine, and CPU time of a fixed piece of work in ms: the median of nine."""
    torch.set_num_threads(1)
    x, w = torch.ones(64, 16, 28, 28), torch.ones(16, 16, 3, 3)
    times = []
    for _ in range(9):
        started = time.process_time()
        for _ in range(4):
            torch.nn.functional.conv2d(x, w, padding=1)
        times.append(1e3 * (time.process_time() - started))
    return {"load": round(os.getloadavg()[0], 2), "probe_ms": round(float(np.median(times)), 2)}


def main() -> None:
    """Make the missing runs, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True, help="data as for nas search; may be repeated")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=1, help="above 1, the time is the clock's")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--method", action="append", default=[], choices=(*FIXED, *OTHERS), help="default: all")
    parser.add_argument("--max-macs", type=float, help="default: 3e6, for coloured images 4.5e6")
    parser.add_argument("--label", default="", help="added to the method's name, to measure another version too")
    parser.add_argument("--folder", default="runs/pays", help="stores, checkpoints and trained networks")
    parser.add_argument("--csv", default=str(Path(__file__).parent / "rows" / "pays.csv"))
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    rows = Rows(options.csv, COLUMNS)
    tasks = {spec: Training(spec).dataset.task for spec in options.data}
    settings = {
        spec: {
            "data": name_of(spec),
            "minutes": options.minutes,
            "threads": options.threads,
            "max_macs": options.max_macs or MAX_MACS[task.input_shape[0]],
        }
        for spec, task in tasks.items()
    }
    suffix = f", {options.label}" if options.label else ""
    for number in range(options.seeds):
        for spec in options.data:
            for method in options.method or (*FIXED, *OTHERS):
                key = settings[spec] | {"method": method + suffix, "seed": number}
                if not rows.of(key).empty:
                    continue
                run = Run(
                    data=spec,
                    method=method,
                    seed=number,
                    seconds=60 * options.minutes,
                    threads=options.threads,
                    max_macs=key["max_macs"],
                    folder=str(Path(options.folder, "-".join(map(str, key.values()))).resolve()),
                )
                got = execute(run, fixed if method in FIXED else OTHERS[method])
                rows.append(row | key for row in got)
                print(f"{name_of(spec)}, {method}, seed {number}: {got[0]['cpu_seconds']} s", flush=True)
    for spec in options.data:
        frame = rows.of(settings[spec])
        if len(frame):
            report(frame, settings[spec]["max_macs"], 1 / tasks[spec].num_classes)


if __name__ == "__main__":
    main()
