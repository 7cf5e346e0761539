"""A writer's connection that outlives a restart of the database server: a transaction that it interrupts is repeated.

A transaction is repeated as a whole: the server has undone it, or it has committed it, which the time of the study's
last change shows. That time differs after every transaction, so it also shows whether another process has continued the
study in the meantime. SQLite has no server; there, nothing is repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError, ResourceClosedError, SQLAlchemyError

from results import connection as connections
from results import waiting
from results.connection import Location
from results.errors import StoreError
from results.lock import Session, acquire_advisory, end_session, session_of
from results.schema import studies

_log = logging.getLogger("results")
_Result = TypeVar("_Result")
_Step = Callable[[sa.Connection], Any]


def now(after: str | None = None) -> str:
    """The time in ISO 8601, later than another one."""
    time_ = datetime.now(UTC)
    if after is not None:
        time_ = max(time_, datetime.fromisoformat(after) + timedelta(microseconds=1))
    return time_.isoformat(timespec="microseconds")


def is_lost(error: DBAPIError) -> bool:
    """Whether an error means that the connection to the server is lost, and not that a statement is wrong."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    return error.connection_invalidated or state.startswith("08") or state in ("57P01", "57P02", "57P03")


class LastingConnection:
    """The connection of the only writer of a study.

    connection: holds the study's lock. number, changed: of the study's row; the time of its last change.

    Attributes
    ----------
    patience : float
        Seconds to wait for a server that does not answer.
    """

    def __init__(self, connection: sa.Connection, location: Location, study: str, number: int, changed: str) -> None:
        self.patience = waiting.PATIENCE_SECONDS
        self._location, self._study, self._number = location, study, number
        self._connection = connection
        self._session: Session | None = None
        if location.file is None:
            self._session = session_of(connection)
            connection.rollback()
        self._changed, self._changing = changed, ""
        self._steps: list[_Step] = []  # of the current transaction, to repeat it
        self._savepoints: list[int] = []  # their number at each begin
        self._lost: BaseException | None = None
        self._closed = False

    @property
    def dialect(self) -> sa.Dialect:
        """The dialect of the database."""
        return self._connection.dialect

    def in_transaction(self) -> bool:
        """Whether a transaction has begun."""
        return bool(self._savepoints) or self._connection.in_transaction()

    def begin(self) -> None:
        """Begin a transaction, or a nested one that can be undone by itself."""
        nested = bool(self._savepoints)
        self._savepoints.append(len(self._steps))
        try:
            if nested:
                self.execute(sa.text(f"SAVEPOINT nested_{len(self._savepoints)}"))
            else:
                self._lasting(lambda connection: connection.in_transaction() or connection.begin())
        except BaseException:
            self._savepoints.pop()
            raise

    def commit(self) -> None:
        """End a transaction; its statements have an effect when the outermost one ends."""
        if len(self._savepoints) > 1:
            self.execute(sa.text(f"RELEASE SAVEPOINT nested_{len(self._savepoints)}"))
            self._savepoints.pop()
            return
        changing = now(after=self._changed)
        self.execute(sa.update(studies).where(studies.c.id == self._number).values(updated_at=changing))
        self._changing = changing

        def end(connection: sa.Connection) -> None:
            if self._changed != changing:  # otherwise the lost connection has committed it
                connection.commit()

        self._lasting(end)
        self._changed = changing
        self._forget()

    def rollback(self) -> None:
        """Undo the innermost transaction."""
        kept = self._savepoints.pop() if self._savepoints else 0
        del self._steps[kept:]
        if not self._savepoints:
            self._forget()
            self._connection.rollback()
        elif self._lost is None:
            name = f"nested_{len(self._savepoints) + 1}"
            try:
                self._connection.execute(sa.text(f"ROLLBACK TO SAVEPOINT {name}"))
                self._connection.execute(sa.text(f"RELEASE SAVEPOINT {name}"))
            except DBAPIError as error:
                self._note_lost(error)

    def abandon(self) -> None:
        """Undo all transactions, and stop waiting for a server that does not answer.

        The driver is asked, too: a signal may come after a transaction has begun there and before SQLAlchemy knows it.
        """
        self.patience = 0.0
        del self._savepoints[:]
        with suppress(SQLAlchemyError):
            self.rollback()
        with suppress(SQLAlchemyError, self._connection.dialect.loaded_dbapi.Error):
            if not (self._connection.closed or self._connection.invalidated):
                driver = self._connection.connection.dbapi_connection
                assert driver is not None
                driver.rollback()

    def execute(self, statement: sa.Executable, parameters: Any = None) -> sa.CursorResult[Any]:
        """Execute a statement in the current transaction."""

        def step(connection: sa.Connection) -> sa.CursorResult[Any]:
            return connection.execute(statement, parameters)

        result = self._lasting(step)
        if not isinstance(statement, sa.Select):
            self.also(step)
        return result

    def scalar(self, statement: sa.Executable) -> Any:
        """The first column of the first row; None without rows."""
        return self.execute(statement).scalar()

    def scalars(self, statement: sa.Executable, parameters: Any = None) -> sa.ScalarResult[Any]:
        """The first column of all rows."""
        return self.execute(statement, parameters).scalars()

    def also(self, step: _Step) -> None:
        """Add something that belongs to the current transaction if it is repeated."""
        if self._session is not None:
            self._steps.append(step)

    def close(self) -> None:
        """Close the connection; the server frees the study's lock."""
        self._closed = True
        self._connection.close()

    def _forget(self) -> None:
        """Nothing of the last transaction is repeated any more."""
        self._steps, self._savepoints, self._changing = [], [], ""

    def _lasting(self, step: Callable[[sa.Connection], _Result]) -> _Result:
        """The result of a step. If the connection is lost, it is opened again and the transaction repeated before."""
        if self._closed:
            raise ResourceClosedError("This writer is closed.")
        while True:
            try:
                if self._lost is not None:
                    self._reopen(self._lost)
                    self._repeat()
                    self._lost = None
                return step(self._connection)
            except DBAPIError as error:
                self._note_lost(error)

    def _note_lost(self, error: DBAPIError) -> None:
        """Note that the connection is lost. Raises any other error."""
        if self._session is None or not is_lost(error):
            raise error
        self._lost = error

    def _repeat(self) -> None:
        """Repeat the current transaction, unless the lost connection has committed it."""
        if self._savepoints and self._changed != self._changing:
            self._connection.begin()
            for step in self._steps:
                step(self._connection)

    def _reopen(self, error: BaseException) -> None:
        """Connect again, with the study's lock. Raises StoreError if that is impossible for too long."""
        label = self._location.label
        text = " ".join(str(getattr(error, "orig", None) or error).split())
        if self.patience:
            _log.warning("The store %s does not answer. Waiting for it, %g s at most. (%s)", label, self.patience, text)
        with suppress(SQLAlchemyError):
            self._connection.invalidate()
            self._connection.close()
        for _ in waiting.pauses(self.patience):
            if self._reconnected():
                _log.warning("The store %s answers again.", label)
                return
        raise StoreError(
            f"The store {label} did not answer for {self.patience:g} s: {text}. It holds all results until then: "
            "resume when it answers."
        ) from error

    def _reconnected(self) -> bool:
        """Whether the server answers; then this is the connection of the only writer again.

        Raises StoreError if another process writes the study, or has changed it.
        """
        assert self._session is not None
        connection = None
        try:
            connection = connections.engine(self._location, writing=True).connect()
            end_session(connection, self._session)  # the server may not know yet that the connection is lost
            acquire_advisory(connection, self._study)
            session = session_of(connection)
            changed = connection.scalar(sa.select(studies.c.updated_at).where(studies.c.id == self._number))
            connection.rollback()
        except OperationalError:
            if connection is not None:
                connection.close()
            return False
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        self._connection, self._session = connection, session
        if changed not in (self._changed, self._changing):
            raise StoreError(
                f"A study has one writer at a time. Study {self._study!r} was changed by another process while the "
                f"store {self._location.label} did not answer, or the store has lost changes. Resume it from there."
            )
        self._changed = changed
        return True
