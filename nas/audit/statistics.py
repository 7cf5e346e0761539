"""Did a proxy earn its keep? Rank correlation with accuracy: raw, inside MACs bins, and with size removed.

A large network is both more accurate and scored higher by anything that grows with size, so a raw τ proves little. What
size explains is removed by local-linear regression on (log MACs of the smallest point, of the largest, depth), fitted
on a fixed reference sample of random architectures of the space; a proxy that is nothing but size has no τ left.
numpy only; scipy is imported where it is used. Suffixes: N candidates, R reference architectures, S sizes, B resamples.

References
----------
Kendall, The Treatment of Ties in Ranking Problems, Biometrika 1945 (τ-b).
Cleveland & Devlin, Locally Weighted Regression, JASA 1988. Efron & Tibshirani, An Introduction to the Bootstrap, 1993.
White et al., A Deeper Look at Zero-Cost Proxies for Lightweight NAS, ICLR blog track 2022 (size as the rival).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.errors import UserError
from nas.proxies.contract import Proxy, evaluate
from nas.proxies.sizes import SIZE_PROXIES, depth
from nas.representation.architecture import Architecture
from nas.representation.cost import subnetwork_macs

Floats = NDArray[np.float64]
Interval = tuple[float, float]
Verdict = Literal["earned", "undecided", "worthless"]

NOTHING: Interval = (math.nan, math.nan)
TRIVIAL_TAU = 0.1  # a size-removed τ that surely lies below this is worth nothing
FEW = 20  # below as many candidates, or reference architectures, nothing is decided
ONLY_SIZE = 0.005  # share of a proxy's variance that size must leave for the proxy to be more than size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Scores and sizes of architectures, without their accuracy.

    proxies: per name, shape (N,).
    sizes: shape (N, 3): log MACs of the smallest point, log MACs of the largest, depth; see :func:`sizes_of`.
    """

    proxies: Mapping[str, Floats]
    sizes: Floats

    def __post_init__(self) -> None:
        for name, values in self.proxies.items():
            if not (np.shape(values) == (len(self.sizes),)):
                raise UserError(f"Every architecture must have a score. Got {np.shape(values)} for {name!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """What is known of one proxy. Intervals are of 95 %; NaN is unknown or undefined.

    n: trained candidates. references: architectures that size was fitted on. tau: raw Kendall τ-b with accuracy.
    tau_size_removed: between what size leaves of both. tau_within_bins: over pairs of similar MACs only. Intervals are
    NaN as well where either number is below ``FEW``.
    behind: the rival whose τ with size removed is surely larger; None where there is none.
    """

    proxy: str
    n: int
    references: int
    tau: float
    tau_low: float
    tau_high: float
    tau_size_removed: float
    size_removed_low: float
    size_removed_high: float
    tau_within_bins: float
    behind: str | None
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Mean accuracy of ranked candidates minus that of random controls, with its 95 % interval."""

    difference: float
    low: float
    high: float
    ranked: int
    controls: int


def sizes_of(architecture: Architecture) -> tuple[float, float, float]:
    """Log MACs of the smallest point, log MACs of the largest, and depth: what the audit takes size to be."""
    small, large = (subnetwork_macs(architecture.topology, architecture.points[i]) for i in (0, -1))
    return math.log(max(1, small)), math.log(max(1, large)), depth(architecture)


def sample_of(architectures: Iterable[Architecture], proxies: Mapping[str, Proxy]) -> Sample:
    """Scores and sizes of architectures. Raises PluginError as :func:`nas.proxies.contract.evaluate` does."""
    rows = [(sizes_of(architecture), evaluate(architecture, proxies)) for architecture in architectures]
    return Sample(
        proxies={name: np.array([scores[name] for _, scores in rows]) for name in proxies},
        sizes=np.array([sizes for sizes, _ in rows]).reshape(-1, 3),
    )


def kendall_tau(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall τ-b of two sequences of one length; NaN where either is constant or too short.

    >>> kendall_tau([1, 2, 3, 4], [4, 3, 2, 1])
    -1.0
    """
    from scipy.stats import kendalltau

    x_N, y_N = _finite_pairs(x, y)
    if len(x_N) < 2 or np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        return math.nan
    return float(kendalltau(x_N, y_N).statistic)


def bootstrap_interval(
    x: ArrayLike, y: ArrayLike, *, rng: np.random.Generator, resamples: int = 1000, level: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of τ-b; NaN where τ is, or below 5 pairs.

    Notes
    -----
    A resample is a vector of counts c, and its concordant minus discordant pairs are cᵀ S c with S the product of the
    signs of all differences: three products of (B, N) and (N, N). 1,000 resamples of 300 pairs take about 20 ms.
    """
    x_N, y_N = _finite_pairs(x, y)
    if len(x_N) < 5 or np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        return NOTHING
    return _percentiles(_taus(x_N, y_N, _resampled(len(x_N), resamples, rng)), level)


def bootstrap_difference(
    first: ArrayLike,
    second: ArrayLike,
    y: ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """τ(first, y) − τ(second, y) and its interval, resampling candidates for both at once."""
    a_N, b_N, y_N = (np.asarray(v, dtype=float) for v in (first, second, y))
    difference = kendall_tau(a_N, y_N) - kendall_tau(b_N, y_N)
    if len(y_N) < 5 or math.isnan(difference):
        return difference, *NOTHING
    counts_BN = _resampled(len(y_N), resamples, rng)
    return difference, *_percentiles(_taus(a_N, y_N, counts_BN) - _taus(b_N, y_N, counts_BN), level)


def size_residuals(
    values: ArrayLike, sizes: ArrayLike, reference_values: ArrayLike, reference_sizes: ArrayLike
) -> Floats:
    """What a local-linear fit of the reference sample's values on its sizes leaves of the values.

    values: shape (N,), or (N, P) for several proxies at once; sizes: (N, S); reference_values: (R,) or (R, P);
    reference_sizes: (R, S). Returns an array like ``values``.

    Exactly 0 everywhere when size leaves less than ``ONLY_SIZE`` of the reference's variance, directly or after the
    values are replaced by normal scores of their ranks (so that any monotone function of a size is a size).

    Notes
    -----
    Tricube weights over the nearest 15 % of the reference (at least 40), in sizes scaled by their spread. A weighted
    least-squares problem of S + 1 unknowns for each architecture, for all proxies at once: O((N + R) R (S + P)).
    """
    values_NP = np.asarray(values, dtype=float).reshape(len(np.asarray(sizes)), -1)
    sizes_NS, sizes_RS = np.asarray(sizes, dtype=float), np.asarray(reference_sizes, dtype=float)
    values_RP = np.asarray(reference_values, dtype=float).reshape(len(sizes_RS), -1)
    residual_NP = values_NP - _local_linear(sizes_NS, sizes_RS, values_RP)
    scales_RQ = np.concatenate([values_RP, _normal_scores(values_RP)], axis=1)
    left_RQ = scales_RQ - _local_linear(sizes_RS, sizes_RS, scales_RQ)
    more_2P = (left_RQ.var(axis=0) > ONLY_SIZE * scales_RQ.var(axis=0)).reshape(2, -1)
    return (residual_NP * more_2P.all(axis=0)).reshape(np.shape(values))


def tau_within_bins(x: ArrayLike, y: ArrayLike, macs: ArrayLike, *, bins: int = 5) -> float:
    """τ-b over those pairs alone whose MACs lie in the same of some equally filled bins; NaN if there are none."""
    x_N, y_N, macs_N = (np.asarray(v, dtype=float) for v in (x, y, macs))
    if len(x_N) < 2:
        return math.nan
    edges = np.quantile(macs_N, np.linspace(0, 1, bins + 1)[1:-1])
    bin_N = np.searchsorted(edges, macs_N, side="right")
    same_NN = bin_N[:, None] == bin_N[None, :]
    x_NN, y_NN = _signs(x_N) * same_NN, _signs(y_N) * same_NN
    scale = math.sqrt(float(np.abs(x_NN).sum()) * float(np.abs(y_NN).sum()))
    return float((x_NN * y_NN).sum()) / scale if scale else math.nan


def audit(
    trained: Sample,
    accuracy: ArrayLike,
    reference: Sample,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    rivals: Sequence[str] = SIZE_PROXIES,
) -> list[AuditRow]:
    """One row a proxy that both samples have, in the order of ``trained``.

    trained: the candidates that were trained, ranked and controls; a failed one is left out. accuracy: theirs, shape
        (N,), the study's score or any other. reference: random architectures of the space, drawn once per study (1,000
        are enough).
    rivals: the proxies that a better one must not fall behind; those that are size alone have no say.

    Verdicts
    --------
    earned: its interval with size removed lies above 0 (it knows something that size does not), and its τ with size
        removed is not surely, by a paired bootstrap, below that of the best of the other rivals. The raw τ plays no
        part: a score that is free of size need not beat size, because the order of training trades it against MACs.
    worthless: with size removed nothing is left of it, or its interval surely lies below ``TRIVIAL_TAU``.
    undecided: all else, and everything with fewer than ``FEW`` candidates or reference architectures.

    Notes
    -----
    Accuracy has no reference sample; what size explains of it is fitted on the trained candidates themselves.
    All proxies share the resamples and one local fit: 0.1 s for 8 proxies, 200 candidates and 1,000 references.
    """
    accuracy_N = np.asarray(accuracy, dtype=float)
    if not (accuracy_N.shape == (len(trained.sizes),) and np.isfinite(accuracy_N).all()):
        raise UserError(f"Every trained candidate must have a finite accuracy. Got shape {accuracy_N.shape}.")
    names = [name for name in trained.proxies if name in reference.proxies]
    if not names:
        return []
    values_NP, residual_NP, left_N = _size_removed(trained, accuracy_N, reference, names)
    counts_BN = _resampled(len(accuracy_N), resamples, rng)
    removed = {name: kendall_tau(residual_NP[:, p], left_N) for p, name in enumerate(names)}
    removed_B = {name: _taus(residual_NP[:, p], left_N, counts_BN) for p, name in enumerate(names)}
    few = min(len(accuracy_N), len(reference.sizes)) < FEW
    rows = []
    for p, name in enumerate(names):
        others = [r for r in rivals if r != name and not math.isnan(removed.get(r, math.nan))]
        best = max(others, key=removed.__getitem__) if others else None
        low, high = NOTHING if few else _percentiles(removed_B[name])
        ahead = best is not None and not few and _percentiles(removed_B[name] - removed_B[best])[1] < 0
        behind = best if ahead else None
        tau_low, tau_high = NOTHING if few else _percentiles(_taus(values_NP[:, p], accuracy_N, counts_BN))
        rows.append(
            AuditRow(
                proxy=name,
                n=len(accuracy_N),
                references=len(reference.sizes),
                tau=kendall_tau(values_NP[:, p], accuracy_N),
                tau_low=tau_low,
                tau_high=tau_high,
                tau_size_removed=removed[name],
                size_removed_low=low,
                size_removed_high=high,
                tau_within_bins=tau_within_bins(values_NP[:, p], accuracy_N, trained.sizes[:, 1]),
                behind=behind,
                verdict="undecided" if few else _verdict(low, high, ahead, only_size=not residual_NP[:, p].any()),
            )
        )
    return rows


def _size_removed(
    trained: Sample, accuracy_N: Floats, reference: Sample, names: Sequence[str]
) -> tuple[Floats, Floats, Floats]:
    """The proxies' values, what size leaves of them (both of shape (N, P)), and what it leaves of the accuracy."""
    values_NP, reference_RP = (np.column_stack([s.proxies[name] for name in names]) for s in (trained, reference))
    residual_NP = size_residuals(values_NP, trained.sizes, reference_RP, reference.sizes)
    fitted_N = _local_linear(trained.sizes, trained.sizes, accuracy_N[:, None])[:, 0]
    return values_NP, residual_NP, accuracy_N - fitted_N


def control_comparison(ranked: ArrayLike, controls: ArrayLike) -> Comparison:
    """Mean accuracy of what the order of training chose, minus that of random controls, with Welch's 95 % interval.

    The order selects on the score, which narrows its range among the ranked and with it every τ; this compares without
    that. NaN where either has no candidate; an interval of NaN where either has fewer than two.
    """
    from scipy.stats import t

    a, b = np.asarray(ranked, dtype=float), np.asarray(controls, dtype=float)
    sizes = {"ranked": len(a), "controls": len(b)}
    if not (len(a) and len(b)):
        return Comparison(difference=math.nan, low=math.nan, high=math.nan, **sizes)
    difference = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return Comparison(difference=difference, low=math.nan, high=math.nan, **sizes)
    first, second = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    if not (first + second > 0):
        return Comparison(difference=difference, low=difference, high=difference, **sizes)
    freedom = (first + second) ** 2 / (first**2 / (len(a) - 1) + second**2 / (len(b) - 1))
    half = float(t.ppf(0.975, freedom) * math.sqrt(first + second))
    return Comparison(difference=difference, low=difference - half, high=difference + half, **sizes)


def _verdict(low: float, high: float, behind: bool, *, only_size: bool) -> Verdict:
    if only_size or high < TRIVIAL_TAU:
        return "worthless"
    return "earned" if low > 0 and not behind else "undecided"


def _finite_pairs(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    x_N, y_N = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if not (x_N.ndim == 1 and x_N.shape == y_N.shape and np.isfinite(x_N).all() and np.isfinite(y_N).all()):
        raise UserError(f"τ needs finite values of one length. Got shapes {x_N.shape} and {y_N.shape}.")
    return x_N, y_N


def _signs(x_N: Floats) -> Floats:
    return np.sign(x_N[:, None] - x_N[None, :])


def _resampled(n: int, resamples: int, rng: np.random.Generator) -> Floats:
    """How often each of n candidates is in each resample, shape (B, N)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)


def _taus(x_N: Floats, y_N: Floats, counts_BN: Floats) -> Floats:
    """τ-b of every resample, shape (B,); NaN where it is constant."""
    x_NN, y_NN = _signs(x_N), _signs(y_N)
    agree, x_pairs, y_pairs = (
        np.einsum("bn,bn->b", counts_BN @ m, counts_BN) for m in (x_NN * y_NN, np.abs(x_NN), np.abs(y_NN))
    )
    scale_B = np.sqrt(x_pairs * y_pairs)
    return np.divide(agree, scale_B, out=np.full(len(counts_BN), np.nan), where=scale_B > 0)


def _percentiles(taus_B: Floats, level: float = 0.95) -> Interval:
    known = taus_B[~np.isnan(taus_B)]
    if not known.size:
        return NOTHING
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _normal_scores(values_RP: Floats) -> Floats:
    from scipy.stats import norm, rankdata

    scores: Floats = norm.ppf((rankdata(values_RP, axis=0) - 0.5) / len(values_RP))
    return scores


def _local_linear(at_NS: Floats, sizes_RS: Floats, values_RP: Floats) -> Floats:
    """The local-linear fit of values on sizes, evaluated at other sizes. Shape (N, P)."""
    spread_S = sizes_RS.std(axis=0)
    varied = spread_S > 1e-12
    if not varied.any():
        return np.repeat(values_RP.mean(axis=0, keepdims=True), len(at_NS), axis=0)
    centre_S, spread_S = sizes_RS.mean(axis=0)[varied], spread_S[varied]
    at_NS, sizes_RS = (at_NS[:, varied] - centre_S) / spread_S, (sizes_RS[:, varied] - centre_S) / spread_S
    mean_P = values_RP.mean(axis=0)
    near = min(len(sizes_RS), max(40, math.ceil(0.15 * len(sizes_RS))))
    chunks = (at_NS[start : start + 256] for start in range(0, len(at_NS), 256))
    fits = [_local_fit(chunk, sizes_RS, values_RP - mean_P, near) for chunk in chunks]
    return mean_P + np.concatenate([np.zeros((0, values_RP.shape[1])), *fits])


def _local_fit(at_NS: Floats, sizes_RS: Floats, values_RP: Floats, near: int) -> Floats:
    """Weighted least squares around every query; K nearest references, D = S + 1 unknowns."""
    distance_NR = np.linalg.norm(at_NS[:, None, :] - sizes_RS[None, :, :], axis=2)
    nearest_NK = np.argpartition(distance_NR, near - 1, axis=1)[:, :near]
    distance_NK = np.take_along_axis(distance_NR, nearest_NK, axis=1)
    reach_N1 = np.maximum(distance_NK.max(axis=1, keepdims=True) * 1.0001, 1e-9)
    weight_NK = (1 - (distance_NK / reach_N1) ** 3) ** 3
    offset_NKS = sizes_RS[nearest_NK] - at_NS[:, None, :]
    design_NKD = np.concatenate([np.ones((*offset_NKS.shape[:2], 1)), offset_NKS], axis=2)
    weighted_NDK = (design_NKD * weight_NK[:, :, None]).transpose(0, 2, 1)
    gram_NDD = weighted_NDK @ design_NKD
    ridge_NDD = 1e-9 * np.trace(gram_NDD, axis1=1, axis2=2)[:, None, None] * np.eye(design_NKD.shape[2])
    moment_NDP = weighted_NDK @ values_RP[nearest_NK]
    fitted: Floats = np.linalg.solve(gram_NDD + ridge_NDD, moment_NDP)[:, 0, :]
    return fitted
