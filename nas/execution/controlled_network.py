"""A network together with the controller or gate policy that throttles it for each input."""

from __future__ import annotations

from torch import Tensor, nn

from nas.execution.controller import Controller
from nas.execution.gate_policy import GatePolicy
from nas.execution.network import AnytimeNetwork


class ControlledNetwork(nn.Module):
    """Runs a network, for each input, at the utilization that a controller chooses.

    Parameters
    ----------
    network
        The controlled network, in evaluation mode; it is neither copied nor changed.
    controller
        A controller or a gate policy for this network, in evaluation mode.

    Notes
    -----
    ``controlled(x)`` has shape (N, num_classes) for x of shape (N, \\*input_shape). Inputs with the same choice run
    together, without gradients; only the chosen components run. Raises :class:`nas.UserError` in training mode, and if
    the controller does not fit the network.

    Examples
    --------
    >>> result = nas.throttle("2f9c01")  # doctest: +SKIP
    >>> controlled = nas.ControlledNetwork(result.network, result.controllers[0])  # doctest: +SKIP
    >>> controlled(result.network.preprocess(images))  # doctest: +SKIP
    """

    def __init__(self, network: AnytimeNetwork, controller: Controller | GatePolicy):
        super().__init__()
        self.network, self.controller = network, controller
        self.training = network.training or controller.network.training

    def forward(self, x: Tensor) -> Tensor:
        return self.controller.answer(self.network, x)
