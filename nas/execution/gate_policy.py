"""A learned gate policy: how many components of each module are on, by what an input looks like.

It is asked for a utilization too, and may keep below it, or spend it on other modules than equal shares would. Like a
controller, it is a network of the one representation, whose costs count: it sees the input with the utilization as one
more channel, and says of every component that can be off whether it is on, in nested order.

References
----------
Liu, Parajuli, Hostetler, Chai & Bhanu, Dynamically Throttleable Neural Networks (TNN), arXiv 2011.02836.
Bengio, Léonard & Courville, Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation,
2013, arXiv 1308.3432 (straight-through).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nas.errors import UserError
from nas.execution.controller import controller_architecture
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.elements import GatedModule, Subnetwork, Task
from nas.representation.gates import check_utilization, switched


def gate_policy_architecture(architecture: Architecture, *, width: int = 8) -> Architecture:
    """What a gate policy for a throttleable network is. Raises UserError for a network without gated modules, or with
    norms of each point's own.
    """
    free = sum(len(module.components) - module.always for module in architecture.topology.gated)
    if not free:
        raise UserError("A gate policy needs a network with gated modules, as of the space 'throttleable'. Got none.")
    if architecture.norm != "shared":
        raise UserError(
            "A gate policy switches modules on their own, and needs norms that all utilizations share. "
            f"Got {architecture.norm!r}: take a controller for this network."
        )
    channels, *size = architecture.task.input_shape
    task = Task(input_shape=(channels + 1, *size), num_classes=max(2, free))
    return controller_architecture(task, task.num_classes, width=width)


class GatePolicy:
    """Switches the modules of a network for every input: ``network(x, controller=policy.at(0.5))``.

    network: as of :func:`gate_policy_architecture`. sizes: components of each module, and how many of them are always
    on. utilization: what is asked of it, 1.0 until :meth:`at` says otherwise.
    """

    def __init__(self, network: AnytimeNetwork, sizes: Sequence[tuple[int, int]], utilization: float = 1.0):
        check_utilization(utilization)
        self.network, self.sizes, self.utilization = network, tuple(sizes), utilization
        free = sum(n - always for n, always in self.sizes)
        if (
            not all(n > always >= 0 for n, always in self.sizes)
            or max(2, free) != network.architecture.task.num_classes
        ):
            raise UserError(
                "A gate policy's network must have an output for each component that can be off, of those that modules "
                f"have beyond the ones always on. Got {network.architecture.task.num_classes} for {self.sizes}."
            )

    @staticmethod
    def for_modules(network: AnytimeNetwork, modules: Sequence[GatedModule]) -> GatePolicy:
        """A policy for these modules."""
        return GatePolicy(network, [(len(module.components), module.always) for module in modules])

    def at(self, utilization: float) -> GatePolicy:
        """The same policy, asked for another utilization."""
        return GatePolicy(self.network, self.sizes, utilization)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of its own for an input."""
        return self.network.macs[-1]

    def gates(self, x: Tensor, utilization_N: Tensor) -> list[Tensor]:
        """The gates of every module, each (N, components): exactly 0 or 1, with the gradients of probabilities
        (straight-through).
        """
        plane = utilization_N.to(x).reshape(-1, *(1 for _ in x.shape[1:])).expand(-1, 1, *x.shape[2:])
        probability = self.network(torch.cat([x, plane], dim=1)).sigmoid()
        bits = (probability > 0.5).to(probability) + (probability - probability.detach())
        free = [n - always for n, always in self.sizes]
        parts = bits[:, : sum(free)].split(free, dim=1)
        return [
            torch.cat([part.new_ones(len(part), always), part.cumprod(1)], dim=1)
            for part, (_, always) in zip(parts, self.sizes)
        ]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """How many components of each module are on for each input, (N, modules)."""
        gates = self.gates(x, torch.full((len(x),), self.utilization))
        return torch.stack([gate.sum(1).round().long() for gate in gates], dim=1)

    def subnetworks(self, network: AnytimeNetwork, on: Tensor) -> list[tuple[Subnetwork, Tensor]]:
        """The different subnetworks that run for so many components, (N, modules), each with the inputs it is for.

        Raises UserError for a network of other modules.
        """
        modules = tuple((len(module.components), module.always) for module in network.architecture.topology.gated)
        if modules != self.sizes:
            raise UserError(f"The policy is for a network whose modules are {self.sizes}. Got one of {modules}.")
        topology, largest = network.architecture.topology, network.architecture.points[-1]
        kinds, which = on.unique(dim=0, return_inverse=True)
        return [
            (switched(topology, counts, largest), (which == kind).nonzero().flatten())
            for kind, counts in enumerate(kinds.tolist())
        ]

    @torch.no_grad()
    def answer(self, network: AnytimeNetwork, x: Tensor) -> Tensor:
        """The network's logits (N, num_classes); inputs with the same components on run together, and nothing else
        does. Raises UserError in training mode.
        """
        if network.training or self.network.training:
            raise UserError("A gate policy takes the stored statistics of norms: call eval() of network and policy.")
        out = x.new_zeros(len(x), network.architecture.task.num_classes)
        if len(x):
            for subnetwork, rows in self.subnetworks(network, self(x)):
                out[rows] = network(x[rows], subnetwork).to(out.dtype)
        return out

    def save(self, folder: str | Path) -> None:
        """Write weights and sizes to a folder, made if needed; :meth:`load` reads them back."""
        self.network.save(folder)
        Path(folder, "gate_policy.json").write_text(json.dumps({"sizes": self.sizes}))

    @staticmethod
    def load(folder: str | Path) -> GatePolicy:
        """The policy that :meth:`save` wrote, in evaluation mode. Raises UserError when the folder holds none."""
        try:
            sizes = json.loads(Path(folder, "gate_policy.json").read_text())["sizes"]
            return GatePolicy(AnytimeNetwork.load(folder), [(int(n), int(always)) for n, always in sizes])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{folder} must be a folder that policy.save wrote: {error}") from error
