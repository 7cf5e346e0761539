"""A cluster behind ``ray://``: a search ends with rows and a log, and what goes wrong is one line."""

from __future__ import annotations

import socket
import subprocess
import sys
import warnings
from contextlib import contextmanager

import pytest

from nas.errors import UserError
from nas.ray.connection import connected

from ..searching import arguments, content, environment, nas, start, state_of, toy
from .test_faults import BUDGETS, Notes, until
from .test_job_submission import free_ports


@contextmanager
def served():
    """A cluster with one node, and the port of its client server."""
    from ray.cluster_utils import Cluster

    (port,) = free_ports(1)
    node = {"num_cpus": 1, "include_dashboard": False, "ray_client_server_port": port}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # ray leaves the logs of the server open
        cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        until(lambda: answers(port), "the client server, which starts after the other processes")
        yield port
    finally:
        cluster.shutdown()


def answers(port):
    """Whether a server listens on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def port():
    """The port of the client server of a cluster."""
    with served() as port:
        yield port


@pytest.mark.slow
def test_a_search_has_rows_and_its_workers_output_in_the_log_only(port, store):
    address = f"ray://127.0.0.1:{port}"
    ended = nas(*arguments(store, evaluator=toy("Prints"), ray_address=address, train=3, pool=4))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "nice day" not in ended.stdout
    assert len(content(store)["candidates"]) >= 3
    (log,) = store.parent.glob("**/log.txt")
    assert ", process " in log.read_text()
    assert "] what a nice day\n" in log.read_text()


def test_a_client_learns_that_no_autoscaler_may_add_nodes(port):
    """A request that no node satisfies needs the answer."""
    code = (
        "from nas.ray.connection import connected; from nas.ray.nodes import autoscales\n"
        f"with connected('ray://127.0.0.1:{port}'): print(autoscales())"
    )
    ended = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment())
    assert ended.stdout == "False\n", ended.stderr


@pytest.mark.slow
def test_the_loss_of_the_cluster_interrupts_the_study(store, tmp_path):
    (tmp_path / "notes").mkdir()
    notes = Notes(tmp_path / "notes")
    with served() as port:
        where = {"data": notes.folder, "ray_address": f"ray://127.0.0.1:{port}"}
        driver = start(*arguments(store, evaluator=toy("Waits"), **where, **BUDGETS))
        until(lambda: notes.waiting() or driver.poll() is not None, "a waiting worker")
    _, errors = driver.communicate(timeout=120)
    assert (driver.returncode, errors.strip().count("\n")) == (2, 0), errors
    assert "nas: The connection to the Ray cluster behind ray:// is lost." in errors
    assert state_of(store)[0] == "interrupted"


@pytest.mark.parametrize("address", ["a..b:1", "ray://a..b:1"])
def test_a_host_that_cannot_be_is_refused(address):
    with pytest.raises(UserError, match="must be of a running cluster"), connected(address):
        pass


def test_a_port_of_another_service_is_refused_at_once(port):
    with pytest.raises(UserError, match="6379 by default"), connected(f"127.0.0.1:{port}"):
        pass


def test_an_asynchronous_search_is_refused_for_the_address_of_the_environment(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:1")
    with pytest.raises(UserError, match="on a node of its cluster"), connected(True, on_node=True):
        pass
