"""Strategies, proxies and data that break their contracts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nas.proxies.contract import proxy
from nas.strategies.contract import Strategy
from nas.strategies.random import Random


class AskRaises(Strategy):
    """Raises when asked."""

    def ask(self):
        raise ZeroDivisionError("nothing to propose")


class MakeRaises(Random):
    """Cannot be made."""

    def __init__(self, *, seed, history=()):
        raise ZeroDivisionError("never made")


class DecideRaises(Strategy):
    """Gives a decision that raises."""

    def ask(self):
        def decide(name, options):
            raise ZeroDivisionError("undecided")

        return decide


class OutOfRange(Strategy):
    """Decides for an option that is not there."""

    def ask(self):
        return lambda name, options: len(options)


class Constant(Strategy):
    """Always proposes the same."""

    def ask(self):
        return lambda name, options: 0


def not_a_strategy():
    """A function."""


@proxy("topology")
def raises(architecture):
    """Raises."""
    raise ZeroDivisionError("no score")


@proxy("topology")
def raises_sometimes(architecture):
    """Raises for some."""
    if int(architecture.key, 16) % 5 == 0:
        raise ZeroDivisionError("no score")
    return 1.0


@proxy("topology")
def loses_its_file(architecture):
    """Reads a file that is not there for some."""
    if int(architecture.key, 16) % 5 == 0:
        Path("/nowhere/scores.json").read_text()
    return 1.0


@proxy("topology")
def nan(architecture):
    """Not a number."""
    return float("nan")


def undeclared(architecture):
    """Does not say what it needs."""
    return 1.0


def data_raises():
    """Raises."""
    raise ZeroDivisionError("no data")


def data_nonsense():
    """Returns text."""
    return "images"


def data():
    """Forty images of noise in two classes."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (40, 8, 8)).astype(np.uint8), np.arange(40) % 2
