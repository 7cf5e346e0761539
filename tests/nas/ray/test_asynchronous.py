"""The search without barriers on Ray Tune: trials, schedulers, failures, and its end by a signal."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

import results
from nas import launch
from nas.errors import EnvironmentFault
from nas.funnel.asynchronous import AsynchronousFunnel
from nas.ray.job_files import PREFIX
from nas.ray.tune.schedulers import scheduler_of
from nas.ray.tune.stretches import METRIC, RESOURCE
from nas.screening import budgets

from ..searching import arguments, config, nas, start, state_of, statuses, toy


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Little is measured before the search."""
    monkeypatch.setattr(budgets, "SAMPLE", 16)


def search(store, scheduler="asha", evaluator="Toy", **settings):
    asynchronous = {"ray": True, "workers": 2, "asynchronous": True, "scheduler": scheduler}
    return launch.run(config(**{"evaluator": toy(evaluator), **asynchronous, **settings}), store=str(store))


def candidates(study):
    """The candidates that were chosen for training."""
    frame = study.candidates()
    return frame[frame.status.isin(["queued", "training", "stopped", "finished", "failed"])]


@pytest.mark.parametrize(("scheduler", "stops"), [("asha", True), ("median", True), ("hyperband", False)])
def test_schedulers_know_earlier_results(scheduler, stops):
    earlier = {n: {1: 0.5 + 0.01 * n, 3: 0.6, 9: 0.7} for n in range(6)}
    known = scheduler_of(scheduler, (1, 3, 9), earlier)
    if not stops:
        assert not known._trial_info
        return
    trial = type("Trial", (), {"trial_id": "new"})()
    known.on_trial_add(None, trial)
    assert known.on_trial_result(None, trial, {METRIC: 0.4, RESOURCE: 1}) == known.STOP
    fresh = scheduler_of(scheduler, (1, 3, 9), {})
    fresh.on_trial_add(None, trial)
    assert fresh.on_trial_result(None, trial, {METRIC: 0.4, RESOURCE: 1}) == known.CONTINUE


@pytest.mark.slow
def test_a_search_is_interrupted_and_resumed(joined, store, monkeypatch, capfd):
    monkeypatch.setenv("HOME", str(store.parent))
    level = logging.getLogger("ray").level
    report, reported = AsynchronousFunnel.report, []

    def interrupt(self, candidate, epochs, outcome):
        reported.append((candidate, epochs))
        accuracy = report(self, candidate, epochs, outcome)
        if len(reported) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return accuracy

    monkeypatch.setattr(AsynchronousFunnel, "report", interrupt)
    with pytest.raises(KeyboardInterrupt):
        search(store)
    assert state_of(store)[0] == "interrupted"
    study = search(store)

    trained = candidates(study)
    assert set(trained.status) == {"stopped", "finished"}
    assert len(trained) == 8
    assert trained[trained.status == "stopped"].reason.str.startswith("Stopped by asha at epoch ").all()
    assert len(reported) == len(set(reported))  # nothing is trained twice
    folders = study.points().query("fidelity < 5")
    assert len(folders) == 4 * len(reported)
    assert not (store.parent / "ray_results").exists()
    assert not list(Path(tempfile.gettempdir()).glob(f"{PREFIX}{os.getpid()}-*"))
    assert logging.getLogger("ray").level == level
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["median", "hyperband"])
def test_other_schedulers_stop_candidates(joined, store, scheduler):
    study = search(store, scheduler, train=20, workers=None if scheduler == "hyperband" else 2)
    trained = candidates(study)
    assert set(trained.status) == {"stopped", "finished"}
    assert len(trained) == 20
    assert trained[trained.status == "stopped"].reason.str.startswith(f"Stopped by {scheduler} at epoch ").all()


@pytest.mark.slow
def test_failures_are_of_their_candidates(joined, store):
    trained = candidates(search(store, evaluator="Raises"))
    failed = trained[trained.status == "failed"]
    assert failed.reason.eq("RuntimeError: out of luck in two lines").all()
    assert set(failed.attempts) == {1}
    assert (trained.status != "failed").sum() == 8


@pytest.mark.slow
def test_a_worker_that_dies_is_repeated_once_alone(joined, store):
    trained = candidates(search(store, evaluator="DiesTwice"))
    failed = trained[trained.status == "failed"]
    assert set(failed.attempts) == {2}
    assert failed.reason.str.contains("The worker process died").all()
    assert (trained.status != "failed").sum() == 8


@pytest.mark.slow
def test_a_training_that_hangs_is_ended(joined, store):
    trained = candidates(search(store, evaluator="Hangs", trial_timeout=5.0, train=4))
    failed = trained[trained.status == "failed"]
    assert set(failed.attempts) == {2}
    assert failed.reason.str.contains("completed no epoch within").all()


@pytest.mark.slow
def test_faults_of_the_environment_stop_the_search(joined, store, tmp_path):
    fault = tmp_path / "fault"
    fault.write_text("disk")
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        search(store, evaluator="Faulty", data=str(fault))
    assert state_of(store)[0] == "interrupted"
    assert "failed" not in set(results.open(str(store)).candidates("toy").status)
    fault.unlink()
    assert statuses(search(store, evaluator="Faulty", data=str(fault)))["finished"] >= 1


# Processes of their own ----------------------------------------------------------------------------------------------


def command(address, store, **settings):
    return arguments(store, "--async", ray_address=address, workers=2, **settings)


def wait_for_results(store, count, driver):
    """Wait until candidates have ended."""
    end = time.monotonic() + 180
    while time.monotonic() < end:
        assert driver.poll() is None, driver.communicate()
        with suppress(results.StoreError):
            if results.open(str(store)).candidates("toy").status.isin(["stopped", "finished"]).sum() >= count:
                return
        time.sleep(0.1)
    raise AssertionError("no results")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_driver_is_resumed(cluster, store, number):
    driver = start(*command(cluster.address, store), TOY_SLEEP="0.2")
    wait_for_results(store, 2, driver)
    driver.send_signal(number)
    _, errors = driver.communicate(timeout=120)
    if number == signal.SIGTERM:
        assert driver.returncode == 143
        assert errors.splitlines()[-1].startswith("Stopped. All results so far are stored; continue with: nas resume")
        assert state_of(store)[0] == "interrupted"
    before = results.open(str(store)).points("toy")
    ended = nas("resume", "toy", "--store", str(store))
    assert ended.returncode == 0, ended.stderr
    after = results.open(str(store)).points("toy")
    columns = ["candidate", "fidelity", "level", "accuracy"]
    assert set(map(tuple, before[columns].to_numpy())) <= set(map(tuple, after[columns].to_numpy()))
    trained = results.open(str(store)).candidates("toy").status
    assert trained.isin(["stopped", "finished"]).sum() == 8
    assert not trained.isin(["training", "queued"]).any()


@pytest.mark.slow
def test_a_lost_head_interrupts(store):
    from ray.cluster_utils import Cluster

    own = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        own.add_node(num_cpus=2)
        driver = start(*command(own.address, store), TOY_SLEEP="0.2")
        wait_for_results(store, 1, driver)
        own.remove_node(own.head_node, allow_graceful=False)
        _, errors = driver.communicate(timeout=180)
    finally:
        own.shutdown()
    assert driver.returncode == 2, errors
    assert "The head of the Ray cluster at " in errors.splitlines()[-1]
    assert state_of(store)[0] == "interrupted"
