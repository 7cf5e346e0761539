"""The audit on simulated populations whose truth is known: size must come out worthless, signal must be found."""

import math

import numpy as np
import pytest
from scipy.stats import kendalltau, ttest_ind

from nas.audit.statistics import (
    Sample,
    audit,
    bootstrap_difference,
    bootstrap_interval,
    control_comparison,
    kendall_tau,
    sample_of,
    size_residuals,
    sizes_of,
    tau_within_bins,
)
from nas.errors import UserError
from nas.proxies.sizes import count, depth
from nas.representation.architecture import macs as macs_of
from nas.representation.builder import Builder
from nas.representation.elements import Task


def population(n, rng, *, size_effect=1.0, signal=0.3, noise=0.3):
    """Sizes (N, 3), size-free quality and accuracy: saturating in log MACs, linear in depth."""
    largest = math.log(1e6) + rng.uniform(0, 3, n) + rng.normal(0, 0.2, n)
    smallest = largest - rng.uniform(0.5, 2.5, n)
    layers = np.clip(np.round(4 + 2.5 * (largest - 13.8) + rng.normal(0, 1.5, n)), 3, None)
    quality = rng.normal(size=n)
    accuracy = size_effect * (np.tanh(largest - 15.3) + 0.05 * layers) + signal * quality
    return np.column_stack([smallest, largest, layers]), quality, accuracy + noise * rng.normal(size=n)


PURE_SIZE = {
    "log_macs": lambda s: s[:, 1],
    "macs": lambda s: np.exp(s[:, 1]),
    "macs_of_smallest_squared": lambda s: np.exp(2 * s[:, 0]),
    "depth": lambda s: s[:, 2],
    "log_macs_and_depth": lambda s: s[:, 1] + 0.3 * s[:, 2],
    "macs_times_depth": lambda s: np.exp(s[:, 1]) * s[:, 2],
    "saturating": lambda s: np.tanh(2 * (s[:, 1] - 15.3)),
}


def audited(n, rng, proxies, **truth):
    """Rows by proxy. proxies: name -> function of (sizes, quality, rng)."""
    sizes_R, quality_R, _ = population(1000, rng, **truth)
    sizes, quality, accuracy = population(n, rng, **truth)
    reference = Sample(proxies={k: f(sizes_R, quality_R, rng) for k, f in proxies.items()}, sizes=sizes_R)
    trained = Sample(proxies={k: f(sizes, quality, rng) for k, f in proxies.items()}, sizes=sizes)
    return {row.proxy: row for row in audit(trained, accuracy, reference, rng=rng, resamples=300)}


def size_only(rule):
    return lambda sizes, quality, rng: rule(sizes)


@pytest.mark.parametrize("n", [30, 150])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_pure_size_is_worthless(n, noise):
    for seed in range(4):
        rows = audited(
            n, np.random.default_rng(seed), {k: size_only(f) for k, f in PURE_SIZE.items()}, signal=0, noise=noise
        )
        assert {row.verdict for row in rows.values()} == {"worthless"}
        assert all(math.isnan(row.tau_size_removed) for row in rows.values())
        assert rows["log_macs"].tau > 0.3


@pytest.mark.parametrize(
    "proxy",
    [
        lambda sizes, quality, rng: quality + 0.3 * rng.normal(size=len(quality)),
        lambda sizes, quality, rng: sizes[:, 1] + 0.3 * quality,
    ],
    ids=["free of size", "mostly size"],
)
def test_signal_beyond_size_is_found(proxy):
    verdicts = []
    for seed in range(10):
        rows = audited(80, np.random.default_rng(seed), {"signal": proxy, "macs": size_only(PURE_SIZE["log_macs"])})
        verdicts.append(rows["signal"].verdict)
        assert rows["signal"].size_removed_low <= rows["signal"].tau_size_removed <= rows["signal"].size_removed_high
    assert verdicts.count("earned") >= 9


@pytest.mark.parametrize("size_effect", [0.0, 1.0])
@pytest.mark.parametrize("n", [20, 60])
def test_random_proxies_seldom_earn(n, size_effect):
    """50 random and 50 randomly disturbed size proxies in each of 8 populations: at most 5 % earn anything."""
    random = {f"random {i}": lambda sizes, quality, rng: rng.normal(size=len(quality)) for i in range(50)}
    disturbed = {f"macs {i}": lambda sizes, quality, rng: sizes[:, 1] + rng.normal(size=len(sizes)) for i in range(50)}
    earned = []
    for seed in range(8):
        rows = audited(n, np.random.default_rng(seed), random | disturbed, size_effect=size_effect)
        earned += [row.verdict == "earned" for row in rows.values()]
    assert np.mean(earned) <= 0.05


def test_a_weaker_proxy_than_a_rival_with_size_removed_is_undecided():
    def weak(sizes, quality, rng):
        return quality + 1.5 * rng.normal(size=len(quality))

    def strong(sizes, quality, rng):
        return quality + 0.1 * rng.normal(size=len(quality))

    rows = audited(300, np.random.default_rng(0), {"mine": weak, "count": strong}, noise=0.1)
    assert rows["mine"].size_removed_low > 0
    assert (rows["mine"].verdict, rows["count"].verdict) == ("undecided", "earned")
    assert (rows["mine"].behind, rows["count"].behind) == ("count", None)


def test_few_candidates_decide_nothing():
    rows = audited(
        19, np.random.default_rng(0), {"q": lambda s, q, r: q, "macs": size_only(PURE_SIZE["macs"])}, noise=0
    )
    assert {row.verdict for row in rows.values()} == {"undecided"}
    assert all(math.isnan(v) for row in rows.values() for v in (row.tau_low, row.size_removed_high))
    assert {row.behind for row in rows.values()} == {None}


def test_rows_do_not_depend_on_other_proxies():
    quality = {"q": lambda s, q, r: q}
    alone = audited(40, np.random.default_rng(3), quality)
    beside = audited(40, np.random.default_rng(3), quality | {"macs": size_only(PURE_SIZE["macs"])})
    assert alone["q"] == beside["q"]


def test_no_common_proxy_gives_no_rows():
    sizes = population(30, np.random.default_rng(0))[0]
    one = Sample(proxies={"a": sizes[:, 0]}, sizes=sizes)
    other = Sample(proxies={"b": sizes[:, 0]}, sizes=sizes)
    assert audit(one, np.zeros(30), other, rng=np.random.default_rng(0)) == []


def test_residuals_of_one_proxy_are_those_of_many():
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


def test_tau_is_scipys_and_undefined_where_constant():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 50), rng.integers(0, 5, 50)
    assert kendall_tau(x, y) == pytest.approx(kendalltau(x, y).statistic)
    assert math.isnan(kendall_tau([1, 1, 1], [1, 2, 3]))
    assert math.isnan(kendall_tau([1], [1]))
    with pytest.raises(UserError, match="finite"):
        kendall_tau([1, math.nan], [1, 2])


def test_bootstrap_is_that_of_resampled_rows():
    """The product form against scipy on the very same resamples, with ties."""
    x, y = np.random.default_rng(0).integers(0, 6, (2, 25))
    counts = np.random.default_rng(7).multinomial(25, np.full(25, 1 / 25), size=100)
    slow = [kendalltau(np.repeat(x, c), np.repeat(y, c)).statistic for c in counts]
    fast = bootstrap_interval(x, y, rng=np.random.default_rng(7), resamples=100)
    assert fast == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])))


def test_bootstrap_covers_the_truth():
    """Of a bivariate normal, τ = 2/π asin ρ; 95 % intervals hold it in 88 % to 100 % of 150 samples."""
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


def test_control_comparison_is_welchs():
    rng = np.random.default_rng(0)
    ranked, controls = rng.normal(0.7, 0.05, 60), rng.normal(0.6, 0.02, 9)
    found = control_comparison(ranked, controls)
    expected = ttest_ind(ranked, controls, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.ranked, found.controls) == (60, 9)


def test_control_comparison_with_few():
    assert math.isnan(control_comparison([0.5], []).difference)
    lone = control_comparison([0.5, 0.7], [0.5])
    assert lone.difference == pytest.approx(0.1)
    assert math.isnan(lone.low)
    same = control_comparison([0.5, 0.5], [0.5, 0.5])
    assert (same.difference, same.low, same.high) == (0, 0, 0)


def test_sample_of_architectures():
    builder = Builder(Task(input_shape=(3, 8, 8), num_classes=10))
    builder.head(builder.conv(builder.input, (8, 16)))
    architecture = builder.architecture(2)
    small, large = macs_of(architecture)
    assert sizes_of(architecture) == (math.log(small), math.log(large), 2)
    sample = sample_of([architecture] * 3, {"count": count, "depth": depth})
    assert sample.sizes.shape == (3, 3)
    assert sample.proxies["count"].tolist() == [2.0] * 3
    assert sample_of([], {"count": count}).sizes.shape == (0, 3)


def test_bad_samples_are_refused():
    with pytest.raises(UserError, match="'a'"):
        Sample(proxies={"a": np.zeros(2)}, sizes=np.zeros((3, 3)))
    sample = Sample(proxies={"a": np.zeros(3)}, sizes=np.zeros((3, 3)))
    with pytest.raises(UserError, match="finite accuracy"):
        audit(sample, [0.1, 0.2, math.nan], sample, rng=np.random.default_rng(0))
