"""The score of a study over the points of a training: stored with the training, so that no reader computes it again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from results.connection import Statements
from results.front import Score
from results.measures import BUILT_IN

SPLIT_COLUMNS = {"validation": "accuracy", "test": "test_accuracy"}
"""Split of a score → measure of its values."""
_BUILT_IN = {measure.name for measure in BUILT_IN}
_TRAINING = ("candidate_id", "fidelity", "repeat")
_CHUNK = 1_000  # trainings that are updated at once


def score_of(score: Score | None, points: Iterable[Mapping[str, Any]]) -> float | None:
    """The score of a training.

    Parameters
    ----------
    score : Score or None
        Score of the study, if it is set.
    points : iterable of mapping
        Its operating points, as measure → value.

    Returns
    -------
    float or None
        None without a score or points, or if a cost or a test accuracy was not measured. A validation accuracy of NaN
        comes from a diverged training and counts as the floor.
    """
    measured = list(points)
    if score is None or not measured:
        return None
    costs = [_number(point.get(score.cost)) for point in measured]
    values = [_number(point.get(SPLIT_COLUMNS[score.split])) for point in measured]
    if any(map(math.isnan, costs)) or (score.split == "test" and any(map(math.isnan, values))):
        return None
    return score(costs, values)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def rescore(connection: Statements, study_id: int, score: Score) -> None:
    """Store the scores of all trainings of a study. Uses plain names of columns, because upgrades call it too."""
    value = SPLIT_COLUMNS[score.split]
    own = score.cost not in _BUILT_IN
    cost = "m.value" if own else f"p.{score.cost}"
    joined = " AND ".join(f"m.{name} = p.{name}" for name in (*_TRAINING, "level"))
    query = sa.text(
        f"SELECT p.candidate_id, p.fidelity, p.repeat, {cost} AS cost, p.{value} AS value FROM points p "
        + (f"LEFT JOIN point_measures m ON {joined} AND m.name = :cost " if own else "")
        + "WHERE p.candidate_id IN (SELECT id FROM candidates WHERE study_id = :study) "
        "ORDER BY p.candidate_id, p.fidelity, p.repeat, p.level"
    )
    update = sa.text(
        "UPDATE evaluations SET score = :score "
        "WHERE candidate_id = :candidate_id AND fidelity = :fidelity AND repeat = :repeat"
    )
    parameters: dict[str, Any] = {"study": study_id} | ({"cost": score.cost} if own else {})
    rows = connection.execute(query, parameters).fetchall()
    trainings = itertools.groupby(rows, key=lambda row: row[:3])
    while chunk := list(itertools.islice(((place, list(points)) for place, points in trainings), _CHUNK)):
        connection.execute(
            update,
            [
                dict(zip(_TRAINING, place))
                | {"score": score_of(score, ({score.cost: point.cost, value: point.value} for point in points))}
                for place, points in chunk
            ],
        )
