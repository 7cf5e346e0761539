"""Training of throttleable networks: a random utilization for each sample, with the labels as targets.

From the paper's released code: u drawn uniformly from [least, 1] for each sample, the four orders in which components
are switched on, cross-entropy as the only loss, one norm for all utilizations; one permutation for all modules of a
stage; *blockwise* goes round-robin from the last stage, of whose n components at most ⌈n·u⌉ are on. Ours: which modules
form a stage, see :func:`nas.representation.gates.module_stages`.

References
----------
Liu, Parajuli, Hostetler, Chai & Bhanu, Dynamically Throttleable Neural Networks (TNN), arXiv 2011.02836.
Hostetler, Toward Runtime-Throttleable Neural Networks, arXiv 1905.13179.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.rules.teaching import targets
from nas.errors import UserError, unknown_name
from nas.execution.masked import nested_gates
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.gates import module_stages, round_robin, throttled
from nas.representation.topology import Topology

ORDERS = ("nested", "permuted", "joint", "blockwise")
"""Orders in which components are switched on.

nested: the first components of each module, as :meth:`AnytimeNetwork.set_utilization` runs them. permuted: the same
number of random components of each module, equal ones in the modules of a stage. joint: random components of all
modules together. blockwise: components of all modules together, round-robin from the last module; with one module, from
the last size of its maps. Of the n components of a module or size, at most ⌈n·u⌉ are on, so a component may be off at a
larger utilization than one at which it is on.
"""


class RandomUtilization:
    """Trains every sample at its own random utilization.

    Parameters
    ----------
    least
        Smallest utilization.
    order
        Order in which components are switched on, one of :data:`ORDERS`. Orders other than "nested" train subnetworks
        that are not used in deployment.
    warm_up
        Share of the training in which all samples are at utilization 1.
    groups
        0: each sample has its own utilization, in one masked pass. Otherwise, every step trains all samples at
        utilization 1, and also this number of groups of samples with one utilization per group; the first group has
        the smallest. Batch statistics are then computed at one utilization, and only active components are executed.
    weight
        Weight of the groups' loss, relative to the loss at utilization 1.
    soft
        Train groups on the detached probabilities at utilization 1 instead of the labels (in-place distillation).

    Notes
    -----
    warm_up, groups, weight and soft are not in the paper's code. They keep the accuracy of the largest networks, and
    make small utilizations work in deep networks.
    """

    progress: float = 1.0
    """Share of the training so far; set by the trainer before each step."""

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
            raise UserError(f"Groups need the order 'nested'. Got {groups=}, {order=}.")
        if soft not in (True, False) or (soft and not groups):
            raise UserError(f"soft must be true or false, and is for groups. Got {soft=}, {groups=}.")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise UserError(f"weight must be positive. Got {weight!r}.")
        if weight != 1 and not groups:
            raise UserError(f"weight is for groups. Got {weight=}, {groups=}.")
        self.least, self.order, self.warm_up = float(least), order, float(warm_up)
        self.groups, self.weight, self.soft = groups, float(weight), bool(soft)

    def check(self, architecture: Architecture) -> None:
        """Raise UserError for a network without gated modules."""
        if not architecture.topology.gated:
            raise UserError(
                "Random utilizations need a network with gated modules, as in the space 'throttleable'. "
                "Got none: train it with 'sandwich' or 'joint'."
            )

    def losses(
        self, network: AnytimeNetwork, x: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """The cross-entropy of the batch; with groups, also one part per group of a second cross-entropy.

        Raises UserError as :meth:`check`.
        """
        self.check(network.architecture)
        topology = network.architecture.topology
        if self.groups or self.progress < self.warm_up:
            largest = network.levels - 1
            logits = network(x, largest)
            yield F.cross_entropy(logits, labels)
            if self.progress >= self.warm_up:
                expected = targets(network, largest, labels, logits if self.soft else None)
                yield from self._grouped(network, x, expected, generator)
        else:
            drawn = sample_gates(topology, self._draw(len(x), generator), self.order, generator)
            yield F.cross_entropy(network.forward_gated(x, [gate.to(x.device) for gate in drawn]), labels)

    def _grouped(
        self, network: AnytimeNetwork, x: Tensor, expected: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        topology, largest = network.architecture.topology, network.architecture.points[-1]
        groups = max(1, min(self.groups, len(x) // 2))  # batch norm of vectors needs two samples
        utilizations = [self.least, *self._draw(groups - 1, generator).tolist()]
        for utilization, images, goal in zip(utilizations, x.tensor_split(groups), expected.tensor_split(groups)):
            subnetwork = throttled(topology, utilization, largest)
            if not subnetwork.operations:  # nothing learns where nothing runs
                continue
            logits = network(images, subnetwork)
            yield self.weight / len(x) * F.cross_entropy(logits, goal, reduction="sum")

    def _draw(self, count: int, generator: torch.Generator) -> Tensor:
        return self.least + (1 - self.least) * torch.rand(count, generator=generator, dtype=torch.float64)


def sample_gates(topology: Topology, utilization_N: Tensor, order: str, generator: torch.Generator) -> list[Tensor]:
    """The gates of every module, each (N, components): 1 for components that are on, 0 for components that are off.

    Components that are always on have gate 1. The number of the other components that are on follows from the sample's
    utilization, and their choice from the order.

    utilization_N: on the CPU, in double precision.
    """
    if order == "nested":
        return nested_gates(topology, utilization_N)
    free = [len(module.components) - module.always for module in topology.gated]
    if order == "blockwise":
        switched = _blockwise(topology, free, utilization_N)
    else:
        pools = [sum(free)]
        if order == "permuted":
            of_stage = dict(zip(module_stages(topology), free))
            pools = list(of_stage.values())
        drawn = [torch.rand(len(utilization_N), n, generator=generator).argsort(1) for n in pools]
        orders = [drawn[stage] for stage in module_stages(topology)] if order == "permuted" else drawn
        thresholds = [(places + 1).double() / (places.shape[1] + 1) for places in orders]
        switched = torch.cat([utilization_N[:, None] >= each for each in thresholds], dim=1)
    parts = switched.float().split(free, dim=1)
    return [
        torch.cat([part.new_ones(len(part), module.always), part], dim=1) for module, part in zip(topology.gated, parts)
    ]


def _blockwise(topology: Topology, free: Sequence[int], utilization_N: Tensor) -> Tensor:
    """Which components are on in the order "blockwise", (N, all that are not always on).

    free: number of these components of each module.
    """
    modules = [m for m, count in enumerate(free) for _ in range(count)]
    parts = modules
    if len(topology.gated) == 1:
        components = topology.gated[0].components[topology.gated[0].always :]
        parts = [-math.prod(topology.maps[maps[0]].size) for maps in components]
    names = sorted(set(parts))
    members = [[i for i, part in enumerate(parts) if part == name] for name in names]
    order = [members[part][i] for part, i in round_robin([len(each) for each in members])]
    part_of = {i: part for part, each in enumerate(members) for i in each}
    sizes = torch.tensor([len(each) for each in members], dtype=torch.double)
    most = torch.ceil(sizes * utilization_N[:, None])
    thresholds = torch.arange(1, len(parts) + 1, dtype=torch.double) / (len(parts) + 1)
    count_N = (utilization_N[:, None] >= thresholds).sum(1)
    on = torch.zeros(len(utilization_N), len(parts), dtype=torch.bool)
    for component in order:
        part = part_of[component]
        on[:, component] = (on[:, members[part]].sum(1) < most[:, part]) & (on.sum(1) < count_N)
    return on
