"""Installed strategies pass the shipped checks, and every check catches its fault."""

from __future__ import annotations

import random

import numpy as np
import pytest

from nas import testing
from nas.plugins import installed
from nas.strategies.random import Random

from .failing import fails


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name}-{what}")
        for name in sorted(installed("nas.strategies"))
        for what, check in testing.strategy_checks(name)
    ],
)
def test_installed_strategies(check):
    check()


class UndocumentedStrategy(Random):
    __doc__ = None


class OutOfRange(Random):
    """It answers with an option that does not exist."""

    def ask(self):
        return lambda name, options: len(options)


class Unseeded(Random):
    """It takes no notice of its seed."""

    def __init__(self, *, seed, history=()):
        super().__init__(seed=int(np.random.default_rng().integers(2**32)), history=history)


class OneSeed(Random):
    """Its seed changes nothing."""

    def __init__(self, *, seed, history=()):
        super().__init__(seed=0, history=history)


class Deaf(Random):
    """It accepts no results."""

    def tell(self, trial):
        raise RuntimeError("not now")


class Talkative(Random):
    """It prints."""

    def ask(self):
        print("asked")
        return super().ask()


class GlobalDice(Random):
    """It draws from a global generator."""

    def ask(self):
        return lambda name, options: random.randrange(len(options))


BROKEN_STRATEGIES = [
    ("docstring", UndocumentedStrategy, "docstring"),
    ("answers_everything", OutOfRange, "index of an option"),
    ("reproducible", Unseeded, "Equal seed"),
    ("seed_matters", OneSeed, "Different seeds"),
    ("told_late", Deaf, "not now"),
    ("quiet_and_contained", Talkative, "must print nothing"),
    ("quiet_and_contained", GlobalDice, "Global random state"),
]


@pytest.mark.parametrize(("name", "strategy", "message"), BROKEN_STRATEGIES)
def test_every_check_of_a_strategy_catches_its_fault(name, strategy, message):
    fails(testing.strategy_checks(strategy), name, message)


def test_every_check_of_a_strategy_has_a_fault_that_it_catches():
    assert {name for name, _, _ in BROKEN_STRATEGIES} == {name for name, _ in testing.strategy_checks(Random)}
