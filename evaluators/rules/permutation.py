"""A trained causal network with other owners of its filters: channels permuted so that ownership is a prefix again."""

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
    """Which coupling group the channels along each axis of a tensor of the network belong to, by the tensor's name.

    The axes behind those given have no channels; None is an axis of a map that is in no group, or of no map.
    """
    group = {i: g for g, maps in enumerate(groups) for i in maps}
    found: dict[str, tuple[int | None, ...]] = {}
    for index, operation in enumerate(topology.operations):
        source, target = group.get(operation.source), group.get(operation.target)
        found[f"layers.{index}.weight"] = (target, source)
        found[f"layers.{index}.bias"] = (target,)
        for tensor in ("weight", "bias", "mean", "var"):
            found[f"layers.{index}.before.{tensor}"] = (None, source)
            found[f"layers.{index}.after.{tensor}"] = (None, target)
    return found


class Permuted:
    """The network in which filters have moved: one permutation per coupling group, what is unused left out.

    owners: new level of every channel of a group, (channels,); the number of levels means unused. A weight that the
    move opens is zero, and so is one that it closes.

    network: the new one, on the same device and of the same precision. Every level computes what the old network does
    with a weight between two filters masked where the source's owner is now larger than the target's.
    """

    @torch.no_grad()
    def __init__(self, network: AnytimeNetwork, groups: Groups, owners: Sequence[np.ndarray]):
        device, levels = network.calibrated.device, network.levels
        slices = [tuple(np.bincount(o, minlength=levels + 1)[:levels].cumsum().tolist()) for o in owners]
        architecture = with_slices(network.architecture, slices)
        self._groups_of = channel_groups(architecture.topology, groups)
        order = (np.argsort(owner, kind="stable")[: s[-1]] for owner, s in zip(owners, slices))
        self._order = [torch.from_numpy(kept).to(device) for kept in order]
        old = network.state_dict()
        self.network = AnytimeNetwork(architecture).to(device, next(network.parameters()).dtype)
        self.network.preprocess = network.preprocess
        self._live: dict[str, Tensor] = {}
        for index, (before, after) in enumerate(zip(network.operation_layers, self.network.operation_layers)):
            if before.mask is not None and after.mask is not None:
                name = f"layers.{index}.weight"
                self._live[name] = (self._selected(name, before.mask) * after.mask) > 0
        self.network.load_state_dict({name: self.carry(name, tensor) for name, tensor in old.items()})

    def carry(self, name: str, tensor: Tensor) -> Tensor:
        """What belongs to a tensor of the old network, such as its momentum, as what belongs to that of the new one."""
        selected = self._selected(name, tensor)
        return selected.masked_fill(~self._live[name], 0) if name in self._live else selected

    def filters(self, group: int, tensor: Tensor) -> Tensor:
        """What is known of the filters of a group, (…, channels), for those of the new network."""
        return tensor.index_select(-1, self._order[group])

    def _selected(self, name: str, tensor: Tensor) -> Tensor:
        for axis, group in enumerate(self._groups_of.get(name, ())):
            if group is not None:
                tensor = tensor.index_select(axis, self._order[group])
        return tensor
