"""How much of the time of workers is training: one and two workers, local processes and Ray, in turns on one machine.

Scaling: a real search on digits with trainings of one thread. Each batch of trainings ends at a barrier (a rung), so
the shortest possible time of a batch follows from the measured times of its trainings, given to free workers in order.
The efficiency is the sum of these bounds over the sum of the measured times of the batches. Overhead: seconds per job
of an evaluator that does nothing, on one warm worker.

The rows are appended to a CSV file after each measurement; an interrupted benchmark resumes.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
from resumable import Rows

import nas
from nas import launch
from nas.evaluation.evaluator import DataInfo, Evaluator
from nas.evaluation.jobs import Job, Outcome
from nas.representation.architecture import macs, params
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.workers.local import LocalRunner
from nas.workers.session import EvaluatorCall

COLUMNS = ("measure", "runner", "workers", "repeat", "jobs", "batches", "seconds", "bound", "efficiency", "per_job")
TASK = Task(input_shape=(1, 8, 8), num_classes=10)
SEARCH = {
    "data": "digits", "space": "slimmable", "strategy": "random", "generation": 9, "pool": 30,
    "epochs": 9, "final_epochs": 12, "finalists": 2, "device": "cpu", "threads": 1,
}  # fmt: skip


class NoOp(Evaluator):
    """Does nothing."""

    from results.measures import built_in

    measures = built_in("accuracy", "loss", "test_accuracy")

    def __init__(self, data, **settings):
        pass

    def info(self):
        return DataInfo(
            name="none", task=TASK, floor=0.1, train_images=10, validation_images=10, test_images=10, fingerprint="0"
        )

    def evaluate(self, job, report):
        report(1)
        architecture = job.parsed_architecture
        points = [
            {"level": level, "macs": cost, "params": size, "accuracy": 0.5, "loss": 1.0}
            for level, (cost, size) in enumerate(zip(macs(architecture), params(architecture)))
        ]
        return Outcome(points=points, epochs=1, images=10, seconds=0.0)


class Timed:
    """A runner that notes the wall-clock seconds of its batches, and the seconds of their trainings."""

    def __init__(self, runner):
        self.runner, self.batches, self._before = runner, [], {}

    def __getattr__(self, name):
        return getattr(self.runner, name)

    def run(self, jobs, done, progress, patience):
        jobs, spent = list(jobs), {}

        def note(job, outcome):
            spent[job.folder] = outcome.seconds - self._before.get(job.folder, 0.0)
            self._before[job.folder] = outcome.seconds
            done(job, outcome)

        started = time.perf_counter()
        self.runner.run(jobs, note, progress, patience)
        self.batches.append((time.perf_counter() - started, [spent[job.folder] for job in jobs]))


def bound(durations, workers):
    """Shortest time of a batch if a free worker takes the next job."""
    loads = [0.0] * workers
    for seconds in durations:
        heapq.heapreplace(loads, loads[0] + seconds)
    return max(loads)


def scaling(runner, workers, train):
    """A row for a search: the first batch, in which workers start, is left out."""
    timed = []
    make = launch._runner

    @contextlib.contextmanager
    def observed(*arguments):
        with make(*arguments) as inner:
            timed.append(Timed(inner))
            yield timed[-1]

    launch._runner = observed
    try:
        with tempfile.TemporaryDirectory() as folder:
            nas.search(store=f"{folder}/nas.db", workers=workers, ray=runner == "ray", train=train, **SEARCH)
    finally:
        launch._runner = make
    batches = [batch for batch in timed[0].batches if batch[1]][1:]
    seconds, least = sum(wall for wall, _ in batches), sum(bound(spent, workers) for _, spent in batches)
    jobs = sum(len(spent) for _, spent in batches)
    return {"jobs": jobs, "batches": len(batches), "seconds": seconds, "bound": least, "efficiency": least / seconds}


def overhead(runner, jobs=100):
    """A row for jobs that do nothing, on one warm worker."""
    call = EvaluatorCall(evaluator=f"{Path(__file__).resolve()}:NoOp", data="none", settings={"threads": 1})
    nas.trust(__file__)
    builder = Builder(TASK)
    builder.head(builder.conv(builder.input, (4, 8)))
    with tempfile.TemporaryDirectory() as folder, runners(runner, call) as made:
        job = Job(
            candidate=0, architecture=builder.architecture(2).to_json(), seed=0, epochs=1, until=1, images=None,
            folder=f"{folder}/0",
        )  # fmt: skip
        batch = [replace(job, candidate=number, folder=f"{folder}/{number}") for number in range(1, jobs + 1)]
        made.run([job], lambda *_: None, lambda *_: None, lambda _: 600.0)
        started = time.perf_counter()
        made.run(batch, lambda *_: None, lambda *_: None, lambda _: 600.0)
        seconds = time.perf_counter() - started
    return {"jobs": jobs, "seconds": seconds, "per_job": seconds / jobs}


@contextlib.contextmanager
def runners(runner, call):
    """A runner with one worker."""
    if runner == "local":
        with LocalRunner(call, workers=1) as made:
            yield made
        return
    from nas.ray.connection import connected
    from nas.ray.nodes import Request
    from nas.ray.runner import RayRunner

    with connected("local"):
        made = RayRunner(call, request=Request(cpus=1), workers=1)
        yield made
        made.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--train", type=int, default=18, help="candidates of a search")
    parser.add_argument("--csv", default=str(Path(__file__).parent / "rows" / "workers.csv"))
    arguments = parser.parse_args()
    rows = Rows(arguments.csv, COLUMNS)
    for repeat in range(arguments.repeats):
        for runner in ("local", "ray"):
            for measure, workers in (("overhead", 1), ("scaling", 1), ("scaling", 2)):
                about = {"measure": measure, "runner": runner, "workers": workers, "repeat": repeat}
                if rows.of(about).empty:
                    measured = overhead(runner) if measure == "overhead" else scaling(runner, workers, arguments.train)
                    rows.append([about | measured])
                    print(about | measured, flush=True)
    table = pd.read_csv(arguments.csv)
    print(table.groupby(["measure", "runner", "workers"])[["seconds", "bound", "efficiency", "per_job"]].median())
    search = table[table.measure == "scaling"].pivot_table(index="runner", columns="workers", values="seconds")
    print("1 → 2 workers, ratio of seconds:\n", search[1] / search[2])
    print("Local seconds / Ray seconds:\n", search.loc["local"] / search.loc["ray"])


if __name__ == "__main__":
    main()
