"""Training rules for width-elastic networks: joint training of all points, and the sandwich rule.

References
----------
Yu et al., Slimmable Neural Networks, ICLR 2019, arXiv 1812.08928 (joint).
Yu & Huang, Universally Slimmable Networks and Improved Training Techniques, ICCV 2019, arXiv 1903.05134 (sandwich,
in-place distillation).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.errors import UserError
from nas.network import AnytimeNetwork


class Joint:
    """Every operating point in every step, each on the labels."""

    def losses(
        self, network: AnytimeNetwork, x: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """One cross-entropy per level, largest first."""
        for level in reversed(range(network.levels)):
            yield F.cross_entropy(network(x, level), labels)


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
        levels = network.levels
        logits = network(x, levels - 1)
        targets = logits.detach().softmax(1) if self.soft else labels
        yield F.cross_entropy(logits, labels)
        if levels > 1:
            yield F.cross_entropy(network(x, 0), targets)
        between = torch.randperm(max(levels - 2, 0), generator=generator)[: self.sampled] + 1
        for level in between.tolist():
            yield F.cross_entropy(network(x, level), targets)
