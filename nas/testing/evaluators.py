"""Checks of evaluators; the contract is :class:`nas.evaluation.evaluator.Evaluator`."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nas.evaluation.evaluator import DataInfo, Evaluator
from nas.evaluation.jobs import Job, Outcome, required_keys
from nas.evaluation.loading import trust_data
from nas.representation.architecture import Architecture, macs, params
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.testing.checks import Check, Subject, global_randomness_untouched, has_docstring, named, require, run_all
from nas.workers.outcome_checks import checked_outcome
from results.measures import Measure, check_declaration

DATA = "synthetic:n=120,classes=3,size=8,channels=1"
"""Data of the checks, a specification as in ``nas data``."""
EPOCHS = 2
SPACE, CHOICES = "sample", {"width": 8}
"""Space and choices of the jobs of the checks."""
VARYING = ("latency_ms",)
"""Measures of the machine, which differ between equal jobs."""


def evaluator_checks(
    evaluator: Any, data: str = DATA, *, varying: Sequence[str] = VARYING, **settings: Any
) -> list[Check]:
    """The checks of an evaluator, for use as test parameters. They train a network of two layers a few times.

    Parameters
    ----------
    evaluator : type or str
        A subclass of :class:`nas.evaluation.evaluator.Evaluator`, or its name or ``file.py:Name``. One that reads a
        file receives it as the setting ``file``. One whose trainings are free must know the trainings of the checks:
        space :data:`SPACE`, choices :data:`CHOICES`, 1 and 2 epochs.
    data : str
        Small data, as the evaluator takes them.
    varying : sequence of str
        Names of measures that differ between equal jobs, such as latency.
    **settings
        Further settings of the evaluator.

    Returns
    -------
    list of (str, callable)
        Name and function of each check. The function takes no arguments and raises PluginError if the check fails.
    """
    trust_data(data)
    return named(_CHECKS, _Tested(Subject(evaluator, "nas.evaluators"), data, settings, varying))


def check_evaluator(evaluator: Any, data: str = DATA, *, varying: Sequence[str] = VARYING, **settings: Any) -> None:
    """Run all checks of an evaluator.

    Parameters
    ----------
    evaluator, data, varying, **settings
        As in :func:`evaluator_checks`.

    Raises
    ------
    PluginError
        At the first check that fails.
    """
    run_all(evaluator_checks(evaluator, data, varying=varying, **settings))


@dataclass(frozen=True)
class _Tested:
    """An evaluator under test, with its data and settings."""

    subject: Subject
    data: str
    settings: Mapping[str, Any]
    varying: Sequence[str]

    @property
    def evaluator(self) -> type[Evaluator]:
        return self.subject.load()

    def new(self, data: str | None = None) -> Evaluator:
        """A new object, as a worker makes it."""
        return self.evaluator(self.data if data is None else data, device="cpu", **self.settings)

    @cached_property
    def info(self) -> DataInfo:
        return self.new().info()

    @cached_property
    def architecture(self) -> Architecture:
        return sample_architecture(self.info.task)

    @contextmanager
    def job(self, **changes: Any) -> Iterator[Job]:
        """A job of the whole schedule, with a folder that exists inside the context."""
        with tempfile.TemporaryDirectory() as folder:
            job = Job(
                candidate=1,
                architecture=self.architecture.to_json(),
                seed=1,
                epochs=EPOCHS,
                until=EPOCHS,
                images=None,
                folder=folder,
                test=True,
                space=SPACE,
                choices=dict(CHOICES),
            )
            yield replace(job, **changes)

    def evaluate(self, job: Job, evaluator: Evaluator | None = None) -> tuple[Outcome, list[int]]:
        """The outcome of a job, and the reported epochs."""
        reported: list[int] = []
        outcome = (evaluator or self.new()).evaluate(job, reported.append)
        return checked_outcome(job, outcome, self.evaluator.measures), reported

    def points(self, outcome: Outcome) -> list[dict[str, Any]]:
        """The measured points without measures that differ between equal jobs."""
        return [{name: value for name, value in point.items() if name not in self.varying} for point in outcome.points]

    def __str__(self) -> str:
        return str(self.subject)


def sample_architecture(task: Task) -> Architecture:
    """Two convolutions and a classifier, with two operating points."""
    builder = Builder(task)
    x = builder.conv(builder.input, (4, 8), after=("norm", "relu"))
    builder.head(builder.conv(x, (4, 8), after=("norm", "relu")))
    return builder.architecture(points=2)


def _docstring(tested: _Tested) -> None:
    has_docstring(tested.evaluator)


def _is_an_evaluator(tested: _Tested) -> None:
    good = isinstance(tested.evaluator, type) and issubclass(tested.evaluator, Evaluator)
    require(good, f"An evaluator must be a subclass of nas.Evaluator. Got {tested.evaluator!r}.")


def _declares_measures(tested: _Tested) -> None:
    measures = getattr(tested.evaluator, "measures", None)
    good = isinstance(measures, tuple) and all(isinstance(measure, Measure) for measure in measures)
    require(good, f"measures must be a tuple of Measure. Got {measures!r}.")
    check_declaration(measures or ())


def _loads_data_on_use(tested: _Tested) -> None:
    try:
        tested.new("npz:/this/file/does/not/exist.npz")
    except Exception as error:
        require(False, f"Construction must not load data, and no such file exists here. It raised {error!r}.")


def _info(tested: _Tested) -> None:
    info, again = tested.info, tested.new().info()
    require(isinstance(info, DataInfo), f"info must return a DataInfo. Got {type(info).__name__}.")
    require(info == again, "info must be equal for equal data. It differed between two objects.")
    require(0 <= info.floor <= 1, f"floor must be a fraction. Got {info.floor}.")
    counts = (info.train_images, info.validation_images, info.test_images)
    require(min(counts) > 0, f"There must be training, validation and test images. Got {counts}.")
    require(info.fingerprint, "fingerprint must identify the data. Got an empty text.")


def _shares_its_data(tested: _Tested) -> None:
    data = tested.new().data_in_memory()
    if data is None:
        return
    settings = {name: value for name, value in tested.settings.items() if name not in ("layout", "hierarchy")}
    try:
        copy = pickle.loads(pickle.dumps(data))
        info = tested.evaluator(copy, device="cpu", **settings).info()
    except Exception as error:
        require(False, f"data_in_memory must return data that pickle and the constructor accept. Got {error!r}.")
    require(info == tested.info, "An evaluator with its data in memory must have the same info. It differs.")


def _required_keys(tested: _Tested) -> None:
    for test in (False, True):
        with tested.job(test=test) as job:
            points = tested.new().evaluate(job, lambda epoch: None).points
        for point in points:
            required = required_keys(tested.evaluator.measures, test=test)
            missing = [name for name in required if name not in point]
            require(
                not missing, f"A point must have {', '.join(required)} with {test=}. Missing: {', '.join(missing)}."
            )


def _outcome(tested: _Tested) -> None:
    with tested.job() as job:
        outcome, _ = tested.evaluate(job)
    require(outcome.epochs == job.until, f"Outcome.epochs must be {job.until}. Got {outcome.epochs}.")
    back = Outcome(**json.loads(json.dumps(outcome.to_json(), allow_nan=False)))
    require(back == outcome, "The outcome must be plain, finite JSON data. It is not.")


def _costs(tested: _Tested) -> None:
    with tested.job() as job:
        outcome, _ = tested.evaluate(job)
    measured = tested.architecture if outcome.realised is None else Architecture.from_json(outcome.realised)
    for name, expected in (("macs", macs(measured)), ("params", params(measured))):
        actual = tuple(point[name] for point in outcome.points)
        require(actual == tuple(expected), f"Points must have the architecture's {name}, {expected}. Got {actual}.")


def _test_images_only_on_request(tested: _Tested) -> None:
    with tested.job(test=False) as job:
        outcome, _ = tested.evaluate(job)
    names = sorted(name for name in outcome.points[0] if name.startswith("test_"))
    require(not names, f"Test images must be measured only if the job requests it. Got {', '.join(names)}.")


def _uses_the_images_of_the_job(tested: _Tested) -> None:
    if tested.evaluator.free:  # its jobs use all images
        return
    images = tested.info.train_images // 2
    with tested.job(images=images) as job:
        outcome, _ = tested.evaluate(job)
    require(outcome.images <= images, f"A job with {images} images must use no more. Got {outcome.images}.")


def _images_are_of_an_epoch(tested: _Tested) -> None:
    with tested.job() as job:
        counts = [tested.evaluate(replace(job, until=until))[0].images for until in (1, EPOCHS)]
    good = counts[0] == counts[1] and 1 <= counts[0] <= tested.info.train_images
    require(
        good,
        f"Outcome.images must be the number of images of an epoch, 1 to {tested.info.train_images}, also after several "
        f"epochs. Got {counts[0]} after 1 epoch and {counts[1]} after {EPOCHS}.",
    )


def _reports_epochs(tested: _Tested) -> None:
    with tested.job() as job:
        _, reported = tested.evaluate(job)
    expected = list(range(1, EPOCHS + 1))
    require(reported == expected, f"Every epoch must be reported once, {expected}. Got {reported}.")


def _deterministic(tested: _Tested) -> None:
    with tested.job() as one, tested.job() as two:
        first, second = (tested.evaluate(job)[0] for job in (one, two))
    require(
        tested.points(first) == tested.points(second),
        "Equal jobs must have equal outcomes. They differ for two new objects.",
    )


def _objects_keep_no_state(tested: _Tested) -> None:
    evaluator = tested.new()
    with tested.job(seed=2) as other, tested.job() as one, tested.job() as two:
        tested.evaluate(other, evaluator)
        first, second = tested.evaluate(one, evaluator)[0], tested.evaluate(two)[0]
    require(
        tested.points(first) == tested.points(second), "An earlier job must not change the outcome of a job. It does."
    )


def _continues(tested: _Tested) -> None:
    with tested.job() as whole, tested.job() as parts:
        expected, _ = tested.evaluate(whole)
        tested.evaluate(replace(parts, until=1))
        continued, _ = tested.evaluate(parts)
        again, _ = tested.evaluate(parts)
    same = tested.points(continued) == tested.points(expected)
    require(same, "A job in two parts must have the outcome of one job. It differs after 1 epoch and the rest.")
    require(
        tested.points(again) == tested.points(expected), "A finished job that is repeated must have the same outcome."
    )


def _saves_the_network(tested: _Tested) -> None:
    from nas.execution.network import AnytimeNetwork

    with tested.job(until=1) as job:
        early, _ = tested.evaluate(job)
        require(not early.saved, "A network must be saved only after the whole schedule. Got saved=True before.")
    with tested.job() as job:
        outcome, _ = tested.evaluate(job)
        if outcome.saved:
            saved, expected = AnytimeNetwork.load(job.folder).macs, tuple(p["macs"] for p in outcome.points)
            require(saved == expected, f"The saved network must have the measured points, {expected}. Got {saved}.")


def _discards(tested: _Tested) -> None:
    evaluator = tested.new()
    with tested.job() as job:
        tested.evaluate(job, evaluator)
        evaluator.discard(job.folder)
        left = Path(job.folder, evaluator.checkpoint).exists()
        evaluator.discard(job.folder)
    require(not left, f"discard must remove the checkpoint. {evaluator.checkpoint} is still there.")


def _full_epochs(tested: _Tested) -> None:
    if tested.evaluator.free:
        epochs = tested.new().full_epochs()
        require(
            type(epochs) is int and epochs >= 1, f"full_epochs must be a whole number of at least 1. Got {epochs!r}."
        )


def _global_randomness(tested: _Tested) -> None:
    with tested.job() as job, global_randomness_untouched():
        tested.evaluate(job)


_CHECKS = (
    _docstring,
    _is_an_evaluator,
    _declares_measures,
    _loads_data_on_use,
    _info,
    _shares_its_data,
    _required_keys,
    _outcome,
    _costs,
    _test_images_only_on_request,
    _uses_the_images_of_the_job,
    _images_are_of_an_epoch,
    _reports_epochs,
    _deterministic,
    _objects_keep_no_state,
    _continues,
    _saves_the_network,
    _discards,
    _full_epochs,
    _global_randomness,
)
