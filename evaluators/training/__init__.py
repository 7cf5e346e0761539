"""The evaluator that trains candidates."""

from evaluators.training.evaluator import Training

__all__ = ["Training"]
