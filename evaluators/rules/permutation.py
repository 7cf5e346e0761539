"""Changed ownership of filters in a trained causal network: channels are permuted, so that ownership is a prefix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nas.execution.network import AnytimeNetwork
from nas.representation.ownership import with_slices
from nas.representation.topology import Topology

Groups = Sequence[Sequence[int]]
"""The maps of every coupling group, see :func:`nas.representation.ownership.owned_groups`."""


def channel_groups(topology: Topology, groups: Groups) -> dict[str, tuple[int | None, ...]]:
    """For each tensor of the network, by name, the coupling group of the channels along its leading axes.

    None: an axis of a map outside all groups, or without a map. Further axes have no channels.
    """
    group = {i: g for g, maps in enumerate(groups) for i in maps}
    groups_of: dict[str, tuple[int | None, ...]] = {}
    for index, operation in enumerate(topology.operations):
        source, target = group.get(operation.source), group.get(operation.target)
        groups_of[f"layers.{index}.weight"] = (target, source)
        groups_of[f"layers.{index}.bias"] = (target,)
        for tensor in ("weight", "bias", "mean", "var"):
            groups_of[f"layers.{index}.before.{tensor}"] = (None, source)
            groups_of[f"layers.{index}.after.{tensor}"] = (None, target)
    return groups_of


class Permuted:
    """The network after a move of filters: one permutation per coupling group, without unused filters.

    Parameters
    ----------
    network
        The network before the move.
    groups
        The coupling groups.
    owners
        For each group, the new level of every channel, (channels,); the number of levels means unused.

    Attributes
    ----------
    network
        The new network, on the same device and with the same precision. Every level has the logits of the old network
        after masking the weights whose source has a larger owner than their target. Weights that become live or
        masked by the move are zero.
    """

    @torch.no_grad()
    def __init__(self, network: AnytimeNetwork, groups: Groups, owners: Sequence[np.ndarray]):
        device, levels = network.calibrated.device, network.levels
        slices = [tuple(np.bincount(o, minlength=levels + 1)[:levels].cumsum().tolist()) for o in owners]
        architecture = with_slices(network.architecture, slices)
        self._groups_of = channel_groups(architecture.topology, groups)
        order = (np.argsort(owner, kind="stable")[: s[-1]] for owner, s in zip(owners, slices))
        self._order = [torch.from_numpy(channels).to(device) for channels in order]
        old = network.state_dict()
        self.network = AnytimeNetwork(architecture).to(device, next(network.parameters()).dtype)
        self.network.preprocess, self.network.augmented = network.preprocess, network.augmented
        self._live: dict[str, Tensor] = {}
        for index, (before, after) in enumerate(zip(network.operation_layers, self.network.operation_layers)):
            if before.mask is not None and after.mask is not None:
                name = f"layers.{index}.weight"
                self._live[name] = (self._selected(name, before.mask) * after.mask) > 0
        self.network.load_state_dict({name: self.carry(name, tensor) for name, tensor in old.items()})

    def carry(self, name: str, tensor: Tensor) -> Tensor:
        """Permute values that belong to a tensor of the old network, such as its momentum, for the new network."""
        selected = self._selected(name, tensor)
        return selected.masked_fill(~self._live[name], 0) if name in self._live else selected

    def filters(self, group: int, tensor: Tensor) -> Tensor:
        """Permute values of a group's filters, (…, channels), for the new network."""
        return tensor.index_select(-1, self._order[group])

    def _selected(self, name: str, tensor: Tensor) -> Tensor:
        for axis, group in enumerate(self._groups_of.get(name, ())):
            if group is not None:
                tensor = tensor.index_select(axis, self._order[group])
        return tensor
