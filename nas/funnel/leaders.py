"""The leading candidates of a search: how candidates are compared, and whose checkpoints are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nlargest

from nas.funnel.forecast import forecast
from nas.funnel.limits import Limits
from nas.funnel.records import Records
from nas.funnel.training import CandidateTrainer
from nas.workers.job_folder import discard

KEPT = 4
"""Candidates whose checkpoints are kept after partial training, because they may become finalists."""


class Leaders:
    """Compares candidates, and removes the checkpoints of those that have ended and are not among the best.

    told: is called when candidates have ended.
    """

    def __init__(
        self, records: Records, trainer: CandidateTrainer, limits: Limits, told: Callable[[], object] = lambda: None
    ) -> None:
        self.records, self.trainer, self.limits, self._told = records, trainer, limits, told
        self._kept: list[int] | None = None  # None: not yet known in this run

    def values(self, numbers: Iterable[int]) -> dict[int, float]:
        """The values by which candidates with results are compared, the larger the better.

        They are the last accuracies, or their forecasts if the time is limited.
        """
        curves = {number: self.records.learning_curve(number) for number in numbers if self.records.reached(number)}
        seconds = self.limits.seconds_of_winner()
        if seconds is None:
            return {number: curve.accuracy for number, curve in curves.items()}
        slope = self.records.typical_slope()
        return {
            number: forecast(curve, seconds / curve.seconds_per_image, slope)
            if curve.seconds_per_image > 0
            else curve.accuracy
            for number, curve in curves.items()
        }

    def ended(self, numbers: Iterable[int]) -> None:
        """The partial training of these candidates has ended, as the records say."""
        new = set(numbers)
        earlier = self.records.ledger.ended() if self._kept is None else self._kept
        self._kept = self._best({*earlier, *new})
        self._discard({*earlier, *new} - {*self._kept})
        self._told()

    def end(self) -> None:
        """The finalists have been trained: no checkpoint of partial training is needed."""
        self._discard(self._best(self.records.ledger.ended()) if self._kept is None else self._kept)
        self._kept = []

    def _best(self, ended: Iterable[int]) -> list[int]:
        """The candidates that may become finalists: of those that finished, if there are any."""
        if self.records.config.free:
            return []
        values = self.values(sorted(ended))
        finished = [number for number in values if self.records.ledger[number].status == "finished"]
        return nlargest(KEPT, finished or values, key=values.__getitem__)

    def _discard(self, numbers: Iterable[int]) -> None:
        records = self.records
        for number in numbers:
            for repeat in range(records.config.seeds if records.config.free else 1):
                discard(self.trainer.evaluator, records.folder(records.ledger[number].key, "search", repeat))
