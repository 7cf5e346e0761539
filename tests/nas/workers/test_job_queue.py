"""The queue of a batch: jobs are repeated once, alone, if their failure does not show whose fault it is."""

from __future__ import annotations

import pytest

from nas.errors import EnvironmentFault
from nas.evaluation.faults import fault_of, fault_of_death
from nas.workers.job_queue import JobQueue

DEATH = fault_of_death(7, opened=True)
UNBORN = fault_of_death(7, opened=False)


def test_jobs_are_given_in_order(jobs):
    queue = JobQueue(jobs)
    assert queue
    assert [queue.take(running=number) for number in range(len(jobs))] == jobs
    assert queue.take(running=0) is None
    assert not queue


def test_jobs_are_made_when_they_are_taken(jobs):
    made = []
    queue = JobQueue(made.append(job) or job for job in jobs)
    assert made == []
    queue.take(running=0)
    assert made == jobs[:1]
    assert queue
    assert made == jobs[:2]
    assert queue.startable(running=0, most=2) == 2
    assert made == jobs[:3]
    assert queue.startable(running=0, most=1_000) == len(jobs) - 1


def test_a_repeated_job_waits_until_it_is_alone(jobs):
    queue = JobQueue(jobs[:2])
    first = queue.take(running=0)
    assert queue.failed(first, DEATH) is None
    assert queue.take(running=0) is jobs[1]
    assert queue.take(running=1) is None
    assert queue
    assert queue.take(running=0) is first
    assert queue.is_repeated(first)
    assert not queue.is_repeated(jobs[1])
    failure = queue.failed(first, DEATH)
    assert failure.attempts == 2
    assert "exit status 7" in failure.reason


def test_an_exception_of_the_candidate_is_its_failure_at_once(jobs):
    queue = JobQueue(jobs[:1])
    failure = queue.failed(queue.take(running=0), fault_of(ZeroDivisionError("x")))
    assert (failure.reason, failure.attempts) == ("ZeroDivisionError: x", 1)
    assert not queue


def test_a_fault_of_the_environment_stops_the_study(jobs):
    queue = JobQueue(jobs)
    with pytest.raises(EnvironmentFault, match=r"No space left on device\. No candidate is to blame"):
        queue.failed(queue.take(running=0), fault_of(OSError(28, "No space left on device")))


def test_a_worker_that_dies_twice_before_training_stops_the_study(jobs):
    queue = JobQueue(jobs[:1])
    assert queue.failed(queue.take(running=0), UNBORN) is None
    with pytest.raises(EnvironmentFault, match="exit status 7"):
        queue.failed(queue.take(running=0), UNBORN)
