"""Causal training: all operating points in one forward and one backward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.rules.sandwich import _numbers
from nas.errors import UserError
from nas.execution.network import AnytimeNetwork


class Causal:
    """Every operating point in every step from one forward and one backward pass: for networks whose larger points
    build on the smaller ones' results, exactly.

    weights: of the points' losses, small to large, as text: "2,1,1,1"; all 1 by default.
    distill: weight of a second loss of all points but the largest, the divergence of their answers from its detached
        ones (Kullback-Leibler, in nats); 0 leaves it out.
    temperature: divides the logits in that loss, which is multiplied by its square, to keep the size of its gradients.
    """

    def __init__(self, *, weights: str | None = None, distill: float = 0.0, temperature: float = 1.0):
        self.weights = None if weights is None else _numbers(weights)
        for name, value, least in (("distill", distill, 0.0), ("temperature", temperature, 1e-3)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
                raise UserError(f"{name} must be a number, at least {least:g}. Got {value!r}.")
        self.distill, self.temperature = distill, temperature

    def losses(
        self, network: AnytimeNetwork, x: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """One loss: the weighted sum of the points' losses.

        Raises UserError where a pass for all points is not exact, and where weights are not as many as points.
        """
        if not torch.compiler.is_compiling():  # the check walks the topology, which is nothing to trace
            network.check_reuse()
        weights = self.weights or (1.0,) * network.levels
        if len(weights) != network.levels:
            raise UserError(f"There must be a weight for each of the {network.levels} points. Got {weights=}.")
        *smaller, largest = network.forward_all(x)
        total = weights[-1] * F.cross_entropy(largest, network.labels(labels))
        teacher = F.log_softmax(largest.detach().float() / self.temperature, dim=1) if self.distill else None
        for level, (weight, logits) in enumerate(zip(weights, smaller)):
            loss = F.cross_entropy(logits, network.labels(labels, level))
            if teacher is not None:
                target = network.soft_labels(teacher, level)
                answers = F.log_softmax(logits.float() / self.temperature, dim=1)
                divergence = F.kl_div(answers, target, reduction="batchmean", log_target=True)
                loss = loss + self.distill * self.temperature**2 * divergence
            total = total + weight * loss
        yield total
