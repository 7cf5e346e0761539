"""Tables of the results store, as SQLAlchemy Core; one definition for SQLite and PostgreSQL.

Units are in the names: macs are multiply-accumulates, latency in milliseconds, seconds of wall-clock time.
"""

from __future__ import annotations

import json
import math
from typing import Any

import sqlalchemy as sa

from results.errors import StoreError

STATES = ("running", "finished", "interrupted", "failed")
STATUSES = (
    "invalid",  # the space could not build it
    "infeasible",  # breaks an exact constraint
    "duplicate",  # its key is known
    "outranked",  # feasible, but not chosen for training
    "queued",
    "training",
    "stopped",  # early, by the scheduler
    "finished",
    "failed",  # with its traceback, after the last attempt
)


def _encode_slowly(value: Any) -> str:
    """Standard JSON for values that hold NaN (null) or infinities (numbers beyond double precision)."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(str(key))}:{_encode_slowly(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_encode_slowly, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return "null" if math.isnan(value) else "1e999" if value > 0 else "-1e999"
    return json.dumps(value)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain).encode


def to_json(value: Any) -> str:
    """Compact JSON text that any reader accepts; numpy scalars and arrays become numbers and lists.

    NaN becomes null; infinities stay, as numbers too large for double precision.

    >>> to_json({"depth": 3, "score": float("nan"), "bound": float("inf")})
    '{"depth":3,"score":null,"bound":1e999}'
    """
    try:
        return _encode(value)
    except TypeError as error:
        raise StoreError(f"What is stored must be plain JSON data: {error}. Got {value!r:.200}.") from error
    except ValueError:
        return _encode_slowly(value)


class Json(sa.types.TypeDecorator[Any]):
    """JSON as text, so that both databases store the same; None is NULL."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else to_json(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        return None if value is None else json.loads(value)


class Whole(sa.types.TypeDecorator[int]):
    """An integer, also where it comes from numpy, which SQLite would not take."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> int | None:
        return None if value is None else int(value)


class Real(sa.types.TypeDecorator[float]):
    """A number in double precision; NaN is stored as NULL, and NULL is read as None."""

    impl = sa.Double
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> float | None:
        return None if value is None or math.isnan(value) else float(value)


class Measured(Real):
    """A number that was measured for certain: NULL is read as NaN, which it was."""

    cache_ok = True

    def process_result_value(self, value: float | None, dialect: sa.Dialect) -> float:
        return math.nan if value is None else value


metadata = sa.MetaData()
_identity = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows only for INTEGER

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)

studies = sa.Table(
    "studies",
    metadata,
    sa.Column("id", _identity, primary_key=True),
    sa.Column("name", sa.String(100), nullable=False, unique=True),
    sa.Column("settings", Json, nullable=False),
    sa.Column("score", Json),
    sa.Column("memo", Json),  # what the driver must remember to resume
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("created_at", sa.String(40), nullable=False),  # UTC, ISO 8601
    sa.Column("updated_at", sa.String(40), nullable=False),
    sa.Column("measures", Json),  # the evaluator's own: a list of name, unit, maximise
)

candidates = sa.Table(
    "candidates",
    metadata,
    sa.Column("id", _identity, primary_key=True),
    sa.Column("study_id", _identity, sa.ForeignKey("studies.id"), nullable=False),
    sa.Column("key", sa.String),  # of the proposal's architecture; NULL where none could be built
    sa.Column("space", sa.String, nullable=False),
    sa.Column("generation", Whole, nullable=False),
    sa.Column("position", Whole),  # in the order of training
    sa.Column("control", sa.Boolean, nullable=False),  # drawn at random, to audit the order
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("choices", Json),
    sa.Column("architecture", Json),
    sa.Column("proxies", Json),  # name → value, higher is better
    sa.Column("attempts", Whole, nullable=False),
    sa.Column("traceback", sa.Text),
    sa.Index("candidates_by_key", "key"),
    sa.Index("candidates_by_generation", "study_id", "generation", "status"),
)

evaluations = sa.Table(
    "evaluations",
    metadata,
    sa.Column("candidate_id", _identity, sa.ForeignKey("candidates.id"), primary_key=True, autoincrement=False),
    sa.Column("fidelity", sa.Double, primary_key=True),
    sa.Column("repeat", Whole, primary_key=True, autoincrement=False),
    sa.Column("epochs", Real),  # epochs, images and seconds are cumulative since the repeat began
    sa.Column("images", Whole),
    sa.Column("seconds", Real),
    sa.Column("realised_key", sa.String, nullable=False),
    sa.Column("architecture", Json),  # NULL where it equals the proposal's
    sa.Column("weights", sa.Text),  # path below the study's files folder
    sa.Index("evaluations_by_key", "realised_key"),
)

points = sa.Table(
    "points",
    metadata,
    sa.Column("candidate_id", _identity, sa.ForeignKey("candidates.id"), primary_key=True, autoincrement=False),
    sa.Column("fidelity", sa.Double, primary_key=True),
    sa.Column("repeat", Whole, primary_key=True, autoincrement=False),
    sa.Column("level", Whole, primary_key=True, autoincrement=False),
    sa.Column("macs", Whole, nullable=False),
    sa.Column("params", Whole, nullable=False),
    sa.Column("latency_ms", Real),
    sa.Column("accuracy", Measured),
    sa.Column("loss", Measured),
    sa.Column("test_accuracy", Real),
    sa.Column("test_loss", Real),
    sa.Column("fine_accuracy", Real),  # these four where labels have a hierarchy
    sa.Column("coarse_accuracy", Real),
    sa.Column("test_fine_accuracy", Real),
    sa.Column("test_coarse_accuracy", Real),
    sa.Column("nonzero_macs", Whole),
)

point_measures = sa.Table(  # the evaluator's own measures of operating points
    "point_measures",
    metadata,
    sa.Column("candidate_id", _identity, sa.ForeignKey("candidates.id"), primary_key=True, autoincrement=False),
    sa.Column("fidelity", sa.Double, primary_key=True),
    sa.Column("repeat", Whole, primary_key=True, autoincrement=False),
    sa.Column("level", Whole, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(60), primary_key=True),
    sa.Column("value", Measured),
)

policies = sa.Table(  # controllers that throttle a trained network
    "policies",
    metadata,
    sa.Column("candidate_id", _identity, sa.ForeignKey("candidates.id"), primary_key=True, autoincrement=False),
    sa.Column("learner", sa.String(20), primary_key=True),
    sa.Column("sees", sa.String(20), primary_key=True),  # the input, or the answer at the smallest utilization
    sa.Column("penalty", sa.Double, primary_key=True),
    sa.Column("utilization", sa.Double, primary_key=True),  # that was asked for; 1 where a controller is free to pick
    sa.Column("controller_macs", Whole, nullable=False),
    sa.Column("macs", Measured),  # mean of an example, the controller's own included, over validation images
    sa.Column("accuracy", Measured),
    sa.Column("test_macs", Real),
    sa.Column("test_accuracy", Real),
)
