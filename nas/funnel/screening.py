"""The untrained end of the funnel: propose, check, dedupe, cost, score, shortlist. Nothing here needs torch."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nas.config import Config
from nas.errors import InvalidArchitecture, PluginError, Unsatisfiable, UserError
from nas.plugins import canonical_spec, load_plugin
from nas.proxies.contract import Proxy, evaluate, load_proxy
from nas.representation.architecture import Architecture, macs, params
from nas.representation.elements import Setting, Task, TrainingSpec
from nas.seeds import seed
from nas.spaces.choices import Decide, Domains, Options, Primitive, Recorder, at_random, mutate
from nas.spaces.contract import SearchSpace
from nas.strategies.contract import Strategy, Trial

RE_ASKS = 20
GIVE_UP_AFTER = 3  # places in a row for which neither asking again nor mutating found anything new
BROKEN_AFTER = 20  # failures of a plug-in that has never worked
REMEMBERED = 50_000  # keys of a pool that are compared: memory stays flat, later repeats cost a little time
BOUNDS_SAMPLE = 512
BOUNDS_ATTEMPTS = 24 * BOUNDS_SAMPLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A feasible candidate. macs: of every level. score: what orders the training.

    alone: whether the score orders by itself, as a strategy's does; a proxy's does together with the MACs.
    """

    space: str
    choices: Mapping[str, Primitive]
    architecture: Architecture
    key: str
    macs: tuple[int, ...]
    score: float
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A proposal that will not be trained. status: "invalid", "infeasible", "duplicate", "outranked" or "failed"."""

    space: str
    choices: Mapping[str, Primitive]
    status: str
    reason: str
    key: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What a candidate must keep, in MACs and parameters: limits on the largest point, and on the smallest (low).

    other_points: what needs subnetworks that are no operating points, if anything does: a latency limit, a rule.
    """

    max_macs: float | None = None
    max_params: float | None = None
    low: float | None = None
    other_points: str | None = None

    def broken(self, architecture: Architecture, costs: Sequence[int]) -> str | None:
        """The constraint that the architecture breaks, as a reason; None when it keeps all."""
        if self.max_macs is not None and costs[-1] > self.max_macs:
            return f"The largest point has {costs[-1]:,} MACs, above --max-macs {self.max_macs:,.0f}."
        if self.low is not None and costs[0] > self.low:
            return f"The smallest point has {costs[0]:,} MACs, above the lowest budget {self.low:,.0f}."
        if self.max_params is not None and (size := params(architecture)[-1]) > self.max_params:
            return f"The largest point has {size:,} parameters, above --max-params {self.max_params:,.0f}."
        if self.other_points and architecture.norm == "per_point":
            return f"Its points have norms of their own, so there are no others, which {self.other_points} needs."
        return None


class Funnel:
    """Turns decisions into proposals: builds, checks, costs and scores them.

    spaces: by name. domains: the options of every choice of the study so far. Choices are named ``space/name``; with
    several spaces, the choice ``space`` comes first.
    """

    def __init__(
        self,
        spaces: Mapping[str, SearchSpace],
        task: Task,
        *,
        points: int = 4,
        proxy: tuple[str, Proxy],
        constraints: Constraints = Constraints(),
        domains: Domains | None = None,
        training: TrainingSpec | None = None,
    ):
        self.spaces, self.task, self.points = dict(spaces), task, points
        self.proxy_name, self.proxy = proxy
        self.constraints, self.training = constraints, training
        self.domains = domains or Domains()
        self._names = tuple(self.spaces)
        self._rules: set[str] = set()
        self._works: set[str] = set()  # plug-ins that have served a proposal
        self._failures = 0  # of those that have not

    def propose(self, decide: Decide, space: str | None = None) -> Proposal | Rejected:
        """The proposal that these decisions describe, in a given space or one that is itself decided.

        Raises PluginError when a space changes its options, or when it or the proxy fails on everything; other failures
        are rejections with their traceback. UserErrors of the space, which say that it cannot serve the task, pass.
        """
        recorder = Recorder(decide, self.domains)
        if space is None:
            space = recorder("space", self._names) if len(self._names) > 1 else self._names[0]
        assert space is not None
        prefix = space + "/"
        about: dict[str, Any] = {"space": space, "choices": recorder.choices}
        try:
            architecture = self._checked(
                self.spaces[space].architecture(lambda n, o: recorder(prefix + n, o), self.task, points=self.points)
            )
            costs = macs(architecture)
            broken = self.constraints.broken(architecture, costs)
        except InvalidArchitecture as error:
            return Rejected(status="invalid", reason=str(error), **about)
        except UserError:
            raise
        except Exception as error:  # a bug in a plug-in is that proposal's failure, unless it never works
            return self._failed(f"space {space!r}", error, about)
        self._works.add(f"space {space!r}")
        if broken:
            return Rejected(status="infeasible", reason=broken, **about)
        try:
            score = evaluate(architecture, {self.proxy_name: self.proxy})[self.proxy_name]
        except PluginError as error:
            return self._failed(f"proxy {self.proxy_name!r}", error, about)
        self._works.add(f"proxy {self.proxy_name!r}")
        return Proposal(architecture=architecture, key=architecture.key, macs=costs, score=score, **about)

    def _checked(self, architecture: Any) -> Architecture:
        if not isinstance(architecture, Architecture):
            raise TypeError(f"A space must return an Architecture. Got {type(architecture).__name__}.")
        if len(architecture.points) != self.points:
            raise ValueError(
                f"The architecture must have {self.points} operating points. Got {len(architecture.points)}."
            )
        if architecture.task != self.task:
            raise ValueError(
                f"The architecture must be for the task it was asked for, {self.task}. Got {architecture.task}."
            )
        if self.training is not None:
            architecture = replace(architecture, training=_instead(architecture.training, self.training))
        if (rule := architecture.training.rule) not in self._rules:
            canonical_spec("nas.training_rules", rule)  # raises where there is none
            self._rules.add(rule)
        return architecture.canonical

    def _failed(self, plugin: str, error: Exception, about: dict[str, Any]) -> Rejected:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if plugin not in self._works:
            self._failures += 1
        if self._failures >= BROKEN_AFTER:
            raise PluginError(
                f"The {plugin} failed on {self._failures} proposals, on all it was asked for, the last with {reason}"
            ) from error
        return Rejected(status="failed", reason=reason, traceback=traceback.format_exc(), **about)

    def pool(
        self, strategy: Strategy, size: int, *, known: set[str], rng: np.random.Generator
    ) -> Iterator[Proposal | Rejected]:
        """Proposals of a strategy, feasible or rejected, about ``size`` of them without duplicates.

        A duplicate (of a key in ``known``, or earlier in this pool) is asked again, then mutated, ``RE_ASKS`` times
        each; the pool ends early when that finds nothing new several times in a row: the space is all but exhausted.
        Where nothing is feasible, new or known, it goes on as long as for the range of budgets.
        """
        recent: dict[str, None] = {}
        missed, feasible = 0, False
        for place in range(max(size, BOUNDS_ATTEMPTS)):
            if place >= size and feasible:
                return
            found = False
            for proposal in self._until_new(strategy, rng, known, recent):
                found = not (isinstance(proposal, Rejected) and proposal.status == "duplicate")
                feasible = feasible or not found or isinstance(proposal, Proposal)
                yield proposal
            missed = 0 if found else missed + 1
            if missed == GIVE_UP_AFTER:
                return

    def _until_new(
        self, strategy: Strategy, rng: np.random.Generator, known: set[str], recent: dict[str, None]
    ) -> Iterator[Proposal | Rejected]:
        """Proposals up to the first that is no duplicate, or until tries are used up."""
        last: Mapping[str, Primitive] = {}
        for attempt in range(2 * RE_ASKS):
            proposal = self.propose(asked(strategy) if attempt < RE_ASKS else mutate(last, rng, self.domains))
            if isinstance(proposal, Rejected):
                yield proposal
                return
            if proposal.key not in known and proposal.key not in recent:
                recent[proposal.key] = None
                if len(recent) > REMEMBERED:
                    del recent[next(iter(recent))]
                yield proposal
                return
            last = proposal.choices
            yield duplicate(proposal)


def made(strategy: type[Strategy], seed: int, history: Sequence[Trial]) -> Strategy:
    """A strategy for one generation; what it raises becomes a PluginError that names it."""
    try:
        return strategy(seed=seed, history=history)
    except UserError:
        raise
    except Exception as error:  # whatever a plug-in raises
        raise _broken(strategy, error) from error


def asked(strategy: Strategy) -> Decide:
    """The decisions of a strategy's next proposal; what it raises becomes a PluginError that names it."""

    def guarded(name: str, options: Options) -> int:
        try:
            return decide(name, options)
        except UserError:
            raise
        except Exception as error:  # whatever a plug-in raises
            raise _broken(type(strategy), error) from error

    try:
        decide = strategy.ask()
    except UserError:
        raise
    except Exception as error:  # whatever a plug-in raises
        raise _broken(type(strategy), error) from error
    return guarded


def scored(strategy: Strategy, proposal: Proposal, *, with_proxy: bool = True) -> Proposal:
    """The proposal with the strategy's score, where it has one. Raises PluginError where that fails or is no number.

    with_proxy: whether the strategy is told the proposal's score by the study's proxy.
    """
    try:
        score = strategy.score(proposal.architecture, proposal.score if with_proxy else None)
        if score is None:
            return proposal
        score = float(score)
    except UserError:
        raise
    except Exception as error:  # whatever a plug-in raises
        raise _broken(type(strategy), error) from error
    if not math.isfinite(score):
        raise PluginError(f"A strategy's score must be finite. Got {score} from {type(strategy).__name__}.")
    return replace(proposal, score=score, alone=True)


def _broken(strategy: type[Strategy], error: Exception) -> PluginError:
    told = f"{type(error).__name__}: {error}"
    return PluginError(f"The strategy {strategy.__name__} must propose something. It raised {told}")


def funnel_of(config: Config, task: Task, spaces: Mapping[str, SearchSpace]) -> Funnel:
    """The funnel of a study's settings."""
    training = training_of(config.rule) if config.rule else None
    needs = None if config.max_latency_ms is None else "--max-latency-ms"
    if training is not None:
        rule = load_plugin("nas.training_rules", training.rule)(**dict(training.settings))
        needs = needs or (f"the rule {training.rule}" if getattr(rule, "samples_subnetworks", False) else None)
    return Funnel(
        spaces,
        task,
        points=config.points,
        proxy=(config.proxy, load_proxy(config.proxy)),
        constraints=Constraints(
            max_macs=config.max_macs,
            max_params=config.max_params,
            low=config.low,
            other_points=needs,
        ),
        training=training,
    )


def training_of(spec: str) -> TrainingSpec:
    """A training rule with settings, as on the command line.

    Raises PluginError for an unknown rule, UserError for what is no setting. The values are checked by the rule.

    >>> training_of("sandwich:sampled=2,soft=true")
    TrainingSpec(rule='sandwich', settings=(('sampled', 2), ('soft', True)))
    """
    name, _, rest = spec.rpartition(":")
    if "=" not in rest:
        name, rest = spec, ""
    settings = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise UserError(f"Settings of a rule must be like sandwich:sampled=2,soft=true. Got {spec!r}.")
        settings[key.strip()] = _value(value.strip())
    return TrainingSpec(rule=canonical_spec("nas.training_rules", name), settings=tuple(sorted(settings.items())))


def _instead(own: TrainingSpec, wanted: TrainingSpec) -> TrainingSpec:
    """What trains in place of a space's own rule: the one that is wanted; where it is the same rule, what the space
    says of it stands where nothing else is wanted.
    """
    if own.rule != wanted.rule:
        return wanted
    return replace(wanted, settings=tuple(sorted((dict(own.settings) | dict(wanted.settings)).items())))


def _value(text: str) -> Setting:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return text if isinstance(value, list | dict) else value


def duplicate(proposal: Proposal) -> Rejected:
    """A proposal of a network that the study has already."""
    return Rejected(
        space=proposal.space,
        choices=proposal.choices,
        status="duplicate",
        reason=f"The same network as {proposal.key}.",
        key=proposal.key,
    )


def outranked(proposal: Proposal, place: int | None = None) -> Rejected:
    """A feasible proposal that others went before."""
    where = "It left the shortlist" if place is None else f"Place {place + 1} in the order of training"
    reason = f"{where}: score {proposal.score:.4g} at {proposal.macs[-1]:,} MACs."
    return Rejected(space=proposal.space, choices=proposal.choices, status="outranked", reason=reason, key=proposal.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The range of budgets of a study in MACs, from random feasible proposals. notes: how low came about, per space."""

    low: float
    high: float
    notes: dict[str, float]


def bounds(funnel: Funnel, study_seed: int) -> Bounds:
    """The default range of budgets: low is the largest, over the spaces, of the median cheapest cost of random feasible
    proposals; high is ``max_macs``, or their largest cost.

    Raises Unsatisfiable when a space has no feasible proposal, with the nearest cost that it reaches.
    """
    medians: dict[str, float] = {}
    largest = 0
    for space in funnel.spaces:
        decide = at_random(np.random.default_rng(seed(study_seed, "bounds", space)))
        feasible, reason = [], ""
        for _ in range(BOUNDS_ATTEMPTS):
            proposal = funnel.propose(decide, space)
            if isinstance(proposal, Proposal):
                feasible.append(proposal.macs[0])
                largest = max(largest, proposal.macs[-1])
                if len(feasible) == BOUNDS_SAMPLE:
                    break
            else:
                reason = proposal.reason
        if not feasible:
            raise Unsatisfiable(_nothing_fits(funnel, space, reason, study_seed))
        medians[space] = float(np.median(feasible))
    constraints = funnel.constraints
    low = constraints.low or max(medians.values())
    high = float(constraints.max_macs or largest)
    if low >= high:
        raise Unsatisfiable(
            f"The range of budgets must not be empty. Got low={low:,.0f} and high={high:,.0f} MACs: "
            "raise --max-macs, or set --low below it."
        )
    return Bounds(low=low, high=high, notes=medians)


def _nothing_fits(funnel: Funnel, space: str, reason: str, study_seed: int) -> str:
    """The message when a space has nothing within the constraints: the nearest that it reaches."""
    free = Funnel(
        {space: funnel.spaces[space]}, funnel.task, points=funnel.points, proxy=(funnel.proxy_name, funnel.proxy)
    )
    decide = at_random(np.random.default_rng(seed(study_seed, "nearest", space)))
    found = [p for p in (free.propose(decide, space) for _ in range(BOUNDS_ATTEMPTS // 4)) if isinstance(p, Proposal)]
    if not found:
        return f"The space {space!r} must offer networks for {funnel.task}. No proposal is one; the last: {reason:.300}"
    small = min(found, key=lambda p: p.macs[-1])
    least = min(params(p.architecture)[-1] for p in found)
    return (
        f"No network of the space {space!r} within the constraints was found. The nearest it reaches: a largest point "
        f"of {small.macs[-1]:,} MACs, or of {least:,} parameters, and a smallest point of "
        f"{min(p.macs[0] for p in found):,} MACs. "
        "Raise --max-macs, --max-params or --low, or leave the space out."
    )
