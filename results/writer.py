"""The writer of a study: a search records every step, so that it can be killed and resumed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlalchemy as sa

from results import connection as connections
from results import migrations, schema, study_folder
from results.errors import SettingsDiffer, StoreError
from results.front import Score
from results.lock import acquire_advisory, creation_lock, study_lock
from results.measures import Measure, own_measures
from results.rows import check_candidate, check_one_of, checked_candidate, checked_policies, split_points
from results.schema import STATES, STATUSES, candidates, evaluations, point_measures, points, policies, studies
from results.scores import rescore, score_of

BATCH = 1_000
"""Candidates that one statement writes or looks up."""


class StudyWriter:
    """The only writer of one study until it is closed; created by `Store.writer` and used as a context manager.

    Each method is one transaction, or part of the `transaction()` around it: after it has returned, its rows survive
    kill -9; before, there is no trace of it. A context that is left without `finish` leaves the study 'interrupted',
    after an exception 'failed'. Threads of one process may share a writer; a forked child may not use it.

    Every method raises StoreError if the store cannot be written, and for unknown names.

    Attributes
    ----------
    study : str
        Name of the study.
    files : pathlib.Path
        The study's folder for weights, checkpoints and log, which exists.
    """

    def __init__(
        self,
        location: connections.Location,
        study: str,
        settings: Mapping[str, Any],
        measures: Iterable[Measure] = (),
    ) -> None:
        self.study = study
        self._location = location
        self._mutex = threading.RLock()
        self._finished = False
        self._score: Score | None = None
        declared = own_measures(measures)
        with ExitStack() as opened, connections.clear_errors(location):
            self._connection = self._open(opened)
            self._number, self._own, self.files = self._join(dict(settings), {m.name: m for m in declared})
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

    def _join(self, settings: dict[str, Any], declared: dict[str, Measure]) -> tuple[int, dict[str, Measure], Path]:
        """Continue the study, or begin it; returns its number, the evaluator's own measures by name, and its folder."""
        settings, location = json.loads(schema.to_json(settings)), self._location
        now = _now()
        with self._connection.begin():
            stored = self._connection.execute(sa.select(studies).where(studies.c.name == self.study)).first()
            folder = study_folder.checked_folder(self._connection, location, self.study, stored)
            values: dict[str, Any] = {"settings": settings, "state": "running", "updated_at": now}
            values["folder"] = None if location.file else str(folder)
            if stored is None:
                identity = study_folder.new_identity()
                values |= {"name": self.study, "measures": _stored(declared), "created_at": now, "identity": identity}
                inserted = self._connection.execute(sa.insert(studies).values(values))
                assert inserted.inserted_primary_key is not None
                number, own = int(inserted.inserted_primary_key[0]), declared
            else:
                self._score = Score(**stored.score) if stored.score else None
                own = check_continues(self.study, stored, settings, declared)
                number, identity = stored.id, stored.identity or study_folder.new_identity()
                values |= {"measures": _stored(own), "identity": identity, "reason": None}
                self._connection.execute(sa.update(studies).where(studies.c.id == number).values(values))
        study_folder.claim(folder, self.study, identity, location.label)
        return number, own, folder

    def __enter__(self) -> StudyWriter:
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
        with suppress(StoreError):  # the first error is raised
            self.finish("failed" if isinstance(error, Exception) else "interrupted", reason)
        return None

    def close(self) -> None:
        """Give up the connection and the lock; may be called more than once."""
        self._opened.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write everything inside or, after an exception, nothing. A nested transaction is undone by itself."""
        with self._mutex:
            outermost = not self._connection.in_transaction()
            with connections.clear_errors(self._location):
                self._check_present()
                scope = self._connection.begin() if outermost else self._connection.begin_nested()
            try:
                yield
                with connections.clear_errors(self._location):
                    if outermost:
                        self._update_study(updated_at=_now())
                    scope.commit()
            except BaseException:
                with suppress(sa.exc.SQLAlchemyError):  # a full disk has rolled it back already
                    scope.rollback()
                raise

    def _check_present(self) -> None:
        """Raise StoreError if another file, or none, is in the place of the store: what is written would be lost."""
        if self._file != connections.file_number(self._location):
            raise StoreError(
                f"The store {self._location.label} must stay in its place while a study runs. It was moved, deleted or "
                "replaced: put it back, then resume."
            )

    @contextmanager
    def _statements(self) -> Iterator[sa.Connection]:
        """A transaction for the statements of this module, with clear errors."""
        with self.transaction(), connections.clear_errors(self._location):
            yield self._connection

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """A transaction that only reads, or the current one."""
        with self._mutex, connections.clear_errors(self._location):
            if self._connection.in_transaction():
                yield self._connection
            else:
                with self._connection.begin():
                    yield self._connection

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
            Plain JSON data.
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
            self._update_study(state=state, reason=reason)
        self._finished = True

    def add_candidates(self, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """Add candidates, in batches within one transaction.

        Parameters
        ----------
        rows : iterable of mapping
            Each needs space, generation and status (one of STATUSES), and may have key (hex), position, control,
            reason, choices, architecture and proxies (JSON data), attempts, traceback.

        Returns
        -------
        list of int
            Their ids, in order.
        """
        ids: list[int] = []
        left = iter(rows)
        with self._statements() as connection:
            while batch := [checked_candidate(row) for row in itertools.islice(left, BATCH)]:
                new = _new_ids(connection, len(batch))
                own = ({"id": number, "study_id": self._number} for number in new)
                connection.execute(sa.insert(candidates), [row | about for row, about in zip(batch, own)])
                ids += new
        return ids

    def update_candidates(self, changes: Mapping[int, Mapping[str, Any]]) -> None:
        """Set columns of candidates, such as their status.

        Parameters
        ----------
        changes : mapping of int to mapping
            Id → columns, named as in :meth:`add_candidates`; the same columns of all candidates.
        """
        for columns in changes.values():
            check_candidate(columns)
        with self._statements() as connection:
            self._check_mine(changes)
            names = list(next(iter(changes.values()), ()))
            if names:
                values = {name: sa.bindparam(f"new_{name}", type_=candidates.c[name].type) for name in names}
                change = sa.update(candidates).where(candidates.c.id == sa.bindparam("number")).values(values)
                rows = [
                    {"number": number} | {f"new_{name}": columns[name] for name in names}
                    for number, columns in changes.items()
                ]
                connection.execute(change, rows)

    def drop_generation(self, generation: int) -> None:
        """Delete the candidates of a generation of which none was trained.

        Parameters
        ----------
        generation : int
            Its number, from 0.
        """
        mine = (candidates.c.study_id == self._number, candidates.c.generation == generation)
        with self._statements() as connection:
            connection.execute(sa.delete(candidates).where(*mine))

    def record(
        self,
        candidate_id: int,
        *,
        fidelity: float,
        repeat: int,
        realised_key: str,
        points: Iterable[Mapping[str, Any]],
        epochs: float | None = None,
        images: int | None = None,
        seconds: float | None = None,
        architecture: Mapping[str, Any] | None = None,
        weights: str | None = None,
    ) -> None:
        """Record an evaluation; replaces an earlier one of the same candidate, fidelity and repeat.

        Results of the candidate's controllers are deleted, because its network has changed.

        Parameters
        ----------
        candidate_id : int
            Id from `add_candidates`.
        fidelity : float
            Passes over all training images.
        repeat : int
            Number of the training, from 0.
        realised_key : str
            Key of the architecture after training.
        points : iterable of mapping
            One per operating point: level, macs, params, accuracy and loss, further built-in measures, and measures
            that the evaluator declared; accuracy and loss may be NaN.
        epochs, images, seconds : optional
            Cumulative since the repeat began.
        architecture : mapping, optional
            JSON of the architecture after training; None if it equals the proposed one.
        weights : str, optional
            Path of the trained network below `files`.
        """
        place = {"candidate_id": int(candidate_id), "fidelity": float(fidelity), "repeat": int(repeat)}
        given = list(points)
        measured, own = split_points(given, place, self._own)
        evaluation = place | {
            "epochs": epochs,
            "images": images,
            "seconds": seconds,
            "realised_key": realised_key,
            "score": score_of(self._score, given),
            "architecture": architecture,
            "weights": weights,
        }
        with self._statements() as connection:
            self._check_mine([candidate_id])
            for table in (schema.point_measures, schema.points, evaluations):
                connection.execute(sa.delete(table).where(*(table.c[name] == place[name] for name in place)))
            connection.execute(sa.delete(policies).where(policies.c.candidate_id == int(candidate_id)))
            connection.execute(sa.insert(evaluations), [evaluation])
            if measured:
                connection.execute(sa.insert(schema.points), measured)
            if own:
                connection.execute(sa.insert(schema.point_measures), own)

    def record_policies(self, candidate: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Record results of a trained candidate's controllers.

        A row replaces an earlier one of equal learner, sees, penalty and utilization.

        Parameters
        ----------
        candidate : str
            Full key of the candidate.
        rows : iterable of mapping
            Each with learner, sees, penalty, utilization, controller_macs, macs and accuracy; test_macs and
            test_accuracy are optional.
        """
        query = (
            sa.select(evaluations.c.candidate_id)
            .join_from(evaluations, candidates)
            .where(candidates.c.study_id == self._number, evaluations.c.weights.is_not(None))
            .where(candidates.c.key == candidate)
            .order_by(evaluations.c.fidelity.desc(), evaluations.c.candidate_id.desc())
        )
        added = checked_policies(rows)
        with self._statements() as connection:
            number = connection.scalar(query)
            if number is None:
                raise StoreError(f"A policy must be of a candidate of {self.study!r} with weights. Got {candidate!r}.")
            for row in added:
                row["candidate_id"] = number
                place = (policies.c[column.name] == row[column.name] for column in policies.primary_key)
                connection.execute(sa.delete(policies).where(*place))
                connection.execute(sa.insert(policies).values(row))

    def rows(
        self,
        status: str | Iterable[str] | None = None,
        generation: int | None = None,
        *,
        ids: Iterable[int] | None = None,
        columns: Iterable[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Candidates in the order of proposal.

        Parameters
        ----------
        status : str or iterable of str, optional
            Only of these statuses.
        generation : int, optional
            Only of this generation.
        ids : iterable of int, optional
            Only with these ids.
        columns : iterable of str, optional
            Names of the columns to read; by default all.

        Returns
        -------
        list of dict
            One per candidate, column → value.
        """
        names = [c.name for c in candidates.c if c.name != "study_id"] if columns is None else list(columns)
        query = sa.select(*(candidates.c[name] for name in names)).where(candidates.c.study_id == self._number)
        if status is not None:
            statuses = [status] if isinstance(status, str) else list(status)
            for name in statuses:
                check_one_of("status", name, STATUSES)
            query = query.where(candidates.c.status.in_(statuses))
        if generation is not None:
            query = query.where(candidates.c.generation == generation)
        queries = [query.order_by(candidates.c.id)]
        if ids is not None:
            sought = sorted(ids)
            queries = [queries[0].where(candidates.c.id.in_(batch)) for batch in _batches(sought)]
        with self._reading() as connection:
            return [dict(row) for each in queries for row in connection.execute(each).mappings()]

    def scores(self) -> list[tuple[int, float, float]]:
        """Scores of the first repeats of all trainings.

        Returns
        -------
        list of (int, float, float)
            Id of the candidate, fidelity and score, in the order of ids and fidelities.
        """
        row = evaluations.c
        query = (
            sa.select(row.candidate_id, row.fidelity, row.score)
            .join_from(evaluations, candidates)
            .where(candidates.c.study_id == self._number, row.repeat == 0, row.score.is_not(None))
            .order_by(row.candidate_id, row.fidelity)
        )
        with self._reading() as connection:
            return [(number, fidelity, score) for number, fidelity, score in connection.execute(query)]

    def first_points(self, status: str) -> list[dict[str, Any]]:
        """Points of the first repeats of all candidates with a status.

        Parameters
        ----------
        status : str
            One of STATUSES.

        Returns
        -------
        list of dict
            candidate_id, fidelity, level, macs, accuracy, and seconds of the training; in the order of the first three.
        """
        check_one_of("status", status, STATUSES)
        row, training = points.c, evaluations.c
        same = sa.and_(*(training[name] == row[name] for name in ("candidate_id", "fidelity", "repeat")))
        query = (
            sa.select(row.candidate_id, row.fidelity, row.level, row.macs, row.accuracy, training.seconds)
            .join_from(points, evaluations, same)
            .join(candidates, candidates.c.id == row.candidate_id)
            .where(candidates.c.study_id == self._number, candidates.c.status == status, row.repeat == 0)
            .order_by(row.candidate_id, row.fidelity, row.level)
        )
        with self._reading() as connection:
            return [dict(each) for each in connection.execute(query).mappings()]

    def points_of(self, candidate_id: int) -> list[dict[str, Any]]:
        """All points of a candidate, as recorded.

        Parameters
        ----------
        candidate_id : int
            Id from :meth:`add_candidates`.

        Returns
        -------
        list of dict
            One per fidelity, repeat and level, in this order; unmeasured values are None.
        """
        query = (
            sa.select(points)
            .where(points.c.candidate_id == candidate_id)
            .order_by(points.c.fidelity, points.c.repeat, points.c.level)
        )
        own = sa.select(point_measures).where(point_measures.c.candidate_id == candidate_id)
        with self._reading() as connection:
            self._check_mine([candidate_id])
            rows = [dict(row) for row in connection.execute(query).mappings()]
            values = {
                (row.fidelity, row.repeat, row.level, row.name): row.value
                for row in (connection.execute(own) if self._own else ())
            }
        for row in rows:
            del row["candidate_id"]
            row |= {name: values.get((row["fidelity"], row["repeat"], row["level"], name)) for name in self._own}
        return rows

    def _check_mine(self, numbers: Iterable[int]) -> None:
        for batch in _batches(list(numbers)):
            query = sa.select(candidates.c.id).where(candidates.c.id.in_(batch), candidates.c.study_id == self._number)
            if missing := set(batch).difference(self._connection.scalars(query)):
                raise StoreError(
                    f"A candidate must be of study {self.study!r}. Got candidate_id={min(missing)}, which is not."
                )


def _batches(numbers: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(numbers), BATCH):
        yield numbers[start : start + BATCH]


def check_continues(
    study: str, stored: sa.Row[Any], settings: Mapping[str, Any], declared: dict[str, Measure]
) -> dict[str, Measure]:
    """Check that a study may be continued with these settings and measures; returns all its own measures.

    stored: its row. Raises SettingsDiffer, and StoreError if a measure has changed its unit or direction.
    """
    if differences := _differences(stored.settings, json.loads(schema.to_json(dict(settings)))):
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _differences(stored: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[object, object]]:
    """Settings that differ; names that begin with _ are not compared."""
    names = [name for name in {**stored, **new} if not name.startswith("_")]
    pairs = {name: (stored.get(name, "not set"), new.get(name, "not set")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _new_ids(connection: sa.Connection, count: int) -> list[int]:
    """Ids for new candidates, so that thousands are inserted by one statement and known without reading them back."""
    if connection.dialect.name == "postgresql":
        numbers = sa.text("SELECT nextval(pg_get_serial_sequence('candidates', 'id')) FROM generate_series(1, :count)")
        return list(connection.scalars(numbers, {"count": count}))
    last = connection.scalar(sa.select(sa.func.max(candidates.c.id))) or 0  # SQLite has one writer at a time: us
    return list(range(last + 1, last + 1 + count))
