"""Installed kinds and the example pass the shipped checks, and every check catches its fault."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from nas import testing
from nas.errors import InvalidArchitecture
from nas.plugins import installed
from nas.representation.kinds import Conv, GlobalAvgPool, Identity, Kind

from .failing import fails

EXAMPLE = f"{Path(__file__).resolve().parents[3]}/examples/own_kind.py:Dilated"


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name.rpartition(':')[2]}-{what}")
        for name in (*sorted(installed("nas.kinds")), EXAMPLE)
        for what, check in testing.kind_checks(name)
    ],
)
def test_installed_kinds_and_the_example(check):
    check()


def test_all_checks_at_once():
    testing.check_kind(Conv)


class Undocumented(Conv):
    __doc__ = None


class Undeclared(Kind):
    """It does not say whether it mixes channels."""


class RefusesAll(Conv):
    """It accepts no input."""

    def output_size(self, operation, size):
        raise InvalidArchitecture("Never.")


class ListOfSizes(Conv):
    """Its sizes are lists."""

    def output_size(self, operation, size):
        return list(super().output_size(operation, size))


class WrongSize(Conv):
    """It declares the input size."""

    def output_size(self, operation, size):
        super().output_size(operation, size)
        return size


class Amplifying(Identity):
    """It amplifies high frequencies."""

    def high_gain(self, operation):
        return 2.0


class Single(Conv):
    """It computes in single precision."""

    def apply(self, operation, x, weight, bias, groups):
        return super().apply(operation, x, weight, bias, groups).float()


class Noisy(Conv):
    """It adds noise."""

    def apply(self, operation, x, weight, bias, groups):
        out = super().apply(operation, x, weight, bias, groups)
        return out + torch.randn(out.shape, generator=torch.Generator().manual_seed(torch.seed()))


class InPlace(Identity):
    """It doubles its input."""

    def apply(self, operation, x, weight, bias, groups):
        return x.mul_(0)


class Normalised(Conv):
    """It subtracts the mean of the batch."""

    def apply(self, operation, x, weight, bias, groups):
        out = super().apply(operation, x, weight, bias, groups)
        return out - out.mean(dim=0)


class Reversed(Identity):
    """It reverses the channels."""

    def apply(self, operation, x, weight, bias, groups):
        return x.flip(1)


class Shifted(Conv):
    """Its weights have an offset."""

    def apply(self, operation, x, weight, bias, groups):
        return super().apply(operation, x, weight + 1, bias, groups)


class Averaged(Conv):
    """It divides by the number of source channels."""

    def apply(self, operation, x, weight, bias, groups):
        return super().apply(operation, x, weight, bias, groups) / x.shape[1]


class Ungrouped(Conv):
    """It repeats the weights instead of separating groups."""

    def apply(self, operation, x, weight, bias, groups):
        return super().apply(operation, x, torch.cat([weight] * groups, dim=1), bias, 1)


class Unbiased(Conv):
    """It drops the bias."""

    def apply(self, operation, x, weight, bias, groups):
        return super().apply(operation, x, weight, None, groups)


class Detached(Conv):
    """Its weight is not trained."""

    def apply(self, operation, x, weight, bias, groups):
        return super().apply(operation, x, weight.detach(), bias, groups) + 0 * weight.sum()


class Twice(Conv):
    """It computes everything twice."""

    def apply(self, operation, x, weight, bias, groups):
        apply = super().apply
        return (apply(operation, x, weight, bias, groups) + apply(operation, x, weight, bias, groups)) / 2


class Learned(GlobalAvgPool):
    """It multiplies although it declares no weight."""

    def apply(self, operation, x, weight, bias, groups):
        pooled = super().apply(operation, x, weight, bias, groups)
        return F.linear(pooled, torch.eye(x.shape[1], dtype=x.dtype))


BROKEN = [
    ("docstring", Undocumented, "docstring"),
    ("declared", Undeclared, "learned and mixing"),
    ("output_sizes", RefusesAll, "refused all"),
    ("output_sizes", ListOfSizes, "tuple of positive int"),
    ("high_gain", Amplifying, "at most 1"),
    ("shapes", WrongSize, "must have shape"),
    ("shapes", Single, "torch.float32"),
    ("pure", Noisy, "Equal inputs|Global random state"),
    ("pure", InPlace, "must keep their values"),
    ("examples_independent", Normalised, "other examples"),
    ("channels_as_declared", Reversed, "only on channel c"),
    ("channels_as_declared", Shifted, "weight 0"),
    ("prefixes", Averaged, "cut weight"),
    ("prefixes", Reversed, "first channels"),
    ("groups", Ungrouped, "separate operations"),
    ("bias_is_added", Unbiased, "must be added"),
    ("trainable", Detached, "gradient"),
    ("macs_as_counted", Twice, "Torch counts"),
    ("macs_as_counted", Learned, "Torch counts"),
]


@pytest.mark.parametrize(
    ("name", "kind", "message"), BROKEN, ids=[f"{name}-{kind.__name__}" for name, kind, _ in BROKEN]
)
def test_every_check_of_a_kind_catches_its_fault(name, kind, message):
    fails(testing.kind_checks(kind), name, message)


def test_every_check_of_a_kind_has_a_fault_that_it_catches():
    assert {name for name, _, _ in BROKEN} == {name for name, _ in testing.kind_checks(Conv)}
