"""What do barriers between generations cost? Searches with and without them on Ray, on one machine.

Equal time: a space whose networks need times of training that differ tenfold. Trainings only wait, so that slots do not
compete and a busy machine matters less. Each search is interrupted after the same time from its first results on; the
rows have the candidates trained by then, the best anytime accuracy, and the CPU time of screening per candidate.

Workers: a real search on digits with trainings of one thread, on one and on two workers. The rows have the seconds from
the first training to the end of the last, without full training, and the seconds of the trainings. A scheduler without
barriers stops other trainings on two workers than on one, so the speeds are work per second: images seen times the MACs
of the largest operating point.

The rows are appended to a CSV file after each search; an interrupted benchmark resumes.

    python benchmarks/asynchronous.py [--part equal-time workers] [--seconds 60] [--seeds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
from resumable import Rows

import nas
from nas.funnel.generation import GenerationProposer
from nas.progress import State

COLUMNS = (
    *("part", "search", "seed", "workers", "seconds", "proposed", "trained", "finished", "best"),
    *("training_seconds", "work_tmacs", "proposing_ms"),
)
SEARCHES: dict[str, dict[str, Any]] = {
    "generations": {},
    **{name: {"asynchronous": True, "scheduler": name} for name in ("asha", "median", "hyperband")},
}
PLUGINS = Path(__file__).parent / "waiting.py"

SLOTS = 4  # by reserved shares of the cores, because hyperband refuses --workers


@contextlib.contextmanager
def proposing() -> Iterator[list[float]]:
    """CPU seconds of each screened and ranked pool; a generation has one too."""
    seconds: list[float] = []
    propose = GenerationProposer.propose

    def timed(self: GenerationProposer, *arguments: Any, **changes: Any) -> bool:
        started = time.process_time()
        try:
            return propose(self, *arguments, **changes)
        finally:
            seconds.append(time.process_time() - started)

    with mock.patch.object(GenerationProposer, "propose", timed):
        yield seconds


class Timed:
    """Measures a search from its first training on, or from the first results, and interrupts it. limit: seconds."""

    def __init__(self, limit: float = float("inf"), *, results: int = 0) -> None:
        self.limit, self.results = limit, results
        self.started, self.ended = float("nan"), float("nan")

    def say(self, text: str) -> None:
        """Nothing."""

    def show(self, state: State) -> None:
        """Note the time; called after every event of a training."""
        training = "epoch" in state.stage or "in training" in state.stage
        if "finalists" in state.stage or not training or state.trained < self.results:
            return
        now = time.perf_counter()
        self.started = now if self.started != self.started else self.started
        self.ended = now
        if now - self.started > self.limit:
            raise KeyboardInterrupt


def equal_time(search: str, seed: int, seconds: float, folder: str) -> dict[str, Any]:
    """A search that is interrupted after some seconds, on waiting trainings."""
    timed, store = Timed(seconds, results=SLOTS), f"{folder}/nas.db"
    with contextlib.suppress(KeyboardInterrupt):
        nas.search(
            "nothing",
            study="waiting",
            space=f"{PLUGINS}:Chains",
            evaluator=f"{PLUGINS}:Waiting",
            strategy="random",
            pool=50,
            epochs=9,
            images=1000,
            final_epochs=10,
            train=100_000,
            cpus_per_trial=round((os.cpu_count() or 1) / SLOTS, 4),
            seed=seed,
            store=store,
            progress=timed,
            ray=True,
            **SEARCHES[search],
        )
    return results_of(nas.Study("waiting", store=store))


def with_workers(search: str, seed: int, workers: int, train: int, folder: str) -> dict[str, Any]:
    """A real search."""
    timed, store = Timed(), f"{folder}/nas.db"
    study = nas.search(
        "digits",
        study="digits",
        space="residual",
        strategy="random",
        pool=20,
        epochs=9,
        train=train,
        finalists=1,
        final_epochs=10,
        workers=workers,
        threads=1,
        device="cpu",
        seed=seed,
        store=store,
        progress=timed,
        ray=True,
        **SEARCHES[search],
    )
    return {"workers": workers, "seconds": round(timed.ended - timed.started, 2)} | results_of(study)


def results_of(study: nas.Study) -> dict[str, Any]:
    """Candidates by progress, the best anytime accuracy of partial training, and the seconds of training."""
    candidates, trainings = study.candidates(), study.store.evaluations(study.name)
    partial = trainings[trainings.epochs <= 9].sort_values("fidelity").drop_duplicates("candidate", keep="last")
    largest = study.points().groupby("candidate").macs.max().loc[partial.candidate].to_numpy()
    status = candidates[candidates.position.notna()].status
    return {
        "proposed": len(status),
        "trained": int(status.isin(["stopped", "finished"]).sum()),
        "finished": int(status.eq("finished").sum()),
        "best": round(float(partial.score.max()), 4),
        "training_seconds": round(float(partial.seconds.sum()), 2),
        "work_tmacs": round(float((partial.epochs * partial.images * largest).sum()) / 1e12, 4),
    }


def main() -> None:
    """Measure what is missing, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", default=["equal-time", "workers"], choices=["equal-time", "workers"])
    parser.add_argument("--search", nargs="+", default=list(SEARCHES), choices=list(SEARCHES))
    parser.add_argument("--seconds", type=float, default=60, help="of each search in equal time")
    parser.add_argument("--train", type=int, default=36, help="candidates of each real search")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--csv", default=str(Path(__file__).parent / "rows" / "asynchronous.csv"))
    options = parser.parse_args()
    rows = Rows(options.csv, COLUMNS)
    for place in places(options):
        if rows.of(place).empty:
            with tempfile.TemporaryDirectory() as folder, proposing() as pools:
                if place["part"] == "equal-time":
                    row = equal_time(place["search"], place["seed"], place["seconds"], folder)
                else:
                    row = with_workers(place["search"], place["seed"], place["workers"], options.train, folder)
            cost = round(1e3 * sum(pools) / row["proposed"], 2)
            rows.append([place | row | {"proposing_ms": cost}])
    show(pd.read_csv(options.csv))


def places(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The searches, by the columns that name them."""
    for seed, part, search in itertools.product(range(options.seeds), options.part, options.search):
        place = {"part": part, "search": search, "seed": seed}
        if part == "equal-time":
            yield place | {"workers": SLOTS, "seconds": options.seconds}
        elif search in ("generations", "asha"):
            yield from (place | {"workers": workers} for workers in (1, 2))


def show(rows: pd.DataFrame) -> None:
    """Print means over seeds, and the ratios of times."""
    equal = rows[rows.part == "equal-time"]
    if not equal.empty:
        columns = ["proposed", "trained", "finished", "best", "training_seconds", "proposing_ms"]
        print(equal.groupby(["search", "seconds"], sort=False)[columns].mean().round(3).to_string())
    real = rows[rows.part == "workers"]
    if not real.empty:
        speed = real.assign(tmacs_per_second=real.work_tmacs / real.seconds)
        speed = speed.pivot_table(index=["search", "seed"], columns="workers", values="tmacs_per_second")
        print(speed.assign(ratio=speed[2] / speed[1]).round(4).to_string())


if __name__ == "__main__":
    main()
