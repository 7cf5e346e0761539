"""The contracts of training rules: the subnetworks and losses of a training step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nas.errors import PluginError, UserError
from nas.plugins import load_plugin
from nas.representation.architecture import Architecture
from nas.representation.elements import TrainingSpec

if TYPE_CHECKING:
    import torch

    from nas.execution.network import AnytimeNetwork


class TrainingRule(Protocol):
    """Chooses the subnetworks that a training step trains, and their losses.

    Notes
    -----
    The trainer constructs the rule with the settings of the architecture's training as keywords, once for a training.

    Five attributes are optional. A method ``check(architecture)`` declares which architectures the rule accepts: it
    raises UserError with the reason for each other one, and screening rejects these before training. A rule without it
    accepts all. ``samples_subnetworks = True`` declares that the rule trains sampled subnetworks, beyond the operating
    points. A rule with an attribute ``progress`` changes during training: before every step the trainer sets it to the
    completed fraction of the schedule. A method ``initialise(network)`` changes the initial weights. A rule with an
    attribute ``ema`` above 0 has a moving average of the weights, with this decay per step: before the first step the
    trainer sets the attribute ``averaged`` to a network with the average weights, which it updates after every step and
    saves in the end.
    """

    def losses(
        self, network: AnytimeNetwork, x: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
    ) -> Iterator[torch.Tensor]:
        """Yield the losses of one step. The trainer runs backward for each one before it requests the next.

        Parameters
        ----------
        network
            In training mode.
        x
            Preprocessed and augmented images, (N, \\*input_shape).
        labels
            Fine labels, (N,); of mixed images the probabilities of the classes, (N, classes). The labels of a level are
            ``network.labels(labels, level)``.
        generator
            For random numbers, on the CPU.

        Yields
        ------
        torch.Tensor
            A scalar.
        """


@runtime_checkable
class ConstructingRule(Protocol):
    """A training rule that changes the architecture during training: outcomes belong to the realised architecture.

    It is constructed and named like a :class:`TrainingRule`, and may have its method ``check``; its method
    ``construct`` distinguishes it.
    """

    def construct(self, architecture: Architecture, *, steps: int, generator: torch.Generator) -> Construction:
        """Start a training of ``steps`` steps.

        Parameters
        ----------
        architecture
            As proposed.
        steps
            Number of steps of the schedule.
        generator
            Draws the weights, on the CPU.

        Returns
        -------
        Construction

        Raises
        ------
        UserError
            If the rule does not accept this architecture.
        """


class Construction(Protocol):
    """The state of a training that changes its architecture; an ``nn.Module``, whose state the checkpoint contains.

    Attributes
    ----------
    network : AnytimeNetwork
        The current network, with the current architecture.

    Notes
    -----
    In every step, numbered from 0, the trainer requests all losses as of a :class:`TrainingRule`, steps the optimiser,
    and calls :meth:`advance`. If the network was replaced, the trainer creates a new optimiser and converts the
    momentum.
    """

    network: AnytimeNetwork

    def trained(self) -> list[torch.nn.Module]:
        """The modules whose parameters are optimised. The gradients of each module are clipped separately.

        Returns
        -------
        list of torch.nn.Module
        """

    def losses(
        self, step: int, x: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
    ) -> Iterator[torch.Tensor]:
        """The losses of a step; may change the gradients after each backward pass.

        Parameters
        ----------
        step
            Number of the step.
        x, labels, generator
            As in :meth:`TrainingRule.losses`.

        Yields
        ------
        torch.Tensor
            A scalar.
        """

    def advance(self, step: int, generator: torch.Generator) -> Callable[[str, torch.Tensor], torch.Tensor] | None:
        """Change the architecture after a step of the optimiser.

        Parameters
        ----------
        step
            Number of the step.
        generator
            For random numbers, on the CPU.

        Returns
        -------
        callable or None
            None if the network is unchanged; else a function that converts a tensor of an old parameter, given the
            name of the parameter, to the shape of the new parameter.
        """

    def restore(self, architecture: Architecture) -> None:
        """Replace the network by one of this architecture, before ``load_state_dict`` of a checkpoint.

        Parameters
        ----------
        architecture
            Of the network in the checkpoint.
        """

    def finished(self, steps: int, batches: Iterable[torch.Tensor], generator: torch.Generator) -> AnytimeNetwork:
        """The network as if construction ended after ``steps`` steps; the training may continue afterwards.

        Every operating point is within the cost of the proposed one.

        Parameters
        ----------
        steps
            Number of steps so far.
        batches
            Preprocessed training images, for the statistics of norms.
        generator
            For random numbers, on the CPU.

        Returns
        -------
        AnytimeNetwork
        """


def load_rule(training: TrainingSpec) -> TrainingRule | ConstructingRule:
    """Construct a training rule with its settings.

    Parameters
    ----------
    training
        Name and settings of the rule.

    Raises
    ------
    PluginError
        If the rule cannot be loaded, or is neither a class nor a function.
    UserError
        If the rule has no such settings, or refuses a value.
    """
    rule, settings = load_plugin("nas.training_rules", training.rule), dict(training.settings)
    if not callable(rule):
        raise PluginError(f"A training rule must be a class. Got {rule!r} under the name {training.rule!r}.")
    parameters = inspect.signature(rule).parameters.values()
    valid = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    unknown = [name for name in settings if name not in valid]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        described = f"the settings {', '.join(valid)}" if valid else "no settings"
        raise UserError(f"The training rule {training.rule!r} has {described}. Got {', '.join(unknown)}.")
    try:
        return rule(**settings)
    except TypeError as error:
        raise UserError(f"The training rule {training.rule!r} must accept its settings: {error}.") from error


def check_accepts(rule: TrainingRule | ConstructingRule, architecture: Architecture) -> None:
    """Check that a training rule accepts an architecture.

    Parameters
    ----------
    rule
        The rule.
    architecture
        The architecture to train.

    Raises
    ------
    UserError
        With the rule's reason, if it does not.
    """
    check = getattr(rule, "check", None)
    if check is not None:
        check(architecture)
