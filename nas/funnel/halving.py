"""Successive halving: train the candidates of a generation to each rung, and continue with the best third.

References
----------
Jamieson & Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from nas.config import Config
from nas.funnel.records import Candidate, Records
from nas.funnel.state import StateKeeper
from nas.funnel.training import CandidateTrainer
from nas.workers.job_folder import discard


class SuccessiveHalving:
    """Partial training of generations; training in full, with all repeats, if trainings are free."""

    def __init__(self, config: Config, records: Records, keeper: StateKeeper, trainer: CandidateTrainer):
        self.config, self.records, self.keeper, self.trainer = config, records, keeper, trainer

    def run(self, generation: int) -> None:
        """Train a generation, counted from 0, to its last rung; results that the store has are not trained again."""
        rungs = self.config.rungs()
        for epochs in rungs:
            last = epochs == rungs[-1]
            self.trainer.train(
                list(self._missing(generation, epochs)),
                label=f"generation {generation + 1}: epoch {epochs} of {rungs[-1]}",
                stage="search",
                epochs=rungs[-1],
                until=epochs,
                images=None if self.config.free else self.config.images,
                # with a time limit, no time may be left for full training
                test=last and (self.config.free or self.config.hours is not None),
            )
            self._decide(generation, epochs, last=last)

    def _missing(self, generation: int, epochs: int) -> Iterator[tuple[Candidate, int]]:
        """The trainings of a rung without a result, as pairs of candidate and repeat."""
        fidelity = self.records.rung(epochs)
        for candidate in self.records.candidates(generation):
            if candidate.in_training:
                if fidelity not in self.records.ledger[candidate.id].accuracy:
                    yield candidate, 0
                for repeat in self._repeats[1:]:
                    if not self.records.is_tested(candidate, fidelity, repeat):
                        yield candidate, repeat

    @property
    def _repeats(self) -> range:
        """The repeats of a training: several only if it is in full."""
        return range(self.config.seeds if self.config.free else 1)

    def _decide(self, generation: int, epochs: int, *, last: bool) -> None:
        """Stop all but the best third at a rung. A decision that is repeated after a resume is the same."""
        records, ledger, fidelity = self.records, self.records.ledger, self.records.rung(epochs)
        entered = [c for c in records.candidates(generation) if fidelity in ledger[c.id].accuracy]
        entered.sort(key=lambda candidate: (-ledger[candidate.id].accuracy[fidelity], candidate.key))
        survivors = len(entered) if last else math.ceil(len(entered) / 3)
        changes: dict[int, tuple[str, str]] = {}
        for place, candidate in enumerate(entered):
            if candidate.in_training:
                accuracy = ledger[candidate.id].accuracy[fidelity]
                status = "finished" if last else "training" if place < survivors else "stopped"
                where = f"Place {place + 1} of {len(entered)} at epoch {epochs}"
                changes[candidate.id] = status, f"{where}, with anytime accuracy {accuracy:.4f}."
        with records.transaction():
            records.set_statuses(changes)
            self.keeper.update()
        for candidate in entered if last else entered[survivors:]:
            for repeat in self._repeats:
                discard(self.trainer.evaluator, records.folder(candidate.key, "search", repeat))
