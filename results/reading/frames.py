"""Tables of a store as DataFrames.

Text that many rows share, such as keys, is read once per candidate and joined here: a database would send it per row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from results import front as fronts
from results.columns import POLICY, names
from results.errors import NotComparable
from results.measures import BUILT_IN, Measure
from results.reading.fetching import fetch
from results.schema import candidates, evaluations, point_measures, points, policies, studies

_MEASURES = [measure.name for measure in BUILT_IN]
_TRAINING = ["candidate_id", "fidelity", "repeat"]
"""Columns that identify a training."""
_POINT = [*_TRAINING, "level"]
"""Columns that identify an operating point."""


def ids_of(numbers: Iterable[int]) -> sa.Select[Any]:
    """Ids of the candidates of studies."""
    return sa.select(candidates.c.id).where(candidates.c.study_id.in_(list(numbers)))


def ids_with_key(connection: sa.Connection, numbers: Iterable[int], key: str) -> sa.Select[Any]:
    """Ids of the candidates of studies with this key, proposed or realised; found by the key, as they are few."""
    proposed = sa.select(candidates.c.id).where(candidates.c.key == key)
    realised = sa.select(evaluations.c.candidate_id).where(evaluations.c.realised_key == key)
    named = sa.select(candidates.c.id, candidates.c.study_id).where(candidates.c.id.in_(sa.union(proposed, realised)))
    mine = set(numbers)
    found = [row.id for row in connection.execute(named) if row.study_id in mine]
    return sa.select(candidates.c.id).where(candidates.c.id.in_(found))


def of_studies(connection: sa.Connection) -> pd.DataFrame:
    """One row per study: study, state, reason, candidates, trained, score (its name), created_at, updated_at (UTC)."""
    row = studies.c
    columns = (row.id, row.name.label("study"), row.state, row.reason, row.created_at, row.updated_at)
    frame = fetch(connection, sa.select(*columns).order_by(row.id), "studies").set_index("id")
    is_trained = sa.exists().where(evaluations.c.candidate_id == candidates.c.id) & (candidates.c.status != "failed")
    proposed, trained = _counts(connection, sa.true()), _counts(connection, is_trained)
    frame.insert(3, "candidates", [proposed.get(number, 0) for number in frame.index])
    frame.insert(4, "trained", [trained.get(number, 0) for number in frame.index])
    scores = connection.scalars(sa.select(row.score).order_by(row.id))
    frame.insert(5, "score", [fronts.Score(**score).name if score else None for score in scores])
    for name in ("created_at", "updated_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    return frame.reset_index(drop=True)


def _counts(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> dict[int, int]:
    """Number of candidates that meet the condition, by number of the study."""
    study = candidates.c.study_id
    query = sa.select(study, sa.func.count()).where(condition).group_by(study)
    return {number: count for number, count in connection.execute(query)}  # noqa: C416 - dict() would not type-check


def of_evaluations(connection: sa.Connection, numbers: Sequence[int]) -> pd.DataFrame:
    """One row per candidate, fidelity and repeat; epochs and seconds are cumulative within a repeat."""
    row = evaluations.c
    stored = ["candidate_id", *(name for name in names("evaluations") if name in row)]
    query = (
        sa.select(*(row[name] for name in stored))
        .where(row.candidate_id.in_(ids_of(numbers)))
        .order_by(*(row[name] for name in _TRAINING))
    )
    frame = fetch(connection, query, "evaluations")
    frame["evaluated_at"] = pd.to_datetime(frame["evaluated_at"], utc=True, format="ISO8601")
    labels = _labels(connection, ids_of(numbers), frame.pop("candidate_id"))
    return pd.concat([labels, frame], axis=1)[names("evaluations")]


def _labels(connection: sa.Connection, ids: sa.Select[Any], wanted: pd.Series) -> pd.DataFrame:
    """Columns study, candidate and space of candidates. wanted: ids, one for each row."""
    row = candidates.c
    query = sa.select(row.id, row.study_id, row.key, row.space).where(row.id.in_(ids)).order_by(row.id)
    owners = fetch(connection, query, "candidates")
    named = {row.id: row.name for row in connection.execute(sa.select(studies.c.id, studies.c.name))}
    study = owners["study_id"].map(named)
    place = np.searchsorted(owners["id"].to_numpy(), wanted.to_numpy())
    labels = {"study": study, "candidate": owners["key"], "space": owners["space"]}
    return pd.DataFrame({name: column.take(place).reset_index(drop=True) for name, column in labels.items()})


def of_points(connection: sa.Connection, numbers: Sequence[int], ids: sa.Select[Any]) -> pd.DataFrame:
    """One row per candidate, fidelity, repeat and operating point, with a last column `candidate_id`.

    numbers: of the studies that declare the measures. ids: of the candidates.
    """
    row, training = points.c, evaluations.c
    of_these = sa.select(*(row[name] for name in (*_POINT, *_MEASURES))).where(row.candidate_id.in_(ids))
    frame = fetch(connection, of_these.order_by(*(row[name] for name in _POINT)), "points")
    keys = sa.select(*(training[name] for name in (*_TRAINING, "realised_key"))).where(training.candidate_id.in_(ids))
    frame = frame.merge(fetch(connection, keys, "evaluations"), on=_TRAINING)
    own = [measure.name for measure in own_measures_of(connection, numbers)]
    if own:
        frame = frame.join(_own_values(connection, ids, own), on=_POINT)
    labels = _labels(connection, ids, frame["candidate_id"])
    frame = pd.concat([labels, frame], axis=1)
    return frame[[*names("points"), *own, "candidate_id"]]


def _own_values(connection: sa.Connection, ids: sa.Select[Any], own: list[str]) -> pd.DataFrame:
    """The evaluator's own measures, a column each, by operating point; NaN if not measured."""
    row = point_measures.c
    query = sa.select(*(row[name] for name in _POINT), row.name, row.value).where(row.candidate_id.in_(ids))
    values = fetch(connection, query, "points").astype({"value": "float64"})
    return values.pivot(index=_POINT, columns="name", values="value").reindex(columns=own)


def own_measures_of(
    connection: sa.Connection, numbers: Iterable[int], compared: Collection[str] = ()
) -> tuple[Measure, ...]:
    """The measures that the evaluators of studies declared beside the built-in ones; see `joined_measures`."""
    return joined_measures(declared(connection, numbers), compared)


def declared(connection: sa.Connection, numbers: Iterable[int]) -> Iterator[tuple[str, Measure]]:
    """Studies with the measures that their evaluators declared beside the built-in ones."""
    query = sa.select(studies.c.name, studies.c.measures).where(studies.c.id.in_(numbers)).order_by(studies.c.id)
    for study, own in connection.execute(query):
        for data in own or ():
            yield study, Measure(**data)


def joined_measures(declared: Iterable[tuple[str, Measure]], compared: Collection[str] = ()) -> tuple[Measure, ...]:
    """The measures of several studies, each once.

    declared: studies with their measures. compared: names of measures whose values are compared between the studies.
    Raises NotComparable if such a measure has another unit or direction in another study.
    """
    own: dict[str, Measure] = {}
    origin: dict[str, str] = {}
    for study, measure in declared:
        first = own.setdefault(measure.name, measure)
        there = origin.setdefault(measure.name, study)
        if measure.name in compared and (first.unit, first.maximise) != (measure.unit, measure.maximise):
            raise NotComparable(
                f"A measure must have one unit and direction in all studies of a front. {measure.name} has "
                f"unit={first.unit!r} and maximise={first.maximise} in {there}, unit={measure.unit!r} and "
                f"maximise={measure.maximise} in {study}: show their fronts separately."
            )
    return tuple(own.values())


def of_policies(connection: sa.Connection, numbers: Sequence[int]) -> pd.DataFrame:
    """One row per controller; see `Store.policies`."""
    row = policies.c
    query = (
        sa.select(row.candidate_id, *(row[name] for name in POLICY))
        .where(row.candidate_id.in_(ids_of(numbers)))
        .order_by(row.candidate_id, row.learner, row.sees, row.penalty, row.utilization)
    )
    frame = fetch(connection, query, "policies")
    owners = sa.select(row.candidate_id).where(row.candidate_id.in_(ids_of(numbers)))
    return pd.concat([_labels(connection, owners, frame.pop("candidate_id")), frame], axis=1)
