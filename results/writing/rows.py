"""Checks of the rows that a writer stores: unknown and missing names are refused before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from results.columns import POLICY
from results.errors import StoreError
from results.measures import BUILT_IN
from results.schema import STATUSES, Real, candidates, policies

Row = dict[str, Any]

_CANDIDATE_REQUIRED = frozenset({"space", "generation", "status"})
_CANDIDATE_DEFAULTS: Row = {"control": False, "attempts": 0} | {c.name: None for c in candidates.c if c.nullable}
_CANDIDATE_COLUMNS = frozenset(_CANDIDATE_DEFAULTS) | _CANDIDATE_REQUIRED
_POINT_REQUIRED = ("level", *(m.name for m in BUILT_IN if m.required and not m.needs_test))
_POINT_OPTIONAL = tuple(m.name for m in BUILT_IN if not m.required or m.needs_test)
_POLICY_OPTIONAL = tuple(name for name in POLICY if type(policies.c[name].type) is Real)
_POLICY_REQUIRED = tuple(name for name in POLICY if name not in _POLICY_OPTIONAL)


def check_one_of(noun: str, value: str, valid: Iterable[str]) -> None:
    """Raise StoreError unless a value is valid."""
    if value not in valid:
        raise StoreError(f"A {noun} must be one of {', '.join(valid)}. Got {value!r}.")


def check_candidate(row: Mapping[str, Any], required: Collection[str] = ()) -> None:
    """Raise StoreError for columns of a candidate that are unknown or missing."""
    unknown, missing = row.keys() - _CANDIDATE_COLUMNS, {*required} - row.keys()
    if unknown or missing:
        raise StoreError(
            f"A candidate has the columns {', '.join(sorted(_CANDIDATE_COLUMNS))}. "
            f"Got unknown {sorted(unknown)}, missing {sorted(missing)}."
        )
    if "status" in row:
        check_one_of("status", row["status"], STATUSES)


def checked_candidate(row: Mapping[str, Any]) -> Row:
    """A candidate with all columns. Raises StoreError for columns that are unknown or missing."""
    check_candidate(row, _CANDIDATE_REQUIRED)
    return _CANDIDATE_DEFAULTS | dict(row)


def split_points(points: Iterable[Mapping[str, Any]], place: Row, own: Collection[str]) -> tuple[list[Row], list[Row]]:
    """Points as rows of the tables points and point_measures.

    place: candidate_id, fidelity and repeat. own: names of the evaluator's own measures.
    Raises StoreError for a name that is unknown or missing.
    """
    optional = (*_POINT_OPTIONAL, *own)
    valid, required = {*_POINT_REQUIRED, *optional}, {*_POINT_REQUIRED}
    measured: list[Row] = []
    values: list[Row] = []
    for point in points:
        if not required <= point.keys() <= valid:
            raise StoreError(
                f"A point has {', '.join(_POINT_REQUIRED)}, and may have {', '.join(optional)}. Got {sorted(point)}."
            )
        key = place | {"level": point["level"]}
        values += [key | {"name": name, "value": point[name]} for name in own if name in point]
        columns = {name: value for name, value in point.items() if name not in own}
        measured.append(dict.fromkeys(_POINT_OPTIONAL) | columns | place)
    return measured, values


def checked_policies(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Results of controllers with all columns. Raises StoreError for columns that are unknown or missing."""
    checked = [dict.fromkeys(_POLICY_OPTIONAL) | dict(row) for row in rows]
    for policy in checked:
        if policy.keys() != {*_POLICY_REQUIRED, *_POLICY_OPTIONAL}:
            raise StoreError(
                f"A policy has {', '.join(_POLICY_REQUIRED)}, and may have {', '.join(_POLICY_OPTIONAL)}. "
                f"Got {sorted(policy)}."
            )
    return checked
