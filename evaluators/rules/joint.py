"""Joint training: every operating point in every step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.execution.network import AnytimeNetwork


class Joint:
    """Trains every operating point in every step, on the labels."""

    def losses(
        self, network: AnytimeNetwork, x: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """One cross-entropy per operating point, largest first."""
        for level in reversed(range(network.levels)):
            yield F.cross_entropy(network(x, level), network.labels(labels, level))
