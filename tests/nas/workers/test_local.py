"""Worker processes may die, raise, print and lie: every job has an outcome, or a failure with its reason."""

from __future__ import annotations

import math
import os
import re
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from nas.errors import EnvironmentFault
from nas.evaluation.jobs import Outcome
from nas.plugins import load_plugin
from nas.workers.local import LocalRunner, _Worker
from nas.workers.runner import Failure
from nas.workers.session import EvaluatorCall

from ..searching import toy, workers_of

chosen = load_plugin("nas.evaluators", toy("chosen"))
"""Whether the evaluators of tests/plugins/toy.py misbehave on a job."""


def patient(job):
    """No job counts as hung."""
    return math.inf


def call(evaluator="Toy", data="nothing"):
    """The call of an evaluator of tests/plugins/toy.py."""
    return EvaluatorCall(evaluator=toy(evaluator), data=data, settings={"device": "cpu", "threads": 1})


def run(evaluator, jobs, folder, *, workers=2, progress=None, data="nothing", patience=patient):
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
    with LocalRunner(call(evaluator, data), workers=workers, log=str(folder / "log.txt")) as runner:
        runner.run(jobs, done, report, patience)
        assert len(runner._workers) <= workers
    assert not workers_of(folder)
    assert set(ended) == {job.candidate for job in jobs}
    return ended, epochs


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_is_made_when_there_is_room_for_it(jobs, tmp_path, workers):
    """So that the results of all earlier ones can decide which it is."""
    made, ended = [], []

    def in_turn():
        for job in jobs:
            made.append((job.candidate, len(ended)))
            yield job

    with LocalRunner(call(), workers=workers, log=str(tmp_path / "log.txt")) as runner:
        runner.run(in_turn(), lambda job, outcome: ended.append(job), lambda job, epoch: None, patient)
    assert all(place - before < workers for place, (_, before) in enumerate(made))
    assert len(ended) == len(jobs)


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
        ("DiesTwice", r"The worker process died \(killed by SIGKILL\)"),
        ("OutOfMemory", "MemoryError: no room for this one"),
        ("Spoils", "RuntimeError: context is lost"),
        ("WrongNumber", r"points must be of the levels 0 to 3, in order. Got levels \[0, 1, 2\]"),
        ("NotOutcome", "must return an Outcome. Got dict"),
    ],
)
def test_failures_do_not_affect_other_jobs(jobs, tmp_path, evaluator, reason):
    outcomes, failures = split(run(evaluator, jobs, tmp_path)[0])
    good = undisturbed(jobs)
    assert all(without_seconds(outcome) == good[number] for number, outcome in outcomes.items())
    assert set(failures) == {job.candidate for job in jobs if chosen(job)}
    for failure in failures.values():
        assert failure.attempts == (2 if evaluator in ("Dies", "DiesTwice", "OutOfMemory") else 1)
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


@pytest.mark.parametrize("evaluator", ["DiesOnce", "Crowded", "HangsOnce", "Prints", "Moving"])
def test_disturbances_do_not_change_outcomes(jobs, tmp_path, evaluator):
    reached, ended_as_hung = set(), set()

    def patience(job):
        """Without end until the first epoch is read and the worker hangs in the second."""
        hangs = Path(job.folder, "hung").exists() and job.candidate in reached
        if hangs and job.candidate not in ended_as_hung:
            ended_as_hung.add(job.candidate)
            return 0.0
        return math.inf

    ended, epochs = run(
        evaluator, jobs, tmp_path, patience=patience, progress=lambda job, epoch: reached.add(job.candidate)
    )
    assert len(ended_as_hung) == (len(jobs) if evaluator == "HangsOnce" else 0)
    good = undisturbed(jobs)
    for number, result in ended.items():
        assert without_seconds(result) | {"realised": None} == good[number]
    if evaluator in ("DiesOnce", "HangsOnce"):  # after an epoch that is in the checkpoint: it is not trained again
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
    with LocalRunner(
        EvaluatorCall(evaluator=toy(), data="nothing", settings={}), workers=1, log=str(tmp_path / "log.txt")
    ) as runner:
        for job in jobs[:3]:
            runner.run([job], lambda job, outcome: ended.update({job.candidate: outcome}), lambda *_: None, patient)
            (pid,) = workers_of(tmp_path)
            os.kill(pid, signal.SIGKILL)
    assert [type(ended[number]) for number in range(3)] == [Outcome] * 3


def test_leaving_stops_workers_within_an_epoch(jobs, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_SLEEP", "30")
    results = []
    runner = LocalRunner(
        EvaluatorCall(evaluator=toy(), data="nothing", settings={}), workers=2, log=str(tmp_path / "log.txt")
    )

    def interrupt():
        while [worker.job is None for worker in runner._workers] != [False, False]:
            time.sleep(0.02)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt), runner:
        runner.run(jobs, lambda *result: results.append(result), lambda *epoch: results.append(epoch), patient)
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

    runner = LocalRunner(
        EvaluatorCall(evaluator=toy(), data="nothing", settings={}), workers=2, log=str(tmp_path / "log.txt")
    )
    with pytest.raises(OSError, match="no space"), runner:
        runner.run(jobs, done, lambda *_: None, patient)
    assert not workers_of(tmp_path)


def test_files_in_the_working_directory_are_not_imported(jobs, tmp_path, monkeypatch):
    for name in ("nas", "json", "random", "numpy", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported by mistake')")
    monkeypatch.chdir(tmp_path)
    ended, _ = run("Toy", jobs[:1], tmp_path)
    assert isinstance(ended[0], Outcome)


# Whose fault it is ---------------------------------------------------------------------------------------------------


def test_a_training_that_hangs_twice_is_a_failure(jobs, tmp_path):
    ended_as_hung = Counter()

    def patience(job):
        attempts = Path(job.folder, "hangs")
        if attempts.exists() and len(attempts.read_text()) > ended_as_hung[job.candidate]:
            ended_as_hung[job.candidate] += 1
            return 0.0
        return math.inf

    outcomes, failures = split(run("Hangs", jobs, tmp_path, patience=patience)[0])
    good = undisturbed([job for job in jobs if job.candidate in outcomes])
    assert {number: without_seconds(outcome) for number, outcome in outcomes.items()} == good
    for number, failure in failures.items():
        assert failure.attempts == 2
        assert "--trial-timeout allows more" in failure.reason
        assert Path(jobs[number].folder, "hangs").read_text() == "xx"


def test_a_repeated_training_is_alone(jobs, tmp_path):
    _, epochs = run("DiesOnce", jobs, tmp_path, workers=3)
    repeated = [number for number, epoch in epochs if epoch == 3]
    assert epochs[-2 * len(jobs) :] == [(number, epoch) for number in repeated for epoch in (2, 3)]


@pytest.mark.parametrize("fault", load_plugin("nas.evaluators", toy("FAULTS")))
def test_a_fault_of_the_environment_is_no_failure(jobs, tmp_path, fault):
    (tmp_path / "fault").write_text(fault)
    jobs = [replace(job, candidate=job.candidate + 20) for job in jobs]
    ended = []
    runner = LocalRunner(
        call("Faulty", str(tmp_path / "fault")),
        workers=2,
        log=str(tmp_path / "log.txt"),
    )
    with pytest.raises(EnvironmentFault, match=f"{re.escape(fault_text(fault))}.*No candidate is to blame"), runner:
        runner.run(jobs, lambda *result: ended.append(result), lambda *_: None, patient)
    assert not ended
    assert not workers_of(tmp_path)


def fault_text(name):
    """The beginning of a fault's message."""
    return str(load_plugin("nas.evaluators", toy("FAULTS"))[name]).splitlines()[0][:30]


@pytest.mark.parametrize(
    ("evaluator", "reason"),
    [
        ("not_an_evaluator", "must be a subclass of nas"),
        ("Absent", "Unknown name"),
        ("DiesAtBirth", r"died \(exit status 3\)"),
    ],
)
def test_an_evaluator_that_cannot_be_loaded_is_no_failure_of_a_candidate(jobs, tmp_path, evaluator, reason):
    with pytest.raises(EnvironmentFault, match=reason):
        run(evaluator, jobs, tmp_path, workers=1)


def test_an_evaluator_that_never_loads_is_no_failure_of_a_candidate(jobs, tmp_path):
    with pytest.raises(EnvironmentFault, match="did not load evaluator and data"):
        run("HangsAtBirth", jobs[:1], tmp_path, patience=lambda job: 0.01)


def test_the_last_words_of_a_dead_worker_count(jobs, tmp_path, monkeypatch):
    """A worker may be found dead before all of its output was read."""
    listen, found = _Worker._listen, LocalRunner._find_dead

    def slowly(worker):
        worker.process.wait()
        searched.wait()
        listen(worker)

    def find(runner):
        if any(worker.process.poll() is not None for worker in runner._workers):
            searched.set()
        found(runner)

    searched = threading.Event()
    monkeypatch.setattr(_Worker, "_listen", slowly)
    monkeypatch.setattr(LocalRunner, "_find_dead", find)
    ended, _ = run("DiesAfterwards", jobs[:1], tmp_path)
    assert isinstance(ended[0], Outcome)
    assert Path(jobs[0].folder, "tries").read_text() == "x"


def test_no_watchdog_is_left(jobs, tmp_path):
    groups = set()

    def remember(job, epoch):
        groups.update(os.getpgid(pid) for pid in workers_of(tmp_path))

    run("Toy", jobs, tmp_path, progress=remember)
    assert groups
    for group in groups:
        while exists(group):  # the process that adopts a watchdog may take a moment to notice its end
            time.sleep(0.02)


def exists(group):
    """Whether a process group has a process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
