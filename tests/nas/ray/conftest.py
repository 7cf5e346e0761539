"""A Ray cluster of two nodes on this machine, shared by the tests of a file."""

from __future__ import annotations

import os
import signal

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ["RAY_AUTH_MODE"] = "disabled"
"""A Ray of this process alone would otherwise ask for tokens in the whole process, and the clusters have none."""


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with two CPUs each; ``cluster.address`` joins it."""
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    started.add_node(num_cpus=2)
    yield started
    started.shutdown()


@pytest.fixture(scope="module")
def joined(cluster):
    """This process is connected to the cluster."""
    import ray

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ray.init(address=cluster.address, log_to_driver=True, logging_level="ERROR")
    for number, handler in handlers.items():
        signal.signal(number, handler)
    yield cluster
    ray.shutdown()
    for number, handler in handlers.items():  # Ray Tune leaves its own
        signal.signal(number, handler)
