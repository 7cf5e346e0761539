"""Oracle: slow execution of a subnetwork at full width, with inactive parts masked to zero."""

from __future__ import annotations

import torch
from torch import Tensor

from nas.execution.layers import Norm, activate
from nas.execution.network import AnytimeNetwork
from nas.representation.elements import Subnetwork
from nas.representation.topology import Topology
from nas.representation.wiring import active_channels, alignment, channel_mask


def masked_forward(
    network: AnytimeNetwork, x: Tensor, level: int | Subnetwork, *, training: bool
) -> tuple[Tensor, dict[int, Tensor]]:
    """Logits (N, classes) and every map's full-width values at a level, with batch or stored norm statistics."""
    topology = network.architecture.topology
    point, row = (level, 0) if isinstance(level, Subnetwork) else (network.architecture.points[level], level)
    values = {0: x}
    for index, feature_map in enumerate(topology.maps):
        if index == 0:
            continue
        total = x.new_zeros(len(x), feature_map.channels, *feature_map.size)
        for o in topology.incoming[index]:
            if o in point.operations:
                total = total + _operation(network, o, values, point, None if training else row, row)
        total = activate(total, feature_map.activation) * _mask(topology, point, index, total)
        values[index] = total * _factor(topology, point, index)
    return values[point.output].flatten(1), values


def _factor(topology: Topology, point: Subnetwork, index: int) -> float:
    feature_map = topology.maps[index]
    if feature_map.scale == "none":
        return 1.0
    if feature_map.merge == "concat":
        n, c = len(topology.incoming[index]), sum(o in point.operations for o in topology.incoming[index])
    else:
        n, c = len(feature_map.slices), [0, *feature_map.slices].index(topology.active(point)[index])
    return 0.0 if c == 0 else {"mean": 1 / c, "full": n / c}[feature_map.scale]


def _mask(topology: Topology, point: Subnetwork, index: int, like: Tensor) -> Tensor:
    mask = like.new_zeros(topology.maps[index].channels)
    for start, stop in active_channels(topology, point, index):
        mask[start:stop] = 1
    return _along_channels(mask, like)


def _along_channels(vector: Tensor, like: Tensor) -> Tensor:
    return vector.reshape(1, -1, *(1 for _ in like.shape[2:]))


def _operation(
    network: AnytimeNetwork, o: int, values: dict[int, Tensor], point: Subnetwork, statistics: int | None, affine: int
) -> Tensor:
    """An operation at full width: steps, the mask of the reader, a dense weight with zeros for missing connections."""
    topology = network.architecture.topology
    operation, layer = topology.operations[o], network.operation_layers[o]
    x = values[operation.source]
    for step in operation.before:
        x = _norm(layer.before, x, statistics, affine) if step == "norm" else activate(x, step)
    x = x * _mask(topology, point, operation.source, x)
    if layer.kind.learned:
        mask = torch.from_numpy(channel_mask(topology, o)).to(x.dtype)
        weight = layer.weight
        if operation.groups > 1:
            dense = x.new_zeros(*mask.shape, *weight.shape[2:])
            for row in range(len(mask)):
                dense[row, mask[row] > 0] = weight[row]
            weight = dense
        weight = weight * mask.reshape(*mask.shape, *(1 for _ in weight.shape[2:]))
        x = layer.kind.apply(operation, x, weight, layer.bias, 1)
    else:
        x = layer.kind.apply(operation, x, None, None, 1)
        placed = x.new_zeros(len(x), topology.maps[operation.target].channels, *x.shape[2:])
        for channel, to in enumerate(alignment(topology, o)):
            if to >= 0:
                placed[:, to] = x[:, channel]
        x = placed
    for step in operation.after:
        x = _norm(layer.after, x, statistics, affine) if step == "norm" else activate(x, step)
    return x


def _norm(norm: Norm, x: Tensor, statistics: int | None, affine: int) -> Tensor:
    """statistics: row of stored statistics, or None for batch statistics. affine: row, if the norm has several."""
    affine = affine if len(norm.weight) > 1 else 0
    if statistics is None:
        dims = [0, *range(2, x.dim())]
        mean, var = x.mean(dims), x.var(dims, unbiased=False)
    else:
        row = statistics if len(norm.mean) > 1 else 0
        mean, var = norm.mean[row], norm.var[row]
    x = (x - _along_channels(mean, x)) / (_along_channels(var, x) + 1e-5).sqrt()
    return x * _along_channels(norm.weight[affine], x) + _along_channels(norm.bias[affine], x)
