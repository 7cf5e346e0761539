"""Start or continue a study: check the settings, open the store and the workers, run the driver, close them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import results
from nas.config import (
    CHANGEABLE,
    STORE,
    Config,
    RunSettings,
    StudySettings,
    check_names,
    option,
    store_option,
    study_name,
    takes,
)
from nas.errors import EnvironmentFault, PluginError, UserError, unknown_name
from nas.evaluation.data_identity import DataIdentity, check_repeatable
from nas.evaluation.evaluator import DataInfo, Evaluator
from nas.evaluation.loading import absolute_data, check_device, load_evaluator
from nas.evaluation.stored_data import DataInMemory, stored_data
from nas.evaluation.training_rules import load_rule
from nas.files import absolute
from nas.funnel.driver import Driver, StudyParts
from nas.funnel.plugin_changes import (
    BUILT_FROM,
    REPLAYED,
    SETTING,
    check_same_networks,
    check_unchanged,
    named_plugins,
    versions,
)
from nas.funnel.state import StudyState
from nas.funnel.training import OutOfTime
from nas.plugins import canonical_spec, load_plugin, trust_named
from nas.progress import Progress, Silent, State
from nas.screening import budgets
from nas.screening.rule import parse_rule
from nas.screening.screener import Screener, screener_of
from nas.spaces.choices import Domains
from nas.spaces.contract import SearchSpace
from nas.spaces.loading import Spaces, load_spaces, named_spaces
from nas.strategies.contract import Strategy
from nas.strategies.optuna_export import check_target, export
from nas.study import Study
from nas.workers.local import LocalRunner
from results.connection import locate
from results.front import Score
from results.store import Store


@dataclass(frozen=True)
class _SearchArguments(StudySettings):
    """The arguments of :func:`search`."""

    data: Any = field(default="digits", kw_only=False)
    study: str | None = None
    space: Spaces = "residual"
    store: str = STORE
    accept_plugin_change: bool = False
    progress: Progress | None = None


@dataclass(frozen=True)
class _ResumeArguments(RunSettings):
    """The arguments of :func:`resume`."""

    study: str = field(kw_only=False)
    retry_failed: bool = False
    space: Spaces = ()
    store: str = STORE
    accept_plugin_change: bool = False
    progress: Progress | None = None


@takes(_SearchArguments)
def search(
    data: Any = "digits",
    *,
    study: str | None = None,
    space: Spaces = "residual",
    store: str = STORE,
    accept_plugin_change: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Study:
    """Search for anytime networks; return the study when a limit is reached.

    An existing study of the same name is continued. On Ctrl-C, all results so far are in the store.

    Parameters
    ----------
    data
        A data specification such as "npz:FILE", arrays (x_train, y_train[, x_test, y_test]), or a Dataset.
    study
        Name of the study. By default the name of the data: of the file or the Dataset, for arrays without a name
        "arrays-" and the first digits of their content hash.
    space
        One or more names, ``file.py:Name``, classes or objects with a method ``architecture``.
    store
        URL or path of the results store.
    accept_plugin_change
        Continue an existing study although its plug-ins have changed.
    progress
        Display of the progress, see :mod:`nas.progress`; silent by default.
    **settings
        Settings as in :class:`nas.config.Config`, named like the options of the command line.

    Returns
    -------
    Study
        The results.

    Raises
    ------
    UserError
        A setting is unknown, a value cannot be used, or the last candidates all failed; nas.errors.EnvironmentFault: a
        fault that is not of a candidate, after which the study can be resumed.
    results.StoreError
        The store cannot be used; results.SettingsDiffer: the study exists with other settings.
    """
    check_names(StudySettings, settings)
    names, objects = named_spaces(space)
    given = data if isinstance(data, str) else DataInMemory.of(data)
    name = study_name(data) if study is None else study
    if study is None and isinstance(given, DataInMemory):
        name = given.study_name(name)
    config = _canonical(Config(study=name, spaces=names, data="digits", **settings), objects)
    trust_named(*config.spaces)
    load_spaces(config.spaces, objects)  # before arrays are written
    opened = results.open(store)
    with stored_data(given, opened, config.study) as specification:
        return run(
            replace(config, data=specification),
            store=opened.url,
            spaces=objects,
            accept_plugin_change=accept_plugin_change,
            progress=progress,
        )


@takes(_ResumeArguments)
def resume(
    study: str,
    *,
    retry_failed: bool = False,
    space: Spaces = (),
    store: str = STORE,
    accept_plugin_change: bool = False,
    progress: Progress | None = None,
    **limits: Any,
) -> Study:
    """Continue a study with its own settings; limits may be changed.

    Parameters
    ----------
    study
        Name of the study.
    retry_failed
        Whether to train candidates again whose training failed.
    space
        The classes or objects among the study's spaces, of which the store holds only the names.
    store, progress
        As in :func:`search`.
    accept_plugin_change
        Continue although plug-ins of the study have changed, and run their files.
    **limits
        Settings of :class:`nas.config.RunSettings`: train, generations, hours, workers, trial_timeout,
        optuna.

    Returns
    -------
    Study
        The results.

    Raises
    ------
    UserError
        A limit is unknown, a value cannot be used, or the last candidates all failed; nas.errors.PluginError: a plug-in
        has changed, or you have not consented to run its file, see :func:`nas.trust`; nas.errors.EnvironmentFault: a
        fault that is not of a candidate, after which the study can be resumed.
    results.StoreError
        The store or the study cannot be opened.
    """
    for name in limits:
        if name not in CHANGEABLE:
            raise UserError(f"{unknown_name('limit', name, CHANGEABLE)} Other settings cannot change.")
    opened = results.open(store)
    config = Config.from_stored(study, opened.settings(study))
    return _run(
        replace(config, **limits),
        opened.url,
        named_spaces(space)[1],
        progress or Silent(),
        accept_changes=accept_plugin_change,
        retry_failed=retry_failed,
    )


def run(
    config: Config,
    *,
    store: str = STORE,
    spaces: Mapping[str, SearchSpace] | None = None,
    accept_plugin_change: bool = False,
    progress: Progress | None = None,
) -> Study:
    """Run a study with settings of the user, who consents to run the plug-ins that they name.

    spaces: classes and objects that are no plug-ins, by name.
    """
    config = _canonical(config, spaces or {})
    trust_named(*(spec for _, spec in named_plugins(config, spaces or {})))
    return _run(config, store, spaces or {}, progress or Silent(), accept_changes=accept_plugin_change)


def _run(
    config: Config,
    store: str,
    spaces: Mapping[str, SearchSpace],
    progress: Progress,
    *,
    accept_changes: bool,
    retry_failed: bool = False,
) -> Study:
    opened = results.open(store)
    stored = opened.settings(config.study) if opened.holds(config.study) else {}
    checked = _checked(config, opened, stored, spaces, progress, accept_changes=accept_changes)
    parts, config = checked.parts, checked.parts.config
    with ExitStack() as stack:
        writer = stack.enter_context(opened.writer(config.study, checked.settings, parts.evaluator.measures))
        if config.optuna:
            export([], config.optuna, config.study, opened.identity(config.study))
        runner = stack.enter_context(
            LocalRunner(
                config.evaluator,
                config.data,
                worker_settings(config),
                identity=DataIdentity.of(parts.info),
                workers=config.workers or 1,
                log=str(writer.files / "log.txt"),
            )
        )
        try:
            driver = Driver(parts, writer, runner, checked.score, progress)
            end, reason = "finished", f"The search ended because {driver.run(retry_failed=retry_failed)}."
        except (EnvironmentFault, OSError) as error:
            with suppress(results.StoreError):  # do not hide the first error
                writer.finish("interrupted", str(error))
            raise
        except OutOfTime:
            end, reason = "interrupted", f"The limit of {config.hours:g} hours passed while something was training."
        writer.finish(end, " ".join(filter(None, [reason, driver.keeper.state.rejections.majority()])))
    return Study(config.study, store=opened.url, spaces=spaces)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """A search that may begin: its settings for the store, and its range of budgets, None for a study that has one."""

    parts: StudyParts
    settings: dict[str, Any]
    score: Score
    budgets: budgets.BudgetRange | None


def _checked(
    config: Config,
    opened: Store,
    stored: Mapping[str, Any],
    spaces: Mapping[str, SearchSpace],
    progress: Progress,
    *,
    accept_changes: bool,
) -> _Checked:
    """Make all checks of a search, before anything is written: a mistake leaves no study behind.

    stored: the settings of the study in the store; empty for a new study.
    """
    study = config.study
    command = f"nas resume {study}{store_option(opened.label)} --accept-plugin-change"
    check_plugins(config, spaces, stored, command, accept_changes=accept_changes)
    progress.show(State(stage="loading the data", done=0, total=1, trained=0))
    parts = prepared(config, spaces)
    config, info = parts.config, parts.info
    check_augmentation(stored, info)
    settings = stored_settings(config, info)
    try:
        opened.check_writer(study, settings, parts.evaluator.measures)
    except results.SettingsDiffer as error:
        if "data_fingerprint" in error.differences:
            check_repeatable(lambda: _evaluator(config), config.data, info)
        message = differing_settings(error, opened.label, info, stored)
        raise results.SettingsDiffer(error.study, error.differences, message) from error
    built_from = check_spaces(parts.screener, opened, study, stored, command, accept_changes=accept_changes)
    score, measured = opened.score(study) if stored else None, None
    if score is None:
        progress.show(State(stage="measuring the range of budgets", done=0, total=1, trained=0))
        measured = budgets.budget_range(parts.screener, config.seed)
        score = Score(low=measured.low, high=measured.high, floor=info.floor)
        check_repeatable(lambda: _evaluator(config), config.data, info)
        if sentence := measured.rejections.majority():
            progress.say(f"Random proposals: {sentence}")
    used = versions([*named_plugins(config, spaces), *parts.screener.plugins], stored.get(SETTING, {}))
    if config.optuna:
        check_optuna(config.optuna, study, opened.url, opened.identity(study) if stored else None)
    settings |= {SETTING: used, BUILT_FROM: built_from}
    return _Checked(parts=parts, settings=settings, score=score, budgets=measured)


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


def prepared(config: Config, objects: Mapping[str, SearchSpace]) -> StudyParts:
    """Check settings as far as possible without training and without a store, and load the plug-ins.

    Parameters
    ----------
    config
        The settings.
    objects
        Classes and objects among the spaces, by name.

    Returns
    -------
    StudyParts
        With all open settings resolved.

    Raises
    ------
    UserError
        For a user's mistake; PluginError for any exception of a plug-in.
    """
    config = _canonical(config, objects)
    check_device(config.device)
    strategy = load_plugin("nas.strategies", config.strategy)
    if not (isinstance(strategy, type) and issubclass(strategy, Strategy)):
        raise PluginError(f"A strategy must be a subclass of nas.strategies.contract.Strategy. Got {strategy!r}.")
    if config.rule:
        load_rule(parse_rule(config.rule))
    spaces = load_spaces(config.spaces, objects)
    evaluator = _evaluator(config)
    if (config.final_search or config.max_latency_ms) and not evaluator.selects:
        raise UserError(
            "--final-search and --max-latency-ms need an evaluator that runs the final search. "
            f"{config.evaluator!r} does not: use the evaluator 'training', or leave them out."
        )
    info = _info(config, evaluator)
    if config.images < info.task.num_classes:
        raise UserError(
            f"--images must have room for one image of each of {info.task.num_classes} classes. Got {config.images}."
        )
    config = replace(config, workers=config.workers or default_workers(config)).resolved(info.train_images)
    screener = screener_of(config, info.task, spaces)
    return StudyParts(config=config, strategy=strategy, evaluator=evaluator, info=info, screener=screener)


def _evaluator(config: Config) -> Evaluator:
    return load_evaluator(config.evaluator, config.data, config.evaluator_settings())


def _info(config: Config, evaluator: Evaluator) -> DataInfo:
    try:
        return evaluator.info()
    except UserError:
        raise
    except Exception as error:  # any exception of a plug-in
        raise PluginError(
            f"The evaluator {config.evaluator!r} must describe its data. It raised {type(error).__name__}: {error}"
        ) from error


def preview(config: Config, *, store: str = STORE, accept_plugin_change: bool = False) -> str:
    """Describe the search with these settings: data, spaces, range of budgets, store.

    All checks of a search are made; nothing is trained, written or upgraded.
    """
    config = _canonical(config, {})
    trust_named(*(spec for _, spec in named_plugins(config)))
    opened = results.open(store)
    older = opened.older_version()
    stored = opened.settings(config.study) if older is None and opened.holds(config.study) else {}
    checked = _checked(config, opened, stored, {}, Silent(), accept_changes=accept_plugin_change)
    config, info, score = checked.parts.config, checked.parts.info, checked.score
    medians = checked.budgets.medians if checked.budgets else {}
    majority = checked.budgets.rejections.majority() if checked.budgets else None
    shape = "×".join(map(str, info.task.input_shape))
    return "\n".join(
        (
            f"Data {info.name}: {info.train_images:,} training, {info.validation_images:,} validation and "
            f"{info.test_images:,} test images of {shape}, "
            f"{info.task.num_classes} classes"
            f"{''.join(f' in {n} groups' for n in info.task.label_counts[1:])}; "
            f"always the same answer scores {info.floor:.4f}.",
            *([f"Augmentation ({config.augment}): {info.augmentation}."] if info.augmentation else []),
            *(
                f"Space {name}: the cheapest point has {median:,.0f} MACs in the median."
                for name, median in medians.items()
            ),
            f"Budgets: {score.low:,.0f} to {score.high:,.0f} MACs.",
            *([f"Random proposals: {majority}"] if majority else []),
            f"Per generation: {config.pool} proposals, {config.generation} trained; rungs at epochs {config.rungs()}; "
            f"{config.workers} workers.",
            f"Store {opened.url}: {_study_in(stored, older, config.study)}.",
        )
    )


def _study_in(stored: Mapping[str, Any], older: int | None, study: str) -> str:
    if older is not None:
        return f"it has schema {older}, and the search upgrades it before it looks for study {study!r}"
    return f"study {study!r} is continued" if stored else f"study {study!r} is new"


def stored_settings(config: Config, info: DataInfo) -> dict[str, Any]:
    """The settings in the store, with facts about the data: their hashes, and how training images are augmented."""
    return config.stored() | DataIdentity.of(info).to_settings() | {"_augmentation": info.augmentation}


def check_augmentation(stored: Mapping[str, Any], info: DataInfo) -> None:
    """Raise UserError if a study augments its training images otherwise than this version does."""
    earlier = stored.get("_augmentation")
    if earlier and info.augmentation and earlier != info.augmentation:
        raise UserError(
            f"A study keeps its augmentation. It was started with: {earlier}. Got: {info.augmentation}. Start a new "
            "study: choose another name."
        )


def differing_settings(error: results.SettingsDiffer, label: str, info: DataInfo, stored: Mapping[str, Any]) -> str:
    """The settings that differ from a study's own as options, and the commands that continue it or start another.

    label: of the store. info: of the present data. stored: all settings of the study.
    """
    options = []
    changed = "data_fingerprint" in error.differences
    for name, (old, new) in error.differences.items():
        if name == "data_fingerprint" and "data" in error.differences:
            continue
        if name == "data_fingerprint":
            options.append(f"{DataIdentity.of(info).difference(DataIdentity.from_settings(stored))} of --data")
        else:
            label = option("space" if name == "spaces" else name)
            options.append(f"{label} {_as_typed(old)} (now {_as_typed(new)})")
    first = "Restore the data to continue" if "data" not in error.differences and changed else "Continue"
    return (
        f"A study keeps its settings. Study {error.study!r} was started with {', '.join(options)}. "
        f"{first} it with its settings: nas resume {error.study}{store_option(label)}. "
        "Start a new study: choose another name."
    )


def _as_typed(value: object) -> str:
    """A stored setting as on the command line."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "not set" if value is None else str(value)


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


def worker_settings(config: Config) -> dict[str, Any]:
    """Settings of the evaluator in the workers.

    The device "auto" is the one of this process, so that a worker that has lost it does not train on the CPU unnoticed.
    """
    settings = config.evaluator_settings()
    if config.device == "auto":
        import torch

        if torch.cuda.is_available():
            settings["device"] = "cuda"
    return settings


def default_workers(config: Config) -> int:
    """Trainings side by side: available cores / threads of a training; 1 on an accelerator."""
    if config.device not in ("auto", "cpu"):
        return 1
    if config.device == "auto":
        import torch

        if torch.cuda.is_available():
            return 1
    return max(1, len(os.sched_getaffinity(0)) // config.threads if hasattr(os, "sched_getaffinity") else 1)


def _canonical(config: Config, objects: Mapping[str, SearchSpace]) -> Config:
    """The settings with absolute paths, so that a resume from another folder finds the files."""
    return replace(
        config,
        spaces=tuple(s if s in objects else canonical_spec("nas.search_spaces", s) for s in config.spaces),
        strategy=canonical_spec("nas.strategies", config.strategy),
        proxy=canonical_spec("nas.proxies", config.proxy),
        evaluator=canonical_spec("nas.evaluators", config.evaluator),
        data=absolute_data(config.data),
        hierarchy=config.hierarchy and str(absolute(config.hierarchy)),
    )
