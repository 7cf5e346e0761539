"""Strategies: they propose candidates."""

from nas.strategies.contract import NSGA2, TPE, Random, Strategy

__all__ = ["NSGA2", "TPE", "Random", "Strategy"]
