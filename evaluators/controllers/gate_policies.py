"""Training gate policies of a frozen network, and measuring what they reach at each utilization.

The loss is cross-entropy + λ · ln(classes) · penalty(G, u), with u drawn uniformly from [0, 1] for each sample, and G
the mean gate of what can be off, weighted by what each module costs. The penalty is (1 − u) · G (linear),
max(0, G − u)^p (hinge) or |G − u|^p (distance). Gates are exactly 0 or 1, their gradients straight-through; the data
path and its norms stay as they are.

From the paper's released code: the loss and its penalties. Ours: nested gates, so that what a policy picks really runs;
that policies learn from validation images, as controllers do (:mod:`evaluators.controllers.training`).

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
from nas.evaluation.controllers import ControlSettings
from nas.execution.gate_policy import GatePolicy
from nas.execution.network import AnytimeNetwork
from nas.representation.cost import subnetwork_macs
from nas.representation.gates import module_shares

LEARNING_RATE, WEIGHT_DECAY = 1e-2, 1e-3


def penalty(gate_N: Tensor, utilization_N: Tensor, shape: str, power: float) -> Tensor:
    """What so much mean gate costs at a utilization, (N,). shape: one of :data:`nas.evaluation.controllers.SHAPES`."""
    if shape == "linear":
        return (1 - utilization_N) * gate_N
    excess_N = gate_N - utilization_N
    return (excess_N.clamp(min=0) if shape == "hinge" else excess_N.abs()) ** power


def mean_gate(gates: Sequence[Tensor], sizes: Sequence[tuple[int, int]], shares: Sequence[float]) -> Tensor:
    """The share of what can be off that is on, by cost, (N,). gates: of every module, (N, components)."""
    means = [gate[:, always:].mean(1) * share for gate, (_, always), share in zip(gates, sizes, shares)]
    return torch.stack(means).sum(0)


def train_gates(
    policy: GatePolicy,
    network: AnytimeNetwork,
    inputs: Batches,
    weight: float,
    settings: ControlSettings,
    generator: torch.Generator,
) -> None:
    """Train a policy for a network in evaluation mode, which is left as it is. weight: λ."""
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
            paid = penalty(used_N, utilization_N, settings.shape, settings.power).mean()
            loss = F.cross_entropy(network.forward_gated(x, gates), y) + weight * math.log(task.num_classes) * paid
            optimiser.zero_grad()
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
                parameter.grad = gradient
            optimiser.step()
            decay.step()


@torch.no_grad()
def measure_gates(policy: GatePolicy, network: AnytimeNetwork, loaders: dict[str, Batches]) -> dict[str, Any]:
    """Accuracies under a policy at its utilization, and the mean MACs of an example, those of the policy included."""
    topology, found = network.architecture.topology, dict[str, Any]()
    for part, loader in loaders.items():
        right, cost = 0, 0
        for x, y in loader.evaluate():
            right += int((policy.answer(network, x).argmax(1) == y).sum())
            ran = policy.subnetworks(network, policy(x))
            cost += sum(subnetwork_macs(topology, subnetwork) * len(rows) for subnetwork, rows in ran)
        found[f"{part}accuracy"] = right / len(loader)
        found[f"{part}macs"] = policy.macs + cost / len(loader)
    return found
