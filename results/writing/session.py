"""A study that is open for writing: its lock, its transactions and its row in the table of studies."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from results import connection as connections
from results import data_copies, migrations, schema
from results.errors import SettingsDiffer, StoreError
from results.files import study_folder
from results.files.places import Place
from results.files.study_log import appended_log
from results.front import Score
from results.lock import acquire_advisory, creation_lock, study_lock
from results.measures import Measure, own_measures
from results.schema import STATES, studies
from results.scores import rescore
from results.writing.lasting import LastingConnection, now
from results.writing.rows import check_one_of


class StudySession:
    """The lock, the connection and the transactions of the only writer of a study, and the study's own row.

    Attributes
    ----------
    study : str
        Name of the study.
    files : pathlib.Path or RemotePath
        The study's folder for weights, checkpoints and log, which exists.
    """

    def __init__(
        self,
        location: connections.Location,
        study: str,
        settings: Mapping[str, Any],
        measures: Iterable[Measure] = (),
        files: Place | None = None,
    ) -> None:
        self.study = study
        self._location = location
        self._mutex = threading.RLock()
        self._finished = False
        self._score: Score | None = None
        declared = own_measures(measures)
        with ExitStack() as opened, connections.clear_errors(location):
            connection = self._open(opened)
            changed = now()
            self._number, self._own, self.files = self._join(
                connection, changed, dict(settings), {m.name: m for m in declared}, files
            )
            self._connection = LastingConnection(connection, location, study, self._number, changed)
            opened.callback(self._connection.close)
            self._opened = opened.pop_all()

    def _open(self, opened: ExitStack) -> sa.Connection:
        """Lock the study, then connect to a store that has its tables."""
        location = self._location
        if location.file is None:
            connection = opened.enter_context(connections.engine(location, writing=True).connect())
            acquire_advisory(connection, self.study)
            connection.commit()
        else:
            connections.check_folder(location.file.parent)
            opened.enter_context(study_lock(location, self.study))
            with creation_lock(location):
                connection = opened.enter_context(connections.engine(location, writing=True).connect())
        with creation_lock(location), connection.begin():
            migrations.create_or_upgrade(connection, location)
        self._file = connections.file_number(location)
        return connection

    def _join(
        self,
        connection: sa.Connection,
        changed: str,
        settings: dict[str, Any],
        declared: dict[str, Measure],
        files: Place | None,
    ) -> tuple[int, dict[str, Measure], Place]:
        """Continue the study, or begin it; returns its number, the evaluator's own measures by name, and its folder.

        changed: the present time. files: as for :func:`results.files.study_folder.folder_of`.
        """
        settings, location = json.loads(schema.to_json(settings)), self._location
        with connection.begin():
            stored = connection.execute(sa.select(studies).where(studies.c.name == self.study)).first()
            folder = study_folder.checked_folder(connection, location, self.study, stored, files)
            values: dict[str, Any] = {"settings": settings, "state": "running", "updated_at": changed}
            values["folder"] = study_folder.stored_text(folder, location, self.study)
            if stored is None:
                identity = study_folder.new_identity()
                values |= {
                    "name": self.study,
                    "measures": _stored(declared),
                    "created_at": changed,
                    "identity": identity,
                }
                inserted = connection.execute(sa.insert(studies).values(values))
                assert inserted.inserted_primary_key is not None
                number, own = int(inserted.inserted_primary_key[0]), declared
            else:
                self._score = Score(**stored.score) if stored.score else None
                own = check_continues(location, self.study, stored, settings, declared)
                number = stored.id
                identity = stored.identity or study_folder.claim(folder, location, self.study, None)
                values |= {"measures": _stored(own), "identity": identity, "reason": None, "activity": None}
                connection.execute(sa.update(studies).where(studies.c.id == number).values(values))
        study_folder.claim(folder, location, self.study, identity)
        return number, own, folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if not self._finished:
                self._leave(error)
        finally:
            self.close()

    def _leave(self, error: BaseException | None) -> None:
        """Record the end of a study whose context is left without `finish`."""
        if error is None:
            return self.finish("interrupted")
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        state = "failed" if isinstance(error, Exception) else "interrupted"
        with suppress(StoreError):  # the first error is raised
            try:
                self._connection.abandon()  # a signal may have come between the begin of a transaction and its body
                self.finish(state, reason)
            except StoreError:  # whatever a signal has interrupted may leave a connection unusable
                self._finish_anew(state, reason)
        return None

    def _finish_anew(self, state: str, reason: str) -> None:
        """Record the end through a new connection to a file, whose lock this process holds. Raises StoreError."""
        with suppress(sa.exc.SQLAlchemyError):
            self._connection.close()
        if self._location.file is not None:
            with (
                connections.clear_errors(self._location),
                connections.engine(self._location, writing=True).begin() as connection,
            ):
                values = {"state": state, "reason": reason, "activity": None}
                connection.execute(sa.update(studies).where(studies.c.id == self._number).values(values))

    @cached_property
    def log(self) -> Path:
        """The local file to which the study's log is appended; see :func:`results.files.study_log.appended_log`."""
        return self._opened.enter_context(appended_log(self.files))

    def close(self) -> None:
        """Give up the connection and the lock; may be called more than once."""
        self._opened.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write everything inside or, after an exception, nothing. A nested transaction is undone by itself."""
        with self._mutex:
            with connections.clear_errors(self._location):
                self._check_present()
                self._connection.begin()
            try:
                yield
                with connections.clear_errors(self._location):
                    self._connection.commit()
            except BaseException:
                with suppress(sa.exc.SQLAlchemyError):  # a full disk has rolled it back already
                    self._connection.rollback()
                raise

    def _check_present(self) -> None:
        """Raise StoreError if another file, or none, is in the place of the store: what is written would be lost."""
        if self._file != connections.file_number(self._location):
            raise StoreError(
                f"The store {self._location.label} must stay in its place while a study runs. It was moved, deleted or "
                "replaced: put it back, then resume."
            )

    @contextmanager
    def _statements(self) -> Iterator[LastingConnection]:
        """A transaction for the statements of this module, with clear errors."""
        with self.transaction(), connections.clear_errors(self._location):
            yield self._connection

    @contextmanager
    def _reading(self) -> Iterator[LastingConnection]:
        """A transaction that only reads, or the current one."""
        with self._mutex, connections.clear_errors(self._location):
            if self._connection.in_transaction():
                yield self._connection
            else:
                self._connection.begin()
                try:
                    yield self._connection
                finally:
                    with suppress(sa.exc.SQLAlchemyError):  # a lost connection has nothing to undo
                        self._connection.rollback()

    def _update_study(self, **columns: Any) -> None:
        self._connection.execute(sa.update(studies).where(studies.c.id == self._number).values(columns))

    def set_score(self, score: Score) -> None:
        """Store the score that the study maximises; replaces an earlier one, also of all trainings.

        Parameters
        ----------
        score : Score
            It is computed from the points of every training.
        """
        with self._statements() as connection:
            if score != self._score:
                self._update_study(score=dataclasses.asdict(score))
                rescore(connection, self._number, score)
        self._score = score

    def set_memo(self, memo: Mapping[str, Any]) -> None:
        """Store the driver's state; replaces an earlier one.

        Parameters
        ----------
        memo : mapping
            Plain JSON data. Ids of candidates are only in the list ``finals.candidates``, because a merge changes them.
        """
        with self._statements():
            self._update_study(memo=dict(memo))

    def memo(self) -> dict[str, Any]:
        """The last state of :meth:`set_memo`.

        Returns
        -------
        dict of str to JSON data
            Empty in a new study.
        """
        with self._reading() as connection:
            return connection.scalar(sa.select(studies.c.memo).where(studies.c.id == self._number)) or {}

    def set_activity(self, activity: Mapping[str, Any]) -> None:
        """Store what the run does at present, with the time; replaces an earlier one.

        Parameters
        ----------
        activity : mapping
            Plain JSON data.
        """
        with self._statements():
            self._update_study(activity={"at": time.time(), **activity})

    def finish(self, state: str = "finished", reason: str | None = None) -> None:
        """Record the end of the study.

        Parameters
        ----------
        state : str
            One of STATES.
        reason : str, optional
            For people.
        """
        check_one_of("state", state, STATES)
        with self._statements():
            self._update_study(state=state, reason=reason, activity=None)
        self._finished = True


def check_continues(
    location: connections.Location,
    study: str,
    stored: sa.Row[Any],
    settings: Mapping[str, Any],
    declared: dict[str, Measure],
) -> dict[str, Measure]:
    """Check that a study may be continued with these settings and measures; returns all its own measures.

    stored: its row. Raises SettingsDiffer, and StoreError if a measure has changed its unit or direction.
    """
    old, new = (
        data_copies.with_present_copy(location, each)
        for each in (stored.settings, json.loads(schema.to_json(dict(settings))))
    )
    if differences := _differences(old, new):
        raise SettingsDiffer(study, differences)
    return _joined({data["name"]: Measure(**data) for data in stored.measures or ()}, declared)


def _joined(stored: dict[str, Measure], declared: dict[str, Measure]) -> dict[str, Measure]:
    """The measures of a study that is continued. Raises StoreError if one has changed its unit or direction."""
    for name in stored.keys() & declared.keys():
        old, new = stored[name], declared[name]
        if (old.unit, old.maximise) != (new.unit, new.maximise):
            raise StoreError(
                f"A measure keeps its unit and direction in a study. {name!r} has unit={old.unit!r} and "
                f"maximise={old.maximise!r} there. Got unit={new.unit!r} and maximise={new.maximise!r}: rename it."
            )
    return stored | declared


def _stored(own: Mapping[str, Measure]) -> list[dict[str, Any]] | None:
    """The evaluator's own measures as JSON data; None if it has none."""
    return [measure.to_json() for measure in own.values()] or None


def _differences(stored: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[object, object]]:
    """Settings that differ, except those whose names begin with _. A missing one, of another version, equals None."""
    names = [name for name in {**stored, **new} if not name.startswith("_") and stored.get(name) != new.get(name)]
    return {name: (stored.get(name, "not set"), new.get(name, "not set")) for name in names}
