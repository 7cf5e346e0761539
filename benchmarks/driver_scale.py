"""Throughput and memory of the driver: trials that cost nothing, on 1,000 stand-ins for workers.

Runs whole studies with a SQLite store, each in a process of its own. The stand-ins live in the driver's process: 1,000
jobs count as running at any time, and end in random order. So all time is the driver's: proposing, screening, recording
and deciding. A trial is one job of a candidate: its training up to a rung. The runs:

- random: random search, generations of 1,000 candidates from pools of 1,000;
- large: random search, one generation of 10,000 from a pool of 10,000;
- tpe: generations of 36 candidates from pools as large as the strategy allows.

Prints trials per second of CPU, CPU per proposal and memory; writes raw rows, one per generation, to
rows/driver_scale.csv. Seconds of CPU are printed, because machines are shared; the rows hold wall-clock time too.

    python benchmarks/driver_scale.py [--run random --run large --run tpe] [--share 1.0]
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import results
from nas.config import Config
from nas.evaluation.evaluator import DataInfo, Evaluator
from nas.evaluation.jobs import Job, Outcome
from nas.funnel.driver import Driver, StudyParts
from nas.plugins import load_plugin
from nas.progress import Silent
from nas.representation.elements import Task
from nas.screening.screener import screener_of
from nas.spaces.loading import load_spaces
from nas.workers.activity import Activity
from nas.workers.job_queue import JobQueue
from nas.workers.runner import Done, EpochDone, Patience
from results.front import Score
from results.measures import built_in

STAND_INS = 1_000
CHECK_EVERY = 25  # trials; then the runner asks for the patience of each running job, as every 0.25 s at 100 a second
TASK = Task(input_shape=(1, 8, 8), num_classes=10)
SCORE = Score(low=3e6, high=1.2e7, floor=0.1)  # every proposal is feasible
INFO = DataInfo(
    name="none", task=TASK, floor=0.1, train_images=1_000, validation_images=100, test_images=100, fingerprint="none"
)
RUNS = {
    "random": {"strategy": "random", "train": 6_000, "generation": 1_000, "pool": 1_000},
    "large": {"strategy": "random", "train": 10_000, "generation": 10_000, "pool": 10_000},
    "tpe": {"strategy": "tpe", "train": 1_000, "generation": 36, "pool": 500},
}
"""Settings of the studies; train: candidates."""


class Free(Evaluator):
    """Trains nothing; accuracies depend on seed and epochs only."""

    measures = built_in("accuracy", "loss", "test_accuracy")

    def __init__(self, data: str, **settings: Any):
        pass

    def info(self) -> DataInfo:
        return INFO

    def evaluate(self, job: Job, report: Any) -> Outcome:
        report(job.until)
        rng = np.random.default_rng((job.seed, job.until))
        accuracy = np.sort(rng.uniform(0.1, 0.9, 4)).tolist()
        points = [
            {"level": level, "macs": 10 ** (5 + level) // 2, "params": 1_000 * (level + 1)}
            | {"accuracy": value, "loss": 1 - value, "test_accuracy": value}
            for level, value in enumerate(accuracy)
        ]  # fmt: skip
        return Outcome(points=points, epochs=job.until, images=500, seconds=0.01 * job.until)


class StandIns:
    """A runner of jobs that end in random order, while up to STAND_INS of them count as running."""

    slots = STAND_INS

    def __init__(self, evaluator: Evaluator):
        self.evaluator, self.trials = evaluator, 0
        self._rng = np.random.default_rng(0)

    def run(self, jobs: Iterable[Job], done: Done, progress: EpochDone, patience: Patience) -> None:
        waiting, running = JobQueue(jobs), []
        while waiting or running:
            while len(running) < STAND_INS and (job := waiting.take(running=len(running))) is not None:
                running.append(job)
            place = int(self._rng.integers(len(running)))
            running[place], running[-1] = running[-1], running[place]
            self._end(running.pop(), done, progress)
            if self.trials % CHECK_EVERY == 0:
                for job in running:
                    patience(job)

    def activity(self) -> Activity:
        """Nothing to show."""
        return Activity(nodes={"here": STAND_INS})

    def _end(self, job: Job, done: Done, progress: EpochDone) -> None:
        done(job, self.evaluator.evaluate(job, lambda epoch: progress(job, epoch)))
        self.trials += 1

    def close(self) -> None:
        """Nothing runs."""


class Noted:
    """Rows about the generations of a driver: its methods ``propose`` and ``update`` are measured."""

    def __init__(self, driver: Driver):
        self.driver, self.rows, self._proposing = driver, [], 0.0
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._propose, self._update = driver.proposer.propose, driver.keeper.update
        driver.proposer.propose, driver.keeper.update = self.propose, self.update

    def propose(self, *arguments: Any, **named: Any) -> bool:
        before = time.process_time()
        proposed = self._propose(*arguments, **named)
        self._proposing += time.process_time() - before
        return proposed

    def update(self, **changes: Any) -> None:
        self._update(**changes)
        if "generations" in changes:
            self.note()

    def note(self) -> None:
        state = self.driver.keeper.state
        self.rows.append(
            {
                "generation": state.generations,
                "candidates": self.driver.records.ledger.trained(),
                "trials": self.driver.trainer.runner.trials,
                "proposals": state.rejections.proposals,
                "seconds": time.perf_counter() - self._wall,
                "cpu_seconds": time.process_time() - self._cpu,
                "proposing_cpu_seconds": self._proposing,
                "resident_mib": _memory("VmRSS"),
                "peak_mib": _memory("VmHWM"),
            }
        )


def _memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def study(settings: dict[str, Any]) -> list[dict[str, float]]:
    """Run a study; rows of its generations, and one at the end."""
    fixed = {"study": "scale", "spaces": ("residual",), "epochs": 9, "images": 500, "final_epochs": 20, "device": "cpu"}
    config = Config(**(fixed | settings))
    parts = StudyParts(
        config=config,
        strategy=load_plugin("nas.strategies", config.strategy),
        evaluator=Free("none"),
        info=INFO,
        screener=screener_of(config, TASK, load_spaces(config.spaces, {})),
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        results.open(Path(folder, "nas.db")).writer("scale", config.stored(), Free.measures) as writer,
    ):
        driver = Driver(parts, writer, StandIns(parts.evaluator), SCORE, Silent())
        noted = Noted(driver)
        noted.note()
        driver.run()
        writer.finish()
        noted.note()
    return noted.rows


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """About ten rows of each run, with rates over the generations since the row before."""
    parts = []
    for name, rows in frame.groupby("run", sort=False):
        kept = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, 10).astype(int))]
        since = kept.drop(columns="run").diff()
        parts.append(
            pd.DataFrame(
                {
                    "run": name,
                    "candidates": kept.candidates,
                    "trials_per_cpu_second": since.trials / since.cpu_seconds,
                    "candidates_per_cpu_second": since.candidates / since.cpu_seconds,
                    "cpu_ms_per_proposal": 1e3 * since.proposing_cpu_seconds / since.proposals,
                    "resident_mib": kept.resident_mib,
                    "peak_mib": kept.peak_mib,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="append", choices=RUNS, help="may be repeated; by default all")
    parser.add_argument("--share", type=float, default=1.0, help="of the candidates")
    parser.add_argument("--csv", default=str(Path(__file__).parent / "rows" / "driver_scale.csv"))
    options = parser.parse_args()
    frames = []
    for name in options.run or RUNS:
        settings = RUNS[name] | {"train": int(options.share * RUNS[name]["train"])}
        spawned = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawned) as process:
            frames.append(pd.DataFrame(process.submit(study, settings).result()).assign(run=name))
    frame = pd.concat(frames, ignore_index=True).round(3)
    print(table(frame).round(1).to_string(index=False))
    Path(options.csv).parent.mkdir(exist_ok=True)
    frame[["run", *(name for name in frame if name != "run")]].to_csv(options.csv, index=False)


if __name__ == "__main__":
    main()
