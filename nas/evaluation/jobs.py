"""Jobs in, outcomes out: plain data between the driver and the workers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from nas.representation.architecture import Architecture

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One stretch of training and one evaluation.

    candidate: the store's id of the candidate. architecture: as JSON. seed: of everything random in this training.
    epochs: length of the schedule. until: stop after this many of them. images: training images used, None for all.
    folder: where checkpoint and trained network go, absolute. test: whether to measure on the test images too.
    selection: settings of the final search over the trained network, as keywords of :class:`Selection`; None for none.
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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, inverse of ``Job(**data)``."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a job measured.

    points: one dict a level, small to large, with ``level``, ``macs``, ``params`` and the evaluator's measures.
    epochs, images: what was trained on, so far. seconds: training and evaluation so far, on this machine.
    realised: JSON of the architecture that the points belong to, where training changed it.
    saved: whether the trained network lies in the job's folder, as ``network.save`` writes it.
    """

    points: list[dict[str, Any]]
    epochs: int
    images: int
    seconds: float
    realised: dict[str, Any] | None = None
    saved: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, inverse of ``Outcome(**data)``."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


class Diverged(Exception):
    """Training ran into infinite or undefined numbers, or made no network that keeps the limits: the candidate's
    failure, not the program's, which trying again would not mend.
    """


def architecture_of(job: Job) -> Architecture:
    """The architecture that a job is about."""
    return Architecture.from_json(job.architecture)
