"""The output of workers on a cluster, in the log of the study, with their nodes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher

_PRINTING = "ray_print_logs"
"""Ray's own handler, which prints to the terminal of the driver and would disturb its display."""

QUIET_SECONDS, MOST_WAITS = 0.7, 4
"""Ray collects output twice a second; the context ends when none has arrived for this time, or after some waits."""


@contextmanager
def logged_output(path: str | None, node_names: Callable[[str], str]) -> Iterator[None]:
    """Write what workers print to a file in place of the terminal.

    Parameters
    ----------
    path
        The file; None: the output is discarded.
    node_names
        From the address of a node to the name that the log shows.
    """
    lock = threading.Lock()
    arrived = threading.Event()

    def write(data: dict[str, Any]) -> None:
        arrived.set()
        if path is None or data.get("pid") in ("autoscaler", "raylet"):
            return
        place = f"[{node_names(data.get('ip') or '')}, process {data.get('pid')}]"
        lines = "".join(f"{place} {line}\n" for line in data["lines"])
        with lock, open(path, "a", encoding="utf-8") as log:
            log.write(lines)

    printing = [handler for name, handler in dispatcher.handlers if name == _PRINTING]
    dispatcher.remove_handler(_PRINTING)
    dispatcher.add_handler("anytime-nas", write)
    try:
        yield
        for _ in range(MOST_WAITS):
            arrived.clear()
            if not arrived.wait(QUIET_SECONDS):
                break
    finally:
        dispatcher.remove_handler("anytime-nas")
        for handler in printing:
            dispatcher.add_handler(_PRINTING, handler)
