"""Searches on Ray have the rows of searches on this machine; workers share no files with the driver."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from nas import launch
from nas.errors import EnvironmentFault, UserError
from nas.evaluation.jobs import Outcome
from nas.plugins import load_plugin
from nas.ray import job_files, runner
from nas.ray.connection import connected
from nas.ray.nodes import Request, living_nodes
from nas.ray.runner import RayRunner, request_of, worker_device
from nas.workers.runner import Failure
from nas.workers.session import EvaluatorCall

from ..searching import assert_same, config, content, search, toy


@pytest.fixture(autouse=True)
def _joined(joined):
    """All of these tests run on the shared cluster of two nodes with two CPUs each."""


chosen = load_plugin("nas.evaluators", toy("chosen"))
ONE_CPU = Request(cpus=1)


def call(evaluator="Toy", data="nothing", **settings):
    return EvaluatorCall(evaluator=toy(evaluator), data=str(data), settings={"device": "cpu", "threads": 1, **settings})


def run(runner, jobs, patience=math.inf):
    """The results by candidate, and the reported epochs."""
    ended, epochs = {}, []

    def done(job, result):
        assert job.candidate not in ended, "a job ends once"
        ended[job.candidate] = result

    runner.run(jobs, done, lambda job, epoch: epochs.append(epoch), lambda job: patience)
    assert sorted(ended) == [job.candidate for job in jobs]
    return ended, epochs


def misbehaving(jobs):
    """Candidates on which the evaluators of tests/plugins/toy.py misbehave."""
    return {job.candidate for job in jobs if chosen(job)}


@pytest.fixture
def few(jobs):
    """Two jobs: one on which the evaluators misbehave, and one on which they do not."""
    return sorted([next(filter(chosen, jobs)), next(job for job in jobs if not chosen(job))], key=lambda j: j.candidate)


@pytest.fixture
def runner_of(tmp_path):
    """Runners that are closed at the end; their log is log.txt."""
    made = []

    def make(evaluator="Toy", data="nothing", request=ONE_CPU, **settings):
        made.append(RayRunner(call(evaluator, data), request=request, log=str(tmp_path / "log.txt"), **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_rows_are_those_of_this_machine(tmp_path):
    """With 1, 2 and 4 workers on two nodes."""
    search(tmp_path / "local.db", workers=2)
    expected = content(tmp_path / "local.db")
    for workers in (1, 2, 4):
        search(tmp_path / f"{workers}.db", workers=workers, ray=True)
        assert_same(expected, content(tmp_path / f"{workers}.db"), settings=False)


def test_jobs_end_with_their_files_in_the_folder_of_the_driver(jobs, runner_of):
    ended, epochs = run(runner_of(workers=2), jobs)
    assert sorted(ended) == [job.candidate for job in jobs]
    assert all(isinstance(outcome, Outcome) for outcome in ended.values())
    assert sorted(epochs) == sorted([1, 2, 3] * len(jobs))
    for job in jobs:
        assert sorted(path.name for path in Path(job.folder).iterdir()) == ["checkpoint.json", "network.json"]
        assert json.loads(Path(job.folder, "checkpoint.json").read_text())["epoch"] == 3


def test_a_job_continues_from_the_checkpoint_in_its_folder(jobs, runner_of):
    made = runner_of(workers=1)
    run(made, [replace(jobs[0], until=1)])
    ended, epochs = run(made, [jobs[0]])
    assert epochs == [2, 3]
    assert ended[jobs[0].candidate].epochs == 3


def test_a_worker_that_dies_is_replaced_and_its_job_repeated_once(few, runner_of, tmp_path):
    ended, _ = run(runner_of("DiesTwice"), few)
    failed = {number: result for number, result in ended.items() if isinstance(result, Failure)}
    assert failed.keys() == misbehaving(few)
    assert all(result.attempts == 2 and "process died" in result.reason for result in failed.values())
    assert "repeated once, alone" in (tmp_path / "log.txt").read_text()


def test_failures_have_their_reason(few, runner_of):
    ended, _ = run(runner_of("Raises"), few)
    failed = {number: result.reason for number, result in ended.items() if isinstance(result, Failure)}
    assert failed == dict.fromkeys(misbehaving(few), "RuntimeError: out of luck in two lines")


def test_a_hanging_job_is_ended(few, runner_of):
    ended, _ = run(runner_of("Hangs"), few, patience=2.0)
    failed = {number: result.reason for number, result in ended.items() if isinstance(result, Failure)}
    assert failed.keys() == misbehaving(few)
    assert all("completed no epoch within" in reason for reason in failed.values())


def test_a_fault_of_all_nodes_stops_the_study(jobs, runner_of):
    said = []
    with pytest.raises(EnvironmentFault, match="No candidate is to blame"):
        run(runner_of("DiesAtBirth", say=said.append), jobs)
    assert [text for text in said if "is given up" in text]  # the first node


def test_a_node_with_a_fault_is_given_up(jobs, runner_of, tmp_path):
    (tmp_path / "node").write_text(living_nodes()[0].id)
    said = []
    ended, _ = run(runner_of("BrokenOnNode", tmp_path / "node", say=said.append), jobs)
    assert all(isinstance(outcome, Outcome) for outcome in ended.values())
    assert len(said) == 1
    assert "No space left" in said[0]


def test_a_worker_that_cannot_take_a_job_is_a_fault_of_its_node(few, runner_of, monkeypatch):
    made = runner_of()
    broken = ray.put("no code")
    monkeypatch.setattr(made._code, "reference", lambda plugins=(): broken)
    with pytest.raises(EnvironmentFault, match="install"):
        run(made, few)


def test_output_of_workers_is_in_the_log_with_their_node(tmp_path):
    search(tmp_path / "nas.db", ray=True, evaluator=toy("Prints"), train=4)
    log = tmp_path / "nas.db.files" / "toy" / "log.txt"
    line = next(line for line in log.read_text().splitlines() if "what a nice day" in line)
    assert line.startswith("[")
    assert "process" in line


def test_slots_follow_the_resources_of_the_cluster(runner_of):
    assert runner_of().slots == 4
    assert runner_of(request=Request(cpus=2)).slots == 2
    assert runner_of(request=Request(cpus=0.5)).slots == 8
    assert runner_of(workers=3).slots == 3
    assert runner_of(workers=7).slots == 4


def test_a_request_that_no_node_has_is_refused(jobs, runner_of, monkeypatch):
    monkeypatch.setattr(runner, "UNFIT_SECONDS", 0.0)
    said = []
    with pytest.raises(UserError, match=r"1 GPU, which a node of the cluster must have. Got 2 × 2 CPU"):
        run(runner_of(request=Request(cpus=1, gpus=1), say=said.append), jobs)
    assert said == ["Waiting for a node with 1 CPU, 1 GPU. The cluster has 2 × 2 CPU."]


def test_a_training_reserves_a_gpu_if_the_device_is_one():
    assert request_of(config(ray=True, device="cuda")) == Request(cpus=1, gpus=1)
    assert request_of(config(ray=True, device="auto", threads=2)) == Request(cpus=2, gpus=0)  # no node has one
    assert request_of(config(ray=True, gpus_per_trial=0.25, resources=("disk=2",))).custom == {"disk": 2.0}
    assert worker_device("auto", Request(gpus=0.5)) == "cuda"
    assert worker_device("cuda:3", Request(gpus=1)) == "cuda"
    assert worker_device("auto", Request()) == "cpu"


def test_a_second_address_in_one_process_is_refused(cluster):
    with pytest.raises(UserError, match="belongs to one Ray cluster"), connected("other:6379"):
        pass
    with connected(True):
        assert ray.is_initialized()
    assert ray.is_initialized()  # who joined before stays


def test_working_folders_of_dead_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = tmp_path / f"anytime-nas-{platform.node()}-4194305-abc"  # above the largest process id
    elsewhere = tmp_path / "anytime-nas-other.node-4194305-abc"
    dead.mkdir()
    elsewhere.mkdir()
    own = Path(job_files.working_folder())
    assert own.is_dir()
    assert not dead.exists()
    assert elsewhere.exists()


def test_resume_on_this_machine_after_ray(tmp_path):
    """A study may move between runners."""
    search(tmp_path / "nas.db", ray=True, train=4)
    launch.resume("toy", store=str(tmp_path / "nas.db"), train=8, ray=False, workers=2)
    search(tmp_path / "local.db")
    moved, local = content(tmp_path / "nas.db"), content(tmp_path / "local.db")
    assert_same({"candidates": moved["candidates"]}, {"candidates": local["candidates"]})
    partial = [rows["points"][rows["points"].fidelity < 5].reset_index(drop=True) for rows in (moved, local)]
    assert_same({"points": partial[0]}, {"points": partial[1]})  # the finalists after four candidates may be others
