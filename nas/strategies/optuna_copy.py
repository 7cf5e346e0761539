"""Copies of a study in Optuna, for optuna-dashboard and for Optuna's own tools.

Two Optuna studies: NAME has a trial for every trained candidate, whose value is its anytime accuracy; NAME-points has a
trial for every operating point, with MACs and accuracy as objectives, because Optuna draws Pareto fronts only of
studies of two objectives. A candidate is copied when its training has ended; a finalist has another trial for its full
training.
"""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nas.errors import UserError
from nas.spaces.choices import Primitive
from nas.strategies.optuna_samplers import quiet
from results.preflight import check_writable

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    from optuna.storages import BaseStorage, RDBStorage
    from optuna.trial import FrozenTrial

    from results.store import Store

Direction = Literal["minimize", "maximize"]
OWNER = "anytime-nas"
"""User attribute of an Optuna study: the identity of the study that it copies; empty before that is known."""
POINTS = "-points"
"""End of the name of the Optuna study of operating points."""
PAUSE = 10.0
"""Least seconds between two copies while a study runs."""
_TRIAL_ATTRIBUTES = {"id", "generation"}
"""User attributes of all copied trials."""
_ENDED = ("stopped", "finished", "failed")


class OptunaCopy:
    """Copies a running study to an Optuna storage.

    Parameters
    ----------
    store : Store
        The results store.
    study : str
        Name of the study.
    url : str
        An Optuna storage, such as "sqlite:///dashboard.db". Not the store of the study itself: table names may clash.
    """

    def __init__(self, store: Store, study: str, url: str) -> None:
        self.store, self.study, self.url = store, study, url
        self._next = 0.0

    def update(self, *, at_once: bool = True, ended: bool = False) -> int:
        """Copy new trials. Trials that are there already are skipped, also those of an earlier run.

        Parameters
        ----------
        at_once : bool
            Otherwise nothing is copied within PAUSE seconds after the last copy.
        ended : bool
            Whether full training has ended.

        Returns
        -------
        int
            The number of new trials.
        """
        import optuna

        if not at_once and time.monotonic() < self._next:
            return 0
        with _storage(optuna.storages.RDBStorage(self.url)) as storage:
            added = copy_study(self.store, self.study, storage, ended=ended)
        self._next = time.monotonic() + PAUSE
        return added


def optuna_studies(store: Store, study: str) -> tuple[optuna.Study, optuna.Study]:
    """A study as Optuna studies in memory: of candidates, and of operating points; see :meth:`nas.Study.optuna`."""
    import optuna

    storage = optuna.storages.InMemoryStorage()
    copy_study(store, study, storage, ended=True)
    with quiet():
        of_candidates, of_points = (optuna.load_study(study_name=name, storage=storage) for name in _studies(study))
    return of_candidates, of_points


def copy_study(store: Store, study: str, storage: BaseStorage, *, ended: bool) -> int:
    """Copy the trained candidates of a study to an Optuna storage. Returns the number of new trials.

    ended: whether full training has ended; before, candidates are copied as partial training left them.
    """
    with quiet():
        copies = _opened(storage, study, store.identity(study))
        present = [{trial.user_attrs.get("id") for trial in copy.get_trials(deepcopy=False)} for copy in copies]
        trainings = {name.rpartition("/")[0] for name in present[0] if isinstance(name, str)}
        added = 0
        for training in _trainings(store, study):
            if training.id in present[0] or (not ended and training.name in trainings):
                continue
            for point, trial in enumerate(training.points()):
                if f"{training.id}/{point}" not in present[1]:
                    copies[1].add_trial(trial)
            copies[0].add_trial(training.trial())  # last: an interrupted copy of its points is completed
            added += 1
        return added


def _opened(storage: BaseStorage, study: str, identity: str) -> list[optuna.Study]:
    """The Optuna studies of a study; they are created if they do not exist."""
    import optuna

    copies = [
        optuna.create_study(study_name=name, storage=storage, directions=directions, load_if_exists=True)
        for name, directions in _studies(study).items()
    ]
    for copy in copies:
        if copy.user_attrs.get(OWNER) != identity:
            copy.set_user_attr(OWNER, identity)
    if not copies[1].metric_names:
        copies[1].set_metric_names(["MACs", "accuracy"])
    return copies


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """A training of a candidate that has ended.

    row: of the candidate. repeat: 0 also for a candidate that failed. evaluations: by fidelity, empty if it failed.
    measured: its operating points at the largest fidelity. domains: options of every choice.
    """

    row: Mapping[str, Any]
    repeat: int
    evaluations: pd.DataFrame
    measured: pd.DataFrame
    domains: Mapping[str, Sequence[Primitive]]

    @property
    def name(self) -> str:
        """Names the candidate and the repeat."""
        return f"{self.row['key']}/{self.repeat}"

    @property
    def id(self) -> str:
        """Names the training with its length, as a user attribute of its trial."""
        return f"{self.name}/{self._last('fidelity'):g}"

    def _last(self, column: str) -> Any:
        return self.evaluations[column].iloc[-1] if len(self.evaluations) else math.nan

    def trial(self) -> FrozenTrial:
        """The trial of the candidate: its value is the last anytime accuracy."""
        from optuna.trial import TrialState

        known = self.evaluations.dropna(subset=["score"])
        dated = known.dropna(subset=["epochs"])
        state = {"stopped": TrialState.PRUNED, "finished": TrialState.COMPLETE}.get(self.row["status"], TrialState.FAIL)
        if not len(known):
            state = TrialState.FAIL
        attributes = self._attributes() | {"id": self.id, "reason": self.row["reason"]}
        if len(self.measured):
            smallest, largest = self.measured.iloc[0], self.measured.iloc[-1]
            attributes |= {"macs_min": int(smallest.macs), "macs_max": int(largest.macs), "params": int(largest.params)}
            attributes |= {"accuracy": _number(largest.accuracy), "test_accuracy": _number(largest.test_accuracy)}
        return self._frozen(
            state=state,
            value=None if state is TrialState.FAIL else float(known["score"].iloc[-1]),
            intermediate_values={round(row.epochs): float(row.score) for row in dated.itertuples()},
            user_attrs=attributes,
        )

    def points(self) -> Iterator[FrozenTrial]:
        """A trial for every operating point with an accuracy."""
        for place, point in enumerate(self.measured.dropna(subset=["accuracy"]).itertuples()):
            attributes = {"id": f"{self.id}/{place}", "level": int(point.level), "params": int(point.params)}
            further = {"test_accuracy": _number(point.test_accuracy), "latency_ms": _number(point.latency_ms)}
            yield self._frozen(
                values=[float(point.macs), float(point.accuracy)], user_attrs=self._attributes() | attributes | further
            )

    def _attributes(self) -> dict[str, Any]:
        row = self.row
        return {
            "key": row["key"],
            "space": row["space"],
            "reference": row["reference"] if isinstance(row["reference"], str) else None,
            "generation": int(row["generation"]),
            "fidelity": _number(self._last("fidelity")),
            "repeat": self.repeat,
        }

    def _frozen(self, **columns: Any) -> FrozenTrial:
        """A trial in Optuna's form, with the times of the training."""
        from optuna.distributions import CategoricalDistribution
        from optuna.trial import create_trial

        choices = json.loads(self.row["choices"])
        params: dict[str, Primitive] = {}
        distributions: dict[str, Any] = {}
        for name, option in choices.items():
            options = tuple(self.domains[name])
            ambiguous = len(set(options)) < len(options)
            params[name] = repr(option) if ambiguous else option
            distributions[name] = CategoricalDistribution(tuple(map(repr, options)) if ambiguous else options)
        trial = create_trial(params=params, distributions=distributions, **columns)
        ends = self.evaluations["evaluated_at"].dropna()
        if len(ends):
            first = self.evaluations.loc[ends.index[0], "seconds"]  # later rungs wait for other candidates
            started = ends.iloc[0].to_pydatetime() - timedelta(seconds=0.0 if math.isnan(first) else float(first))
            trial.datetime_start = started.astimezone().replace(tzinfo=None)  # Optuna: local times
            trial.datetime_complete = ends.iloc[-1].to_pydatetime().astimezone().replace(tzinfo=None)
        return trial


def _trainings(store: Store, study: str) -> Iterator[_Training]:
    """The trainings that have ended, in the order of their ends."""
    columns = ["key", "status", "reason", "space", "generation", "reference", "choices"]
    rows = store.candidates(study, columns=columns)
    rows = rows[rows["status"].isin(_ENDED)].drop_duplicates("key")
    evaluations = store.evaluations(study).sort_values("fidelity", kind="stable")
    points, domains = store.points(study), store.memo(study).get("domains", {})
    trained: dict[str, dict[int, pd.DataFrame]] = {}
    for (key, repeat), own in evaluations.groupby(["candidate", "repeat"], sort=False):
        trained.setdefault(key, {})[int(repeat)] = own
    by_training = dict(list(points.groupby(["candidate", "repeat", "fidelity"], sort=False)))
    found = []
    for row in rows.to_dict("records"):
        without = {0: evaluations.head(0)} if row["status"] == "failed" else {}
        for repeat, own in trained.get(row["key"], without).items():
            last = own["fidelity"].max() if len(own) else math.nan
            measured = by_training.get((row["key"], repeat, last), points.head(0)).sort_values("level")
            found.append(_Training(row=row, repeat=repeat, evaluations=own, measured=measured, domains=domains))
    return iter(sorted(found, key=_end))


def _end(training: _Training) -> tuple[bool, Any]:
    ends = training.evaluations["evaluated_at"].dropna()
    return (True, ends.iloc[-1]) if len(ends) else (False, 0)


def _number(value: Any) -> float | None:
    """A number for an attribute; None if it is missing."""
    return None if value is None or math.isnan(value) else float(value)


def check_target(url: str, name: str, identity: str | None) -> None:
    """Check that Optuna studies may receive the copy of a study. Nothing is created or changed.

    Parameters
    ----------
    url : str
        An Optuna storage.
    name : str
        The name of the study that is copied.
    identity : str or None
        Of the study that is copied; None if it does not exist yet.

    Raises
    ------
    UserError
        If a study of one of the names exists that is no copy of this study. A copy of an older version has no identity
        and is accepted.
    OSError, ValueError, sqlalchemy.exc.SQLAlchemyError
        If the database cannot be opened or written, or has tables of another program.
    """
    import optuna
    import sqlalchemy as sa

    parsed = sa.make_url(url)
    shown = parsed.render_as_string(hide_password=True)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise UserError(f"--optuna must be a database that outlives the search. Got {shown!r}: name a file.")
        file = Path(parsed.database).absolute()
        check_writable(file)
        if not file.exists():
            return
    engine = sa.create_engine(url)
    try:
        tables = set(sa.inspect(engine).get_table_names())
    finally:
        engine.dispose()
    if "studies" not in tables:
        return
    if "study_directions" not in tables:
        raise ValueError("the database has tables of another program")
    with quiet(), _storage(optuna.storages.RDBStorage(url, skip_table_creation=True)) as storage:
        for each, directions in _studies(name).items():
            if reason := _foreign(storage, each, directions, identity):
                raise UserError(
                    f"--optuna must not have a study {each!r} of other origin. Got {shown!r}: {reason}. Name another "
                    f"database, or delete that study: optuna delete-study --study-name {shlex.quote(each)} "
                    f"--storage {shlex.quote(shown)}"
                )


def _studies(name: str) -> dict[str, tuple[Direction, ...]]:
    """The Optuna studies of a study, with their directions: of candidates, and of operating points."""
    return {name: ("maximize",), f"{name}{POINTS}": ("minimize", "maximize")}


def _foreign(storage: RDBStorage, name: str, directions: Sequence[str], identity: str | None) -> str:
    """Why an Optuna study is no copy of a study; empty if it is one, or if there is no study of this name."""
    try:
        number = storage.get_study_id_from_name(name)
    except KeyError:
        return ""
    if [each.name.lower() for each in storage.get_study_directions(number)] != list(directions):
        return "it does not " + " and ".join(f"{each.replace('z', 's')} one value" for each in directions)
    owner = storage.get_study_user_attrs(number).get(OWNER)
    if owner is None and not _copied(storage.get_all_trials(number, deepcopy=False)):
        return "another program made it"
    return "it is the copy of another study" if owner and owner != identity else ""


def _copied(trials: Sequence[FrozenTrial]) -> bool:
    """Whether all trials are copies; older versions left no mark in the study itself."""
    return bool(trials) and all(trial.user_attrs.keys() >= _TRIAL_ATTRIBUTES for trial in trials)


@contextmanager
def _storage(storage: RDBStorage) -> Iterator[RDBStorage]:
    """Close the connections of a storage at the end."""
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()
