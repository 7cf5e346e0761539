"""The jobs of a batch that wait for a worker, and what follows from the failure of one; the same for all runners."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

from nas.errors import EnvironmentFault
from nas.evaluation.faults import Fault, Owner
from nas.evaluation.jobs import Job
from nas.workers.runner import Failure

ATTEMPTS = 2
"""Attempts of a job whose failure does not name its owner; the last one is alone."""


class JobQueue:
    """The jobs of a batch.

    They are made when there is room for them or a caller must know whether there are more: a large batch takes no
    memory, and the results of earlier jobs can decide which is next.

    Parameters
    ----------
    jobs
        In order; their folders differ.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._left = iter(jobs)
        self._waiting: deque[Job] = deque()  # made, but not taken
        self._suspects: deque[Job] = deque()
        self._failed_once: set[str] = set()

    def __bool__(self) -> bool:
        """Whether a job waits."""
        return self.first is not None or bool(self._suspects)

    @property
    def first(self) -> Job | None:
        """The next job that has not failed; None if none is left."""
        self._make(1)
        return self._waiting[0] if self._waiting else None

    @property
    def repeats(self) -> int:
        """Number of jobs that wait to be repeated."""
        return len(self._suspects)

    def startable(self, *, running: int, most: int) -> int:
        """Number of jobs that may start beside this number of running jobs, counted up to ``most``."""
        self._make(most)
        return min(most, len(self._waiting)) or (1 if self._suspects and running == 0 else 0)

    def take(self, *, running: int) -> Job | None:
        """The next job, if one may start beside this number of running jobs. Jobs that are repeated run alone."""
        self._make(1)
        if self._waiting:
            return self._waiting.popleft()
        if self._suspects and running == 0:
            return self._suspects.popleft()
        return None

    def _make(self, count: int) -> None:
        """Make jobs until this number waits."""
        self._waiting.extend(islice(self._left, max(0, count - len(self._waiting))))

    def is_repeated(self, job: Job) -> bool:
        """Whether a job from :meth:`take` has failed before and must be alone."""
        return job.folder in self._failed_once

    def put_back(self, job: Job) -> None:
        """Take back a job whose worker was lost through nobody's fault; it is the next one."""
        (self._suspects if self.is_repeated(job) else self._waiting).appendleft(job)

    def failed(self, job: Job, fault: Fault) -> Failure | None:
        """Decide what follows from a failed attempt.

        Parameters
        ----------
        job
            From :meth:`take`.
        fault
            Of the attempt.

        Returns
        -------
        Failure or None
            The failure of the candidate; None if the job will be repeated.

        Raises
        ------
        EnvironmentFault
            If the fault is not the candidate's. The study must stop.
        """
        attempts = ATTEMPTS if self.is_repeated(job) else 1
        if fault.repeated and attempts < ATTEMPTS:
            self._failed_once.add(job.folder)
            self._suspects.append(job)
            return None
        if fault.owner is Owner.ENVIRONMENT:
            raise EnvironmentFault(f"{fault.reason.rstrip('.')}. No candidate is to blame: mend the cause and resume.")
        return Failure(reason=fault.reason, traceback=fault.traceback, attempts=attempts)
