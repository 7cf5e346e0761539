"""The audit on simulated populations with a known truth: size must come out worthless, signal must be found."""

import math

import numpy as np
import pytest

from nas.audit.audit import Sample, audit, sizes_of
from nas.errors import UserError
from nas.representation.architecture import macs
from nas.representation.builder import Builder
from nas.representation.elements import Task

from .populations import population

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
def test_signal_beyond_size_is_detected(proxy):
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


def test_sizes_of_an_architecture():
    builder = Builder(Task(input_shape=(3, 8, 8), num_classes=10))
    builder.head(builder.conv(builder.input, (8, 16)))
    architecture = builder.architecture(2)
    small, large = macs(architecture)
    assert sizes_of(architecture) == (math.log(small), math.log(large), 2)


def test_bad_samples_are_refused():
    with pytest.raises(UserError, match="'a'"):
        Sample(proxies={"a": np.zeros(2)}, sizes=np.zeros((3, 3)))
    sample = Sample(proxies={"a": np.zeros(3)}, sizes=np.zeros((3, 3)))
    with pytest.raises(UserError, match="finite accuracy"):
        audit(sample, [0.1, 0.2, math.nan], sample, rng=np.random.default_rng(0))
