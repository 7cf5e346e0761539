"""Faults on a cluster of several nodes: who is charged, what runs again, and what is left over."""

from __future__ import annotations

import re
import resource
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ..searching import arguments, assert_same, content, nas, search, start, state_of, toy

BUDGETS = {"low": 80_000.0, "max_macs": 4e6}
"""Fixed, because searches in this process draw a smaller sample for them."""
PATIENCE = 120.0
"""Seconds until a wait fails; most are over in a few."""


def until(condition, what):
    """Wait for a condition; returns its value."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.02)
    return value


@contextmanager
def meanwhile(action, notes):
    """Run an action in a thread beside the block; its error is raised at the end, and nothing waits for it any more."""
    errors = []

    def run():
        try:
            action()
        except BaseException as error:
            errors.append(error)
            notes.go()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if errors:
        raise errors[0]


class Notes:
    """What the evaluators of toy.py note in a folder: a line per epoch, when it begins."""

    def __init__(self, folder: Path):
        self.folder = folder

    def lines(self):
        path = self.folder / "notes.txt"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def workers(self):
        """Process ids of the workers so far."""
        return {int(line[0]) for line in self.lines()}

    def epochs(self):
        """Training and epoch of each line."""
        return [tuple(line[2:]) for line in self.lines()]

    def waiting(self, count=1, below=None):
        """Process ids of workers that wait in the second generation, when there are so many. below: on this node."""
        raylet = below and below.all_processes["raylet"][0].process.pid
        lines = [line for line in self.lines() if int(line[2]) > 12 and int(line[1]) == (raylet or int(line[1]))]
        pids = {int(line[0]) for line in lines if lives(int(line[0]))}
        return pids if len(pids) >= count else None

    def go(self):
        """Let the waiting epochs pass."""
        (self.folder / "go").touch()


@pytest.fixture
def notes(tmp_path):
    (tmp_path / "notes").mkdir()
    return Notes(tmp_path / "notes")


def lives(process):
    """Whether a process runs; zombies do not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_gone(processes):
    """The processes end within seconds."""
    until(lambda: not [process for process in processes if lives(process)], "the end of workers")


@pytest.fixture
def whole(tmp_path, in_process):
    """The content of an undisturbed study with an evaluator: of one process, without Ray."""

    def whole(name, notes):
        notes.go()
        search(tmp_path / "whole.db", evaluator=toy(name), data=str(notes.folder), **BUDGETS)
        for path in notes.folder.iterdir():
            path.unlink()
        return content(tmp_path / "whole.db")

    return whole


def on(cluster, store, notes, **settings):
    """The command of a search on a cluster that waits in its second generation."""
    where = {"data": notes.folder, "ray_address": cluster.address}
    return arguments(store, **({"evaluator": toy("Waits"), "workers": 2} | where | BUDGETS | settings))


def assert_equal_to(expected, store):
    assert_same(expected, content(store), settings=False)


def test_the_training_of_a_killed_worker_is_repeated_and_nothing_else(joined, store, notes, whole):
    expected = whole("Noted", notes)
    search(store, evaluator=toy("KilledOnce"), data=str(notes.folder), ray=True, workers=2, **BUDGETS)
    assert_equal_to(expected, store)
    again = [epoch for epoch in notes.epochs() if notes.epochs().count(epoch) > 1]
    assert [epoch for *_, epoch in again] == ["1", "1"]  # epoch 0 was evaluated at a rung
    assert_gone(notes.workers())


def test_a_killed_driver_leaves_nothing_behind_and_the_same_command_resumes(cluster, store, notes, whole):
    expected = whole("Waits", notes)
    command = on(cluster, store, notes)
    driver = start(*command)
    workers = until(lambda: notes.waiting(2), "two workers")
    driver.kill()
    driver.communicate()
    assert_gone(workers)
    finished = content(store)["evaluations"]
    before = len(notes.lines())
    notes.go()
    assert nas(*command).returncode == 0
    assert_equal_to(expected, store)
    evaluated = {(str(row.candidate_id), "500", str(int(row.epochs) - 1)) for row in finished.itertuples()}
    assert not evaluated & set(notes.epochs()[before:])


@pytest.mark.parametrize(
    ("name", "attempts"), [("Diverges", 1), pytest.param("OutOfMemory", 2, marks=pytest.mark.slow)]
)
def test_failures_of_candidates_are_the_same_as_on_one_machine(joined, tmp_path, in_process, name, attempts):
    settings = {"evaluator": toy(name), "train": 4, **BUDGETS}
    search(tmp_path / "whole.db", **settings)
    study = search(tmp_path / "nas.db", ray=True, **settings | {"workers": 2})
    first, second = content(tmp_path / "whole.db"), content(tmp_path / "nas.db")
    for frames in (first, second):
        frames["candidates"] = frames["candidates"].drop(columns="traceback")
    assert_same(first, second, settings=False)
    assert set(study.candidates().query("status == 'failed'").attempts) == {attempts}


@pytest.mark.slow
def test_a_hanging_training_is_ended_with_its_worker(joined, store):
    study = search(store, evaluator=toy("Hangs"), ray=True, workers=2, train=4, trial_timeout=2.0)
    failed = study.candidates().query("status == 'failed'")
    assert len(failed)
    assert failed.reason.str.contains("completed no epoch within").all()
    assert set(failed.attempts) == {2}


@pytest.fixture
def added(cluster):
    """Adds nodes with room for one training that reserves the resource "mine"; they are removed afterwards."""
    nodes = []

    def add():
        nodes.append(cluster.add_node(num_cpus=1, resources={"mine": 1}))
        return nodes[-1]

    yield add
    for node in nodes:
        if node in cluster.worker_nodes:
            cluster.remove_node(node)


MINE = {"ray": True, "resources": ("mine=1",), "workers": None, **BUDGETS}
"""Settings of a search on added nodes only."""


@pytest.mark.slow
def test_trainings_of_a_removed_node_run_elsewhere_and_are_not_charged(joined, added, store, notes, whole):
    expected = whole("Waits", notes)
    removed, _ = added(), added()

    def remove():
        until(lambda: notes.waiting(2), "two workers")
        workers = notes.waiting(below=removed)
        joined.remove_node(removed, allow_graceful=False)
        assert_gone(workers)
        notes.go()

    with meanwhile(remove, notes):
        study = search(store, evaluator=toy("Waits"), data=str(notes.folder), **MINE)
    assert_equal_to(expected, store)
    assert study.candidates().attempts.max() == 0  # none has failed
    assert "was lost; its training in" in next(store.parent.rglob("log.txt")).read_text()
    assert_gone(notes.workers())


@pytest.mark.slow
def test_an_added_node_trains_at_once(cluster, added, store, notes, whole):
    expected = whole("Waits", notes)
    added()
    driver = start(*on(cluster, store, notes, workers=None, resource="mine=1"))
    until(notes.waiting, "a worker")
    added()
    until(lambda: notes.waiting(2), "a worker on the new node")
    notes.go()
    driver.communicate()
    assert driver.returncode == 0
    assert_equal_to(expected, store)


@pytest.mark.slow
def test_children_of_a_worker_end_with_it(joined, store, notes):
    search(store, evaluator=toy("LeavesChild"), data=str(notes.folder), ray=True, workers=1, train=1, generation=1)
    assert_gone([int((notes.folder / "child.txt").read_text())])


@contextmanager
def other_cluster(**settings):
    """A cluster of its own, whose head trains nothing; one node beside it."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False} | settings
    started = Cluster(initialize_head=True, head_node_args=head)
    try:
        started.add_node(num_cpus=1)
        yield started
    finally:
        started.shutdown()


@pytest.mark.slow
def test_a_lost_head_interrupts_and_another_cluster_continues(store, notes, whole):
    expected = whole("Waits", notes)
    with other_cluster() as first:
        driver = start(*on(first, store, notes, workers=1))
        workers = until(notes.waiting, "a worker")
        first.remove_node(first.head_node, allow_graceful=False)
        _, errors = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 2, errors
    expected_line = r"nas: The head of the Ray cluster at \S+ does not answer\. .*resume on a running cluster\."
    assert re.fullmatch(expected_line, errors.splitlines()[-1])
    assert state_of(store)[0] == "interrupted"
    assert_gone(workers)
    notes.go()
    with other_cluster() as second:
        assert nas(*on(second, store, notes, workers=1)).returncode == 0
    assert_equal_to(expected, store)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_search_ends_cleanly_and_resumes(cluster, store, notes, whole, number):
    """SLURM and Kubernetes send SIGTERM."""
    expected = whole("Waits", notes)
    driver = start(*on(cluster, store, notes))
    workers = until(lambda: notes.waiting(2), "two workers")
    driver.send_signal(number)
    _, errors = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 128 + number, errors
    assert errors.splitlines()[-1].startswith("Stopped. All results so far are stored; continue with: nas resume toy")
    assert state_of(store)[0] == "interrupted"
    assert_gone(workers)
    notes.go()
    assert nas(*on(cluster, store, notes)).returncode == 0
    assert_equal_to(expected, store)


@pytest.mark.slow
def test_a_full_disk_at_the_store_interrupts_and_resumes(cluster, store, notes, whole):
    """No file of the driver may grow beyond the store any more."""
    expected = whole("Waits", notes)
    driver = start(*on(cluster, store, notes))
    workers = until(lambda: notes.waiting(2), "two workers")
    largest = max(path.stat().st_size for path in store.parent.glob("nas.db*") if path.is_file())
    resource.prlimit(driver.pid, resource.RLIMIT_FSIZE, (largest, largest))
    notes.go()
    _, errors = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 2, errors
    assert "Traceback" not in errors
    assert not (content(store)["candidates"].status == "failed").any()
    assert_gone(workers)
    assert nas(*on(cluster, store, notes)).returncode == 0
    assert_equal_to(expected, store)


@pytest.mark.slow
def test_a_worker_that_ray_ends_for_memory_is_repeated_alone(store, notes, whole):
    """Ray's monitor ends workers when the machine uses 2 GB more than now."""
    expected = whole("Noted", notes)
    memory = psutil.virtual_memory()
    limit = (memory.total - memory.available + (2 << 30)) / memory.total
    monitored = {"memory_usage_threshold": limit, "memory_monitor_refresh_ms": 100}
    with other_cluster(_system_config=monitored) as cluster:
        ended = nas(*on(cluster, store, notes, evaluator=toy("Greedy"), workers=1))
    assert ended.returncode == 0, ended.stderr
    assert (notes.folder / "greedy").exists()
    assert_equal_to(expected, store)
    assert "memory of its node was full" in next(store.parent.rglob("log.txt")).read_text()
