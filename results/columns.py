"""Columns of the DataFrames that a store returns: name, type, unit and meaning, for readers, tests and documentation.

The columns of the database's tables are described in :mod:`results.schema`, by ``Column.doc``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from results.measures import BUILT_IN, WHOLE_UNITS, Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameColumn:
    """A column of a DataFrame.

    type: ``text``, ``integer``, ``real``, ``boolean``, ``time`` or ``dict``; integers may be missing (``Int64``).
    unit: empty if the values have none.
    """

    name: str
    type: str
    meaning: str
    unit: str = ""


def _columns(*rows: tuple[str, ...]) -> tuple[FrameColumn, ...]:
    """Columns from name, type, meaning and, if any, unit."""
    return tuple(FrameColumn(name=row[0], type=row[1], meaning=row[2], unit="".join(row[3:])) for row in rows)


def measure_column(measure: Measure) -> FrameColumn:
    """The column of a measure."""
    kind = "integer" if measure.unit in WHOLE_UNITS else "real"
    return FrameColumn(name=measure.name, type=kind, meaning=measure.meaning or measure.name, unit=measure.unit)


MEASURES = tuple(map(measure_column, BUILT_IN))
_BY_NAME = {column.name: column for column in MEASURES}
_STUDY = _columns(("study", "text", "name of the study"))
_CANDIDATE = _columns(("candidate", "text", "key of the proposed architecture"))
_REALISED = _columns(("realised_key", "text", "key of the architecture after training"))
_SPACE = _columns(("space", "text", "search space"))
_LEVEL = _columns(("level", "integer", "number of the operating point, 0 is the smallest"))
_FIDELITY = _columns(("fidelity", "real", "length of the training", "passes over all training images"))
_REPEAT = _columns(("repeat", "integer", "number of the training of the same candidate, from 0"))
_LABELS = (*_STUDY, *_CANDIDATE, *_REALISED, *_SPACE)

FRAMES: dict[str, tuple[FrameColumn, ...]] = {
    "studies": (
        *_STUDY,
        *_columns(
            ("state", "text", "running, finished, interrupted or failed"),
            ("reason", "text", "why it ended"),
            ("candidates", "integer", "number of candidates, rejected proposals included"),
            ("trained", "integer", "number of candidates with results"),
            ("score", "text", "name of the score that the study maximises"),
            ("created_at", "time", "first start", "UTC"),
            ("updated_at", "time", "last change", "UTC"),
        ),
    ),
    "candidates": (
        *_columns(("key", "text", "key of the proposed architecture; missing if none could be built")),
        *_SPACE,
        *_columns(
            ("status", "text", "how far the candidate came"),
            ("reason", "text", "why it was rejected, stopped or failed"),
            ("generation", "integer", "number of the generation, from 0"),
            ("position", "integer", "place in the order of training; missing if not chosen"),
            ("control", "boolean", "drawn at random, to audit the order"),
            ("attempts", "integer", "trainings started after failures"),
            ("proxy_NAME", "real", "score of the proxy NAME, one column per proxy; larger is better"),
            ("fidelity", "real", "largest fidelity reached", "passes over all training images"),
            (
                *("anytime_accuracy", "real"),
                "score of the study at that fidelity, mean over repeats; missing if untrained or not measured",
                "fraction",
            ),
            ("macs_min", "integer", "cost of the smallest operating point", "MACs"),
            ("macs_max", "integer", "cost of the largest operating point", "MACs"),
            ("params_max", "integer", "size of the largest operating point", "parameters"),
            ("seconds", "real", "training and evaluation, summed over repeats", "s"),
            ("choices", "dict", "choice → option"),
        ),
    ),
    "points": (*_LABELS, *_LEVEL, *MEASURES, *_FIDELITY, *_REPEAT),
    "evaluations": (
        *_LABELS,
        *_FIDELITY,
        *_REPEAT,
        *_columns(
            ("epochs", "real", "epochs since the repeat began", "epochs"),
            ("images", "real", "training images seen since the repeat began", "images"),
            ("seconds", "real", "training and evaluation since the repeat began", "s"),
            ("weights", "text", "path of the trained network, below the study's files"),
        ),
    ),
    "policies": (
        *_STUDY,
        *_CANDIDATE,
        *_SPACE,
        *_columns(
            ("learner", "text", "how the controller was trained; gates for a gate policy"),
            ("sees", "text", "input of the controller: the input, or the answer at the smallest utilization"),
            ("penalty", "real", "weight of the cost in the controller's reward"),
            ("utilization", "real", "requested utilization; 1 if the controller is free to choose", "fraction"),
            ("macs", "real", "mean over validation images, the controller's own included", "MACs"),
            ("accuracy", "real", "accuracy on validation images", "fraction"),
            ("test_macs", "real", "mean over test images, the controller's own included", "MACs"),
            ("test_accuracy", "real", "accuracy on test images", "fraction"),
            ("controller_macs", "integer", "cost of the controller", "MACs"),
        ),
    ),
    "front": (
        *(_BY_NAME[name] for name in ("macs", "params", "accuracy", "test_accuracy")),
        *_CANDIDATE,
        *_LEVEL,
        *_STUDY,
        *_SPACE,
        _BY_NAME["latency_ms"],
        *_columns(
            ("accuracy_sd", "real", "standard deviation of accuracy over repeats; missing for one", "fraction"),
            ("repeats", "integer", "number of repeats that the means are of"),
        ),
        *_FIDELITY,
        _BY_NAME["loss"],
        _BY_NAME["test_loss"],
        *_REALISED,
        *(_BY_NAME[name] for name in ("fine_accuracy", "coarse_accuracy", "test_fine_accuracy")),
        *(_BY_NAME[name] for name in ("test_coarse_accuracy", "nonzero_macs")),
    ),
}
"""Method of :class:`results.store.Store` → its columns, in order. An evaluator's own measures follow the built-in ones
in ``points``, and come last in ``front``.
"""


def own_columns(columns: Iterable[str], frame: str) -> list[str]:
    """The columns of the evaluator's own measures among the columns of a frame of FRAMES."""
    return [name for name in columns if name not in names(frame)]


def names(frame: str) -> list[str]:
    """Names of the columns of a frame of FRAMES, in order."""
    return [column.name for column in FRAMES[frame]]
