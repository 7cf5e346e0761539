"""The sandwich rule of US-Net."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.representation.elements import Subnetwork


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


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in str(text).split(","))
    except ValueError:
        found = ()
    if not (found and all(0 <= number < math.inf for number in found) and any(found)):
        raise UserError(f'weights must be numbers like "2,1,1,1", at least 0 and not all 0. Got {text!r}.')
    return found
