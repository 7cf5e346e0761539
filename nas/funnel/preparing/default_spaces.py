"""The spaces of a search without ``--space``: all installed spaces that suit the task and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nas.config import Config
from nas.errors import EnvironmentFault, UserError
from nas.funnel.preparing.stored_defaults import LEFT_OUT
from nas.plugins import installed
from nas.representation.elements import Task
from nas.screening.budgets import why_unsuitable
from nas.screening.screener import screener_of
from nas.spaces.contract import SearchSpace
from nas.spaces.loading import load_spaces


def with_stored_spaces(config: Config, stored: Mapping[str, Any]) -> Config:
    """The settings with the spaces of a study that began with the default, if none are named.

    The study keeps its spaces, whatever is installed now.

    Parameters
    ----------
    config
        Of the search.
    stored
        The settings of the study in the store; empty for a new study.
    """
    if config.spaces or LEFT_OUT not in stored:
        return config
    return replace(config, spaces=tuple(stored["spaces"]))


def default_spaces(config: Config, task: Task) -> tuple[dict[str, SearchSpace], dict[str, str]]:
    """The installed spaces that suit a task and the settings, except those that are searched by name only.

    Parameters
    ----------
    config
        The settings.
    task
        Of the data.

    Returns
    -------
    spaces
        By name.
    left_out
        By name, the reasons why the other spaces do not suit.

    Raises
    ------
    UserError
        If none suits.
    """
    spaces: dict[str, SearchSpace] = {}
    errors: dict[str, UserError] = {}
    screener_of(config, task, {})  # a mistake in the settings is no fault of a space
    for name in installed("nas.search_spaces"):
        try:
            space = load_spaces([name], {})[name]
            if getattr(space, "by_name_only", False):
                continue
            if reason := why_unsuitable(screener_of(config, task, {name: space}), name, config.seed):
                raise UserError(reason)
        except EnvironmentFault:
            raise
        except UserError as error:
            errors[name] = error
        else:
            spaces[name] = space
    if not spaces:
        reasons = " ".join(f"{name}: {error}" for name, error in errors.items())
        raise UserError(
            f"A search needs a space that suits {task} and the settings. Got none of the installed ones. {reasons} "
            "Name a space with --space, or change the settings."
        )
    return spaces, {name: " ".join(str(error).split()) for name, error in errors.items()}
