"""Forecasts of the accuracy: closed forms, limits of the shrinkage, and a simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.funnel.forecast import (
    REPEATS,
    SLOPE,
    LearningCurve,
    distinct_images,
    expected_gain,
    factor,
    forecast,
    slope_of,
    typical_slope,
)

ACCURACIES = st.floats(0.01, 0.99)
FIRST = 10**12
"""Images of a first result: so many that seeds do not differ."""


def curve(*accuracies, noise=0.01):
    """Results after FIRST, and three, nine, … times as many images."""
    results = {FIRST * 3**place: accuracy for place, accuracy in enumerate(accuracies)}
    return LearningCurve(results=results, seconds_per_image=1.0, noise=noise)


def power_law(slope, noise=1e-9):
    """A curve whose error is 0.8 after FIRST images."""
    return curve(*(1 - 0.8 * 3 ** (-slope * place) for place in range(3)), noise=noise)


@given(st.floats(0.05, 1.0), st.floats(0, 1e16), st.floats(0, 1.0))
def test_without_noise_a_power_law_is_continued(slope, images, typical):
    known = power_law(slope)
    assert slope_of(known, typical) == pytest.approx(slope, abs=1e-6)
    expected = 1 - 0.8 * ((9 * FIRST + images) / FIRST) ** -slope
    assert forecast(known, images, typical) == pytest.approx(expected, abs=1e-6)


@given(st.lists(ACCURACIES, min_size=1, max_size=4), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1))
def test_more_images_never_lower_a_forecast(accuracies, fewer, further, typical):
    known = curve(*accuracies)
    now, later = forecast(known, fewer, typical), forecast(known, fewer + further, typical)
    assert accuracies[-1] - 1e-12 <= now <= later + 1e-12
    assert later <= 1
    assert 0 < factor(known, fewer + further, typical) <= factor(known, fewer, typical) + 1e-12


@given(st.floats(0, 1e3), st.floats(0, 1e3))
def test_a_repeated_image_counts_less_each_time(passes, further):
    fewer, more = (distinct_images(100 * each, 100) for each in (passes, passes + further))
    assert fewer <= more <= min(100 * (passes + further), 100 * (1 + REPEATS)) + 1e-9
    assert more - fewer <= 100 * further + 1e-9
    second = distinct_images(200, 100) - distinct_images(100, 100)
    assert second == pytest.approx(100 * REPEATS * (1 - math.exp(-1 / REPEATS)))


def test_many_passes_favour_the_better_network_and_few_the_faster_one():
    """Both have seen a tenth of all images; the smaller one is twice as fast."""
    small, large = (
        LearningCurve(results={1000: accuracy}, seconds_per_image=pace, noise=0.01, train_images=10_000)
        for accuracy, pace in ((0.75, 1.0), (0.77, 2.0))
    )

    def ahead(known, seconds):
        return forecast(known, seconds / known.seconds_per_image, SLOPE)

    assert ahead(small, 4_000) > ahead(large, 4_000)
    assert ahead(large, 1_000_000) > ahead(small, 1_000_000)


@given(st.lists(ACCURACIES, min_size=2, max_size=3), st.floats(0, 1))
def test_the_exponent_is_shrunk_to_the_typical_one(accuracies, typical):
    exact, noisy = (slope_of(curve(*accuracies, noise=noise), typical) for noise in (1e-9, 1e6))
    own = max(0.0, math.log((1 - accuracies[-2]) / (1 - accuracies[-1])) / math.log(3))
    assert exact == pytest.approx(own, abs=1e-6)
    assert noisy == pytest.approx(typical, abs=1e-6)
    between = slope_of(curve(*accuracies, noise=0.05), typical)
    assert min(own, typical) - 1e-6 <= between <= max(own, typical) + 1e-6


def test_the_exponent_of_short_trainings_is_that_of_the_study():
    """Seeds differ more than two early results."""
    results = {2_500: 0.70, 7_500: 0.76}
    early = LearningCurve(results=results, seconds_per_image=1.0, noise=1e-9)
    late = LearningCurve(
        results={100 * images: accuracy for images, accuracy in results.items()}, seconds_per_image=1.0, noise=1e-9
    )
    own = math.log(0.30 / 0.24) / math.log(3)
    assert own < slope_of(late, 0.3) < (own + 0.3) / 2 < slope_of(early, 0.3) < 0.3


def test_a_single_result_has_the_typical_exponent_and_perfection_has_one_too():
    assert slope_of(curve(0.4), 0.37) == 0.37
    perfect = curve(0.9, 1.0)
    assert math.isfinite(slope_of(perfect, 0.3))
    assert forecast(perfect, 1000, 0.3) == 1


def test_the_typical_exponent_goes_from_the_prior_to_the_mean_of_the_candidates():
    assert typical_slope([]) == typical_slope([curve(0.3)]) == SLOPE
    few, many = (typical_slope([power_law(0.5)] * count) for count in (1, 10_000))
    assert few == pytest.approx((SLOPE + 0.5) / 2)  # without noise, a candidate counts as much as the prior
    assert many == pytest.approx(0.5, abs=1e-3)
    assert typical_slope([power_law(0.5, noise=1e3)] * 10) == pytest.approx(SLOPE, abs=1e-3)


@given(st.integers(0, 10), st.lists(st.integers(0, 10), min_size=2, max_size=8), st.integers(1, 12))
def test_expected_gain_is_that_of_a_simulation(best, others, draws):
    normal = np.random.default_rng(0).normal(np.mean(others), np.std(others, ddof=1), (5_000, draws))
    gains = np.maximum(0, normal.max(axis=1) - best)
    assert expected_gain(best, others, draws) == pytest.approx(gains.mean(), abs=6 * gains.std() / 5_000**0.5 + 0.02)


def test_expected_gain_without_spread_is_the_difference():
    assert expected_gain(0.5, [0.7, 0.7], 3) == pytest.approx(0.2)
    assert expected_gain(0.7, [0.5], 3) == 0
