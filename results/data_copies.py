"""Copies of data that were passed in memory: one file for each content, kept as long as a study names it.

A process that starts or runs a study holds a shared lock on its copy; only a copy that no process holds, and that no
study of the database names in its settings, is removed. The operating system frees the locks of a process that dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from results.connection import Location, check_folder, clear_errors
from results.errors import StoreError
from results.lock import file_lock

FOLDER = ".data"

_NAME = re.compile(r"data-[0-9a-f]{16}\.npz")
"""Files in a folder of copies that may be removed; a name says the content."""


def folder_of(location: Location) -> Path:
    """Folder of the copies of a store. Databases that share a folder of files have separate ones."""
    folder = location.files.absolute() / FOLDER
    if location.url is None:
        return folder
    database = f"{location.url.host}:{location.url.port or 5432}/{location.url.database}"
    return folder / hashlib.sha256(database.encode()).hexdigest()[:16]


def copy_named(settings: Mapping[str, Any]) -> str | None:
    """File name of the copy that the settings of a study may name, in any folder: stores are moved and copied."""
    kind, _, path = str(settings.get("data", "")).partition(":")
    name = Path(path).name
    return name if kind == "npz" and _NAME.fullmatch(name) else None


def with_present_copy(location: Location, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that name the copy in the store's present folder, if they name one in a folder of copies elsewhere."""
    name = copy_named(settings)
    if name is not None and FOLDER in Path(settings["data"]).parts[-3:-1]:
        present = folder_of(location) / name
        if os.path.exists(present):  # False also in a folder without permission
            return {**settings, "data": f"npz:{present}"}
    return dict(settings)


@contextmanager
def kept_copy(
    location: Location, name: str, write: Callable[[Path], None], named: Callable[[], Collection[str]]
) -> Iterator[Path]:
    """A copy that no process removes inside the context; afterwards, copies that belong to no study are removed.

    Parameters
    ----------
    location
        The store.
    name
        Name of the copy, "data-" and 16 digits of the hash of its content.
    write
        Called if there is no copy; writes the content to the path that it receives.
    named
        Returns the file names of the copies that studies name.

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
        remove_unnamed(location, named)


def remove_unnamed(location: Location, named: Callable[[], Collection[str]]) -> None:
    """Remove copies of a store that no process holds and no study names, and what a killed process left half-written.

    Errors are ignored: the next call removes what is left.

    Parameters
    ----------
    location
        The store.
    named
        Returns the file names of the copies that studies name. It is called after the copies are locked, so that no
        study that has just started is missed.
    """
    folder = folder_of(location)
    with suppress(StoreError), clear_errors(location):
        if folder.exists():
            with _one_process(folder):
                _remove_unnamed(folder, named)


def _remove_unnamed(folder: Path, named: Callable[[], Collection[str]]) -> None:
    copies = [path for path in folder.iterdir() if _NAME.fullmatch(path.with_suffix(".npz").name)]
    for path in copies:
        if path.suffix == ".partial":
            path.unlink()
    locked = {}
    for path in (path for path in copies if path.suffix == ".npz"):
        with suppress(BlockingIOError):
            locked[path] = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        kept = named()
        for path in locked:
            if path.name not in kept:
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
