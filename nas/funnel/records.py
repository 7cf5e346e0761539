"""The records of a study: candidates chosen for training and their results, in the store and in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.config import Config
from nas.evaluation.evaluator import DataInfo
from nas.evaluation.jobs import Outcome
from nas.representation.architecture import Architecture
from nas.screening.proposals import Proposal, Rejected
from nas.spaces.choices import Domains, Primitive
from nas.strategies.contract import Trial
from nas.workers.runner import Failure
from results.front import Score

if TYPE_CHECKING:
    from results.writer import StudyWriter

TRAINED = ("queued", "training", "stopped", "finished", "failed")
"""Statuses of candidates that were chosen for training."""


class StoredArchitecture:
    """The JSON of an architecture; parsed once, at first use."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    @cached_property
    def parsed(self) -> Architecture:
        """The architecture."""
        return Architecture.from_json(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A proposal chosen for training. control: a random control. proxies: scores by name."""

    proposal: Proposal
    control: bool
    proxies: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A candidate that was chosen for training, as the store has it.

    id: number in the store. position: in the order of training, counted from 0. stored: its architecture.
    proxies: scores by name.
    """

    id: int
    key: str
    generation: int
    position: int
    status: str
    reason: str | None
    traceback: str | None
    choices: Mapping[str, Primitive]
    proxies: Mapping[str, float]
    stored: StoredArchitecture

    @property
    def architecture(self) -> Architecture:
        """The proposed architecture."""
        return self.stored.parsed

    @property
    def in_training(self) -> bool:
        """Whether partial training has not ended."""
        return self.status in ("queued", "training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A measured operating point of a candidate; accuracies in [0, 1] or NaN, test_accuracy None if not measured."""

    fidelity: float
    repeat: int
    macs: int
    accuracy: float
    test_accuracy: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The results of a candidate at the highest fidelity of its partial training.

    macs, accuracy: of its operating points. seconds_per_image: training and evaluation, per training image.
    """

    candidate: int
    key: str
    macs: tuple[int, ...]
    accuracy: tuple[float, ...]
    seconds_per_image: float


class Records:
    """Reads and writes the candidates of a study.

    accuracy: anytime accuracy of the first repeat, by candidate id and fidelity, for all candidates chosen for
    training. Fidelity: passes over all training images; partial training may use a part of them.
    files: the study's folder.
    """

    def __init__(self, config: Config, writer: StudyWriter, info: DataInfo, score: Score):
        self.config, self.info, self.score = config, info, score
        self.files = writer.files
        self._writer = writer
        self._architectures: dict[int, StoredArchitecture] = {}
        chosen = self.candidates()
        self.accuracy = {candidate.id: self._recorded(candidate.id) for candidate in chosen}
        self._failed = {candidate.id for candidate in chosen if candidate.status == "failed"}

    def transaction(self) -> AbstractContextManager[None]:
        """Write everything inside, or nothing if it raises."""
        return self._writer.transaction()

    # Fidelities and folders --------------------------------------------------------------------------------------

    def fidelity(self, epochs: int, images: int | None) -> float:
        """Passes over all training images in ``epochs`` epochs over ``images`` of them (None: all)."""
        share = 1.0 if images is None else min(1.0, images / self.info.train_images)
        return round(epochs * share, 6)

    def rung(self, epochs: int) -> float:
        """The fidelity of partial training after ``epochs`` epochs."""
        return self.fidelity(epochs, self.config.images)

    def folder(self, key: str, stage: str, repeat: int) -> str:
        """Folder of a training: its checkpoint and its network."""
        return str(self.files.resolve() / "candidates" / key / f"{stage}-{repeat}")

    # Reading -----------------------------------------------------------------------------------------------------

    def candidates(self, generation: int | None = None, statuses: Sequence[str] = TRAINED) -> list[Candidate]:
        """The candidates that were chosen for training, in order of proposal; None: of all generations."""
        rows = self._writer.rows(status=statuses, generation=generation)
        return [self._candidate(row) for row in rows if row["position"] is not None]  # others failed as proposals

    def trials(self, domains: Domains, *, with_proxy: bool = True) -> list[Trial]:
        """The history for a strategy: candidates that ended partial training; failures have the floor as value.

        with_proxy: whether the trials carry the scores of the study's proxy.
        """
        trials = []
        for candidate in self.candidates(statuses=("stopped", "finished", "failed")):
            by_fidelity = self.accuracy[candidate.id]
            reached = {e: a for e in self.config.rungs() if (a := by_fidelity.get(self.rung(e))) is not None}
            failed = candidate.status == "failed" or not reached
            trials.append(
                Trial(
                    choices=candidate.choices,
                    domains=domains.of(candidate.choices),
                    value=self.score.floor if failed else reached[max(reached)],
                    complete=candidate.status != "stopped",
                    intermediate=reached,
                    generation=candidate.generation,
                    architecture=candidate.architecture,
                    proxy=candidate.proxies.get(self.config.proxy) if with_proxy else None,
                )
            )
        return trials

    def curves(self, status: str) -> list[Curve]:
        """The results of partial training of all candidates with a status."""
        curves = []
        for candidate in self.candidates(statuses=(status,)):
            reached = [f for f in map(self.rung, self.config.rungs()) if f in self.accuracy[candidate.id]]
            if not reached:
                continue
            points = self._points(candidate.id, reached[-1], repeat=0)
            seconds = self._writer.seconds_of(candidate.id, reached[-1])
            curves.append(
                Curve(
                    candidate=candidate.id,
                    key=candidate.key,
                    macs=tuple(point.macs for point in points),
                    accuracy=tuple(point.accuracy for point in points),
                    seconds_per_image=seconds / (reached[-1] * self.info.train_images),
                )
            )
        return curves

    def is_tested(self, candidate: Candidate, fidelity: float, repeat: int) -> bool:
        """Whether the store has the test accuracies of a training."""
        points = self._points(candidate.id, fidelity, repeat)
        return bool(points) and all(point.test_accuracy is not None for point in points)

    def chosen(self) -> int:
        """Number of candidates that were chosen for training and have not failed."""
        return len(self.accuracy) - len(self._failed)

    def trained(self) -> int:
        """Number of candidates with a result that have not failed."""
        return sum(bool(results) for number, results in self.accuracy.items() if number not in self._failed)

    def failed(self) -> int:
        """Number of candidates whose partial training failed."""
        return len(self._failed)

    def failed_in_a_row(self) -> int:
        """Number of failed candidates after the last one that did not fail, in order of training."""
        return sum(1 for _ in takewhile(self._failed.__contains__, reversed(self.accuracy)))

    def unfinished_generations(self) -> list[int]:
        """Generations with a candidate whose partial training has not ended, in order."""
        unfinished = self.candidates(statuses=("queued", "training"))
        return sorted({candidate.generation for candidate in unfinished})

    def best(self) -> float | None:
        """The best anytime accuracy so far, at any fidelity."""
        return max((a for by_fidelity in self.accuracy.values() for a in by_fidelity.values()), default=None)

    # Writing -----------------------------------------------------------------------------------------------------

    def add_rejected(self, proposals: Iterable[Rejected], generation: int) -> None:
        """Add rejected proposals with their reasons."""
        self._writer.add_candidates(
            {
                "key": rejected.key,
                "space": rejected.space,
                "generation": generation,
                "status": rejected.status,
                "reason": rejected.reason,
                "choices": dict(rejected.choices),
                "traceback": rejected.traceback,
            }
            for rejected in proposals
        )

    def add_queued(self, queued: Sequence[Queued], generation: int) -> None:
        """Add the candidates of a generation, in order of training."""
        numbers = self._writer.add_candidates(
            {
                "key": candidate.proposal.key,
                "space": candidate.proposal.space,
                "generation": generation,
                "position": position,
                "control": candidate.control,
                "status": "queued",
                "choices": dict(candidate.proposal.choices),
                "architecture": candidate.proposal.architecture.to_json(),
                "proxies": dict(candidate.proxies),
            }
            for position, candidate in enumerate(queued)
        )
        self.accuracy |= {number: {} for number in numbers}

    def drop_generation(self, generation: int) -> None:
        """Remove the candidates of a generation that was not screened completely."""
        self._writer.drop_generation(generation)

    def set_status(self, candidate: Candidate, status: str, reason: str) -> None:
        """Change the status of a candidate."""
        self._writer.update_candidate(candidate.id, status=status, reason=reason)

    def add_outcome(self, candidate: Candidate, repeat: int, outcome: Outcome, *, fidelity: float, folder: str) -> None:
        """Write an outcome to the store, in place of an earlier one of the same repeat and fidelity."""
        realised = outcome.parsed_realised
        self._writer.record(
            candidate.id,
            fidelity=fidelity,
            repeat=repeat,
            epochs=outcome.epochs,
            images=outcome.images,
            seconds=outcome.seconds,
            realised_key=realised.key if realised else candidate.key,
            architecture=outcome.realised,
            points=outcome.points,
            weights=str(Path(folder).relative_to(self.files.resolve())) if outcome.saved else None,
        )
        if repeat == 0:
            costs, accuracies = ([point[name] for point in outcome.points] for name in ("macs", "accuracy"))
            self.accuracy[candidate.id][fidelity] = self.score(costs, accuracies)

    def add_failure(self, candidate: Candidate, failure: Failure, *, ends: bool) -> None:
        """Write a failure with its traceback. ends: whether the candidate's status becomes "failed"."""
        status = {"status": "failed"} if ends else {}
        self._failed |= {candidate.id} if ends else set()
        columns = {"reason": failure.reason, "traceback": failure.traceback, "attempts": failure.attempts}
        self._writer.update_candidate(candidate.id, **columns, **status)

    def queue_failed(self) -> int:
        """Queue the candidates whose partial training failed again; returns their number."""
        again = self.candidates(statuses=("failed",))
        for candidate in again:
            self._writer.update_candidate(candidate.id, status="queued", reason=None, traceback=None, attempts=0)
        self._failed.clear()
        return len(again)

    def log(self, *texts: str) -> Path:
        """Append texts to the study's log; returns its path."""
        path = self.files / "log.txt"
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{text}\n" for text in texts)
        return path

    def _candidate(self, row: dict[str, Any]) -> Candidate:
        number = row["id"]
        if number not in self._architectures:
            self._architectures[number] = StoredArchitecture(row["architecture"])
        return Candidate(
            id=number,
            key=row["key"],
            generation=row["generation"],
            position=row["position"],
            status=row["status"],
            reason=row["reason"],
            traceback=row["traceback"],
            choices=row["choices"],
            proxies=row["proxies"],
            stored=self._architectures[number],
        )

    def _all_points(self, number: int) -> list[Point]:
        names = Point.__dataclass_fields__
        return [Point(**{name: row[name] for name in names}) for row in self._writer.points_of(number)]

    def _points(self, number: int, fidelity: float, repeat: int) -> list[Point]:
        return [p for p in self._all_points(number) if p.fidelity == fidelity and p.repeat == repeat]

    def _recorded(self, number: int) -> dict[float, float]:
        by_fidelity: dict[float, list[Point]] = {}
        for point in self._all_points(number):
            if point.repeat == 0:
                by_fidelity.setdefault(point.fidelity, []).append(point)
        return {
            fidelity: self.score([p.macs for p in points], [p.accuracy for p in points])
            for fidelity, points in by_fidelity.items()
        }
