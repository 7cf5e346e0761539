"""The log of a study: a file to which processes append text, also if the study's files have a URL."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from results.errors import StoreError
from results.files.places import Place, RemotePath
from results.files.scratch import scratch_folder

LOG = "log.txt"
"""Name of the file."""
SECONDS = 30.0
"""Seconds between copies of a log to a URL."""
SHARE = 20
"""Sending takes at most one of so many seconds."""
_log = logging.getLogger("results")


@contextmanager
def appended_log(files: Place) -> Iterator[Path]:
    """The local file to which the log of a study is appended.

    For a URL, a copy of the log there; it is sent back every 30 seconds if it has grown, and at the end.

    Parameters
    ----------
    files : Path or RemotePath
        The study's files.
    """
    if isinstance(files, Path):
        yield files / LOG
        return
    with scratch_folder() as scratch:
        path, remote = scratch / LOG, files / LOG
        with suppress(FileNotFoundError):
            remote.fetch(path)
        ended = threading.Event()
        sender = threading.Thread(target=_send_repeatedly, args=(path, remote, _size(path), ended), daemon=True)
        sender.start()
        try:
            yield path
        finally:
            ended.set()
            sender.join()


def _send_repeatedly(path: Path, remote: RemotePath, sent: int, ended: threading.Event) -> None:
    """Send the log when it has grown; for the last time after ``ended`` is set. sent: bytes that are there."""
    pause = SECONDS
    last = False
    while not last:
        last = ended.wait(pause)
        size, started = _size(path), time.monotonic()
        if size == sent:
            continue
        try:
            remote.send(path)
            sent = size
        except StoreError as error:  # the search itself notices whether its files can be written
            if last:
                _log.warning("The end of the log was not sent: %s", error)
        pause = max(SECONDS, SHARE * (time.monotonic() - started))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
