"""Signals that stop the program. One handler serves all commands; it is installed before anything slow is imported."""

from __future__ import annotations

import math
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Clusters send SIGTERM; a terminal that is closed, SIGHUP."""


class Stop:
    """A clean stop by a signal: commands end by KeyboardInterrupt, and the exit status is 128 + the signal's number.

    An import is not interrupted, because that leaves it half done and prints a traceback. Further signals within the
    seconds that a stop takes are ignored.
    """

    seconds = 5.0
    current: Stop | None = None

    def __init__(self) -> None:
        self.number: int | None = None
        self.advice: Callable[[], str] | None = None
        self._first = self._raised = -math.inf

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self.number is not None

    def install(self) -> None:
        """Handle the signals. SIGHUP stays ignored under nohup."""
        Stop.current = self
        for number in STOPS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number is None:
            self.number, self._first = number, now
        if _importing(frame) and now - self._first < self.seconds:
            again = threading.Timer(0.05, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
        elif now - self._raised > self.seconds:
            self._raised = now
            raise KeyboardInterrupt

    def report(self) -> int:
        """Say that the program was stopped, and how to continue. Returns the exit status."""
        assert self.number is not None
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
        if self.number == signal.SIGHUP:
            _leave_terminal()
        advice = "" if self.advice is None else f" {self.advice()}"
        print(f"\nStopped.{advice}", file=sys.stderr)
        return 128 + self.number


def on_stop(advice: Callable[[], str]) -> None:
    """Set what the program says when it is stopped: how to continue."""
    if Stop.current is not None:
        Stop.current.advice = advice


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _leave_terminal() -> None:
    """Write to nowhere in place of a terminal that is gone."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode):
                os.dup2(nothing, stream)
