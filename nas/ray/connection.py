"""Joining a Ray cluster, or starting Ray on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from nas.errors import EnvironmentFault, UserError

JOB_ADDRESS = "RAY_ADDRESS"
"""Environment variable with the address of the cluster inside a Ray job."""
REACHED_SECONDS = 10.0


def check_ray() -> None:
    """Raise UserError if ray cannot be imported."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise UserError(f"--ray needs the package ray: pip install 'ray[tune]'. Got {error}.") from error


@contextmanager
def connected(address: bool | str) -> Iterator[None]:
    """Join a cluster for the length of a context; leave it afterwards, unless the caller had joined before.

    Parameters
    ----------
    address
        "auto", "HOST:PORT" or "ray://HOST:PORT"; True: the cluster of the Ray job that this process belongs to, or else
        a new one on this machine, which ends with the context; "local": always a new one.

    Raises
    ------
    UserError
        If ray is missing, or the address is of no cluster that this process can join.
    """
    check_ray()
    import ray

    from nas.ray.head import leave_cluster

    if ray.is_initialized():
        if isinstance(address, str) and address != "auto":
            raise UserError(
                f"A process belongs to one Ray cluster. It has joined one before; got the address {address!r}: call "
                "ray.shutdown() first, or pass ray=True."
            )
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    _join(address)
    for number, handler in before.items():  # ray ends the process on SIGTERM, before the study is closed
        signal.signal(number, handler)
    try:
        yield
    finally:
        leave_cluster()


def _join(address: bool | str) -> None:
    import ray

    target = _target(address)
    _check_port(target)
    try:
        if target == "local":
            ray.init(address="local", num_cpus=_cpus(), include_dashboard=False, logging_level=logging.ERROR)
        else:
            ray.init(address=target, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        if target == "local":
            raise EnvironmentFault(f"Ray must start on this machine. Got {reason:.400}") from error
        versions = f"ray {ray.__version__} and Python {sys.version.partition(' ')[0]}"
        raise UserError(
            f"--ray-address must be of a running cluster with {versions}, and with this user's token. Got "
            f"{target}: {reason:.400}"
        ) from error


def _check_port(target: str) -> None:
    """Raise UserError if nothing listens at an address; ray would wait for half a minute."""
    host, colon, port = target.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"--ray-address must be of a running cluster. Got {target}: {error.strerror or error}."
        ) from error


def _target(address: bool | str) -> str:
    if isinstance(address, str):
        return address
    return os.environ.get(JOB_ADDRESS) or "local"


def _cpus() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
