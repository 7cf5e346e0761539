"""The evaluator that looks results up in a table of trained networks."""

from evaluators.tabular.evaluator import Tabular

__all__ = ["Tabular"]
