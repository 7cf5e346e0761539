"""Path-sampled training: the largest point, the smallest, and subnetworks sampled by operations and widths.

The four rules differ only in the alternatives that they sample with P ∝ 1 + β instead of P ∝ 1: ``path_sampling``
favours alternatives that are important in a Markov chain, or whose weights have large singular values. Its controls:
``uniform_sampling`` favours none, ``degree_sampling`` favours alternatives between maps of high degree,
``random_path_sampling`` one random alternative of every choice. In a network without alternatives, only widths are
sampled, and the four rules would be equal: the three that favour some refuse it. :func:`nas.chain.width_schedule` lets
importance change its widths.

From the paper: important operations are sampled with higher probability during training, and the paths of these have
larger singular values of the Jacobian. Ours: β, the choices, labels as targets at every width, and the methods of
:mod:`nas.representation.supernet`, :mod:`nas.chain.importance` and :mod:`evaluators.rules.singular_values`. Targets as
in the released code are settings, see :mod:`evaluators.rules.teaching`.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023.
Yu & Huang, Universally Slimmable Networks and Improved Training Techniques, ICCV 2019, arXiv 1903.05134 (largest,
smallest and two random subnetworks per step; in-place distillation).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from evaluators.rules.singular_values import singular_importance
from evaluators.rules.teaching import Level, Taught
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

SINGULAR_VALUES = "singular_values"
"""Importance from the singular values of the present weights, instead of a chain."""


@dataclass(kw_only=True, eq=False)
class UniformSampling(Taught):
    """Control of path_sampling: all alternatives are equally likely, as the widths in US-Net.

    The base of this file's rules. It trains the largest point, the smallest and sampled subnetworks in every step.

    Parameters
    ----------
    sampled
        Sampled subnetworks per step.
    ends
        Train the largest and the smallest point in every step. If not, only sampled subnetworks learn.
    widths
        See :func:`nas.representation.supernet.sample_subnetwork`.
    soft, ema, ensemble, smoothing, zero_init
        See :class:`evaluators.rules.teaching.Taught`.

    Notes
    -----
    Every training has its own object. The probabilities are computed at the first step, from the architecture.
    """

    sampled: int = 2
    ends: bool = True
    widths: str = "common"
    _groups: tuple[Architecture, tuple[ChoiceGroup, ...]] | None = field(default=None, init=False, repr=False)

    samples_subnetworks = True

    def __post_init__(self) -> None:
        if isinstance(self.sampled, bool) or not isinstance(self.sampled, int) or self.sampled < 0:
            raise UserError(f"sampled must be a whole number of subnetworks, at least 0. Got sampled={self.sampled!r}.")
        if self.widths not in WIDTHS:
            raise UserError(unknown_name("way to draw widths", self.widths, WIDTHS))
        if self.ends not in (True, False):
            raise UserError(f"ends must be true or false. Got ends={self.ends!r}.")
        super().__post_init__()
        if not self.ends and not self.sampled:
            raise UserError("With ends=false only sampled subnetworks learn. Got sampled=0: set sampled, such as 6.")
        if not self.ends and self.ensemble:
            raise UserError("ensemble=true is a target of the smallest point, which ends=false leaves out. Got both.")
        if not self.ends and self.soft and not self.ema:
            raise UserError(
                "With ends=false and soft=true a moving average must teach, because the largest point does not learn. "
                "Got ema=0: set ema, such as ema=0.997."
            )

    def check(self, architecture: Architecture) -> None:
        """Raise UserError for a network that this rule cannot train, or in which a setting has no effect.

        Sampled subnetworks have no norms of their own, so a norm per point is refused.
        """
        super().check(architecture)
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
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        groups = self.present_groups(network)
        others: Sequence[Level] = [
            sample_subnetwork(network.architecture, groups, rng, widths=self.widths) for _ in range(self.sampled)
        ]
        yield from self.step(network, x, labels, others, ends=self.ends)

    def present_groups(self, network: AnytimeNetwork) -> tuple[ChoiceGroup, ...]:
        """The choices with the probabilities of a step."""
        return self.choice_groups(network.architecture)

    def choice_groups(self, architecture: Architecture) -> tuple[ChoiceGroup, ...]:
        """The sampled choices with their probabilities. Raises UserError as :meth:`check`."""
        if self._groups is None or self._groups[0] is not architecture:
            self.check(architecture)
            self._groups = architecture, self._favoured(architecture)
        return self._groups[1]

    def _favoured(self, architecture: Architecture) -> tuple[ChoiceGroup, ...]:
        return choice_groups(architecture.topology)


@dataclass(kw_only=True, eq=False)
class _Favouring(UniformSampling):
    """The base of rules that favour an alternative of every choice."""

    beta: float = 0.5

    def __post_init__(self) -> None:
        favour([], [], self.beta)  # raises UserError for an invalid beta
        super().__post_init__()

    def check(self, architecture: Architecture) -> None:
        """Raise UserError as :meth:`UniformSampling.check`, and without optional operations, where it has no effect."""
        if self.beta > 0 and not choice_groups(architecture.topology):
            raise UserError(
                "A rule that favours operations needs a network with optional operations; without them it equals "
                f"'uniform_sampling'. Got none with beta={self.beta:g}: train with 'uniform_sampling', or let "
                "importance change the widths by nas.chain.width_schedule."
            )
        super().check(architecture)

    def important(self, architecture: Architecture) -> tuple[int, ...]:
        """The index of the favoured alternative of every choice."""
        raise NotImplementedError

    def _favoured(self, architecture: Architecture) -> tuple[ChoiceGroup, ...]:
        return favour(choice_groups(architecture.topology), self.important(architecture), self.beta)


@dataclass(kw_only=True, eq=False)
class PathSampling(_Favouring):
    """TIPS: subnetworks sampled along the important paths of the Markov chain.

    Parameters
    ----------
    beta
        Important alternatives are sampled 1 + β times as often. From 1,000 on, the others are hardly ever sampled.
    walk
        The chain that finds important operations, one of :data:`nas.chain.importance.CHAINS`: a walk, or "training"
        for operations that receive much of the gradient. Or "singular_values": the mean singular value of the present
        weights, computed anew at every step, see :func:`evaluators.rules.singular_values.singular_importance`.
    sampled, ends, widths, soft, ema, ensemble, smoothing, zero_init
        See :class:`UniformSampling`.
    """

    walk: str = "paths"

    def __post_init__(self) -> None:
        if self.walk not in (valid := (*CHAINS, SINGULAR_VALUES)):
            raise UserError(unknown_name("walk", self.walk, valid))
        super().__post_init__()

    def important(self, architecture: Architecture) -> tuple[int, ...]:
        """As in the base; a network that is not given yet has its initial weights."""
        if self.walk == SINGULAR_VALUES:
            return important_alternatives(architecture, singular_importance(AnytimeNetwork(architecture)))
        return important_alternatives(architecture, chain_scores(architecture, self.walk).importance)

    def present_groups(self, network: AnytimeNetwork) -> tuple[ChoiceGroup, ...]:
        """As in the base. Singular values are computed at every step, so that a training continues exactly."""
        groups = self.choice_groups(network.architecture)
        if self.walk != SINGULAR_VALUES:
            return groups
        return favour(groups, important_alternatives(network.architecture, singular_importance(network)), self.beta)


@dataclass(kw_only=True, eq=False)
class DegreeSampling(_Favouring):
    """Control of path_sampling: operations between maps of high degree are more likely; no Markov chain.

    Parameters
    ----------
    beta, sampled, ends, widths, soft, ema, ensemble, smoothing, zero_init
        See :class:`PathSampling`.
    """

    def important(self, architecture: Architecture) -> tuple[int, ...]:
        return important_alternatives(architecture, degree_importance(architecture))


@dataclass(kw_only=True, eq=False)
class RandomPathSampling(_Favouring):
    """Control of path_sampling: one random alternative of every choice is more likely during the whole training.

    Parameters
    ----------
    path
        Seed of the random alternatives. With the network's key it determines them, also after a resume.
    beta, sampled, ends, widths, soft, ema, ensemble, smoothing, zero_init
        See :class:`PathSampling`.
    """

    path: int = 0

    def __post_init__(self) -> None:
        if type(self.path) is not int:
            raise UserError(f"path must be a whole number. Got path={self.path!r}.")
        super().__post_init__()

    def important(self, architecture: Architecture) -> tuple[int, ...]:
        rng = np.random.default_rng(seed("random path", architecture.network_key, self.path))
        return random_alternatives(architecture, rng)
