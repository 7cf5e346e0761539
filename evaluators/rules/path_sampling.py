"""Path-sampled training: the largest point, the smallest, and subnetworks sampled by operations and widths.

The four rules differ only in the alternatives that they sample with P ∝ 1 + β instead of P ∝ 1: ``path_sampling``
favours alternatives that are important in a Markov chain. Its controls: ``uniform_sampling`` favours none,
``degree_sampling`` favours alternatives between maps of high degree, ``random_path_sampling`` one random alternative of
every choice. In a network without alternatives, only widths are sampled, and the four rules would be equal: the
three that favour some refuse it. :func:`nas.chain.width_schedule` lets importance change its widths.

From the paper: important operations are sampled with higher probability during training. Ours: β, the choices, labels
as targets at every width (see :class:`evaluators.rules.sandwich.Sandwich`), and the methods of
:mod:`nas.representation.supernet` and :mod:`nas.chain.importance`.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023.
Yu & Huang, Universally Slimmable Networks and Improved Training Techniques, ICCV 2019, arXiv 1903.05134 (largest,
smallest and two random subnetworks per step; in-place distillation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.rules.sandwich import targets
from nas.chain.importance import (
    CHAINS,
    chain_scores,
    degree_importance,
    important_alternatives,
    random_alternatives,
)
from nas.errors import UserError, unknown_name
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.supernet import (
    WIDTHS,
    ChoiceGroup,
    choice_groups,
    favour,
    sample_subnetwork,
)
from nas.seeds import seed

Important = Callable[[Architecture], tuple[int, ...]]
"""The index of the alternative of every choice that is sampled more often."""


class SubnetworkSampling:
    """Trains the largest point, the smallest and sampled subnetworks in every step; the base of this file's rules.

    Parameters
    ----------
    important
        The favoured alternatives of an architecture; None: none.
    beta
        Favoured alternatives are sampled 1 + β times as often.
    sampled
        Sampled subnetworks per step.
    soft
        Train smaller subnetworks on the largest point's detached probabilities instead of the labels.
    widths
        See :func:`nas.representation.supernet.sample_subnetwork`.

    Notes
    -----
    Every training has its own object. The probabilities are computed at the first step, from the architecture.
    """

    samples_subnetworks = True

    def __init__(self, important: Important | None, *, beta: float, sampled: int, soft: bool, widths: str):
        if isinstance(sampled, bool) or not isinstance(sampled, int) or sampled < 0:
            raise UserError(f"sampled must be a whole number of subnetworks, at least 0. Got {sampled=}.")
        if widths not in WIDTHS:
            raise UserError(unknown_name("way to draw widths", widths, WIDTHS))
        if soft not in (True, False):
            raise UserError(f"soft must be true or false. Got {soft=}.")
        favour([], [], beta)  # raises UserError for an invalid beta
        self.important, self.beta, self.sampled, self.soft, self.widths = important, beta, sampled, bool(soft), widths
        self._cached: tuple[Architecture, tuple[ChoiceGroup, ...]] | None = None

    def check(self, architecture: Architecture) -> None:
        """Raise UserError for a network that this rule cannot train, or in which it has no effect.

        Sampled subnetworks have no norms of their own, so a norm per point is refused. Without optional operations
        there is nothing to favour.
        """
        if self.important is not None and self.beta > 0 and not choice_groups(architecture.topology):
            raise UserError(
                "A rule that favours operations needs a network with optional operations; without them it equals "
                f"'uniform_sampling'. Got none with beta={self.beta:g}: train with 'uniform_sampling', or let "
                "importance change the widths by nas.chain.width_schedule."
            )
        if architecture.norm == "per_point":
            raise UserError(
                "Sampled subnetworks need norms that are 'shared' or 'recalibrated'. Got norm='per_point': train "
                "such a network with 'joint' or 'sandwich'."
            )

    def losses(
        self, network: AnytimeNetwork, x: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """One loss per trained subnetwork: the largest, the smallest, then the sampled subnetworks.

        Raises UserError as :meth:`check`.
        """
        groups = self.choice_groups(network.architecture)
        logits = network(x, network.levels - 1)
        teacher = logits if self.soft else None
        yield F.cross_entropy(logits, network.labels(labels))
        if network.levels > 1:
            yield F.cross_entropy(network(x, 0), targets(network, 0, labels, teacher))
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        for _ in range(self.sampled):
            point = sample_subnetwork(network.architecture, groups, rng, widths=self.widths)
            yield F.cross_entropy(network(x, point), targets(network, point, labels, teacher))

    def choice_groups(self, architecture: Architecture) -> tuple[ChoiceGroup, ...]:
        """The sampled choices with their probabilities. Raises UserError as :meth:`check`."""
        if self._cached is None or self._cached[0] is not architecture:
            self.check(architecture)
            groups = choice_groups(architecture.topology)
            if self.important is not None:
                groups = favour(groups, self.important(architecture), self.beta)
            self._cached = architecture, groups
        return self._cached[1]


def path_sampling(
    *, beta: float = 0.5, walk: str = "paths", sampled: int = 2, soft: bool = False, widths: str = "common"
) -> SubnetworkSampling:
    """TIPS: subnetworks sampled along the important paths of the Markov chain.

    Parameters
    ----------
    walk
        The chain that finds important operations, one of :data:`nas.chain.importance.CHAINS`: a walk, or "training"
        for operations that receive much of the gradient.
    beta, sampled, soft, widths
        See :class:`SubnetworkSampling`.
    """
    if walk not in CHAINS:
        raise UserError(unknown_name("walk", walk, CHAINS))

    def important(architecture: Architecture) -> tuple[int, ...]:
        return important_alternatives(architecture, chain_scores(architecture, walk).importance)

    return SubnetworkSampling(important, beta=beta, sampled=sampled, soft=soft, widths=widths)


def uniform_sampling(*, sampled: int = 2, soft: bool = False, widths: str = "common") -> SubnetworkSampling:
    """Control of path_sampling: all alternatives are equally likely, as the widths in US-Net."""
    return SubnetworkSampling(None, beta=0.0, sampled=sampled, soft=soft, widths=widths)


def degree_sampling(
    *, beta: float = 0.5, sampled: int = 2, soft: bool = False, widths: str = "common"
) -> SubnetworkSampling:
    """Control of path_sampling: operations between maps of high degree are more likely; no Markov chain."""

    def important(architecture: Architecture) -> tuple[int, ...]:
        return important_alternatives(architecture, degree_importance(architecture))

    return SubnetworkSampling(important, beta=beta, sampled=sampled, soft=soft, widths=widths)


def random_path_sampling(
    *, beta: float = 0.5, path: int = 0, sampled: int = 2, soft: bool = False, widths: str = "common"
) -> SubnetworkSampling:
    """Control of path_sampling: one random alternative of every choice is more likely during the whole training.

    Parameters
    ----------
    beta, sampled, soft, widths
        See :class:`SubnetworkSampling`.
    path
        Seed of the random alternatives. With the network's key it determines them, also after a resume.
    """

    def important(architecture: Architecture) -> tuple[int, ...]:
        return random_alternatives(
            architecture, np.random.default_rng(seed("random path", architecture.network_key, path))
        )

    if type(path) is not int:
        raise UserError(f"path must be a whole number. Got {path=}.")
    return SubnetworkSampling(important, beta=beta, sampled=sampled, soft=soft, widths=widths)
