"""Data sets: loading, checking, augmenting, batching."""

from evaluators.data.datasets import Dataset, digits, load, synthetic

__all__ = ["Dataset", "digits", "load", "synthetic"]
