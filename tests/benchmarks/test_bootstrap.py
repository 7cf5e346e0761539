"""Bootstrap intervals against scipy, and against a known τ."""

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas.audit.statistics import kendall_tau
from nas.errors import UserError

from .scripts import script

bootstrap = script("bootstrap")
bootstrap_difference, bootstrap_interval = bootstrap.bootstrap_difference, bootstrap.bootstrap_interval


def test_interval_equals_the_quantiles_of_resampled_pairs():
    """The product form against scipy on equal resamples, with ties."""
    x, y = np.random.default_rng(0).integers(0, 6, (2, 25))
    counts = np.random.default_rng(7).multinomial(25, np.full(25, 1 / 25), size=100)
    slow = [kendalltau(np.repeat(x, c), np.repeat(y, c)).statistic for c in counts]
    fast = bootstrap_interval(x, y, rng=np.random.default_rng(7), resamples=100)
    assert fast == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])))


def test_interval_covers_the_true_tau():
    """τ of a bivariate normal is 2/π asin ρ; at least 88 % of 150 intervals of 95 % contain it."""
    rng, truth = np.random.default_rng(0), 2 / math.pi * math.asin(0.5)
    inside = []
    for _ in range(150):
        x, y = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], size=60).T
        low, high = bootstrap_interval(x, y, rng=rng, resamples=200)
        inside.append(low <= truth <= high)
    assert np.mean(inside) >= 0.88


def test_difference_of_a_better_and_a_worse_proxy():
    rng = np.random.default_rng(0)
    y = rng.normal(size=120)
    good, bad = y + 0.5 * rng.normal(size=120), y + 3 * rng.normal(size=120)
    difference, low, high = bootstrap_difference(good, bad, y, rng=rng)
    assert difference == pytest.approx(kendall_tau(good, y) - kendall_tau(bad, y))
    assert 0 < low < difference < high
    assert bootstrap_difference(good, good, y, rng=rng) == (0, 0, 0)
    assert all(map(math.isnan, bootstrap_difference(np.ones(120), good, y, rng=rng)))


def test_interval_is_undefined_for_few_pairs_and_constant_values():
    rng = np.random.default_rng(0)
    assert all(map(math.isnan, bootstrap_interval([1, 2, 3, 4], [1, 2, 3, 4], rng=rng)))
    assert all(map(math.isnan, bootstrap_interval(np.ones(9), np.arange(9), rng=rng)))
    with pytest.raises(UserError, match="finite"):
        bootstrap_interval([1, math.nan, 3], [1, 2, 3], rng=rng)
