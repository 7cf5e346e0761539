"""Layers: the weights and norms of one operation at full width, cut to the active channels of a subnetwork.

Shapes: N examples, C channels at full width, c active channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.execution.plan import Channels, Moves, Route, Step
from nas.representation.elements import DROPOUT
from nas.representation.kinds import kind
from nas.representation.topology import Topology
from nas.representation.wiring import channel_mask

BATCH_NORM_EPS = 1e-5
DROPPED = 0.5
"""Share of the values that the step "dropout" sets to zero."""


@dataclass(frozen=True, slots=True)
class NormMode:
    """The behaviour of norms in one pass.

    row: operating point whose statistics and affine parameters apply. batch_statistics: normalise by the batch.
    momentum: of the running statistics; None leaves them unchanged.
    """

    row: int
    batch_statistics: bool
    momentum: float | None = None


class Norm(nn.Module):
    """Batch norm over the active channels, shared by the operating points or with one row for each.

    weight, bias: (affine rows, C). mean, var: (statistics rows, C).
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
        """Reset the statistics to mean 0 and variance 1, NaN included."""
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
                # .data hides the write from autograd, as batch_norm does: an earlier pass can still run backward
                statistics.data[mode.row if self.own_statistics else 0].index_copy_(0, channels.index, moved)
        return out

    def cut(self, channels: Channels, row: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weight, bias, mean and variance of the selected channels at an operating point, each of shape (c,)."""
        affine, statistics = row if self.own_affine else 0, row if self.own_statistics else 0
        return (
            channels.take(self.weight[affine]),
            channels.take(self.bias[affine]),
            channels.take(self.mean[statistics]),
            channels.take(self.var[statistics]),
        )


class Layer(nn.Module):
    """One operation at full width; executes the part of it that is active in a subnetwork.

    weight: (target channels, source channels / groups, \\*taps); entries without a connection start and stay at zero.
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
            if index in topology.causal and operation.groups == 1:
                wired = torch.from_numpy(channel_mask(topology, index))
                mask = wired.reshape(*wired.shape, *(1 for _ in taps)).float()
        self.register_buffer("mask", mask, persistent=False)
        rows = {"affine_rows": affine_rows, "statistics_rows": statistics_rows}
        self.before = Norm(sources, **rows) if "norm" in operation.before else None
        self.after = Norm(targets, **rows) if "norm" in operation.after else None

    def reset(self, generator: torch.Generator | None) -> None:
        """Kaiming initialisation with the fan-in of each row, so that narrow causal slices keep their scale."""
        if self.weight is None:
            return
        wired = torch.ones_like(self.weight) if self.mask is None else self.mask.expand_as(self.weight)
        fan_in = wired.flatten(1).sum(1).reshape(-1, *(1 for _ in self.weight.shape[1:]))
        gain = 1.0 if self.operation.kind == "linear" else math.sqrt(2)
        with torch.no_grad():
            self.weight.normal_(generator=generator).mul_(gain / fan_in.sqrt()).mul_(wired)

    @property
    def shifts(self) -> bool:
        """Whether the output can be nonzero for an input of zeros."""
        return self.bias is not None or self.after is not None

    def forward(self, x: Tensor, route: Route, mode: NormMode, mask: Tensor | None = None) -> Tensor:
        """x: (N, active source channels, \\*size) -> (N, active target channels, \\*size).

        mask: source channels that each sample may read, (N, active source channels); all by default.
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
        """The weight of the active channels; zero for pairs that the wiring does not connect."""
        assert self.weight is not None
        if self.operation.groups > 1:
            return route.target.take(self.weight)
        weight = route.source.take(route.target.take(self.weight), dim=1)
        return weight if self.mask is None else weight * route.source.take(route.target.take(self.mask), dim=1)

    @staticmethod
    def _steps(x: Tensor, steps: tuple[str, ...], norm: Norm | None, channels: Channels, mode: NormMode) -> Tensor:
        for step in steps:
            if step == DROPOUT and mode.batch_statistics and torch.is_grad_enabled():
                x = F.dropout(x, DROPPED)
            else:
                x = norm(x, channels, mode) if step == "norm" and norm is not None else activate(x, step)
        return x


def place(x: Tensor, width: int, moves: Moves | None) -> Tensor:
    """Arrange the channels of an aligned operation as in its target, which has ``width`` active channels.

    Target channels without a source are zero.
    """
    if moves is not None:
        runs = x.split(moves.sizes, dim=1)
        return torch.cat([runs[run] if run >= 0 else _zeros(x, -run) for run in moves.order], dim=1)
    if x.shape[1] >= width:
        return x if x.shape[1] == width else x[:, :width]
    return F.pad(x, (0, 0) * (x.dim() - 2) + (0, width - x.shape[1]))


def _zeros(x: Tensor, channels: int) -> Tensor:
    """Zeros in the memory format of x, so that their concatenation keeps it."""
    out = x.new_zeros(x.shape[0], channels, *x.shape[2:])
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return out.to(memory_format=torch.channels_last) if last else out


def over_positions(factor_NC: Tensor, like: Tensor) -> Tensor:
    """Reshape a factor, (N, C) or (N, 1), to broadcast over the positions of a map, in the precision of the map."""
    return factor_NC.to(like.dtype).reshape(*factor_NC.shape, *(1 for _ in like.shape[2:]))


def merge(values: Sequence[Tensor], step: Step) -> Tensor:
    """The value of a map from its inputs: concatenated or summed, activated, scaled."""
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
    DROPOUT: lambda x: x,
}
