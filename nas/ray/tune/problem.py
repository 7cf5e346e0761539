"""The problem that trials of Ray Tune share: data, spaces, limits and training, with the names of the settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nas.config import OF_EVALUATOR, Config, settings_of
from nas.errors import UserError, unknown_name
from nas.evaluation.data_identity import DataIdentity, check_repeatable
from nas.funnel.preparing.plugin_changes import named_plugins
from nas.funnel.preparing.preparation import canonical, evaluator_of, prepared
from nas.plugins import trust_named
from nas.plugins.code import Code, code_of
from nas.representation.elements import Task
from nas.screening.budgets import budget_range
from nas.screening.screener import Screener, screener_of
from nas.spaces.contract import SearchSpace
from nas.spaces.loading import Spaces, load_spaces, named_spaces
from nas.strategies.contract import Strategy
from results.front import Score

TRAINING = (
    *("max_macs", "max_params", "low", "points", "evaluator", "rule", "epochs", "images", "seed"),
    *OF_EVALUATOR,
)
"""Settings of a trial: networks, data and training."""
PROPOSING = ("strategy", "proxy", "pool", "generation")
"""Settings of the searcher."""
SETTINGS, SPACES, CODE, CHOICES = "settings", "spaces", "code", "choices"
"""Keys of the configuration of a trial: plain values, objects among the spaces, the user's code, and the choices."""


@dataclass(frozen=True, slots=True)
class SentCode:
    """The files of plug-ins for nodes that lack them. Loggers show the number of files."""

    code: Code = field(repr=False)
    files: int

    def install(self) -> None:
        """Use the files on this node."""
        self.code.install()


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Checked settings, and their consequences before any training.

    config: resolved. objects: classes and objects among the spaces, by name. score: the anytime accuracy. code: of the
    plug-ins that are not installed.
    """

    config: Config
    strategy: type[Strategy]
    objects: Mapping[str, SearchSpace]
    task: Task
    score: Score
    identity: DataIdentity
    code: Code

    def screener(self) -> Screener:
        """A new screener, with the limits of the problem."""
        screener = screener_of(self.config, self.task, load_spaces(self.config.spaces, self.objects))
        screener.constraints = replace(screener.constraints, low=self.score.low)
        return screener

    def trial_settings(self) -> dict[str, Any]:
        """The parts of a trial's configuration that all trials share."""
        config = self.config
        values: dict[str, Any] = {"data": config.data, "spaces": list(config.spaces)}
        values |= {name: getattr(config, name) for name in TRAINING if name not in ("max_macs", "max_params", "low")}
        values |= {"low": self.score.low, "high": self.score.high, "floor": self.score.floor}
        values["data_fingerprint"] = self.identity.fingerprint
        shared: dict[str, Any] = {SETTINGS: {name: value for name, value in values.items() if value is not None}}
        if self.objects:
            shared[SPACES] = dict(self.objects)
        if self.code != Code():
            shared[CODE] = SentCode(self.code, len(self.code.plugins) + len(self.code.modules))
        return shared


def problem_of(data: str, space: Spaces, settings: Mapping[str, Any], valid: Iterable[str]) -> Problem:
    """Check settings, load data and spaces, and measure the range of budgets.

    Parameters
    ----------
    data
        Data specification.
    space
        As for :func:`nas.search`.
    settings
        By name.
    valid
        Names of settings that are accepted.

    Raises
    ------
    UserError
        For a user's mistake.
    """
    valid = set(valid)
    for name in settings:
        if name not in valid:
            raise UserError(_unknown(name, valid))
    if not isinstance(data, str):
        raise UserError(
            f"data must be a specification, because the workers load it, such as npz:FILE. Got {type(data).__name__}."
        )
    names, objects = named_spaces(space)
    config = canonical(Config(study="tune", spaces=names, data=data, **settings), objects)
    trust_named(*(spec for _, spec in named_plugins(config, objects)))
    parts, _ = prepared(config, objects)
    if parts.config.free:
        raise UserError(
            f"Trials of Ray Tune train epoch by epoch. Got the evaluator {config.evaluator!r}, whose trainings are "
            "free: use nas.search, which trains in full at once."
        )
    measured = budget_range(parts.screener, config.seed)
    check_repeatable(lambda: evaluator_of(config), config.data, parts.info)
    return Problem(
        config=parts.config,
        strategy=parts.strategy,
        objects=objects,
        task=parts.info.task,
        score=Score(
            low=measured.low.macs, high=measured.high.macs, floor=parts.info.floor, metric=parts.info.task.metric
        ),
        identity=DataIdentity.of(parts.info),
        code=code_of({*named_plugins(parts.config, objects), *parts.screener.plugins}),
    )


def _unknown(name: str, valid: Iterable[str]) -> str:
    """The message for a setting that trials do not have; of those that Tune has, where Tune has them."""
    if name in (each.name for each in settings_of(Config)):
        return (
            f"Inside Ray Tune, {name} is not a setting of nas: limits, workers and resources belong to tune.TuneConfig "
            "and tune.RunConfig, and full training follows with the network. Leave it out."
        )
    return unknown_name("setting", name, valid)
