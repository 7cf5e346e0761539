"""Tables of a store as DataFrames, and the one step from trained points to a Pareto front."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from results import front as fronts
from results.columns import POLICY, dtypes, names
from results.errors import StoreError
from results.measures import BUILT_IN, WHOLE_UNITS, Measure
from results.schema import candidates, evaluations, point_measures, points, policies, studies

_MEASURES = [measure.name for measure in BUILT_IN]
_SPLIT_COLUMNS = {"validation": "accuracy", "test": "test_accuracy"}
_POINT = ["candidate_id", "fidelity", "repeat", "level"]
"""Columns that identify an operating point."""


def _read(connection: sa.Connection, query: sa.Select[Any], frame: str) -> pd.DataFrame:
    """Rows of a query, typed as a frame of FRAMES: without rows too, and NULL is read as NaN."""
    result = connection.execute(query)
    return _typed(pd.DataFrame(result.fetchall(), columns=list(result.keys())), frame)


def _typed(rows: pd.DataFrame, frame: str) -> pd.DataFrame:
    """The numbers of rows with the types of a frame of FRAMES."""
    types = {"candidate_id": "int64"} | dtypes(frame)
    return rows.astype({name: kind for name, kind in types.items() if name in rows})


def of_studies(connection: sa.Connection) -> pd.DataFrame:
    """One row per study: study, state, reason, candidates, trained, score (its name), created_at, updated_at (UTC)."""
    columns = studies.c
    frame = _read(
        connection,
        sa.select(
            columns.id,
            columns.name.label("study"),
            columns.state,
            columns.reason,
            columns.score,
            columns.created_at,
            columns.updated_at,
        ).order_by(columns.id),
        "studies",
    ).set_index("id")
    is_trained = candidates.c.id.in_(sa.select(evaluations.c.candidate_id))
    proposed, trained = _counts(connection, sa.true()), _counts(connection, is_trained)
    frame.insert(3, "candidates", [proposed.get(number, 0) for number in frame.index])
    frame.insert(4, "trained", [trained.get(number, 0) for number in frame.index])
    frame["score"] = [fronts.Score(**score).name if score else None for score in frame["score"]]
    for name in ("created_at", "updated_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    return frame.reset_index(drop=True)


def _counts(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> dict[int, int]:
    """Number of candidates that meet the condition, by number of the study."""
    study = candidates.c.study_id
    query = sa.select(study, sa.func.count()).where(condition).group_by(study)
    return {number: count for number, count in connection.execute(query)}  # noqa: C416 - dict() would not type-check


def of_evaluations(connection: sa.Connection, numbers: Iterable[int]) -> pd.DataFrame:
    """One row per candidate, fidelity and repeat; epochs, images and seconds are cumulative within a repeat."""
    row = evaluations.c
    query = (
        sa.select(
            studies.c.name.label("study"),
            candidates.c.key.label("candidate"),
            row.realised_key,
            candidates.c.space,
            row.fidelity,
            row.repeat,
            row.epochs,
            row.images,
            row.seconds,
            row.weights,
        )
        .join_from(evaluations, candidates)
        .join(studies)
        .where(studies.c.id.in_(numbers))
        .order_by(row.candidate_id, row.fidelity, row.repeat)
    )
    return _read(connection, query, "evaluations")


def of_points(connection: sa.Connection, numbers: list[int]) -> pd.DataFrame:
    """One row per candidate, fidelity, repeat and operating point, with a last column `candidate_id`."""
    row = points.c
    same = sa.and_(*(evaluations.c[name] == row[name] for name in ("candidate_id", "fidelity", "repeat")))
    query = (
        sa.select(
            studies.c.name.label("study"),
            candidates.c.key.label("candidate"),
            evaluations.c.realised_key,
            candidates.c.space,
            row.level,
            *(row[name] for name in _MEASURES),
            row.fidelity,
            row.repeat,
            row.candidate_id,
        )
        .join_from(points, candidates, candidates.c.id == row.candidate_id)
        .join(studies)
        .join(evaluations, same)
        .where(studies.c.id.in_(numbers))
        .order_by(row.candidate_id, row.fidelity, row.repeat, row.level)
    )
    frame = _read(connection, query, "points")
    own = [measure.name for measure in own_measures_of(connection, numbers)]
    return _with_own(frame, connection, numbers, own) if own else frame


def _with_own(frame: pd.DataFrame, connection: sa.Connection, numbers: list[int], own: list[str]) -> pd.DataFrame:
    """Points with the evaluator's own measures, after the built-in ones; NaN if not measured."""
    row = point_measures.c
    query = (
        sa.select(*(row[name] for name in _POINT), row.name, row.value)
        .join_from(point_measures, candidates)
        .where(candidates.c.study_id.in_(numbers))
    )
    values = _read(connection, query, "points").pivot(index=_POINT, columns="name", values="value").reindex(columns=own)
    joined = frame.join(values.astype("float64"), on=_POINT)
    before = list(frame.columns)
    end = before.index(_MEASURES[-1]) + 1
    return joined[[*before[:end], *own, *before[end:]]]


def own_measures_of(
    connection: sa.Connection, numbers: Iterable[int], compared: Collection[str] = ()
) -> tuple[Measure, ...]:
    """The measures that the evaluators of studies declared beside the built-in ones.

    compared: names of measures whose values are compared between the studies.
    Raises StoreError if such a measure has another unit or direction in another study.
    """
    query = sa.select(studies.c.name, studies.c.measures).where(studies.c.id.in_(numbers)).order_by(studies.c.id)
    own: dict[str, Measure] = {}
    origin: dict[str, str] = {}
    for study, declared in connection.execute(query):
        for measure in (Measure(**data) for data in declared or ()):
            first = own.setdefault(measure.name, measure)
            there = origin.setdefault(measure.name, study)
            if measure.name in compared and (first.unit, first.maximise) != (measure.unit, measure.maximise):
                raise StoreError(
                    f"A measure must have one unit and direction in all studies of a front. {measure.name} has "
                    f"unit={first.unit!r} and maximise={first.maximise} in {there}, unit={measure.unit!r} and "
                    f"maximise={measure.maximise} in {study}: show their fronts separately."
                )
    return tuple(own.values())


def of_policies(connection: sa.Connection, numbers: Iterable[int]) -> pd.DataFrame:
    """One row per controller; see `Store.policies`."""
    row = policies.c
    query = (
        sa.select(
            studies.c.name.label("study"),
            candidates.c.key.label("candidate"),
            candidates.c.space,
            *(row[name] for name in POLICY),
        )
        .join_from(policies, candidates)
        .join(studies)
        .where(studies.c.id.in_(numbers))
        .order_by(row.candidate_id, row.learner, row.sees, row.penalty, row.utilization)
    )
    return _read(connection, query, "policies")


def of_candidates(connection: sa.Connection, number: int, score: fronts.Score | None) -> pd.DataFrame:
    """One row per candidate, in the order of proposal; see `Store.candidates`."""
    row = candidates.c
    query = (
        sa.select(
            row.id,
            row.key,
            row.space,
            row.status,
            row.reason,
            row.generation,
            row.position,
            row.control,
            row.attempts,
            row.proxies,
            row.choices,
        )
        .where(row.study_id == number)
        .order_by(row.id)
    )
    frame = _read(connection, query, "candidates").set_index("id")
    proxies = frame.pop("proxies")
    choices = frame.pop("choices")
    for name in dict.fromkeys(name for values in proxies if values for name in values):
        frame[f"proxy_{name}"] = np.array([(values or {}).get(name) for values in proxies], dtype=float)
    trained = _trained(of_points(connection, [number]), score)
    frame = frame.join(trained)
    frame["seconds"] = _seconds(connection, number).reindex(frame.index)
    frame["choices"] = choices
    return _typed(frame, "candidates").reset_index(drop=True)


def _seconds(connection: sa.Connection, number: int) -> pd.Series:
    """Seconds of training per candidate id: cumulative within a repeat, summed over repeats."""
    row = evaluations.c
    query = (
        sa.select(row.candidate_id, row.repeat, sa.func.max(row.seconds).label("seconds"))
        .join_from(evaluations, candidates)
        .where(candidates.c.study_id == number)
        .group_by(row.candidate_id, row.repeat)
    )
    return _read(connection, query, "evaluations").groupby("candidate_id")["seconds"].sum()


def _trained(frame: pd.DataFrame, score: fronts.Score | None) -> pd.DataFrame:
    """Fidelity, anytime accuracy and costs of each candidate at the largest fidelity it reached, by candidate id."""
    frame = frame[frame["fidelity"] == frame.groupby("candidate_id")["fidelity"].transform("max")]
    groups = frame.groupby("candidate_id")
    per_repeat = {key: _scored(repeat, score) for key, repeat in frame.groupby(["candidate_id", "repeat"])}
    scores = pd.Series(per_repeat, dtype=float)
    return pd.DataFrame(
        {
            "fidelity": groups["fidelity"].first(),
            "anytime_accuracy": scores.groupby(level=0).mean(),
            "macs_min": groups["macs"].min(),
            "macs_max": groups["macs"].max(),
            "params_max": groups["params"].max(),
        }
    )


def _scored(frame: pd.DataFrame, score: fronts.Score | None) -> float:
    """The score of one repeat's points; NaN if a cost or a test accuracy was not measured."""
    if score is None:
        return math.nan
    values = frame[_SPLIT_COLUMNS[score.split]]
    if score.cost not in frame or frame[score.cost].isna().any() or (score.split == "test" and values.isna().any()):
        return math.nan
    return score(frame[score.cost], values)  # a NaN in validation comes from a diverged training and counts as floor


def _mean_over_repeats(frame: pd.DataFrame, measures: list[str]) -> pd.DataFrame:
    """One row per network and level, with the standard deviation of accuracy over repeats and their number.

    Repeats with different architectures after training are different networks: their mean is no operating point.
    """
    groups = frame.groupby(["candidate_id", "realised_key", "level"], sort=False)
    mean = groups[measures].mean()
    for measure in BUILT_IN:
        if measure.unit in WHOLE_UNITS:
            mean[measure.name] = mean[measure.name].round().astype(dtypes("points")[measure.name])
    mean["accuracy_sd"] = groups["accuracy"].std()
    mean["repeats"] = groups.size()
    labels = groups[["study", "candidate", "space", "fidelity"]].first()
    return labels.join(mean).reset_index()


def front_of(
    frame: pd.DataFrame,
    *,
    cost: str,
    limits: Mapping[str, float],
    fidelity: float | None,
    measures: Sequence[Measure],
) -> pd.DataFrame:
    """The non-dominated rows of `of_points`, after the mean over repeats; see `Store.front`."""
    at = frame.groupby("study")["fidelity"].transform("max") if fidelity is None else fidelity
    chosen = frame[frame["fidelity"] == at]
    if chosen.empty and not frame.empty:
        there = ", ".join(f"{value:g}" for value in sorted(frame["fidelity"].unique()))
        raise StoreError(f"A front needs points at its fidelity. Got {fidelity=}; there are points at {there}.")
    _check_comparable(chosen, (cost, *limits), measures)
    mean = _mean_over_repeats(chosen, [measure.name for measure in measures])
    larger_is_better = {measure.name for measure in measures if measure.maximise}
    for name, limit in limits.items():
        mean = mean[mean[name] >= limit if name in larger_is_better else mean[name] <= limit]
    costs = mean[cost].to_numpy(dtype=float, na_value=math.nan)
    best = mean[fronts.non_dominated(costs, mean["accuracy"].to_numpy(dtype=float))]
    best = best.sort_values([cost, "candidate", "realised_key", "level"], ignore_index=True)
    return best[[*names("front"), *(measure.name for measure in measures[len(BUILT_IN) :])]]


def _check_comparable(chosen: pd.DataFrame, used: Iterable[str], measures: Iterable[Measure]) -> None:
    """Raise StoreError if points lack a measure that is used, or if only some studies have a hierarchy of labels."""
    for name in used:
        if not chosen.empty and chosen[name].isna().all():
            measured = ", ".join(m.name for m in measures if not m.maximise and chosen[m.name].notna().any())
            raise StoreError(
                f"A front needs points whose {name} was measured, and there are none. Measured: {measured}."
            )
    labelled = chosen.groupby("study")["fine_accuracy"].agg(lambda values: values.notna().any())
    if labelled.nunique() > 1:
        raise StoreError(
            "The studies of a front must have labels of one kind. Accuracy is a mean of fine and coarse labels in "
            f"{', '.join(labelled.index[labelled])}, but not in {', '.join(labelled.index[~labelled])}: show their "
            "fronts separately."
        )


def check_limits(limits: Mapping[str, float], measures: Iterable[Measure]) -> None:
    """Raise StoreError unless every limit is a number on a measure."""
    valid = [measure.name for measure in measures]
    for name, limit in limits.items():
        if name not in valid:
            raise StoreError(f"A limit must be on one of {', '.join(valid)}. Got {name!r}.")
        if not isinstance(limit, int | float) or math.isnan(limit):
            raise StoreError(f"The limit on {name} must be a number. Got {limit!r}.")
