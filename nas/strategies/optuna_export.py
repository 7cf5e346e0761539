"""Copies of trained candidates in an Optuna study, for optuna-dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from nas.spaces.choices import Primitive
from nas.strategies.contract import Trial, trial_order
from nas.strategies.optuna_samplers import quiet

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def export(trials: Sequence[Trial], url: str, name: str) -> int:
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

    with quiet():
        storage = optuna.storages.RDBStorage(url)
        try:
            study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
            present = {trial.user_attrs.get("id") for trial in study.get_trials(deepcopy=False)}
            added = 0
            for trial in trials:
                content = trial_order(trial), sorted(trial.intermediate.items())
                identity = sha256(repr(content).encode()).hexdigest()[:16]
                if identity not in present:
                    present.add(identity)
                    study.add_trial(_frozen(trial, identity))
                    added += 1
            return added
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _frozen(trial: Trial, identity: str) -> FrozenTrial:
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
        user_attrs={"id": identity, "generation": trial.generation},
    )
