"""One operating point as a static module: ordinary torch layers with only the weights that the point uses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from nas.errors import UserError
from nas.execution.layers import BATCH_NORM_EPS, Layer, Norm, NormMode, activate, merge, place
from nas.execution.plan import Channels, Plan, Route
from nas.execution.preprocessing import Preprocessing
from nas.representation.topology import Topology
from nas.representation.wiring import channel_mask


class StaticNetwork(nn.Module):
    """The network of one operating point, with copies of the weights that it uses, in evaluation mode.

    forward: x of shape (N, \\*input_shape) -> logits (N, labels).

    plan: of the operating point. row: its norm row. preprocess: from raw images to x.
    """

    def __init__(
        self,
        topology: Topology,
        layers: Sequence[Layer],
        plan: Plan,
        *,
        row: int,
        preprocess: Preprocessing | None = None,
    ):
        super().__init__()
        self.steps, self.output = plan.steps, plan.output
        self.input_shape = (topology.maps[0].channels, *topology.maps[0].size)
        self.preprocess = preprocess
        mask_of = {o: channel_mask(topology, o) for o, layer in enumerate(layers) if layer.mask is not None}
        self.operations = nn.ModuleDict(
            {
                str(o): StaticOperation(layers[o], route, NormMode(row, batch_statistics=False), mask_of.get(o))
                for step in plan.steps
                for o, _, route in step.inputs
                if not step.concat
            }
        )
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_tracing() and tuple(x.shape[1:]) != self.input_shape:
            shape = ", ".join(map(str, self.input_shape))
            raise UserError(f"Images must have shape (N, {shape}). Got {tuple(x.shape)}.")
        values = {0: x}
        for step in self.steps:
            if step.concat:
                inputs = [values[source] for _, source, _ in step.inputs]
            else:
                inputs = [self.operations[str(o)](values[source]) for o, source, _ in step.inputs]
            values[step.target] = merge(inputs, step)
        return values[self.output].flatten(1)


class StaticOperation(nn.Module):
    """One operation on its active channels: steps before, the operation, steps after.

    rows: of a learned operation, the blocks of target channels that read the same source channels; one block if the
    operation is dense.
    """

    def __init__(self, layer: Layer, route: Route, mode: NormMode, mask: np.ndarray | None):
        super().__init__()
        self.operation, self.kind, self.width, self.moves = layer.operation, layer.kind, route.target.count, route.moves
        self.before = _steps(layer.operation.before, layer.before, route.source, mode)
        self.after = _steps(layer.operation.after, layer.after, route.target, mode)
        self.rows = nn.ModuleList(Rows(layer, route, *part) for part in _parts(layer, route, mask))

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        if len(self.rows):
            blocks = [rows(x) for rows in self.rows]
            x = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)
        else:
            x = place(self.kind.apply(self.operation, x, None, None, 1), self.width, self.moves)
        return self.after(x)


def _parts(layer: Layer, route: Route, mask: np.ndarray | None) -> list[tuple[int, int, np.ndarray | None]]:
    """(first row, row after the last, columns read, or None for all columns) of each block of a learned operation."""
    if layer.weight is None:
        return []
    if mask is None:
        return [(0, route.target.count, None)]
    live = mask[np.ix_(route.target.positions, route.source.positions)]
    starts = [0, *(np.flatnonzero((live[1:] != live[:-1]).any(axis=1)) + 1), len(live)]
    return [(int(a), int(b), np.flatnonzero(live[a])) for a, b in pairwise(starts)]


class Rows(nn.Module):
    """Some target channels of a learned operation, which read all source channels, a prefix, or a selection."""

    columns: Tensor | None

    def __init__(self, layer: Layer, route: Route, start: int, stop: int, columns: np.ndarray | None):
        super().__init__()
        self.operation, self.kind, self.groups = layer.operation, layer.kind, route.groups
        weight = layer.live_weight(route).detach()[start:stop]
        self.weight = nn.Parameter((weight if columns is None else weight[:, columns]).clone())
        bias = None if layer.bias is None else route.target.take(layer.bias).detach()[start:stop]
        self.bias = None if bias is None else nn.Parameter(bias.clone())
        prefix = columns is None or bool((columns == np.arange(len(columns))).all())
        self.prefix = None if columns is None else len(columns)
        selection = None if prefix or columns is None else torch.from_numpy(columns).to(weight.device)
        self.register_buffer("columns", selection, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.columns is not None:
            x = x.index_select(1, self.columns)
        elif self.prefix is not None:
            x = x[:, : self.prefix]
        return self.kind.apply(self.operation, x, self.weight, self.bias, self.groups)


def _steps(names: tuple[str, ...], norm: Norm | None, channels: Channels, mode: NormMode) -> nn.Sequential:
    return nn.Sequential(*(_norm(norm, channels, mode) if n == "norm" and norm else Activation(n) for n in names))


def _norm(norm: Norm, channels: Channels, mode: NormMode) -> nn.Module:
    out = AnyBatchNorm(channels.count, eps=BATCH_NORM_EPS).to(norm.weight)
    affine, row = mode.row if norm.own_affine else 0, mode.row if norm.own_statistics else 0
    for mine, theirs in (
        (out.weight, norm.weight[affine]),
        (out.bias, norm.bias[affine]),
        (out.running_mean, norm.mean[row]),
        (out.running_var, norm.var[row]),
    ):
        assert mine is not None
        mine.detach().copy_(channels.take(theirs.detach()))
    return out


class AnyBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over maps of any number of spatial dimensions."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


class Activation(nn.Module):
    """An activation by its name, as a module."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return activate(x, self.name)

    def extra_repr(self) -> str:
        return self.name
