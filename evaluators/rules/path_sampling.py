"""Path-sampled training: the largest point, the smallest, and subnetworks sampled by operations and widths.

Where a network has no alternatives, widths alone are sampled, and the four rules are the same.

Four rules of one shape, which differ only in which alternatives they sample with P ∝ 1 + β instead of P ∝ 1:
``path_sampling`` those that the Markov chain finds important, and its controls: ``uniform_sampling`` none,
``degree_sampling`` those between maps of high degree, ``random_path_sampling`` random ones, as many.

From the paper: important operations are sampled with higher probability during training. Ours: β, the choices, labels
as targets at every width (see :class:`evaluators.rules.sandwich.Sandwich`), and all that
:mod:`nas.representation.supernet` and :mod:`nas.chain.importance` say.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023.
Yu & Huang, Universally Slimmable Networks and Improved Training Techniques, ICCV 2019, arXiv 1903.05134 (largest,
smallest and two random ones a step; in-place distillation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.rules.sandwich import targets
from nas.chain.importance import chain_scores, degree_importance, important_alternatives, random_alternatives
from nas.chain.walks import WALKS
from nas.errors import UserError, unknown_name
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.cost import subnetwork_macs
from nas.representation.supernet import (
    WIDTHS,
    ChoiceGroup,
    choice_groups,
    expected_macs,
    favour,
    sample_subnetwork,
)
from nas.seeds import seed

Important = Callable[[Architecture], tuple[int, ...]]
"""Which alternative of every choice is sampled more often, as its index."""


class SubnetworkSampling:
    """The largest point, the smallest and sampled subnetworks in every step: what the rules of this file share.

    important: which alternatives, None for no difference. beta: how much more often they are sampled. sampled:
    subnetworks a step. soft: all but the largest learn its detached answers instead of the labels. widths: see
    :func:`nas.representation.supernet.sample_subnetwork`.

    One is made for every training. What is sampled is worked out at the first step, from the architecture alone.
    """

    samples_subnetworks = True

    def __init__(self, important: Important | None, *, beta: float, sampled: int, soft: bool, widths: str):
        if isinstance(sampled, bool) or not isinstance(sampled, int) or sampled < 0:
            raise UserError(f"sampled must be a whole number of subnetworks, at least 0. Got {sampled=}.")
        if widths not in WIDTHS:
            raise UserError(unknown_name("way to draw widths", widths, WIDTHS))
        if soft not in (True, False):
            raise UserError(f"soft must be true or false. Got {soft=}.")
        favour([], [], beta)  # refuses a wrong beta before anything is trained
        self.important, self.beta, self.sampled, self.soft, self.widths = important, beta, sampled, bool(soft), widths
        self._known: tuple[Architecture, tuple[ChoiceGroup, ...]] | None = None

    def losses(
        self, network: AnytimeNetwork, x: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """One loss per trained subnetwork: the largest first, then the smallest, then the sampled ones.

        Raises UserError for a network with a norm for every point, which sampled subnetworks have none of.
        """
        made = self.choices(network.architecture)
        logits = network(x, network.levels - 1)
        teacher = logits if self.soft else None
        yield F.cross_entropy(logits, network.labels(labels))
        if network.levels > 1:
            yield F.cross_entropy(network(x, 0), targets(network, 0, labels, teacher))
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        for _ in range(self.sampled):
            point = sample_subnetwork(network.architecture, made, rng, widths=self.widths)
            yield F.cross_entropy(network(x, point), targets(network, point, labels, teacher))

    def choices(self, architecture: Architecture) -> tuple[ChoiceGroup, ...]:
        """What is sampled, with its probabilities. Raises UserError for a norm per point."""
        if self._known is None or self._known[0] is not architecture:
            if architecture.norm == "per_point":
                raise UserError(
                    "Sampled subnetworks need norms that are 'shared' or 'recalibrated'. Got norm='per_point': train "
                    "such a network with 'joint' or 'sandwich'."
                )
            made = choice_groups(architecture.topology)
            if self.important is not None:
                made = favour(made, self.important(architecture), self.beta)
            self._known = architecture, made
        return self._known[1]

    def step_macs(self, architecture: Architecture) -> float:
        """Expected multiply-accumulates of one example in the forward passes of a step."""
        topology, points = architecture.topology, architecture.points
        always = {points[-1], points[0]}
        drawn = expected_macs(architecture, self.choices(architecture), widths=self.widths) if self.sampled else 0.0
        return sum(subnetwork_macs(topology, point) for point in always) + self.sampled * drawn


def path_sampling(
    *, beta: float = 0.5, walk: str = "paths", sampled: int = 2, soft: bool = False, widths: str = "common"
) -> SubnetworkSampling:
    """TIPS: subnetworks sampled along the paths that the Markov chain finds important.

    walk: of the chain over sampled subnetworks, one of :data:`nas.chain.walks.WALKS`. The rest:
    :class:`SubnetworkSampling`.
    """
    if walk not in WALKS:
        raise UserError(unknown_name("walk", walk, WALKS))

    def important(architecture: Architecture) -> tuple[int, ...]:
        return important_alternatives(architecture, chain_scores(architecture, walk).importance)

    return SubnetworkSampling(important, beta=beta, sampled=sampled, soft=soft, widths=widths)


def uniform_sampling(*, sampled: int = 2, soft: bool = False, widths: str = "common") -> SubnetworkSampling:
    """Control of path_sampling: all alternatives equally likely, as US-Net samples widths."""
    return SubnetworkSampling(None, beta=0.0, sampled=sampled, soft=soft, widths=widths)


def degree_sampling(
    *, beta: float = 0.5, sampled: int = 2, soft: bool = False, widths: str = "common"
) -> SubnetworkSampling:
    """Control of path_sampling: operations between maps of high degree more likely, without a chain."""

    def important(architecture: Architecture) -> tuple[int, ...]:
        return important_alternatives(architecture, degree_importance(architecture))

    return SubnetworkSampling(important, beta=beta, sampled=sampled, soft=soft, widths=widths)


def random_path_sampling(
    *, beta: float = 0.5, path: int = 0, sampled: int = 2, soft: bool = False, widths: str = "common"
) -> SubnetworkSampling:
    """Control of path_sampling: a random alternative of every choice more likely, the same one throughout a training.

    path: which random path of the network, a seed; a continued training finds the same one.
    """

    def important(architecture: Architecture) -> tuple[int, ...]:
        return random_alternatives(
            architecture, np.random.default_rng(seed("random path", architecture.network_key, path))
        )

    if type(path) is not int:
        raise UserError(f"path must be a whole number. Got {path=}.")
    return SubnetworkSampling(important, beta=beta, sampled=sampled, soft=soft, widths=widths)
