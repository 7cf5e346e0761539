"""Reading a results store: studies, candidates, points and fronts as DataFrames, networks as plain data."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from results import connection as connections
from results import migrations
from results.errors import StoreError
from results.front import Score
from results.lock import acquire_advisory, study_lock
from results.measures import BUILT_IN, Measure, check_cost
from results.schema import candidates, evaluations, point_measures, points, policies, studies

if TYPE_CHECKING:
    import pandas as pd

    from results.writer import StudyWriter

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_MIN_PREFIX = 4


def check_name(study: str) -> str:
    """Return a study's name that can also name a folder; raise StoreError on any other."""
    if not isinstance(study, str) or not _NAME.fullmatch(study):
        raise StoreError(
            "A study's name must be 1 to 100 letters, digits, dots, underscores and hyphens, beginning with a letter, "
            f"digit or underscore. Got {study!r}."
        )
    return study


class Store:
    """A results store, by its URL. Holds no connection, so that it may be pickled and shared between threads.

    Every reading call takes one snapshot. It works on a read-only file or folder and while studies are written.
    A key may be given by any unambiguous prefix of at least four characters.

    Raises StoreError throughout: where there is no store (none is created), it is not one of ours or of a newer
    version, a study is unknown (naming those there), or a key is unknown, ambiguous or too short.
    """

    def __init__(self, url: str | PathLike[str]) -> None:
        self.url = fspath(url)
        self._location = connections.locate(self.url)

    def __repr__(self) -> str:
        return f"results.open({self._location.label if self._location.file is None else self.url!r})"

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """A snapshot of the store, checked to be one."""
        file = self._location.file
        if file is not None and not file.is_file():
            raise StoreError(f"There must be a results store at {file}, and there is none. Check the path.")
        with connections.clear_errors(self._location), self._current() as connection:
            yield connection

    @contextmanager
    def _current(self) -> Iterator[sa.Connection]:
        """A connection to the store, after an upgrade if its schema is of an older version."""
        engine = connections.engine(self._location, writing=False)
        with engine.connect() as connection:
            current = migrations.stored_version(connection, self._location) == migrations.VERSION
            if current:
                yield connection
        if not current:
            migrations.upgrade_in_place(self._location)
            with engine.connect() as connection:
                yield connection

    def studies(self) -> pd.DataFrame:
        """One row per study: study, state, reason, candidates, trained, score, created_at, updated_at (UTC).

        A study whose process was killed stays in state 'running'; resuming it settles that.
        """
        from results import frames

        with self._reading() as connection:
            return frames.of_studies(connection)

    def candidates(self, study: str) -> pd.DataFrame:
        """One row per candidate, in the order of proposal.

        Columns: key, space, status, reason, generation, position (in the order of training), control, attempts, one
        `proxy_NAME` per proxy, fidelity (the largest it reached), anytime_accuracy (from the points at that fidelity
        with the study's score, mean over repeats; NaN where untrained or without score), macs_min, macs_max,
        params_max (of those points), seconds (of training, over all repeats), choices (dict).
        """
        from results import frames

        with self._reading() as connection:
            row = _study_row(connection, study)
            score = Score(**row.score) if row.score else None
            return frames.of_candidates(connection, row.id, score)

    def points(self, study: str | Sequence[str]) -> pd.DataFrame:
        """One row per candidate × fidelity × repeat × operating point, of one study or several.

        Columns: study, candidate (the proposal's key), realised_key, space, level, macs, params, latency_ms, accuracy
        and loss (validation), test_accuracy, test_loss, fine_accuracy, coarse_accuracy, test_fine_accuracy and
        test_coarse_accuracy (where labels have a hierarchy: accuracy is then their mean, in which labels that a point
        does not tell count as wrong), nonzero_macs (those of weights that are not zero), fidelity, repeat.
        """
        from results import frames

        with self._reading() as connection:
            return frames.of_points(connection, _numbers(connection, study)).drop(columns="candidate_id")

    def evaluations(self, study: str | Sequence[str]) -> pd.DataFrame:
        """One row per candidate × fidelity × repeat.

        Columns: study, candidate, realised_key, space, fidelity, repeat, epochs, images and seconds (cumulative within
        a repeat), weights (path below the study's files).
        """
        from results import frames

        with self._reading() as connection:
            return frames.of_evaluations(connection, _numbers(connection, study))

    def policies(self, study: str | Sequence[str]) -> pd.DataFrame:
        """One row per controller that throttles a trained candidate, of one study or several.

        Columns: study, candidate (the proposal's key), space, learner, sees (the input, or the answer at the smallest
        utilization), penalty, utilization (that was asked for; 1 where a controller is free to pick), macs (mean of an
        example, all that runs included) and accuracy on validation images, test_macs, test_accuracy, controller_macs.

        No controller counts for an anytime accuracy: on average it keeps a budget, not for every example.
        """
        from results import frames

        with self._reading() as connection:
            return frames.of_policies(connection, _numbers(connection, study))

    def front(
        self,
        study: str | Sequence[str],
        *,
        cost: str = "macs",
        max_macs: float | None = None,
        max_params: float | None = None,
        limits: Mapping[str, float] | None = None,
        fidelity: float | None = None,
    ) -> pd.DataFrame:
        """The operating points that no other beats in both `cost` and validation accuracy, cheapest first.

        cost: macs, params or latency_ms. fidelity: by default the largest stored of each study, so that points of
        trainings cut short are not compared with full ones. Values are means over repeats, where these are one network;
        repeats that chose operating points of their own stand apart, each under its realised_key.

        Columns: macs, params, accuracy, test_accuracy, candidate, level, study, space, latency_ms, accuracy_sd (over
        repeats; NaN for one), repeats, fidelity, loss, test_loss, realised_key, and the rest as in
        `points`. Empty where nothing was trained.
        """
        from results import frames

        bounds = dict(limits or {})
        for name, bound in (("macs", max_macs), ("params", max_params)):
            if bound is not None:
                bounds[name] = min(bound, bounds.get(name, bound))
        with self._reading() as connection:
            numbers = _numbers(connection, study)
            measures = (*BUILT_IN, *frames.own_measures_of(connection, numbers, compared={cost, *bounds}))
            check_cost(cost, measures)
            frames.check_limits(bounds, measures)
            points = frames.of_points(connection, numbers)
        return frames.front_of(points, cost=cost, limits=bounds, fidelity=fidelity, measures=measures)

    def holds(self, study: str) -> bool:
        """Whether the store is there and holds a study of that name.

        Raises StoreError where something else than a store, or than an empty file, is in its place.
        """
        check_name(study)
        if self._location.file is not None and not self._location.file.exists():
            return False
        with connections.clear_errors(self._location):
            with connections.engine(self._location, writing=False).connect() as connection:
                if not sa.inspect(connection).get_table_names():  # a process may have died before it created them
                    return False
            with self._current() as connection:
                return connection.scalar(sa.select(studies.c.id).where(studies.c.name == study)) is not None

    def settings(self, study: str) -> dict[str, Any]:
        """The settings that the study was started with."""
        with self._reading() as connection:
            settings: dict[str, Any] = _study_row(connection, study).settings
            return settings

    def score(self, study: str) -> Score | None:
        """The study's score, None before it is set."""
        with self._reading() as connection:
            score = _study_row(connection, study).score
        return Score(**score) if score else None

    def measures(self, study: str | Sequence[str]) -> tuple[Measure, ...]:
        """The measures of the operating points: the built-in ones, then the evaluator's own."""
        from results import frames

        with self._reading() as connection:
            return (*BUILT_IN, *frames.own_measures_of(connection, _numbers(connection, study)))

    def memo(self, study: str) -> dict[str, Any]:
        """What the driver keeps to resume, such as the seconds that it has run; empty before it keeps anything."""
        with self._reading() as connection:
            return _study_row(connection, study).memo or {}

    def key(self, prefix: str) -> str:
        """The one full key, of a proposal or of a realised architecture, that begins with `prefix`."""
        with self._reading() as connection:
            return _full_key(connection, prefix)

    def architecture(self, key: str) -> dict[str, Any]:
        """An architecture as JSON data, by the key of a proposal or of a realised architecture."""
        with self._reading() as connection:
            full = _full_key(connection, key)
            realised = evaluations.c.realised_key == full
            queries = (
                sa.select(candidates.c.architecture).where(
                    candidates.c.key == full, candidates.c.architecture.is_not(None)
                ),
                sa.select(evaluations.c.architecture).where(realised, evaluations.c.architecture.is_not(None)),
            )
            for query in queries:
                found: dict[str, Any] | None = connection.scalar(query.limit(1))
                if found is not None:
                    return found
        raise StoreError(f"Only candidates that were chosen for training keep their architecture. {full} was not.")

    def realised(self, key: str) -> str:
        """The key of the network that a candidate became in training, which chooses operating points or moves filters:
        that of its first repeat at the highest fidelity. The key itself, where it was not trained or stayed what it is.
        """
        row = evaluations.c
        with self._reading() as connection:
            full = _full_key(connection, key)
            query = sa.select(row.realised_key).join_from(evaluations, candidates).where(candidates.c.key == full)
            found: str | None = connection.scalar(query.order_by(*_best_first()).limit(1))
        return found or full

    def weights(self, key: str, repeat: int | None = None) -> Path:
        """File or folder of trained weights: those of the highest fidelity, of the latest study that holds some, of the
        first repeat that does where none is named.
        """
        study, weights = self._trained(key, repeat)
        path = self.files(study) / weights
        if not path.exists():
            raise StoreError(f"The weights of {key} must lie at {path}, and are gone. Restore them, or train it again.")
        return path

    def study_of(self, key: str, repeat: int | None = None) -> str:
        """The study that the weights of :meth:`weights` are of."""
        return self._trained(key, repeat)[0]

    def _trained(self, key: str, repeat: int | None) -> tuple[str, str]:
        row = evaluations.c
        with self._reading() as connection:
            full = _full_key(connection, key)
            query = (
                sa.select(studies.c.name, row.weights)
                .join_from(evaluations, candidates)
                .join(studies)
                .where((candidates.c.key == full) | (row.realised_key == full), row.weights.is_not(None))
                .where(sa.true() if repeat is None else row.repeat == repeat)
                .order_by(*_best_first())
            )
            found = connection.execute(query).first()
        if found is None:
            which = "" if repeat is None else f", {repeat=}"
            raise StoreError(f"Weights must have been kept, and there are none of {full}{which}. Train it again.")
        return found.name, found.weights

    def files(self, study: str) -> Path:
        """Folder of a study's weights, checkpoints and log, whether or not it exists yet."""
        return self._location.files / check_name(study)

    def writer(self, study: str, settings: Mapping[str, Any], measures: Iterable[Measure] = ()) -> StudyWriter:
        """Begin or continue a study; see `StudyWriter`. Creates store, study and its folder of files as needed.

        settings: plain JSON data. Those whose names begin with '_' inform only: the newest are kept.

        Raises SettingsDiffer where the study has other settings; StoreError where another process writes it, where
        the store's folder is missing, or where the store cannot be written.
        """
        from results.writer import StudyWriter

        return StudyWriter(self._location, check_name(study), settings, measures)

    def delete(self, study: str) -> None:
        """Delete a study's rows, then its files. Raises StoreError where it is being written or unknown."""
        with self._reading() as connection:
            number = _study_row(connection, study).id
        with (
            connections.clear_errors(self._location),
            study_lock(self._location, study),
            connections.engine(self._location, writing=True).begin() as connection,
        ):
            if self._location.file is None:
                acquire_advisory(connection, study)
            ids = sa.select(candidates.c.id).where(candidates.c.study_id == number)
            for table in (point_measures, points, evaluations, policies):
                connection.execute(sa.delete(table).where(table.c.candidate_id.in_(ids)))
            connection.execute(sa.delete(candidates).where(candidates.c.study_id == number))
            connection.execute(sa.delete(studies).where(studies.c.id == number))
        if self.files(study).exists():
            with connections.clear_errors(self._location):
                shutil.rmtree(self.files(study))


def open_store(url: str | PathLike[str]) -> Store:
    """Name a results store; nothing is read or created until it is used. The same as ``results.open``.

    Parameters
    ----------
    url : str or path
        Path of a file, ``sqlite:///nas.db`` or ``postgresql://user@host/database``.

    Raises
    ------
    StoreError
        If the URL is neither SQLite in a file nor PostgreSQL.

    Examples
    --------
    >>> open_store("sqlite:///nas.db")
    results.open('sqlite:///nas.db')
    """
    return Store(url)


def _study_row(connection: sa.Connection, study: str) -> sa.Row[Any]:
    found = connection.execute(sa.select(studies).where(studies.c.name == study)).first()
    if found is None:
        there = connection.scalars(sa.select(studies.c.name).order_by(studies.c.name)).all()
        listed = f"Studies there: {', '.join(there)}." if there else "There are no studies in it."
        raise StoreError(f"A study must be in the store. Got {study!r}. {listed}")
    return found


def _numbers(connection: sa.Connection, study: str | Sequence[str]) -> list[int]:
    names = [study] if isinstance(study, str) else list(study)
    return [_study_row(connection, name).id for name in names]


def _best_first() -> tuple[sa.ColumnElement[Any], ...]:
    """The order in which trainings of one key are preferred: fidelity, latest study, first repeat."""
    row = evaluations.c
    return row.fidelity.desc(), row.candidate_id.desc(), row.repeat


def _full_key(connection: sa.Connection, prefix: str) -> str:
    prefix = prefix.strip().lower()
    if len(prefix) < _MIN_PREFIX or not re.fullmatch("[0-9a-f]+", prefix):
        raise StoreError(f"A key is given by at least {_MIN_PREFIX} of its first hexadecimal digits. Got {prefix!r}.")
    found: set[str] = set()
    for column in (candidates.c.key, evaluations.c.realised_key):
        within = sa.and_(column >= prefix, column < prefix + "g")  # a range of hex strings, which an index answers
        found.update(connection.scalars(sa.select(column).where(within).distinct().limit(4)))
    if prefix in found:
        return prefix
    if not found:
        raise StoreError(f"A key must be of a candidate in the store. Got {prefix!r}, and none begins so.")
    if len(found) > 1:
        listed = ", ".join(sorted(found)[:4])
        raise StoreError(f"A key must be given by enough digits to be one. Got {prefix!r}, which begins {listed}, ….")
    return found.pop()
