"""Copies of data that were passed in memory: one file for each content, kept as long as a study names it.

A process that starts or runs a study holds a shared lock on its copy; only a copy that no process holds, and that no
study of the database names in its settings, is removed. The operating system frees the locks of a process that dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from results.connection import Location
from results.lock import file_lock

FOLDER = ".data"


def folder_of(location: Location) -> Path:
    """Folder of the copies of a store. Databases that share a folder of files have separate ones."""
    folder = location.files.absolute() / FOLDER
    if location.url is None:
        return folder
    database = f"{location.url.host}:{location.url.port or 5432}/{location.url.database}"
    return folder / hashlib.sha256(database.encode()).hexdigest()[:16]


def copy_named(settings: Mapping[str, Any]) -> Path | None:
    """The copy that the settings of a study name; None if its data are no copy."""
    kind, _, path = str(settings.get("data", "")).partition(":")
    return Path(path) if kind == "npz" and FOLDER in Path(path).parts else None


@contextmanager
def held_copy(folder: Path, name: str, write: Callable[[Path], None]) -> Iterator[Path]:
    """Hold a copy, so that no process removes it.

    Parameters
    ----------
    folder
        Of the copies of a store; created if necessary.
    name
        Name of the copy, made from the hash of its content.
    write
        Called if there is no copy; writes the content to the path that it receives.

    Yields
    ------
    pathlib.Path
        The file.
    """
    path = folder / f"{name}.npz"
    with _one_process(folder):
        if not path.exists():
            partial = path.with_suffix(".partial")
            write(partial)
            os.replace(partial, path)
        descriptor = _locked(path, fcntl.LOCK_SH)
    try:
        yield path
    finally:
        os.close(descriptor)


def remove_unnamed(folder: Path, named: Callable[[], Collection[Path]]) -> None:
    """Remove copies that no process holds and no study names, and what a killed process left half-written.

    named: returns the copies that studies name. It is called after the copies are locked, so that no study that has
    just started is missed.
    """
    if not folder.exists():
        return
    with _one_process(folder):
        for path in folder.glob("*.partial"):
            path.unlink()
        locked = {}
        for path in folder.glob("*.npz"):
            with suppress(BlockingIOError):
                locked[path] = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            kept = named()
            for path in locked:
                if path not in kept:
                    path.unlink()
        finally:
            for descriptor in locked.values():
                os.close(descriptor)


def _one_process(folder: Path) -> FileLock:
    """The lock of a folder of copies, for writing and removing them."""
    return file_lock(folder / ".lock")


def _locked(path: Path, kind: int) -> int:
    """A descriptor that locks a file. Raises BlockingIOError if the lock is not free and kind does not wait."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, kind)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
