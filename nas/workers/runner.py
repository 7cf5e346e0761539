"""The contract of runners: they run jobs somewhere and hand back outcomes or failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from nas.evaluation.jobs import Job, Outcome
from nas.workers.activity import Activity


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

Patience = Callable[[Job], float]
"""Seconds that a job may take without an event before it counts as hung; infinite: never."""

OPENING = 6
"""A worker that loads evaluator and data may take this many times as long as a silent job."""


class Runner(Protocol):
    """Runs jobs, on this machine or on others.

    Life cycle
    ----------
    The driver constructs one for a study, calls :meth:`run` for every batch of jobs, and :meth:`close` at the end, also
    after an exception. All calls come from one thread.
    """

    @property
    def slots(self) -> int:
        """Number of jobs that run side by side."""

    def activity(self) -> Activity:
        """The nodes and the running jobs; may be called by the callbacks of :meth:`run`."""

    def run(self, jobs: Iterable[Job], done: Done, progress: EpochDone, patience: Patience) -> None:
        """Run jobs; return when each of them has a result.

        Parameters
        ----------
        jobs
            Run side by side, in any order. Taken one at a time, when a slot is free, because a batch may be large.
        done
            Called once for every job.
        progress
            Called after every epoch, when its checkpoint is on a disk of the worker.
        patience
            Called often while a job runs.

        Raises
        ------
        EnvironmentFault
            A fault is not of a candidate, see :mod:`nas.evaluation.faults`.
        Exception
            From the callbacks. After any exception, jobs still running are stopped by :meth:`close`.

        Notes
        -----
        The callbacks are called one at a time, in the thread that called ``run``. A
        :class:`nas.workers.job_queue.JobQueue` decides what follows from a failure. A runner on several machines first
        gives up a machine with a fault of the environment, and raises if none is left.
        """

    def close(self) -> None:
        """Stop all running jobs at once. Their checkpoints remain."""
