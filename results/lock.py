"""One writer per study: a lock that the system takes back when its holder dies, even by kill -9."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import weakref
from pathlib import Path
from typing import IO

import sqlalchemy as sa

from results.errors import StoreError


def held_elsewhere(study: str, holder: str) -> StoreError:
    """The error for a second writer; `holder` names the first."""
    return StoreError(
        f"A study has one writer at a time. Study {study!r} is being written by {holder}. "
        "Wait for it, stop it, or use another study name."
    )


class FileLock:
    """An exclusive `flock` on a file that names its holder.

    Forked children (data loaders) drop their copy at birth, so that they cannot keep the lock of a dead parent.
    The file stays: unlinking it would let a third process lock a new one.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        _held.add(self)

    @classmethod
    def acquire(cls, path: Path, *, wait: bool = False) -> FileLock | str:
        """Take the lock at `path`, creating folder and file; where another holds it, return who.

        wait: block until it is free. Raises OSError where the file cannot be made.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - the lock lives as long as the file is open
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            with file:
                return _holder(file)
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        return cls(file)

    def release(self) -> None:
        """Give the lock back; may be called more than once."""
        _held.discard(self)
        self._file.close()

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _drop_in_child() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_drop_in_child)


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        holder = json.loads(file.read())
    except ValueError:  # its holder has only just taken it
        return "another process"
    return f"process {holder['pid']} on {holder['host']}"


def acquire_advisory(connection: sa.Connection, study: str) -> None:
    """Take PostgreSQL's advisory lock for a study; the server frees it when the session ends.

    Raises StoreError, naming the holder, where another session has it.
    """
    number = int.from_bytes(hashlib.sha256(f"anytime-nas/{study}".encode()).digest()[:8], "big", signed=True)
    if connection.scalar(sa.select(sa.func.pg_try_advisory_lock(number))):
        return
    holder = connection.scalar(
        sa.text(
            "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND ((l.classid::bigint << 32) | l.objid::bigint) = :number"
        ),
        {"number": number},
    )
    raise held_elsewhere(study, holder or "another process")
