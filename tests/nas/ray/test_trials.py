"""Trials of an asynchronous search and their workers, without a cluster."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial

from nas.evaluation.faults import Owner
from nas.ray.tune import stretches as module
from nas.ray.tune.stretches import METRIC, Stretch, StretchTrainable, TrialFault
from nas.ray.tune.trials import Bridge, _Flight


def bridge(scheduler="asha", *, slots=2, workers=None, autoscales=False):
    funnel = SimpleNamespace(config=SimpleNamespace(workers=workers, rungs=lambda: (1, 3, 9)))
    slots = slots if workers is None else min(slots, workers)
    return Bridge(funnel, SimpleNamespace(slots=slots), scheduler, _autoscales=autoscales)


@pytest.mark.parametrize(
    ("most", "settings"),
    [
        (2, {}),
        (3, {"autoscales": True}),
        (2, {"autoscales": True, "workers": 2}),
        (3, {"autoscales": True, "workers": 9}),
        (1, {"workers": 1}),
        (17, {"scheduler": "hyperband"}),
        (30, {"scheduler": "hyperband", "slots": 30}),
    ],
)
def test_trials_at_once(most, settings):
    assert bridge(**settings)._most() == most


def test_only_trials_with_a_worker_run():
    ours = bridge()

    def flight(number, status, since=1.0, host=""):
        trial = status and SimpleNamespace(status=status)
        training = SimpleNamespace(candidate=number)
        ours._flights[str(number)] = _Flight(training, since=since, trial=trial, host=host)

    flight(1, Trial.RUNNING, host="a")
    flight(2, Trial.RUNNING)
    flight(3, Trial.PAUSED, host="a")
    flight(4, Trial.PENDING, host="a")
    flight(5, None, since=None)
    assert ours.funnel.places() == {1: "a", 2: ""}


# Workers -------------------------------------------------------------------------------------------------------------

CALL = SimpleNamespace(code=None, device="cpu", load=object)
"""Of an evaluator."""


@pytest.fixture
def worker(monkeypatch):
    """A worker in this process."""
    context = SimpleNamespace(get_node_id=lambda: "id")
    monkeypatch.setattr(module.ray, "get_runtime_context", lambda: context)
    made = object.__new__(StretchTrainable)
    yield made
    made.cleanup()


def begin(worker, job, files, code=None):
    stretch = Stretch(epochs=1, resource=1, test=False, known=0.5)
    return worker.begin(CALL, (code,), job.to_json(), [stretch], lambda costs, accuracies: 0.0, files)


def fault_of_step(worker):
    with pytest.raises(TrialFault) as caught:
        worker.step()
    return caught.value.fault


def test_a_worker_trains_nothing_of_a_former_trial(worker, jobs):
    assert "fault" not in begin(worker, jobs[0], files={})
    assert worker.step()[METRIC] == 0.5
    begin(worker, jobs[0], files={})
    folder = worker._folder
    assert worker.reset_config({})
    assert not Path(folder).exists()
    fault = fault_of_step(worker)
    assert (fault.owner, fault.reason.split(".")[0]) == (
        Owner.ENVIRONMENT,
        "A worker must receive a training before it trains",
    )


def test_a_worker_that_cannot_begin_reports_it(worker, jobs, monkeypatch):
    begin(worker, jobs[0], files={})

    def get(reference):
        raise ZeroDivisionError("code")

    monkeypatch.setattr(module.ray, "get", get)
    assert begin(worker, jobs[1], files={}, code="new")["fault"]["reason"] == "ZeroDivisionError: code"
    fault = fault_of_step(worker)
    assert (fault.owner, fault.reason) == (Owner.ENVIRONMENT, "ZeroDivisionError: code")
    assert "fault" not in begin(worker, jobs[1], files={})
    assert worker.step()[METRIC] == 0.5
