"""Training candidates: jobs for the workers, side by side; each result is recorded when it arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from nas.config import Config
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.jobs import Job, Outcome, Stage
from nas.funnel.activity import ActivityRecord
from nas.funnel.eta import Display
from nas.funnel.patience import TrialPatience
from nas.funnel.records import Candidate, ProposedNetwork, Records
from nas.representation.architecture import Architecture
from nas.seeds import seed
from nas.workers.job_folder import discard
from nas.workers.runner import Failure, Runner

OVERTIME = 1.05  # of --hours: then running training is stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of trainings, the same for several candidates.

    part: "search" or "full", in the name of the folder; a failure in full training does not change the candidate's
    status. epochs, until: length of the training, and the epoch to stop after. stages: of the training, followed where
    the evaluator continues trainings; elsewhere, the training is one stage with ``images`` images an epoch (None: all).
    test, save, measured_images, threads: see :class:`nas.evaluation.jobs.Job`.
    """

    part: str
    epochs: int
    until: int
    images: int | None
    stages: tuple[Stage, ...] = ()
    test: bool = False
    save: bool = False
    measured_images: int | None = None
    threads: int | None = None


SLOW_DISK = 0.2
"""Share of the time of a training spent waiting for the disk above which the user is told."""


class OutOfTime(Exception):
    """The wall-clock limit passed during training; checkpoints and store hold everything that was done."""


class CandidateTrainer:
    """Trains candidates and records their outcomes."""

    def __init__(
        self,
        config: Config,
        records: Records,
        runner: Runner,
        evaluator: Evaluator,
        display: Display,
        patience: TrialPatience,
        activity: ActivityRecord,
    ):
        self.config, self.records, self.runner, self.activity = config, records, runner, activity
        self.evaluator, self.display, self.patience = evaluator, display, patience
        self._told_of_waiting = False

    def show(self, stage: str) -> None:
        """Show the stage on the user's display, and in the store."""
        self.activity.note(stage)
        self.display.show(stage, trained=self.records.ledger.trained(), best=self.records.ledger.best())

    def train(
        self,
        repeats: Iterable[tuple[Candidate, int]],
        stretch: Stretch,
        *,
        label: str,
        selection: Callable[[Architecture], dict[str, Any] | None] = lambda architecture: None,
        more: Callable[[Candidate], bool] = lambda candidate: True,
    ) -> None:
        """Train candidates side by side.

        Parameters
        ----------
        repeats
            Pairs of candidate and repeat, counted from 0. Each is taken when there is room for its training.
        stretch
            What is trained and measured.
        label
            Stage of the search for the display.
        selection
            Settings of the final search by architecture; None for none.
        more
            Whether to begin the training of a candidate; otherwise it and the remaining ones are left out.

        Raises
        ------
        OutOfTime
            If the study exceeds its time limit by more than ``OVERTIME``.
        EnvironmentFault
            If a fault is not of a candidate; nothing is recorded for it.
        """
        running: dict[str, tuple[Candidate, int]] = {}

        def jobs() -> Iterator[Job]:
            for candidate, repeat in repeats:
                if not more(candidate):
                    return
                network = self.records.proposed([candidate.id])[candidate.id]
                job = self.job(candidate, repeat, network, stretch, selection=selection)
                running[job.folder] = candidate, repeat
                yield job

        def done(job: Job, outcome: Outcome | Failure) -> None:
            candidate, repeat = running.pop(job.folder)
            if isinstance(outcome, Failure):
                self.record_failure(candidate, job, outcome, ends=stretch.part == "search")
            else:
                self.record_outcome(candidate, repeat, job, outcome)
            self.show(label)

        def progress(job: Job, epoch: int) -> None:
            self.display.add(job.images)
            self.show(label)
            self.check_time()

        def patience(job: Job) -> float:
            self.activity.tick()
            self.show(label)  # also during a long epoch
            return self.patience(job)

        self.show(label)
        self.runner.run(jobs(), done, progress, patience)
        self.activity.ended()

    def job(
        self,
        candidate: Candidate,
        repeat: int,
        network: ProposedNetwork,
        stretch: Stretch,
        *,
        selection: Callable[[Architecture], dict[str, Any] | None] = lambda architecture: None,
    ) -> Job:
        """The job that trains a candidate; see :meth:`train`. network: of the candidate."""
        parsed = Architecture.from_json(network.architecture)
        continues = bool(stretch.stages) and self.evaluator.continues(parsed)
        return Job.of(
            parsed,
            candidate=candidate.id,
            architecture=network.architecture,
            seed=seed(self.config.seed, parsed.network_key, repeat),
            epochs=stretch.epochs,
            until=stretch.until,
            images=stretch.images,
            folder=self.records.folder(candidate.key, stretch.part, repeat),
            test=stretch.test,
            selection=selection(parsed),
            save=stretch.save,
            space=network.space,
            choices=network.choices,
            stages=[list(stage) for stage in stretch.stages] if continues else [],
            measured_images=stretch.measured_images,
            threads=stretch.threads,
        )

    def record_outcome(self, candidate: Candidate, repeat: int, job: Job, outcome: Outcome) -> None:
        """Write the outcome of a job."""
        self.patience.observe(job, outcome)
        fidelity = self.records.fidelity(job)
        self.records.add_outcome(candidate, repeat, outcome, fidelity=fidelity, folder=job.folder)
        if outcome.waiting > SLOW_DISK and not self._told_of_waiting:
            self._told_of_waiting = True
            self.display.progress.say(
                f"A training waited for the disk for {outcome.waiting:.0%} of its time: put the data on a local disk, "
                "or choose smaller images, such as folder:DIR:size=128."
            )

    def record_failure(self, candidate: Candidate, job: Job, failure: Failure, *, ends: bool) -> None:
        """Write the failure of a job, and show it. ends: whether the candidate's status becomes "failed"."""
        self.records.add_failure(candidate, failure, ends=ends)
        if ends:
            discard(self.evaluator, job.folder)
        self.display.progress.say(f"Candidate {candidate.key} failed: {failure.reason}")

    def check_time(self) -> None:
        """Raise OutOfTime if the study exceeds its time limit by more than ``OVERTIME``."""
        hours = self.config.hours
        if hours is not None and self.display.clock.elapsed() > OVERTIME * hours * 3600:
            raise OutOfTime
