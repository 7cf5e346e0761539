"""Whole searches in about a second, with the toy evaluators and spaces of tests/plugins."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

import results
from nas.config import Config
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.faults import fault_of
from nas.evaluation.jobs import Outcome
from nas.funnel.training import OutOfTime
from nas.launch import run
from nas.plugins import load_plugin
from nas.study import Study
from nas.workers.activity import Activity
from nas.workers.job_folder import job_folder
from nas.workers.job_queue import JobQueue
from nas.workers.runner import Failure
from nas.workers.session import EvaluatorCall

PLUGINS = Path(__file__).resolve().parent.parent / "plugins"
SETTINGS: dict[str, Any] = {
    "study": "toy",
    "data": "nothing",
    "device": "cpu",
    "strategy": "random",
    "pool": 12,
    "generation": 4,
    "train": 8,
    "epochs": 9,
    "images": 500,
    "finalists": 2,
    "final_epochs": 5,
    "workers": 1,
}


TINY: dict[str, Any] = {
    "strategy": "random",
    "train": 3,
    "generation": 3,
    "pool": 12,
    "epochs": 2,
    "final_epochs": 3,
    "finalists": 1,
    "workers": 1,
    "device": "cpu",
    "threads": 1,
    "references": False,
}
"""Settings of a search that trains for real, of seconds on small data."""


def toy(name: str = "Toy") -> str:
    """The specification of an evaluator of tests/plugins/toy.py."""
    return f"{PLUGINS}/toy.py:{name}"


def space(name: str = "Small") -> str:
    """The specification of a space of tests/plugins/spaces.py."""
    return f"{PLUGINS}/spaces.py:{name}"


def config(**settings: Any) -> Config:
    """Settings of a search of a second."""
    return Config(**({"evaluator": toy(), "spaces": (space(),)} | SETTINGS | settings))


def search(store: Path | str, **settings: Any) -> Study:
    """Run a search of a second, or continue it."""
    return run(config(**settings), store=str(store))


def arguments(store: Path | str, *more: str, **settings: Any) -> list[str]:
    """The same search as arguments of the command line."""
    values = {"evaluator": toy(), "space": space()} | SETTINGS | settings
    study = values.pop("study")
    switches = {name: value for name, value in values.items() if isinstance(value, bool)}
    options = [f"--{'' if value else 'no-'}{name.replace('_', '-')}" for name, value in switches.items()]
    others = {name: value for name, value in values.items() if value is not None and name not in switches}
    options += [f"--{name.replace('_', '-')}={value}" for name, value in others.items()]
    return ["search", study, "--store", str(store), *options, *more]


def command(*arguments: str) -> list[str]:
    """A command that runs the program ``nas``."""
    return [sys.executable, "-P", "-c", "from nas.cli import main; main()", *arguments]


def nas(*arguments: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """Run the program ``nas`` in a process of its own."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=environment(), check=False, **kwargs)


def start(
    *arguments: str, prefix: tuple[str, ...] = (), start_new_session: bool = False, **variables: str
) -> subprocess.Popen[str]:
    """Start the program ``nas`` in a process of its own. prefix: of the command, such as ``nohup``.

    start_new_session: whether it leads a process group of its own. variables: of its environment.
    """
    return subprocess.Popen(
        [*prefix, *command(*arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
        start_new_session=start_new_session,
    )


def environment(**variables: str) -> dict[str, str]:
    """The environment of a user: nothing of ours in it."""
    ours = ("PYTHONUNBUFFERED", "NAS_STORE", "TOY_SLEEP")
    return {name: value for name, value in os.environ.items() if name not in ours} | variables


def workers_of(marker: Path) -> list[int]:
    """Process ids of the workers whose log lies below a folder, wherever they hang in the tree of processes."""
    pids = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes()
                log = os.readlink(folder / "fd" / "2")
            except OSError:
                continue
            if b"nas.workers.worker" in line and log.startswith(str(marker)):
                pids.append(int(folder.name))
    return pids


def content(store: Path | str, study: str = "toy") -> dict[str, pd.DataFrame]:
    """All that a store holds of a study, apart from times and from how often something was tried."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        rows = {
            name: pd.read_sql(query, connection, params=(study,))
            for name, query in {
                "study": "SELECT name, score, settings FROM studies WHERE name = ?",
                "candidates": "SELECT c.* FROM candidates c JOIN studies s ON s.id = study_id WHERE name = ?",
                "points": "SELECT p.* FROM points p JOIN candidates c ON c.id = candidate_id "
                "JOIN studies s ON s.id = study_id WHERE name = ?",
                "evaluations": "SELECT e.* FROM evaluations e JOIN candidates c ON c.id = candidate_id "
                "JOIN studies s ON s.id = study_id WHERE name = ?",
            }.items()
        }
    rows["candidates"] = rows["candidates"].drop(columns=["attempts", "study_id"]).sort_values("id", ignore_index=True)
    rows["evaluations"] = rows["evaluations"].drop(columns=["seconds", "evaluated_at"])
    for name in ("points", "evaluations"):
        order = [c for c in ("candidate_id", "fidelity", "repeat", "level") if c in rows[name]]
        rows[name] = rows[name].sort_values(order, ignore_index=True)
    return rows


def assert_same(first: dict[str, pd.DataFrame], second: dict[str, pd.DataFrame], *, settings: bool = True) -> None:
    """Two studies hold the same, to the bit."""
    for name in first:
        if name != "study" or settings:
            pd.testing.assert_frame_equal(first[name], second[name], check_exact=True, obj=name)


def statuses(study: Study) -> dict[str, int]:
    """How many candidates have each status."""
    return {str(name): int(count) for name, count in study.candidates().status.value_counts().items()}


def state_of(store: Path | str, study: str = "toy") -> tuple[str, str]:
    """State and reason of a study."""
    row = results.open(str(store)).studies().set_index("study").loc[study]
    return row.state, row.reason


class InProcess:
    """A runner without processes, in place of LocalRunner."""

    def __init__(self, call: EvaluatorCall, *, workers: int = 1, log: str = "", say=print):
        self.evaluator: Evaluator = load_plugin("nas.evaluators", call.evaluator)(call.data, **call.settings)
        self.slots = workers

    def activity(self):
        return Activity(nodes={"here": self.slots})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def run(self, jobs, done, progress, patience):
        waiting = JobQueue(jobs)
        while (job := waiting.take(running=0)) is not None:
            assert patience(job) > 0
            outcome: Outcome | Failure | None
            try:
                with job_folder(job, self.evaluator.checkpoint) as folder:
                    outcome = self.evaluator.evaluate(folder.job, partial(progress, job))
                    folder.finish()
            except OutOfTime:
                raise
            except Exception as error:
                outcome = waiting.failed(job, fault_of(error))
            if outcome is not None:
                done(job, outcome)
