"""Trained networks with the evaluator of their study: the starting point of final searches and controllers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.config import Config
from nas.errors import UserError
from nas.evaluation.data_identity import DataIdentity, checked_evaluator
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.loading import absolute_data, load_evaluator, trust_data
from nas.execution.loading import is_folder
from nas.execution.network import AnytimeNetwork
from nas.funnel.preparing.plugin_changes import check_unchanged, named_plugins
from nas.plugins import trust_named
from nas.representation.architecture import Architecture
from results.measures import METRICS
from results.reading.stored_networks import StoredNetwork
from results.store import Store

OF_DATA = ("layout", "hierarchy", "validation")
"""Settings of training that change the data or their split."""


def network_and_evaluator(
    network: str | Path | AnytimeNetwork,
    *,
    data: str | None,
    hierarchy: str | None = None,
    study: str | None = None,
    store: Store,
    device: str,
    threads: int,
    accept_plugin_change: bool = False,
) -> tuple[AnytimeNetwork, Evaluator, StoredNetwork | None]:
    """Load a trained network with the evaluator of its study; outside of a store, with the default evaluator.

    Parameters
    ----------
    network
        A key in the store, a folder, or a network.
    data, hierarchy
        None: the settings of the study.
    study
        Study of a key; needed if several studies trained it.
    store
        The results store.
    device, threads
        Of the evaluator.
    accept_plugin_change
        Use the evaluator and the data although their plug-ins have changed since the study.

    Returns
    -------
    network
        In evaluation mode if loaded.
    evaluator
        For data of the network's task.
    origin
        The network in the store; None if it is not from the store.

    Raises
    ------
    UserError
        For data of another task, or a network without data; PluginError for a plug-in that has changed, or without your
        consent to run its file; EnvironmentFault for data of the study that have changed.
    results.StoreError
        If the store contains no such network.
    """
    if not isinstance(network, str | Path | AnytimeNetwork):
        raise UserError(f"network must be a key, a folder or a network. Got {network!r}.")
    if data is not None:
        trust_data(data)
    if isinstance(network, AnytimeNetwork) or is_folder(network, study):
        if isinstance(network, AnytimeNetwork) and study is not None:
            raise UserError(f"Only a key has a study. Got a network and {study=}.")
        if data is None:
            raise UserError("A network that is not from the store has no data: name them with --data.")
        origin = None
        loaded = network if isinstance(network, AnytimeNetwork) else AnytimeNetwork.load(network)
        metric = loaded.architecture.task.metric
        config = Config(
            data=absolute_data(data),
            hierarchy=hierarchy,
            metric=metric if metric in METRICS else None,
            device=device,
            threads=threads,
        )
        evaluator = local_evaluator(config)
    else:
        origin = store.find_network(str(network), study)
        loaded = AnytimeNetwork.load(origin.weights)
        changes = {"data": data and absolute_data(data), "hierarchy": hierarchy, "device": device, "threads": threads}
        _, evaluator = evaluator_of_study(store, origin.study, changes, accept_plugin_change=accept_plugin_change)
    check_task(loaded.architecture, evaluator)
    return loaded, evaluator, origin


def evaluator_of_study(
    store: Store, study: str, changes: Mapping[str, Any], *, accept_plugin_change: bool
) -> tuple[Config, Evaluator]:
    """The settings of a study and its evaluator.

    Parameters
    ----------
    store
        The results store.
    study
        Name of the study.
    changes
        Settings in place of the study's; None: the study's. Unless they name other data, the data are compared with the
        study's.
    accept_plugin_change
        Use the evaluator and the data although their plug-ins have changed since the study.

    Raises
    ------
    PluginError
        For a plug-in that has changed, or without your consent to run its file.
    EnvironmentFault
        For data of the study that have changed.
    """
    stored = store.settings(study)
    settings = {**stored, **{name: value for name, value in changes.items() if value is not None}}
    config = Config.from_stored(study, settings)
    _check_plugins(config, settings, accept_changes=accept_plugin_change)

    if changes.get("data") is not None:
        return config, local_evaluator(config)
    of_study = replace(config, **{name: getattr(Config.from_stored(study, stored), name) for name in OF_DATA})
    evaluator, _ = checked_evaluator(
        lambda: local_evaluator(of_study), of_study.data, DataIdentity.from_settings(stored)
    )
    return config, evaluator if of_study == config else local_evaluator(config)


def local_evaluator(config: Config) -> Evaluator:
    """The evaluator that the settings name, on this machine."""
    return load_evaluator(config.evaluator, config.data, config.evaluator_settings())


def check_task(architecture: Architecture, evaluator: Evaluator) -> None:
    """Raise UserError unless the data of an evaluator are of an architecture's task."""
    if (task := evaluator.info().task) != architecture.task:
        raise UserError(f"The data must be of the network's task, {architecture.task}. Got {task}.")


def _check_plugins(config: Config, stored: Mapping[str, Any], *, accept_changes: bool) -> None:
    """Compare the evaluator and the data with the study's. Raises PluginError for a change that is not accepted."""
    plugins = [(group, spec) for group, spec in named_plugins(config) if group in ("nas.evaluators", "nas.data")]
    if accept_changes:
        trust_named(*(spec for _, spec in plugins))
    else:
        check_unchanged(stored, "--accept-plugin-change", plugins)
