"""The sandwich rule of US-Net: the largest operating point, the smallest, and random points between them.

References
----------
Yu & Huang, Universally Slimmable Networks and Improved Training Techniques, ICCV 2019, arXiv 1903.05134.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from evaluators.rules.teaching import Taught
from nas.errors import UserError
from nas.execution.network import AnytimeNetwork


@dataclass(kw_only=True, eq=False)
class Sandwich(Taught):
    """Trains the largest point, the smallest and random points between them in every step.

    Parameters
    ----------
    sampled
        Number of points between them, drawn without replacement.
    soft, ema, ensemble, smoothing, zero_init
        See :class:`evaluators.rules.teaching.Taught`.
    """

    sampled: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.sampled, bool) or not isinstance(self.sampled, int) or self.sampled < 0:
            raise UserError(f"sampled must be a whole number of points, at least 0. Got sampled={self.sampled!r}.")
        super().__post_init__()

    def losses(
        self, network: AnytimeNetwork, x: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """One loss per trained point: the largest, the smallest, then the sampled points."""
        between = torch.randperm(max(network.levels - 2, 0), generator=generator)[: self.sampled] + 1
        yield from self.step(network, x, labels, between.tolist())
