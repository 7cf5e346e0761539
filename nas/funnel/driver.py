"""The loop of a study: propose a generation, train it by successive halving, repeat; then train the finalists.

Every decision is a function of the settings and of the store, so a killed study continues as if it had not been
interrupted. The candidates of a generation are in the store before the first of them trains; results are recorded as
they arrive, in any order, and each decision waits for all results that it needs. Only the driver writes the store.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nas.config import Config
from nas.errors import UserError
from nas.evaluation.evaluator import DataInfo, Evaluator
from nas.funnel.eta import Display, Work
from nas.funnel.finals import Finals
from nas.funnel.generation import GenerationProposer
from nas.funnel.halving import SuccessiveHalving
from nas.funnel.patience import TrialPatience
from nas.funnel.records import Records
from nas.funnel.state import StateKeeper
from nas.funnel.training import CandidateTrainer
from nas.progress import Progress
from nas.screening.screener import Screener
from nas.strategies.contract import Strategy
from nas.strategies.optuna_export import export
from nas.workers.runner import Runner
from results.errors import StoreError
from results.front import Score

if TYPE_CHECKING:
    from results.writer import StudyWriter

DEFAULT_TRAIN = 36  # candidates, if there is no limit
FIRST_FAILURES, MOST_FAILURES = 3, 10
"""Failed candidates, one after the other, that end a search: before the first result, and after it."""
SEARCH_SHARE = 0.6  # of --hours; the rest is for full training


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyParts:
    """The settings of a study, without open ones, and the objects of its plug-ins. info: of the evaluator's data."""

    config: Config
    strategy: type[Strategy]
    evaluator: Evaluator
    info: DataInfo
    screener: Screener


class Driver:
    """Runs one study from the state that the store holds."""

    def __init__(self, parts: StudyParts, writer: StudyWriter, runner: Runner, score: Score, progress: Progress):
        writer.set_score(score)
        config, info, screener = parts.config, parts.info, parts.screener
        self.config, self.screener, self.progress = config, screener, progress
        self.keeper = keeper = StateKeeper(writer)
        screener.domains = keeper.domains
        screener.constraints = replace(screener.constraints, low=score.low)
        self.records = records = Records(config, writer, info, score)
        self._exported: set[int] = set()
        work = None
        if config.hours is None:
            limit, generations = self._train_limit(), keeper.state.generations
            work = Work(config, info.train_images, limit=limit, generations=generations)
        display = Display(progress, keeper.clock, work=work, hours=config.hours)
        patience = TrialPatience(config, keeper, train_images=info.train_images)
        self.trainer = CandidateTrainer(config, records, runner, parts.evaluator, display, patience)
        self.proposer = GenerationProposer(config, records, keeper, screener, parts.strategy, progress)
        self.halving = SuccessiveHalving(config, records, keeper, self.trainer)
        self.finals = Finals(config, records, keeper, self.trainer)

    def run(self, *, retry_failed: bool = False) -> str:
        """Search until a limit is reached, then train the finalists in full. Returns the reason for the end.

        retry_failed: first train the candidates again whose training failed.
        """
        try:
            if retry_failed:
                self._queue_failed()
            return self._run()
        finally:
            with suppress(StoreError):  # do not hide the first error
                self.keeper.update()

    def _run(self) -> str:
        done = self.keeper.state.generations
        for generation in self.records.ledger.unfinished_generations():  # with candidates that are tried again
            if generation < done:
                self.halving.run(generation)
                self._check_that_training_works()
        while True:
            if not self.records.candidates(done):
                if (reason := self._limit_reached(done)) is not None:
                    break
                self.trainer.show(f"generation {done + 1}: screening")
                if not self.proposer.propose(done, self._train_limit()):
                    reason = "no feasible candidate was found that the study has not seen"
                    break
            self.halving.run(done)
            done += 1
            self.keeper.update(generations=done)
            self._export()
            self._check_that_training_works()
        if not self.records.ledger.trained():
            self._check_that_training_works(least=1)
        return f"{reason}{self.finals.run(done)}"

    def _queue_failed(self) -> None:
        """Queue failed candidates again; finalists are then chosen again."""
        with self.records.transaction():
            if count := self.records.queue_failed():
                self.keeper.update(finals=None)
        self.progress.say(f"{count} failed candidates are tried again." if count else "No candidate has failed.")

    def _export(self) -> None:
        """Copy the trained candidates to Optuna. A failure is shown; the next call repeats the copy."""
        if self.config.optuna:
            try:
                new = [number for number in self.records.ledger.ended() if number not in self._exported]
                export(
                    self.records.trials(new, self.screener.domains, with_architecture=False),
                    self.config.optuna,
                    self.config.study,
                )
                self._exported |= set(new)
            except Exception as error:  # any error of a database
                text = " ".join(f"{type(error).__name__}: {error}".split())
                self.progress.say(f"Optuna's copy failed: {text:.300}")

    def _check_that_training_works(self, *, least: int | None = None) -> None:
        """Raise UserError if the last candidates failed, at least this many; their tracebacks are in the log."""
        ledger = self.records.ledger
        count = len(ledger.failed_in_a_row())
        if count < (least or (MOST_FAILURES if ledger.trained() else FIRST_FAILURES)):
            return
        failed = self.records.numbered(ledger.failed_in_a_row())
        log = self.records.log(*(f"Candidate {c.key}: {c.reason}\n{c.traceback or ''}" for c in failed))
        raise UserError(
            f"Training must succeed for some candidate. The last {count} failed, the last with "
            f"{(failed[-1].reason or '').rstrip('.'):.300}. The tracebacks are in {log}. Mend the cause and resume "
            "with --retry-failed, or start a new study with other settings."
        )

    def _limit_reached(self, done: int) -> str | None:
        """The reason why no generation follows after ``done`` of them; None if one does."""
        config, trained, elapsed = self.config, self.records.ledger.chosen(), self.keeper.clock.elapsed()
        count = len(self.records.ledger.failed())
        failed = f" and {count} failed" if count else ""
        if trained >= self._train_limit():
            return f"{trained} candidates were trained{failed}"
        if config.generations is not None and done >= config.generations:
            return f"{done} generations were trained{failed and failed + ' candidates'}"
        if config.hours is not None:
            typical = elapsed / done if done else 0.0
            if elapsed + 0.5 * typical > SEARCH_SHARE * config.hours * 3600:
                return f"the search's share of {config.hours:g} hours was used"
        return None

    def _train_limit(self) -> float:
        """Candidates to train in the whole study."""
        config = self.config
        if config.train is not None:
            return config.train
        return DEFAULT_TRAIN if config.generations is None and config.hours is None else math.inf
