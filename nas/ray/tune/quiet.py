"""Running Ray Tune inside a search: without its output, its log files and its handlers of signals."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nas.ray.job_files import working_folder

ENVIRONMENT = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no files of results: the store has them
    "TUNE_GLOBAL_CHECKPOINT_S": "31536000",  # no checkpoints of the experiment: the store is the state
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # the searcher proposes only what fits
    "TUNE_STATE_REFRESH_PERIOD": "31536000",  # it asks the head, which may be lost
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints a table without being asked
}
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def quiet_tune() -> Iterator[str]:
    """A context in which Tune prints nothing. Yields a temporary folder for its experiment, which is then removed."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    logger, main = logging.getLogger("ray"), threading.current_thread() is threading.main_thread()
    level, handler = logger.level, signal.getsignal(signal.SIGUSR1)
    folder = working_folder()
    os.environ.update(ENVIRONMENT)
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield folder
    finally:
        logger.setLevel(level)
        if main:
            signal.signal(signal.SIGUSR1, handler)  # Tune sets its own
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


class Signals:
    """Signals that stop the program wait for a safe moment, because Tune would leave its workers behind.

    They take effect by :meth:`deliver`, and inside of :meth:`open` at once.
    """

    def __init__(self) -> None:
        self._arrived: list[int] = []
        self._open = False
        self._handlers: dict[int, Callable[..., object]] = {}

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer the signals that this process handles."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {number: signal.getsignal(number) for number in STOPS}
        self._handlers = {int(number): handler for number, handler in handlers.items() if callable(handler)}
        for number in self._handlers:
            signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def deliver(self) -> None:
        """Let signals take effect that have arrived: their handlers may raise, such as KeyboardInterrupt."""
        while self._arrived:
            number = self._arrived.pop(0)
            self._handlers[number](number, None)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Let signals take effect when they arrive."""
        self._open = True
        try:
            yield
        finally:
            self._open = False

    def _handle(self, number: int, frame: object) -> None:
        if self._open:
            self._handlers[number](number, frame)
        else:
            self._arrived.append(number)
