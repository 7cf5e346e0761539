"""Rank correlation with bootstrap intervals, and removal of the part of a score that size explains.

Pure functions of arrays. scipy is imported when it is needed. Suffixes: N candidates, R reference architectures,
S sizes, P proxies, B resamples.

References
----------
Kendall, The Treatment of Ties in Ranking Problems, Biometrika 1945 (τ-b).
Cleveland & Devlin, Locally Weighted Regression, JASA 1988.
Efron & Tibshirani, An Introduction to the Bootstrap, 1993.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.errors import UserError

Floats = NDArray[np.float64]
Interval = tuple[float, float]

UNDEFINED: Interval = (math.nan, math.nan)
FEWEST_PAIRS = 5  # below this number, an interval of τ is undefined
ONLY_SIZE = 0.005  # a proxy is nothing but size if size leaves a smaller share of its variance


def kendall_tau(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's τ-b.

    Parameters
    ----------
    x, y : array_like, shape (N,)
        Finite values.

    Returns
    -------
    float
        NaN if x or y is constant, or if N < 2.

    Raises
    ------
    UserError
        If a value is not finite, or if the shapes differ.

    Examples
    --------
    >>> kendall_tau([1, 2, 3, 4], [4, 3, 2, 1])
    -1.0
    """
    from scipy.stats import kendalltau

    x_N, y_N = _finite_pairs(x, y)
    if len(x_N) < 2 or np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        return math.nan
    return float(kendalltau(x_N, y_N).statistic)


def tau_within_bins(x: ArrayLike, y: ArrayLike, macs: ArrayLike, *, bins: int = 5) -> float:
    """τ-b over the pairs of candidates with similar MACs.

    Parameters
    ----------
    x, y, macs : array_like, shape (N,)
        Values to correlate, and the MACs of the candidates.
    bins : int
        Number of bins of MACs with equal numbers of candidates. Only pairs within one bin count.

    Returns
    -------
    float
        NaN if there is no such pair, or if x or y is constant within all bins.
    """
    x_N, y_N, macs_N = (np.asarray(v, dtype=float) for v in (x, y, macs))
    if len(x_N) < 2:
        return math.nan
    edges = np.quantile(macs_N, np.linspace(0, 1, bins + 1)[1:-1])
    bin_N = np.searchsorted(edges, macs_N, side="right")
    same_NN = bin_N[:, None] == bin_N[None, :]
    x_NN, y_NN = _signs(x_N) * same_NN, _signs(y_N) * same_NN
    scale = math.sqrt(float(np.abs(x_NN).sum()) * float(np.abs(y_NN).sum()))
    return float((x_NN * y_NN).sum()) / scale if scale else math.nan


def resample_counts(n: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Number of times that each of n candidates is in each resample, shape (B, N)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)


def resampled_taus(x_N: Floats, y_N: Floats, counts_BN: Floats) -> Floats:
    """τ-b of every resample, shape (B,); NaN if a resample is constant.

    Notes
    -----
    A resample is a vector of counts c. Its concordant minus discordant pairs are cᵀ S c, with S the product of the
    signs of all differences, shape (N, N). Its pairs without ties in x are N² − Σc² if all x differ, and cᵀ |S| c with
    the signs of x otherwise. All numbers are whole, so single precision is exact up to N² = 2²⁴. 1,000 resamples of 300
    pairs take about 5 ms.
    """
    precision = np.float32 if len(x_N) ** 2 < 2**24 else np.float64
    c_BN = counts_BN.astype(precision)
    agree_B = _quadratic(_signs(x_N).astype(precision) * _signs(y_N).astype(precision), c_BN)
    scale_B = np.sqrt(_untied_pairs(x_N, c_BN) * _untied_pairs(y_N, c_BN))
    return np.divide(agree_B, scale_B, out=np.full(len(counts_BN), np.nan), where=scale_B > 0)


def _untied_pairs(x_N: Floats, counts_BN: NDArray[Any]) -> Floats:
    """Number of ordered pairs with different values in every resample, shape (B,)."""
    if len(np.unique(x_N)) == len(x_N):
        pairs_B: Floats = counts_BN.sum(axis=1, dtype=float) ** 2 - (counts_BN.astype(float) ** 2).sum(axis=1)
        return pairs_B
    return _quadratic(np.abs(_signs(x_N)).astype(counts_BN.dtype), counts_BN)


def _quadratic(matrix_NN: NDArray[Any], counts_BN: NDArray[Any]) -> Floats:
    """The quadratic form of each resample, shape (B,)."""
    product_BN = counts_BN @ matrix_NN
    form_B: Floats = np.einsum("bn,bn->b", product_BN, counts_BN).astype(float)
    return form_B


def percentile_interval(values_B: Floats, level: float = 0.95) -> Interval:
    """The central interval of the values that are not NaN; NaN if all are."""
    defined = values_B[~np.isnan(values_B)]
    if not defined.size:
        return UNDEFINED
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def size_residuals(
    values: ArrayLike, sizes: ArrayLike, reference_values: ArrayLike, reference_sizes: ArrayLike
) -> Floats:
    """Residuals of values after a local-linear fit on sizes, fitted on a reference sample.

    Parameters
    ----------
    values : array_like, shape (N,) or (N, P)
        Scores of candidates by one proxy, or by P proxies.
    sizes : array_like, shape (N, S)
        Sizes of the candidates.
    reference_values : array_like, shape (R,) or (R, P)
        Scores of the reference architectures.
    reference_sizes : array_like, shape (R, S)
        Sizes of the reference architectures.

    Returns
    -------
    ndarray
        With the shape of ``values``. Exactly 0 for a proxy that is nothing but size: the fit leaves less than
        ``ONLY_SIZE`` of its variance over the reference, either of the scores or of the normal scores of their ranks
        (so that any monotone function of a size counts as size).

    Notes
    -----
    Tricube weights over the nearest 15 % of the reference (at least 40), with sizes scaled by their standard deviation.
    One weighted least-squares problem of S + 1 unknowns per architecture, for all proxies: O((N + R) R (S + P)).
    """
    values_NP = np.asarray(values, dtype=float).reshape(len(np.asarray(sizes)), -1)
    sizes_NS, sizes_RS = np.asarray(sizes, dtype=float), np.asarray(reference_sizes, dtype=float)
    values_RP = np.asarray(reference_values, dtype=float).reshape(len(sizes_RS), -1)
    residual_NP = values_NP - local_linear(sizes_NS, sizes_RS, values_RP)
    scales_RQ = np.concatenate([values_RP, _normal_scores(values_RP)], axis=1)
    left_RQ = scales_RQ - local_linear(sizes_RS, sizes_RS, scales_RQ)
    more_2P = (left_RQ.var(axis=0) > ONLY_SIZE * scales_RQ.var(axis=0)).reshape(2, -1)
    return (residual_NP * more_2P.all(axis=0)).reshape(np.shape(values))


def local_linear(at_NS: Floats, sizes_RS: Floats, values_RP: Floats) -> Floats:
    """The local-linear fit of reference values on reference sizes, evaluated at other sizes: shape (N, P)."""
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
    """Weighted least squares around every query: K nearest references, D = S + 1 unknowns."""
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


def _finite_pairs(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    x_N, y_N = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x_N.ndim != 1 or x_N.shape != y_N.shape or not (np.isfinite(x_N).all() and np.isfinite(y_N).all()):
        raise UserError(f"τ needs finite values in two arrays of one length. Got shapes {x_N.shape} and {y_N.shape}.")
    return x_N, y_N


def _signs(x_N: Floats) -> Floats:
    """Signs of the differences of all pairs, shape (N, N)."""
    return np.sign(x_N[:, None] - x_N[None, :])


def _normal_scores(values_RP: Floats) -> Floats:
    from scipy.stats import norm, rankdata

    scores: Floats = norm.ppf((rankdata(values_RP, axis=0) - 0.5) / len(values_RP))
    return scores
