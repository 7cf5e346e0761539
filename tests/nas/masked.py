"""The slow obvious way to run a subnetwork: everything at full width, what is off masked to zero. The oracle."""

from __future__ import annotations

import torch
from torch import Tensor

from nas.layers import activate
from nas.network import AnytimeNetwork
from nas.wiring import active_channels, alignment, channel_mask


def masked_forward(
    network: AnytimeNetwork, x: Tensor, level: int, *, training: bool
) -> tuple[Tensor, dict[int, Tensor]]:
    """Logits (N, classes) and every map's full-width values at a level, with batch or stored norm statistics."""
    architecture = network.architecture
    topology, point = architecture.topology, architecture.points[level]
    live = set(point.operations)
    values = {0: x}
    for index, feature_map in enumerate(topology.maps):
        if index == 0:
            continue
        total = torch.zeros(len(x), feature_map.channels, *feature_map.size)
        for o in topology.incoming[index]:
            if o in live:
                total = total + _operation(network, o, values, level, training)
        total = activate(total, feature_map.activation) * _mask(topology, point, index, total)
        values[index] = total * _factor(topology, point, index)
    return values[point.output].flatten(1), values


def _factor(topology, point, index):
    feature_map = topology.maps[index]
    if feature_map.scale == "none":
        return 1.0
    if feature_map.merge == "concat":
        n, c = len(topology.incoming[index]), sum(o in point.operations for o in topology.incoming[index])
    else:
        n, c = len(feature_map.slices), [0, *feature_map.slices].index(topology.active(point)[index])
    return 0.0 if c == 0 else {"mean": 1 / c, "full": n / c}[feature_map.scale]


def _mask(topology, point, index, like):
    mask = torch.zeros(topology.maps[index].channels)
    for start, stop in active_channels(topology, point, index):
        mask[start:stop] = 1
    return mask.reshape(1, -1, *(1 for _ in like.shape[2:]))


def _operation(network, o, values, level, training):
    """An operation at full width: steps, the mask of the reader, a dense weight, zero where nothing is wired."""
    topology, point = network.architecture.topology, network.architecture.points[level]
    operation, layer = topology.operations[o], network.layers[o]
    x = values[operation.source]
    for step in operation.before:
        x = _norm(layer.before, x, level, training) if step == "norm" else activate(x, step)
    x = x * _mask(topology, point, operation.source, x)
    if layer.kind.learned:
        mask = torch.from_numpy(channel_mask(topology, o)).float()
        weight = layer.weight
        if operation.groups > 1:
            dense = torch.zeros(*mask.shape, *weight.shape[2:])
            for row in range(len(mask)):
                dense[row, mask[row] > 0] = weight[row]
            weight = dense
        weight = weight * mask.reshape(*mask.shape, *(1 for _ in weight.shape[2:]))
        x = layer.kind.apply(operation, x, weight, layer.bias, 1)
    else:
        x = layer.kind.apply(operation, x, None, None, 1)
        placed = torch.zeros(len(x), topology.maps[operation.target].channels, *x.shape[2:])
        for channel, to in enumerate(alignment(topology, o)):
            if to >= 0:
                placed[:, to] = x[:, channel]
        x = placed
    for step in operation.after:
        x = _norm(layer.after, x, level, training) if step == "norm" else activate(x, step)
    return x


def _norm(norm, x, level, training):
    row, affine = (level if len(t) > 1 else 0 for t in (norm.mean, norm.weight))
    shape = (1, -1, *(1 for _ in x.shape[2:]))
    if training:
        dims = [0, *range(2, x.dim())]
        mean, var = x.mean(dims), x.var(dims, unbiased=False)
    else:
        mean, var = norm.mean[row], norm.var[row]
    x = (x - mean.reshape(shape)) / (var.reshape(shape) + 1e-5).sqrt()
    return x * norm.weight[affine].reshape(shape) + norm.bias[affine].reshape(shape)
