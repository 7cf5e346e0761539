"""Jobs and outcomes: the plain data that the driver and the workers exchange."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nas.representation.architecture import Architecture

if TYPE_CHECKING:
    from results.measures import Measure


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
        Length of the schedule.
    until
        Last epoch of this stretch.
    images
        Number of training images; None: all.
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
        Number of training images of an epoch, the same after every epoch.
    seconds
        Duration of training and evaluation so far, on this machine.
    realised
        Architecture of the points as JSON, if training changed it; :attr:`parsed_realised` is the object.
    saved
        Whether the trained network is in the folder of the job, as ``network.save`` writes it.
    """

    points: list[dict[str, Any]]
    epochs: int
    images: int
    seconds: float
    realised: dict[str, Any] | None = None
    saved: bool = False

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
