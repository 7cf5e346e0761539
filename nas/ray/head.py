"""Noticing that the head of a cluster is lost.

Calls of Ray that ask the head wait for it, and Ray ends this process without a word when it has not answered for 60 s.
"""

from __future__ import annotations

import socket
import time

import ray

from nas.errors import EnvironmentFault

LOOK_SECONDS = 2.0
"""Time between looks, and time that the head has to accept a connection."""
LOST_SECONDS = 30.0
"""A head that has not answered for this time is lost. A replacement, as by KubeRay, may have come by then."""


class Head:
    """The head of the cluster that this process has joined. A cluster behind ``ray://`` is not watched."""

    def __init__(self) -> None:
        client = ray.util.client.ray.is_connected()
        self._address = None if client else ray.get_runtime_context().gcs_address
        self._looked = -LOOK_SECONDS
        self._silent_since: float | None = None

    @property
    def answers(self) -> bool:
        """Whether the head accepted a connection at the last look, at most ``LOOK_SECONDS`` ago."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            accepts = self._address is None or accepts_connections(self._address)
            self._looked = time.monotonic()
            self._silent_since = None if accepts else (self._silent_since or self._looked)
        return self._silent_since is None

    def look(self) -> bool:
        """Whether the head accepts a connection now."""
        self._looked = -LOOK_SECONDS
        return self.answers

    def check(self) -> None:
        """Raise EnvironmentFault if the head is lost."""
        if not self.answers and time.monotonic() - (self._silent_since or 0) > LOST_SECONDS:
            raise EnvironmentFault(
                f"The head of the Ray cluster at {self._address} does not answer. No candidate is to blame: resume on "
                "a running cluster."
            )


def accepts_connections(address: str) -> bool:
    """Whether somebody listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_SECONDS).close()
    except OSError:
        return False
    return True


def leave_cluster() -> None:
    """Leave the cluster, unless its head does not answer: that would wait until Ray ends this process."""
    if Head().answers:
        ray.shutdown()
