"""Slots that train the proposals of an asynchronous search in this process, in random order of completion."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import dataclass, field

from nas import launch
from nas.evaluation.faults import fault_of
from nas.evaluation.jobs import Outcome
from nas.funnel.asynchronous import AsynchronousFunnel, Training
from nas.funnel.training import OutOfTime

ETA = 3


@dataclass
class Slots:
    """Trains on some slots; a result stops a candidate unless it is in the best third at its rung so far (ASHA).

    seed: of the choice of the slot whose stretch is trained next. lose: share of stretches after which a training is
    lost. most: candidates that were in flight at once. trained: key and rung of all stretches, of all runs.

    References
    ----------
    Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020.
    """

    slots: int = 3
    seed: int = 0
    lose: float = 0.0
    most: int = 0
    funnel: AsynchronousFunnel | None = None
    trained: list[tuple[str, int]] = field(default_factory=list)

    def __call__(self, funnel: AsynchronousFunnel) -> None:
        self.funnel, self.rng = funnel, random.Random(self.seed)
        self.accuracies = defaultdict(list)
        for reached in funnel.earlier_results().values():
            for epochs, accuracy in reached.items():
                self.accuracies[epochs].append(accuracy)
        running: dict[int, tuple[Training, list[int]]] = {}
        while True:
            while len(running) < self.slots and (training := funnel.propose()) is not None:
                assert training.candidate not in running
                running[training.candidate] = training, list(training.rungs)
            assert set(funnel.in_flight) == set(running)
            self.most = max(self.most, len(running))
            assert funnel.ended == (not running)
            if funnel.ended:
                return
            number = self.rng.choice(list(running))
            training, left = running[number]
            if not self._advance(training, left.pop(0), last=not left):
                del running[number]

    def _advance(self, training: Training, epochs: int, *, last: bool) -> bool:
        """Train a stretch; whether the training goes on."""
        funnel, number = self.funnel, training.candidate
        accuracy = training.known.get(epochs)
        if accuracy is None:
            outcome = self._outcome(training, epochs)
            if outcome is None:
                return False
            accuracy = funnel.report(number, epochs, outcome)
        if self.rng.random() < self.lose:
            funnel.lost(number)
            return False
        at_rung = self.accuracies[epochs]
        at_rung.append(accuracy)
        if last:
            funnel.finished(number)
        elif sorted(at_rung, reverse=True).index(accuracy) >= math.ceil(len(at_rung) / ETA):
            funnel.stopped(number, "Stopped by slots")
            return False
        return not last

    def _outcome(self, training: Training, epochs: int) -> Outcome | None:
        try:
            outcome = self.funnel.trainer.evaluator.evaluate(training.stretch(epochs), lambda epoch: None)
        except OutOfTime:
            raise
        except Exception as error:
            self.funnel.failed(training.candidate, fault_of(error))
            return None
        self.trained.append((training.key, epochs))
        return outcome


def train_on(slots: Slots, monkeypatch) -> Slots:
    """Make searches asynchronous, on these slots."""
    monkeypatch.setattr(launch, "_trains_proposals", lambda config, runner: slots)
    return slots
