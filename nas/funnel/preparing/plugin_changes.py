"""The plug-ins of a study stay the same: their versions, and the networks that the spaces build, are compared.

Settings hold, under ``_plugins``, for each plug-in the versions that the study has used, the last one at the end.
Candidates from before an accepted change are not built again: ``_built_from`` is the id of the first one after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nas.config import Config
from nas.errors import PluginError
from nas.evaluation.loading import split_evaluator
from nas.evaluation.rule import parse_rule
from nas.plugins import identity, installed
from nas.plugins.code import Plugin
from nas.screening.proposals import Proposal
from nas.screening.screener import Screener
from nas.spaces.choices import replay

SETTING = "_plugins"
"""Name of the setting in the store."""
BUILT_FROM = "_built_from"
"""Name of the setting with the id of the first candidate that was built by the present spaces."""
REPLAYED = 8
"""Stored proposals of each space whose networks are built again when a study is continued."""

Versions = dict[str, list[str]]
"""By group and spec in one text: the versions that a study has used."""


def named_plugins(config: Config, objects: Iterable[str] = ()) -> list[Plugin]:
    """The plug-ins that the settings name.

    Parameters
    ----------
    config
        With absolute paths.
    objects
        Names of spaces that are no plug-ins.
    """
    plugins = [("nas.search_spaces", space) for space in config.spaces if space not in objects]
    plugins += [
        ("nas.strategies", config.strategy),
        ("nas.proxies", config.proxy),
        ("nas.evaluators", split_evaluator(config.evaluator)[0]),
    ]
    if config.training_rule:
        plugins.append(("nas.training_rules", parse_rule(config.training_rule).rule))
    kind, _, _ = config.data.partition(":")
    if kind.endswith(".py"):
        plugins.append(("nas.data", config.data))
    elif kind in installed("nas.data"):
        plugins.append(("nas.data", kind))
    return plugins


def versions(plugins: Iterable[Plugin], earlier: Mapping[str, Sequence[str]]) -> Versions:
    """The versions of plug-ins after earlier ones, for the store."""
    known: Versions = {name: list(used) for name, used in earlier.items()}
    for group, spec in sorted(plugins):
        used = known.setdefault(f"{group} {spec}", [])
        current = identity(group, spec)
        if used[-1:] != [current]:
            used.append(current)
    return known


def changed_plugins(stored: Mapping[str, Any], plugins: Iterable[Plugin] | None = None) -> list[str]:
    """Sentences on the plug-ins that have changed since a study was started.

    Parameters
    ----------
    stored
        The settings of the study.
    plugins
        The plug-ins to compare; None: all that the study has used.
    """
    wanted = None if plugins is None else {f"{group} {spec}" for group, spec in plugins}
    sentences = []
    for name, used in stored.get(SETTING, {}).items():
        if wanted is not None and name not in wanted:
            continue
        group, _, spec = name.partition(" ")
        try:
            current = identity(group, spec)
        except PluginError as error:
            sentences.append(f"{spec} was {_shown(used[-1])}. {error}")
            continue
        if current != used[-1]:
            sentences.append(f"{spec} was {_shown(used[-1])} and is {_shown(current)}.")
    return sentences


def check_unchanged(stored: Mapping[str, Any], command: str, plugins: Iterable[Plugin] | None = None) -> None:
    """Raise PluginError if a plug-in of a study has changed.

    Parameters
    ----------
    stored, plugins
        As for :func:`changed_plugins`.
    command
        Continues with the present plug-ins.
    """
    if sentences := changed_plugins(stored, plugins):
        raise PluginError(
            f"The plug-ins of a study stay the same. {' '.join(sentences)} Restore them, or use the present ones: "
            f"{command}"
        )


def check_same_networks(screener: Screener, stored: Iterable[Mapping[str, Any]], command: str) -> None:
    """Build the networks of stored proposals again. Raises PluginError if one has another key.

    Parameters
    ----------
    screener
        With the constraints and options of the study.
    stored
        Proposals that were chosen for training: key, space, choices.
    command
        Continues with the present spaces.
    """
    for row in stored:
        try:
            proposal = screener.propose(replay(row["choices"]))
        except PluginError as error:
            result = str(error)
        else:
            if isinstance(proposal, Proposal) and proposal.key == row["key"]:
                continue
            result = f"Got {proposal.key}." if isinstance(proposal, Proposal) else f"Got a rejection: {proposal.reason}"
        raise PluginError(
            f"The space {row['space']!r} of a study must build the same network from the same choices, {row['key']}. "
            f"{result} Restore the space, or use the present one: {command}"
        )


def _shown(version: str) -> str:
    """A version for a message: hashes have 12 digits."""
    return " ".join(word[:12] if len(word) == 64 else word for word in version.split())
