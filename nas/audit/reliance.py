"""The share of each generation that the proxy chooses, decided by the accuracies of the candidates that it chose.

A rank correlation over all candidates says little about the few that a proxy ranks first: a proxy may know that most
networks of a space are bad, and still prefer the wrong ones among the rest. So a search compares directly. In every
generation, the proxy chooses a share of the candidates, and the strategy chooses the rest by itself, from the same
proposals. The proxy's share of the next generation is the probability, given these comparisons, that its candidates win
at least 60 % of them: they must be clearly better, because a proxy that knows nothing costs screening, and candidates.

References
----------
Thompson, On the Likelihood that One Unknown Probability Exceeds Another in View of the Evidence of Two Samples,
    Biometrika 1933 (an option is taken with the probability that it is the better one).
Mann & Whitney, Ann. Math. Stat. 1947 (the share of wins).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WINS = 0.6  # share of the comparisons that the proxy must win
FADING = 0.975  # weight of a comparison for every candidate that was trained after it
BLOCK = 8  # candidates that are compared with each other, at least: generations may be smaller


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliance:
    """The share of a generation that the study's proxy chooses, and why.

    Attributes
    ----------
    share : float
        Of the candidates without random controls, in [0, 1].
    trained : int
        Number of candidates that had been trained at the time of the decision.
    reason : str
        The comparison in numbers, or why there was none.
    ordered, own : tuple of int
        Positions in the generation of the candidates that the proxy chose, and of those that the strategy chose.
    """

    share: float
    trained: int
    reason: str
    ordered: tuple[int, ...] = ()
    own: tuple[int, ...] = ()


def decide(generations: Sequence[tuple[Sequence[float], Sequence[float]]], trained: int) -> Reliance:
    """Decide on the share of the next generation.

    Parameters
    ----------
    generations : sequence of (sequence of float, sequence of float)
        By generation, oldest first: accuracies of the candidates that the proxy chose, and of those that the strategy
        chose. Either may be empty.
    trained : int
        Number of all trained candidates.

    Returns
    -------
    Reliance
        Without positions. The share is 0.4 before the first comparison.

    Notes
    -----
    The probability of a win has a uniform prior, and the share is the posterior probability that it exceeds ``WINS``.
    Comparisons within a generation count as the smaller number of its two groups, because comparisons with the same
    candidate are not independent. Small generations, and those with one group only, are compared together with the next
    ones. With every trained candidate, older comparisons count ``FADING`` of what they counted before: so a proxy that
    failed is tried again now and then.
    """
    from scipy.stats import beta

    wins = losses = 0.0
    totals = [0, 0]
    block: tuple[list[float], list[float]] = ([], [])
    for number, groups in enumerate(generations, start=1):
        for group, values, index in zip(block, groups, (0, 1)):
            group.extend(values)
            totals[index] += len(values)
        fading = FADING ** sum(map(len, groups))
        wins, losses = fading * wins, fading * losses
        if all(block) and (sum(map(len, block)) >= BLOCK or number == len(generations)):
            ordered_N, own_M = map(np.array, block)
            share = float((0.5 + 0.5 * np.sign(ordered_N[:, None] - own_M[None, :])).mean())
            weight = min(map(len, block))
            wins, losses = wins + weight * share, losses + weight * (1 - share)
            block = ([], [])
    if wins + losses == 0:
        return Reliance(share=1 - WINS, trained=trained, reason="no comparison yet")
    return Reliance(
        share=float(beta.sf(WINS, 1 + wins, 1 + losses)),
        trained=trained,
        reason=f"its candidates won {wins / (wins + losses):.0%} of the newest comparisons with the strategy's own; "
        f"{totals[0]} and {totals[1]} candidates",
    )


def chosen_by_proxy(decisions: Mapping[int, Reliance], generation: int, position: int) -> bool:
    """Whether the proxy chose a candidate, unless it is a random control.

    Studies of earlier versions have no positions: there, the proxy chose all candidates of a generation or none, and
    all without a decision.
    """
    decision = decisions.get(generation)
    if decision is None or not (decision.ordered or decision.own):
        return decision is None or decision.share == 1
    return position in decision.ordered
