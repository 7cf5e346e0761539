"""ZiCo."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.data.datasets import Dataset
from evaluators.zero_cost.scoring import Batch, Levels, _check, _one_thread, _over, draw_batches, fresh_network
from nas.execution.network import AnytimeNetwork
from nas.proxies.contract import Needs
from nas.representation.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class ZiCo:
    """ZiCo: Σ over learned operations of log Σ over their weights of mean |gradient| / its standard deviation.

    Mean and (population) deviation are over batches, the gradients those of the cross-entropy with the labels. Where
    they are large and steady, training should be fast.

    levels, seed: see :mod:`evaluators.zero_cost.proxies`. batches: at least two; two are the default of the authors'
    code. data: a data spec or a Dataset whose training images and labels make the batches, in place of random ones.

    Notes
    -----
    The deviation is that of the signed gradient, as in the authors' code. As there, a weight whose gradient is the same
    in every batch is left out (it includes the weights that the point does not use), and an operation without any other
    adds nothing; a network without learned operations scores 0. Unlike there, gradients do not add up from batch to
    batch. Ours: norms' parameters and biases do not count, and gradients that overflow are left out.

    With two batches, (|a| + |b|) / |a − b| has no finite mean over random a and b: the few weights whose gradients all
    but coincide decide an operation's sum, and rounding decides some of those. So the score moves by up to 1 % where
    sums are rounded differently, as on another machine (a seed moves it by 1.4 %); with three batches it is 0.02 % and
    0.4 %, with four 0.002 % and 0.3 % (10 networks at 12×12).

    References
    ----------
    Li, Yang, Bhardwaj & Marculescu, ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients, ICLR 2023,
    arXiv 2301.11300.
    """

    needs: ClassVar[Needs] = "batch"
    levels: Levels = "largest"
    batches: int = 2
    batch_size: int = 64
    data: str | Dataset | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.levels, batch_size=self.batch_size, batches=self.batches)

    def __call__(self, architecture: Architecture) -> float:
        with _one_thread():
            network = fresh_network(architecture, self.seed)
            drawn = draw_batches(architecture, self.batches, self.batch_size, self.data, self.seed)
            return _over(self.levels, network, lambda level: log_steadiness(gradients(network, drawn, level)))


def gradients(network: AnytimeNetwork, drawn: Sequence[Batch], level: int) -> list[Tensor]:
    """Gradients of the cross-entropy by the weights of every live learned operation, each (B, P), float64."""
    weights = [layer.weight for layer in network.operation_layers if layer.weight is not None]
    rows = []
    with torch.enable_grad():
        for x, labels in drawn if weights else ():
            loss = F.cross_entropy(network(x, level), network.labels(labels, level))
            rows.append(torch.autograd.grad(loss, weights, allow_unused=True))
    return [torch.stack(found).flatten(1).double() for found in zip(*rows) if found[0] is not None]


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
