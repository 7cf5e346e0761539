"""A worker on the cluster as the driver sees it: an actor, its state, its job, and the call that is under way."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from typing import Any, cast

import ray

from nas.evaluation.jobs import Job
from nas.ray.actor import Worker
from nas.ray.job_files import Files


class State(Enum):
    """States of a slot, in order; after an outcome it is idle again."""

    PLACING = "waits for room on a node"
    OPENING = "loads evaluator and data"
    IDLE = "idle"
    STARTING = "receives a job"
    RUNNING = "runs a job"


class Slot:
    """A worker and its job.

    Parameters
    ----------
    call
        Reference to the evaluator's call.
    options
        Resources of the actor.
    environment
        Its runtime environment.

    Attributes
    ----------
    call
        Reference to the result of the method that runs; None in an idle slot.
    node, node_name
        Where it runs; None before it is placed.
    fresh
        Whether it has had no job yet.
    epochs, silent
        Completed epochs of the job; seconds since the last event.
    """

    def __init__(self, call: ray.ObjectRef, options: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        worker = ray.remote(Worker).options(**options, runtime_env=dict(environment), max_restarts=0)
        self._actor = cast(Any, worker.remote(call))  # ray's types do not know the methods of actors
        self.state = State.PLACING
        self.call: ray.ObjectRef | None = self._actor.place.remote()
        self.job: Job | None = None
        self.node: str | None = None
        self.node_name = ""
        self.fresh = True
        self.epochs, self.silent = 0, 0.0

    def proceed(self, message: Mapping[str, Any]) -> None:
        """Take the next step after a message."""
        if self.state is State.PLACING:
            self.node, self.node_name = message["node"], message["name"]
            self.state, self.call = State.OPENING, self._actor.open.remote()
        elif self.state is State.OPENING:
            self.rest()
            self.fresh = True
        else:
            self.state, self.call = State.RUNNING, self._actor.next_message.remote()

    def start(self, job: Job, code: ray.ObjectRef | None, files: Files | None) -> None:
        """Send a job, and a reference to the user's code that it needs.

        files: of the job's folder, with the checkpoint that it continues from; None if the worker reads them itself.
        """
        self.job, self.epochs, self.silent, self.fresh = job, 0, 0.0, False
        self.state, self.call = State.STARTING, self._actor.start.remote(job.to_json(), files, (code,))

    def rest(self) -> None:
        """Wait for a job."""
        self.state, self.call, self.silent = State.IDLE, None, 0.0

    def end(self) -> None:
        """Stop the worker at once."""
        with suppress(Exception):  # of a cluster that is lost
            ray.kill(self._actor)
