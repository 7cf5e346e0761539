"""Noticing that the head of a cluster is lost.

Calls of Ray that ask the head wait for it, and Ray ends this process without a word when it has not answered for 60 s.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import auto_init_hook
from ray.util import client

from nas.errors import EnvironmentFault

LOOK_SECONDS = 2.0
"""Time between looks, and time that the head has to accept a connection."""
LOST_SECONDS = 30.0
"""A head that has not answered for this time is lost. A replacement, as by KubeRay, may have come by then."""
_LOST_CONNECTION = (
    "The connection to the Ray cluster behind ray:// is lost. No candidate is to blame: resume on a running cluster."
)


class Head:
    """The head of the cluster that this process has joined. Behind ``ray://`` it is the client server."""

    def __init__(self) -> None:
        self._client = client_worker()
        self._address = None if self._client else ray.get_runtime_context().gcs_address
        self._looked = -LOOK_SECONDS
        self._silent_since: float | None = None

    @property
    def answers(self) -> bool:
        """Whether the head accepted a connection at the last look, at most ``LOOK_SECONDS`` ago.

        Ray's client itself tries for half a minute to reach a head that it has lost.
        """
        if self._client is not None:
            return bool(self._client.is_connected())
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            accepts = accepts_connections(str(self._address))
            self._looked = time.monotonic()
            self._silent_since = None if accepts else (self._silent_since or self._looked)
        return self._silent_since is None

    def look(self) -> bool:
        """Whether the head accepts a connection now."""
        self._looked = -LOOK_SECONDS
        return self.answers

    def check(self) -> None:
        """Raise EnvironmentFault if the head is lost."""
        if self._client is not None and not self.answers:
            raise EnvironmentFault(_LOST_CONNECTION)
        if not self.answers and time.monotonic() - (self._silent_since or 0) > LOST_SECONDS:
            raise EnvironmentFault(
                f"The head of the Ray cluster at {self._address} does not answer. No candidate is to blame: resume on "
                "a running cluster."
            )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A context in which calls of Ray may lose their client's connection, which raises EnvironmentFault."""
        try:
            yield
        except Exception as error:  # of many types, after the connection has been closed
            if self._client is None or isinstance(error, EnvironmentFault):
                raise
            import grpc

            if isinstance(error, ConnectionError | grpc.RpcError) or not self.answers:
                raise EnvironmentFault(_LOST_CONNECTION) from error
            raise


def client_worker() -> Any:
    """The connection of this process through ``ray://``; None for a member of a cluster."""
    return client.ray.get_context().client_worker if client.ray.is_connected() else None


@contextmanager
def no_other_cluster() -> Iterator[None]:
    """A context in which Ray's calls start no cluster on this machine after theirs is lost, and say nothing of it."""
    before, auto_init_hook.enable_auto_connect = auto_init_hook.enable_auto_connect, False
    logger, silent = logging.getLogger("ray.util.client"), logging.NullHandler()
    level, logs = logger.level, logging.getLogger("ray.util.client.logsclient")
    logger.setLevel(logging.CRITICAL)
    logs.addHandler(silent)
    try:
        yield
    finally:
        auto_init_hook.enable_auto_connect = before
        logger.setLevel(level)
        logs.removeHandler(silent)


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
    if not ray.is_initialized():  # the connection of a client is lost
        client.ray.disconnect()
    elif Head().answers:
        ray.shutdown()
