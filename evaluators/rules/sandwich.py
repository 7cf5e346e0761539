"""The sandwich rule of US-Net: the largest operating point, the smallest, and random points between them.

References
----------
Yu & Huang, Universally Slimmable Networks and Improved Training Techniques, ICCV 2019, arXiv 1903.05134.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.representation.elements import Subnetwork


class Sandwich:
    """Trains the largest point, the smallest and random points between them in every step.

    Parameters
    ----------
    sampled
        Number of points between them, drawn without replacement.
    soft
        Train the smaller points on the largest point's detached probabilities instead of the labels (in-place
        distillation). Labels are the default, because the largest point is a poor teacher early in a short training.
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
        """One loss per trained point: the largest, the smallest, then the sampled points."""
        largest = network.levels - 1
        logits = network(x, largest)
        yield F.cross_entropy(logits, network.labels(labels))
        between = torch.randperm(max(largest - 1, 0), generator=generator)[: self.sampled] + 1
        for level in [0, *between.tolist()] if largest else []:
            yield F.cross_entropy(network(x, level), targets(network, level, labels, logits if self.soft else None))


def targets(network: AnytimeNetwork, level: int | Subnetwork, labels: Tensor, teacher: Tensor | None) -> Tensor:
    """The targets of a level: its labels (N,), or detached probabilities from a teacher's logits (N, K).

    Probabilities are at the level's labelling, (N, number of its labels).
    """
    if teacher is None:
        return network.labels(labels, level)
    return network.soft_labels(teacher.detach().float().log_softmax(1), level).exp()
