"""The Pareto front of trained points: found on two columns of all points, then read completely for its few members."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa

from results import front as dominance
from results.columns import dtypes, names
from results.errors import NotComparable, StoreError
from results.measures import BUILT_IN, WHOLE_UNITS, Measure, check_cost
from results.reading import comparability, frames
from results.reading.fetching import fetch
from results.schema import candidates, evaluations, point_measures, points, studies

_BATCH = 1_000  # ids in one query


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Studies of a store. numbers: of the studies. store: label of the store; empty if it is the only one."""

    connection: sa.Connection
    numbers: Sequence[int]
    store: str = ""

    def named(self, study: str) -> str:
        """A study for a message."""
        return f"{study} in {self.store}" if self.store else study


def front_of(
    sources: Sequence[Source],
    *,
    cost: str,
    limits: Mapping[str, float],
    fidelity: float | None,
    mixed: bool,
) -> pd.DataFrame:
    """The non-dominated points of studies of one store or several, after the mean over repeats; see `Store.front`."""
    declared = (
        (each.named(study), m) for each in sources for study, m in frames.declared(each.connection, each.numbers)
    )
    measures = (*BUILT_IN, *frames.joined_measures(declared, {cost, *limits}))
    check_cost(cost, measures)
    check_limits(limits, measures)
    data = {each.store: comparability.data_of(each.connection, each.numbers) for each in sources}
    if not mixed:
        named = {each.named(study): text for each in sources for study, text in data[each.store].items()}
        comparability.check_same_data(named)
    at = _fidelities(sources, fidelity)
    used = tuple(dict.fromkeys((cost, "accuracy", *limits)))
    slim = [_slim(each, at[each.store], used) for each in sources]
    if any(map(len, slim)):
        _check_measured(sources, slim, (cost, *limits), measures)
        _check_labels(sources, at)
    best = [_best(each, at[each.store], points, cost, limits, measures) for each, points in zip(sources, slim)]
    front = _joined(sources, best, cost)
    own = (measure.name for measure in measures[len(BUILT_IN) :])
    front = front[["store", *names("front"), *own]]
    if mixed:
        front["data"] = [data[store][study] for store, study in zip(front["store"], front["study"])]
    return front if sources[0].store else front.drop(columns="store")


def _joined(sources: Sequence[Source], best: Sequence[pd.DataFrame], cost: str) -> pd.DataFrame:
    """The front of the fronts of all stores, in order, with a column ``store``."""
    stored = [front.assign(store=source.store) for source, front in zip(sources, best)]
    together = pd.concat([front for front in stored if len(front)] or stored[:1], ignore_index=True)
    together = together[_is_on_front(together, cost)]
    return together.sort_values([cost, "candidate", "realised_key", "level"], ignore_index=True)


def _slim(source: Source, at: Mapping[int, float], used: Sequence[str]) -> pd.DataFrame:
    """The used measures of all points of a store."""
    parts = [_measured(source.connection, number, value, used) for number, value in at.items()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["candidate_id", *used])


def _best(
    source: Source,
    at: Mapping[int, float],
    slim: pd.DataFrame,
    cost: str,
    limits: Mapping[str, float],
    measures: Sequence[Measure],
) -> pd.DataFrame:
    """The non-dominated points of a store, complete. at: fidelity by study. slim: its points, used measures only."""
    kept: list[int] = []
    if len(slim):
        mean = _rounded(_by_network(slim)[list(dict.fromkeys((cost, "accuracy", *limits)))].mean(), measures)
        kept = _on_front(mean.reset_index(), cost, limits, measures)["candidate_id"].unique().tolist()
    frame = _points(source.connection, source.numbers, kept)
    for measure in measures:
        if measure.name not in frame:  # of the evaluator of another store
            frame[measure.name] = math.nan
    reached = frame["study"].map({name: at[number] for name, number in _numbers(source.connection, at).items()})
    frame = frame[frame["fidelity"] == reached]
    front = _on_front(_mean_over_repeats(frame, measures), cost, limits, measures)
    named = _references(source.connection, source.numbers)
    return front.assign(reference=pd.Series(map(named.get, front["candidate_id"]), index=front.index, dtype=object))


def _points(connection: sa.Connection, numbers: Sequence[int], ids: Sequence[int]) -> pd.DataFrame:
    """All points of candidates, read in batches of ids."""
    batches = [ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)] or [[]]
    chosen = (sa.select(candidates.c.id).where(candidates.c.id.in_(batch)) for batch in batches)
    return pd.concat([frames.of_points(connection, numbers, each) for each in chosen], ignore_index=True)


def _numbers(connection: sa.Connection, numbers: Iterable[int]) -> dict[str, int]:
    """The names of studies with their numbers."""
    query = sa.select(studies.c.name, studies.c.id).where(studies.c.id.in_(list(numbers))).order_by(studies.c.id)
    return {row.name: row.id for row in connection.execute(query)}


def _references(connection: sa.Connection, numbers: Sequence[int]) -> dict[int, str]:
    """Names of the reference architectures among the candidates of studies, by id."""
    row = candidates.c
    named = sa.select(row.id, row.reference).where(row.study_id.in_(numbers), row.reference.is_not(None))
    return {each.id: each.reference for each in connection.execute(named)}


def _fidelities(sources: Sequence[Source], fidelity: float | None) -> dict[str, dict[int, float]]:
    """Fidelity of the front by store and study: the given one, or the largest that has points.

    Studies without points are left out. Raises StoreError if no study has points at the given fidelity.
    """
    row = evaluations.c
    same = sa.and_(*(points.c[name] == row[name] for name in ("candidate_id", "fidelity", "repeat")))
    at: dict[str, dict[int, float]] = {}
    seen: set[float] = set()
    for source in sources:
        query = (
            sa.select(candidates.c.study_id, row.fidelity)
            .join_from(evaluations, candidates)
            .where(candidates.c.study_id.in_(source.numbers), sa.exists().where(same))
            .distinct()
        )
        there = sorted((number, value) for number, value in source.connection.execute(query))
        seen |= {value for _, value in there}
        at[source.store] = {number: value for number, value in there if fidelity in (None, value)}  # the largest last
    if seen and not any(at.values()):
        listed = ", ".join(f"{value:g}" for value in sorted(seen))
        raise StoreError(f"A front needs points at its fidelity. Got {fidelity=}; there are points at {listed}.")
    return at


def _measured(connection: sa.Connection, number: int, fidelity: float, used: Sequence[str]) -> pd.DataFrame:
    """Candidate, realised key, level and the used measures of all points of a study at a fidelity.

    The realised key is only read for candidates with several repeats; otherwise it is the same for a candidate.
    """
    row, ids = points.c, frames.ids_of([number])
    selected: list[sa.ColumnElement[Any]] = [row.candidate_id, row.repeat, row.level]
    source: sa.FromClause = points
    for name in used:
        if name in row:
            selected.append(row[name])
            continue
        own = point_measures.alias()
        same = [own.c[each] == row[each] for each in ("candidate_id", "fidelity", "repeat", "level")]
        source = source.outerjoin(own, sa.and_(*same, own.c.name == name))
        selected.append(own.c.value.label(name))
    query = sa.select(*selected).select_from(source).where(row.candidate_id.in_(ids), row.fidelity == fidelity)
    frame = fetch(connection, query, "points").astype(dict.fromkeys(used, "float64"))
    training = evaluations.c
    repeated = (
        sa.select(training.candidate_id)
        .where(training.candidate_id.in_(ids), training.fidelity == fidelity)
        .group_by(training.candidate_id)
        .having(sa.func.count() > 1)
    )
    keys = sa.select(training.candidate_id, training.repeat, training.realised_key)
    of_repeats = keys.where(training.candidate_id.in_(repeated), training.fidelity == fidelity)
    realised = fetch(connection, of_repeats, "evaluations")
    if realised.empty:
        return frame.assign(realised_key="")
    return frame.merge(realised, on=["candidate_id", "repeat"], how="left").fillna({"realised_key": ""})


def _by_network(points: pd.DataFrame) -> Any:
    """Groups of points of one network and level: repeats.

    Repeats with different architectures after training are different networks: their mean is no operating point.
    """
    return points.groupby(["candidate_id", "realised_key", "level"], sort=False)


def _rounded(mean: pd.DataFrame, measures: Sequence[Measure]) -> pd.DataFrame:
    """Means of measures, with whole numbers in their type."""
    whole = [measure.name for measure in measures if measure.unit in WHOLE_UNITS and measure.name in mean]
    types = dtypes("points")
    return mean.assign(**{name: mean[name].round().astype(types.get(name, "float64")) for name in whole})


def _mean_over_repeats(points: pd.DataFrame, measures: Sequence[Measure]) -> pd.DataFrame:
    """One row per network and level, with the standard deviation of accuracy over repeats and their number."""
    groups = _by_network(points)
    mean = _rounded(groups[[measure.name for measure in measures]].mean(), measures)
    labels = groups[["study", "candidate", "space", "fidelity"]].first()
    spread = {"accuracy_sd": groups["accuracy"].std(), "repeats": groups.size(), "repeat": groups["repeat"].min()}
    return labels.join(mean).assign(**spread).reset_index()


def _on_front(mean: pd.DataFrame, cost: str, limits: Mapping[str, float], measures: Sequence[Measure]) -> pd.DataFrame:
    """The non-dominated points within the limits."""
    larger_is_better = {measure.name for measure in measures if measure.maximise}
    for name, limit in limits.items():
        mean = mean[mean[name] >= limit if name in larger_is_better else mean[name] <= limit]
    return mean[_is_on_front(mean, cost)]


def _is_on_front(mean: pd.DataFrame, cost: str) -> Any:
    """Which points are non-dominated."""
    costs = mean[cost].to_numpy(dtype=float, na_value=math.nan)
    return dominance.non_dominated(costs, mean["accuracy"].to_numpy(dtype=float))


def _check_measured(
    sources: Sequence[Source], slim: Sequence[pd.DataFrame], used: Iterable[str], measures: Sequence[Measure]
) -> None:
    """Raise StoreError if no point has a measure that is used. slim: the points of each source."""
    for name in used:
        if all(chosen[name].isna().all() for chosen in slim):
            every = [frames.of_points(s.connection, s.numbers, frames.ids_of(s.numbers)) for s in sources]
            measured = ", ".join(
                m.name
                for m in measures
                if not m.maximise and any(m.name in f and f[m.name].notna().any() for f in every)
            )
            raise StoreError(
                f"A front needs points whose {name} was measured, and there are none. Measured: {measured}."
            )


def _check_labels(sources: Sequence[Source], at: Mapping[str, Mapping[int, float]]) -> None:
    """Raise NotComparable if only some studies have a hierarchy of labels. at: fidelity by store and study."""
    row = points.c
    found: dict[bool, list[str]] = {True: [], False: []}
    for source in sources:
        fidelities = at[source.store]
        for name, number in _numbers(source.connection, fidelities).items():
            ids = frames.ids_of([number])
            labelled = sa.select(row.level).where(
                row.candidate_id.in_(ids), row.fidelity == fidelities[number], row.fine_accuracy.is_not(None)
            )
            has_groups = source.connection.execute(labelled.limit(1)).first() is not None
            found[has_groups].append(source.named(name))
    if all(found.values()):
        raise NotComparable(
            "The studies of a front must have labels of one kind. Accuracy is a mean of fine and coarse labels in "
            f"{', '.join(found[True])}, but not in {', '.join(found[False])}: show their fronts separately."
        )


def check_limits(limits: Mapping[str, float], measures: Iterable[Measure]) -> None:
    """Raise StoreError unless every limit is a number on a measure."""
    valid = [measure.name for measure in measures]
    for name, limit in limits.items():
        if name not in valid:
            raise StoreError(f"A limit must be on one of {', '.join(valid)}. Got {name!r}.")
        if not isinstance(limit, int | float) or math.isnan(limit):
            raise StoreError(f"The limit on {name} must be a number. Got {limit!r}.")
