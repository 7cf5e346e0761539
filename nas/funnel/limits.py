"""When a search ends: its limits, and candidates that all fail."""

from __future__ import annotations

import math

from nas.config import Config
from nas.errors import UserError
from nas.funnel.records import Records
from nas.funnel.state import StateKeeper

DEFAULT_TRAIN = 36  # candidates, if there is no limit
FIRST_FAILURES, MOST_FAILURES = 3, 10
"""Failed candidates, one after the other, that end a search: before the first result, and after it."""
SEARCH_SHARE = 0.6  # of --hours; the rest is for full training of the finalists


class Limits:
    """The limits of a search."""

    def __init__(self, config: Config, records: Records, keeper: StateKeeper) -> None:
        self.config, self.records, self.keeper = config, records, keeper

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
        share, ahead = (1.0, typical) if self.config.free else (SEARCH_SHARE, 0.5 * typical)
        if hours is not None and self.keeper.clock.elapsed() + ahead > share * hours * 3600:
            return f"the search's share of {hours:g} hours was used"
        return None


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
