"""What the subnetworks of a training step learn: the labels, or the answers of a teacher.

From the released code of TIPS, whose settings are ``sampled=2,soft=true,ema=0.997,ensemble=true,smoothing=0.1,
zero_init=true``: the teacher is a moving average of the weights at the largest point; the smallest subnetwork learns
the mean of the answers that this average gives as each other subnetwork of the step; the last norm of each residual
branch starts at zero. Ours: every part is a setting of its own, and labels are the default.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023, and
    its released code.
Li et al., Dynamic Slimmable Network, CVPR 2021, arXiv 2103.13258 (in-place ensemble bootstrapping).
Tarvainen & Valpola, Mean teachers are better role models, NeurIPS 2017, arXiv 1703.01780.
Goyal et al., Accurate, Large Minibatch SGD, 2017, arXiv 1706.02677 (last norms of residual branches at zero).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.elements import Subnetwork
from nas.representation.kinds import kind
from nas.representation.topology import Topology

Level = int | Subnetwork


@dataclass(kw_only=True, eq=False)
class Targets:
    """The settings of teachers and labels that several rules share.

    Parameters
    ----------
    ema
        Decay per step of a moving average of the weights; 0: none. The average is saved beside the trained network. It
        is the teacher of smaller subnetworks, if they learn answers instead of labels.
    ensemble
        The smallest subnetwork learns the mean of the averaged network's answers as the other subnetworks of the step.
    smoothing
        Share of the labels' weight that is spread over all classes.
    zero_init
        Initialise the last norm of each residual branch with zero, so that a block starts as its shortcut.

    Attributes
    ----------
    averaged : AnytimeNetwork or None
        The moving average; the trainer sets it before the first step.
    """

    ema: float = 0.0
    ensemble: bool = False
    smoothing: float = 0.0
    zero_init: bool = False
    averaged: AnytimeNetwork | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("ema", "smoothing"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise UserError(f"{name} must be a number from 0 to below 1. Got {value!r}.")
        for name in ("ensemble", "zero_init"):
            if getattr(self, name) not in (True, False):
                raise UserError(f"{name} must be true or false. Got {getattr(self, name)!r}.")
        if self.ensemble and not (self.ema and self.teaches):
            raise UserError(
                f"ensemble=true needs answers of a moving average as targets. Got ema={self.ema:g} and labels as "
                f"targets: set {self._switch} and ema, such as ema=0.997."
                if not self.teaches
                else "ensemble=true needs a moving average. Got ema=0: set ema, such as ema=0.997."
            )

    _switch = "soft=true"
    """The setting with which smaller subnetworks learn answers."""

    @property
    def teaches(self) -> bool:
        """Whether smaller subnetworks learn the answers of a teacher."""
        raise NotImplementedError

    def check(self, architecture: Architecture) -> None:
        """Raise UserError for a network in which a setting has no effect."""
        if self.zero_init and not branch_ends(architecture.topology):
            raise UserError(
                "zero_init needs residual branches that end with a norm. Got a network without them: leave it out; in "
                "place of the rule of a recipe, give one by --rule."
            )

    @torch.no_grad()
    def initialise(self, network: AnytimeNetwork) -> None:
        """Change the initial weights."""
        if self.zero_init:
            for o in branch_ends(network.architecture.topology):
                norm = network.operation_layers[o].after
                assert norm is not None
                norm.weight.zero_()

    def on_labels(self, network: AnytimeNetwork, logits: Tensor, labels: Tensor, level: Level) -> Tensor:
        """The cross-entropy of a level's logits with its labels."""
        return F.cross_entropy(logits, network.labels(labels, level), label_smoothing=self.smoothing)

    @torch.no_grad()
    def averaged_answer(self, network: AnytimeNetwork, x: Tensor, level: Level) -> Tensor:
        """The logits of the moving average; before the first step it equals the network."""
        return (network if self.averaged is None else self.averaged).forward_unfolded(x, level)


@dataclass(kw_only=True, eq=False)
class Taught(Targets):
    """The base of rules that train the largest point, the smallest, and others, one pass for each.

    Parameters
    ----------
    soft
        Train smaller subnetworks on the largest point's probabilities instead of the labels (in-place distillation).
        Labels are the default, because the largest point is a poor teacher early in a short training.
    ema, ensemble, smoothing, zero_init
        See :class:`Targets`.
    """

    soft: bool = False

    def __post_init__(self) -> None:
        if self.soft not in (True, False):
            raise UserError(f"soft must be true or false. Got soft={self.soft!r}.")
        super().__post_init__()

    @property
    def teaches(self) -> bool:
        """Whether smaller subnetworks learn the answers of a teacher."""
        return bool(self.soft)

    def step(
        self, network: AnytimeNetwork, x: Tensor, labels: Tensor, others: Sequence[Level], *, ends: bool = True
    ) -> Iterator[Tensor]:
        """One loss per subnetwork: the largest and the smallest point, and others.

        others: levels or subnetworks between. ends: whether the largest and the smallest point learn.
        """
        largest = network.levels - 1
        present = None
        if ends:
            logits = network(x, largest)
            present = logits.detach()
            yield self.on_labels(network, logits, labels, largest)
        teacher = None
        if self.soft:
            teacher = self.averaged_answer(network, x, largest) if self.ema or present is None else present
        smallest = [0] if ends and largest else []
        answers = [] if teacher is None else [teacher]
        for level in [*others, *smallest] if self.ensemble else [*smallest, *others]:
            logits = network(x, level)
            if teacher is None:
                yield self.on_labels(network, logits, labels, level)
            elif self.ensemble and type(level) is int and level == 0:
                yield F.cross_entropy(logits, mean_answer(network, 0, answers))
            else:
                yield F.cross_entropy(logits, targets(network, level, labels, teacher))
                if self.ensemble:
                    answers.append(self.averaged_answer(network, x, level))


def targets(network: AnytimeNetwork, level: Level, labels: Tensor, teacher: Tensor | None) -> Tensor:
    """The targets of a level: its labels (N,), or detached probabilities from a teacher's logits (N, K).

    Probabilities are at the level's labelling, (N, number of its labels).
    """
    if teacher is None:
        return network.labels(labels, level)
    return network.soft_labels(log_probabilities(teacher), level).exp()


def mean_answer(network: AnytimeNetwork, level: Level, answers: Sequence[Tensor]) -> Tensor:
    """The mean of the probabilities of several teachers, at the labelling of a level."""
    return torch.stack([network.soft_labels(log_probabilities(each), level).exp() for each in answers]).mean(0)


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Detached log-probabilities, at least in single precision."""
    exact = logits.detach() if logits.dtype == torch.float64 else logits.detach().float()
    return F.log_softmax(exact / temperature, dim=1)


def branch_ends(topology: Topology) -> list[int]:
    """The last operations of residual branches, if they end with a norm.

    Of the operations that are summed into a map, those are shortcuts that read the earliest map; if a branch is a
    single operation from there, the shortcut is the one without weights.
    """
    ends = []
    for feature_map, incoming in zip(topology.maps, topology.incoming):
        if feature_map.merge == "concat":
            continue
        length = {o: (topology.sources[o], kind(topology.operations[o].kind).learned) for o in incoming}
        ends += [
            o for o in incoming if length[o] > min(length.values()) and topology.operations[o].after[-1:] == ("norm",)
        ]
    return sorted(ends)
