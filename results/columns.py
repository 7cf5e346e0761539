"""Columns of the DataFrames that a store returns: name, type, unit and meaning, for readers, tests and documentation.

Columns that are also columns of the database are described in :mod:`results.schema`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from results.measures import BUILT_IN, LABELS
from results.schema import (
    PASSES,
    Json,
    Real,
    Text,
    Whole,
    candidates,
    evaluations,
    points,
    policies,
    studies,
    transferred,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameColumn:
    """A column of a DataFrame.

    type: ``text``, ``integer``, ``real``, ``boolean``, ``time`` or ``json``, which is text. unit: empty without one.
    nullable: whether a value may be missing; integers are then ``Int64``.
    """

    name: str
    type: str
    meaning: str
    unit: str = ""
    nullable: bool = False


_TYPES = (
    (Whole, "integer"),
    (Real, "real"),
    (sa.Double, "real"),
    (sa.Boolean, "boolean"),
    (Json, "json"),
    (Text, "text"),
)
"""Types of the database with the types of DataFrames."""


def _stored(column: sa.Column[Any]) -> FrameColumn:
    """A column of the database, described as in its table."""
    doc = (column.doc or "").removesuffix(".").replace("NULL", "missing")
    return FrameColumn(
        name=column.name,
        type=next(kind for type_, kind in _TYPES if isinstance(column.type, type_)),
        meaning=doc[:1].lower() + doc[1:],
        unit=column.info.get("unit", ""),
        nullable=bool(column.nullable),
    )


def _of(table: sa.Table, *columns: str) -> tuple[FrameColumn, ...]:
    """Columns of a table of the database."""
    return tuple(_stored(table.c[name]) for name in columns)


def _computed(*rows: tuple[str, ...]) -> tuple[FrameColumn, ...]:
    """Columns that are no columns of the database, from name, type, meaning and, if any, unit."""
    return tuple(FrameColumn(name=row[0], type=row[1], meaning=row[2], unit="".join(row[3:])) for row in rows)


_POINT_MEASURES = {measure.name: _stored(points.c[measure.name]) for measure in BUILT_IN}
_STUDY = (replace(_stored(studies.c.name), name="study"),)
_CANDIDATE = _computed(("candidate", "text", "key of the proposed architecture"))
_REALISED = _of(evaluations, "realised_key")
_SPACE = _of(candidates, "space")
_LEVEL = _of(points, "level")
_FIDELITY = _of(points, "fidelity")
_REPEAT = _of(points, "repeat")
_ACCURACIES = ("macs", "params", "accuracy", "test_accuracy")
"""The built-in measures that come first in frames of operating points."""
_FURTHER = tuple(column for name, column in _POINT_MEASURES.items() if name not in _ACCURACIES)
_EVALUATED_AT = (replace(_stored(evaluations.c.evaluated_at), type="time"),)


def _extreme(measure: str, name: str, meaning: str) -> FrameColumn:
    """The smallest or largest value of a measure over a candidate's points."""
    return replace(_POINT_MEASURES[measure], name=name, meaning=meaning, nullable=True)


_LAST = "controller_macs"
POLICY = (*(column.name for column in policies.c if column.name not in ("candidate_id", _LAST)), _LAST)
"""Names of the columns of a controller's results, in the order of DataFrames."""

FRAMES: dict[str, tuple[FrameColumn, ...]] = {
    "studies": (
        *_STUDY,
        *_of(studies, "state", "reason"),
        *_computed(
            ("candidates", "integer", "number of candidates, rejected proposals included"),
            ("trained", "integer", "number of candidates with results that did not fail"),
            ("score", "text", "name of the score that the study maximises"),
        ),
        *(replace(column, type="time") for column in _of(studies, "created_at", "updated_at")),
    ),
    "candidates": (
        *_of(candidates, "key"),
        *_computed(
            (
                *("anytime_accuracy", "real"),
                "score of the study at the largest fidelity that it reached, mean over repeats; missing if it was not "
                "measured",
                "fraction",
            ),
        ),
        _extreme("macs", "macs_min", "cost of the smallest operating point"),
        _extreme("macs", "macs_max", "cost of the largest operating point"),
        _extreme("params", "params_max", "size of the largest operating point"),
        *_computed(("fidelity", "real", "largest fidelity reached", PASSES)),
        *_of(candidates, "space", "status", "reason", "generation", "position", "control", "reference", "attempts"),
        *_computed(
            ("proxy_NAME", "real", "score of the proxy NAME, one column per proxy; larger is better"),
            ("seconds", "real", "training and evaluation, summed over repeats", "s"),
        ),
        *_of(candidates, "choices"),
    ),
    "points": (
        *(_POINT_MEASURES[name] for name in _ACCURACIES),
        *_CANDIDATE,
        *_LEVEL,
        *_FIDELITY,
        *_REPEAT,
        *_STUDY,
        *_SPACE,
        *_FURTHER,
        *_REALISED,
    ),
    "evaluations": (
        *_CANDIDATE,
        *_of(evaluations, "score"),
        *_FIDELITY,
        *_REPEAT,
        *_of(evaluations, "epochs"),
        replace(_stored(evaluations.c.images), type="real"),
        *_of(evaluations, "seconds"),
        *_EVALUATED_AT,
        *_STUDY,
        *_SPACE,
        *_REALISED,
        *_of(evaluations, "weights"),
    ),
    "history": (
        *_STUDY,
        *_computed(
            ("evaluation", "integer", "number of the evaluation in its study, from 1, in the order of their ends"),
            ("elapsed_seconds", "real", "time since the first start of the study, interruptions included", "s"),
            ("worker_seconds", "real", "training and evaluation so far, summed over workers", "s"),
            ("anytime_accuracy", "real", "score of the study of this evaluation; missing if not measured", "fraction"),
            ("best", "real", "largest anytime accuracy so far, of any fidelity and repeat", "fraction"),
        ),
        *_CANDIDATE,
        *_SPACE,
        *_FIDELITY,
        *_REPEAT,
        *_EVALUATED_AT,
    ),
    "compare": (
        *_STUDY,
        *_computed(
            ("anytime_accuracy", "real", "of the front on validation images, for the range of budgets", "fraction"),
            ("test_anytime_accuracy", "real", "of the same points on test images", "fraction"),
            ("network_accuracy", "real", "anytime accuracy of the best candidate on validation images", "fraction"),
            ("candidate", "text", "key of the best candidate; missing if nothing was trained"),
            ("low", "real", "least budget of the range, in the unit of the cost"),
            ("high", "real", "largest budget of the range, in the unit of the cost"),
            ("front_points", "integer", "number of operating points on the front"),
            ("trained", "integer", "number of candidates with an anytime accuracy"),
            ("evaluations", "integer", "number of evaluations, those of partial training included"),
            ("worker_seconds", "real", "training and evaluation, summed over workers", "s"),
        ),
        *_of(studies, "state"),
    ),
    "transferred": _of(transferred, "origin", "key", "space", "status", "generation", "anytime_accuracy", "choices"),
    "policies": (*_STUDY, *_CANDIDATE, *_SPACE, *_of(policies, *POLICY)),
    "front": (
        *(_POINT_MEASURES[name] for name in _ACCURACIES),
        *_CANDIDATE,
        *_LEVEL,
        *_STUDY,
        *_SPACE,
        *_of(candidates, "reference"),
        _POINT_MEASURES["latency_ms"],
        *_computed(
            ("accuracy_sd", "real", "standard deviation of accuracy over repeats; missing for one", "fraction"),
            ("repeats", "integer", "number of repeats that the means are of"),
            ("repeat", "integer", "number of the first of these repeats, from 0"),
        ),
        *_FIDELITY,
        _POINT_MEASURES["loss"],
        _POINT_MEASURES["test_loss"],
        *_REALISED,
        *(_POINT_MEASURES[name] for name in ("fine_accuracy", "coarse_accuracy", "test_fine_accuracy")),
        *(_POINT_MEASURES[name] for name in ("test_coarse_accuracy", "nonzero_macs")),
    ),
}
"""Method of :class:`results.store.Store` → its columns, in order. An evaluator's own measures come last in ``points``
and ``front``.
"""


PREFIXES = {"proxies": "proxy_", "choices": "choice_"}
"""Stored column of JSON objects → prefix of the columns of ``candidates`` that hold one of their values each."""


def own_columns(columns: Iterable[str], frame: str) -> list[str]:
    """The columns of the evaluator's own measures among the columns of a frame of FRAMES."""
    return [name for name in columns if name not in names(frame) and name not in LABELS]


def names(frame: str) -> list[str]:
    """Names of the columns of a frame of FRAMES, in order."""
    return [column.name for column in FRAMES[frame]]


def dtypes(frame: str) -> dict[str, str]:
    """Column → pandas dtype, for the numbers and truth values in a frame of FRAMES."""
    kinds = {"real": ("float64", "float64"), "integer": ("int64", "Int64"), "boolean": ("bool", "boolean")}
    return {c.name: kinds[c.type][c.nullable] for c in FRAMES[frame] if c.type in kinds}
