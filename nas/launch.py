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
from nas.evaluation.stored_data import stored_data
from nas.evaluation.training_rules import load_rule
from nas.files import absolute
from nas.funnel.driver import Driver, StudyParts
from nas.funnel.training import OutOfTime
from nas.plugins import canonical_spec, load_plugin
from nas.progress import Progress, Silent, State
from nas.screening import budgets
from nas.screening.rule import parse_rule
from nas.screening.screener import screener_of
from nas.spaces.contract import SearchSpace
from nas.spaces.loading import Spaces, load_spaces, named_spaces
from nas.strategies.contract import Strategy
from nas.strategies.optuna_export import export
from nas.study import Study
from nas.workers.local import LocalRunner
from results.connection import locate
from results.front import Score


@dataclass(frozen=True)
class _SearchArguments(StudySettings):
    """The arguments of :func:`search`."""

    data: Any = field(default="digits", kw_only=False)
    study: str | None = None
    space: Spaces = "residual"
    store: str = STORE
    progress: Progress | None = None


@dataclass(frozen=True)
class _ResumeArguments(RunSettings):
    """The arguments of :func:`resume`."""

    study: str = field(kw_only=False)
    retry_failed: bool = False
    space: Spaces = ()
    store: str = STORE
    progress: Progress | None = None


@takes(_SearchArguments)
def search(
    data: Any = "digits",
    *,
    study: str | None = None,
    space: Spaces = "residual",
    store: str = STORE,
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
        Name of the study. By default the name of the data: of the file or the Dataset, "arrays" for arrays.
    space
        One or more names, ``file.py:Name``, classes or objects with a method ``architecture``.
    store
        URL or path of the results store.
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
    name = study_name(data) if study is None else study
    config = _canonical(Config(study=name, spaces=names, data="digits", **settings), objects)
    load_spaces(config.spaces, objects)  # before arrays are written
    with stored_data(data, results.open(store), config.study) as specification:
        return run(replace(config, data=specification), store=store, spaces=objects, progress=progress)


@takes(_ResumeArguments)
def resume(
    study: str,
    *,
    retry_failed: bool = False,
    space: Spaces = (),
    store: str = STORE,
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
        A limit is unknown, a value cannot be used, or the last candidates all failed; nas.errors.EnvironmentFault: a
        fault that is not of a candidate, after which the study can be resumed.
    results.StoreError
        The store or the study cannot be opened.
    """
    for name in limits:
        if name not in CHANGEABLE:
            raise UserError(f"{unknown_name('limit', name, CHANGEABLE)} Other settings cannot change.")
    config = Config.from_stored(study, results.open(store).settings(study))
    return run(
        replace(config, **limits),
        store=store,
        spaces=named_spaces(space)[1],
        progress=progress,
        retry_failed=retry_failed,
    )


def run(
    config: Config,
    *,
    store: str = STORE,
    spaces: Mapping[str, SearchSpace] | None = None,
    progress: Progress | None = None,
    retry_failed: bool = False,
) -> Study:
    """Run a study. spaces: classes and objects that are no plug-ins, by name. retry_failed: as in :func:`resume`."""
    progress = progress or Silent()
    progress.show(State(stage="loading the data", done=0, total=1, trained=0))
    parts = prepared(config, spaces or {})
    config, info = parts.config, parts.info
    opened = results.open(store)
    score = None
    if opened.holds(config.study):
        score = opened.score(config.study)
        check_augmentation(opened.settings(config.study), info)
    if score is None:  # before anything is written: a mistake leaves no study behind
        progress.show(State(stage="measuring the range of budgets", done=0, total=1, trained=0))
        measured = budgets.budget_range(parts.screener, config.seed)
        score = Score(low=measured.low, high=measured.high, floor=info.floor)
        check_repeatable(lambda: _evaluator(config), config.data, info)
        if sentence := measured.rejections.majority():
            progress.say(f"Random proposals: {sentence}")
    if config.optuna:
        check_optuna(config.optuna, config.study, store)
    with ExitStack() as stack:
        try:
            writer = opened.writer(config.study, stored_settings(config, info), parts.evaluator.measures)
        except results.SettingsDiffer as error:
            if "data_fingerprint" in error.differences:
                check_repeatable(lambda: _evaluator(config), config.data, info)
            message = differing_settings(error, store, info, opened.settings(config.study))
            raise results.SettingsDiffer(error.study, error.differences, message) from error
        stack.enter_context(writer)
        runner = stack.enter_context(
            LocalRunner(
                config.evaluator,
                config.data,
                config.evaluator_settings(),
                identity=DataIdentity.of(info),
                workers=config.workers or 1,
                log=str(writer.files / "log.txt"),
            )
        )
        try:
            driver = Driver(parts, writer, runner, score, progress)
            end, reason = "finished", f"The search ended because {driver.run(retry_failed=retry_failed)}."
        except (EnvironmentFault, OSError) as error:
            with suppress(results.StoreError):  # do not hide the first error
                writer.finish("interrupted", str(error))
            raise
        except OutOfTime:
            end, reason = "interrupted", f"The limit of {config.hours:g} hours passed while something was training."
        writer.finish(end, " ".join(filter(None, [reason, driver.keeper.state.rejections.majority()])))
    return Study(config.study, store=store, spaces=spaces)


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


def preview(config: Config) -> str:
    """Describe the search with these settings: data, spaces, range of budgets. Trains and writes nothing."""
    parts = prepared(config, {})
    config, info = parts.config, parts.info
    check_repeatable(lambda: _evaluator(config), config.data, info)
    budget_range = budgets.budget_range(parts.screener, config.seed)
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
                for name, median in budget_range.medians.items()
            ),
            f"Budgets: {budget_range.low:,.0f} to {budget_range.high:,.0f} MACs.",
            *(f"Random proposals: {sentence}" for sentence in [budget_range.rejections.majority()] if sentence),
            f"Per generation: {config.pool} proposals, {config.generation} trained; rungs at epochs {config.rungs()}; "
            f"{config.workers} workers.",
        )
    )


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


def differing_settings(error: results.SettingsDiffer, store: str, info: DataInfo, stored: Mapping[str, Any]) -> str:
    """The settings that differ from a study's own as options, and the commands that continue it or start another.

    info: of the present data. stored: all settings of the study.
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
        f"{first} it with its settings: nas resume {error.study}{store_option(store)}. "
        "Start a new study: choose another name."
    )


def _as_typed(value: object) -> str:
    """A stored setting as on the command line."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "not set" if value is None else str(value)


def check_optuna(url: str, study: str, store: str) -> None:
    """Create the Optuna study for the copy of the trials. Raises UserError if the database cannot be used."""
    try:
        same = locate(url) == locate(os.fspath(store))
    except results.StoreError:  # Optuna supports other databases too
        same = False
    if same:
        raise UserError(f"--optuna must be a database of its own: table names clash. Got the store, {url!r}.")
    try:
        export([], url, study)
    except Exception as error:  # any error of a database
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"--optuna must be a storage that Optuna can open, such as sqlite:///optuna.db. Got {url!r}: {reason:.200}"
        ) from error


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
