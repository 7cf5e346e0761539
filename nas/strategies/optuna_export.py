"""Copies of trained candidates in an Optuna study, for optuna-dashboard."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import UserError
from nas.spaces.choices import Primitive
from nas.strategies.contract import Trial, trial_order
from nas.strategies.optuna_samplers import quiet
from results.preflight import check_writable

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial


OWNER = "anytime-nas"
"""User attribute of an Optuna study: the identity of the study that it copies; empty before that is known."""
_TRIAL_ATTRIBUTES = {"id", "generation"}
"""User attributes of a copied trial."""


def check_target(url: str, name: str, identity: str | None) -> None:
    """Check that an Optuna study may receive the copy of a study. Nothing is created or changed.

    Parameters
    ----------
    url : str
        An Optuna storage.
    name : str
        The name of the Optuna study.
    identity : str or None
        Of the study that is copied; None if it does not exist yet.

    Raises
    ------
    UserError
        If a study of this name exists that is no copy of this study. A copy of an older version has no identity and is
        accepted.
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
        try:
            number = storage.get_study_id_from_name(name)
        except KeyError:
            return
        directions = storage.get_study_directions(number)
        owner = storage.get_study_user_attrs(number).get(OWNER)
        if owner is None and _copied(storage.get_all_trials(number, deepcopy=False)):
            owner = ""
    if directions != [optuna.study.StudyDirection.MAXIMIZE]:
        reason = "it does not maximise one value"
    elif owner is None:
        reason = "another program made it"
    elif owner and owner != identity:
        reason = "it is the copy of another study"
    else:
        return
    raise UserError(
        f"--optuna must not have a study {name!r} of other origin. Got {shown!r}: {reason}. Name another database, or "
        f"delete that study: optuna delete-study --study-name {shlex.quote(name)} --storage {shlex.quote(shown)}"
    )


def _copied(trials: Sequence[FrozenTrial]) -> bool:
    """Whether all trials were copied by :func:`export`, whose older versions left no mark in the study."""
    return bool(trials) and all(trial.user_attrs.keys() >= _TRIAL_ATTRIBUTES for trial in trials)


def export(trials: Sequence[Trial], url: str, name: str, identity: str = "") -> int:
    """Copy trials to a stored Optuna study, for optuna-dashboard. The study is created if it does not exist.

    Parameters
    ----------
    trials : sequence of Trial
        Trained candidates. Trials that an earlier call copied are skipped, so the function may be called after every
        generation.
    url : str
        An Optuna storage, such as "sqlite:///dashboard.db". Not the store of the study itself: table names may clash.
    name : str
        The name of the Optuna study.
    identity : str
        Of the study that is copied; becomes a mark of the Optuna study. Empty: the mark stays.

    Returns
    -------
    int
        The number of copied trials.

    Notes
    -----
    Choices keep their values, or are text if options are equal as numbers (1, True). The generation is a user
    attribute. About 30 ms per trial on SQLite.
    """
    import optuna

    with quiet(), _storage(optuna.storages.RDBStorage(url)) as storage:
        study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        if study.user_attrs.get(OWNER) is None or identity:
            study.set_user_attr(OWNER, identity)
        present = {trial.user_attrs.get("id") for trial in study.get_trials(deepcopy=False)}
        added = 0
        for trial in trials:
            content = trial_order(trial), sorted(trial.intermediate.items())
            trial_id = sha256(repr(content).encode()).hexdigest()[:16]
            if trial_id not in present:
                present.add(trial_id)
                study.add_trial(_frozen(trial, trial_id))
                added += 1
        return added


@contextmanager
def _storage(storage: RDBStorage) -> Iterator[RDBStorage]:
    """Close the connections of a storage at the end."""
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _frozen(trial: Trial, trial_id: str) -> FrozenTrial:
    """A trial in Optuna's form."""
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import TrialState, create_trial

    params: dict[str, Primitive] = {}
    distributions: dict[str, Any] = {}
    for name, options in trial.domains.items():
        ambiguous = len(set(options)) < len(options)
        params[name] = repr(trial.choices[name]) if ambiguous else trial.choices[name]
        distributions[name] = CategoricalDistribution(tuple(map(repr, options)) if ambiguous else options)
    return create_trial(
        state=TrialState.COMPLETE if trial.complete else TrialState.PRUNED,
        params=params,
        distributions=distributions,
        value=trial.value,
        intermediate_values=dict(trial.intermediate),
        user_attrs={"id": trial_id, "generation": trial.generation},
    )
