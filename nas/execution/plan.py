"""From a subnetwork to the steps that run it: plain data, computed once; the network only executes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nas.execution.layers import Channels, Moves, Route
from nas.representation.elements import Subnetwork
from nas.representation.kinds import kind
from nas.representation.topology import Topology
from nas.representation.wiring import active_channels, alignment


@dataclass(frozen=True, slots=True)
class Step:
    """How one feature map comes to its value.

    inputs: (operation, source map, route) of the live operations that write it, in order. A concat stacks them, else
    they are summed; then the activation, then the factor.
    """

    target: int
    concat: bool
    inputs: tuple[tuple[int, int, Route], ...]
    activation: str
    factor: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The live maps of a subnetwork in topological order, their active channels, and the map it is read from."""

    steps: tuple[Step, ...]
    channels: dict[int, Channels]
    output: int

    def until_known(self, known: frozenset[int]) -> tuple[Step, ...]:
        """The steps still to run when the values of some maps are known."""
        needed, steps = {self.output}, []
        for step in reversed(self.steps):
            if step.target in needed and step.target not in known:
                steps.append(step)
                needed.update(source for _, source, _ in step.inputs)
        return tuple(reversed(steps))


def make_plan(topology: Topology, point: Subnetwork, device: torch.device) -> Plan:
    """The plan of a subnetwork that has passed :func:`nas.representation.liveness.check_point`, to be run on a
    device.
    """
    live = set(point.operations)
    channels = {0: Channels(topology.maps[0].channels)}
    steps = []
    for index, feature_map in enumerate(topology.maps):
        incoming = [o for o in topology.incoming[index] if o in live]
        if not incoming:
            continue
        channels[index] = Channels.of(active_channels(topology, point, index), device)
        steps.append(
            Step(
                target=index,
                concat=feature_map.merge == "concat",
                inputs=tuple((o, topology.operations[o].source, _route(topology, o, channels)) for o in incoming),
                activation=feature_map.activation,
                factor=_factor(topology, index, channels[index].count, len(incoming)),
            )
        )
    return Plan(tuple(steps), channels, point.output)


def _factor(topology: Topology, index: int, active: int, incoming: int) -> float:
    """What a gated map's values are multiplied by: its components are its slices, a concat's are its sources."""
    feature_map = topology.maps[index]
    if feature_map.scale == "none":
        return 1.0
    if feature_map.merge == "concat":
        components, on = len(topology.incoming[index]), incoming
    else:
        components, on = len(feature_map.slices), feature_map.slices.index(active) + 1
    return (1 if feature_map.scale == "mean" else components) / on


def _route(topology: Topology, index: int, channels: dict[int, Channels]) -> Route:
    operation = topology.operations[index]
    source, target = channels[operation.source], channels[operation.target]
    if kind(operation.kind).mixing or topology.maps[operation.target].merge == "concat":
        groups = target.count * operation.groups // topology.maps[operation.target].channels
        return Route(source=source, target=target, groups=groups if operation.groups > 1 else 1)
    arrives = {channel: at for at, channel in enumerate(target.positions)}
    to = alignment(topology, index).tolist()
    moves = Moves.of([arrives.get(to[c], -1) for c in source.positions], target.count)
    return Route(source=source, target=target, groups=1, moves=moves)
