"""The torch side of one operation: weights and norms at full width, cut to the active channels of a subnetwork.

Shapes: N examples, C channels at full width, c active ones, K operating points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.representation.kinds import kind
from nas.representation.topology import Topology
from nas.representation.wiring import channel_mask, is_causal

if TYPE_CHECKING:
    from nas.execution.plan import Step

BATCH_NORM_EPS = 1e-5


@dataclass(frozen=True, slots=True)
class Channels:
    """Some channels of a tensor: ``count`` from ``start`` on, or those at ``index`` (count,) where there are holes."""

    count: int
    index: Tensor | None = None
    start: int = 0

    @staticmethod
    def of(ranges: Sequence[tuple[int, int]], device: torch.device) -> Channels:
        """From ranges (start, stop) of full-width channels; the index is on the device, once and for all."""
        count = sum(stop - start for start, stop in ranges)
        if not ranges or (len(ranges) == 1 and ranges[0][0] == 0):
            return Channels(count)
        return Channels(count, torch.cat([torch.arange(start, stop) for start, stop in ranges]).to(device))

    @property
    def positions(self) -> list[int]:
        """Full-width channel of each active one."""
        return list(range(self.start, self.start + self.count)) if self.index is None else self.index.tolist()

    def take(self, tensor: Tensor, dim: int = 0) -> Tensor:
        """These channels of a tensor: a view where they follow each other."""
        if self.index is None:
            return tensor if tensor.shape[dim] == self.count else tensor.narrow(dim, self.start, self.count)
        return tensor.index_select(dim, self.index)


@dataclass(frozen=True, slots=True)
class NormMode:
    """How norms act in one pass. row: whose statistics and affine parameters; momentum: None updates nothing."""

    row: int
    batch_statistics: bool
    momentum: float | None = None


class Norm(nn.Module):
    """Batch norm over the active channels, with statistics for every operating point that has its own.

    weight, bias: (affine rows, C). mean, var: (statistics rows, C); one row where the points share them.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, channels: int, *, affine_rows: int, statistics_rows: int):
        super().__init__()
        self.own_affine, self.own_statistics = affine_rows > 1, statistics_rows > 1
        self.weight = nn.Parameter(torch.ones(affine_rows, channels))
        self.bias = nn.Parameter(torch.zeros(affine_rows, channels))
        self.register_buffer("mean", torch.zeros(statistics_rows, channels))
        self.register_buffer("var", torch.ones(statistics_rows, channels))

    def reset_statistics(self) -> None:
        """Forget what was estimated, also where it was no number."""
        self.mean.zero_()
        self.var.fill_(1)

    def forward(self, x: Tensor, channels: Channels, mode: NormMode) -> Tensor:
        """x: (N, c, \\*size) -> the same shape."""
        weight, bias, mean, var = self.cut(channels, mode.row)
        if mode.batch_statistics and mode.momentum is None:
            return F.batch_norm(x, None, None, weight, bias, training=True, eps=BATCH_NORM_EPS)
        out = F.batch_norm(x, mean, var, weight, bias, mode.batch_statistics, mode.momentum or 0.0, BATCH_NORM_EPS)
        if mode.batch_statistics and channels.index is not None:  # mean and var were copies: write them back
            for statistics, moved in ((self.mean, mean), (self.var, var)):
                # .data: as in batch_norm itself, a backward of an earlier pass that saw them is none the wiser
                statistics.data[mode.row if self.own_statistics else 0].index_copy_(0, channels.index, moved)
        return out

    def cut(self, channels: Channels, row: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weight, bias, mean and variance of some channels at an operating point, each (c,)."""
        affine, statistics = row if self.own_affine else 0, row if self.own_statistics else 0
        return (
            channels.take(self.weight[affine]),
            channels.take(self.bias[affine]),
            channels.take(self.mean[statistics]),
            channels.take(self.var[statistics]),
        )


@dataclass(frozen=True, slots=True)
class Moves:
    """Where the channels of an aligned operation arrive.

    sizes: of the runs of source channels that stay together. order: what the target's channels are: the run of this
    number, or, where it is negative, so many zeros.
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...]

    @staticmethod
    def of(to: Sequence[int], wanted: int) -> Moves | None:
        """From each source channel's place among the ``wanted`` channels of the target, -1 where it has none; None
        where the first channels of the one become the first of the other.
        """
        arriving = [(at, place) for at, place in enumerate(to) if place >= 0]
        if arriving == [(at, at) for at in range(min(len(to), wanted))]:
            return None
        starts = [at for at in range(len(to)) if at == 0 or to[at] != (to[at - 1] + 1 if to[at - 1] >= 0 else -1)]
        sizes = tuple(stop - start for start, stop in pairwise([*starts, len(to)]))
        order, end = [], 0
        for first, run in sorted((to[start], run) for run, start in enumerate(starts)):
            if first >= 0:
                order += [end - first, run] if first > end else [run]
                end = first + sizes[run]
        return Moves(sizes, tuple([*order, end - wanted] if end < wanted else order))


@dataclass(frozen=True, slots=True)
class Route:
    """What an operation reads and writes in one subnetwork.

    source, target: active channels. groups: those active. moves: for aligned kinds.
    """

    source: Channels
    target: Channels
    groups: int
    moves: Moves | None = None


class Layer(nn.Module):
    """One operation at full width; runs any subnetwork's part of it.

    weight: (target channels, source channels / groups, \\*taps); only its live entries start and stay away from zero.
    """

    mask: Tensor | None

    def __init__(self, topology: Topology, index: int, *, affine_rows: int, statistics_rows: int):
        super().__init__()
        operation = topology.operations[index]
        self.operation, self.kind = operation, kind(operation.kind)
        sources, targets = topology.maps[operation.source].channels, topology.maps[operation.target].channels
        self.weight: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        mask = None
        if self.kind.learned:
            taps = self.kind.weight_size(operation)
            columns = sources // operation.groups if self.kind.mixing else 1
            self.weight = nn.Parameter(torch.empty(targets, columns, *taps))
            if operation.bias:
                self.bias = nn.Parameter(torch.zeros(targets))
            if is_causal(topology, operation) and operation.groups == 1:
                wired = torch.from_numpy(channel_mask(topology, index))
                mask = wired.reshape(*wired.shape, *(1 for _ in taps)).float()
        self.register_buffer("mask", mask, persistent=False)
        rows = {"affine_rows": affine_rows, "statistics_rows": statistics_rows}
        self.before = Norm(sources, **rows) if "norm" in operation.before else None
        self.after = Norm(targets, **rows) if "norm" in operation.after else None

    def reset(self, generator: torch.Generator | None) -> None:
        """Kaiming initialisation with each row's own fan-in: a causal slice that reads little starts no smaller."""
        if self.weight is None:
            return
        wired = torch.ones_like(self.weight) if self.mask is None else self.mask.expand_as(self.weight)
        fan_in = wired.flatten(1).sum(1).reshape(-1, *(1 for _ in self.weight.shape[1:]))
        gain = 1.0 if self.operation.kind == "linear" else math.sqrt(2)
        with torch.no_grad():
            self.weight.normal_(generator=generator).mul_(gain / fan_in.sqrt()).mul_(wired)

    @property
    def shifts(self) -> bool:
        """Whether it may write something where all that it reads is zero."""
        return self.bias is not None or self.after is not None

    def forward(self, x: Tensor, route: Route, mode: NormMode, mask: Tensor | None = None) -> Tensor:
        """x: (N, active source channels, \\*size) -> (N, active target channels, \\*size).

        mask: what of the source each sample may read, (N, active source channels); everything by default.
        """
        x = self._steps(x, self.operation.before, self.before, route.source, mode)
        if mask is not None:
            x = x * over_positions(mask, x)
        if self.kind.learned:
            bias = None if self.bias is None else route.target.take(self.bias)
            x = self.kind.apply(self.operation, x, self.live_weight(route), bias, route.groups)
        else:
            x = place(self.kind.apply(self.operation, x, None, None, 1), route.target.count, route.moves)
        return self._steps(x, self.operation.after, self.after, route.target, mode)

    def live_weight(self, route: Route) -> Tensor:
        """The weight cut to the active channels, zero where the wiring has no connection."""
        assert self.weight is not None
        if self.operation.groups > 1:
            return route.target.take(self.weight)
        weight = route.source.take(route.target.take(self.weight), dim=1)
        return weight if self.mask is None else weight * route.source.take(route.target.take(self.mask), dim=1)

    @staticmethod
    def _steps(x: Tensor, steps: tuple[str, ...], norm: Norm | None, channels: Channels, mode: NormMode) -> Tensor:
        for step in steps:
            x = norm(x, channels, mode) if step == "norm" and norm is not None else activate(x, step)
        return x


def place(x: Tensor, wanted: int, moves: Moves | None) -> Tensor:
    """Put the channels of an aligned operation where the target has them; what receives nothing is zero.

    wanted: active channels of the target.
    """
    if moves is not None:
        runs = x.split(moves.sizes, dim=1)
        return torch.cat([runs[run] if run >= 0 else _zeros(x, -run) for run in moves.order], dim=1)
    if x.shape[1] >= wanted:
        return x if x.shape[1] == wanted else x[:, :wanted]
    return F.pad(x, (0, 0) * (x.dim() - 2) + (0, wanted - x.shape[1]))


def _zeros(x: Tensor, channels: int) -> Tensor:
    """Laid out like x: what is joined in one layout stays in it."""
    out = x.new_zeros(x.shape[0], channels, *x.shape[2:])
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return out.to(memory_format=torch.channels_last) if last else out


def over_positions(factor_NC: Tensor, like: Tensor) -> Tensor:
    """A factor for every channel of a map, or (N, 1) for all, to multiply its values with, in their precision."""
    return factor_NC.to(like.dtype).reshape(*factor_NC.shape, *(1 for _ in like.shape[2:]))


def merge(values: Sequence[Tensor], step: Step) -> Tensor:
    """The value of a map from what arrives: stacked or summed, activated, scaled."""
    if step.concat:
        x = torch.cat(list(values), dim=1)
    else:
        x, *others = values
        for other in others:
            x = x + other
    x = activate(x, step.activation)
    return x if step.factor == 1 else x * step.factor


def activate(x: Tensor, name: str) -> Tensor:
    """Apply an activation by its name; "none" is the identity."""
    return x if name == "none" else _ACTIVATIONS[name](x)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hardswish": F.hardswish,
}
