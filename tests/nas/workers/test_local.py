"""Worker processes may die, raise, print and lie: every job has an outcome, or a failure with its reason."""

from __future__ import annotations

import math
import os
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nas.evaluation.jobs import Outcome
from nas.plugins import load_plugin
from nas.workers.local import LocalRunner
from nas.workers.runner import Failure

from ..searching import toy, workers_of

chosen = load_plugin("nas.evaluators", toy("chosen"))
"""Whether the evaluators of tests/plugins/toy.py misbehave on a job."""


def run(evaluator, jobs, folder, *, workers=2, progress=None, data="nothing"):
    """The results by candidate, and the reported epochs."""
    ended, epochs = {}, []

    def done(job, outcome):
        assert job.candidate not in ended, "a job ends once"
        ended[job.candidate] = outcome

    def report(job, epoch):
        epochs.append((job.candidate, epoch))
        if progress:
            progress(job, epoch)

    folder.mkdir(exist_ok=True)
    settings = {"device": "cpu", "threads": 1}
    with LocalRunner(toy(evaluator), data, settings, workers=workers, log=str(folder / "log.txt")) as runner:
        runner.run(jobs, done, report)
        assert len(runner._workers) <= workers
    assert not workers_of(folder)
    assert set(ended) == {job.candidate for job in jobs}
    return ended, epochs


def without_seconds(outcome):
    """An outcome as data that can be compared."""
    assert isinstance(outcome, Outcome), outcome
    return outcome.to_json() | {"seconds": None}


def undisturbed(jobs):
    """The outcomes of the jobs without workers."""
    evaluator = load_plugin("nas.evaluators", toy())("nothing")
    return {
        job.candidate: without_seconds(
            evaluator.evaluate(replace(job, folder=f"{job.folder}-good"), lambda epoch: None)
        )
        for job in jobs
    }


def split(ended):
    """Outcomes and failures, by candidate."""
    outcomes = {number: result for number, result in ended.items() if isinstance(result, Outcome)}
    failures = {number: result for number, result in ended.items() if isinstance(result, Failure)}
    assert outcomes
    assert failures
    return outcomes, failures


@pytest.mark.parametrize("workers", [1, 3])
def test_every_job_has_an_outcome_and_reports_every_epoch(jobs, tmp_path, workers):
    ended, epochs = run("Toy", jobs, tmp_path, workers=workers)
    assert all(isinstance(result, Outcome) for result in ended.values())
    assert sorted(epochs) == [(job.candidate, epoch) for job in jobs for epoch in (1, 2, 3)]


def test_no_jobs_need_no_workers(tmp_path):
    assert run("Toy", [], tmp_path) == ({}, [])
    assert not (tmp_path / "log.txt").exists()


@pytest.mark.parametrize(
    ("evaluator", "reason"),
    [
        ("Raises", "RuntimeError: out of luck in two lines"),
        ("Exits", "SystemExit: I leave"),
        ("Dies", r"The worker process died \(exit status 7\)"),
        ("Spoils", "RuntimeError: context is lost"),
        ("WrongNumber", r"points must be of the levels 0 to 3, in order. Got levels \[0, 1, 2\]"),
        ("NotOutcome", "must return an Outcome. Got dict"),
    ],
)
def test_failures_are_tried_again_and_do_not_affect_other_jobs(jobs, tmp_path, evaluator, reason):
    outcomes, failures = split(run(evaluator, jobs, tmp_path)[0])
    good = undisturbed(jobs)
    assert all(without_seconds(outcome) == good[number] for number, outcome in outcomes.items())
    assert set(failures) == {job.candidate for job in jobs if chosen(job)}
    for failure in failures.values():
        assert failure.attempts == 2
        assert re.search(reason, failure.reason), failure.reason
        assert "\n" not in failure.reason
        assert bool(failure.traceback) == ("died" not in failure.reason)


def test_diverged_training_is_not_tried_again(jobs, tmp_path):
    _, failures = split(run("Diverges", jobs, tmp_path)[0])
    for number, failure in failures.items():
        assert failure.reason == "Diverged: The loss became nan."
        assert failure.attempts == 1
        assert (Path(jobs[number].folder) / "tries").read_text() == "x"


def test_nan_is_an_outcome(jobs, tmp_path):
    ended, _ = run("Nan", jobs, tmp_path)
    measured = [point["accuracy"] for result in ended.values() for point in result.points]
    assert 0 < sum(map(math.isnan, measured)) < len(measured)


@pytest.mark.parametrize("evaluator", ["DiesOnce", "Prints", "Moving"])
def test_disturbances_do_not_change_outcomes(jobs, tmp_path, evaluator):
    ended, epochs = run(evaluator, jobs, tmp_path)
    good = undisturbed(jobs)
    for number, result in ended.items():
        assert without_seconds(result) | {"realised": None} == good[number]
    if evaluator == "DiesOnce":  # after an epoch that is in the checkpoint: it is not trained again
        assert sorted(epochs) == [(job.candidate, epoch) for job in jobs for epoch in (1, 2, 3)]


def test_the_log_holds_the_output_of_plugins(jobs, tmp_path):
    run("Prints", jobs[:1], tmp_path)
    assert "what a nice day" in (tmp_path / "log.txt").read_text()


def test_a_worker_that_is_killed_is_replaced(jobs, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_SLEEP", "0.05")
    killed = []

    def kill_once(job, epoch):
        if epoch == 1 and not killed:
            killed.extend(workers_of(tmp_path))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    ended, epochs = run("Toy", jobs[:3], tmp_path, progress=kill_once)
    assert len(killed) == 2
    monkeypatch.delenv("TOY_SLEEP")
    good = undisturbed(jobs[:3])
    assert {number: without_seconds(result) for number, result in ended.items()} == good
    assert {number for number, _ in epochs} == {0, 1, 2}


def test_a_worker_that_dies_idle_is_replaced(jobs, tmp_path):
    ended = {}
    with LocalRunner(toy(), "nothing", {}, workers=1, log=str(tmp_path / "log.txt")) as runner:
        for job in jobs[:3]:
            runner.run([job], lambda job, outcome: ended.update({job.candidate: outcome}), lambda *_: None)
            (pid,) = workers_of(tmp_path)
            os.kill(pid, signal.SIGKILL)
    assert [type(ended[number]) for number in range(3)] == [Outcome] * 3


def test_leaving_stops_workers_within_an_epoch(jobs, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_SLEEP", "30")
    results = []
    runner = LocalRunner(toy(), "nothing", {}, workers=2, log=str(tmp_path / "log.txt"))

    def interrupt():
        while [worker.job is None for worker in runner._workers] != [False, False]:
            time.sleep(0.02)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt), runner:
        runner.run(jobs, lambda *result: results.append(result), lambda *epoch: results.append(epoch))
    assert not workers_of(tmp_path)
    assert not results
    assert not [job for job in jobs if Path(job.folder).exists()]  # an epoch that ends writes its checkpoint there


def test_children_of_a_dead_worker_are_gone(jobs, tmp_path):
    _, failures = split(run("DiesWithChild", jobs, tmp_path)[0])
    assert all("exit status 7" in failure.reason for failure in failures.values())
    assert not workers_of(tmp_path)  # a forked child looks like its parent, and would have slept for a minute


def test_an_error_of_the_callback_passes_and_leaves_no_worker(jobs, tmp_path):
    def done(job, outcome):
        raise OSError("no space")

    runner = LocalRunner(toy(), "nothing", {}, workers=2, log=str(tmp_path / "log.txt"))
    with pytest.raises(OSError, match="no space"), runner:
        runner.run(jobs, done, lambda *_: None)
    assert not workers_of(tmp_path)


def test_files_in_the_working_directory_are_not_imported(jobs, tmp_path, monkeypatch):
    for name in ("nas", "json", "random", "numpy", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported by mistake')")
    monkeypatch.chdir(tmp_path)
    ended, _ = run("Toy", jobs[:1], tmp_path)
    assert isinstance(ended[0], Outcome)


def test_an_evaluator_that_cannot_be_constructed_is_a_failure(jobs, tmp_path):
    ended, _ = run("not_an_evaluator", jobs[:2], tmp_path, workers=1)
    assert all("must be a subclass of nas" in failure.reason for failure in ended.values())
