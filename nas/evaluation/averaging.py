"""A moving average of a network's weights during training."""

from __future__ import annotations

import torch
from torch import Tensor

from nas.execution.network import AnytimeNetwork


class MovingAverage:
    """The exponential moving average w̄ ← decay · w̄ + (1 − decay) · w of the weights of a network in training.

    Parameters
    ----------
    network
        In training, before the first step.
    decay
        In (0, 1).

    Attributes
    ----------
    network : AnytimeNetwork
        A network with the averages as weights, without gradients. Running statistics of norms are averaged too, and its
        norms use them; under the norm policy "recalibrated" there are none, so norms use the statistics of the batch.
    """

    def __init__(self, network: AnytimeNetwork, decay: float):
        self.decay = decay
        self.network = network.copy().requires_grad_(False)
        self.teach()

    def teach(self) -> None:
        """Prepare the network for answers during training; a measurement may have changed its mode."""
        self.network.train(self.network.architecture.norm == "recalibrated")

    @torch.no_grad()
    def update(self, network: AnytimeNetwork) -> None:
        """Take account of the weights after a step of the optimiser."""
        present = _tensors(network)
        for name, average in _tensors(self.network).items():
            average.lerp_(present[name], 1 - self.decay)


def _tensors(network: AnytimeNetwork) -> dict[str, Tensor]:
    """The tensors of its state that have an average."""
    return {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
