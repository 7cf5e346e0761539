"""Measures of operating points: the name, unit and direction of each, defined once.

The built-in measures are columns of the table ``points``. An evaluator declares the measures that it returns: built-in
ones, and measures of its own, which are stored in the table ``point_measures`` and shown beside the built-in ones.
Plain data: no third-party package is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from results.errors import StoreError

METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1 score",
    "top5": "top-5 accuracy",
}
"""Metrics of the accuracies of a study, in words."""


def metric_in_words(metric: str) -> str:
    """A metric in words; the name of an evaluator's own metric stays as it is."""
    return METRICS.get(metric, metric)


WHOLE_UNITS = frozenset({"MACs", "parameters"})
"""Units of built-in measures that are whole numbers."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A quantity that an evaluator measures at every operating point.

    Parameters
    ----------
    name : str
        Key in the evaluator's points, column in the DataFrames: up to 60 lower-case letters, digits and underscores.
        A measure named ``test_…`` is measured on the test images.
    unit : str
        Unit of the values; values in the unit ``"fraction"`` lie between 0 and 1.
    maximise : bool
        Whether larger is better. A measure that is minimised can be the cost of a front.
    meaning : str
        A phrase for axes and documentation.
    required : bool
        Whether every point must hold it; if it is measured on test images, every point of a job with ``test``.

    Examples
    --------
    >>> Measure(name="energy_mj", unit="mJ", maximise=False, meaning="energy per input").label
    'energy per input (mJ)'
    """

    name: str
    unit: str
    maximise: bool
    meaning: str = ""
    required: bool = True

    @property
    def label(self) -> str:
        """Meaning and unit, as on an axis."""
        meaning = self.meaning or self.name
        return meaning if self.unit in ("", meaning) else f"{meaning} ({self.unit})"

    @property
    def needs_test(self) -> bool:
        """Whether it is measured on the test images."""
        return self.name.startswith("test_")

    def to_json(self) -> dict[str, Any]:
        """The measure as plain JSON data, the inverse of ``Measure(**data)``.

        Returns
        -------
        dict
        """
        return asdict(self)


def _accuracy(name: str, meaning: str, *, required: bool = False) -> Measure:
    return Measure(name=name, unit="fraction", maximise=True, meaning=meaning, required=required)


BUILT_IN = (
    Measure(name="macs", unit="MACs", maximise=False, meaning="multiply-accumulates per input"),
    Measure(name="params", unit="parameters", maximise=False, meaning="parameters"),
    Measure(name="latency_ms", unit="ms", maximise=False, meaning="latency", required=False),
    _accuracy("accuracy", "accuracy on validation images", required=True),
    Measure(name="loss", unit="nats", maximise=False, meaning="cross-entropy on validation images"),
    _accuracy("test_accuracy", "accuracy on test images", required=True),
    Measure(name="test_loss", unit="nats", maximise=False, meaning="cross-entropy on test images", required=False),
    _accuracy("fine_accuracy", "accuracy of fine labels on validation images, if labels have a hierarchy"),
    _accuracy("coarse_accuracy", "accuracy of coarse labels on validation images, if labels have a hierarchy"),
    _accuracy("test_fine_accuracy", "accuracy of fine labels on test images, if labels have a hierarchy"),
    _accuracy("test_coarse_accuracy", "accuracy of coarse labels on test images, if labels have a hierarchy"),
    Measure(
        name="nonzero_macs",
        unit="MACs",
        maximise=False,
        meaning="multiply-accumulates of non-zero weights per input",
        required=False,
    ),
)
"""The measures that have a column in the table ``points``, in its order."""

COSTS = ("macs", "params", "latency_ms", "nonzero_macs")
"""Built-in measures that can be the cost of a front."""
HIERARCHY = ("fine_accuracy", "coarse_accuracy", "test_fine_accuracy", "test_coarse_accuracy")
"""Built-in measures of labels with a hierarchy; ``accuracy`` is then the mean over the labellings."""
MUST_BE_DECLARED = ("accuracy", "loss", "test_accuracy")
"""Built-in measures that every evaluator returns."""
LABELS = (
    *("study", "candidate", "candidate_id", "realised_key", "space", "level", "fidelity", "repeat"),
    *("reference", "repeats", "accuracy_sd", "data", "name", "value", "id"),
)
"""Columns beside the measures: names that no measure may have."""

_BY_NAME = {measure.name: measure for measure in BUILT_IN}


def built_in(*names: str) -> tuple[Measure, ...]:
    """The built-in measures of these names, for the declaration of an evaluator.

    Parameters
    ----------
    *names : str

    Returns
    -------
    tuple of Measure

    Raises
    ------
    StoreError
        If there is no built-in measure of a name.

    Examples
    --------
    >>> [measure.unit for measure in built_in("accuracy", "loss")]
    ['fraction', 'nats']
    """
    for name in names:
        if name not in _BY_NAME:
            raise StoreError(f"A built-in measure must be one of {', '.join(_BY_NAME)}. Got {name!r}.")
    return tuple(_BY_NAME[name] for name in names)


def own_measures(declared: Iterable[Measure]) -> tuple[Measure, ...]:
    """The declared measures that are not built in, after a check of the whole declaration.

    Raises
    ------
    StoreError
        For a name that is invalid, declared twice or a column of the store, and for a built-in measure in another unit
        or direction.
    """
    own: dict[str, Measure] = {}
    names: set[str] = set()
    for measure in declared:
        if not isinstance(measure, Measure):
            raise StoreError(f"Each declared measure must be a Measure. Got {measure!r}.")
        name = measure.name
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise StoreError(
                "A measure's name must be 1 to 60 lower-case letters, digits and underscores, beginning with a letter. "
                f"Got {name!r}."
            )
        if name in names:
            raise StoreError(f"A measure must be declared once. Got {name!r} twice.")
        if name in LABELS:
            raise StoreError(f"A measure's name must not be a column of the store. Got {name!r}: rename it.")
        names.add(name)
        if name not in _BY_NAME:
            own[name] = measure
        elif (measure.unit, measure.maximise) != (_BY_NAME[name].unit, _BY_NAME[name].maximise):
            unit, maximise = _BY_NAME[name].unit, _BY_NAME[name].maximise
            raise StoreError(
                f"The built-in measure {name!r} has {unit=} and {maximise=}. Got unit={measure.unit!r} and "
                f"maximise={measure.maximise!r}: declare it with built_in({name!r}), or rename yours."
            )
    return tuple(own.values())


def check_declaration(declared: Iterable[Measure]) -> None:
    """Check the measures of an evaluator before anything is trained.

    Raises
    ------
    StoreError
        As :func:`own_measures`, and if accuracy, loss or test_accuracy is missing.
    """
    declared = tuple(declared)
    own_measures(declared)
    names = [measure.name for measure in declared]
    if missing := [name for name in MUST_BE_DECLARED if name not in names]:
        raise StoreError(
            f"An evaluator must declare the measures {', '.join(MUST_BE_DECLARED)}. Missing: {', '.join(missing)}."
        )


def check_cost(cost: str, measures: Iterable[Measure] = BUILT_IN) -> None:
    """Raise StoreError unless ``cost`` is a built-in cost or a minimised measure of the evaluator in ``measures``."""
    own = (measure.name for measure in measures if measure.name not in _BY_NAME and not measure.maximise)
    if cost not in (valid := (*COSTS, *own)):
        raise StoreError(f"A cost must be one of {', '.join(valid)}. Got {cost!r}.")


def joined_limits(
    limits: Mapping[str, float] | None, max_macs: float | None, max_params: float | None
) -> dict[str, float]:
    """All limits of a front by measure."""
    bounds = dict(limits or {})
    for name, bound in (("macs", max_macs), ("params", max_params)):
        if bound is not None:
            bounds[name] = min(bound, bounds.get(name, bound))
    return bounds
