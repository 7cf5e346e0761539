"""The contract of runners: they run jobs somewhere and hand back outcomes or failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from nas.evaluation.jobs import Job, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A job without an outcome. reason: one line. attempts: how often it was tried."""

    reason: str
    traceback: str
    attempts: int


Done = Callable[[Job, Outcome | Failure], None]
"""Receives the result of a job."""

EpochDone = Callable[[Job, int], None]
"""Receives a job and the number of its completed epochs."""


class Runner(Protocol):
    """Runs jobs, on this machine or on others.

    Life cycle
    ----------
    The driver constructs one for a study, calls :meth:`run` for every batch of jobs, and :meth:`close` at the end, also
    after an exception. All calls come from one thread.
    """

    def run(self, jobs: Iterable[Job], done: Done, progress: EpochDone) -> None:
        """Run jobs; return when each of them has a result.

        Parameters
        ----------
        jobs
            Run side by side, in any order.
        done
            Called once for every job.
        progress
            Called after every epoch, when its checkpoint is on disk.

        Raises
        ------
        Exception
            Only from the callbacks; jobs still running are then stopped by :meth:`close`.

        Notes
        -----
        The callbacks are called one at a time, in the thread that called ``run``.
        """

    def close(self) -> None:
        """Stop all running jobs at once. Their checkpoints remain."""
