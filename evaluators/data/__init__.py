"""Data sets: loading, checks, augmentation, batches."""

from evaluators.data.datasets import Dataset, from_arrays
from evaluators.data.generated import synthetic
from evaluators.data.loading import as_dataset, digits, load, load_data

__all__ = ["Dataset", "as_dataset", "digits", "from_arrays", "load", "load_data", "synthetic"]
