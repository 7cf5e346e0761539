"""Gate policies: for each input, a small network chooses how many components of each gated module are on.

A policy also receives a utilization. It may use less, and may distribute it unequally over the modules. The
utilization is one more channel of the input; the policy has one logit for each component that can be off, and switches
components in nested order.

References
----------
Liu, Parajuli, Hostetler, Chai & Bhanu, Dynamically Throttleable Neural Networks (TNN), arXiv 2011.02836.
Bengio, Léonard & Courville, Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation,
2013, arXiv 1308.3432 (straight-through).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.execution.serialization import read_settings, settings_files
from nas.files import Files, write_folder
from nas.representation.elements import GatedModule, Subnetwork
from nas.representation.gates import check_utilization, switched

SETTINGS = "gate_policy.json"


class GatePolicy(nn.Module):
    """Switches the components of a network for each input; :class:`ControlledNetwork` executes the choices.

    ``policy(x)`` is the number of components on, (N, modules), for x of shape (N, \\*input_shape).

    Parameters
    ----------
    network
        Of an architecture by :func:`nas.execution.controller_architectures.gate_policy_architecture`.
    sizes
        (components, components always on) of each gated module.
    utilization
        In [0, 1], see :meth:`with_utilization`.

    Raises
    ------
    UserError
        If the classes of the network do not match the sizes, or the utilization lies outside of [0, 1].

    See Also
    --------
    nas.throttle : trains gate policies with ``learner="gates"``.
    """

    def __init__(self, network: AnytimeNetwork, sizes: Sequence[tuple[int, int]], utilization: float = 1.0):
        super().__init__()
        check_utilization(utilization)
        self.network, self.sizes, self.utilization = network, tuple(sizes), utilization
        self.training = network.training
        switchable = sum(n - always for n, always in self.sizes)
        classes = network.architecture.task.num_classes
        if any(always < 0 or always >= n for n, always in self.sizes) or classes != max(2, switchable):
            raise UserError(
                "A gate policy's network must have an output for each component that can be off, at least two. "
                f"Got {classes} outputs for modules (components, always on) {self.sizes}."
            )

    @staticmethod
    def for_modules(network: AnytimeNetwork, modules: Sequence[GatedModule]) -> GatePolicy:
        """Make a policy for the gated modules of a topology.

        Parameters
        ----------
        network
            As for the constructor.
        modules
            The gated modules, ``topology.gated``.

        Returns
        -------
        GatePolicy
            At utilization 1.

        Raises
        ------
        UserError
            If the classes of the network do not match the modules.
        """
        return GatePolicy(network, [(len(module.components), module.always) for module in modules])

    def with_utilization(self, utilization: float) -> GatePolicy:
        """Return the policy at another utilization.

        Parameters
        ----------
        utilization
            In [0, 1].

        Returns
        -------
        GatePolicy
            With the same weights, not copied.

        Raises
        ------
        UserError
            For a utilization outside of [0, 1].
        """
        return GatePolicy(self.network, self.sizes, utilization)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the policy for one input."""
        return self.network.macs[-1]

    def gates(self, x: Tensor, utilization_N: Tensor) -> list[Tensor]:
        """Gates of each module for each input.

        Parameters
        ----------
        x
            Shape (N, \\*input_shape).
        utilization_N
            Utilization of each input, in [0, 1].

        Returns
        -------
        list of Tensor
            Shape (N, components) for each module: exactly 0 or 1, with gradients of probabilities (straight-through).
        """
        plane = utilization_N.to(x).reshape(-1, *(1 for _ in x.shape[1:])).expand(-1, 1, *x.shape[2:])
        probability = self.network.forward_unfolded(torch.cat([x, plane], dim=1)).sigmoid()
        bits = (probability > 0.5).to(probability) + (probability - probability.detach())
        switchable = [n - always for n, always in self.sizes]
        parts = bits[:, : sum(switchable)].split(switchable, dim=1)
        return [
            torch.cat([part.new_ones(len(part), always), part.cumprod(1)], dim=1)
            for part, (_, always) in zip(parts, self.sizes)
        ]

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Number of components that are on at the utilization of the policy.

        Parameters
        ----------
        x
            Shape (N, \\*input_shape).

        Returns
        -------
        Tensor
            Shape (N, modules), whole numbers.
        """
        gates = self.gates(x, torch.full((len(x),), self.utilization))
        return torch.stack([gate.sum(1).round().long() for gate in gates], dim=1)

    def subnetworks(self, network: AnytimeNetwork, on: Tensor) -> list[tuple[Subnetwork, Tensor]]:
        """The distinct subnetworks of a batch.

        Parameters
        ----------
        network
            The controlled network.
        on
            Number of components on, (N, modules), as by :meth:`forward`.

        Returns
        -------
        list of (Subnetwork, Tensor)
            Each subnetwork with its rows of the batch.

        Raises
        ------
        UserError
            For a network with other modules.
        """
        modules = tuple((len(module.components), module.always) for module in network.architecture.topology.gated)
        if modules != self.sizes:
            raise UserError(f"The policy needs a network with modules {self.sizes}. Got {modules}.")
        topology, largest = network.architecture.topology, network.architecture.points[-1]
        combinations, which = on.unique(dim=0, return_inverse=True)
        return [
            (switched(topology, counts, largest), (which == number).nonzero().flatten())
            for number, counts in enumerate(combinations.tolist())
        ]

    def save(self, folder: str | Path) -> None:
        """Write weights and sizes to a folder; :meth:`load` reads them.

        Parameters
        ----------
        folder
            New, empty, or of a network that was saved before, which is replaced. Files of other origin remain.

        Raises
        ------
        UserError
            If a file of other origin would be replaced, or the folder is not writable.
        """
        write_folder(folder, self.files())

    def files(self) -> Files:
        """The files that :meth:`save` writes, for folders with further files.

        Returns
        -------
        mapping of str to callable
            Relative name of each file → function that writes it to a path.
        """
        return {**self.network.files(), **settings_files(SETTINGS, {"sizes": self.sizes})}

    @staticmethod
    def load(folder: str | Path) -> GatePolicy:
        """Load a gate policy that :meth:`save` wrote.

        Parameters
        ----------
        folder
            The folder of the gate policy.

        Returns
        -------
        GatePolicy
            In evaluation mode, at utilization 1.

        Raises
        ------
        UserError
            If the folder contains no gate policy.
        """

        def parse(settings: dict[str, list[tuple[int, int]]]) -> list[tuple[int, int]]:
            return [(int(n), int(always)) for n, always in settings["sizes"]]

        sizes = read_settings(Path(folder, SETTINGS), parse, "policy.save")
        return GatePolicy(AnytimeNetwork.load(folder), sizes)
