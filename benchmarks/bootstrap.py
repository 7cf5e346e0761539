"""Bootstrap intervals of Kendall's τ-b, and of the difference between two proxies.

References
----------
Efron & Tibshirani, An Introduction to the Bootstrap, 1993.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from nas.audit.statistics import (
    FEWEST_PAIRS,
    UNDEFINED,
    Interval,
    kendall_tau,
    percentile_interval,
    resample_counts,
    resampled_taus,
)


def bootstrap_interval(
    x: ArrayLike, y: ArrayLike, *, rng: np.random.Generator, resamples: int = 1000, level: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of τ-b; NaN if τ is undefined, or below 5 pairs.

    x, y: finite values, shape (N,). rng: draws the resamples of the pairs. level: coverage of the interval.
    """
    x_N, y_N = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if math.isnan(kendall_tau(x_N, y_N)) or len(x_N) < FEWEST_PAIRS:
        return UNDEFINED
    return percentile_interval(resampled_taus(x_N, y_N, resample_counts(len(x_N), resamples, rng)), level)


def bootstrap_difference(
    first: ArrayLike,
    second: ArrayLike,
    y: ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """τ(first, y) − τ(second, y) and its paired bootstrap interval; parameters as of :func:`bootstrap_interval`."""
    a_N, b_N, y_N = (np.asarray(v, dtype=float) for v in (first, second, y))
    difference = kendall_tau(a_N, y_N) - kendall_tau(b_N, y_N)
    if len(y_N) < FEWEST_PAIRS or math.isnan(difference):
        return difference, *UNDEFINED
    counts_BN = resample_counts(len(y_N), resamples, rng)
    differences_B = resampled_taus(a_N, y_N, counts_BN) - resampled_taus(b_N, y_N, counts_BN)
    return difference, *percentile_interval(differences_B, level)
