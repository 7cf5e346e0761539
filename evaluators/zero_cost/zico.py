"""ZiCo: size and steadiness of the gradients of the untrained network.

References
----------
Li, Yang, Bhardwaj & Marculescu, ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients, ICLR 2023,
    arXiv 2301.11300.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.data.datasets import Dataset
from evaluators.zero_cost.scoring import (
    Batch,
    Levels,
    check_settings,
    draw_batches,
    fresh_network,
    one_thread,
    over_levels,
)
from nas.execution.network import AnytimeNetwork
from nas.proxies.contract import Needs
from nas.representation.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class ZiCo:
    """ZiCo: Σ over learned operations of log Σ over their weights of mean |gradient| / standard deviation.

    Mean and (population) standard deviation are over batches; gradients are of the cross-entropy with the labels.
    Large and steady gradients should mean fast training.

    Parameters
    ----------
    levels : {"largest", "mean"}
        Score the largest operating point, or take the mean over all points.
    batches : int
        At least 2, the default of the authors' code.
    batch_size : int
        At least 2.
    data : str or Dataset, optional
        A data spec (``nas data``) or a data set; the batches consist of training images and labels instead of random
        ones.
    seed : int
        Other seeds give other weights and batches.

    Notes
    -----
    As in the authors' code, the deviation is of the signed gradient, and a weight with the same gradient in every batch
    is left out (in particular a weight that the point does not use). An operation without other weights adds nothing; a
    network without learned operations scores 0. Unlike there, gradients do not accumulate from batch to batch. Ours:
    parameters of norms and biases do not count, and gradients that overflow are left out.

    With two batches, (|a| + |b|) / |a − b| has no finite mean over random a and b: an operation's sum is dominated by
    the few weights whose two gradients are almost equal, and rounding decides some of them. So the score changes by up
    to 1 % if sums are rounded differently, as on another machine (another seed changes it by 1.4 %). With three batches
    the changes are 0.02 % and 0.4 %, with four 0.002 % and 0.3 % (10 networks at 12×12).
    """

    needs: ClassVar[Needs] = "batch"
    levels: Levels = "largest"
    batches: int = 2
    batch_size: int = 64
    data: str | Dataset | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self.levels, batch_size=self.batch_size, batches=self.batches)

    def __call__(self, architecture: Architecture) -> float:
        with one_thread():
            network = fresh_network(architecture, self.seed)
            drawn = draw_batches(architecture, self.batches, self.batch_size, self.data, self.seed)
            return over_levels(self.levels, network, lambda level: log_steadiness(gradients(network, drawn, level)))


def gradients(network: AnytimeNetwork, drawn: Sequence[Batch], level: int) -> list[Tensor]:
    """Gradients of the cross-entropy for the weights of every live learned operation, each (B, P), float64."""
    weights = [layer.weight for layer in network.operation_layers if layer.weight is not None]
    by_batch = []
    with torch.enable_grad():
        for x, labels in drawn if weights else ():
            loss = F.cross_entropy(network(x, level), network.labels(labels, level))
            by_batch.append(torch.autograd.grad(loss, weights, allow_unused=True))
    return [torch.stack(one).flatten(1).double() for one in zip(*by_batch) if one[0] is not None]


def log_steadiness(gradients_BP: Iterable[Tensor]) -> float:
    """Σ over operations of log Σ over weights of mean |g| / std g, from gradients of shape (B, P) each.

    >>> log_steadiness([torch.tensor([[1.0, 2.0, 5.0], [3.0, -2.0, 5.0]])])  # log(2/1 + 2/2): the third is left out
    1.0986122886681098
    """
    total = 0.0
    for g_BP in gradients_BP:
        varied_BP = g_BP[:, g_BP.isfinite().all(0) & (g_BP.amax(0) > g_BP.amin(0))]
        if varied_BP.shape[1]:
            total += math.log(float((varied_BP.abs().mean(0) / varied_BP.std(0, correction=0)).sum()))
    return total
