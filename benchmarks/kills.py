"""Do studies on a cluster survive kills? Kills drivers and workers with SIGKILL at random moments.

Studies without training run on a Ray cluster of two nodes on this machine. Each is disturbed by kills of the driver,
after which the same command is started again, and by kills of workers, and compared with the same study run by
processes of this machine without any kill. A worker is not killed in the second attempt of a training, because a second
death is the candidate's failure. Prints per victim: kills, studies with equal rows, processes left over, epochs that
ran again, seconds until the next epoch; writes raw rows to rows/kills.csv, and continues them.

    python benchmarks/kills.py [--kills 50] [--per-study 5]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from resumable import Rows

import results

HERE = Path(__file__).resolve().parent
COLUMNS = (
    "study",
    "kill",
    "victim",
    "epochs_before",
    "epochs_again",
    "finished_again",
    "seconds",
    "left_over",
    "equal",
)
SETTINGS = (
    f"--evaluator={HERE}/kills_evaluator.py:Noted",
    "--strategy=random",
    "--pool=24",
    "--generation=6",
    "--train=12",
    "--epochs=9",
    "--images=500",
    "--finalists=2",
    "--final-epochs=6",
    "--device=cpu",
    "--quiet",
)
PATIENCE = 120.0  # seconds without an epoch after which something is wrong


@dataclass(frozen=True)
class Note:
    """An epoch that ended, or as epoch 0 a training that began. training: candidate and images."""

    process: int
    training: tuple[str, ...]
    epoch: int


@dataclass
class Disturbed:
    """A study on the cluster, its driver, and the kills so far."""

    folder: Path
    seed: int
    address: str
    struck: set[tuple[str, ...]] = field(default_factory=set)
    driver: subprocess.Popen = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start the driver: always the same command."""
        self.driver = start(self.folder, self.seed, f"--ray-address={self.address}", "--workers=2")

    def epochs(self) -> list[Note]:
        """The epochs that have ended."""
        return [note for note in notes_of(self.folder) if note.epoch]

    def wait_for(self, epochs: int) -> bool:
        """Wait until this many epochs have ended in all; False if the study ends before."""
        until = time.monotonic() + PATIENCE
        while len(self.epochs()) < epochs:
            if self.driver.poll() is not None:
                assert self.driver.returncode == 0, f"status {self.driver.returncode}, see {self.folder}/output.txt"
                return False
            assert time.monotonic() < until, f"no epoch for {PATIENCE:.0f} s, see {self.folder}"
            time.sleep(0.01)
        return True

    def wait_for_other(self, processes: set[int]) -> None:
        """Wait until an epoch of another process than these has ended, or the study."""
        until = time.monotonic() + PATIENCE
        while self.driver.poll() is None and not {note.process for note in self.epochs()} - processes:
            assert time.monotonic() < until, f"no epoch for {PATIENCE:.0f} s, see {self.folder}"
            time.sleep(0.01)

    def kill_driver(self) -> int:
        """Kill the driver and start it again; returns the number of its workers that are left after 20 s."""
        workers = {note.process for note in notes_of(self.folder)}
        self.driver.kill()
        self.driver.wait()
        left = len(outliving(workers))
        self.start()
        return left

    def kill_worker(self, draw: random.Random) -> bool:
        """Kill a worker that trains something for the first time; False if there is none."""
        last = {note.process: note.training for note in notes_of(self.folder)}
        running = [process for process, training in last.items() if lives(process) and training not in self.struck]
        if not running:
            return False
        victim = draw.choice(sorted(running))
        self.struck.add(last[victim])
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="kills of drivers, and as many of workers")
    parser.add_argument("--per-study", type=int, default=5, help="kills of each kind in one study")
    parser.add_argument("--folder", default="runs/kills")
    parser.add_argument("--csv", default=str(HERE / "rows" / "kills.csv"))
    arguments = parser.parse_args()
    rows = Rows(arguments.csv, COLUMNS)
    with cluster() as address:
        number = 0
        while missing(rows, arguments.kills):
            if rows.of({"study": number}).empty:
                wanted = {victim: min(arguments.per_study, n) for victim, n in missing(rows, arguments.kills).items()}
                rows.append(disturbed_study(number, wanted, Path(arguments.folder, str(number)).resolve(), address))
            number += 1
    found = pd.read_csv(arguments.csv)
    print(table(found))
    if not found.equal.all() or found.left_over.any() or found.finished_again.any():
        sys.exit("Kills must change no row, leave no process and repeat nothing that was finished.")


def missing(rows: Rows, kills: int) -> dict[str, int]:
    """Victim → kills that are still to do."""
    counts = {victim: kills - len(rows.of({"victim": victim})) for victim in ("driver", "worker")}
    return {victim: count for victim, count in counts.items() if count > 0}


def disturbed_study(number: int, wanted: dict[str, int], folder: Path, address: str) -> list[dict[str, Any]]:
    """Run a study twice, without and with kills; returns a row per kill."""
    draw = random.Random(number)
    shutil.rmtree(folder, ignore_errors=True)  # of a benchmark that was interrupted
    whole = folder / "whole"
    whole.mkdir(parents=True)
    assert start(whole, number, "--workers=2").wait() == 0
    disturbed = folder / "disturbed"
    disturbed.mkdir()
    study = Disturbed(disturbed, number, address)
    victims = [victim for victim, count in wanted.items() for _ in range(count)]
    draw.shuffle(victims)
    rows: list[dict[str, Any]] = []
    for kill, victim in enumerate(victims):
        if not study.wait_for(len(study.epochs()) + draw.randint(1, 4)):
            break
        time.sleep(draw.random() * 0.3)
        before, finished, left = study.epochs(), evaluations(disturbed), 0
        if victim == "driver":
            left = study.kill_driver()
        elif not study.kill_worker(draw):
            victims.append(victim)  # later
            continue
        at = time.monotonic()
        if victim == "driver":
            study.wait_for_other({note.process for note in before})
        else:
            study.wait_for(len(before) + 1)
        row = {"study": number, "kill": kill, "victim": victim, "epochs_before": len(before), "left_over": left}
        rows.append(row | {"seconds": round(time.monotonic() - at, 2), "finished": finished})
    study.wait_for(sys.maxsize)
    notes = study.epochs()
    equal = same_rows(whole, disturbed)
    for row, following in zip(rows, [*rows[1:], None]):
        done = {(note.training, note.epoch) for note in notes[: row["epochs_before"]]}
        after = notes[row["epochs_before"] : following["epochs_before"] if following else None]
        again = [note for note in after if (note.training, note.epoch) in done]
        finished = row.pop("finished")
        row["epochs_again"] = len(again)
        row["finished_again"] = sum(note.epoch <= finished.get(note.training, 0) for note in again)
        row["equal"] = equal
    return rows


def start(folder: Path, seed: int, *options: str) -> subprocess.Popen:
    """Start the search of a study, in a process of its own."""
    notes = folder / "notes.txt"
    command = ["search", "kills", f"--store={folder}/nas.db", f"--data={notes}", f"--seed={seed}", *SETTINGS, *options]
    with open(folder / "output.txt", "a") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", "from nas.cli import main; main()", *command],
            stdout=output,
            stderr=output,
            cwd=folder,
        )


def notes_of(folder: Path) -> list[Note]:
    """All notes of a study; a line that is being written is left out."""
    with suppress(FileNotFoundError):
        lines = (folder / "notes.txt").read_text().split("\n")[:-1]
        return [Note(int(process), tuple(training), int(epoch)) for process, *training, epoch in map(str.split, lines)]
    return []


def evaluations(folder: Path) -> dict[tuple[str, ...], int]:
    """Training → epochs of its last evaluation in the store."""
    query = "SELECT candidate_id, images, max(epochs) FROM evaluations GROUP BY candidate_id, images"
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{folder}/nas.db?mode=ro", uri=True)) as db:
        return {tuple(map(str, key)): int(epochs) for *key, epochs in db.execute(query)}
    return {}


def same_rows(whole: Path, disturbed: Path) -> bool:
    """Whether two studies hold the same candidates, evaluations and points, apart from attempts and times."""
    first, second = (results.open(f"{folder}/nas.db") for folder in (whole, disturbed))
    frames = [
        (store.candidates("kills"), store.evaluations("kills"), store.points("kills")) for store in (first, second)
    ]
    for one, other in zip(*frames):
        columns = [name for name in one.columns if name not in ("attempts", "seconds", "evaluated_at")]
        if not sorted_rows(one[columns]).equals(sorted_rows(other[columns])):
            return False
    return True


def sorted_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows in an order of their own, because candidates that train side by side are recorded as they end."""
    order = ["|".join(map(str, row)) for row in frame.itertuples(index=False)]
    return frame.assign(order=order).sort_values("order", ignore_index=True).drop(columns="order")


def lives(process: int) -> bool:
    """Whether a process runs; a dead one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def outliving(processes: set[int], seconds: float = 20.0) -> set[int]:
    """The processes that still run after some seconds."""
    until = time.monotonic() + seconds
    while (living := {process for process in processes if lives(process)}) and time.monotonic() < until:
        time.sleep(0.05)
    return living


@contextmanager
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes on this machine, for one training each."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        nodes.add_node(num_cpus=1)
        yield nodes.address
    finally:
        nodes.shutdown()


def table(rows: pd.DataFrame) -> str:
    """What came of the kills, by victim."""
    groups = rows.groupby("victim")
    studies = rows.groupby(["victim", "study"]).equal.all().groupby("victim")
    return pd.DataFrame(
        {
            "kills": groups.size(),
            "studies": studies.size(),
            "equal": studies.sum(),
            "left over": groups.left_over.sum(),
            "epochs again, mean": groups.epochs_again.mean().round(1),
            "finished epochs again": groups.finished_again.sum(),
            "seconds, median": groups.seconds.median(),
        }
    ).to_string()


if __name__ == "__main__":
    main()
