"""Installed training rules and the example pass the shipped checks, and every check catches its fault."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nas import UserError, testing
from nas.execution.network import AnytimeNetwork
from nas.plugins import installed

from .failing import fails

EXAMPLE = f"{Path(__file__).resolve().parents[3]}/examples/own_rule.py:Smoothed"


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name.rpartition('/')[2]}-{check_name}")
        for name in (*installed("nas.training_rules"), EXAMPLE)
        for check_name, check in testing.training_rule_checks(name)
    ],
)
def test_installed_rules_and_the_example(check):
    check()


def test_settings_reach_the_rule():
    fails(testing.training_rule_checks(EXAMPLE, smoothing=2), "serves_or_refuses", "It refused all")
    testing.check_training_rule(EXAMPLE, smoothing=0.3)


class Plain:
    """All points, largest first, on the labels."""

    def losses(self, network, x, labels, generator):
        for level in reversed(range(network.levels)):
            yield F.cross_entropy(network(x, level), network.labels(labels, level))


class Undocumented(Plain):
    __doc__ = None


class WholeLabelsOnly(Plain):
    """It counts the labels of each class."""

    def losses(self, network, x, labels, generator):
        weight = torch.bincount(labels, minlength=network.architecture.task.num_classes).clamp(min=1)
        for level in reversed(range(network.levels)):
            losses = F.cross_entropy(network(x, level), network.labels(labels, level), reduction="none")
            yield (losses / weight[labels]).mean()


class RefusesUndeclared(Plain):
    """It refuses a norm for each point only when it trains."""

    def losses(self, network, x, labels, generator):
        if network.architecture.norm == "per_point":
            raise UserError("No norm for each point.")
        return super().losses(network, x, labels, generator)


class DeclaresTooMuch(Plain):
    """It trains more than its check accepts."""

    def check(self, architecture):
        if architecture.norm == "per_point":
            raise UserError("No norm for each point.")


class RefusesAll(Plain):
    """It trains no network."""

    def losses(self, network, x, labels, generator):
        raise UserError("Never.")


class FineLabelsOnly(Plain):
    """It ignores the labelling of the points."""

    def losses(self, network, x, labels, generator):
        for level in range(network.levels):
            yield F.cross_entropy(network(x, level), labels)


class Empty(Plain):
    """It has no losses."""

    def losses(self, network, x, labels, generator):
        return iter(())


class PerExample(Plain):
    """It forgets to average."""

    def losses(self, network, x, labels, generator):
        return (loss * torch.tensor(float("nan")) for loss in super().losses(network, x, labels, generator))


class InPlace(Plain):
    """It scales the images of its caller."""

    def losses(self, network, x, labels, generator):
        x *= 0.5
        return super().losses(network, x, labels, generator)


class Unseeded(Plain):
    """It draws a level from a generator of its own."""

    def losses(self, network, x, labels, generator):
        own = torch.Generator()
        own.seed()
        weight = torch.rand((), generator=own)
        return (loss * weight for loss in super().losses(network, x, labels, generator))


class Global(Plain):
    """It draws from the global generator."""

    def losses(self, network, x, labels, generator):
        weight = torch.rand(())
        return (loss * weight for loss in super().losses(network, x, labels, generator))


class SmallestOnly(Plain):
    """It trains only the smallest point."""

    def losses(self, network, x, labels, generator):
        yield F.cross_entropy(network(x, 0), network.labels(labels, 0))


class Ascending(Plain):
    """It maximises the loss."""

    def losses(self, network, x, labels, generator):
        return (-loss for loss in super().losses(network, x, labels, generator))


class Maybe(Plain):
    """It answers with a text."""

    samples_subnetworks = "sometimes"


class Construction(nn.Module):
    """A construction that changes nothing; `finished` returns the network as it is."""

    def __init__(self, architecture, generator):
        super().__init__()
        self.network = AnytimeNetwork(architecture, generator=generator)

    def trained(self):
        return [self.network]

    def losses(self, step, x, labels, generator):
        return Plain().losses(self.network, x, labels, generator)

    def advance(self, step, generator):
        return None

    def restore(self, architecture):
        self.network = AnytimeNetwork(architecture)

    def finished(self, steps, batches, generator):
        return self.network


class Constructing:
    """A rule that constructs the proposal itself."""

    construction = Construction

    def check(self, architecture):
        if architecture.norm == "per_point":
            raise UserError("Points must share their norms.")

    def construct(self, architecture, *, steps, generator):
        self.check(architecture)
        return self.construction(architecture, generator)


class DropsPoints(Constructing):
    """It drops points on the way."""

    class construction(Construction):
        def advance(self, step, generator):
            if step != 3:
                return None
            architecture = self.network.architecture
            self.network = self.network.with_points(architecture.points[-2:])
            return lambda name, tensor: tensor


class OverBudget(Constructing):
    """All its points are nearly the largest one."""

    class construction(Construction):
        def finished(self, steps, batches, generator):
            points = self.network.architecture.points
            return self.network.with_points(points[1:])


class Forgetful(Constructing):
    """It keeps state that is not restored."""

    class construction(Construction):
        def __init__(self, architecture, generator):
            super().__init__(architecture, generator)
            self.steps = 0

        def advance(self, step, generator):
            self.steps += 1
            with torch.no_grad():
                for parameter in self.network.parameters():
                    parameter.add_(0)

        def restore(self, architecture):
            self.network = AnytimeNetwork(architecture)
            self.network.register_forward_pre_hook(lambda module, args: (args[0] + 1, *args[1:]))


BROKEN = [
    ("docstring", Undocumented, "docstring"),
    ("serves_or_refuses", RefusesAll, "It refused all"),
    ("serves_or_refuses", FineLabelsOnly, "IndexError|out of bounds"),
    ("declares_what_it_accepts", RefusesUndeclared, "For a norm per point, check accepts it"),
    ("declares_what_it_accepts", DeclaresTooMuch, "For a norm per point, check refuses it: No norm"),
    ("losses_are_finite_scalars", Empty, "at least one loss"),
    ("losses_are_finite_scalars", PerExample, "finite scalar"),
    ("accepts_probabilities", WholeLabelsOnly, "Labels may be probabilities"),
    ("keeps_the_batch", InPlace, "must keep their values"),
    ("reproducible", Unseeded, "Equal generators"),
    ("trains_every_parameter", SmallestOnly, "must be trained"),
    ("lowers_the_loss", Ascending, "must lower"),
    ("declares_sampling", Maybe, "'sometimes'"),
    ("global_randomness", Global, "Global random state"),
    ("keeps_the_points", DropsPoints, "must keep its 4 operating points. Got 2"),
    ("finishes_within_the_budgets", OverBudget, "within the proposal's MACs"),
    ("restores", Forgetful, "same logits"),
]


@pytest.mark.parametrize("rule", [Plain, Constructing])
def test_all_checks_at_once(rule):
    testing.check_training_rule(rule)


@pytest.mark.parametrize(
    ("name", "rule", "message"), BROKEN, ids=[f"{name}-{rule.__name__}" for name, rule, _ in BROKEN]
)
def test_every_check_of_a_rule_catches_its_fault(name, rule, message):
    fails(testing.training_rule_checks(rule), name, message)


def test_every_check_of_a_rule_has_a_fault_that_it_catches():
    assert {name for name, _, _ in BROKEN} == {name for name, _ in testing.training_rule_checks(Plain)}
