"""When a search ends: its limits, and candidates that all fail."""

from __future__ import annotations

import math

from nas.config import Config
from nas.errors import UserError
from nas.funnel.forecast import expected_gain, forecast
from nas.funnel.records import Records
from nas.funnel.state import StateKeeper

DEFAULT_TRAIN = 36  # candidates, if there is no limit
FIRST_FAILURES, MOST_FAILURES = 3, 10
"""Failed candidates, one after the other, that end a search: before the first result, and after it."""
SEARCH_SHARE = 0.45
"""Most of --hours for partial training and proposals; the rest is for full training of the finalists."""
FULL_RESERVE = 2.0
"""Times the estimated duration of the longest full training that the search leaves."""
FIRST_SHARE = 0.08
"""Share of --hours after which no further reference begins its training to the first rung."""
OTHERS_SHARE = 0.25
"""Most of --hours for proposals while a reference leads."""
FEWEST = 4
"""Proposals with results from which the gain of a further generation is estimated."""
TRIAL_SHARE = 0.05
"""Most of --hours that the first such proposals may take, while nothing is known of their gain."""


class Limits:
    """The limits of a search. slots: trainings side by side."""

    def __init__(self, config: Config, records: Records, keeper: StateKeeper, *, slots: int) -> None:
        self.config, self.records, self.keeper, self.slots = config, records, keeper, slots

    @property
    def train(self) -> float:
        """Candidates to train in the whole study."""
        config = self.config
        if config.train is not None:
            return config.train
        return DEFAULT_TRAIN if config.generations is None and config.hours is None else math.inf

    def counts_reached(self, generations: int) -> str | None:
        """The reason why no generation follows after this number of them; None if the limits in numbers allow one."""
        ledger, most = self.records.ledger, self.config.generations
        trained, count = ledger.chosen(), len(ledger.failed())
        failed = f" and {count} failed" if count else ""
        if trained >= self.train:
            return f"{trained} candidates were trained{failed}"
        if most is not None and generations >= most:
            return f"{generations} generations were trained{failed and failed + ' candidates'}"
        return None

    def time_used(self, typical: float) -> str | None:
        """The reason why nothing more is trained that takes ``typical`` seconds; None if there is time."""
        hours = self.config.hours
        ahead = typical if self.config.free else 0.5 * typical
        if hours is not None and self.keeper.clock.elapsed() + ahead > self._search_seconds(hours * 3600):
            return f"the search's share of {hours:g} hours was used"
        return None

    def _search_seconds(self, total: float) -> float:
        """Seconds for partial training and proposals: more than their share if full training needs little."""
        if self.config.free:
            return total
        ledger, most = self.records.ledger, self.config.most_passes
        finished = [n for n in ledger.ended() if ledger[n].status == "finished" and self.records.reached(n)]
        if not finished:
            return SEARCH_SHARE * total
        best = self.records.learning_curve(max(finished, key=lambda n: max(ledger[n].accuracy.items())))
        needed = FULL_RESERVE * most * self.records.info.train_images * best.seconds_per_image
        return SEARCH_SHARE * total if math.isnan(needed) else max(SEARCH_SHARE * total, total - needed)

    def time_for_rung(self, seconds: float, *, first: bool) -> bool:
        """Whether there is time for a training of ``seconds``, NaN if unknown.

        first: whether it is to the first rung of the first generation.
        """
        hours = self.config.hours
        if hours is None:
            return True
        total = hours * 3600
        end = FIRST_SHARE * total if first and not self.config.free else self._search_seconds(total)
        ahead = 0.0 if math.isnan(seconds) else seconds
        return self.keeper.clock.elapsed() + ahead < end

    def seconds_of_winner(self) -> float | None:
        """Seconds that full training will take, about; None without a time limit."""
        hours = self.config.hours
        return None if hours is None or self.config.free else (1 - SEARCH_SHARE) * hours * 3600

    def proposals_end(self) -> str | None:
        """The reason why a further generation promises less than more training of the leader; None if it promises more.

        The gain of a generation is its expected improvement on the leader's forecast, if its candidates are drawn from
        the distribution of the forecasts so far. The loss is what the leader forgoes in the time of a generation. While
        a reference leads, other proposals take a part of the time at most.
        """
        hours, records = self.config.hours, self.records
        if hours is None or self.config.free:
            return None
        elapsed, total = self.keeper.clock.elapsed(), hours * 3600
        references = {n for n in records.ledger.ended() if records.ledger[n].reference is not None}
        curves = {n: records.learning_curve(n) for n in records.ledger.ended() if records.reached(n)}
        curves = {n: curve for n, curve in curves.items() if curve.seconds_per_image > 0}
        others = curves.keys() - references
        if not curves or not references:
            return None
        slope = records.typical_slope()

        def value(number: int, seconds: float) -> float:
            return forecast(curves[number], max(0.0, seconds) / curves[number].seconds_per_image, slope)

        leader = max(curves, key=lambda number: value(number, total - elapsed))
        generations = len({records.ledger[n].generation for n in others})
        seconds = self._seconds_of_proposals()
        if leader in references and seconds > OTHERS_SHARE * total:
            return f"no proposal was better than the leading reference in {seconds:.0f} seconds"
        typical = elapsed / max(1, self.keeper.state.generations)
        if len(others) < FEWEST:
            if typical <= TRIAL_SHARE * total:
                return None
            return f"a generation of proposals would take {typical:.0f} seconds, which the leader needs more"
        best = value(leader, total - elapsed)
        loss = best - value(leader, total - elapsed - seconds / generations)
        gain = expected_gain(best, [value(n, total - elapsed) for n in others], self.config.generation)
        if gain >= loss:
            return None
        return (
            f"another generation promised {100 * gain:.2f} points of anytime accuracy, and more training of the leader "
            f"{100 * loss:.2f}"
        )

    def _seconds_of_proposals(self) -> float:
        """Seconds of partial training of proposals that are no references."""
        records, ledger = self.records, self.records.ledger
        reached = {n: max(records.reached(n), default=0) for n in ledger.ended() if ledger[n].reference is None}
        total = sum(ledger[n].seconds[records.rung(epochs)] for n, epochs in reached.items() if epochs)
        return total / self.slots


def check_that_training_works(records: Records, *, least: int | None = None) -> None:
    """Raise UserError if the last candidates failed, at least this many; their tracebacks are in the log."""
    ledger = records.ledger
    count = len(ledger.failed_in_a_row())
    if count < (least or (MOST_FAILURES if ledger.trained() else FIRST_FAILURES)):
        return
    failed = records.numbered(ledger.failed_in_a_row())
    log = records.log(*(f"Candidate {c.key}: {c.reason}\n{c.traceback or ''}" for c in failed))
    raise UserError(
        f"Training must succeed for some candidate. The last {count} failed, the last with "
        f"{(failed[-1].reason or '').rstrip('.'):.300}. The tracebacks are in {log}. Mend the cause and resume "
        "with --retry-failed, or start a new study with other settings."
    )
