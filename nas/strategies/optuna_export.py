"""Copies of trained candidates in an Optuna study, for optuna-dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from nas.spaces.choices import Primitive

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

from nas.strategies.contract import Trial
from nas.strategies.optuna_samplers import _order, _quiet


def export(trials: Sequence[Trial], url: str, name: str) -> int:
    """Copies trials to a persisted Optuna study, for optuna-dashboard; makes the study where there is none.

    Trials that an earlier call copied are left alone, so it may be called after every generation. Choices appear with
    their own values; where options are equal as numbers (1, True), as text. The generation is a user attribute.

    Parameters
    ----------
    trials: any trained candidates.
    url: an Optuna storage, such as "sqlite:///dashboard.db". Not the store of the study itself: table names may clash.
    name: the name of the Optuna study.

    Returns
    -------
    The number of trials added.

    Notes
    -----
    About 30 ms a trial on SQLite.
    """
    import optuna

    with _quiet():
        storage = optuna.storages.RDBStorage(url)
        try:
            study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
            present = {trial.user_attrs.get("id") for trial in study.get_trials(deepcopy=False)}
            added = 0
            for trial in trials:
                identity = sha256(repr((_order(trial), sorted(trial.intermediate.items()))).encode()).hexdigest()[:16]
                if identity not in present:
                    present.add(identity)
                    study.add_trial(_shown(trial, identity))
                    added += 1
            return added
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _shown(trial: Trial, identity: str) -> FrozenTrial:
    """A trial as the dashboard shows it."""
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
        user_attrs={"id": identity, "generation": trial.generation},
    )
