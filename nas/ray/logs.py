"""The output of workers on a cluster, in the log of the study, with their nodes."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher

from nas.ray.head import client_worker

_PRINTING = "ray_print_logs"
"""Ray's own handler, which prints to the terminal of the driver and would disturb its display."""

_PRINTED = re.compile(r"(?:\x1b\[[0-9;]*m)?\([^()]*?pid=(\d+)(?:, ip=([^()\s]*))?\)(?:\x1b\[[0-9;]*m)? ?(.*)")
"""A line that a client receives: process, address of the node if it is not the head, and what was printed."""

QUIET_SECONDS, MOST_WAITS = 0.7, 4
"""Ray collects output twice a second; the context ends when none has arrived for this time, or after some waits."""


Write = Callable[[str, Any, Iterable[str]], None]
"""Takes the address of a node, a process, and lines."""


@contextmanager
def logged_output(path: str | None, node_names: Callable[[str], str]) -> Iterator[None]:
    """Write what workers print to a file in place of the terminal.

    Parameters
    ----------
    path
        The file; None: the output is discarded.
    node_names
        From the address of a node to the name that the log shows; the empty address is of the head.
    """
    lock = threading.Lock()
    arrived = threading.Event()

    def write(address: str, process: Any, lines: Iterable[str]) -> None:
        arrived.set()
        if path is None:
            return
        text = "".join(f"[{node_names(address)}, process {process}] {line}\n" for line in lines)
        with lock, open(path, "a", encoding="utf-8") as log:
            log.write(text)

    with _client_output(write) if client_worker() else _member_output(write):
        yield
        for _ in range(MOST_WAITS):
            arrived.clear()
            if not arrived.wait(QUIET_SECONDS):
                break


@contextmanager
def _member_output(write: Write) -> Iterator[None]:
    """Hand over what Ray sends to a member of the cluster."""

    def handle(data: dict[str, Any]) -> None:
        if data.get("pid") not in ("autoscaler", "raylet"):
            write(data.get("ip") or "", data.get("pid"), data["lines"])

    printing = [handler for name, handler in dispatcher.handlers if name == _PRINTING]
    dispatcher.remove_handler(_PRINTING)
    dispatcher.add_handler("anytime-nas", handle)
    try:
        yield
    finally:
        dispatcher.remove_handler("anytime-nas")
        for handler in printing:
            dispatcher.add_handler(_PRINTING, handler)


@contextmanager
def _client_output(write: Write) -> Iterator[None]:
    """Hand over what Ray's server sends to a client: text for a terminal."""

    def handle(level: int, msg: str) -> None:
        for line in msg.splitlines():
            if printed := _PRINTED.fullmatch(line):
                process, address, text = printed.groups()
                write(address or "", process, [text])

    stream = client_worker().log_client
    stream.stdstream = handle
    try:
        yield
    finally:
        del stream.stdstream  # the method of the class is left
