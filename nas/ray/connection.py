"""Joining a Ray cluster, or starting Ray on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from nas.config import CLIENT, not_on_a_node
from nas.errors import EnvironmentFault, UserError
from nas.workers.machines import usable_cores

JOB_ADDRESS = "RAY_ADDRESS"
"""Environment variable with the address of the cluster inside a Ray job."""
CLIENT_ATTEMPTS = 3
REACHED_SECONDS = 10.0
ANSWER_SECONDS = 20.0
"""Time in which the head of a cluster must answer that it is well."""
HEALTH = "/grpc.health.v1.Health/Check"
"""The method of gRPC that asks it."""


def check_ray() -> None:
    """Raise UserError if ray cannot be imported."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise UserError(f"--ray needs the package ray: pip install 'ray[tune]'. Got {error}.") from error


@contextmanager
def connected(address: bool | str, *, on_node: bool = False) -> Iterator[None]:
    """Join a cluster for the length of a context; leave it afterwards, unless the caller had joined before.

    Parameters
    ----------
    address
        "auto", "HOST:PORT" or "ray://HOST:PORT"; True: the cluster of the Ray job that this process belongs to, or else
        a new one on this machine, which ends with the context; "local": always a new one.
    on_node
        Whether this process must be on a node of the cluster.

    Raises
    ------
    UserError
        If ray is missing, or the address is of no cluster that this process can join.
    """
    check_ray()
    import ray

    from nas.ray.head import client_worker, leave_cluster, no_other_cluster

    if ray.is_initialized():
        if isinstance(address, str) and address != "auto":
            raise UserError(
                f"A process belongs to one Ray cluster. It has joined one before; got the address {address!r}: call "
                "ray.shutdown() first, or pass ray=True."
            )
        if on_node and client_worker():
            raise not_on_a_node(CLIENT)
        with no_other_cluster():
            yield
        return
    target = _target(address)
    if on_node and target.startswith(CLIENT):
        raise not_on_a_node(target)
    _check_port(target)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    _join(target)
    for number, handler in before.items():  # ray ends the process on SIGTERM, before the study is closed
        signal.signal(number, handler)
    with no_other_cluster():
        try:
            yield
        finally:
            leave_cluster()


def _join(target: str) -> None:
    import ray

    try:
        if target == "local":
            ray.init(address="local", num_cpus=usable_cores(), include_dashboard=False, logging_level=logging.ERROR)
        else:
            _join_running(target)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        if target == "local":
            raise EnvironmentFault(f"Ray must start on this machine. Got {reason:.400}") from error
        versions = f"ray {ray.__version__} and Python {sys.version.partition(' ')[0]}"
        raise UserError(
            f"--ray-address must be of a running cluster with {versions}, and with this user's token. Got "
            f"{target}: {reason:.400}"
        ) from error


def _join_running(target: str) -> None:
    """Join a cluster that exists. A client tries again if the process that should serve it has died at its start."""
    import ray

    for left in reversed(range(CLIENT_ATTEMPTS)):
        try:
            ray.init(address=target, logging_level=logging.ERROR)
            return
        except ConnectionAbortedError:
            if not left:
                raise


def _check_port(target: str) -> None:
    """Raise UserError if nothing listens at an address; ray would wait for half a minute."""
    host, colon, port = target.removeprefix(CLIENT).rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:  # no such host or port, or none at all
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--ray-address must be of a running cluster. Got {target}: {reason}.") from error
    if not target.startswith(CLIENT):
        _check_head(target)


def _check_head(target: str) -> None:
    """Raise UserError if no head of a cluster listens at HOST:PORT; ray would wait for two minutes."""
    try:
        import grpc
    except ImportError:  # a small installation of ray: it waits
        return
    from ray._private.grpc_utils import init_grpc_channel

    with init_grpc_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(HEALTH)(b"", timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                what = "no head of a cluster answers there"
            elif error.code() is grpc.StatusCode.UNIMPLEMENTED:
                what = "another service answers there"
            else:  # such as for a token: ray.init says it better
                return
            raise UserError(
                f"--ray-address HOST:PORT must have the port of the cluster's head, 6379 by default, and "
                f"ray://HOST:PORT that of its client server, 10001 by default. Got {target}: {what}."
            ) from error


def _target(address: bool | str) -> str:
    if isinstance(address, str):
        return address
    return os.environ.get(JOB_ADDRESS) or "local"
