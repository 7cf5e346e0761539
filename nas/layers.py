"""The torch side of one operation: weights and norms at full width, cut to the active channels of a subnetwork.

Shapes: N examples, C channels at full width, c active ones, K operating points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.kinds import kind
from nas.topology import Topology
from nas.wiring import channel_mask, is_causal

BATCH_NORM_EPS = 1e-5


@dataclass(frozen=True, slots=True)
class Channels:
    """The active channels of a map: a prefix of ``count``, or the given full-width ``index`` where a concat has
    holes.
    """

    count: int
    index: tuple[int, ...] | None = None

    @staticmethod
    def of(ranges: Sequence[tuple[int, int]]) -> Channels:
        """From ranges (start, stop) of full-width channels."""
        count = sum(stop - start for start, stop in ranges)
        if not ranges or (len(ranges) == 1 and ranges[0][0] == 0):
            return Channels(count)
        return Channels(count, tuple(c for start, stop in ranges for c in range(start, stop)))

    @property
    def positions(self) -> tuple[int, ...]:
        """Full-width channel of each active one."""
        return tuple(range(self.count)) if self.index is None else self.index

    def take(self, tensor: Tensor, dim: int = 0) -> Tensor:
        """The active part of a full-width tensor: a view where it is a prefix."""
        if self.index is None:
            return tensor if tensor.shape[dim] == self.count else tensor.narrow(dim, 0, self.count)
        return tensor.index_select(dim, torch.tensor(self.index, device=tensor.device))


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
        self.weight = nn.Parameter(torch.ones(affine_rows, channels))
        self.bias = nn.Parameter(torch.zeros(affine_rows, channels))
        self.register_buffer("mean", torch.zeros(statistics_rows, channels))
        self.register_buffer("var", torch.ones(statistics_rows, channels))

    def forward(self, x: Tensor, channels: Channels, mode: NormMode) -> Tensor:
        """x: (N, c, \\*size) -> the same shape."""
        affine = mode.row if len(self.weight) > 1 else 0
        weight, bias = channels.take(self.weight[affine]), channels.take(self.bias[affine])
        if mode.batch_statistics and mode.momentum is None:
            return F.batch_norm(x, None, None, weight, bias, training=True, eps=BATCH_NORM_EPS)
        row = mode.row if len(self.mean) > 1 else 0
        mean, var = channels.take(self.mean[row]), channels.take(self.var[row])
        out = F.batch_norm(x, mean, var, weight, bias, mode.batch_statistics, mode.momentum or 0.0, BATCH_NORM_EPS)
        if mode.batch_statistics and channels.index is not None:  # mean and var were copies: write them back
            where = torch.tensor(channels.index, device=x.device)
            self.mean[row].index_copy_(0, where, mean)
            self.var[row].index_copy_(0, where, var)
        return out


@dataclass(frozen=True, slots=True)
class Route:
    """What an operation reads and writes in one subnetwork.

    source, target: active channels. groups: those active. moves: for aligned kinds, (source position, target channel)
    of what arrives, None where the source's first channels become the target's first channels.
    """

    source: Channels
    target: Channels
    groups: int
    moves: tuple[tuple[int, int], ...] | None = None


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

    def forward(self, x: Tensor, route: Route, mode: NormMode) -> Tensor:
        """x: (N, active source channels, \\*size) -> (N, active target channels, \\*size)."""
        x = self._steps(x, self.operation.before, self.before, route.source, mode)
        if self.kind.learned:
            bias = None if self.bias is None else route.target.take(self.bias)
            x = self.kind.apply(self.operation, x, self.live_weight(route), bias, route.groups)
        else:
            x = place(self.kind.apply(self.operation, x, None, None, 1), route)
        return self._steps(x, self.operation.after, self.after, route.target, mode)

    def live_weight(self, route: Route) -> Tensor:
        """The weight cut to the active channels, zero where the wiring has no connection."""
        assert self.weight is not None
        weight = self.weight if self.mask is None else self.weight * self.mask
        weight = route.target.take(weight)
        return weight if self.operation.groups > 1 else route.source.take(weight, dim=1)

    @staticmethod
    def _steps(x: Tensor, steps: tuple[str, ...], norm: Norm | None, channels: Channels, mode: NormMode) -> Tensor:
        for step in steps:
            x = norm(x, channels, mode) if step == "norm" and norm is not None else activate(x, step)
        return x


def place(x: Tensor, route: Route) -> Tensor:
    """Put the channels of an aligned operation where the target has them; what receives nothing is zero."""
    wanted = route.target.count
    if route.moves is None:
        if x.shape[1] >= wanted:
            return x if x.shape[1] == wanted else x[:, :wanted]
        return F.pad(x, (0, 0) * (x.dim() - 2) + (0, wanted - x.shape[1]))
    out = x.new_zeros(x.shape[0], wanted, *x.shape[2:])
    sources, targets = np.array(route.moves, dtype=np.int64).reshape(-1, 2).T.copy()
    where = torch.from_numpy(targets).to(x.device)
    return out.index_copy(1, where, x.index_select(1, torch.from_numpy(sources).to(x.device)))


def activate(x: Tensor, name: str) -> Tensor:
    """Apply an activation by its name; "none" is the identity."""
    if name == "none":
        return x
    return {"relu": F.relu, "relu6": F.relu6, "silu": F.silu, "hardswish": F.hardswish}[name](x)
