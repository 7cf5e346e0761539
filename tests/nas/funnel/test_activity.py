"""A running study shows its stage, nodes and trainings in the store; a study that has ended shows none."""

from __future__ import annotations

import platform
import re
import time
from contextlib import suppress
from dataclasses import replace

import pytest

import results
from nas.funnel import activity as module
from nas.funnel.activity import ActivityRecord
from nas.launch import run
from nas.progress import Silent
from nas.reporting.console import SHOWN, activity_lines
from nas.workers.activity import Activity, RunningJob
from nas.workers.local import LocalRunner
from nas.workers.session import EvaluatorCall

from ..searching import config, search, toy

JOB = RunningJob(candidate=7, node="a", epoch=2, until=9, seconds=1.5)
BUSY, IDLE = Activity(nodes={"a": 2, "b": 1}, running=(JOB,)), Activity(nodes={"a": 2})


class Written:
    """A writer that keeps what it receives."""

    def __init__(self):
        self.activities = []

    def set_activity(self, activity):
        self.activities.append(activity)


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock, set by the test."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(module.time, "monotonic", lambda: Clock.now)
    return Clock


def test_plain_data_and_back():
    assert Activity.from_json(BUSY.to_json()) == BUSY


def test_slots_are_at_most_the_workers():
    assert BUSY.limited(None) == BUSY.limited(3) == BUSY
    assert BUSY.limited(1).nodes == {"a": 1}
    on_b = Activity(nodes={"a": 2, "b": 2}, running=(replace(JOB, node="b"), replace(JOB, node="")))
    assert on_b.limited(1).nodes == {"b": 1}
    assert on_b.limited(2).nodes == {"a": 1, "b": 1}
    writer = Written()
    ActivityRecord(writer, lambda: BUSY, most=2).tick()
    assert writer.activities[0]["nodes"] == {"a": 2}


def test_it_is_written_at_a_limited_rate(clock):
    writer = Written()
    record = ActivityRecord(writer, lambda: BUSY)
    for seconds in range(21):
        clock.now = 100.0 + seconds / 2
        record.note("rung 1")
        record.tick()
    assert len(writer.activities) == 3
    assert writer.activities[0] == {"stage": "rung 1", **BUSY.to_json()}
    clock.now += 2
    record.note("rung 1")
    record.note("screening")
    record.note("rung 2")
    assert [each["stage"] for each in writer.activities[3:]] == ["screening"]


def test_trainings_that_have_ended_do_not_stay(clock):
    writer, present = Written(), [BUSY]
    record = ActivityRecord(writer, lambda: present[0])
    record.note("rung 1")
    present[0] = IDLE
    record.ended()
    record.ended()
    assert [len(each["running"]) for each in writer.activities] == [1, 0]


def test_a_search_shows_its_trainings_while_they_run(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0.0)
    store, seen = results.open(tmp_path / "nas.db"), []

    class Looks(Silent):
        def show(self, state):
            if store.holds("toy"):
                seen.append(store.activity("toy"))

    run(config(workers=2), store=str(tmp_path / "nas.db"), progress=Looks())
    running = [job for each in seen if each for job in each["running"]]
    keys = set(store.candidates("toy").key)
    assert running
    assert all(job["key"] in keys and job["node"] == platform.node() and job["epoch"] >= 0 for job in running)
    assert {tuple(each["nodes"].items()) for each in seen if each} == {((platform.node(), 2),)}
    assert any("screening" in each["stage"] for each in seen if each)
    assert all(abs(time.time() - each["at"]) < 3600 for each in seen if each)
    assert store.activity("toy") is None


def test_a_search_that_fails_shows_none(tmp_path):
    class Fails(Silent):
        def show(self, state):
            if state.trained:
                raise RuntimeError("the display is gone")

    with suppress(RuntimeError):
        run(config(), store=str(tmp_path / "nas.db"), progress=Fails())
    store = results.open(tmp_path / "nas.db")
    assert store.ending("toy")[0] == "failed"
    assert store.activity("toy") is None


def test_status_shows_the_last_sign_of_life_of_a_killed_study(tmp_path, monkeypatch, cli):
    path = tmp_path / "nas.db"
    search(path)
    store = results.open(path)
    with store.writer("toy", store.settings("toy")) as writer:
        first = writer.rows("finished")[0]
        job = RunningJob(candidate=first["id"], node="a", epoch=1, until=3, seconds=0.0)
        writer.set_activity({"stage": "rung 3", **Activity(nodes={"a": 1}, running=(job,)).to_json()})
        _, shown, _ = cli("status", "toy", "--store", path)
        assert re.search(r"At work: rung 3, \d+ s ago. 1 of 1 slots train, on 1 node: a 1/1", shown)
        assert f"  {first['key'][:8]} on a: epoch 1 of 3" in shown
        monkeypatch.setattr("nas.reporting.console.SILENT", -1.0)
        assert "Last sign of life: rung 3" in cli("status", "toy", "--store", path)[1]
        writer.finish()
    assert "sign of life" not in cli("status", "toy", "--store", path)[1]


def stored(nodes, running, at=1000.0):
    jobs = [
        {"key": f"{n:08x}ff", "node": node, "epoch": 1, "until": 3, "seconds": 0.0} for n, node in enumerate(running)
    ]
    return {"at": at, "stage": "generation 1", "nodes": nodes, "running": jobs}


def test_lines_name_slots_of_nodes_and_trainings():
    assert activity_lines(None, 1000.0) == []
    assert activity_lines(stored({"b": 2, "a": 1}, ["b", ""]), 1003.2) == [
        "At work: generation 1, 3 s ago. 2 of 3 slots train, on 2 nodes: a 0/1, b 1/2",
        "  00000000 on b: epoch 1 of 3",
        "  00000001: epoch 1 of 3",
    ]
    assert activity_lines(stored({"a": 1}, []), 990.0)[0].startswith("At work: generation 1, 0 s ago. 0 of 1 slots")
    assert activity_lines(stored({"a": 1}, ["a"]), 1100.0) == [
        "Last sign of life: generation 1, 1 min 40 s ago. It proposes candidates, or its process was killed."
    ]


def test_of_many_nodes_and_trainings_some_are_shown():
    nodes = {f"n{number:03}": 10 for number in range(100)}
    lines = activity_lines(stored(nodes, ["n000"] * 1000), 1000.0)
    assert len(lines) == SHOWN + 2
    assert lines[0].endswith("n019 0/10, …")
    assert lines[-1] == "  and 980 more"


def test_the_local_runner_names_this_machine_and_its_jobs(jobs):
    call = EvaluatorCall(evaluator=toy(), data="nothing", settings={"device": "cpu", "threads": 1})
    seen = []
    with LocalRunner(call, workers=2) as runner:
        runner.run(
            jobs, lambda job, outcome: None, lambda job, epoch: seen.append((job, runner.activity())), lambda job: 99.0
        )
        assert runner.activity() == Activity(nodes={platform.node(): 2})
    for job, present in seen:
        assert present.nodes == {platform.node(): 2}
        [mine] = [each for each in present.running if each.candidate == job.candidate]
        assert mine.until == job.until
        assert 1 <= mine.epoch <= job.until
        assert len(present.running) <= 2
