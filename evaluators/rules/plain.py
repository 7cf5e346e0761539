"""Training rules for all points at once: joint training, the sandwich rule, and one pass where results are shared.

References
----------
Lee & Shin, Anytime Neural Prediction via Slicing Networks Vertically, 2018, arXiv 1807.02609 (the losses of all points
summed, as :class:`Causal` does; one pass for all of them, and its distillation, are ours).
Yu et al., Slimmable Neural Networks, ICLR 2019, arXiv 1812.08928 (joint).
Yu & Huang, Universally Slimmable Networks and Improved Training Techniques, ICCV 2019, arXiv 1903.05134 (sandwich,
in-place distillation).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.representation.topology import Subnetwork


class Joint:
    """Every operating point in every step, each on the labels."""

    def losses(
        self, network: AnytimeNetwork, x: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """One cross-entropy per level, largest first."""
        for level in reversed(range(network.levels)):
            yield F.cross_entropy(network(x, level), network.labels(labels, level))


class Sandwich:
    """The largest point, the smallest and randomly sampled ones between them in every step.

    sampled: how many of the points between are drawn, without replacement.
    soft: the others learn the largest's detached answers instead of the labels (in-place distillation); in short
        training its teacher is still untrained, so labels are the default.
    """

    def __init__(self, *, sampled: int = 1, soft: bool = False):
        if isinstance(sampled, bool) or not isinstance(sampled, int) or sampled < 0:
            raise UserError(f"sampled must be a whole number of points, at least 0. Got {sampled=}.")
        if soft not in (True, False):
            raise UserError(f"soft must be true or false. Got {soft=}.")
        self.sampled, self.soft = sampled, bool(soft)

    def losses(
        self, network: AnytimeNetwork, x: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """One loss per trained level: the largest first, then the smallest, then the sampled ones."""
        largest = network.levels - 1
        logits = network(x, largest)
        yield F.cross_entropy(logits, network.labels(labels))
        between = torch.randperm(max(largest - 1, 0), generator=generator)[: self.sampled] + 1
        for level in [0, *between.tolist()] if largest else []:
            yield F.cross_entropy(network(x, level), targets(network, level, labels, logits if self.soft else None))


def targets(network: AnytimeNetwork, level: int | Subnetwork, labels: Tensor, teacher: Tensor | None) -> Tensor:
    """What a level learns: its labels (N,), or, of a teacher's logits (N, K), detached probabilities of its labels."""
    if teacher is None:
        return network.labels(labels, level)
    return network.soft_labels(teacher.detach().float().log_softmax(1), level).exp()


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


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in str(text).split(","))
    except ValueError:
        found = ()
    if not (found and all(0 <= number < math.inf for number in found) and any(found)):
        raise UserError(f'weights must be numbers like "2,1,1,1", at least 0 and not all 0. Got {text!r}.')
    return found
