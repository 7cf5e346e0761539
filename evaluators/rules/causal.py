"""Causal training: all operating points in one forward and one backward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.reuse import accumulating_maps


class Causal:
    """Trains every operating point in every step, with one forward and one backward pass.

    For networks whose larger points reuse the results of smaller points exactly.

    Parameters
    ----------
    weights
        Weights of the points' losses, small to large, as text: "2,1,1,1"; None: all 1.
    distill
        Weight of the distillation loss, 0 for none: the Kullback-Leibler divergence, in nats, of each smaller point's
        probabilities from the largest point's detached probabilities.
    temperature
        Divides the logits in the distillation loss. The loss is multiplied by its square, so that the size of its
        gradients does not change.
    """

    def __init__(self, *, weights: str | None = None, distill: float = 0.0, temperature: float = 1.0):
        self.weights = None if weights is None else _loss_weights(weights)
        for name, value, least in (("distill", distill, 0.0), ("temperature", temperature, 1e-3)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
                raise UserError(f"{name} must be a number, at least {least:g}. Got {value!r}.")
        self.distill, self.temperature = distill, temperature

    def check(self, architecture: Architecture) -> None:
        """Raise UserError if one pass for all points is not exact, or if the numbers of weights and points differ."""
        accumulating_maps(architecture)
        self._weights_of(len(architecture.points))

    def losses(
        self, network: AnytimeNetwork, x: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """One loss: the weighted sum of the points' losses. Raises UserError as :meth:`check`."""
        if not torch.compiler.is_compiling():  # the check walks the topology and cannot be traced
            network.check_reuse()
        weights = self._weights_of(network.levels)
        *smaller, largest = network.forward_all(x)
        total = weights[-1] * F.cross_entropy(largest, network.labels(labels))
        teacher = F.log_softmax(largest.detach().float() / self.temperature, dim=1) if self.distill else None
        for level, (weight, logits) in enumerate(zip(weights, smaller)):
            loss = F.cross_entropy(logits, network.labels(labels, level))
            if teacher is not None:
                target = network.soft_labels(teacher, level)
                student = F.log_softmax(logits.float() / self.temperature, dim=1)
                divergence = F.kl_div(student, target, reduction="batchmean", log_target=True)
                loss = loss + self.distill * self.temperature**2 * divergence
            total = total + weight * loss
        yield total

    def _weights_of(self, levels: int) -> tuple[float, ...]:
        """The weight of each point's loss."""
        weights = self.weights or (1.0,) * levels
        if len(weights) != levels:
            raise UserError(f"weights must have a number for each of the {levels} points. Got {weights}.")
        return weights


def _loss_weights(text: str) -> tuple[float, ...]:
    try:
        weights = tuple(float(part) for part in str(text).split(","))
    except ValueError:
        weights = ()
    if not any(weights) or not all(0 <= weight < math.inf for weight in weights):
        raise UserError(f'weights must be numbers like "2,1,1,1", at least 0 and not all 0. Got {text!r}.')
    return weights
