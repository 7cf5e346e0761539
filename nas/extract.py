"""One operating point as a plain static module: only ordinary torch layers, only the weights that it uses."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from nas.layers import BATCH_NORM_EPS, Layer, Norm, NormMode, Route, activate, place
from nas.plan import Step
from nas.wiring import channel_mask

if TYPE_CHECKING:
    from nas.network import AnytimeNetwork


class StaticNetwork(nn.Module):
    """The network of one operating point, with its own copies of the weights it uses.

    forward: x of shape (N, \\*input_shape) -> logits (N, num_classes).
    """

    def __init__(self, network: AnytimeNetwork, level: int):
        super().__init__()
        plan = network._plan(level)
        self.steps, self.output = plan.steps, plan.output
        self.preprocess = network.preprocess
        layers, topology = network.operation_layers, network.architecture.topology
        mask_of = {o: channel_mask(topology, o) for o, layer in enumerate(layers) if layer.mask is not None}
        self.operations = nn.ModuleDict(
            {
                str(o): StaticOperation(layers[o], route, NormMode(level, batch_statistics=False), mask_of.get(o))
                for step in plan.steps
                for o, _, route in step.inputs
                if not step.concat
            }
        )
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        values = {0: x}
        for step in self.steps:
            values[step.target] = self._value(step, values)
        return values[self.output].flatten(1)

    def _value(self, step: Step, values: dict[int, Tensor]) -> Tensor:
        if step.concat:
            x = torch.cat([values[source] for _, source, _ in step.inputs], dim=1)
        else:
            x = sum(self.operations[str(o)](values[source]) for o, source, _ in step.inputs)
        x = activate(x, step.activation)
        return x if step.factor == 1 else x * step.factor


class StaticOperation(nn.Module):
    """One operation between its active channels: steps before, the operation, steps after."""

    def __init__(self, layer: Layer, route: Route, mode: NormMode, mask: np.ndarray | None):
        super().__init__()
        self.operation, self.kind, self.route = layer.operation, layer.kind, route
        self.before = _steps(layer.operation.before, layer.before, route.source.positions, mode)
        self.after = _steps(layer.operation.after, layer.after, route.target.positions, mode)
        self.weights = nn.ParameterList()
        self.columns: list[Tensor | None] = []
        self.bias = None
        if layer.weight is not None:
            self._copy_weights(layer, route, mask)
        if layer.bias is not None:
            self.bias = nn.Parameter(route.target.take(layer.bias).detach().clone())

    def _copy_weights(self, layer: Layer, route: Route, mask: np.ndarray | None) -> None:
        """One weight, or for a causal operation one per block of rows that read the same channels."""
        weight = layer.live_weight(route).detach()
        if mask is None:
            self.weights.append(nn.Parameter(weight.clone()))
            self.columns.append(None)
            return
        live = mask[np.ix_(route.target.positions, route.source.positions)]
        starts = [0, *(np.flatnonzero((live[1:] != live[:-1]).any(axis=1)) + 1), len(live)]
        for start, stop in pairwise(starts):
            columns = np.flatnonzero(live[start])
            self.weights.append(nn.Parameter(weight[start:stop][:, columns].clone()))
            self.columns.append(torch.from_numpy(columns))

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        if self.kind.learned:
            x = self._learned(x)
        else:
            x = place(self.kind.apply(self.operation, x, None, None, 1), self.route)
        return self.after(x)

    def _learned(self, x: Tensor) -> Tensor:
        blocks = []
        for weight, columns in zip(self.weights, self.columns):
            read = x
            if columns is not None and len(columns) < x.shape[1]:
                prefix = int(columns[-1]) + 1 == len(columns)
                read = x[:, : len(columns)] if prefix else x.index_select(1, columns.to(x.device))
            blocks.append(self.kind.apply(self.operation, read, weight, None, self.route.groups))
        out = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)
        return out if self.bias is None else out + self.bias.reshape(1, -1, *(1 for _ in out.shape[2:]))


def _steps(names: tuple[str, ...], norm: Norm | None, positions: tuple[int, ...], mode: NormMode) -> nn.Sequential:
    return nn.Sequential(*(_norm(norm, positions, mode) if n == "norm" and norm else Activation(n) for n in names))


def _norm(norm: Norm, positions: tuple[int, ...], mode: NormMode) -> nn.Module:
    """A batch norm of one dimension serves maps of any: it normalises over channels of flattened positions."""
    out = AnyBatchNorm(len(positions), eps=BATCH_NORM_EPS)
    where = torch.tensor(positions, device=norm.weight.device)
    affine, row = (mode.row if len(t) > 1 else 0 for t in (norm.weight, norm.mean))
    for mine, theirs in (
        (out.weight.data, norm.weight[affine]),
        (out.bias.data, norm.bias[affine]),
        (out.running_mean, norm.mean[row]),
        (out.running_var, norm.var[row]),
    ):
        assert mine is not None
        mine.copy_(theirs.detach()[where])
    return out.to(norm.weight.device)


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
