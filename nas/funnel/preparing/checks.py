"""All checks of a search before anything is written, for a search and for its preview."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import results
from nas.config import Config, store_option
from nas.errors import UserError
from nas.evaluation.data_identity import check_repeatable
from nas.funnel.driver import StudyParts
from nas.funnel.preparing.default_spaces import with_stored_spaces
from nas.funnel.preparing.plugin_changes import (
    BUILT_FROM,
    REPLAYED,
    SETTING,
    check_same_networks,
    check_unchanged,
    named_plugins,
    versions,
)
from nas.funnel.preparing.preparation import (
    check_augmentation,
    differing_settings,
    evaluator_of,
    prepared,
    stored_settings,
)
from nas.funnel.preparing.stored_defaults import BUDGETS_FROM, LEFT_OUT, left_out_sentences
from nas.funnel.state import StudyState
from nas.funnel.warm_start import EarlierStudy, earlier_study
from nas.plugins import trust_named
from nas.progress import Progress, State
from nas.screening import budgets
from nas.screening.enqueued import enqueued
from nas.screening.screener import Screener
from nas.spaces.choices import Domains
from nas.spaces.contract import SearchSpace
from nas.strategies.optuna_copy import check_target
from results.connection import locate
from results.front import Score
from results.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSearch:
    """A search that may begin.

    settings: for the store. budgets: None for a study that has a range of budgets. earlier: the study that it starts
    from, whose candidates are not copied yet.
    """

    parts: StudyParts
    settings: dict[str, Any]
    score: Score
    budgets: budgets.BudgetRange | None
    earlier: EarlierStudy | None


def checked_search(
    config: Config,
    opened: Store,
    stored: Mapping[str, Any],
    spaces: Mapping[str, SearchSpace],
    progress: Progress,
    *,
    accept_changes: bool,
) -> CheckedSearch:
    """Make all checks of a search, before anything is written: a mistake leaves no study behind.

    stored: the settings of the study in the store; empty for a new study.
    """
    study = config.study
    config = with_stored_spaces(config, stored)
    if config.references is None:  # studies of earlier versions have none
        config = replace(config, references=stored.get("references") if stored else True)
    if config.images is None:  # hours determine them only when the first study begins
        begun = stored or (opened.settings(config.warm_start) if config.warm_start is not None else {})
        config = replace(config, images=begun.get("images"))
    if config.threads is None and stored:
        config = replace(config, threads=stored.get("threads"))
    command = f"nas resume {study}{store_option(opened.label)} --accept-plugin-change"
    check_plugins(config, spaces, stored, command, accept_changes=accept_changes)
    progress.show(State(stage="loading the data", done=0, total=1, trained=0))
    parts, left_out = prepared(config, spaces)
    config, info = parts.config, parts.info
    check_augmentation(stored, info)
    settings = stored_settings(config, info)
    try:
        opened.check_writer(study, settings, parts.evaluator.measures, config.files)
    except results.SettingsDiffer as error:
        if "data_fingerprint" in error.differences:
            check_repeatable(lambda: evaluator_of(config), config.data, info)
        message = differing_settings(error, opened.label, info, stored)
        raise results.SettingsDiffer(error.study, error.differences, message) from error
    built_from = check_spaces(parts.screener, opened, study, stored, command, accept_changes=accept_changes)
    score, measured, earlier = opened.score(study) if stored else None, None, None
    if config.warm_start is not None and not (stored and opened.transferred_count(study)):
        earlier = earlier_study(config, opened, info, parts.screener)
        parts.screener.constraints = replace(parts.screener.constraints, low=earlier.score.low)
    if score is None:
        progress.show(State(stage="measuring the range of budgets", done=0, total=1, trained=0))
        measured = budgets.budget_range(parts.screener, config.seed)
        low, high = measured.low.macs, measured.high.macs
        score = earlier.score if earlier else Score(low=low, high=high, floor=info.floor, metric=info.task.metric)
        check_repeatable(lambda: evaluator_of(config), config.data, info)
    if config.enqueue and not (stored and opened.memo(study).get("generations")):
        check_enqueued(parts.screener, config, score)
    used = versions([*named_plugins(config, spaces), *parts.screener.plugins], stored.get(SETTING, {}))
    if config.optuna:
        check_optuna(config.optuna, study, opened.url, opened.identity(study) if stored else None)
    settings |= {SETTING: used, BUILT_FROM: built_from} | _origins(config, stored, left_out, measured)
    if measured is not None:
        if info.imbalance:
            progress.say(info.imbalance)
        for line in left_out_sentences(settings):
            progress.say(line)
        if sentence := measured.rejections.majority():
            progress.say(f"Random proposals: {sentence}")
    return CheckedSearch(parts=parts, settings=settings, score=score, budgets=measured, earlier=earlier)


def _origins(
    config: Config,
    stored: Mapping[str, Any],
    left_out: Mapping[str, str] | None,
    measured: budgets.BudgetRange | None,
) -> dict[str, Any]:
    """Facts for the store on the defaults of a study: the spaces that are left out, and where the budgets come from."""
    facts = {name: stored[name] for name in (LEFT_OUT, BUDGETS_FROM) if name in stored}
    if left_out is not None:
        facts[LEFT_OUT] = dict(left_out)
    if measured is not None and config.warm_start is not None:
        facts[BUDGETS_FROM] = dict.fromkeys(("low", "high"), f"the study {config.warm_start}")
    elif measured is not None:
        facts[BUDGETS_FROM] = {"low": measured.low.origin, "high": measured.high.origin}
    return facts


def check_plugins(
    config: Config, objects: Mapping[str, SearchSpace], stored: Mapping[str, Any], command: str, *, accept_changes: bool
) -> None:
    """Compare the plug-ins of a study with its earlier ones, before any of them is loaded.

    Parameters
    ----------
    config
        The settings, with absolute paths.
    objects
        Classes and objects among the spaces, by name.
    stored
        The settings of the study in the store; empty for a new study.
    command
        Continues with the present plug-ins.
    accept_changes
        Whether the user accepts the present plug-ins, and consents to run their files.

    Raises
    ------
    PluginError
        If one has changed and the user does not accept it.
    """
    plugins = named_plugins(config, objects)
    if accept_changes:
        trust_named(*(spec for _, spec in plugins))
    else:
        check_unchanged(stored, command, plugins)


def check_spaces(
    screener: Screener,
    store: Store,
    study: str,
    stored: Mapping[str, Any],
    command: str,
    *,
    accept_changes: bool,
) -> int:
    """Build the latest networks of a study again, and compare the rules and kinds that its spaces name.

    Parameters
    ----------
    screener
        Of the study.
    store, study
        Hold the proposals.
    stored, command, accept_changes
        As for :func:`check_plugins`.

    Returns
    -------
    int
        Id of the first candidate that the present spaces have built, or will build.

    Raises
    ------
    PluginError
        If a network, a rule or a kind differs and the user does not accept it.
    """
    if not stored:
        return 0
    proposals, score = store.proposals(study, REPLAYED), store.score(study)
    built_from = int(stored.get(BUILT_FROM, 0))
    if accept_changes:
        return max([built_from, *(row["id"] + 1 for row in proposals)])
    if score is not None:
        screener.domains = Domains(StudyState.from_json(store.memo(study)).domains)
        screener.constraints = replace(screener.constraints, low=score.low)
        check_same_networks(screener, [row for row in proposals if row["id"] >= built_from], command)
        check_unchanged(stored, command, screener.plugins)
    return built_from


def check_enqueued(screener: Screener, config: Config, score: Score) -> None:
    """Raise UserError unless the enqueued candidates can be trained. score: with the range of budgets."""
    screener.constraints = replace(screener.constraints, low=score.low)
    count = len(enqueued(screener, config.enqueue or (), config.seed))
    most = min(config.generation, config.train or config.generation)
    if count > most:
        raise UserError(
            f"--enqueue needs room in the first generation. Got {count} candidates for {most}: raise "
            f"{'--generation' if config.generation == most else '--train'}."
        )


def check_optuna(url: str, study: str, store: str, identity: str | None) -> None:
    """Raise UserError if the copy of the trials cannot be written. Nothing is created.

    identity: of the study; None if it does not exist yet.
    """
    try:
        same = locate(url) == locate(os.fspath(store))
    except results.StoreError:  # Optuna supports other databases too
        same = False
    if same:
        raise UserError(f"--optuna must be a database of its own: table names clash. Got the store, {url!r}.")
    try:
        check_target(url, study, identity)
    except UserError:
        raise
    except Exception as error:  # any error of a database
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"--optuna must be a storage that Optuna can open, such as sqlite:///optuna.db. Got {url!r}: {reason:.200}"
        ) from error
