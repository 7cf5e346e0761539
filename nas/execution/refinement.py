"""Refinement: logits at the operating points from small to large, each by its additional work only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.execution.layers import BATCH_NORM_EPS, Layer, Norm, activate, place
from nas.execution.plan import Channels
from nas.execution.refinement_plan import Growth, Part, RefinementPlan, RefineStep, Rows


class Refiner:
    """Executes a refinement plan with copies of the weights, cut to each step.

    A norm right after a learned operation is folded into the copy of its weight, because at batch size 1 the time of
    small layers is the time to launch them. With a single operating point there is one step: the fast pass of that
    point.

    Before a run, weights that have changed are copied again. torch does not report changes of the statistics by a
    batch norm in training mode, nor writes through ``.data``: discard the refiner after them.

    Parameters
    ----------
    plan
        Of all or some of the operating points of a network.
    layers
        The layers of the network, one for each operation.
    row
        Norm row of the first of the operating points; the rows of the larger points follow.
    """

    def __init__(self, plan: RefinementPlan, layers: Sequence[Layer], *, row: int = 0):
        self.plan, self.layers, self.row = plan, layers, row
        self._bound: list[list[_BoundGrowth]] = []
        self._versions: list[tuple[dict[str, Any], str, tuple[int, float]]] = []

    def run(self, x: Tensor) -> Iterator[Tensor]:
        """Logits (N, labels) after each step, for x of shape (N, \\*input_shape)."""
        if not self._bound or any(_version(tensors.get(name)) != version for tensors, name, version in self._versions):
            self._copy_weights()
        return _run(self.plan.steps, self._bound, x)

    @torch.no_grad()
    def _copy_weights(self) -> None:
        self._bound = [
            [_BoundGrowth(growth, self.layers, row, self.plan.norm_owners) for growth in step.growths]
            for row, step in enumerate(self.plan.steps, start=self.row)
        ]
        self._versions = [
            (tensors, name, _version(tensor))
            for layer in self.layers
            for module in layer.modules()
            for tensors in (module._parameters, module._buffers)
            for name, tensor in tensors.items()
            if tensor is not None
        ]


def _version(tensor: Tensor | None) -> tuple[int, float]:
    """Address and number of writes of a tensor: equal if it is unchanged.

    Tensors of inference mode count no writes: they never compare as equal.
    """
    if tensor is None:
        return -1, 0
    return tensor.data_ptr(), float("nan") if tensor.is_inference() else tensor._version


@torch.no_grad()
def _run(steps: Sequence[RefineStep], bound: Sequence[Sequence[_BoundGrowth]], x: Tensor) -> Iterator[Tensor]:
    pieces = {0: x.clone(memory_format=torch.channels_last if x.dim() == 4 else torch.contiguous_format)}
    accumulated: dict[int, Tensor] = {}
    empty = x[:, :0]
    for step, growths in zip(steps, bound):
        for growth in growths:
            growth(pieces, accumulated, empty)
        logits = (
            _joined([pieces[piece] for piece in step.answer]).flatten(1).clone()
        )  # later steps may add to the pieces
        for piece in step.done:
            del pieces[piece]
        yield logits


class _BoundGrowth:
    """A growth with its weights."""

    def __init__(self, growth: Growth, layers: Sequence[Layer], row: int, norm_owners: dict[int, int]):
        self.growth = growth
        self.parts = [_BoundPart(part, layers, growth, row, norm_owners) for part in growth.parts]

    def __call__(self, pieces: dict[int, Tensor], accumulated: dict[int, Tensor], empty: Tensor) -> None:
        growth = self.growth
        value = pieces[growth.piece] if growth.adds else None
        for part in self.parts:
            term = part(pieces, accumulated, empty)
            value = term if value is None else value + term
        if value is None:
            value = empty.new_zeros(len(empty), *growth.shape)
        value = activate(value, growth.activation)
        pieces[growth.piece] = value if growth.factor == 1 else value * growth.factor


class _BoundPart:
    """A part with its weights; computes its term of the new channels of the target, (N, new channels, \\*size)."""

    def __init__(self, part: Part, layers: Sequence[Layer], growth: Growth, row: int, norm_owners: dict[int, int]):
        layer, number = layers[part.operation], part.operation
        self.part, self.shape, self.operation, self.kind = part, growth.shape, layer.operation, layer.kind
        before, after, owner, norm = layer.operation.before, layer.operation.after, norm_owners.get(number), None
        if owner is not None:
            norm, after = (layer.after, after[1:]) if owner == number else (layers[owner].before, after)
        if any(reader == number != writer for writer, reader in norm_owners.items()):
            before = before[1:]
        self.reads = [(r.piece, r.within, _steps(before, layer.before, r.channels, row)) for r in part.reads]
        self.after = _steps(after, layer.after, growth.channels, row)
        self.rows = [(rows, *_cut(layer, rows, part.bias, norm, row)) for rows in part.rows]

    def __call__(self, pieces: dict[int, Tensor], accumulated: dict[int, Tensor], empty: Tensor) -> Tensor:
        part, read = self.part, []
        for piece, within, steps in self.reads:
            x = within.take(pieces[piece], dim=1)
            for step in steps:
                x = step(x)
            read.append(x)
        if part.keep:
            if part.operation in accumulated:
                read.insert(0, accumulated[part.operation])
            accumulated[part.operation] = x = _joined(read)
        else:
            x = _joined(read) if read else empty
        if part.rows:
            run, operation = self.kind.apply, self.operation
            out = _joined([run(operation, rows.arrived.take(x, dim=1), w, b, rows.groups) for rows, w, b in self.rows])
        elif read:
            out = place(self.kind.apply(self.operation, x, None, None, 1), self.shape[0], part.moves)
        else:
            out = empty.new_zeros(len(empty), *self.shape)
        for step in self.after:
            out = step(out)
        return out


def _cut(layer: Layer, rows: Rows, bias: bool, norm: Norm | None, row: int) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of some rows, with the norm of their outputs folded in, if there is one."""
    assert layer.weight is not None
    added = rows.rows.take(layer.bias) if bias and layer.bias is not None else None
    cut = rows.columns.take(rows.rows.take(layer.weight), dim=1)
    if norm is not None:
        precise = torch.promote_types(cut.dtype, torch.float32)
        weight, shift, mean, var = (t.to(precise) for t in norm.cut(rows.rows, row))
        scale = weight / (var + BATCH_NORM_EPS).sqrt()
        shift = shift + (-mean if added is None else added - mean) * scale
        cut, added = (cut * scale.reshape(-1, *[1] * (cut.dim() - 1))).to(cut.dtype), shift.to(cut.dtype)
    return cut.contiguous(memory_format=torch.channels_last if cut.dim() == 4 else torch.contiguous_format), added


def _steps(names: tuple[str, ...], norm: Norm | None, channels: Channels, row: int) -> list[Callable[[Tensor], Tensor]]:
    steps: list[Callable[[Tensor], Tensor]] = []
    for name in names:
        if name == "norm" and norm is not None:
            weight, bias, mean, var = norm.cut(channels, row)
            steps.append(
                partial(F.batch_norm, running_mean=mean, running_var=var, weight=weight, bias=bias, eps=BATCH_NORM_EPS)
            )
        else:
            steps.append(partial(activate, name=name))
    return steps


def _joined(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.cat(values, dim=1)
