"""Rank correlation against scipy, and the removal of size against cases with known results."""

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas.audit.statistics import (
    kendall_tau,
    size_residuals,
    tau_within_bins,
)
from nas.errors import UserError

from .populations import population


def test_residuals_of_one_proxy_equal_its_residuals_among_many():
    rng = np.random.default_rng(0)
    (sizes_R, quality_R, _), (sizes, quality, _) = population(500, rng), population(40, rng)
    values, values_R = np.column_stack([quality, sizes[:, 1]]), np.column_stack([quality_R, sizes_R[:, 1]])
    both = size_residuals(values, sizes, values_R, sizes_R)
    assert size_residuals(quality, sizes, quality_R, sizes_R) == pytest.approx(both[:, 0])
    assert both[:, 1].tolist() == [0] * 40
    assert kendall_tau(both[:, 0], quality) > 0.8


def test_residuals_survive_sizes_that_do_not_vary():
    values = np.random.default_rng(0).normal(size=30)
    sizes = np.tile([10.0, 12.0, 5.0], (30, 1))
    assert size_residuals(values, sizes, values, sizes) == pytest.approx(values - values.mean())
    assert size_residuals(values, sizes, np.ones(30), sizes).tolist() == [0] * 30


def test_tau_agrees_with_scipy_and_is_undefined_for_constant_values():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 50), rng.integers(0, 5, 50)
    assert kendall_tau(x, y) == pytest.approx(kendalltau(x, y).statistic)
    assert math.isnan(kendall_tau([1, 1, 1], [1, 2, 3]))
    assert math.isnan(kendall_tau([1], [1]))
    with pytest.raises(UserError, match="finite"):
        kendall_tau([1, math.nan], [1, 2])


def test_tau_within_bins_takes_pairs_of_like_size_only():
    macs = np.array([1, 1, 1, 10, 10, 10])
    x = np.array([1, 2, 3, 11, 12, 13])
    y = np.array([3, 2, 1, 13, 12, 11])
    assert kendall_tau(x, y) > 0
    assert tau_within_bins(x, y, macs, bins=2) == -1
    assert math.isnan(tau_within_bins([1, 1, 1], [1, 2, 3], [1, 2, 3]))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (2, 40))
    assert tau_within_bins(x, y, np.ones(40)) == pytest.approx(kendalltau(x, y).statistic)
