"""Training candidates: jobs for the workers, side by side; each result is recorded when it arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nas.config import Config
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.jobs import Job, Outcome
from nas.funnel.activity import ActivityRecord
from nas.funnel.eta import Display
from nas.funnel.patience import TrialPatience
from nas.funnel.records import Candidate, ProposedNetwork, Records
from nas.representation.architecture import Architecture
from nas.seeds import seed
from nas.workers.job_folder import discard
from nas.workers.runner import Failure, Runner

READ_AT_ONCE = 32  # networks
OVERTIME = 1.05  # of --hours: then running training is stopped


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

    def show(self, stage: str) -> None:
        """Show the stage on the user's display, and in the store."""
        self.activity.note(stage)
        self.display.show(stage, trained=self.records.ledger.trained(), best=self.records.ledger.best())

    def train(
        self,
        repeats: Sequence[tuple[Candidate, int]],
        *,
        label: str,
        stage: str,
        epochs: int,
        until: int,
        images: int | None,
        test: bool = False,
        selection: Callable[[Architecture], dict[str, Any] | None] = lambda architecture: None,
    ) -> None:
        """Train candidates side by side.

        Parameters
        ----------
        repeats
            Pairs of candidate and repeat, counted from 0.
        label
            Stage of the search for the display.
        stage
            "search" (partial training) or "full": part of the folder's name. A failure in full training does not
            change the candidate's status.
        epochs, until
            Length of the schedule, and the epoch to stop after.
        images
            Training images of an epoch; None: all.
        test
            Whether to measure on the test images.
        selection
            Settings of the final search by architecture; None for none.

        Raises
        ------
        OutOfTime
            If the study exceeds its time limit by more than ``OVERTIME``.
        EnvironmentFault
            If a fault is not of a candidate; nothing is recorded for it.
        """
        running: dict[str, tuple[Candidate, int]] = {}

        def jobs() -> Iterator[Job]:
            for (candidate, repeat), network in self._with_networks(repeats):
                job = self.job(
                    candidate,
                    repeat,
                    network,
                    stage=stage,
                    epochs=epochs,
                    until=until,
                    images=images,
                    test=test,
                    selection=selection,
                )
                running[job.folder] = candidate, repeat
                yield job

        def done(job: Job, outcome: Outcome | Failure) -> None:
            candidate, repeat = running.pop(job.folder)
            if isinstance(outcome, Failure):
                self.record_failure(candidate, job, outcome, ends=stage == "search")
            else:
                self.record_outcome(candidate, repeat, job, outcome)
            self.show(label)

        def progress(job: Job, epoch: int) -> None:
            self.display.add(job.images)
            self.show(label)
            self.check_time()

        def patience(job: Job) -> float:
            self.activity.tick()
            return self.patience(job)

        self.show(label)
        self.runner.run(jobs(), done, progress, patience)
        self.activity.ended()

    def _with_networks(
        self, repeats: Sequence[tuple[Candidate, int]]
    ) -> Iterator[tuple[tuple[Candidate, int], ProposedNetwork]]:
        """Candidates and repeats with the candidate's network, of which few are in memory."""
        for start in range(0, len(repeats), READ_AT_ONCE):
            chunk = repeats[start : start + READ_AT_ONCE]
            networks = self.records.proposed(candidate.id for candidate, _ in chunk)
            for candidate, repeat in chunk:
                yield (candidate, repeat), networks[candidate.id]

    def job(
        self,
        candidate: Candidate,
        repeat: int,
        network: ProposedNetwork,
        *,
        stage: str,
        epochs: int,
        until: int,
        images: int | None,
        test: bool,
        selection: Callable[[Architecture], dict[str, Any] | None] = lambda architecture: None,
    ) -> Job:
        """The job that trains a candidate; see :meth:`train`. network: of the candidate."""
        parsed = Architecture.from_json(network.architecture)
        return Job.of(
            parsed,
            candidate=candidate.id,
            architecture=network.architecture,
            seed=seed(self.config.seed, parsed.network_key, repeat),
            epochs=epochs,
            until=until,
            images=images,
            folder=self.records.folder(candidate.key, stage, repeat),
            test=test,
            selection=selection(parsed),
            space=network.space,
            choices=network.choices,
        )

    def record_outcome(self, candidate: Candidate, repeat: int, job: Job, outcome: Outcome) -> None:
        """Write the outcome of a job."""
        self.patience.observe(job, outcome)
        fidelity = self.records.fidelity(job.until, job.images)
        self.records.add_outcome(candidate, repeat, outcome, fidelity=fidelity, folder=job.folder)

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
