"""The contracts of training rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nas.representation.architecture import Architecture

if TYPE_CHECKING:
    import torch

    from nas.execution.network import AnytimeNetwork


class TrainingRule(Protocol):
    """Which subnetworks a training step trains, and with what loss. Made with the architecture's settings as
    keywords.

    A rule that trains sampled subnetworks, not only the operating points, says so by ``samples_subnetworks = True``.
    One that changes as the training goes on has an attribute ``progress``, which the trainer sets before every step:
    the share of the schedule's steps that are done.
    """

    def losses(
        self, network: AnytimeNetwork, x: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
    ) -> Iterator[torch.Tensor]:
        """The losses of one step, one scalar at a time; the trainer runs each backward before it asks for the next.

        x: (N, \\*input_shape), preprocessed and augmented. labels: (N,), fine; what a level should answer is
        ``network.labels(labels, level)``. generator: on the CPU, for what is sampled.
        """


@runtime_checkable
class ConstructingRule(Protocol):
    """A training rule that changes the architecture while it trains: the outcome belongs to a realised one.

    Made as a :class:`TrainingRule` is, in whose place it stands; it is told from one by having ``construct``.
    """

    def construct(self, architecture: Architecture, *, steps: int, generator: torch.Generator) -> Construction:
        """What is trained in place of the proposal's network, over so many steps; draws its weights from the generator.

        Raises UserError where the architecture is none that it can construct.
        """


class Construction(Protocol):
    """The state of a training that changes its architecture; an ``nn.Module``, whose state the checkpoint keeps.

    For every step, the trainer asks for the losses as of a :class:`TrainingRule`, exhausts them, steps the optimiser,
    and calls :meth:`advance`. ``step`` counts from 0. Where that gave a new network, the trainer makes a new optimiser
    and carries the momentum over.

    network: the one trained now, with the architecture as it is now.
    """

    network: AnytimeNetwork

    def trained(self) -> list[torch.nn.Module]:
        """The modules whose parameters are stepped; the gradients of each are clipped on their own."""

    def losses(
        self, step: int, x: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
    ) -> Iterator[torch.Tensor]:
        """As :meth:`TrainingRule.losses`; may change what each backward left in the gradients."""

    def advance(self, step: int, generator: torch.Generator) -> Callable[[str, torch.Tensor], torch.Tensor] | None:
        """After the optimiser's step: None where the network stays, else how what belongs to a parameter, by its name,
        becomes what belongs to the new one.
        """

    def restore(self, architecture: Architecture) -> None:
        """Become one whose network has this architecture, ready for ``load_state_dict`` of a checkpoint."""

    def finished(self, steps: int, batches: Iterable[torch.Tensor], generator: torch.Generator) -> AnytimeNetwork:
        """The network as it would be if construction ended after so many steps, every point within the cost of the
        proposal's; the training may go on after that.

        batches: preprocessed training images, to estimate the statistics of norms on.
        """
