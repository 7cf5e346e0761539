"""Checks of the outcomes that evaluators return, in the worker, before the driver stores them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nas.errors import EnvironmentFault
from nas.evaluation.jobs import Job, Outcome, required_keys

if TYPE_CHECKING:
    from results.measures import Measure


def checked_outcome(job: Job, outcome: Any, measures: Sequence[Measure]) -> Outcome:
    """Check that the store can hold the outcome of a job.

    Parameters
    ----------
    job
        The job of the evaluator.
    outcome
        The value that the evaluator returned.
    measures
        Declared by the evaluator; an outcome holds no others.

    Returns
    -------
    Outcome
        The same object.

    Raises
    ------
    EnvironmentFault
        If points have other keys than the evaluator's measures declare, which no candidate causes.
    TypeError, ValueError
        With the requirement and the value received.
    """
    if not isinstance(outcome, Outcome):
        raise TypeError(f"An evaluator must return an Outcome. Got {type(outcome).__name__}.")
    proposed = job.parsed_architecture
    levels = len(proposed.points)
    realised = outcome.parsed_realised
    if realised is not None and (realised.task != proposed.task or len(realised.points) != levels):
        raise ValueError(f"A realised architecture must be for the same task, with the same {levels} points.")
    _check_points(outcome.points, levels, measures, test=job.test)
    if not (_is_integer(outcome.epochs) and _is_integer(outcome.images) and _is_duration(outcome.seconds)):
        raise ValueError(
            "An Outcome must have whole epochs and images, and seconds. "
            f"Got {outcome.epochs!r}, {outcome.images!r} and {outcome.seconds!r}."
        )
    return outcome


def _check_points(points: Any, levels: int, measures: Sequence[Measure], *, test: bool) -> None:
    """Raise TypeError or ValueError unless there is a valid point for every level."""
    if not (isinstance(points, list) and all(isinstance(point, dict) for point in points)):
        raise TypeError(f"Outcome.points must be a list of dicts. Got {points!s:.200}")
    numbers = [point.get("level") for point in points]
    if numbers != list(range(levels)):
        raise ValueError(f"Outcome.points must be of the levels 0 to {levels - 1}, in order. Got levels {numbers}.")
    for point in points:
        _check_names(point, measures, test=test)
        _check_values(point, measures)


def _check_names(point: dict[str, Any], measures: Sequence[Measure], *, test: bool) -> None:
    """Raise EnvironmentFault unless a point has exactly the measures that the evaluator declares."""
    required = required_keys(measures, test=test)
    optional = [m.name for m in measures if m.name not in required]
    missing = [name for name in required if name not in point]
    unknown = [name for name in point if name not in (*required, *optional)]
    if missing or unknown:
        raise EnvironmentFault(
            f"A point must have {', '.join(required)}{', and may have ' * bool(optional)}{', '.join(optional)}, as the "
            f"evaluator's measures declare. Got unknown {unknown}, missing {missing}. Correct the evaluator: "
            "nas.testing.check_evaluator checks it."
        )


def _check_values(point: dict[str, Any], measures: Sequence[Measure]) -> None:
    """Raise TypeError or ValueError unless costs are whole, measures numbers, and fractions in [0, 1] or NaN."""
    cost, size = point["macs"], point["params"]
    if not (_is_integer(cost) and _is_integer(size) and cost > 0 and size >= 0):
        raise ValueError(f"macs and params must be whole and positive. Got {cost!r} and {size!r}.")
    for measure in measures:
        if measure.name not in point:
            continue
        value = point[measure.name]
        if not _is_number(value):
            raise TypeError(f"{measure.name} must be a number. Got {value!s:.200}")
        if measure.unit == "fraction" and not (math.isnan(value) or 0 <= value <= 1):
            raise ValueError(f"{measure.name} must be a fraction between 0 and 1. Got {value}.")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_duration(value: Any) -> bool:
    return _is_number(value) and value >= 0
