"""Networks with nothing left at a value that hides mistakes: random weights, biases, norms and statistics."""

from __future__ import annotations

import torch

from nas.execution.layers import Norm
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture


def random_network(architecture: Architecture, *, dtype: torch.dtype = torch.float32) -> AnytimeNetwork:
    """A network whose biases and norms are random too; uncalibrated if its norm policy requires it."""
    generator = torch.Generator().manual_seed(7)
    network = AnytimeNetwork(architecture, generator=generator)
    with torch.no_grad():
        for layer in network.operation_layers:
            for norm in (layer.before, layer.after):
                if norm is not None:
                    norm.weight.add_(torch.randn(norm.weight.shape, generator=generator) * 0.3)
                    norm.bias.add_(torch.randn(norm.bias.shape, generator=generator) * 0.3)
            if layer.bias is not None:
                layer.bias.add_(torch.randn(layer.bias.shape, generator=generator) * 0.3)
    return network.to(dtype)


def random_statistics(network: AnytimeNetwork) -> AnytimeNetwork:
    """Give it random statistics, as if it had been trained and calibrated."""
    generator = torch.Generator().manual_seed(8)
    for norm in network.modules():
        if isinstance(norm, Norm):
            norm.mean.copy_(torch.randn(norm.mean.shape, generator=generator) * 0.2)
            norm.var.copy_(torch.rand(norm.var.shape, generator=generator) + 0.2)
    network.calibrated.fill_(True)
    return network


def random_images(network: AnytimeNetwork, count: int = 6, *, seed: int = 9) -> torch.Tensor:
    """Images for the network, in its precision."""
    shape = network.architecture.task.input_shape
    weight = next(network.parameters())
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed)).to(weight.dtype)
