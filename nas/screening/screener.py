"""One proposal: build the architecture, check it, compute its costs, constraints and proxy score."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nas.config import Config
from nas.errors import EnvironmentFault, InvalidArchitecture, PluginError, UserError
from nas.evaluation.faults import Owner, kind_of
from nas.evaluation.rule import parse_rule, replaced
from nas.evaluation.training_rules import ConstructingRule, TrainingRule, check_accepts, load_rule
from nas.plugins import trust_named
from nas.proxies.contract import Proxy, evaluate, load_proxy
from nas.representation.architecture import Architecture, macs
from nas.representation.elements import Task, TrainingSpec
from nas.screening.constraints import UNCONSTRAINED, Constraints
from nas.screening.proposals import Proposal, Rejected
from nas.spaces.choices import Decide, Domains, Recorder
from nas.spaces.contract import SearchSpace

BROKEN_AFTER = 20  # failures of a plug-in that has never worked


class Screener:
    """Turns decisions into proposals.

    Parameters
    ----------
    spaces
        Search spaces by name. Choices are named ``space/name``; with several spaces, the choice ``space`` comes first.
    task
        Of the data.
    points
        Operating points of every architecture.
    proxy
        Name and function of the proxy that scores the proposals.
    constraints
        Limits on the costs.
    domains
        Options of every choice of the study so far.
    training
        Replaces the training rule of the spaces.
    """

    def __init__(
        self,
        spaces: Mapping[str, SearchSpace],
        task: Task,
        *,
        points: int = 4,
        proxy: tuple[str, Proxy],
        constraints: Constraints = UNCONSTRAINED,
        domains: Domains | None = None,
        training: TrainingSpec | None = None,
    ):
        self.spaces, self.task, self.points = dict(spaces), task, points
        self.proxy_name, self.proxy = proxy
        self.constraints, self.training = constraints, training
        self.domains = domains or Domains()
        self._names = tuple(self.spaces)
        self.plugins: set[tuple[str, str]] = set()
        """Entry point group and spec of the rules and kinds that the spaces have named."""
        self._rules: dict[TrainingSpec, TrainingRule | ConstructingRule] = {}
        self._working: set[str] = set()  # plug-ins that have served a proposal
        self._failures = 0  # of plug-ins that never worked

    def propose(self, decide: Decide, space: str | None = None) -> Proposal | Rejected:
        """The proposal of these decisions.

        Parameters
        ----------
        decide
            Answers the choices of the space.
        space
            Name of the space; None: one of the choices.

        Raises
        ------
        PluginError
            If a space changes its options, or if the space or the proxy has failed on every proposal so far. Other
            failures are rejections with their traceback.
        UserError
            From the space, if it cannot serve the task.
        """
        recorder = Recorder(decide, self.domains)
        if space is None:
            space = recorder("space", self._names) if len(self._names) > 1 else self._names[0]
        assert space is not None
        prefix = space + "/"
        origin: dict[str, Any] = {"space": space, "choices": recorder.choices}
        try:
            architecture = self._checked(
                self.spaces[space].architecture(lambda n, o: recorder(prefix + n, o), self.task, points=self.points)
            )
            costs = macs(architecture)
            violation = self._violation(architecture, costs)
        except InvalidArchitecture as error:
            return Rejected(status="invalid", reason=str(error), **origin)
        except UserError:
            raise
        except Exception as error:  # a plug-in that worked before has failed on this proposal only
            return self._failed(f"space {space!r}", error, origin)
        self._working.add(f"space {space!r}")
        if violation:
            return Rejected(status="infeasible", reason=violation, **origin)
        try:
            score = evaluate(architecture, {self.proxy_name: self.proxy})[self.proxy_name]
        except PluginError as error:
            return self._failed(f"proxy {self.proxy_name!r}", error, origin)
        self._working.add(f"proxy {self.proxy_name!r}")
        return Proposal(architecture=architecture, key=architecture.key, macs=costs, score=score, **origin)

    def _checked(self, architecture: Any) -> Architecture:
        """The architecture in canonical form, with the study's training rule."""
        if not isinstance(architecture, Architecture):
            raise TypeError(f"A space must return an Architecture. Got {type(architecture).__name__}.")
        if len(architecture.points) != self.points:
            raise ValueError(
                f"The architecture must have {self.points} operating points. Got {len(architecture.points)}."
            )
        if architecture.task != self.task:
            raise ValueError(f"The architecture must be for the requested task, {self.task}. Got {architecture.task}.")
        self._note_plugins(architecture)
        if self.training is not None:
            architecture = replace(architecture, training=replaced(architecture.training, self.training))
        return architecture.canonical

    def _note_plugins(self, architecture: Architecture) -> None:
        """Note the rule and the kinds that a space names. They may run, because its code does."""
        named = {("nas.training_rules", architecture.training.rule)}
        named |= {("nas.kinds", name) for name in {operation.kind for operation in architecture.topology.operations}}
        if new := named - self.plugins:
            trust_named(*(spec for _, spec in new))
            self.plugins |= new

    def _violation(self, architecture: Architecture, costs: Sequence[int]) -> str | None:
        """The reason why the constraints or the training rule reject an architecture; None if they accept it."""
        spec = architecture.training
        if spec not in self._rules:
            self._rules[spec] = load_rule(spec)
        if violation := self.constraints.violation(architecture, costs):
            return violation
        try:
            check_accepts(self._rules[spec], architecture)
        except UserError as error:
            return f"The training rule {spec.rule!r} does not accept it: {error}"
        return None

    def _failed(self, plugin: str, error: Exception, origin: dict[str, Any]) -> Rejected:
        """The rejection after a plug-in raised. Raises PluginError if it never worked.

        Raises EnvironmentFault if the proposal is not to blame.
        """
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        cause = error.__cause__ if isinstance(error, PluginError) else error
        if cause is not None and kind_of(cause).owner is Owner.ENVIRONMENT:
            raise EnvironmentFault(f"The {plugin} failed, and no proposal is to blame: {reason}") from error
        if plugin not in self._working:
            self._failures += 1
        if self._failures >= BROKEN_AFTER:
            raise PluginError(
                f"The {plugin} failed on {self._failures} proposals and worked on none, the last with {reason}"
            ) from error
        return Rejected(status="failed", reason=reason, traceback=traceback.format_exc(), **origin)


def screener_of(config: Config, task: Task, spaces: Mapping[str, SearchSpace]) -> Screener:
    """The screener of a study's settings."""
    training = parse_rule(config.training_rule) if config.training_rule else None
    return Screener(
        spaces,
        task,
        points=config.points,
        proxy=(config.proxy, load_proxy(config.proxy)),
        constraints=Constraints(
            max_macs=config.max_macs,
            max_params=config.max_params,
            low=config.low,
            needs_other_points=None if config.max_latency_ms is None else "--max-latency-ms",
        ),
        training=training,
    )
