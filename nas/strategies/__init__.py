"""Strategies, which propose candidates."""

from nas.strategies.contract import Strategy
from nas.strategies.optuna_samplers import NSGA2, TPE
from nas.strategies.random import Random

__all__ = ["NSGA2", "TPE", "Random", "Strategy"]
