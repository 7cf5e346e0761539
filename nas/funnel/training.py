"""Training candidates: jobs for the workers, side by side; each result is recorded when it arrives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nas.config import Config
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.jobs import Job, Outcome
from nas.funnel.eta import Display
from nas.funnel.patience import TrialPatience
from nas.funnel.records import Candidate, Records
from nas.representation.architecture import Architecture
from nas.seeds import seed
from nas.workers.runner import Failure, Runner

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
    ):
        self.config, self.records, self.runner = config, records, runner
        self.evaluator, self.display, self.patience = evaluator, display, patience

    def show(self, stage: str) -> None:
        """Show the stage on the user's display."""
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
        records = self.records
        of_folder = {records.folder(candidate.key, stage, repeat): (candidate, repeat) for candidate, repeat in repeats}
        jobs = [
            Job(
                candidate=candidate.id,
                architecture=candidate.stored.data,
                seed=seed(self.config.seed, candidate.architecture.network_key, repeat),
                epochs=epochs,
                until=until,
                images=images,
                folder=folder,
                test=test,
                selection=selection(candidate.architecture),
            )
            for folder, (candidate, repeat) in of_folder.items()
        ]

        def done(job: Job, outcome: Outcome | Failure) -> None:
            candidate, repeat = of_folder[job.folder]
            if isinstance(outcome, Failure):
                self._failed(candidate, outcome, job.folder, ends=stage == "search")
            else:
                self.patience.observe(job, outcome)
                fidelity = records.fidelity(until, images)
                records.add_outcome(candidate, repeat, outcome, fidelity=fidelity, folder=job.folder)
            self.show(label)

        def progress(job: Job, epoch: int) -> None:
            self.display.add(job.images)
            self.show(label)
            self._check_time()

        self.show(label)
        self.runner.run(jobs, done, progress, self.patience)

    def _failed(self, candidate: Candidate, failure: Failure, folder: str, *, ends: bool) -> None:
        self.records.add_failure(candidate, failure, ends=ends)
        if ends:
            self.evaluator.discard(folder)
        self.display.progress.say(f"Candidate {candidate.key} failed: {failure.reason}")

    def _check_time(self) -> None:
        hours = self.config.hours
        if hours is not None and self.display.clock.elapsed() > OVERTIME * hours * 3600:
            raise OutOfTime
