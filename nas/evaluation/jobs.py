"""Jobs and outcomes: the plain data that the driver and the workers exchange."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from nas.representation.architecture import Architecture

if TYPE_CHECKING:
    from results.measures import Measure


class Stage(NamedTuple):
    """A part of a training with epochs of equal length, in which the learning rate follows a part of its schedule.

    The schedule is that of the recipe, by default a warm-up and half a cosine to zero. A stage from 0 to 1 passes
    through all of it, so that stages after each other are warm restarts.

    Attributes
    ----------
    end : int
        Epochs of the whole training at the end of the stage.
    images : int or None
        Training images of an epoch; None: all.
    start, stop : float
        Share of the schedule that has passed at the beginning and at the end of the stage.

    References
    ----------
    Loshchilov & Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, ICLR 2017.
    """

    end: int
    images: int | None
    start: float = 0.0
    stop: float = 1.0


def images_seen(stages: Iterable[Stage], until: int, train_images: int) -> int:
    """Training images seen after an epoch.

    Parameters
    ----------
    stages
        Of the training, in order.
    until
        The epoch.
    train_images
        Number of all training images.

    Returns
    -------
    int

    Examples
    --------
    >>> images_seen([Stage(2, 10), Stage(5, None)], 3, 100)
    120
    """
    total = begin = 0
    for stage in stages:
        images = train_images if stage.images is None else min(stage.images, train_images)
        total += max(0, min(until, stage.end) - begin) * images
        begin = stage.end
    return total


@dataclass(frozen=True, kw_only=True)
class Job:
    """One stretch of training, followed by a measurement.

    Parameters
    ----------
    candidate
        Id of the candidate in the store.
    architecture
        As JSON; :attr:`parsed_architecture` is the object.
    seed
        Determines all random numbers of this training.
    epochs
        Length of the training.
    until
        Last epoch of this stretch.
    images
        Training images of an epoch, in the last stage; None: all.
    folder
        Absolute path for the checkpoint and the trained network. Evaluators receive a folder of their machine also with
        ``--files URL``; the driver has the URL.
    test
        Whether to measure on the test images too.
    selection
        Settings of the final search after training, as keywords of
        :class:`nas.evaluation.operating_points.SelectionSettings`; None: no final search.
    save
        Whether to save the network although the schedule has not ended.
    space
        Name of the search space; empty if the architecture was not proposed.
    choices
        Choices of the proposal by the names that the space gave them.
    stages
        Stages of the training, as lists of the fields of :class:`Stage`, if the evaluator says that it ``continues``
        trainings of this architecture. Empty: one stage of ``epochs`` epochs.
    measured_images
        Validation images to measure on, at most; None: all.
    threads
        Threads on a CPU; None: as the evaluator was constructed.
    weights
        Folder of a network of this architecture, whose weights the training starts from; empty: new weights. Only for
        an evaluator that says that it ``starts_from_weights``.
    """

    candidate: int
    architecture: dict[str, Any]
    seed: int
    epochs: int
    until: int
    images: int | None
    folder: str
    test: bool = False
    selection: dict[str, Any] | None = None
    save: bool = False
    space: str = ""
    choices: dict[str, Any] = field(default_factory=dict)
    stages: list[list[Any]] = field(default_factory=list)
    measured_images: int | None = None
    threads: int | None = None
    weights: str = ""

    @property
    def all_stages(self) -> tuple[Stage, ...]:
        """The stages of the training, at least one."""
        return tuple(Stage(*stage) for stage in self.stages) or (Stage(self.epochs, self.images),)

    @property
    def key(self) -> str:
        """Content hash of the architecture, which identifies the candidate in the study."""
        return self.parsed_architecture.key

    @cached_property
    def parsed_architecture(self) -> Architecture:
        """The architecture, parsed once."""
        return Architecture.from_json(self.architecture)

    @staticmethod
    def of(parsed: Architecture, **values: Any) -> Job:
        """The job with these values, whose architecture has been parsed already.

        Parameters
        ----------
        parsed
            The architecture.
        **values
            All fields, ``architecture`` included.

        Returns
        -------
        Job
        """
        job = Job(**values)
        job.__dict__["parsed_architecture"] = parsed
        return job

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, the inverse of ``Job(**data)``.

        Returns
        -------
        dict
        """
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The measurements of a job.

    Parameters
    ----------
    points
        One dictionary for each level, small to large. Required keys: ``level``, ``macs``, ``params``, ``accuracy``,
        ``loss``, and every other measure that the evaluator declares as required; ``test_accuracy`` if the job has
        ``test=True``. The other declared measures are optional; further keys are refused. See :func:`required_keys`.
    epochs
        Epochs of the training so far.
    images
        Number of training images of an epoch, the same after every epoch of a stage.
    seconds
        Duration of training and evaluation so far, on this machine.
    realised
        Architecture of the points as JSON, if training changed it; :attr:`parsed_realised` is the object.
    saved
        Whether the trained network is in the folder of the job, as ``network.save`` writes it.
    waiting
        Share of the time of the epochs of this run that was spent waiting for the disk; 0 if unknown.
    """

    points: list[dict[str, Any]]
    epochs: int
    images: int
    seconds: float
    realised: dict[str, Any] | None = None
    saved: bool = False
    waiting: float = 0.0

    @cached_property
    def parsed_realised(self) -> Architecture | None:
        """The realised architecture, parsed once; None if training did not change it."""
        return None if self.realised is None else Architecture.from_json(self.realised)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, the inverse of ``Outcome(**data)``.

        Returns
        -------
        dict
        """
        return {f.name: getattr(self, f.name) for f in fields(self)}


def required_keys(measures: Iterable[Measure], *, test: bool) -> tuple[str, ...]:
    """The keys that every point of an outcome must have.

    Parameters
    ----------
    measures
        As the evaluator declares them.
    test
        Whether the job measures on the test images.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> from results.measures import built_in
    >>> required_keys(built_in("accuracy", "loss", "test_accuracy"), test=False)
    ('level', 'macs', 'params', 'accuracy', 'loss')
    """
    measured = (m.name for m in measures if m.required and (test or not m.needs_test))
    return ("level", "macs", "params", *measured)


class Diverged(Exception):
    """Training produced infinite or undefined numbers, or no network within the limits.

    The failure belongs to the candidate, not to the program: repeating the job cannot help.
    """
