"""The masked path of throttleable networks: every component runs, and each sample's gates say what it gets to read.

It trains what :meth:`nas.execution.network.AnytimeNetwork.throttle` runs: samples of one batch differ in what is on,
and gates may carry gradients. A gate acts on what a reader has taken its steps on, or, where a map is off as a whole,
on what an operation writes: what is off adds nothing, not even the shift of a norm. In training, norms see all samples
of a batch.

Shapes: N examples, C channels of a map, n components of a module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nas.errors import UserError
from nas.execution.layers import Layer, NormMode, Route, merge, over_positions
from nas.representation.gates import gated_maps
from nas.representation.kinds import kind

if TYPE_CHECKING:
    from nas.execution.plan import Plan, Step
    from nas.representation.topology import Topology


def nested_gates(topology: Topology, utilization_N: Tensor) -> list[Tensor]:
    """The gates of every module, each (N, n), at a utilization for every sample, (N,): the first components are on."""
    thresholds = (torch.tensor(module.thresholds, dtype=torch.float64) for module in topology.gated)
    return [(utilization_N[:, None] >= each.to(utilization_N.device)).float() for each in thresholds]


class GatedPass:
    """Runs a batch through all operations of a topology under gates.

    plan: of the subnetwork at utilization 1.
    """

    def __init__(self, topology: Topology, plan: Plan, device: torch.device):
        self.topology, self.plan = topology, plan
        self.switches = {
            index: _Switch.of(topology, module, index, device)
            for module, gated in enumerate(topology.gated)
            for index in gated_maps(gated)
        }
        self.inside = frozenset(o for step in plan.steps for o, _, _ in step.inputs if self._is_inside(o))

    def run(self, layers: Sequence[Layer], x: Tensor, gates: Sequence[Tensor], mode: NormMode) -> Tensor:
        """The value of the output map. gates: of every module, (N, n)."""
        self._check(gates, len(x))
        gates = [gate.to(x.dtype) for gate in gates]
        state = _State({0: x}, {0: None}, {0: None}, {0: None})
        for step in self.plan.steps:
            sources = [(source, o in self.inside) for o, source, _ in step.inputs]
            count: Tensor | None
            if step.concat:
                arrived = [state.values[source] for source, _ in sources]
                count = state.join(step.target, [source for source, _ in sources])
            else:
                arrived = [state.read(layers[o], r, source, mode, o in self.inside) for o, source, r in step.inputs]
                count = state.switch(step.target, sources, self.switches.get(step.target), gates)
            state.values[step.target] = self._scaled(merge(arrived, step), step, count)
        return state.values[self.plan.output]

    def _is_inside(self, index: int) -> bool:
        """Whether an operation leads from each slice of a map to that slice of another, with which it is switched.

        What is off does not matter to it: it is off on the other side as well, so that its gate acts once.
        """
        operation = self.topology.operations[index]
        source, target = (self.topology.maps[i] for i in (operation.source, operation.target))
        before, after = self.switches.get(operation.source), self.switches.get(operation.target)
        if before is None or after is None or before.module != after.module:
            return False
        if not torch.equal(before.of_slices, after.of_slices):
            return False
        used = len(before.of_slices)
        read, written = source.slices[:used], target.slices[:used]
        if operation.groups > 1:
            return [n * target.channels for n in read] == [n * source.channels for n in written]
        aligned = not kind(operation.kind).mixing
        return used == 1 or (aligned and (operation.wiring == "causal" or read == written))

    def _scaled(self, value: Tensor, step: Step, on_N: Tensor | None) -> Tensor:
        """With the factor for so many components in place of that for those at utilization 1, which the step has
        applied.
        """
        if self.topology.maps[step.target].scale == "none" or on_N is None:
            return value
        of = len(step.inputs) if step.concat else len(self.switches[step.target].of_slices)
        return value * over_positions(of / on_N.clamp(min=1)[:, None], value)

    def _check(self, gates: Sequence[Tensor], samples: int) -> None:
        wanted = [(samples, len(module.components)) for module in self.topology.gated]
        got = [tuple(gate.shape) for gate in gates]
        if not (wanted and got == wanted):
            raise UserError(
                "There must be gates of shape (samples, components) for every gated module of the network: "
                f"{wanted or 'it has none'}. Got {got}."
            )


@dataclass(frozen=True, slots=True)
class _Switch:
    """How a map follows its module. of_slices, of_channels: the component of each, (slices,) and (C,).

    certain: some of it is on at every utilization.
    """

    module: int
    of_slices: Tensor
    of_channels: Tensor
    certain: bool

    @staticmethod
    def of(topology: Topology, module: int, index: int, device: torch.device) -> _Switch:
        gated = topology.gated[module]
        components = [i for i, maps in enumerate(gated.components) if index in maps]
        of_slices = torch.tensor(components)
        sizes = torch.tensor([size for size, _ in topology.blocks(index)][: len(components)])
        of_channels = of_slices.repeat_interleave(sizes)
        return _Switch(module, of_slices.to(device), of_channels.to(device), components[0] < gated.always)


@dataclass(frozen=True, slots=True)
class _State:
    """What a pass knows of the maps so far; None stands for 1 throughout.

    values: of all channels, whether they are on or not. arrives: whether something is written, (N,). on: whether the
    map is there, (N,): something is written, and a gate of it is on. masks: which channels a sample may read, (N, C),
    of maps whose channels do not all come and go together.
    """

    values: dict[int, Tensor]
    arrives: dict[int, Tensor | None]
    on: dict[int, Tensor | None]
    masks: dict[int, Tensor | None]

    def read(self, layer: Layer, route: Route, source: int, mode: NormMode, inside: bool) -> Tensor:
        """What an operation writes: nothing for the samples whose source is not there."""
        mask, on = (None, self.arrives[source]) if inside else (self.masks[source], self.on[source])
        out = layer(self.values[source], route, mode, mask)
        if on is None or (mask is not None and not layer.shifts):
            return out
        return out * over_positions(on[:, None], out)

    def join(self, target: int, sources: Sequence[int]) -> Tensor:
        """A concat: each part is there or not on its own. Returns how many are, (N,)."""
        self.arrives[target] = self.on[target] = _any([self.on[s] for s in sources])
        self.masks[target] = None
        if any(self.masks[s] is not None or self.on[s] is not None for s in sources):
            self.masks[target] = torch.cat([self._mask(s) for s in sources], dim=1)
        return torch.stack([self._whether(s) for s in sources]).sum(0)

    def switch(
        self, target: int, sources: Sequence[tuple[int, bool]], switch: _Switch | None, gates: Sequence[Tensor]
    ) -> Tensor | None:
        """A sum: there where something arrives and, if it is gated, where its gates say so. Returns how many slices
        are on, (N,), where there are gates.

        sources: with whether they lead here inside of the components.
        """
        arrives = _any([self.arrives[s] if inside else self.on[s] for s, inside in sources])
        self.arrives[target] = self.on[target] = arrives
        self.masks[target] = None
        if switch is None:
            return None
        gate = gates[switch.module].index_select(1, switch.of_slices)
        if len(switch.of_slices) > 1:
            channels = gates[switch.module].index_select(1, switch.of_channels)
            self.masks[target] = channels if arrives is None else channels * arrives[:, None]
        if not switch.certain:
            self.on[target] = gate.amax(1) if arrives is None else gate.amax(1) * arrives
        return gate.sum(1)

    def _mask(self, index: int) -> Tensor:
        mask = self.masks[index]
        return self._whether(index)[:, None].expand(-1, self.values[index].shape[1]) if mask is None else mask

    def _whether(self, index: int) -> Tensor:
        on = self.on[index]
        return self.values[0].new_ones(len(self.values[0])) if on is None else on


def _any(found: Sequence[Tensor | None]) -> Tensor | None:
    known = [each for each in found if each is not None]
    return torch.stack(known).amax(0) if len(known) == len(found) else None
