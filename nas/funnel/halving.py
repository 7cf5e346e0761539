"""Successive halving: train the candidates of a generation to each rung, and continue with the best third.

The candidates with the best results continue; with a time limit, those with the best forecasts, because an equal time
gives a small network more images than a large one. If the search's share of the time is over, those that have been
trained are compared, and the others stop. With a time limit, several candidates of the first generation go to the last
rung, because after fewer images designs differ less than seeds; partial training also ends when a single candidate is
left and there is no other to compare it with: full training continues it, with one long schedule in place of more
short ones.

References
----------
Jamieson & Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from nas.config import Config
from nas.funnel.leaders import Leaders
from nas.funnel.limits import Limits
from nas.funnel.records import Candidate, Records
from nas.funnel.rungs import measured_images, partial_stages, threads_for
from nas.funnel.state import StateKeeper
from nas.funnel.training import CandidateTrainer, Stretch
from nas.spaces.references import design_of

FINAL_CANDIDATES = 3
"""Candidates of a first generation that are compared at the last rung, if the time is limited."""


class SuccessiveHalving:
    """Partial training of generations; training in full, with all repeats, if trainings are free."""

    def __init__(
        self,
        config: Config,
        records: Records,
        keeper: StateKeeper,
        trainer: CandidateTrainer,
        limits: Limits,
        leaders: Leaders,
    ):
        self.config, self.records, self.keeper, self.trainer = config, records, keeper, trainer
        self.limits, self.leaders = limits, leaders

    def run(self, generation: int) -> None:
        """Train a generation, counted from 0, to its last rung; results that the store has are not trained again."""
        before, entrants = 0, len(self.records.ledger.of_generation(generation))
        for epochs in self.config.rungs():
            self.trainer.train(
                self._missing(generation, epochs),
                self._stretch(before, epochs, entrants),
                label=f"generation {generation + 1}: epoch {epochs} of {self.config.rungs()[-1]}",
                more=partial(self._has_time, generation, epochs - before, epochs),
            )
            self._decide(generation, epochs)
            before, entrants = epochs, self._survivors(generation, entrants)

    def _stretch(self, before: int, epochs: int, entrants: int) -> Stretch:
        """The training from one rung to the next. entrants: candidates that are trained, unless some fail."""
        config, info = self.config, self.records.info
        last = epochs == config.rungs()[-1]
        if config.free:
            return Stretch(part="search", epochs=epochs, until=epochs, images=None, test=True)
        seen = measured_images(min(config.partial_images, info.train_images), epochs - before, info.task.num_classes)
        return Stretch(
            part="search",
            epochs=config.rungs()[-1],
            until=epochs,
            images=config.images,
            stages=partial_stages(config),
            save=not self.records.ledger.finished(),  # an interrupted search leaves a network
            measured_images=None if last else seen,
            threads=threads_for(config, entrants),
        )

    def _has_time(self, generation: int, added: int, epochs: int, candidate: Candidate) -> bool:
        """Whether there is time to train a candidate to a rung; at least one of a study is. added: epochs of it."""
        if not self.records.ledger.trained():
            return True
        first = added == epochs
        seconds = 0.0
        if not first:
            images = added * min(self.config.partial_images, self.records.info.train_images)
            seconds = images * self.records.learning_curve(candidate.id).seconds_per_image
        return self.limits.time_for_rung(seconds, first=first and generation == 0)

    def _missing(self, generation: int, epochs: int) -> Iterator[tuple[Candidate, int]]:
        """The trainings of a rung without a result, as pairs of candidate and repeat; the best candidates first."""
        fidelity = self.records.rung(epochs)
        candidates = self.records.candidates(generation)
        timed_first = not generation and epochs == self.config.rungs()[0] and self.config.hours is not None
        for candidate in self._by_design(candidates) if timed_first else self._by_value(candidates):
            if candidate.in_training:
                if fidelity not in self.records.ledger[candidate.id].accuracy:
                    yield candidate, 0
                for repeat in self._repeats[1:]:
                    if not self.records.is_measured(candidate, fidelity, repeat, test=True):
                        yield candidate, repeat

    def _by_value(self, candidates: list[Candidate]) -> list[Candidate]:
        """The best candidates first, those without results in their order."""
        values = self.leaders.values(candidate.id for candidate in candidates)
        return sorted(candidates, key=lambda candidate: -values.get(candidate.id, 0.0))

    def _by_design(self, candidates: list[Candidate]) -> Iterator[Candidate]:
        """One reference of each design, then those of the design that leads when the next training can begin.

        There may be no time for all. A good design is good in several sizes, so further sizes of the leading one
        promise more than further sizes of any. Candidates that the user enqueued count as a design each, others that
        are no references as one design.
        """
        designs = {c.id: design_of(self.records.ledger[c.id].reference or "") for c in candidates}
        designs |= {c.id: c.key for c in candidates[: len(self.config.enqueue or ())] if not designs[c.id]}
        left, begun = self._by_value(candidates), list[int]()
        while left:
            values, best = self.leaders.values(begun), dict[str, float]()
            for number in begun:
                best[designs[number]] = max(best.get(designs[number], -math.inf), values.get(number, -math.inf))
            following = max(left, key=lambda candidate: best.get(designs[candidate.id], math.inf))
            left.remove(following)
            begun.append(following.id)
            yield following

    @property
    def _repeats(self) -> range:
        """The repeats of a training: several only if it is in full."""
        return range(self.config.seeds if self.config.free else 1)

    def _is_first(self, generation: int) -> bool:
        """Whether the time is limited and no candidate of an earlier generation has finished."""
        ledger = self.records.ledger
        earlier = (number for before in range(generation) for number in ledger.of_generation(before))
        return self.config.hours is not None and not any(ledger[number].status == "finished" for number in earlier)

    def _survivors(self, generation: int, entrants: int) -> int:
        """How many of the candidates that enter a rung before the last one continue."""
        fewest = FINAL_CANDIDATES if self._is_first(generation) else 1
        return min(entrants, max(math.ceil(entrants / 3), fewest))

    def _decide(self, generation: int, epochs: int) -> None:
        """Stop all but the best third at a rung. A decision that is repeated after a resume is the same."""
        records, ledger, fidelity = self.records, self.records.ledger, self.records.rung(epochs)
        last = epochs == self.config.rungs()[-1]
        candidates = records.candidates(generation)
        entered = [c for c in candidates if fidelity in ledger[c.id].accuracy]
        values = self.leaders.values(candidate.id for candidate in entered)
        entered.sort(key=lambda candidate: (-values[candidate.id], candidate.key))
        survivors = len(entered) if last else self._survivors(generation, len(entered))
        ends = last or (survivors == 1 and self._is_first(generation))
        changes: dict[int, tuple[str, str]] = {}
        for place, candidate in enumerate(entered):
            if candidate.in_training:
                accuracy = ledger[candidate.id].accuracy[fidelity]
                status = "stopped" if place >= survivors else "finished" if ends else "training"
                where = f"Place {place + 1} of {len(entered)} at epoch {epochs}"
                changes[candidate.id] = status, f"{where}, with anytime accuracy {accuracy:.4f}."
        late = [c for c in candidates if c.in_training and fidelity not in ledger[c.id].accuracy]
        changes |= {c.id: ("stopped", f"The search's time was over before epoch {epochs}.") for c in late}
        with records.transaction():
            records.set_statuses(changes)
            self.keeper.update()
        self.leaders.ended(c.id for c in (*entered, *late) if ledger[c.id].status != "training")
