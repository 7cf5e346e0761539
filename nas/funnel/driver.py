"""A study from its settings to its finalists: search until a limit is reached, then train the finalists in full.

The search proposes a generation, trains it by successive halving, and repeats; an asynchronous search has no barriers,
see :mod:`nas.funnel.asynchronous`.

Every decision is a function of the settings and of the store, so a killed study continues as if it had not been
interrupted. The candidates of a generation are in the store before the first of them trains; results are recorded as
they arrive, in any order, and each decision waits for all results that it needs. Only the driver writes the store.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nas.config import Config
from nas.evaluation.evaluator import DataInfo, Evaluator
from nas.funnel.activity import ActivityRecord
from nas.funnel.asynchronous import NOTHING_NEW, AsynchronousFunnel, TrainsProposals
from nas.funnel.eta import Display, Work
from nas.funnel.full.finals import Finals
from nas.funnel.generation import GenerationProposer
from nas.funnel.halving import SuccessiveHalving
from nas.funnel.leaders import Leaders
from nas.funnel.limits import Limits, check_that_training_works
from nas.funnel.patience import TrialPatience
from nas.funnel.records import Records
from nas.funnel.state import StateKeeper
from nas.funnel.training import CandidateTrainer
from nas.funnel.warm_start import EarlierStudy
from nas.progress import Progress
from nas.screening.screener import Screener
from nas.strategies.contract import Strategy
from nas.strategies.optuna_copy import OptunaCopy
from nas.workers.runner import Runner
from results.errors import StoreError
from results.front import Score

if TYPE_CHECKING:
    from results.writer import StudyWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyParts:
    """The settings of a study, without open ones, and the objects of its plug-ins. info: of the evaluator's data."""

    config: Config
    strategy: type[Strategy]
    evaluator: Evaluator
    info: DataInfo
    screener: Screener


class Driver:
    """Runs one study from the state that the store holds.

    earlier: the study that a new one starts from. trains_proposals: makes the search asynchronous. optuna: the copy of
    the study, if there is one.
    """

    def __init__(
        self,
        parts: StudyParts,
        writer: StudyWriter,
        runner: Runner,
        score: Score,
        progress: Progress,
        *,
        earlier: EarlierStudy | None = None,
        trains_proposals: TrainsProposals | None = None,
        optuna: OptunaCopy | None = None,
    ):
        writer.set_score(score)
        config, info, screener = parts.config, parts.info, parts.screener
        self.config, self.screener, self.progress = config, screener, progress
        self.keeper = keeper = StateKeeper(writer)
        screener.domains = keeper.domains
        screener.constraints = replace(screener.constraints, low=score.low)
        self.records = records = Records(config, writer, info, score)
        if earlier is not None:
            self._start_from(earlier)
        self.limits = Limits(config, records, keeper, slots=runner.slots)
        self.optuna = optuna
        work = None
        if config.hours is None:
            work = Work(config, info.train_images, limit=self.limits.train, generations=keeper.state.generations)
        display = Display(progress, keeper.clock, work=work, hours=config.hours)
        patience = TrialPatience(config, keeper, train_images=info.train_images)
        activity = ActivityRecord(writer, runner.activity, most=config.workers)
        self.trainer = CandidateTrainer(config, records, runner, parts.evaluator, display, patience, activity)
        self.proposer = GenerationProposer(config, records, keeper, screener, parts.strategy)
        self.leaders = Leaders(records, self.trainer, self.limits, told=self._copy_soon)
        self.halving = SuccessiveHalving(config, records, keeper, self.trainer, self.limits, self.leaders)
        self.finals = Finals(config, records, keeper, self.trainer)
        self.trains_proposals = trains_proposals

    def _start_from(self, earlier: EarlierStudy) -> None:
        """Copy the trained candidates of an earlier study, with the options of their choices."""
        with self.records.transaction():
            self.records.add_earlier(earlier)
            for name, options in earlier.domains.items():
                self.keeper.domains.check(name, options)
            self.keeper.update()
        left_out = f"; {earlier.left_out} that the spaces do not build are left out" if earlier.left_out else ""
        self.progress.say(f"Warm start from {earlier.name}: {len(earlier.rows)} trained candidates{left_out}.")

    def run(self, *, retry_failed: bool = False) -> str:
        """Search until a limit is reached, then train the finalists in full. Returns the reason for the end.

        retry_failed: first train the candidates again whose training failed.
        """
        try:
            if retry_failed:
                self._queue_failed()
            reason = self._by_generations() if self.trains_proposals is None else self._asynchronously()
            if not self.records.ledger.trained():
                check_that_training_works(self.records, least=1)
            note = self.finals.run(self.keeper.state.generations)
            self.leaders.end()
            self._copy(ended=True)
            return f"{reason}{note}"
        finally:
            with suppress(StoreError):  # do not hide the first error
                self.keeper.update()

    def _by_generations(self) -> str:
        """Search by generations. Returns the reason for the end."""
        done = self.keeper.state.generations
        for generation in self.records.ledger.unfinished_generations():  # with candidates that are tried again
            if generation < done:
                self.halving.run(generation)
                check_that_training_works(self.records)
        while True:
            if not self.records.ledger.of_generation(done):
                if (reason := self._limit_reached(done)) is not None:
                    return reason
                self.trainer.show(f"generation {done + 1}: screening")
                if not self.proposer.propose(done, self.limits.train):
                    return NOTHING_NEW
            self.halving.run(done)
            done += 1
            self.keeper.update(generations=done)
            self._copy()
            check_that_training_works(self.records)

    def _asynchronously(self) -> str:
        """Search without barriers. Returns the reason for the end."""
        assert self.trains_proposals is not None
        funnel = AsynchronousFunnel(
            self.trainer, self.keeper, self.proposer, self.limits, self.leaders, refilled=self._copy_soon
        )
        self.trains_proposals(funnel)
        self._copy()
        return funnel.reason

    def _queue_failed(self) -> None:
        """Queue failed candidates again; finalists are then chosen again."""
        with self.records.transaction():
            if count := self.records.queue_failed():
                self.keeper.update(finals=None)
        self.progress.say(f"{count} failed candidates are tried again." if count else "No candidate has failed.")

    def _copy_soon(self) -> None:
        self._copy(at_once=False)

    def _copy(self, *, at_once: bool = True, ended: bool = False) -> None:
        """Copy the study to Optuna. A failure is shown; the next call repeats the copy."""
        if self.optuna is not None:
            try:
                self.optuna.update(at_once=at_once, ended=ended)
            except Exception as error:  # any error of a database
                text = " ".join(f"{type(error).__name__}: {error}".split())
                self.progress.say(f"Optuna's copy failed: {text:.300}")

    def _limit_reached(self, done: int) -> str | None:
        """The reason why no generation follows after ``done`` of them; None if one does."""
        typical = self.keeper.clock.elapsed() / done if done else 0.0
        limits = self.limits
        return limits.counts_reached(done) or limits.time_used(typical) or limits.proposals_end()
