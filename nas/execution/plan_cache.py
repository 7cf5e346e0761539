"""Caches of a network: plans, which depend on its architecture only, and copies of its weights, which become stale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from nas.execution.layers import Layer
from nas.execution.masked import GatedPass
from nas.execution.plan import Channels, Plan, Step, make_plan
from nas.execution.refinement import Refiner
from nas.execution.refinement_plan import RefinementPlan, plan_refinement
from nas.representation.architecture import Architecture
from nas.representation.elements import Subnetwork
from nas.representation.gates import throttled
from nas.representation.liveness import check_point
from nas.representation.reuse import stable_maps

MAX_PLANS = 1024
"""Plans of subnetworks in the cache: a long training samples an unlimited number of them."""
MAX_COPIES = 16
"""Subnetworks with copies of their weights in the cache, each as large as its share of the network."""


class PlanCache:
    """The plans of an architecture, made on first use. They never become stale: architectures are immutable.

    max_plans: number of plans of subnetworks that are kept; the oldest is discarded first.
    """

    def __init__(self, architecture: Architecture, *, max_plans: int = MAX_PLANS):
        self.architecture, self.max_plans = architecture, max_plans
        self._plans: dict[tuple[Subnetwork, torch.device], Plan] = {}
        self._remainders: dict[tuple[int, torch.device], Remainder] = {}
        self._refinements: dict[torch.device, RefinementPlan] = {}
        self._gated_passes: dict[torch.device, GatedPass] = {}
        self._throttled: dict[tuple[int, ...], Subnetwork] = {}

    def plan(self, point: Subnetwork, device: torch.device) -> Plan:
        """The plan of a subnetwork. Raises InvalidArchitecture for a subnetwork of another topology."""
        plan = self._plans.get((point, device))
        if plan is None:
            topology = self.architecture.topology
            if point not in self.architecture.points:
                check_point(topology, self.architecture.task, point)
            if len(self._plans) >= self.max_plans:
                del self._plans[next(iter(self._plans))]
            plan = self._plans[point, device] = make_plan(topology, point, device)
        return plan

    def remainder(self, level: int, device: torch.device) -> Remainder:
        """The work that remains for a level after a pass at the largest level."""
        if (level, device) not in self._remainders:
            plan, largest = (self.plan(self.architecture.points[k], device) for k in (level, -1))
            self._remainders[level, device] = Remainder.of(plan, largest, self._stable_maps[level])
        return self._remainders[level, device]

    def refinement(self, device: torch.device) -> RefinementPlan:
        """The refinement over all operating points. Raises UserError if results cannot be reused exactly."""
        if device not in self._refinements:
            self._refinements[device] = plan_refinement(self.architecture, device)
        return self._refinements[device]

    def gated_pass(self, device: torch.device) -> GatedPass:
        """The masked pass through all components."""
        if device not in self._gated_passes:
            plan = self.plan(self.architecture.points[-1], device)
            self._gated_passes[device] = GatedPass(self.architecture.topology, plan, device)
        return self._gated_passes[device]

    def throttled(self, utilization: float) -> Subnetwork:
        """The subnetwork of the components that are on at a utilization in [0, 1]."""
        topology = self.architecture.topology
        on = tuple(module.on(utilization) for module in topology.gated)
        if on not in self._throttled:
            self._throttled[on] = throttled(topology, utilization, self.architecture.points[-1])
        return self._throttled[on]

    @cached_property
    def _stable_maps(self) -> tuple[frozenset[int], ...]:
        return stable_maps(self.architecture)


class CopiedWeights:
    """Copies of the weights of a network, cut to subnetworks and with norms folded in, made on first use.

    Changes that torch counts are detected at each use, see :class:`nas.execution.refinement.Refiner`. After changes of
    the statistics of norms, and at every change between training and evaluation mode, call :meth:`discard`.
    """

    def __init__(self, plans: PlanCache, layers: Sequence[Layer]):
        self.plans, self.layers = plans, layers
        self._refiners: dict[torch.device, Refiner] = {}
        self._passes: dict[tuple[Subnetwork, torch.device], Refiner] = {}

    def refiner(self, device: torch.device) -> Refiner:
        """For refinement over all operating points. Raises UserError if results cannot be reused exactly."""
        if device not in self._refiners:
            self._refiners[device] = Refiner(self.plans.refinement(device), self.layers)
        return self._refiners[device]

    def fast_pass(self, point: Subnetwork, row: int, device: torch.device) -> Refiner:
        """For passes at one subnetwork with a row of the norms; kept for the subnetworks used last."""
        refiner = self._passes.pop((point, device), None)
        if refiner is None:
            if len(self._passes) >= MAX_COPIES:
                del self._passes[next(iter(self._passes))]
            architecture = self.plans.architecture
            check_point(architecture.topology, architecture.task, point)
            topology = replace(architecture.topology, gated=())
            plan = plan_refinement(replace(architecture, topology=topology, points=(point,)), device)
            refiner = Refiner(plan, self.layers, row=row)
        self._passes[point, device] = refiner
        return refiner

    def discard(self) -> None:
        """Discard all copies."""
        self._refiners.clear()
        self._passes.clear()


@dataclass(frozen=True, slots=True)
class Remainder:
    """How to continue from a pass at the largest level to a smaller level.

    taken: maps of the pass at the largest level, with the channels to take. steps: the remaining steps. output: map of
    the logits.
    """

    taken: tuple[tuple[int, Channels], ...]
    steps: tuple[Step, ...]
    output: int

    @staticmethod
    def of(plan: Plan, largest: Plan, shared: frozenset[int]) -> Remainder:
        """shared: maps with the same values in both plans."""
        steps = plan.steps_after(shared)
        written = {step.target for step in steps}
        read = {plan.output, *(source for step in steps for _, source, _ in step.inputs)} - written
        taken = tuple((index, plan.channels[index].within(largest.channels[index])) for index in sorted(read))
        return Remainder(taken, steps, plan.output)
