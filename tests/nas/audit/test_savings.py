"""Savings with a known truth: each chosen candidate is the best of ρ random ones. Ranked against random controls."""

import math

import numpy as np
import pytest
from scipy.stats import t

from nas.audit.savings import FEWEST, candidates_saved, control_comparison
from nas.errors import UserError


def drawn(worth, chosen, controls, rng, scale=lambda u: u):
    """Accuracies of chosen ones, each the best of ``worth`` random ones, and of controls: uniform, then rescaled."""
    return scale(rng.random(chosen) ** (1 / worth)), scale(rng.random(controls))


@pytest.mark.parametrize("worth", [0.3, 1.0, 2.0, 5.0])
@pytest.mark.parametrize(("chosen", "controls"), [(45, 5), (90, 10), (180, 20)])
def test_the_truth_is_in_the_interval_and_in_the_middle(worth, chosen, controls):
    rng = np.random.default_rng(0)
    samples = [candidates_saved(*drawn(worth, chosen, controls, rng)) for _ in range(300)]
    truth = (worth - 1) * chosen
    assert np.mean([s.low <= truth <= s.high for s in samples]) >= 0.9
    assert np.median([s.worth for s in samples]) == pytest.approx(worth, rel=0.25)


@pytest.mark.slow
def test_with_many_controls_it_is_exact():
    savings = candidates_saved(*drawn(3, 20_000, 20_000, np.random.default_rng(0)))
    assert savings.worth == pytest.approx(3, rel=0.05)
    assert savings.saved == pytest.approx(2 * 20_000, rel=0.07)
    assert savings.low < savings.saved < savings.high


def test_no_effect_saves_nothing():
    """About 0, as often above as below, and the interval holds 0 nineteen times in twenty."""
    rng = np.random.default_rng(1)
    samples = [candidates_saved(*drawn(1, 90, 10, rng)) for _ in range(400)]
    assert np.mean([s.low <= 0 <= s.high for s in samples]) >= 0.92
    assert 0.42 <= np.mean([s.saved > 0 for s in samples]) <= 0.58


def test_the_shape_of_accuracies_does_not_matter():
    def collapsing(u):
        return np.where(u < 0.1, 0.1, 0.9 - np.exp(-9 * u))

    chosen, controls = drawn(2, 90, 30, np.random.default_rng(2))
    plain = candidates_saved(chosen, controls)
    bent = candidates_saved(collapsing(np.maximum(chosen, 0.1)), collapsing(np.maximum(controls, 0.1)))
    assert bent.worth == pytest.approx(plain.worth, rel=0.05)


def test_the_best_of_the_chosen_is_that_of_as_many_random_ones():
    """The best of m chosen candidates is expected to be as good as the best of ρ·m random ones."""
    rng = np.random.default_rng(3)
    best = np.mean([drawn(4, 30, 1, rng)[0].max() for _ in range(2000)])
    assert best == pytest.approx(np.mean([rng.random(4 * 30).max() for _ in range(2000)]), abs=1e-3)


def test_controls_that_all_fall_short_give_a_lower_bound():
    savings = candidates_saved(np.linspace(0.7, 0.8, 40), np.linspace(0.1, 0.6, 8))
    assert (savings.worth, savings.saved, savings.high) == (math.inf, math.inf, math.inf)
    assert 40 < savings.low < math.inf
    worse = candidates_saved(np.linspace(0.1, 0.6, 40), np.linspace(0.7, 0.8, 8))
    assert (worse.worth, worse.saved, worse.low) == (0, -40, -40)
    assert -40 < worse.high < 0


def test_savings_of_few_are_unknown():
    for chosen, controls in ((FEWEST - 1, 50), (50, FEWEST - 1), (0, 0)):
        savings = candidates_saved(np.ones(chosen), np.ones(controls))
        assert (savings.chosen, savings.controls) == (chosen, controls)
        assert all(map(math.isnan, (savings.worth, savings.saved, savings.low, savings.high)))


def test_ties_are_no_wins_and_no_losses():
    savings = candidates_saved(np.ones(20), np.ones(10))
    assert (savings.worth, savings.saved) == (1, 0)
    assert savings.low < 0 < savings.high


def test_accuracies_must_be_numbers():
    with pytest.raises(UserError, match="finite"):
        candidates_saved([0.5, math.nan], [0.5])


def test_control_comparison_is_welchs():
    rng = np.random.default_rng(0)
    ranked, controls = rng.normal(0.7, 0.05, 60), rng.normal(0.6, 0.02, 9)
    comparison = control_comparison(ranked, controls)
    first, second = ranked.var(ddof=1) / 60, controls.var(ddof=1) / 9
    freedom = (first + second) ** 2 / (first**2 / 59 + second**2 / 8)
    half = t.ppf(0.975, freedom) * math.sqrt(first + second)
    assert comparison.difference == pytest.approx(ranked.mean() - controls.mean())
    assert comparison.difference - comparison.low == pytest.approx(half)
    assert comparison.high - comparison.difference == pytest.approx(half)
    assert (comparison.ranked, comparison.controls) == (60, 9)


def test_control_comparison_with_few():
    assert math.isnan(control_comparison([0.5], []).difference)
    single = control_comparison([0.5, 0.7], [0.5])
    assert single.difference == pytest.approx(0.1)
    assert math.isnan(single.low)


def test_control_comparison_of_constant_samples():
    both = control_comparison([0.5, 0.5], [0.5, 0.5])
    assert (both.difference, both.low, both.high) == (0, 0, 0)
    one = control_comparison([0.6, 0.7], [0.5, 0.5, 0.5])  # without a warning
    assert one.low < one.difference < one.high
