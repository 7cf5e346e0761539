"""Importance of operations from the singular values of their present weights."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from nas.execution.layers import Layer
from nas.execution.network import AnytimeNetwork
from nas.representation.supernet import choice_groups


@torch.no_grad()
def singular_importance(network: AnytimeNetwork) -> NDArray[np.float64]:
    """The mean singular value of the weights of each optional operation, as its Jacobian at a position.

    Parameters
    ----------
    network
        The network in training.

    Returns
    -------
    ndarray, shape (num_operations,)
        0 for operations that are not optional. Operations without weights pass on the signal, so they have 1.

    Notes
    -----
    From the paper: paths of high TPS have larger singular values of the Jacobian. Ours: this measure of an operation.
    The weights of a convolution are a matrix with a row for each output channel. If a norm follows, it undoes the scale
    of each row, so rows have the length of the norm's weight instead; without a norm they keep their length.
    """
    importance = np.zeros(len(network.operation_layers))
    for group in choice_groups(network.architecture.topology):
        for o in group.alternatives:
            if o is not None:
                importance[o] = _mean_singular_value(network.operation_layers[o])
    return importance


def _mean_singular_value(layer: Layer) -> float:
    if layer.weight is None:
        return 1.0
    rows = layer.weight.flatten(1).double()
    if layer.after is not None:
        lengths = layer.after.weight[0].abs().double()
        rows = rows * (lengths / rows.norm(dim=1).clamp(min=1e-12))[:, None]
    if layer.operation.groups > 1:
        blocks = rows.unflatten(0, (layer.operation.groups, -1))
        return float(torch.linalg.svdvals(blocks).mean())
    return float(torch.linalg.svdvals(rows).mean())
