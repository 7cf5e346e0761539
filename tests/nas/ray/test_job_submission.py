"""A search as a submitted job of a Ray cluster: it joins the cluster, stops cleanly, and the same command continues."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from ..searching import arguments, assert_same, command, content, environment, search, state_of, toy
from .test_faults import BUDGETS, Notes, assert_gone, until

pytestmark = pytest.mark.slow


def free_ports(count):
    """Ports on which nobody listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="module")
def dashboard():
    """The address for jobs of a cluster with one node."""
    from ray.cluster_utils import Cluster

    port, agent = free_ports(2)
    ports = {"dashboard_port": port, "dashboard_agent_listen_port": agent}  # other clusters may run on this machine
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": True} | ports)
    yield f"http://127.0.0.1:{port}"
    started.shutdown()


def ray_job(*words, dashboard, folder):
    """Run ``ray job``; returns its exit status and output."""
    ended = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "job", words[0], f"--address={dashboard}", *words[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment(RAY_AUTH_MODE="disabled"),
        check=False,
    )
    return ended.returncode, ended.stdout


def test_a_submitted_search_is_stopped_cleanly_and_continued_by_the_same_command(dashboard, tmp_path, in_process):
    """As examples/cluster/submit.sh does it, with a toy evaluator."""
    for name in ("notes", "working"):
        (tmp_path / name).mkdir()
    notes, store = Notes(tmp_path / "notes"), tmp_path / "nas.db"
    where = {"evaluator": toy("Waits"), "data": str(notes.folder), **BUDGETS}
    notes.go()
    search(tmp_path / "whole.db", **where)
    for path in notes.folder.iterdir():
        path.unlink()
    seconds = json.dumps({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}})
    program = command(*arguments(store, "--ray", **where, workers=2))
    submit = ("submit", "--working-dir=.", f"--runtime-env-json={seconds}")
    there = {"dashboard": dashboard, "folder": tmp_path / "working"}
    first = (*submit, "--submission-id=first", "--no-wait", "--", *program)
    until(lambda: ray_job(*first, **there)[0] == 0, "the cluster's agent for jobs")
    workers = until(lambda: notes.waiting(2), "two workers")
    ray_job("stop", "first", **there)
    status, output = ray_job("status", "first", **there)
    assert "was stopped" in output
    assert state_of(store)[0] == "interrupted"
    assert_gone(workers)
    notes.go()
    status, output = ray_job(*submit, "--", *program, **there)
    assert status == 0, output
    assert "candidates were trained" in output
    assert_same(content(tmp_path / "whole.db"), content(store), settings=False)
