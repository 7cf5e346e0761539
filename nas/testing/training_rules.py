"""Checks of training rules; the contracts are in :mod:`nas.evaluation.training_rules`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nas.errors import UserError
from nas.evaluation.training_rules import ConstructingRule, check_accepts
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.testing.checks import Check, Subject, global_randomness_untouched, has_docstring, named, require, run_all

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas.evaluation.averaging import MovingAverage
    from nas.execution.network import AnytimeNetwork

EXAMPLES = 24
STEPS = 20
RATE = 0.02
NR = ("norm", "relu")


def training_rule_checks(rule: Any, **settings: Any) -> list[Check]:
    """The checks of a training rule, for use as test parameters. They train small networks for a few steps.

    Parameters
    ----------
    rule : callable or str
        A class or function that makes a :class:`nas.evaluation.training_rules.TrainingRule` or a
        :class:`nas.evaluation.training_rules.ConstructingRule`, or its name or ``file.py:Name``.
    **settings
        Settings of the rule, as in :class:`nas.TrainingSpec`.

    Returns
    -------
    list of (str, callable)
        Name and function of each check. The function takes no arguments and raises PluginError if the check fails.

    Notes
    -----
    The rule is tried on networks with each norm policy, gated modules, optional operations, and a label hierarchy. It
    may refuse some of them with a UserError, but not all.
    """
    return named(_CHECKS, _Tested(Subject(rule, "nas.training_rules"), settings))


def check_training_rule(rule: Any, **settings: Any) -> None:
    """Run all checks of a training rule.

    Parameters
    ----------
    rule, **settings
        As in :func:`training_rule_checks`.

    Raises
    ------
    PluginError
        At the first check that fails.
    """
    run_all(training_rule_checks(rule, **settings))


def rule_architectures() -> dict[str, Architecture]:
    """Small networks of four points: each norm policy, gated modules, optional operations, and a label hierarchy."""
    task = Task(input_shape=(1, 8, 8), num_classes=4)
    hierarchy = Task(input_shape=(1, 8, 8), num_classes=4, hierarchy=((0, 0, 1, 1),))
    return {
        "recalibrated norms": _plain(task, "recalibrated"),
        "a norm per point": _plain(task, "per_point"),
        "shared norms, causal": _plain(task, "shared", wiring="causal"),
        "gated modules": _gated(task),
        "optional operations": _plain(task, "recalibrated", optional=True),
        "a label hierarchy": _plain(hierarchy, "recalibrated"),
    }


def _plain(task: Task, norm: str, wiring: str = "dense", *, optional: bool = False) -> Architecture:
    builder, slices = Builder(task), (2, 4, 6, 8)
    x = builder.conv(builder.input, slices, stride=2, after=NR, wiring=wiring)
    y = builder.conv(x, slices, after=NR, wiring=wiring)
    if optional:
        builder.identity(x, y, optional=True)
    builder.head(y)
    return builder.architecture(4, norm=norm)


def _gated(task: Task) -> Architecture:
    builder = Builder(task)
    x = builder.conv(builder.input, 4, stride=2, after=NR)
    y = builder.conv(x, (2, 4, 6), after=NR)
    builder.gate([(y,)] * 3)
    z = builder.conv(y, 4)
    builder.identity(x, z)
    builder.head(z, before=NR)
    return builder.architecture(builder.throttled((0.0, 0.3, 0.6, 1.0)), norm="shared")


@dataclass(frozen=True)
class _Tested:
    """A training rule under test, with its settings."""

    subject: Subject
    settings: Mapping[str, Any]

    def new(self) -> Any:
        """A new rule, as a trainer makes it."""
        return self.subject.load()(**self.settings)

    @cached_property
    def accepted(self) -> dict[str, Architecture]:
        """The architectures that the rule does not refuse."""
        accepted = {}
        for name, architecture in rule_architectures().items():
            try:
                _Training(self.new(), architecture).step()
            except UserError:
                continue
            accepted[name] = architecture
        return accepted

    def trainings(self) -> Iterator[tuple[str, _Training]]:
        """A new training for every accepted architecture, with the architecture's name."""
        for name, architecture in self.accepted.items():
            yield name, _Training(self.new(), architecture)

    def __str__(self) -> str:
        return str(self.subject)


class _Training:
    """A few steps of SGD on one batch, as a trainer runs them.

    x: (EXAMPLES, \\*input_shape); labels: (EXAMPLES,), one brightness per class.
    """

    def __init__(self, rule: Any, architecture: Architecture):
        import torch

        from nas.evaluation.averaging import MovingAverage
        from nas.execution.network import AnytimeNetwork

        self.average: MovingAverage | None = None
        self.rule, self.taken = rule, 0
        self.generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(EXAMPLES) % architecture.task.num_classes
        noise = torch.randn(EXAMPLES, *architecture.task.input_shape, generator=self.generator)
        self.x = noise / 2 + (self.labels - 1.5).reshape(-1, 1, 1, 1)
        self.construction: Any = None
        if isinstance(rule, ConstructingRule):
            self.construction = rule.construct(architecture, steps=STEPS, generator=self.generator)
        else:
            self._network = AnytimeNetwork(architecture, generator=self.generator)
            if hasattr(rule, "initialise"):
                rule.initialise(self._network)
            if decay := getattr(rule, "ema", 0.0):
                self.average = MovingAverage(self._network, decay)
                rule.averaged = self.average.network
        self._new_optimiser()

    @property
    def network(self) -> AnytimeNetwork:
        return self._network if self.construction is None else self.construction.network

    @property
    def module(self) -> nn.Module:
        return self._network if self.construction is None else self.construction

    def losses(self) -> Iterator[Tensor]:
        """The losses of the present step; the gradients of each are computed before the next is asked for."""
        self.module.train()
        if hasattr(self.rule, "progress"):
            self.rule.progress = self.taken / STEPS
        self.optimiser.zero_grad(set_to_none=True)
        if self.construction is None:
            losses = self.rule.losses(self.network, self.x, self.labels, self.generator)
        else:
            losses = self.construction.losses(self.taken, self.x, self.labels, self.generator)
        for loss in losses:
            loss.backward()
            yield loss

    def step(self) -> list[float]:
        """Take a step and return its losses."""
        losses = [float(loss.detach()) for loss in self.losses()]
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.network)
        if self.construction is not None and self.construction.advance(self.taken, self.generator) is not None:
            self._new_optimiser()
        self.taken += 1
        return losses

    def _new_optimiser(self) -> None:
        import torch

        self.optimiser = torch.optim.SGD(self.module.parameters(), lr=RATE, momentum=0.9)


def _docstring(tested: _Tested) -> None:
    has_docstring(tested.subject.load())


def _serves_or_refuses(tested: _Tested) -> None:
    for architecture in rule_architectures().values():
        try:
            _Training(tested.new(), architecture).step()
        except UserError as error:
            require(str(error).strip(), "A refusal must give its reason. Got an empty message.")
    require(tested.accepted, "A rule must train some networks. It refused all.")


def _declares_what_it_accepts(tested: _Tested) -> None:
    for name, architecture in rule_architectures().items():
        try:
            check_accepts(tested.new(), architecture)
        except UserError as error:
            good, text = name not in tested.accepted, f"check refuses it: {error}"
        else:
            good, text = name in tested.accepted, "check accepts it"
        require(good, f"check must raise UserError if training does, and only then. For {name}, {text}")


def _losses_are_finite_scalars(tested: _Tested) -> None:
    for name, training in tested.trainings():
        losses = list(training.losses())
        require(losses, f"A step must have at least one loss. Got none for {name}.")
        for loss in losses:
            good = loss.ndim == 0 and bool(loss.isfinite())
            require(good, f"A loss must be a finite scalar. Got {loss.detach()} for {name}.")


def _accepts_probabilities(tested: _Tested) -> None:
    import torch

    for name, training in tested.trainings():
        classes = training.network.architecture.task.num_classes
        training.labels = torch.nn.functional.one_hot(training.labels, classes).float()
        try:
            good = all(bool(loss.isfinite()) for loss in training.losses())
        except Exception as error:  # of the rule
            require(False, f"Labels may be probabilities, (N, classes). For {name}: {type(error).__name__}: {error}")
        require(good, f"Labels may be probabilities, (N, classes). Losses are not finite for {name}.")


def _keeps_the_batch(tested: _Tested) -> None:
    for name, training in tested.trainings():
        x, labels = training.x.clone(), training.labels.clone()
        training.step()
        same = x.equal(training.x) and labels.equal(training.labels)
        require(same, f"Images and labels must keep their values. They changed for {name}.")


def _reproducible(tested: _Tested) -> None:
    for (name, one), (_, two) in zip(tested.trainings(), tested.trainings()):
        first, second = ([training.step() for _ in range(3)] for training in (one, two))
        require(first == second, f"Equal generators must give equal losses. Got {first}, then {second} for {name}.")


def _trains_every_parameter(tested: _Tested) -> None:
    for name, training in tested.trainings():
        untrained = {key for key, parameter in training.module.named_parameters() if parameter.requires_grad}
        for _ in range(STEPS):
            if not untrained:
                break
            training.step()
            parameters = dict(training.module.named_parameters())
            untrained -= {key for key, p in parameters.items() if p.grad is not None and bool(p.grad.any())}
        require(not untrained, f"Every parameter must be trained. {', '.join(sorted(untrained))} are not for {name}.")


def _lowers_the_loss(tested: _Tested) -> None:
    for name, training in tested.trainings():
        before = _largest_loss(training)
        for _ in range(STEPS):
            training.step()
        after = _largest_loss(training)
        require(
            after < before,
            f"Training must lower the largest point's loss. Got {before:.3f}, then {after:.3f} for {name}.",
        )


def _largest_loss(training: _Training) -> float:
    """The cross-entropy of the largest operating point on the batch, with the statistics of the batch."""
    import torch
    from torch.nn import functional as F

    network = training.network.train()
    with torch.no_grad():
        return float(F.cross_entropy(network(training.x, network.levels - 1), training.labels))


def _declares_sampling(tested: _Tested) -> None:
    samples = getattr(tested.new(), "samples_subnetworks", False)
    require(isinstance(samples, bool), f"samples_subnetworks must be True or False. Got {samples!r}.")


def _global_randomness(tested: _Tested) -> None:
    for _, training in tested.trainings():
        with global_randomness_untouched():
            training.step()


def _construction(check: Callable[[str, _Training], None]) -> Callable[[_Tested], None]:
    """A check of constructing rules; other rules pass it."""

    def wrapped(tested: _Tested) -> None:
        for name, training in tested.trainings():
            if training.construction is not None:
                check(name, training)

    wrapped.__name__ = check.__name__
    return wrapped


@_construction
def _keeps_the_points(name: str, training: _Training) -> None:
    levels = training.network.levels
    for _ in range(STEPS):
        training.step()
        now = training.network.levels
        require(now == levels, f"A construction must keep its {levels} operating points. Got {now} for {name}.")


@_construction
def _finishes_within_the_budgets(name: str, training: _Training) -> None:
    import torch

    budgets = rule_architectures()[name].costs
    for steps in range(STEPS + 1):
        if steps % 10 == 0:
            finished = training.construction.finished(steps, [training.x], torch.Generator().manual_seed(0))
            costs = finished.architecture.costs
            good = all(cost <= budget for cost, budget in zip(costs, budgets))
            require(good, f"Points must be within the proposal's MACs, {budgets}. Got {costs} after {steps} steps.")
        training.step()


@_construction
def _restores(name: str, training: _Training) -> None:
    import torch

    for _ in range(STEPS // 2):
        training.step()
    other = _Training(training.rule, rule_architectures()[name])
    other.construction.restore(training.network.architecture)
    other.module.load_state_dict(training.module.state_dict())
    with torch.no_grad():
        one, two = (t.network.train()(t.x, t.network.levels - 1) for t in (training, other))
    require(one.equal(two), f"A restored construction must have the same logits. They differ for {name}.")


_CHECKS = (
    _docstring,
    _serves_or_refuses,
    _declares_what_it_accepts,
    _losses_are_finite_scalars,
    _accepts_probabilities,
    _keeps_the_batch,
    _reproducible,
    _trains_every_parameter,
    _lowers_the_loss,
    _declares_sampling,
    _global_randomness,
    _keeps_the_points,
    _finishes_within_the_budgets,
    _restores,
)
