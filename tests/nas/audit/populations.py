"""Simulated populations of trained candidates with a known effect of size."""

import math

import numpy as np


def population(n, rng, *, size_effect=1.0, signal=0.3, noise=0.3):
    """Sizes (N, 3), size-free quality and accuracy: saturating in log MACs, linear in depth."""
    largest = math.log(1e6) + rng.uniform(0, 3, n) + rng.normal(0, 0.2, n)
    smallest = largest - rng.uniform(0.5, 2.5, n)
    layers = np.clip(np.round(4 + 2.5 * (largest - 13.8) + rng.normal(0, 1.5, n)), 3, None)
    quality = rng.normal(size=n)
    accuracy = size_effect * (np.tanh(largest - 15.3) + 0.05 * layers) + signal * quality
    return np.column_stack([smallest, largest, layers]), quality, accuracy + noise * rng.normal(size=n)
