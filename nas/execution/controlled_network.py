"""A network together with the controller or gate policy that throttles it for each input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.errors import UserError
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
    Inputs with the same choice run together, without gradients; only the chosen components run.

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

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Logits of the network, each at the utilization or with the components chosen for its input.

        Parameters
        ----------
        x
            Shape (N, \\*input_shape).

        Returns
        -------
        Tensor
            Shape (N, num_classes).

        Raises
        ------
        UserError
            In training mode, or if the controller does not fit the network.
        """
        if self.network.training or self.controller.network.training:
            raise UserError("A controlled network needs evaluation mode: call eval() of network and controller.")
        if isinstance(self.controller, GatePolicy):
            return self._with_policy(self.controller, x)
        return self._with_controller(self.controller, x)

    def _with_controller(self, controller: Controller, x: Tensor) -> Tensor:
        network = self.network
        indices, first_logits = controller.choose(network, x)
        out = x.new_zeros(len(x), network.architecture.task.num_classes) if first_logits is None else first_logits
        for index in indices.unique().tolist():
            if index == 0 and first_logits is not None:
                continue
            rows = (indices == index).nonzero().flatten()
            out[rows] = network(x[rows], network.subnetwork_at(controller.utilizations[index])).to(out.dtype)
        return out

    def _with_policy(self, policy: GatePolicy, x: Tensor) -> Tensor:
        """Logits without copies of the weights: a policy chooses too many subnetworks for copies to pay off."""
        out = x.new_zeros(len(x), self.network.architecture.task.num_classes)
        if len(x):
            for subnetwork, rows in policy.subnetworks(self.network, policy(x)):
                out[rows] = self.network.forward_unfolded(x[rows], subnetwork).to(out.dtype)
        return out
