"""Start or continue a study: check the settings, open the store and the workers, run the driver, close them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import results
from nas.config import CHANGEABLE, STORE, Config, RunSettings, StudySettings, check_names, study_name, takes
from nas.errors import EnvironmentFault, UserError, unknown_name
from nas.evaluation.stored_data import DataInMemory, stored_data
from nas.funnel.asynchronous import TrainsProposals
from nas.funnel.driver import Driver, StudyParts
from nas.funnel.preparing.checks import checked_search
from nas.funnel.preparing.outlook import outlook
from nas.funnel.preparing.plugin_changes import named_plugins
from nas.funnel.preparing.preparation import canonical, default_workers, worker_call
from nas.funnel.preparing.stored_defaults import budgets_sentence, left_out_sentences
from nas.funnel.training import OutOfTime
from nas.plugins import trust_named
from nas.progress import Progress, Silent, for_python
from nas.screening.enqueued import as_texts
from nas.spaces.contract import SearchSpace
from nas.spaces.loading import Spaces, load_spaces, named_spaces
from nas.strategies.optuna_copy import OptunaCopy
from nas.study import Study
from nas.workers.local import LocalRunner
from nas.workers.runner import Runner
from nas.workers.session import EvaluatorCall
from results.waiting import patiently


@dataclass(frozen=True)
class _SearchArguments(StudySettings):
    """The arguments of :func:`search`."""

    data: Any = field(default="digits", kw_only=False)
    study: str | None = None
    space: Spaces = ()
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
    space: Spaces = (),
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
        A data specification such as "npz:FILE", arrays (x_train, y_train[, x_test, y_test]), a Dataset, or a Dataset of
        torch whose items are an image and its class, or two of them, for training and testing.
    study
        Name of the study. By default the name of the data: of the file or the Dataset, for arrays without a name
        "arrays-" and the first digits of their content hash.
    space
        One or more names, ``file.py:Name``, classes or objects with a method ``architecture``. By default all
        installed spaces that suit the data and the settings.
    store
        URL or path of the results store.
    accept_plugin_change
        Continue an existing study although its plug-ins have changed.
    progress
        Display of the progress, see :mod:`nas.progress`. By default a bar in a notebook, and nothing in a script.
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
    if (enqueue := settings.get("enqueue")) is not None:
        settings["enqueue"] = as_texts(enqueue)
    names, objects = named_spaces(space)
    given = data if isinstance(data, str) else DataInMemory.of(data)
    name = study_name(data) if study is None else study
    if study is None and isinstance(given, DataInMemory):
        name = given.study_name(name)
    config = canonical(Config(study=name, spaces=names, data="digits", **settings), objects)
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
        Settings of :class:`nas.config.RunSettings`: train, generations, hours, workers, trial_timeout, files,
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
        progress or for_python(),
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
    config = canonical(config, spaces or {})
    trust_named(*(spec for _, spec in named_plugins(config, spaces or {})))
    return _run(config, store, spaces or {}, progress or for_python(), accept_changes=accept_plugin_change)


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
    checked = checked_search(config, opened, stored, spaces, progress, accept_changes=accept_changes)
    parts, config = checked.parts, checked.parts.config
    with ExitStack() as stack:
        if config.ray:
            from nas.ray.connection import connected

            stack.enter_context(connected(config.ray, on_node=bool(config.asynchronous)))
        writer = stack.enter_context(
            opened.writer(config.study, checked.settings, parts.evaluator.measures, config.files)
        )
        copy = OptunaCopy(opened, config.study, config.optuna) if config.optuna else None
        if copy is not None:
            copy.update()
        call, log = worker_call(config, parts.info), str(writer.log)
        runner = stack.enter_context(_runner(parts, call, log, progress))
        try:
            driver = Driver(
                parts,
                writer,
                runner,
                checked.score,
                progress,
                earlier=checked.earlier,
                trains_proposals=_trains_proposals(config, runner),
                optuna=copy,
            )
            end, reason = "finished", f"The search ended because {driver.run(retry_failed=retry_failed)}."
        except (EnvironmentFault, OSError, results.StoreError) as error:
            with suppress(results.StoreError):  # do not hide the first error
                writer.finish("interrupted", str(error))
            raise
        except OutOfTime:
            end, reason = "interrupted", f"The limit of {config.hours:g} hours passed while something was training."
        writer.finish(end, " ".join(filter(None, [reason, driver.keeper.state.rejections.majority()])))
    return patiently(partial(Study, config.study, store=opened.url, spaces=spaces))


def _runner(parts: StudyParts, call: EvaluatorCall, log: str, progress: Progress) -> AbstractContextManager[Runner]:
    config = parts.config
    if config.ray:
        from nas.ray.runner import ray_runner

        return ray_runner(config, call, parts.evaluator.data_in_memory(), log=log, say=progress.say)
    return LocalRunner(call, workers=config.workers or default_workers(config), log=log, say=progress.say)


def _trains_proposals(config: Config, runner: Runner) -> TrainsProposals | None:
    if not config.asynchronous:
        return None
    from nas.ray.runner import RayRunner
    from nas.ray.tune.trials import TuneTrials

    assert isinstance(runner, RayRunner)
    assert config.scheduler is not None
    return TuneTrials(runner, config.scheduler)


def preview(config: Config, *, store: str = STORE, accept_plugin_change: bool = False) -> str:
    """Describe the search with these settings: data, spaces, range of budgets, store.

    All checks of a search are made; nothing is written or upgraded. With a limit in hours, an epoch is timed.
    """
    config = canonical(config, {})
    trust_named(*(spec for _, spec in named_plugins(config)))
    opened = results.open(store)
    older = opened.older_version()
    stored = opened.settings(config.study) if older is None and opened.holds(config.study) else {}
    checked = checked_search(config, opened, stored, {}, Silent(), accept_changes=accept_plugin_change)
    config, info, score, earlier = checked.parts.config, checked.parts.info, checked.score, checked.earlier
    majority = checked.budgets.rejections.majority() if checked.budgets else None
    shape = "×".join(map(str, info.task.input_shape))
    return "\n".join(
        (
            f"Data {info.name}: {info.train_images:,} training, {info.validation_images:,} validation and "
            f"{info.test_images:,} test images of {shape}, "
            f"{info.task.num_classes} classes"
            f"{''.join(f' in {n} groups' for n in info.task.label_counts[1:])}; "
            f"always the same answer scores {info.floor:.4f}.",
            *([info.imbalance] if info.imbalance else []),
            *([f"Augmentation ({config.augment}): {info.augmentation}."] if info.augmentation else []),
            f"Spaces: {', '.join(checked.parts.screener.spaces)}.",
            *left_out_sentences(checked.settings),
            *([f"Warm start from {config.warm_start}: {len(earlier.rows)} trained candidates."] if earlier else []),
            budgets_sentence(score, checked.settings),
            *([f"Random proposals: {majority}"] if majority else []),
            _plan(config),
            *([text] if (text := outlook(checked.parts, score.high)) else []),
            *([_trained_already(opened, config.study)] if stored else []),
            f"Store {opened.url}: {_study_in(stored, older, config.study)}.",
            *([f"Files in {config.files.rstrip('/')}/{config.study}."] if config.files else []),
        )
    )


def _plan(config: Config) -> str:
    """What is trained, and on how many workers."""
    count = config.workers or (None if config.ray else default_workers(config))
    workers = f"{count} workers" if count else "as many workers as fit on the cluster"
    if config.asynchronous:
        place, workers = "pool, without barriers", f"stopped early by {config.scheduler}; {workers}"
    else:
        place = "generation"
    rungs = f"rungs at epochs {config.rungs()} of at most {config.partial_images:,} images"
    if config.free:
        rungs = "trainings are free, so each is in full, and there are no finalists"
    return f"Per {place}: {config.pool} proposals, {config.generation} trained; {rungs}; {workers}."


def _trained_already(store: results.Store, study: str) -> str:
    return f"Candidates of the study that are trained already: {store.summary(study).scored:,}."


def _study_in(stored: Mapping[str, Any], older: int | None, study: str) -> str:
    if older is not None:
        return f"it has schema {older}, and the search upgrades it before it looks for study {study!r}"
    return f"study {study!r} is continued" if stored else f"study {study!r} is new"
