"""The masked pass of throttleable networks: all components run, and gates mask them for each sample.

It trains the subnetworks that :meth:`nas.AnytimeNetwork.set_utilization` executes: the samples of a batch have
different components on, and gates may carry gradients. A gate multiplies the input of a reader after the steps
that precede its operation; if a map is off as a whole, the gate multiplies the output of the operation, so that not
even the shift of a norm is added. In training, the batch statistics of norms include all samples.

Shapes: N examples, C channels of a map, n components of a module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.errors import UserError
from nas.execution.layers import Layer, NormMode, merge, over_positions
from nas.execution.plan import Plan, Route, Step
from nas.representation.gates import gated_maps
from nas.representation.kinds import kind
from nas.representation.topology import Topology


def nested_gates(topology: Topology, utilization_N: Tensor) -> list[Tensor]:
    """Nested gates, (N, n) for each module, at a utilization for each sample, (N,): the first components are on.

    In single precision, a utilization reaches a threshold of which it is the nearest value, such as 0.7 = 7/10.
    """
    thresholds = (torch.tensor(module.thresholds, dtype=utilization_N.dtype) for module in topology.gated)
    return [(utilization_N[:, None] >= each.to(utilization_N.device)).float() for each in thresholds]


class GatedPass:
    """Executes all operations of a topology under gates.

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
        """The value of the output map. gates: (N, n) for each module."""
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
        """Whether an operation connects each slice of a map only with the same slice of a map in the same module.

        The gate of such a slice need not mask the input: the slice is off in the target as well.
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
        """Replace the scale of utilization 1, which the step has applied, by the scale for the components on, (N,)."""
        if self.topology.maps[step.target].scale == "none" or on_N is None:
            return value
        of = len(step.inputs) if step.concat else len(self.switches[step.target].of_slices)
        return value * over_positions(of / on_N.clamp(min=1)[:, None], value)

    def _check(self, gates: Sequence[Tensor], samples: int) -> None:
        expected = [(samples, len(module.components)) for module in self.topology.gated]
        shapes = [tuple(gate.shape) for gate in gates]
        if not expected:
            raise UserError("Gates need a network with gated modules, for example of the space 'throttleable'.")
        if shapes != expected:
            raise UserError(f"Gates must have shape (samples, components) per module: {expected}. Got {shapes}.")


@dataclass(frozen=True, slots=True)
class _Switch:
    """The link between a map and its module.

    of_slices, of_channels: component of each slice, (slices,), and of each channel, (C,). certain: part of the map is
    on at every utilization.
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
    """The maps computed so far; None stands for ones.

    values: of all channels, on or off. arrives: whether an input of the map is on, (N,). on: whether the map is on,
    (N,): an input is on, and a gate of the map too. masks: channels that a sample may read, (N, C), of maps whose
    channels are switched separately.
    """

    values: dict[int, Tensor]
    arrives: dict[int, Tensor | None]
    on: dict[int, Tensor | None]
    masks: dict[int, Tensor | None]

    def read(self, layer: Layer, route: Route, source: int, mode: NormMode, inside: bool) -> Tensor:
        """The output of an operation: zero for the samples whose source is off."""
        mask, on = (None, self.arrives[source]) if inside else (self.masks[source], self.on[source])
        out = layer(self.values[source], route, mode, mask)
        if on is None or (mask is not None and not layer.shifts):
            return out
        return out * over_positions(on[:, None], out)

    def join(self, target: int, sources: Sequence[int]) -> Tensor:
        """Record a concat, whose sources are on or off independently. Returns the number of sources on, (N,)."""
        self.arrives[target] = self.on[target] = _any([self.on[s] for s in sources])
        self.masks[target] = None
        if any(self.masks[s] is not None or self.on[s] is not None for s in sources):
            self.masks[target] = torch.cat([self._mask(s) for s in sources], dim=1)
        return torch.stack([self._is_on(s) for s in sources]).sum(0)

    def switch(
        self, target: int, sources: Sequence[tuple[int, bool]], switch: _Switch | None, gates: Sequence[Tensor]
    ) -> Tensor | None:
        """Record a sum: on if an input is on and, if the map is gated, a gate too.

        sources: with whether they connect slice to slice. Returns the number of slices on, (N,), if the map is gated.
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
        return self._is_on(index)[:, None].expand(-1, self.values[index].shape[1]) if mask is None else mask

    def _is_on(self, index: int) -> Tensor:
        on = self.on[index]
        return self.values[0].new_ones(len(self.values[0])) if on is None else on


def _any(flags: Sequence[Tensor | None]) -> Tensor | None:
    """Logical or of flags, (N,); None (ones) if one of them is None."""
    tensors = [flag for flag in flags if flag is not None]
    return torch.stack(tensors).amax(0) if len(tensors) == len(flags) else None
