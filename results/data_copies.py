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

from results.connection import Location, check_folder, clear_errors
from results.errors import StoreError
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
def kept_copy(
    location: Location, name: str, write: Callable[[Path], None], named: Callable[[], Collection[Path]]
) -> Iterator[Path]:
    """A copy that no process removes inside the context; afterwards, copies that belong to no study are removed.

    Parameters
    ----------
    location
        The store.
    name
        Name of the copy, made from the hash of its content.
    write
        Called if there is no copy; writes the content to the path that it receives.
    named
        Returns the copies that studies name.

    Yields
    ------
    pathlib.Path
        The file.

    Raises
    ------
    StoreError
        If the folder of the store does not exist or cannot be written.
    """
    check_folder(location.files.absolute().parent)
    folder = folder_of(location)
    path = folder / f"{name}.npz"
    try:
        with clear_errors(location), _one_process(folder):
            if not path.exists():
                partial = path.with_suffix(".partial")
                write(partial)
                os.replace(partial, path)
            descriptor = _locked(path, fcntl.LOCK_SH)
        try:
            yield path
        finally:
            os.close(descriptor)
    finally:
        remove_unnamed(location, folder, named)


def remove_unnamed(location: Location, folder: Path, named: Callable[[], Collection[Path]]) -> None:
    """Remove copies that no process holds and no study names, and what a killed process left half-written.

    Errors are ignored: the next call removes what is left.

    Parameters
    ----------
    location
        The store.
    folder
        Of the copies.
    named
        Returns the copies that studies name. It is called after the copies are locked, so that no study that has just
        started is missed.
    """
    with suppress(StoreError), clear_errors(location):
        if folder.exists():
            with _one_process(folder):
                _remove_unnamed(folder, named)


def _remove_unnamed(folder: Path, named: Callable[[], Collection[Path]]) -> None:
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
