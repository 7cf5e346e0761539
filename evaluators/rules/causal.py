"""Causal training: all operating points in one forward and one backward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.rules.teaching import Targets, log_probabilities
from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.reuse import accumulating_maps


@dataclass(kw_only=True, eq=False)
class Causal(Targets):
    """Trains every operating point in every step, with one forward and one backward pass.

    For networks whose larger points reuse the results of smaller points exactly.

    Parameters
    ----------
    weights
        Weights of the points' losses, small to large, as text: "2,1,1,1"; None: all 1.
    distill
        Weight of the distillation loss, 0 for none: the Kullback-Leibler divergence, in nats, of each smaller point's
        probabilities from the largest point's detached probabilities; with ``ema``, from those of the moving average.
    temperature
        Divides the logits in the distillation loss. The loss is multiplied by its square, so that the size of its
        gradients does not change.
    ema, ensemble, smoothing, zero_init
        See :class:`evaluators.rules.teaching.Targets`.
    """

    weights: str | None = None
    distill: float = 0.0
    temperature: float = 1.0

    _switch = "distill"

    def __post_init__(self) -> None:
        self._weights = None if self.weights is None else _loss_weights(self.weights)
        for name, least in (("distill", 0.0), ("temperature", 1e-3)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
                raise UserError(f"{name} must be a number, at least {least:g}. Got {value!r}.")
        super().__post_init__()

    @property
    def teaches(self) -> bool:
        """Whether smaller points learn the answers of a teacher."""
        return self.distill > 0

    def check(self, architecture: Architecture) -> None:
        """Raise UserError if one pass for all points is not exact, or if the numbers of weights and points differ."""
        super().check(architecture)
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
        total = weights[-1] * self.on_labels(network, largest, labels, network.levels - 1)
        answers = self._answers(network, x, largest)
        for level, (weight, logits) in enumerate(zip(weights, smaller)):
            loss = self.on_labels(network, logits, labels, level)
            if answers:
                target = self._target(network, level, answers)
                exact = logits if logits.dtype == torch.float64 else logits.float()
                student = F.log_softmax(exact / self.temperature, dim=1)
                divergence = F.kl_div(student, target, reduction="batchmean", log_target=True)
                loss = loss + self.distill * self.temperature**2 * divergence
            total = total + weight * loss
        yield total

    @torch.no_grad()
    def _answers(self, network: AnytimeNetwork, x: Tensor, largest: Tensor) -> list[Tensor]:
        """Log-probabilities of the teachers, the largest point last; empty without distillation."""
        if not self.distill:
            return []
        if not self.ema:
            return [log_probabilities(largest, self.temperature)]
        teacher = self.averaged or network
        logits = teacher.forward_all(x)[1:] if self.ensemble else [self.averaged_answer(network, x, network.levels - 1)]
        return [log_probabilities(each, self.temperature) for each in logits]

    def _target(self, network: AnytimeNetwork, level: int, answers: list[Tensor]) -> Tensor:
        """Log-probabilities that a smaller level learns."""
        if not (self.ensemble and level == 0):
            return network.soft_labels(answers[-1], level)
        joined = torch.stack([network.soft_labels(answer, level) for answer in answers])
        return joined.logsumexp(0) - math.log(len(answers))

    def _weights_of(self, levels: int) -> tuple[float, ...]:
        """The weight of each point's loss."""
        weights = self._weights or (1.0,) * levels
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
