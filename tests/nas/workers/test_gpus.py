"""Workers are spread over the GPUs of the machine. The GPUs are simulated: their number, and the variable of CUDA."""

from __future__ import annotations

from collections import Counter

import pytest

from nas.workers import local
from nas.workers.gpus import VARIABLE, visible_gpus
from nas.workers.local import LocalRunner
from nas.workers.session import EvaluatorCall

from ..searching import toy


@pytest.fixture
def three_gpus(monkeypatch):
    """CUDA has three GPUs."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)


@pytest.mark.parametrize(
    ("variable", "device", "expected"),
    [
        (None, "auto", ("0", "1", "2")),
        (None, "cuda", ("0", "1", "2")),
        (None, "cuda:1", ()),
        (None, "cpu", ()),
        ("5,GPU-8932f937, 7", "cuda", ("5", "GPU-8932f937", "7")),
        ("5,6,7,-1,3", "cuda", ("5", "6", "7")),  # CUDA ends the list at the first invalid entry
    ],
)
@pytest.mark.usefixtures("three_gpus")
def test_gpus_are_those_that_this_process_may_use(monkeypatch, variable, device, expected):
    monkeypatch.delenv(VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(VARIABLE, variable)
    assert visible_gpus(device) == expected


def test_there_may_be_no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert visible_gpus("auto") == visible_gpus("cuda") == ()


def call(folder):
    """An evaluator that writes the GPU of its process to the folder."""
    return EvaluatorCall(evaluator=toy("NotesItsGpu"), data=str(folder), settings={"device": "cpu", "threads": 1})


def run(runner, jobs, progress=lambda job, epoch: None):
    runner.run(jobs, lambda job, outcome: None, progress, lambda job: float("inf"))


@pytest.mark.parametrize(
    ("gpus", "workers", "expected"),
    [
        (("3", "GPU-1"), 2, {"3": 1, "GPU-1": 1}),
        (("3", "GPU-1"), 3, {"3": 2, "GPU-1": 1}),
        (("3",), 2, {"inherited": 2}),
        ((), 1, {"inherited": 1}),
    ],
)
def test_each_worker_sees_one_gpu(monkeypatch, tmp_path, jobs, gpus, workers, expected):
    monkeypatch.setattr(local, "visible_gpus", lambda device: gpus)
    monkeypatch.setenv(VARIABLE, "inherited")
    with LocalRunner(call(tmp_path), workers=workers) as runner:
        run(runner, jobs)
    assert Counter(path.read_text() for path in tmp_path.glob("*.gpu")) == expected


def test_workers_are_spread_after_one_has_died(monkeypatch, tmp_path, jobs):
    monkeypatch.setattr(local, "visible_gpus", lambda device: ("0", "1"))
    killed = []

    def kill_once(job, epoch):
        if not killed:
            killed.append(job.candidate)
            next(each for each in runner._workers if each.job is job).kill()

    with LocalRunner(call(tmp_path), workers=2) as runner:
        run(runner, jobs[:3], kill_once)
        run(runner, jobs[3:])
        assert sorted(worker.gpu for worker in runner._workers) == ["0", "1"]
    assert killed
