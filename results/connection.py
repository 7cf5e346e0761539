"""Opening the database of a store for reading or writing, with clear errors."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from results.errors import NoAnswer, StoreError

BUSY_TIMEOUT_SECONDS = 60.0
_NETWORK = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 6,
    "tcp_user_timeout": 60_000,  # milliseconds
}
"""Options of libpq: a server that has gone without a word counts as lost after a minute or two."""


class Statements(Protocol):
    """Executes statements: a connection, or the lasting one of a writer."""

    @property
    def dialect(self) -> sa.Dialect:
        """The dialect of the database."""
        ...

    def execute(self, statement: Any, parameters: Any = None) -> sa.CursorResult[Any]:
        """Execute a statement."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """The place of a store.

    url: of a PostgreSQL database, otherwise None. file: absolute path of a SQLite database, otherwise None.
    files: folder of weights, checkpoints and logs, with one folder per study. label: for messages, without password.
    """

    url: sa.URL | None
    file: Path | None
    files: Path
    label: str


def locate(url: str) -> Location:
    """Parse a path or a database URL. Raises StoreError if no store can have it."""
    valid = "a file's path, sqlite:///FILE, or postgresql://USER@HOST/DATABASE"
    if "://" not in url:
        return _in_file(url, valid)
    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        raise StoreError(f"A store is named by {valid}. Got {url!r}.") from error
    label = parsed.render_as_string(hide_password=True)
    backend = parsed.get_backend_name()
    if backend == "sqlite" and not parsed.query:
        return _in_file(parsed.database or "", valid)
    if backend == "postgresql" and parsed.database:
        parsed = parsed.set(drivername="postgresql+psycopg")
        return Location(url=parsed, file=None, files=Path("nas.files").absolute(), label=label)
    raise StoreError(f"A store is named by {valid}. Got {label!r}.")


def check_folder(folder: Path) -> None:
    """Raise StoreError unless the folder of a store exists."""
    if not folder.is_dir():
        raise StoreError(f"A store needs an existing folder. Got {folder}: make it first.")


def _in_file(path: str, valid: str) -> Location:
    if path in ("", ":memory:") or path.startswith("file:"):
        raise StoreError(f"A store must outlive its process: name it by {valid}. Got {path!r}.")
    if "\0" in path:
        raise StoreError(f"A store is named by {valid}, without a NUL character. Got {path!r}.")
    name = os.path.expanduser(path)  # Path.expanduser raises for names such as "~$d.db"
    file = Path(os.path.realpath(name))  # links are followed, because the study's files are beside the database itself
    if file.is_dir():
        raise StoreError(f"A store is a file. Got the folder {file}: name a file in it.")
    return Location(url=None, file=file, files=file.with_name(file.name + ".files"), label=str(file))


# message of SQLite or the system → requirement and remedy
_EXPLANATIONS = (
    (
        "file is not a database|malformed",
        "must be a SQLite database. It is none, or damaged: name another file.",
    ),
    (
        "readonly database|[Rr]ead-only file|Permission denied",
        "must be writable, file and folder. Change its permissions, or copy it elsewhere.",
    ),
    ("database or disk is full|No space left|quota", "needs space: its disk is full. Free some and resume."),
    ("disk I/O error|Input/output error", "met an input/output error. Check the disk and its free space, and resume."),
    (
        "database is locked",
        f"stayed locked for {BUSY_TIMEOUT_SECONDS:.0f} s. Another process holds a long transaction: end it and resume.",
    ),
    ("unable to open database file|Not a directory", "cannot be opened: check the permissions of file and folder."),
)


def file_number(location: Location) -> tuple[int, int] | None:
    """What identifies the SQLite file behind the present path; None for other databases, and without a file."""
    try:
        status = location.file.stat() if location.file is not None else None
    except FileNotFoundError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)


def explain(location: Location, error: BaseException) -> StoreError:
    """An error of the database or the system as one clear line."""
    original = getattr(error, "orig", None) or error
    if isinstance(original, StoreError):  # a value that cannot be stored
        return original
    text = " ".join(str(original).split())
    for pattern, meaning in _EXPLANATIONS:
        if re.search(pattern, text):
            return StoreError(f"The store {location.label} {meaning} ({text})")
    kind = NoAnswer if location.file is None and isinstance(error, OperationalError) else StoreError
    return kind(f"The store {location.label} did not answer: {text}")


@contextmanager
def clear_errors(location: Location) -> Iterator[None]:
    """Turn errors of the database and of files into StoreError. Must not surround a caller's code."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise explain(location, error) from error


def _connect_file(file: Path, mode: str) -> sqlite3.Connection:
    """A connection without implicit transactions (`isolation_level=None`) that has read once."""
    connection = sqlite3.connect(
        f"file:{quote(str(file))}?{mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_for_reading(file: Path) -> sqlite3.Connection:
    """A connection for reading, also if file or folder are read-only, so that SQLite cannot create a log."""
    for mode in ("mode=rw", "mode=ro"):
        try:
            return _connect_file(file, mode)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise  # locked or damaged: other modes would hide it
            refusal = error
    log = Path(f"{file}-wal")
    if log.exists() and log.stat().st_size:
        raise StoreError(
            f"The store {file} has a log of changes, {log.name}, that can only be read in a writable folder. "
            "Copy both there."
        ) from refusal
    if not os.access(file, os.R_OK):
        raise refusal
    return _connect_file(file, "mode=ro&immutable=1")


def _connect_for_writing(file: Path) -> sqlite3.Connection:
    connection = _connect_file(file, "mode=rwc")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # under WAL a killed process loses nothing committed
    except BaseException:
        connection.close()
        raise
    return connection


def engine(location: Location, *, writing: bool) -> sa.Engine:
    """An engine without a pool: connections are few, and none is shared with a forked child.

    Raises StoreError if PostgreSQL's driver is missing.
    """
    if location.file is None:
        return _postgresql_engine(location, writing=writing)
    file, connect = location.file, _connect_for_writing if writing else _connect_for_reading
    created = sa.create_engine("sqlite://", creator=lambda: connect(file), poolclass=NullPool)
    begin = "BEGIN IMMEDIATE" if writing else "BEGIN"  # a reader's snapshot could not be upgraded to write

    @sa.event.listens_for(created, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return created


def _postgresql_engine(location: Location, *, writing: bool) -> sa.Engine:
    """A reader's transaction is one snapshot: by PostgreSQL's default, each of its queries would see another state."""
    assert location.url is not None
    name = f"process {os.getpid()} on {socket.gethostname()}"[:63]  # PostgreSQL keeps 63 bytes
    options = {"application_name": name} | {k: v for k, v in _NETWORK.items() if k not in location.url.query}
    try:
        return sa.create_engine(
            location.url,
            poolclass=NullPool,
            connect_args=options,
            isolation_level="READ COMMITTED" if writing else "REPEATABLE READ",
        )
    except ImportError as error:
        raise StoreError(
            f"The store {location.label} needs PostgreSQL's driver: pip install 'anytime-nas[postgresql]'."
        ) from error
