"""Tables of the results store, as SQLAlchemy Core; one definition for SQLite and PostgreSQL.

``Table.info["doc"]`` and ``Column.doc`` describe tables and columns, ``Column.info["unit"]`` is the unit of the values;
:mod:`results.columns` and the documentation read them here. The columns of measures come from :mod:`results.measures`.
A change of a table needs an upgrade in :mod:`results.migrations`.
"""

from __future__ import annotations

import json
import math
from typing import Any

import sqlalchemy as sa

from results.errors import StoreError
from results.measures import BUILT_IN, WHOLE_UNITS, Measure
from results.text import clean_text

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
        raise StoreError(f"Stored values must be plain JSON data: {error}. Got {value!r:.200}.") from error
    except ValueError:
        return _encode_slowly(value)


class Text(sa.types.TypeDecorator[str]):
    """Text of any origin, such as a message of a plug-in, cleaned by :func:`results.text.clean_text`."""

    impl: Any = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Convert a value for the database."""
        return None if value is None else clean_text(value)


class Name(Text):
    """Short text, such as a name or a key, cleaned alike."""

    impl = sa.String
    cache_ok = True


class ExactText(Text):
    """Text that names a file, so that a cleaned copy would name another one: it is refused if it is not clean."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Convert a value for the database. Raises StoreError for NUL and lone surrogates."""
        if value is not None and clean_text(value) != value:
            raise StoreError(f"The path of stored files must be valid UTF-8. Got {clean_text(value)}: rename it.")
        return value


class Json(sa.types.TypeDecorator[Any]):
    """JSON as text, so that both databases store the same; None is NULL."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Convert a value for the database."""
        return None if value is None else to_json(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        """Convert a value from the database."""
        return None if value is None else json.loads(value)


class Whole(sa.types.TypeDecorator[int]):
    """An integer; NumPy integers are converted, because SQLite rejects them."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> int | None:
        """Convert a value for the database."""
        return None if value is None else int(value)


class Real(sa.types.TypeDecorator[float]):
    """A number in double precision; NaN is stored as NULL, and NULL is read as None."""

    impl = sa.Double
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> float | None:
        """Convert a value for the database."""
        return None if value is None or math.isnan(value) else float(value)


class Measured(Real):
    """A number that is always measured: NULL is read as NaN."""

    cache_ok = True

    def process_result_value(self, value: float | None, dialect: sa.Dialect) -> float:
        """Convert a value from the database."""
        return math.nan if value is None else value


metadata = sa.MetaData()
_identity = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows only for INTEGER


PASSES = "passes over all training images"
_REPEAT = "Number of the training of the same candidate, from 0."


def _unit(unit: str) -> dict[str, str]:
    """The unit of a column, as its ``info``."""
    return {"unit": unit}


def _owner(doc: str) -> sa.Column[Any]:
    """The id of the candidate that a row belongs to."""
    owner = sa.ForeignKey("candidates.id")
    return sa.Column("candidate_id", _identity, owner, primary_key=True, autoincrement=False, doc=doc)


def _training() -> tuple[sa.Column[Any], ...]:
    """The columns that identify a training: candidate, fidelity and repeat."""
    return (
        _owner("Candidate that was trained."),
        sa.Column("fidelity", sa.Double, primary_key=True, doc="Length of the training.", info=_unit(PASSES)),
        sa.Column("repeat", Whole, primary_key=True, autoincrement=False, doc=_REPEAT),
    )


def _level() -> sa.Column[Any]:
    doc = "Number of the operating point, 0 is the smallest."
    return sa.Column("level", Whole, primary_key=True, autoincrement=False, doc=doc)


def _measure_column(measure: Measure) -> sa.Column[Any]:
    """A column of the table ``points``; accuracy and loss are always measured, so that NULL is NaN."""
    doc = f"{measure.meaning[0].upper()}{measure.meaning[1:]}."
    if measure.unit in WHOLE_UNITS:
        return sa.Column(measure.name, Whole, nullable=not measure.required, doc=doc, info=_unit(measure.unit))
    always = measure.required and not measure.needs_test
    return sa.Column(measure.name, Measured if always else Real, doc=doc, info=_unit(measure.unit))


meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", Name, primary_key=True, doc="Name of an entry: schema_version."),
    sa.Column("value", Name, nullable=False, doc="Its value."),
    info={"doc": "Facts about the store."},
)

studies = sa.Table(
    "studies",
    metadata,
    sa.Column("id", _identity, primary_key=True, doc="Number of the study."),
    sa.Column("name", Name(100), nullable=False, unique=True, doc="Name of the study."),
    sa.Column("settings", Json, nullable=False, doc="Settings that the study was started with, by name."),
    sa.Column("score", Json, doc="Score that the study maximises: low, high, floor, cost, split."),
    sa.Column("memo", Json, doc="State that the driver needs to resume."),
    sa.Column("state", Name(20), nullable=False, doc=f"One of {', '.join(STATES)}."),
    sa.Column("reason", Text, doc="Why the study ended."),
    sa.Column("created_at", Name(40), nullable=False, doc="First start.", info=_unit("UTC")),
    sa.Column("updated_at", Name(40), nullable=False, doc="Last change.", info=_unit("UTC")),
    sa.Column("measures", Json, doc="The evaluator's own measures: list of name, unit, maximise, meaning, required."),
    sa.Column("identity", Name(32), doc="Random text that names the study, also in its folder of files."),
    sa.Column(
        "folder", ExactText, doc="Absolute path or URL of the study's files; NULL if they are beside the database."
    ),
    sa.Column("activity", Json, doc="Nodes and trainings of a run, as its process last wrote; NULL after its end."),
    info={"doc": "One row per study; times are in ISO 8601."},
)

candidates = sa.Table(  # long columns last, because SQLite reads a row from its start
    "candidates",
    metadata,
    sa.Column("id", _identity, primary_key=True, doc="Number of the candidate."),
    sa.Column("study_id", _identity, sa.ForeignKey("studies.id"), nullable=False, doc="Study that proposed it."),
    sa.Column("key", Name, doc="Key of the proposed architecture; NULL if none could be built."),
    sa.Column("space", Name, nullable=False, doc="Search space."),
    sa.Column("generation", Whole, nullable=False, doc="Number of the generation, from 0."),
    sa.Column("position", Whole, doc="Place in the order of training; NULL if not chosen."),
    sa.Column("control", sa.Boolean, nullable=False, doc="Drawn at random, to audit the order."),
    sa.Column("reference", Name, doc="Design and size of the reference architecture; NULL for other candidates."),
    sa.Column("status", Name(20), nullable=False, doc=f"One of {', '.join(STATUSES)}."),
    sa.Column("attempts", Whole, nullable=False, doc="Trainings started after failures."),
    sa.Column("reason", Text, doc="Why it was rejected, stopped or failed."),
    sa.Column("proxies", Json, doc="Proxy → score, larger is better."),
    sa.Column("choices", Json, doc="Choice → option."),
    sa.Column("traceback", Text, doc="Traceback of the last failure."),
    sa.Column("architecture", Json, doc="Proposed architecture; NULL if not chosen for training."),
    sa.Index("candidates_by_key", "key"),
    sa.Index("candidates_by_study", "study_id", "id"),
    sa.Index("candidates_by_status", "study_id", "status"),
    sa.Index("candidates_by_generation", "study_id", "generation", "status"),
    info={"doc": "One row per candidate, rejected proposals included."},
)

evaluations = sa.Table(
    "evaluations",
    metadata,
    *_training(),
    sa.Column("epochs", Real, doc="Epochs since the repeat began.", info=_unit("epochs")),
    sa.Column("images", Whole, doc="Training images of an epoch.", info=_unit("images")),
    sa.Column("seconds", Real, doc="Training and evaluation since the repeat began.", info=_unit("s")),
    sa.Column("realised_key", Name, nullable=False, doc="Key of the architecture after training."),
    sa.Column("score", Real, doc="Score of the study over the points; NULL if a cost or test accuracy is missing."),
    sa.Column("evaluated_at", Name(40), doc="Its end; NULL if an older version made it.", info=_unit("UTC")),
    sa.Column("architecture", Json, doc="Architecture after training; NULL if it equals the proposed one."),
    sa.Column("weights", ExactText, doc="Path of the trained network, below the study's files."),
    sa.Index("evaluations_by_key", "realised_key"),
    info={"doc": "One row per candidate, fidelity and repeat."},
)

points = sa.Table(
    "points",
    metadata,
    *_training(),
    _level(),
    *map(_measure_column, BUILT_IN),
    info={"doc": "One row per candidate, fidelity, repeat and operating point."},
)

point_measures = sa.Table(
    "point_measures",
    metadata,
    *_training(),
    _level(),
    sa.Column("name", Name(60), primary_key=True, doc="Name of the measure, as the evaluator declares it."),
    sa.Column("value", Measured, doc="Value in the unit that the evaluator declares; NULL is NaN."),
    info={"doc": "The evaluator's own measures of operating points, one row per value."},
)

transferred = sa.Table(
    "transferred",
    metadata,
    sa.Column(
        "study_id",
        _identity,
        sa.ForeignKey("studies.id"),
        primary_key=True,
        autoincrement=False,
        doc="Study that started from these candidates.",
    ),
    sa.Column("place", Whole, primary_key=True, autoincrement=False, doc="Place in the order of training, from 0."),
    sa.Column("origin", Name(100), nullable=False, doc="Name of the study that trained it."),
    sa.Column("key", Name, nullable=False, doc="Key of the architecture."),
    sa.Column("space", Name, nullable=False, doc="Search space."),
    sa.Column("status", Name(20), nullable=False, doc="stopped or finished."),
    sa.Column("generation", Whole, nullable=False, doc="Number of the generation in that study, from 0."),
    sa.Column("anytime_accuracy", Measured, doc="Score at the last rung that it reached.", info=_unit("fraction")),
    sa.Column("rungs", Json, nullable=False, doc="Epochs and score at each rung that it reached: list of pairs."),
    sa.Column("proxies", Json, nullable=False, doc="Proxy → score, larger is better."),
    sa.Column("choices", Json, nullable=False, doc="Choice → option."),
    sa.Column("architecture", Json, nullable=False, doc="The architecture."),
    info={"doc": "Trained candidates of the study that a study started from, as they were at its start."},
)

policies = sa.Table(
    "policies",
    metadata,
    _owner("Candidate whose network is throttled."),
    sa.Column("learner", Name(20), primary_key=True, doc="How the controller was trained; gates: a gate policy."),
    sa.Column(
        "sees",
        Name(20),
        primary_key=True,
        doc="Input of the controller: the input, or the answer at the smallest utilization.",
    ),
    sa.Column("penalty", sa.Double, primary_key=True, doc="Weight of the cost in the controller's reward."),
    sa.Column(
        "utilization",
        sa.Double,
        primary_key=True,
        doc="Requested utilization; 1 if the controller is free to choose.",
        info=_unit("fraction"),
    ),
    sa.Column("controller_macs", Whole, nullable=False, doc="Cost of the controller.", info=_unit("MACs")),
    sa.Column("macs", Measured, doc="Mean over validation images, the controller's own included.", info=_unit("MACs")),
    sa.Column("accuracy", Measured, doc="Accuracy on validation images.", info=_unit("fraction")),
    sa.Column("test_macs", Real, doc="Mean over test images, the controller's own included.", info=_unit("MACs")),
    sa.Column("test_accuracy", Real, doc="Accuracy on test images.", info=_unit("fraction")),
    info={"doc": "One row per controller that throttles a trained network."},
)
