"""From settings to the parts of a study: plug-ins are loaded and checked, open settings resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import results
from nas.config import Config, option, store_option
from nas.errors import PluginError, UserError
from nas.evaluation.data_identity import DataIdentity
from nas.evaluation.evaluator import DataInfo, Evaluator
from nas.evaluation.loading import absolute_data, absolute_evaluator, check_device, load_evaluator
from nas.evaluation.rule import parse_rule
from nas.evaluation.training_rules import load_rule
from nas.files import absolute
from nas.funnel.driver import StudyParts
from nas.funnel.preparing.default_spaces import default_spaces
from nas.plugins import canonical_spec, load_plugin
from nas.screening.enqueued import as_texts
from nas.screening.screener import screener_of
from nas.spaces.contract import SearchSpace
from nas.spaces.loading import load_spaces
from nas.strategies.contract import Strategy
from nas.workers.gpus import visible_gpus
from nas.workers.machines import usable_cores
from nas.workers.session import EvaluatorCall
from results.files.places import place


def prepared(config: Config, objects: Mapping[str, SearchSpace]) -> tuple[StudyParts, dict[str, str] | None]:
    """Check settings as far as possible without training and without a store, and load the plug-ins.

    Parameters
    ----------
    config
        The settings. Without spaces, those that suit are taken.
    objects
        Classes and objects among the spaces, by name.

    Returns
    -------
    parts
        With all open settings resolved.
    left_out
        By name, the reasons why installed spaces are not among the default; None if the settings name spaces.

    Raises
    ------
    UserError
        For a user's mistake; PluginError for any exception of a plug-in.
    """
    config = canonical(config, objects)
    if not config.ray:
        check_device(config.device)
    strategy = load_plugin("nas.strategies", config.strategy)
    if not (isinstance(strategy, type) and issubclass(strategy, Strategy)):
        raise PluginError(f"A strategy must be a subclass of nas.strategies.contract.Strategy. Got {strategy!r}.")
    if config.training_rule:
        load_rule(parse_rule(config.training_rule))
    spaces = load_spaces(config.spaces, objects)  # before the data, so that a wrong name is noticed at once
    evaluator = evaluator_of(config)
    if (config.final_search or config.max_latency_ms) and not evaluator.selects:
        raise UserError(
            "--final-search and --max-latency-ms need an evaluator that runs the final search. "
            f"{config.evaluator!r} does not: use the evaluator 'training', or leave them out."
        )
    info = _info(config, evaluator)
    if config.images is not None and config.images < info.task.num_classes:
        raise UserError(
            f"--images must have room for one image of each of {info.task.num_classes} classes. Got {config.images}."
        )
    info.check_settings(metric=config.metric, sampling=config.sampling)
    free_epochs = evaluator.full_epochs() if evaluator.free else None
    config = config.resolved(info.train_images, classes=info.task.num_classes, free_epochs=free_epochs)
    left_out = None
    if not spaces:
        spaces, left_out = default_spaces(config, info.task)
        config = replace(config, spaces=tuple(spaces))
    screener = screener_of(config, info.task, spaces)
    parts = StudyParts(config=config, strategy=strategy, evaluator=evaluator, info=info, screener=screener)
    return parts, left_out


def evaluator_of(config: Config) -> Evaluator:
    """A new evaluator with the settings of a study. On Ray, only the nodes need its device."""
    settings = config.evaluator_settings() | ({"device": "cpu"} if config.ray else {})
    return load_evaluator(config.evaluator, config.data, settings)


def _info(config: Config, evaluator: Evaluator) -> DataInfo:
    try:
        return evaluator.info()
    except UserError:
        raise
    except Exception as error:  # any exception of a plug-in
        raise PluginError(
            f"The evaluator {config.evaluator!r} must describe its data. It raised {type(error).__name__}: {error}"
        ) from error


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
            named = option("space" if name == "spaces" else name)
            options.append(f"{named} {_as_typed(old)} (now {_as_typed(new)})")
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


def worker_call(config: Config, info: DataInfo) -> EvaluatorCall:
    """The evaluator in the workers, which must find the same data.

    The device "auto" is the one of this process, so that a worker that has lost it does not train on the CPU unnoticed.
    """
    settings = config.evaluator_settings()
    if config.device == "auto" and not config.ray:
        import torch

        if torch.cuda.is_available():
            settings["device"] = "cuda"
    return EvaluatorCall(
        evaluator=config.evaluator, data=config.data, settings=settings, identity=DataIdentity.of(info)
    )


def default_workers(config: Config) -> int:
    """Trainings side by side: one on each GPU; 1 on another accelerator; available cores / threads of a training."""
    if gpus := visible_gpus(config.device):
        return len(gpus)
    if config.device not in ("auto", "cpu"):
        return 1
    return max(1, usable_cores() // config.least_threads)


def canonical(config: Config, objects: Mapping[str, SearchSpace]) -> Config:
    """The settings in the form that the store keeps: absolute paths, which a resume from another folder finds."""
    return replace(
        config,
        spaces=tuple(s if s in objects else canonical_spec("nas.search_spaces", s) for s in config.spaces),
        strategy=canonical_spec("nas.strategies", config.strategy),
        proxy=canonical_spec("nas.proxies", config.proxy),
        evaluator=absolute_evaluator(config.evaluator),
        data=absolute_data(config.data),
        hierarchy=config.hierarchy and str(absolute(config.hierarchy)),
        files=config.files and _files_place(config.files),
        enqueue=config.enqueue and as_texts(config.enqueue),
        metric=None if config.metric == "accuracy" else config.metric,  # studies of earlier versions have none
        sampling=None if config.sampling == "all" else config.sampling,
    )


def _files_place(text: str) -> str:
    """The absolute path or the URL of the studies' folders. Raises UserError if workers cannot reach it."""
    found = place(text)
    if str(found).startswith("memory://"):
        raise UserError(f"--files must be a place that other processes reach. Got {text}: use a folder or s3://.")
    return str(found.resolve())
