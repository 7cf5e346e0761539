"""Execution plans: a subnetwork as the steps that compute it. Plain data, made once; layers and networks follow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from nas.representation.elements import Subnetwork
from nas.representation.gates import scale_factor
from nas.representation.kinds import kind
from nas.representation.topology import Topology
from nas.representation.wiring import active_channels, alignment


@dataclass(frozen=True, slots=True)
class Channels:
    """A selection of the channels of a tensor.

    count: number of channels. start: the first one, if they are contiguous. index: their numbers, shape (count,), if
    they are not.
    """

    count: int
    index: Tensor | None = None
    start: int = 0

    @staticmethod
    def of(ranges: Sequence[tuple[int, int]], device: torch.device) -> Channels:
        """Select ranges (start, stop) of full-width channels; an index is created on the device."""
        count = sum(stop - start for start, stop in ranges)
        if not ranges or (len(ranges) == 1 and ranges[0][0] == 0):
            return Channels(count)
        return Channels(count, torch.cat([torch.arange(start, stop) for start, stop in ranges]).to(device))

    @property
    def positions(self) -> list[int]:
        """Full-width number of each selected channel."""
        return list(range(self.start, self.start + self.count)) if self.index is None else self.index.tolist()

    def take(self, tensor: Tensor, dim: int = 0) -> Tensor:
        """Select from a tensor along a dimension: a view if the channels are contiguous, else a copy."""
        if self.index is None:
            return tensor if tensor.shape[dim] == self.count else tensor.narrow(dim, self.start, self.count)
        return tensor.index_select(dim, self.index)

    def within(self, available: Channels) -> Channels:
        """Select the same channels from a tensor that has only ``available``."""
        if available.index is None and self.index is None:
            return Channels(self.count)
        position = {channel: place for place, channel in enumerate(available.positions)}
        device = (available.index if available.index is not None else self.index).device  # type: ignore[union-attr]
        return Channels(self.count, torch.tensor([position[c] for c in self.positions], device=device))


@dataclass(frozen=True, slots=True)
class Moves:
    """How an operation of an aligned kind rearranges channels.

    sizes: lengths of the runs of source channels that stay together. order: composition of the target; n >= 0 is run
    n, a negative n is -n channels of zeros.
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...]

    @staticmethod
    def of(places: Sequence[int], width: int) -> Moves | None:
        """Moves of source channels to places among ``width`` target channels; -1 drops a channel.

        None if the first channels of the source become the first channels of the target.
        """
        arriving = [(channel, place) for channel, place in enumerate(places) if place >= 0]
        if arriving == [(channel, channel) for channel in range(min(len(places), width))]:
            return None
        starts = [
            channel
            for channel in range(len(places))
            if channel == 0 or places[channel] != (places[channel - 1] + 1 if places[channel - 1] >= 0 else -1)
        ]
        sizes = tuple(stop - start for start, stop in pairwise([*starts, len(places)]))
        order, end = [], 0
        for first, run in sorted((places[start], run) for run, start in enumerate(starts)):
            if first >= 0:
                order += [end - first, run] if first > end else [run]
                end = first + sizes[run]
        return Moves(sizes, tuple([*order, end - width] if end < width else order))


@dataclass(frozen=True, slots=True)
class Route:
    """The active part of an operation in one subnetwork.

    source, target: active channels. groups: active groups. moves: of aligned kinds only.
    """

    source: Channels
    target: Channels
    groups: int
    moves: Moves | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """The computation of one feature map.

    inputs: (operation, source map, route) of the live operations that write the map, in order. Their results are
    concatenated if ``concat``, else summed; then the activation is applied, then the factor.
    """

    target: int
    concat: bool
    inputs: tuple[tuple[int, int, Route], ...]
    activation: str
    factor: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a subnetwork in topological order, the active channels of its live maps, and its output map."""

    steps: tuple[Step, ...]
    channels: dict[int, Channels]
    output: int

    def steps_after(self, computed: frozenset[int]) -> tuple[Step, ...]:
        """The steps that remain if the values of some maps are already computed."""
        needed, steps = {self.output}, []
        for step in reversed(self.steps):
            if step.target in needed and step.target not in computed:
                steps.append(step)
                needed.update(source for _, source, _ in step.inputs)
        return tuple(reversed(steps))


def make_plan(topology: Topology, point: Subnetwork, device: torch.device) -> Plan:
    """Plan a subnetwork, checked by :func:`nas.representation.liveness.check_point`, for execution on a device."""
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
                factor=scale_factor(topology, index, channels[index].count, len(incoming)),
            )
        )
    return Plan(tuple(steps), channels, point.output)


def _route(topology: Topology, index: int, channels: dict[int, Channels]) -> Route:
    operation = topology.operations[index]
    source, target = channels[operation.source], channels[operation.target]
    if kind(operation.kind).mixing or topology.maps[operation.target].merge == "concat":
        groups = target.count * operation.groups // topology.maps[operation.target].channels
        return Route(source=source, target=target, groups=groups if operation.groups > 1 else 1)
    place = {channel: place for place, channel in enumerate(target.positions)}
    aligned = alignment(topology, index).tolist()
    moves = Moves.of([place.get(aligned[c], -1) for c in source.positions], target.count)
    return Route(source=source, target=target, groups=1, moves=moves)
