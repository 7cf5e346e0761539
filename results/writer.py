"""Writing a study: the one process that records what a search does, so that it can be killed and resumed."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import sqlalchemy as sa

from results import connection as connections
from results import migrations, schema
from results.errors import SettingsDiffer, StoreError
from results.front import Score
from results.lock import acquire_advisory, creation_lock, study_lock
from results.measures import BUILT_IN, Measure, own_measures
from results.schema import STATES, STATUSES, candidates, evaluations, point_measures, points, policies, studies

_DEFAULTS: dict[str, Any] = {
    "key": None,
    "position": None,
    "control": False,
    "reason": None,
    "choices": None,
    "architecture": None,
    "proxies": None,
    "attempts": 0,
    "traceback": None,
}
_REQUIRED = frozenset({"space", "generation", "status"})
_CANDIDATE_COLUMNS = frozenset(_DEFAULTS) | _REQUIRED
_POINT_REQUIRED = ("level", *(m.name for m in BUILT_IN if m.required and not m.needs_test))
_POINT_OPTIONAL = tuple(m.name for m in BUILT_IN if not m.required or m.needs_test)
_POLICY_REQUIRED = ("learner", "sees", "penalty", "utilization", "controller_macs", "macs", "accuracy")
_POLICY_OPTIONAL = ("test_macs", "test_accuracy")


class StudyWriter:
    """The only writer of one study, until it is closed; made by `Store.writer`, used as a context manager.

    Each method is one transaction, or joins the `transaction()` it is called in: what has returned survives kill -9,
    what has not leaves no trace. Leaving the context without `finish` leaves the study 'interrupted', after an
    exception 'failed'. Threads of one process may share it; a forked child may not use it.

    Raises StoreError throughout where the store cannot be written, and for names it does not know.

    files: the study's folder for weights, checkpoints and log, which exists.
    """

    def __init__(
        self,
        location: connections.Location,
        study: str,
        settings: Mapping[str, Any],
        measures: Iterable[Measure] = (),
    ) -> None:
        self.study = study
        self.files = location.files / study
        self._location = location
        self._mutex = threading.RLock()
        self._finished = False
        declared = own_measures(measures)
        with ExitStack() as opened, connections.clear_errors(location):
            self._connection = self._open(opened)
            self._number, self._own = self._join(dict(settings), {measure.name: measure for measure in declared})
            self._opened = opened.pop_all()

    def _open(self, opened: ExitStack) -> sa.Connection:
        """Lock the study, then connect to a store that has its tables."""
        location = self._location
        if location.file is not None and not location.file.parent.is_dir():
            raise StoreError(
                f"A store is made in a folder that exists, and {location.file.parent} does not. Make it first."
            )
        if location.file is None:
            connection = opened.enter_context(connections.engine(location, writing=True).connect())
            acquire_advisory(connection, self.study)
            connection.commit()
        else:
            opened.enter_context(study_lock(location, self.study))
            with creation_lock(location):
                connection = opened.enter_context(connections.engine(location, writing=True).connect())
        self.files.mkdir(parents=True, exist_ok=True)
        with creation_lock(location), connection.begin():
            migrations.create_or_upgrade(connection, location)
        return connection

    def _join(self, settings: dict[str, Any], declared: dict[str, Measure]) -> tuple[int, dict[str, Measure]]:
        """Continue the study, or begin it; returns its number, and the evaluator's own measures by name."""
        settings = json.loads(schema.to_json(settings))
        now = _now()
        with self._connection.begin():
            found = self._connection.execute(sa.select(studies).where(studies.c.name == self.study)).first()
            if found is None:
                values = {"name": self.study, "settings": settings, "state": "running", "measures": _stored(declared)}
                made = self._connection.execute(sa.insert(studies).values(created_at=now, updated_at=now, **values))
                assert made.inserted_primary_key is not None
                return int(made.inserted_primary_key[0]), declared
            differences = _differences(found.settings, settings)
            if differences:
                raise SettingsDiffer(self.study, differences)
            own = {data["name"]: Measure(**data) for data in found.measures or ()} | declared
            values = {"settings": settings, "state": "running", "measures": _stored(own)}
            change = sa.update(studies).where(studies.c.id == found.id)
            self._connection.execute(change.values(reason=None, updated_at=now, **values))
            return int(found.id), own

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
        """Say how a study ended that did not say so itself."""
        if error is None:
            return self.finish("interrupted")
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        with suppress(StoreError):  # the first error is the one to tell
            self.finish("failed" if isinstance(error, Exception) else "interrupted", reason)
        return None

    def close(self) -> None:
        """Give up the connection and the lock; may be called more than once."""
        self._opened.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all that is written inside, or nothing where it raises. Inside another, it is undone on its own."""
        with self._mutex:
            outermost = not self._connection.in_transaction()
            with connections.clear_errors(self._location):
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

    @contextmanager
    def _statements(self) -> Iterator[sa.Connection]:
        """A transaction around our own statements alone, whose errors are made clear."""
        with self.transaction(), connections.clear_errors(self._location):
            yield self._connection

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """A transaction, or the one we are in, that writes nothing."""
        with self._mutex, connections.clear_errors(self._location):
            if self._connection.in_transaction():
                yield self._connection
            else:
                with self._connection.begin():
                    yield self._connection

    def _update_study(self, **columns: Any) -> None:
        self._connection.execute(sa.update(studies).where(studies.c.id == self._number).values(columns))

    def set_score(self, score: Score) -> None:
        """Name the score that the study maximises, in place of an earlier one."""
        with self._statements():
            self._update_study(score=dataclasses.asdict(score))

    def set_memo(self, memo: Mapping[str, Any]) -> None:
        """Keep plain data that the driver must remember to resume, in place of what it kept before."""
        with self._statements():
            self._update_study(memo=dict(memo))

    def memo(self) -> dict[str, Any]:
        """What `set_memo` kept last; empty in a new study."""
        with self._reading() as connection:
            return connection.scalar(sa.select(studies.c.memo).where(studies.c.id == self._number)) or {}

    def finish(self, state: str = "finished", reason: str | None = None) -> None:
        """Say how the study ended: one of STATES, with a reason for people."""
        _check_one_of("state", state, STATES)
        with self._statements():
            self._update_study(state=state, reason=reason)
        self._finished = True

    def add_candidates(self, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """Add candidates and return their ids, in order.

        Each needs space, generation and status (one of STATUSES), and may have key (hex), position, control, reason,
        choices, architecture and proxies (JSON data), attempts, traceback.
        """
        made = [{**_DEFAULTS, **row, "study_id": self._number} for row in rows]
        for row in made:
            _check_candidate(row, row.keys() - {"study_id"}, required=_REQUIRED)
        if not made:
            return []
        with self._statements() as connection:
            ids = _new_ids(connection, len(made))
            for number, row in zip(ids, made):
                row["id"] = number
            connection.execute(sa.insert(candidates), made)
        return ids

    def update_candidate(self, candidate_id: int, **columns: Any) -> None:
        """Set columns of one candidate, such as its status; named as in `add_candidates`."""
        _check_candidate(columns, columns.keys())
        with self._statements() as connection:
            self._check_mine(candidate_id)
            if columns:
                connection.execute(sa.update(candidates).where(candidates.c.id == candidate_id).values(columns))

    def drop_generation(self, generation: int) -> None:
        """Forget a generation whose proposals were being screened when the driver was stopped: none was trained."""
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
        """Record what an evaluation measured, in place of an earlier record of the same fidelity and repeat; what
        controllers of the candidate reached is forgotten, its network being another now.

        epochs, images, seconds: cumulative since the repeat began. architecture: None where the realised one is the
        proposal's. weights: path below `files`. points: each with level, macs, params, accuracy, loss, and where
        measured latency_ms, test_accuracy, test_loss, nonzero_macs, and of labels with a hierarchy fine_accuracy,
        coarse_accuracy, test_fine_accuracy, test_coarse_accuracy; an accuracy or loss may be NaN.
        """
        place = {"candidate_id": int(candidate_id), "fidelity": float(fidelity), "repeat": int(repeat)}
        measured, own = self._split([dict(point) for point in points], place)
        evaluation = place | {
            "epochs": epochs,
            "images": images,
            "seconds": seconds,
            "realised_key": realised_key,
            "architecture": architecture,
            "weights": weights,
        }
        with self._statements() as connection:
            self._check_mine(candidate_id)
            for table in (schema.point_measures, schema.points, evaluations):
                connection.execute(sa.delete(table).where(*(table.c[name] == place[name] for name in place)))
            connection.execute(sa.delete(policies).where(policies.c.candidate_id == int(candidate_id)))
            connection.execute(sa.insert(evaluations), [evaluation])
            if measured:
                connection.execute(sa.insert(schema.points), measured)
            if own:
                connection.execute(sa.insert(schema.point_measures), own)

    def record_policies(self, key: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Record what controllers of a trained candidate reach, in place of those of equal learner, sees,
        penalty and utilization.

        key: in full, of the proposal or of what training made of it. rows: each with learner, sees, penalty,
        utilization, controller_macs, macs, accuracy, and where measured test_macs, test_accuracy.
        """
        query = (
            sa.select(evaluations.c.candidate_id)
            .join_from(evaluations, candidates)
            .where(candidates.c.study_id == self._number, evaluations.c.weights.is_not(None))
            .where((candidates.c.key == key) | (evaluations.c.realised_key == key))
            .order_by(evaluations.c.fidelity.desc(), evaluations.c.candidate_id.desc())
        )
        given = [dict.fromkeys(_POLICY_OPTIONAL) | dict(row) for row in rows]
        for row in given:
            if row.keys() != {*_POLICY_REQUIRED, *_POLICY_OPTIONAL}:
                raise StoreError(
                    f"A policy has {', '.join(_POLICY_REQUIRED)}, and may have {', '.join(_POLICY_OPTIONAL)}. "
                    f"Got {sorted(row)}."
                )
        with self._statements() as connection:
            number = connection.scalar(query)
            if number is None:
                raise StoreError(f"A policy must be of a candidate of {self.study!r} with weights. Got {key!r}.")
            for row in given:
                row["candidate_id"] = number
                place = (policies.c[column.name] == row[column.name] for column in policies.primary_key)
                connection.execute(sa.delete(policies).where(*place))
                connection.execute(sa.insert(policies).values(row))

    def rows(self, status: str | Iterable[str] | None = None, generation: int | None = None) -> list[dict[str, Any]]:
        """Candidates as dicts with all columns and `id`, in the order of proposal, of those statuses, if given."""
        query = sa.select(candidates).where(candidates.c.study_id == self._number).order_by(candidates.c.id)
        if status is not None:
            wanted = [status] if isinstance(status, str) else list(status)
            for name in wanted:
                _check_one_of("status", name, STATUSES)
            query = query.where(candidates.c.status.in_(wanted))
        if generation is not None:
            query = query.where(candidates.c.generation == generation)
        with self._reading() as connection:
            found = [dict(row) for row in connection.execute(query).mappings()]
        for row in found:
            del row["study_id"]
        return found

    def points_of(self, candidate_id: int) -> list[dict[str, Any]]:
        """All points of a candidate, as recorded, by fidelity, repeat and level; unmeasured values are None."""
        query = (
            sa.select(points)
            .where(points.c.candidate_id == candidate_id)
            .order_by(points.c.fidelity, points.c.repeat, points.c.level)
        )
        own = sa.select(point_measures).where(point_measures.c.candidate_id == candidate_id)
        with self._reading() as connection:
            self._check_mine(candidate_id)
            rows = [dict(row) for row in connection.execute(query).mappings()]
            values = {
                (row.fidelity, row.repeat, row.level, row.name): row.value
                for row in (connection.execute(own) if self._own else ())
            }
        for row in rows:
            del row["candidate_id"]
            row |= {name: values.get((row["fidelity"], row["repeat"], row["level"], name)) for name in self._own}
        return rows

    def seconds_of(self, candidate_id: int, fidelity: float, repeat: int = 0) -> float:
        """Seconds of training and evaluation that a recorded evaluation took, cumulative; NaN where unknown."""
        query = sa.select(evaluations.c.seconds).where(
            evaluations.c.candidate_id == candidate_id,
            evaluations.c.fidelity == fidelity,
            evaluations.c.repeat == repeat,
        )
        with self._reading() as connection:
            seconds = connection.scalar(query)
        return float("nan") if seconds is None else seconds

    def generations(self) -> int:
        """How many generations have candidates: one more than the highest number."""
        query = sa.select(sa.func.max(candidates.c.generation)).where(candidates.c.study_id == self._number)
        with self._reading() as connection:
            last = connection.scalar(query)
        return 0 if last is None else last + 1

    def _split(
        self, rows: list[dict[str, Any]], place: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Points as rows of the tables points and point_measures.

        Raises StoreError for a name that is unknown or missing.
        """
        optional = (*_POINT_OPTIONAL, *self._own)
        valid, required = {*_POINT_REQUIRED, *optional}, {*_POINT_REQUIRED}
        measured: list[dict[str, Any]] = []
        own: list[dict[str, Any]] = []
        for row in rows:
            if not required <= row.keys() <= valid:
                raise StoreError(
                    f"A point has {', '.join(_POINT_REQUIRED)}, and may have {', '.join(optional)}. Got {sorted(row)}."
                )
            key = place | {"level": row["level"]}
            own += [key | {"name": name, "value": row.pop(name)} for name in self._own if name in row]
            measured.append(dict.fromkeys(_POINT_OPTIONAL) | row | place)
        return measured, own

    def _check_mine(self, candidate_id: int) -> None:
        query = sa.select(candidates.c.id).where(candidates.c.id == candidate_id, candidates.c.study_id == self._number)
        if self._connection.scalar(query) is None:
            raise StoreError(f"A candidate must be of study {self.study!r}. Got {candidate_id=}, which is not.")


def _stored(own: Mapping[str, Measure]) -> list[dict[str, Any]] | None:
    """The evaluator's own measures as JSON data; None if it has none."""
    return [measure.to_json() for measure in own.values()] or None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _differences(stored: dict[str, Any], given: dict[str, Any]) -> dict[str, tuple[object, object]]:
    """Settings that differ, apart from those that only inform."""
    names = [name for name in {**stored, **given} if not name.startswith("_")]
    pairs = {name: (stored.get(name, "not set"), given.get(name, "not set")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _check_one_of(what: str, value: str, valid: Iterable[str]) -> None:
    if value not in valid:
        raise StoreError(f"A {what} must be one of {', '.join(valid)}. Got {value!r}.")


def _check_candidate(row: Mapping[str, Any], names: Iterable[str], required: frozenset[str] = frozenset()) -> None:
    unknown, missing = set(names) - _CANDIDATE_COLUMNS, required - set(names)
    if unknown or missing:
        raise StoreError(
            f"A candidate has the columns {', '.join(sorted(_CANDIDATE_COLUMNS))}. "
            f"Got unknown {sorted(unknown)}, missing {sorted(missing)}."
        )
    if "status" in row:
        _check_one_of("status", row["status"], STATUSES)


def _new_ids(connection: sa.Connection, count: int) -> list[int]:
    """Ids for new candidates, so that thousands are inserted by one statement and known without reading them back."""
    if connection.dialect.name == "postgresql":
        numbers = sa.text("SELECT nextval(pg_get_serial_sequence('candidates', 'id')) FROM generate_series(1, :count)")
        return list(connection.scalars(numbers, {"count": count}))
    last = connection.scalar(sa.select(sa.func.max(candidates.c.id))) or 0  # SQLite has one writer at a time: us
    return list(range(last + 1, last + 1 + count))
