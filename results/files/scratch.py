"""Folders for work in progress in the system's folder of temporary files; those of killed processes are removed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX = "anytime-nas-files-"
_LOCK = ".lock"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new empty folder, which is removed afterwards; before and afterwards, folders of dead processes are removed.

    A process holds the lock of its folder, which the operating system frees when the process dies.
    """
    remove_abandoned()
    folder, lock = _locked_folder()
    try:
        yield folder / "files"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        remove_abandoned()


def remove_abandoned() -> None:
    """Remove the folders of this user whose process has died."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid() or not (folder / _LOCK).exists():
                continue
            lock = _lock(folder)
            lock.acquire(blocking=False)
        except (Timeout, OSError):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _locked_folder() -> tuple[Path, FileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = _lock(folder)
        try:
            lock.acquire()
            (folder / "files").mkdir()
            return folder, lock
        except FileNotFoundError:  # another process removed it between the creation of the lock and its acquisition
            lock.release()


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / _LOCK, thread_local=False, fallback_to_soft=False)
