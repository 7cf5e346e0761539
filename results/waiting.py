"""Waiting for a database server that does not answer, for example because it is being restarted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from results.errors import NoAnswer

PATIENCE_SECONDS = 600.0
"""Time that a search waits for a database server."""
_LONGEST_PAUSE_SECONDS = 5.0

_log = logging.getLogger("results")
_Result = TypeVar("_Result")


def pauses(patience: float) -> Iterator[None]:
    """Yield at once, then after growing pauses, until the next pause would end after ``patience`` seconds."""
    started, pause = time.monotonic(), 0.1
    yield
    while time.monotonic() - started + pause <= patience:
        time.sleep(pause)
        yield
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def patiently(read: Callable[[], _Result]) -> _Result:
    """The result of a function that only reads; it is called again while the server does not answer.

    Raises NoAnswer if that takes longer than PATIENCE_SECONDS.
    """
    refusal: NoAnswer | None = None
    for _ in pauses(PATIENCE_SECONDS):
        try:
            return read()
        except NoAnswer as error:
            if refusal is None:
                _log.warning("%s. Waiting for it, %g s at most.", str(error).rstrip("."), PATIENCE_SECONDS)
            refusal = error
    assert refusal is not None
    raise refusal
