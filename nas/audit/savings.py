"""How many random candidates the chosen ones were worth: what their order of training has saved.

A candidate that is as good as the best of ρ random ones beats one more random one with probability ρ / (ρ + 1). Read
backwards, this tells ρ from how often a chosen candidate beats a random control, whatever the scale and the shape of
accuracies. The best of m chosen ones is then what the best of ρ·m random ones is expected to be: (ρ − 1)·m were saved.

The direct way, drawing from the controls until their best is as good as the best chosen one, says nothing with one
control in ten: most of the time the best of all is no control even where the order is worth nothing.
numpy only.

References
----------
Lehmann, The Power of Rank Tests, Ann. Math. Stat. 1953 (the alternative F^ρ). Mann & Whitney, Ann. Math. Stat. 1947.
Hanley & McNeil, The Meaning and Use of the Area under a ROC Curve, Radiology 1982 (variance of the share of wins).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.errors import UserError

FEWEST = 5  # controls, and chosen ones, below which nothing can be told

_WORTHS = np.geomspace(1e-3, 1e3, 6001)  # what is considered: steps of 0.2 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """What chosen candidates were worth, with a 95 % interval.

    worth: random candidates that a chosen one was worth; 1 where choosing was no better than chance. saved: candidates
    that need not be trained for as good a best one, ``(worth − 1) · chosen``; negative where choosing did harm.
    NaN where there are too few to tell; infinite, with a finite ``low``, where every chosen one beat every control.
    """

    chosen: int
    controls: int
    worth: float
    saved: float
    low: float
    high: float


def candidates_saved(chosen: ArrayLike, controls: ArrayLike) -> Savings:
    """What the chosen candidates were worth, from their accuracies and those of random controls at equal fidelity.

    chosen: shape (M,); controls: shape (C,); finite, the larger the better. Raises UserError otherwise.

    Notes
    -----
    The interval holds every ρ whose expected share of wins is within 1.96 of its standard deviations (known in closed
    form for F^ρ) of the one seen. It is a statement on ranks: it presumes that chosen ones are better alike at the top
    and in the middle. Where they are only less spread, their best is worth less than told here.
    """
    chosen_M, controls_C = np.asarray(chosen, dtype=float), np.asarray(controls, dtype=float)
    if not (chosen_M.ndim == controls_C.ndim == 1 and np.isfinite(chosen_M).all() and np.isfinite(controls_C).all()):
        raise UserError(f"Accuracies must be finite. Got shapes {chosen_M.shape} and {controls_C.shape}.")
    m, c = len(chosen_M), len(controls_C)
    if min(m, c) < FEWEST:
        return Savings(chosen=m, controls=c, worth=math.nan, saved=math.nan, low=math.nan, high=math.nan)
    wins = float((0.5 + 0.5 * np.sign(chosen_M[:, None] - controls_C[None, :])).mean())
    worth = wins / (1 - wins) if wins < 1 else math.inf
    low, high = _interval(wins, m, c)
    return Savings(chosen=m, controls=c, worth=worth, saved=(worth - 1) * m, low=(low - 1) * m, high=(high - 1) * m)


def _interval(wins: float, m: int, c: int) -> tuple[float, float]:
    """The least and the largest worth that agree with a share of wins; 0 and infinity beyond what is considered."""
    expected, deviation = _WORTHS / (_WORTHS + 1), _deviation(_WORTHS, m, c)
    agree = _WORTHS[np.abs(wins - expected) <= 1.96 * deviation]
    low, high = float(agree[0]), float(agree[-1])
    return (0.0 if low == _WORTHS[0] else low), (math.inf if high == _WORTHS[-1] else high)


def _deviation(worth: NDArray[np.float64], m: int, c: int) -> NDArray[np.float64]:
    """Standard deviation of the share of wins of m chosen over c random candidates."""
    win = worth / (worth + 1)
    two_win = 1 - 2 / (worth + 1) + 1 / (2 * worth + 1)  # two chosen ones beat the same control
    beats_two = worth / (worth + 2)
    variance = win * (1 - win) + (m - 1) * (two_win - win**2) + (c - 1) * (beats_two - win**2)
    return np.sqrt(variance / (m * c))
