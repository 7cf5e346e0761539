"""The records of a study: candidates chosen for training and their results, in the store and in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from nas.config import Config
from nas.evaluation.evaluator import DataInfo
from nas.evaluation.jobs import Job, Outcome, Stage, images_seen
from nas.funnel.forecast import LearningCurve, typical_slope
from nas.funnel.ledger import Ledger
from nas.funnel.rungs import MEASURED_IMAGES
from nas.funnel.warm_start import EarlierStudy
from nas.representation.architecture import Architecture
from nas.screening.proposals import Proposal, Rejected, own_choices
from nas.spaces.choices import Domains
from nas.strategies.contract import Trial
from nas.workers.runner import Failure
from results.files.places import Place
from results.files.study_log import LOG
from results.front import Score
from results.text import clean_text

if TYPE_CHECKING:
    from results.writer import StudyWriter

HISTORY = 2_000
"""Trials that a strategy learns from, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A proposal chosen for training.

    control: a random control. proxies: scores by name. reference: name of the reference architecture that it is.
    """

    proposal: Proposal
    control: bool
    proxies: Mapping[str, float]
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A candidate that was chosen for training, as the store has it, apart from its architecture.

    id: number in the store.
    """

    id: int
    key: str
    status: str
    reason: str | None
    traceback: str | None

    @property
    def in_training(self) -> bool:
        """Whether partial training has not ended."""
        return self.status in ("queued", "training")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedNetwork:
    """What a candidate's job carries of its proposal.

    architecture: as JSON data. choices: by the names that the space gave them.
    """

    architecture: dict[str, Any]
    space: str
    choices: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The results of a candidate at the highest fidelity of its partial training.

    macs, accuracy: of its operating points. images: training images seen.
    """

    candidate: int
    key: str
    macs: tuple[int, ...]
    accuracy: tuple[float, ...]
    images: float


_COLUMNS = ("id", "key", "status", "reason", "traceback")


class Records:
    """Reads and writes the candidates of a study.

    ledger: the candidates chosen for training, in memory. Fidelity: passes over all training images; partial training
    may use a part of them. files: the study's folder.
    """

    def __init__(self, config: Config, writer: StudyWriter, info: DataInfo, score: Score):
        self.config, self.info, self.score = config, info, score
        self.files = writer.files
        self.ledger = Ledger(writer)
        self._writer = writer
        self.earlier_keys = {row["key"] for row in writer.transferred()}
        """Keys of the candidates that this study started from."""
        self._earlier: dict[bool, list[Trial]] = {}  # by whether with architecture
        self._trials: dict[tuple[int, bool], Trial] = {}  # of the last history, by id and whether with architecture

    def transaction(self) -> AbstractContextManager[None]:
        """Write everything inside, or nothing if it raises."""
        return self._writer.transaction()

    # Fidelities and folders --------------------------------------------------------------------------------------

    def fidelity(self, job: Job) -> float:
        """Passes over all training images at the end of a job."""
        return self.passes(job.all_stages, job.until)

    def passes(self, stages: Sequence[Stage], until: int) -> float:
        """Passes over all training images after ``until`` epochs of a training with these stages."""
        count = self.info.train_images
        return round(images_seen(stages, until, count) / count, 6)

    def rung(self, epochs: int) -> float:
        """The fidelity of partial training after ``epochs`` epochs."""
        return self.passes([Stage(epochs, self.config.images)], epochs)

    def folder(self, key: str, stage: str, repeat: int) -> str:
        """Folder of a training: its checkpoint and its network; a path or a URL."""
        return str(self.files.resolve() / "candidates" / key / f"{stage}-{repeat}")

    # Reading -----------------------------------------------------------------------------------------------------

    def candidates(self, generation: int) -> list[Candidate]:
        """The candidates of a generation that were chosen for training, in order of proposal."""
        return self.numbered(self.ledger.of_generation(generation))

    def numbered(self, numbers: Iterable[int]) -> list[Candidate]:
        """The candidates with these ids, in order of proposal."""
        return [Candidate(**row) for row in self._writer.rows(ids=numbers, columns=_COLUMNS)]

    def proposed(self, numbers: Iterable[int]) -> dict[int, ProposedNetwork]:
        """Proposed networks by id of the candidate, read from the store at every call."""
        rows = self._writer.rows(ids=numbers, columns=["id", "space", "choices", "architecture"])
        return {
            row["id"]: ProposedNetwork(
                architecture=row["architecture"],
                space=row["space"],
                choices=own_choices(row["space"], row["choices"]),
            )
            for row in rows
        }

    def architecture(self, number: int) -> Architecture:
        """The proposed architecture of a candidate, read from the store at every call."""
        return Architecture.from_json(self.proposed([number])[number].architecture)

    def history(self, domains: Domains, *, with_architecture: bool) -> list[Trial]:
        """The trials that a strategy learns from: of all candidates that ended, or of ``HISTORY`` of them.

        The candidates of the study that this one started from are among them.

        with_architecture: whether the trials carry their architectures.
        """
        earlier = self._earlier_trials(domains, with_architecture=with_architecture)
        most = HISTORY - len(earlier)
        wanted = [(number, with_architecture) for number in self.ledger.representative(most)]
        new = [number for number, _ in wanted if (number, with_architecture) not in self._trials]
        added = self.trials(new, domains, with_architecture=with_architecture)
        known = self._trials | {(number, with_architecture): trial for number, trial in zip(new, added)}
        self._trials = {each: known[each] for each in wanted}
        own = list(self._trials.values())
        if earlier:  # their generations come first
            first = 1 + max(trial.generation for trial in earlier)
            own = [replace(trial, generation=first + trial.generation) for trial in own]
        return [*earlier, *own]

    def _earlier_trials(self, domains: Domains, *, with_architecture: bool) -> list[Trial]:
        """The trials of the study that this one started from; see :mod:`nas.funnel.warm_start`."""
        if not self.earlier_keys:
            return []
        if with_architecture not in self._earlier:
            self._earlier[with_architecture] = [
                Trial(
                    choices=row["choices"],
                    domains=domains.of(row["choices"]),
                    value=row["anytime_accuracy"],
                    complete=row["status"] == "finished",
                    intermediate=dict(row["rungs"]),
                    generation=row["generation"],
                    architecture=Architecture.from_json(row["architecture"]) if with_architecture else None,
                    proxy=row["proxies"].get(self.config.proxy),
                )
                for row in self._writer.transferred()
            ]
        return self._earlier[with_architecture]

    def trials(self, numbers: Sequence[int], domains: Domains, *, with_architecture: bool) -> list[Trial]:
        """Candidates that ended partial training; failures have the floor as value. numbers: ids, ascending."""
        names = ("id", "choices", "proxies", *(["architecture"] if with_architecture else []))
        return [self._trial(row, domains) for row in self._writer.rows(ids=numbers, columns=names)]

    def _trial(self, row: Mapping[str, Any], domains: Domains) -> Trial:
        entry, reached = self.ledger[row["id"]], self.reached(row["id"])
        failed = entry.status == "failed" or not reached
        return Trial(
            choices=row["choices"],
            domains=domains.of(row["choices"]),
            value=self.score.floor if failed else reached[max(reached)],
            complete=entry.status != "stopped",
            intermediate=reached,
            generation=entry.generation,
            architecture=Architecture.from_json(row["architecture"]) if "architecture" in row else None,
            proxy=row["proxies"].get(self.config.proxy),
        )

    def reached(self, number: int) -> dict[int, float]:
        """The anytime accuracy of a candidate at each rung, in epochs, that it reached."""
        accuracy = self.ledger[number].accuracy
        return {epochs: accuracy[self.rung(epochs)] for epochs in self.config.rungs() if self.rung(epochs) in accuracy}

    def curves(self, status: str) -> list[Curve]:
        """The results of partial training of all candidates with a status, at the last rung that each reached."""
        rungs = set(map(self.rung, self.config.rungs()))
        points = [row for row in self._writer.first_points(status) if row["fidelity"] in rungs]
        curves = []
        for number, of_candidate in groupby(points, key=itemgetter("candidate_id")):
            last = list(of_candidate)
            last = [row for row in last if row["fidelity"] == last[-1]["fidelity"]]
            curves.append(
                Curve(
                    candidate=number,
                    key=self.ledger[number].key,
                    macs=tuple(row["macs"] for row in last),
                    accuracy=tuple(row["accuracy"] for row in last),
                    images=last[0]["fidelity"] * self.info.train_images,
                )
            )
        return curves

    def is_measured(self, candidate: Candidate, fidelity: float, repeat: int, *, test: bool) -> bool:
        """Whether the store has the result of a training. test: with test accuracies."""
        rows = self._writer.points_of(candidate.id)
        points = [row for row in rows if row["fidelity"] == fidelity and row["repeat"] == repeat]
        return bool(points) and all(not test or point["test_accuracy"] is not None for point in points)

    def learning_curve(self, number: int) -> LearningCurve:
        """The results of a candidate in partial training."""
        entry, count = self.ledger[number], self.info.train_images
        reached = {
            (fidelity := self.rung(epochs)) * count: (accuracy, entry.seconds[fidelity])
            for epochs, accuracy in self.reached(number).items()
        }
        (before, earlier), (after, later) = [(0.0, 0.0), *((n, s) for n, (_, s) in reached.items())][-2:]
        return LearningCurve(
            results={round(images): accuracy for images, (accuracy, _) in reached.items()},
            seconds_per_image=(later - earlier) / (after - before),
            noise=0.5 / math.sqrt(max(1, self.info.certainty * min(MEASURED_IMAGES, self.info.validation_images))),
            train_images=count,
        )

    def typical_slope(self) -> float:
        """The exponent of the learning curves of this study, see :mod:`nas.funnel.forecast`."""
        trained = [number for number in self.ledger.ended() if self.reached(number)]
        return typical_slope(map(self.learning_curve, trained))

    # Writing -----------------------------------------------------------------------------------------------------

    def add_earlier(self, earlier: EarlierStudy) -> None:
        """Copy the trained candidates of the study that this one starts from."""
        self._writer.add_transferred(earlier.rows)
        self.earlier_keys = {row["key"] for row in earlier.rows}

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
                "reference": candidate.reference,
                "status": "queued",
                "choices": dict(candidate.proposal.choices),
                "architecture": candidate.proposal.architecture.to_json(),
                "proxies": dict(candidate.proxies),
            }
            for position, candidate in enumerate(queued)
        )
        for number, candidate in zip(numbers, queued):
            self.ledger.add(number, candidate.proposal.key, generation, reference=candidate.reference)

    def drop_generation(self, generation: int) -> None:
        """Remove the candidates of a generation that was not screened completely."""
        self._writer.drop_generation(generation)
        self.ledger.drop_generation(generation)

    def set_statuses(self, changes: Mapping[int, tuple[str, str]]) -> None:
        """Change statuses. changes: id → status and reason."""
        self._writer.update_candidates(
            {number: {"status": status, "reason": reason} for number, (status, reason) in changes.items()}
        )
        for number, (status, _) in changes.items():
            self.ledger.set_status(number, status)

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
            weights=folder.removeprefix(f"{self.files.resolve()}/") if outcome.saved else None,
        )
        if repeat == 0:
            costs, accuracies = ([point[name] for point in outcome.points] for name in ("macs", "accuracy"))
            self.ledger.set_accuracy(candidate.id, fidelity, self.score(costs, accuracies), outcome.seconds)

    def add_failure(self, candidate: Candidate, failure: Failure, *, ends: bool) -> None:
        """Write a failure with its traceback. ends: whether the candidate's status becomes "failed"."""
        status = {"status": "failed"} if ends else {}
        columns = {"reason": failure.reason, "traceback": failure.traceback, "attempts": failure.attempts}
        self._writer.update_candidates({candidate.id: columns | status})
        if ends:
            self.ledger.set_status(candidate.id, "failed")

    def queue_failed(self) -> int:
        """Queue the candidates whose partial training failed again; returns their number."""
        again = self.ledger.failed()
        queued = {"status": "queued", "reason": None, "traceback": None, "attempts": 0}
        self._writer.update_candidates(dict.fromkeys(again, queued))
        for number in again:
            self.ledger.set_status(number, "queued")
        self._trials.clear()
        return len(again)

    def log(self, *texts: str) -> Place:
        """Append texts to the study's log; returns its place."""
        with open(self._writer.log, "a", encoding="utf-8") as file:
            file.writelines(f"{clean_text(text)}\n" for text in texts)
        return self.files / LOG
