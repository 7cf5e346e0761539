"""Ranked candidates against random controls: the difference of their means, and the trainings that ranking saved.

A candidate that is as good as the best of ρ random ones beats one more random candidate with probability ρ / (ρ + 1).
So ρ follows from the share of pairs in which a ranked candidate beats a random control, whatever the scale and the
distribution of accuracies. The best of m ranked candidates is expected to be as good as the best of ρ·m random ones:
(ρ − 1)·m trainings were saved.

The direct way, drawing from the controls until their best is as good as the best ranked candidate, gives no result with
one control in ten: most of the time the best of all is no control, even if the order is worthless.

References
----------
Lehmann, The Power of Rank Tests, Ann. Math. Stat. 1953 (the alternative F^ρ).
Mann & Whitney, Ann. Math. Stat. 1947 (the share of wins).
Hanley & McNeil, The Meaning and Use of the Area under a ROC Curve, Radiology 1982 (its variance).
Welch, The Generalization of Student's Problem when Several Different Population Variances Are Involved, Biometrika
    1947 (the interval of the difference of means).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.errors import UserError

FEWEST = 5  # with fewer controls, or ranked candidates, savings are unknown

_WORTHS = np.geomspace(1e-3, 1e3, 6001)  # the values of ρ that the interval is searched in: steps of 0.2 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Difference between the mean accuracies of ranked candidates and random controls, with its 95 % interval.

    Attributes
    ----------
    difference, low, high : float
        NaN if unknown.
    ranked, controls : int
        Number of candidates.
    """

    difference: float
    low: float
    high: float
    ranked: int
    controls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """The number of trainings that ranking saved, with a 95 % interval.

    Attributes
    ----------
    chosen, controls : int
        Number of ranked candidates, and of random controls.
    worth : float
        Number of random candidates that one ranked candidate is worth; 1 if ranking is no better than chance.
    saved, low, high : float
        ``(worth − 1) · chosen``, the number of candidates that need not be trained for an equally good best candidate,
        and its interval; negative if ranking did harm. NaN if there are too few candidates; infinite, with a finite
        ``low``, if every ranked candidate beats every control.
    """

    chosen: int
    controls: int
    worth: float
    saved: float
    low: float
    high: float


def control_comparison(ranked: ArrayLike, controls: ArrayLike) -> Comparison:
    """Compare the mean accuracies of ranked candidates and random controls.

    Parameters
    ----------
    ranked, controls : array_like, shape (M,) and (C,)
        Accuracies at equal fidelity.

    Returns
    -------
    Comparison
        With Welch's 95 % interval. The difference is NaN if either sample is empty, the interval if either has fewer
        than two candidates.

    Notes
    -----
    Ranking selects candidates by their score. This reduces the range of scores among the ranked candidates, and with it
    every τ; the comparison of means does not have this problem.
    """
    from scipy.stats import ttest_ind

    ranked_M, controls_C = np.asarray(ranked, dtype=float), np.asarray(controls, dtype=float)
    m, c = len(ranked_M), len(controls_C)
    difference, low, high = math.nan, math.nan, math.nan
    if min(m, c) >= 1:
        difference = float(ranked_M.mean() - controls_C.mean())
    if min(m, c) >= 2:
        low = high = difference
        if np.ptp(ranked_M) > 0 or np.ptp(controls_C) > 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # scipy warns if one of the samples is constant
                interval = ttest_ind(ranked_M, controls_C, equal_var=False).confidence_interval(0.95)
            low, high = float(interval.low), float(interval.high)
    return Comparison(difference=difference, low=low, high=high, ranked=m, controls=c)


def candidates_saved(chosen: ArrayLike, controls: ArrayLike) -> Savings:
    """Estimate the number of trainings that ranking saved.

    Parameters
    ----------
    chosen, controls : array_like, shape (M,) and (C,)
        Finite accuracies of ranked candidates and of random controls at equal fidelity.

    Returns
    -------
    Savings
        NaN with fewer than ``FEWEST`` candidates in either sample.

    Raises
    ------
    UserError
        If an accuracy is not finite.

    Notes
    -----
    The interval contains every ρ whose expected share of wins is within 1.96 standard deviations (known in closed form
    for F^ρ) of the observed share. It is a statement on ranks, and assumes that ranked candidates are better at the top
    as well as in the middle. If they are only less spread, their best is worth less than estimated.
    """
    chosen_M, controls_C = np.asarray(chosen, dtype=float), np.asarray(controls, dtype=float)
    if not (chosen_M.ndim == controls_C.ndim == 1 and np.isfinite(chosen_M).all() and np.isfinite(controls_C).all()):
        raise UserError(f"Accuracies must be finite. Got shapes {chosen_M.shape} and {controls_C.shape}.")
    m, c = len(chosen_M), len(controls_C)
    if min(m, c) < FEWEST:
        return Savings(chosen=m, controls=c, worth=math.nan, saved=math.nan, low=math.nan, high=math.nan)
    wins = float((0.5 + 0.5 * np.sign(chosen_M[:, None] - controls_C[None, :])).mean())
    worth = wins / (1 - wins) if wins < 1 else math.inf
    low, high = _worth_interval(wins, m, c)
    return Savings(chosen=m, controls=c, worth=worth, saved=(worth - 1) * m, low=(low - 1) * m, high=(high - 1) * m)


def _worth_interval(wins: float, m: int, c: int) -> tuple[float, float]:
    """The smallest and the largest worth that agree with a share of wins; 0 or infinity beyond the searched range."""
    expected, deviation = _WORTHS / (_WORTHS + 1), _deviation(_WORTHS, m, c)
    agree = _WORTHS[np.abs(wins - expected) <= 1.96 * deviation]
    low, high = float(agree[0]), float(agree[-1])
    return (0.0 if low == _WORTHS[0] else low), (math.inf if high == _WORTHS[-1] else high)


def _deviation(worth: NDArray[np.float64], m: int, c: int) -> NDArray[np.float64]:
    """Standard deviation of the share of wins of m ranked over c random candidates."""
    win = worth / (worth + 1)
    two_win = 1 - 2 / (worth + 1) + 1 / (2 * worth + 1)  # two ranked candidates beat the same control
    beats_two = worth / (worth + 2)
    variance = win * (1 - win) + (m - 1) * (two_win - win**2) + (c - 1) * (beats_two - win**2)
    return np.sqrt(variance / (m * c))
