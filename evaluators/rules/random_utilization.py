"""Training throttleable networks: every sample at a random utilization of its own, all on the labels.

From the paper's released code: u drawn uniformly from [least, 1] for each sample, the four orders in which components
go on, cross-entropy alone, one norm for all utilizations. In what an order says of several modules, ours: *blockwise*
goes round-robin from the last module.

References
----------
Liu, Parajuli, Hostetler, Chai & Bhanu, Dynamically Throttleable Neural Networks (TNN), arXiv 2011.02836.
Hostetler, Toward Runtime-Throttleable Neural Networks, arXiv 1905.13179.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.rules.sandwich import targets
from nas.errors import UserError, unknown_name
from nas.execution.masked import nested_gates
from nas.execution.network import AnytimeNetwork
from nas.representation.gates import round_robin, throttled
from nas.representation.topology import Topology

ORDERS = ("nested", "permuted", "joint", "blockwise")
"""Order in which components are switched on. nested: first components first, as :meth:`AnytimeNetwork.set_utilization`
does. permuted: in random order in each module. joint: in random order over all modules. blockwise: over all modules,
round-robin from the last.
"""


class RandomUtilization:
    """Every sample at a utilization of its own.

    least: the smallest utilization that is drawn. order: which components a utilization switches on, one of
    :data:`ORDERS`; other ones than nested train subnetworks that do not run as they are.

    Beyond the paper's code, where the largest networks are to lose nothing, and the smallest to work in deep ones:

    warm_up: share of the training in which all samples are at utilization 1.
    groups: all samples are at utilization 1 in every step; besides, they are split into so many groups of one
        utilization each, the first of them the smallest. Norms see what is alike, and only what is on runs. 0: each
        sample is at a utilization of its own, all in one masked pass.
    weight: of the groups' loss beside that of the largest. soft: groups learn the largest's detached answers instead of
        the labels (in-place distillation).
    """

    progress: float = 1.0
    """How far the training has come; set by the trainer before each step."""

    def __init__(
        self,
        *,
        least: float = 0.0,
        order: str = "nested",
        warm_up: float = 0.0,
        groups: int = 0,
        weight: float = 1.0,
        soft: bool = False,
    ):
        if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least < 1:
            raise UserError(f"least must be a utilization from 0 to below 1. Got {least!r}.")
        if isinstance(warm_up, bool) or not isinstance(warm_up, int | float) or not 0 <= warm_up < 1:
            raise UserError(f"warm_up must be a share from 0 to below 1. Got {warm_up!r}.")
        if type(groups) is not int or groups < 0:
            raise UserError(f"groups must be a whole number, at least 0. Got {groups!r}.")
        if order not in ORDERS:
            raise UserError(unknown_name("order of components", order, ORDERS))
        if groups and order != "nested":
            raise UserError(f"Groups run only what is on, in nested order. Got {groups=}, {order=}.")
        if soft not in (True, False) or (soft and not groups):
            raise UserError(f"soft must be true or false, and is for groups. Got {soft=}, {groups=}.")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise UserError(f"weight must be positive. Got {weight!r}.")
        if weight != 1 and not groups:
            raise UserError(f"weight is for groups. Got {weight=}, {groups=}.")
        self.least, self.order, self.warm_up = float(least), order, float(warm_up)
        self.groups, self.weight, self.soft = groups, float(weight), bool(soft)

    def losses(
        self, network: AnytimeNetwork, x: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """The cross-entropy of the batch; with groups, each one's part of a second one. Raises UserError for a network
        without gated modules.
        """
        topology = network.architecture.topology
        if not topology.gated:
            raise UserError(
                "Random utilizations need a network with gated modules, as of the space 'throttleable'. "
                "Got none: train it with 'sandwich' or 'joint'."
            )
        if self.groups or self.progress < self.warm_up:
            largest = network.levels - 1
            logits = network(x, largest)
            yield F.cross_entropy(logits, labels)
            if self.progress >= self.warm_up:
                answers = targets(network, largest, labels, logits if self.soft else None)
                yield from self._grouped(network, x, answers, generator)
        else:
            drawn = sample_gates(topology, self._draw(len(x), generator), self.order, generator)
            yield F.cross_entropy(network.forward_gated(x, [gate.to(x.device) for gate in drawn]), labels)

    def _grouped(
        self, network: AnytimeNetwork, x: Tensor, answers: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        topology, largest = network.architecture.topology, network.architecture.points[-1]
        groups = max(1, min(self.groups, len(x) // 2))  # a norm of vectors cannot take a single sample
        utilizations = [self.least, *self._draw(groups - 1, generator).tolist()]
        for utilization, *part in zip(utilizations, x.tensor_split(groups), answers.tensor_split(groups)):
            logits = network(part[0], throttled(topology, utilization, largest))
            yield self.weight / len(x) * F.cross_entropy(logits, part[1], reduction="sum")

    def _draw(self, count: int, generator: torch.Generator) -> Tensor:
        return self.least + (1 - self.least) * torch.rand(count, generator=generator, dtype=torch.float64)


def sample_gates(topology: Topology, utilization_N: Tensor, order: str, generator: torch.Generator) -> list[Tensor]:
    """The gates of every module, each (N, components): what is always on, and of the others, which stand in an order,
    as many of the first as the utilization of a sample says. utilization_N: on the CPU, in double precision.
    """
    if order == "nested":
        return nested_gates(topology, utilization_N)
    free = [len(module.components) - module.always for module in topology.gated]
    if order == "blockwise":
        starts, places = [sum(free[:m]) for m in range(len(free))], torch.empty(sum(free), dtype=torch.long)
        places[[starts[m] + i for m, i in round_robin(free)]] = torch.arange(sum(free))
        orders = [places.expand(len(utilization_N), -1)]
    else:
        pools = free if order == "permuted" else [sum(free)]
        orders = [torch.rand(len(utilization_N), n, generator=generator).argsort(1) for n in pools]
    switched = [utilization_N[:, None] >= (places + 1).double() / (places.shape[1] + 1) for places in orders]
    parts = torch.cat(switched, dim=1).float().split(free, dim=1)
    return [
        torch.cat([part.new_ones(len(part), module.always), part], dim=1) for module, part in zip(topology.gated, parts)
    ]
