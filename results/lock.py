"""One writer per study: locks that the operating system or the database frees when the holder dies, even by kill -9."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from filelock import FileLock, Timeout

from results.connection import Location
from results.errors import StoreError


@contextmanager
def study_lock(location: Location, study: str) -> Iterator[None]:
    """Hold the lock file of a study in a SQLite store; does nothing for PostgreSQL, see `acquire_advisory`.

    Raises StoreError with the process that holds it.
    """
    if location.file is None:
        yield
        return
    path = location.files / ".locks" / f"{study}.lock"
    lock = file_lock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise _held_elsewhere(study, _holder(path)) from error
    try:
        path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
        yield
    finally:
        lock.release()


@contextmanager
def creation_lock(location: Location) -> Iterator[None]:
    """Let one process at a time make the tables of a SQLite store: SQLite does not queue the change to WAL."""
    if location.file is None:
        yield
        return
    with file_lock(location.files / ".locks" / ".create.lock"):
        yield


def check_free(connection: sa.Connection, location: Location, study: str) -> None:
    """Raise StoreError if another process writes a study. Leaves nothing behind."""
    if location.file is None:
        acquire_advisory(connection, study)  # until the connection is closed
    elif (path := location.files / ".locks" / f"{study}.lock").exists():
        lock = file_lock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise _held_elsewhere(study, _holder(path)) from error
        lock.release()


def acquire_advisory(connection: sa.Connection, study: str) -> None:
    """Take PostgreSQL's advisory lock of a study; the server frees it when the session ends.

    Raises StoreError with the process that holds it.
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
    raise _held_elsewhere(study, holder or "another process")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session of PostgreSQL. pid, start: of its process on the server."""

    pid: int
    start: datetime


def session_of(connection: sa.Connection) -> Session:
    """The session of a connection to PostgreSQL."""
    query = sa.text("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
    row = connection.execute(query).one()
    return Session(pid=row.pid, start=row.backend_start)


def end_session(connection: sa.Connection, session: Session) -> None:
    """End an earlier session of this process, if it still exists, with its locks and its transaction."""
    query = sa.text(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid = :pid AND backend_start = :start"
    )
    connection.execute(query, {"pid": session.pid, "start": session.start})


def file_lock(path: Path) -> FileLock:
    """An exclusive lock for all threads of this process; folder and file are created, and the file stays.

    A forked child (a data loader) closes its copy at birth, so that it cannot keep the lock of a dead parent.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, thread_local=False, fallback_to_soft=False)


def _held_elsewhere(study: str, holder: str) -> StoreError:
    return StoreError(
        f"A study has one writer at a time. Study {study!r} is being written by {holder}. "
        "Wait for it, stop it, or use another study name."
    )


def _holder(path: Path) -> str:
    """The process that wrote its name into a lock file."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # it has just taken the lock
        return "another process"
    return f"process {holder['pid']} on {holder['host']}"
