"""The activity of a running study in its store, where `nas status` reads it: stage, nodes and running trainings."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nas.workers.activity import Activity

if TYPE_CHECKING:
    from results.writer import StudyWriter

EVERY, EVERY_STAGE = 5.0, 1.0
"""Least seconds between two writes, in one stage and in different ones."""


class ActivityRecord:
    """Writes the activity of a study at a limited rate.

    Parameters
    ----------
    writer
        Of the study.
    source
        Returns the present activity.
    most
        Trainings side by side that the user allows; None: no limit.
    """

    def __init__(self, writer: StudyWriter, source: Callable[[], Activity], *, most: int | None = None) -> None:
        self._writer, self.source, self._most = writer, source, most
        self._stage = ""
        self._written = -EVERY
        self._shows_jobs = False

    def note(self, stage: str) -> None:
        """Take the stage of the search into account."""
        changed, self._stage = stage != self._stage, stage
        self._write_after(EVERY_STAGE if changed else EVERY)

    def tick(self) -> None:
        """Write the activity, unless it was written a moment ago; to be called often while jobs run."""
        self._write_after(EVERY)

    def ended(self) -> None:
        """No job runs any more: do not leave earlier ones in the store."""
        if self._shows_jobs:
            self._write_after(0.0)

    def _write_after(self, seconds: float) -> None:
        if time.monotonic() - self._written < seconds:
            return
        activity = self.source().limited(self._most)
        self._writer.set_activity({"stage": self._stage, **activity.to_json()})
        self._shows_jobs, self._written = bool(activity.running), time.monotonic()
