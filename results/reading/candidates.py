"""The candidates of a study as a DataFrame: only requested columns are computed, and only their JSON is parsed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from results.columns import PREFIXES, names
from results.errors import StoreError
from results.reading.fetching import fetch
from results.schema import candidates, evaluations, points, to_json

_COSTS = ("macs_min", "macs_max", "params_max")
_EXACT = 2**53  # whole numbers up to here are exact in double precision


def of_candidates(
    connection: sa.Connection, ids: sa.Select[Any], *, columns: Sequence[str] | None, choices: bool
) -> pd.DataFrame:
    """One row per candidate, in the order of proposal; see `Store.candidates`."""
    wanted = _wanted(columns, choices)
    unpacked = [name for name, prefix in PREFIXES.items() if any(column.startswith(prefix) for column in wanted)]
    row = candidates.c
    read = dict.fromkeys(("id", *(name for name in wanted if name in row), *unpacked))
    query = sa.select(*(row[name] for name in read)).where(row.id.in_(ids)).order_by(row.id)
    frame = fetch(connection, query, "candidates").set_index("id")
    for part in _results(connection, ids, wanted):
        frame = frame.join(part)
    found = {column: values for name in unpacked for column, values in _unpacked(frame[name], name, wanted).items()}
    frame = frame.assign(**{column: pd.Series(values, index=frame.index) for column, values in found.items()})
    chosen = [[name] if name not in PREFIXES.values() else [c for c in found if c.startswith(name)] for name in wanted]
    return frame[list(dict.fromkeys(itertools.chain(*chosen)))].reset_index(drop=True)


def _wanted(columns: Sequence[str] | None, choices: bool) -> list[str]:
    """Names of the columns to read. A prefix stands for all columns that begin with it.

    Raises StoreError for unknown names.
    """
    prefixes = tuple(PREFIXES.values())
    default = [next((each for each in prefixes if name.startswith(each)), name) for name in names("candidates")]
    wanted = [name for name in default if not (choices and name == "choices")] if columns is None else list(columns)
    for name in wanted:
        if name not in default and not name.startswith(prefixes):
            valid = ", ".join(name for name in default if name not in prefixes)
            raise StoreError(f"A column of candidates must be one of {valid}, proxy_NAME, choice_NAME. Got {name!r}.")
    return [*wanted, PREFIXES["choices"]] if choices else wanted


def _results(connection: sa.Connection, ids: sa.Select[Any], wanted: Iterable[str]) -> Iterable[pd.DataFrame]:
    """Results of the candidates by their id, as far as they are wanted."""
    wanted = set(wanted)
    if wanted & {"fidelity", *_COSTS}:
        top, row = top_fidelity(ids), points.c
        same = sa.and_(row.candidate_id == top.c.candidate_id, row.fidelity == top.c.fidelity)
        costs = (sa.func.min(row.macs), sa.func.max(row.macs), sa.func.max(row.params))
        labelled = (cost.label(name) for name, cost in zip(_COSTS, costs))
        query = sa.select(row.candidate_id, sa.func.max(row.fidelity).label("fidelity"), *labelled)
        grouped = query.select_from(sa.join(points, top, same)).group_by(row.candidate_id)
        yield fetch(connection, grouped, "candidates").set_index("candidate_id")
    if "anytime_accuracy" in wanted:
        yield fetch(connection, sa.select(*scored(ids).c), "candidates").set_index("candidate_id")[["anytime_accuracy"]]
    if "seconds" in wanted:
        yield fetch(connection, sa.select(*trained_seconds(ids).c), "candidates").set_index("candidate_id")


def top_fidelity(ids: sa.Select[Any]) -> sa.Subquery:
    """The largest fidelity at which each candidate has points: candidate_id, fidelity."""
    row = points.c
    query = sa.select(row.candidate_id, sa.func.max(row.fidelity).label("fidelity"))
    return query.where(row.candidate_id.in_(ids)).group_by(row.candidate_id).subquery()


def scored(ids: sa.Select[Any]) -> sa.Subquery:
    """The mean score over repeats at the largest fidelity of each candidate: candidate_id, fidelity, anytime_accuracy.

    Candidates without a score are left out.
    """
    top, row = top_fidelity(ids), evaluations.c
    same = sa.and_(row.candidate_id == top.c.candidate_id, row.fidelity == top.c.fidelity)
    query = sa.select(row.candidate_id, row.fidelity, sa.func.avg(row.score).label("anytime_accuracy"))
    kept = query.select_from(sa.join(evaluations, top, same)).where(row.score.is_not(None))
    return kept.group_by(row.candidate_id, row.fidelity).subquery()


def trained_seconds(ids: sa.Select[Any]) -> sa.Subquery:
    """Seconds of training of each candidate: candidate_id, seconds. Cumulative within a repeat, summed over repeats."""
    row = evaluations.c
    of_repeat = (
        sa.select(row.candidate_id, sa.func.max(row.seconds).label("seconds"))
        .where(row.candidate_id.in_(ids))
        .group_by(row.candidate_id, row.repeat)
        .subquery()
    )
    total = sa.func.sum(of_repeat.c.seconds).label("seconds")
    return sa.select(of_repeat.c.candidate_id, total).group_by(of_repeat.c.candidate_id).subquery()


def _unpacked(texts: Iterable[str | None], name: str, wanted: Sequence[str]) -> dict[str, Any]:
    """The wanted columns of a stored column of JSON objects. Raises StoreError for a column that no object has."""
    prefix = PREFIXES[name]
    parsed: list[Mapping[str, Any]] = [json.loads(text) if isinstance(text, str) else {} for text in texts]
    there = list(dict.fromkeys(key for values in parsed for key in values))
    asked = [column.removeprefix(prefix) for column in wanted if column.startswith(prefix) and column != prefix]
    missing = [key for key in asked if key not in there]
    if parsed and missing:
        raise StoreError(
            f"A column {prefix}NAME must be of one of the {name} {', '.join(there) or '(none)'}. Got {missing[0]!r}."
        )
    as_array = _numbers if name == "proxies" else _options
    return {
        f"{prefix}{key}": as_array([values.get(key, _ABSENT) for values in parsed])
        for key in (there if prefix in wanted else asked)
    }


_ABSENT = object()


def _numbers(values: Sequence[Any]) -> Any:
    """Real numbers, NaN if absent."""
    return np.array([None if value is _ABSENT else value for value in values], dtype="float64")


def _options(values: Sequence[Any]) -> Any:
    """Options of a choice as an array of one type: truth values, whole numbers, real numbers or text.

    JSON text if the types are mixed, so that "16" and 16 differ, and a file of typed columns accepts them. None is
    missing, as if the choice were absent, or null in JSON text.
    """
    plain = [None if value is _ABSENT else value for value in values]
    present = [value for value in plain if value is not None]
    kinds = {type(value) for value in present}
    if kinds == {bool}:
        return pd.array(plain, dtype="boolean")
    if kinds == {int} and all(abs(value) < 2**63 for value in present):
        return pd.array(plain, dtype="Int64")
    if kinds and kinds <= {int, float} and all(abs(value) <= _EXACT for value in present if type(value) is int):
        return np.array(plain, dtype="float64")
    if kinds <= {str}:
        return plain
    return [None if value is _ABSENT else to_json(value) for value in values]
