"""The best candidate of a study, and its comparison with the best reference architecture of the study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from results.front import Score
from results.reading import frames
from results.reading.candidates import scored
from results.schema import candidates, evaluations, points, studies

CONFIDENCE = 0.95
"""Of the interval of a difference over repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestCandidate:
    """The best candidate of a study, each judged at the largest fidelity that it reached itself.

    Candidates with a saved network come before others, then the larger anytime accuracy counts, then the larger
    fidelity; the first proposed of equals.

    Parameters
    ----------
    key, space : str
        Of the candidate.
    reference : str or None
        Name of the reference architecture that it is; None for other candidates.
    fidelity : float
        The largest that it reached, in passes over all training images.
    anytime_accuracy : float
        Mean over repeats at that fidelity.
    saved : bool
        Whether a trained network of it is kept.
    """

    key: str
    space: str
    reference: str | None
    fidelity: float
    anytime_accuracy: float
    saved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstReference:
    """The best candidate of a study against the best reference architecture, after trainings of equal length.

    Parameters
    ----------
    best : BestCandidate
        The best candidate.
    reference : BestCandidate
        The best candidate among the references, saved or not; ``best`` itself if that is a reference.
    fidelity : float
        The largest that both have reached, in passes over all training images.
    repeats : int
        Number of repeats that both have at this fidelity. All following values are of these.
    difference : float
        Anytime accuracy of the best candidate minus that of the reference, mean over repeats.
    low, high : float
        95 % confidence interval of the difference: t distribution, paired by repeat; NaN for one repeat.
    test_difference : float
        The same difference on test images, of the points that validation images chose; NaN if not measured.
    macs_ratio : float
        MACs of the reference divided by those of the best candidate at equal accuracy: each at its cheapest point that
        has at least the accuracy of the largest point of the reference. NaN if the best candidate has no such point.
    """

    best: BestCandidate
    reference: BestCandidate
    fidelity: float
    repeats: int
    difference: float
    low: float
    high: float
    test_difference: float
    macs_ratio: float

    @property
    def is_reference(self) -> bool:
        """Whether the best candidate is the reference."""
        return self.best.key == self.reference.key


def best_candidate(connection: sa.Connection, number: int) -> BestCandidate | None:
    """The best candidate of a study, by its number; None if no candidate has an anytime accuracy."""
    row = _best(connection, number)
    return None if row is None else _described(row)


def against_reference(connection: sa.Connection, number: int) -> AgainstReference | None:
    """The comparison of the best candidate with the best reference of a study, by its number; see `AgainstReference`.

    None without a trained reference, or if no training of it is as long as one of the best candidate.
    """
    best = _best(connection, number)
    reference = best if best is not None and best.reference else _best(connection, number, of_references=True)
    if best is None or reference is None:
        return None
    own, rival = (_scores(connection, each.id) for each in (best, reference))
    together = own.keys() & rival.keys()
    if not together:
        return None
    fidelity = max(fidelity for fidelity, _ in together)
    repeats = sorted(repeat for reached, repeat in together if reached == fidelity)
    differences = np.array([own[fidelity, repeat] - rival[fidelity, repeat] for repeat in repeats])
    low, high = _interval(differences)
    score = Score(**connection.execute(sa.select(studies.c.score).where(studies.c.id == number)).scalar_one())
    curves = [_points(connection, each.id, fidelity, repeats) for each in (best, reference)]
    tested = [_test_score(score, curve) for curve in curves]
    return AgainstReference(
        best=_described(best),
        reference=_described(reference),
        fidelity=fidelity,
        repeats=len(repeats),
        difference=float(differences.mean()),
        low=low,
        high=high,
        test_difference=tested[0] - tested[1],
        macs_ratio=macs_ratio(*map(_mean_curve, curves)),
    )


def macs_ratio(best: Sequence[tuple[float, float]], reference: Sequence[tuple[float, float]]) -> float:
    """MACs of a reference divided by those of another network at equal accuracy.

    Parameters
    ----------
    best, reference : sequence of (float, float)
        MACs and accuracy of operating points, in the order of MACs.

    Returns
    -------
    float
        Each network counts with its cheapest point that has at least the accuracy of the largest point of the
        reference; NaN if there is none.

    Examples
    --------
    >>> macs_ratio([(1e6, 0.8), (2e6, 0.9)], [(2e6, 0.7), (6e6, 0.85)])
    3.0
    >>> macs_ratio([(1e6, 0.8)], [(2e6, 0.7), (6e6, 0.85)])
    nan
    """
    target = reference[-1][1]

    def least(curve: Sequence[tuple[float, float]]) -> float:
        return min((macs for macs, accuracy in curve if accuracy >= target), default=math.nan)

    return least(reference) / least(best)


def _best(connection: sa.Connection, number: int, *, of_references: bool = False) -> sa.Row[Any] | None:
    """The fields of `BestCandidate` and the id. of_references: among references, saved or not."""
    ids, row = frames.ids_of([number]), candidates.c
    if of_references:
        ids = ids.where(row.reference.is_not(None))
    results = scored(ids)
    saved = sa.exists().where(evaluations.c.candidate_id == row.id, evaluations.c.weights.is_not(None)).label("saved")
    columns = (row.id, row.key, row.space, row.reference, results.c.fidelity, results.c.anytime_accuracy, saved)
    order = (results.c.anytime_accuracy.desc(), results.c.fidelity.desc(), row.id)
    query = sa.select(*columns).join_from(results, candidates, row.id == results.c.candidate_id)
    return connection.execute(query.order_by(*(() if of_references else (saved.desc(),)), *order).limit(1)).first()


def _described(row: sa.Row[Any]) -> BestCandidate:
    return BestCandidate(**{name: value for name, value in row._mapping.items() if name != "id"})


def _scores(connection: sa.Connection, candidate: int) -> dict[tuple[float, int], float]:
    """Scores of a candidate by fidelity and repeat."""
    row = evaluations.c
    query = sa.select(row.fidelity, row.repeat, row.score)
    found = connection.execute(query.where(row.candidate_id == candidate, row.score.is_not(None)))
    return {(each.fidelity, each.repeat): each.score for each in found}


def _interval(differences: np.ndarray) -> tuple[float, float]:
    """The confidence interval of a mean; NaN for one value."""
    from scipy.stats import t

    count = len(differences)
    if count < 2:
        return math.nan, math.nan
    margin = t.ppf((1 + CONFIDENCE) / 2, count - 1) * differences.std(ddof=1) / math.sqrt(count)
    return float(differences.mean() - margin), float(differences.mean() + margin)


def _points(connection: sa.Connection, candidate: int, fidelity: float, repeats: Iterable[int]) -> list[sa.Row[Any]]:
    """Points of a candidate at a fidelity, in the order of repeats and levels."""
    row = points.c
    query = sa.select(row.repeat, row.level, row.macs, row.accuracy, row.test_accuracy)
    chosen = query.where(row.candidate_id == candidate, row.fidelity == fidelity, row.repeat.in_(list(repeats)))
    return list(connection.execute(chosen.order_by(row.repeat, row.level)))


def _mean_curve(rows: Iterable[sa.Row[Any]]) -> list[tuple[float, float]]:
    """MACs and accuracy of each level, as means over repeats."""
    levels: dict[int, list[tuple[float, float]]] = {}
    for row in rows:
        levels.setdefault(row.level, []).append((row.macs, row.accuracy))
    means = (np.mean(values, axis=0) for values in levels.values())
    return sorted((float(macs), float(accuracy)) for macs, accuracy in means)


def _test_score(score: Score, rows: Sequence[sa.Row[Any]]) -> float:
    """The score on test images, mean over repeats; NaN if a test accuracy is missing or the cost is not MACs."""
    if score.cost != "macs" or any(row.test_accuracy is None for row in rows):
        return math.nan
    repeats: dict[int, list[sa.Row[Any]]] = {}
    for row in rows:
        repeats.setdefault(row.repeat, []).append(row)
    columns = (zip(*((row.macs, row.test_accuracy, row.accuracy) for row in each)) for each in repeats.values())
    return float(np.mean([score(macs, tested, chosen_by=chosen) for macs, tested, chosen in columns]))
