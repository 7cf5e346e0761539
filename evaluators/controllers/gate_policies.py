"""Gate policies of a frozen network: training, and measurement at each utilization.

The loss is cross-entropy + λ · ln(classes) · penalty(G, u). u is drawn uniformly from [0, 1] for each sample. G is the
mean gate of the components that can be off, weighted by the cost of their module. The penalty is (1 − u) · G (linear),
max(0, G − u)^p (hinge) or |G − u|^p (distance). Gates are exactly 0 or 1, with straight-through gradients.

The loss and its penalties are from the paper's released code. Ours: gates are nested, so that the chosen components can
be executed without the rest; policies learn from validation images (:mod:`evaluators.controllers.training`).

References
----------
Liu, Parajuli, Hostetler, Chai & Bhanu, Dynamically Throttleable Neural Networks (TNN), arXiv 2011.02836.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.data.batches import Batches
from nas.evaluation.controllers import ControllerSettings
from nas.execution.controlled_network import ControlledNetwork
from nas.execution.gate_policy import GatePolicy
from nas.execution.network import AnytimeNetwork
from nas.representation.cost import subnetwork_macs
from nas.representation.gates import module_shares

LEARNING_RATE, WEIGHT_DECAY = 1e-2, 1e-3


def penalty(gate_N: Tensor, utilization_N: Tensor, shape: str, power: float) -> Tensor:
    """Penalty of mean gates, (N,), at utilizations, (N,). shape: see :data:`nas.evaluation.controllers.SHAPES`."""
    if shape == "linear":
        return (1 - utilization_N) * gate_N
    excess_N = gate_N - utilization_N
    return (excess_N.clamp(min=0) if shape == "hinge" else excess_N.abs()) ** power


def mean_gate(gates: Sequence[Tensor], sizes: Sequence[tuple[int, int]], shares: Sequence[float]) -> Tensor:
    """Mean gate of the components that can be off, weighted by cost, (N,).

    gates: (N, components) for each module. sizes: (components, always on) of each. shares: cost of each, summing to 1.
    """
    means = [gate[:, always:].mean(1) * share for gate, (_, always), share in zip(gates, sizes, shares)]
    return torch.stack(means).sum(0)


def train_gates(
    policy: GatePolicy,
    network: AnytimeNetwork,
    inputs: Batches,
    weight: float,
    settings: ControllerSettings,
    generator: torch.Generator,
) -> None:
    """Train a policy for a network in evaluation mode, which stays unchanged. weight: λ."""
    topology, task = network.architecture.topology, network.architecture.task
    shares = module_shares(topology, network.architecture.points[-1])
    parameters = list(policy.network.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs * inputs.steps)
    policy.network.train()
    for _ in range(settings.epochs):
        for x, y in inputs.train(generator):
            utilization_N = torch.rand(len(x), generator=generator).to(x.device)
            gates = policy.gates(x, utilization_N)
            used_N = mean_gate(gates, policy.sizes, shares)
            cost = penalty(used_N, utilization_N, *settings.gate_penalty).mean()
            loss = F.cross_entropy(network.forward_gated(x, gates), y) + weight * math.log(task.num_classes) * cost
            optimiser.zero_grad()
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
                parameter.grad = gradient
            optimiser.step()
            decay.step()


@torch.no_grad()
def measure_gates(policy: GatePolicy, network: AnytimeNetwork, loaders: dict[str, Batches]) -> dict[str, Any]:
    """Accuracy under a policy at its utilization, and mean MACs of an example with the policy, for each loader."""
    topology, row = network.architecture.topology, dict[str, Any]()
    controlled = ControlledNetwork(network, policy)
    for part, loader in loaders.items():
        correct, cost = 0, 0
        for x, y in loader.evaluate():
            correct += int((controlled(x).argmax(1) == y).sum())
            subnetworks = policy.subnetworks(network, policy(x))
            cost += sum(subnetwork_macs(topology, subnetwork) * len(rows) for subnetwork, rows in subnetworks)
        row[f"{part}accuracy"] = correct / len(loader)
        row[f"{part}macs"] = policy.macs + cost / len(loader)
    return row
