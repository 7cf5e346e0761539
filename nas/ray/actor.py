"""A worker on a cluster: an actor that loads the evaluator once, and trains one job at a time.

The driver asks for messages one by one, because that works through ``ray://`` too, where streams do not.
"""

from __future__ import annotations

import platform
import queue
import shutil
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ray

from nas.errors import EnvironmentFault
from nas.evaluation.faults import fault_of
from nas.evaluation.jobs import Job
from nas.ray.data import PlacedCall
from nas.ray.job_files import Files, read_files, working_folder, write_files
from nas.workers.job_folder import check_shared
from nas.workers.session import opened_evaluator, run_job

if TYPE_CHECKING:
    from nas.evaluation.evaluator import Evaluator

DELIVERY_SECONDS = 30.0
"""Least time between two checkpoints that are sent to the driver; a lost worker loses this much training."""
LAST = ("outcome", "fault")
"""Keys of the last message of a job."""


class Worker:
    """The class of the actor. call: the evaluator of the study."""

    def __init__(self, call: PlacedCall) -> None:
        self._call = call
        self._code = call.code
        self._evaluator: Evaluator | None = None
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._delivered = 0.0

    def place(self) -> dict[str, Any]:
        """Id and name of the node."""
        return {"node": ray.get_runtime_context().get_node_id(), "name": platform.node()}

    def open(self) -> dict[str, Any]:
        """Load the evaluator and its data; returns the message."""
        self._evaluator = opened_evaluator(self._call, self._messages.put)
        return self._messages.get()

    def start(self, job: dict[str, Any], files: Files | None, code: tuple[ray.ObjectRef | None]) -> dict[str, Any]:
        """Begin a job.

        files: of its folder, with the checkpoint that it continues from; None if the folder is shared or has a URL.
        code: reference to the user's code that it needs, in a tuple, because Ray would load an argument of its own each
        time.
        """
        if code[0] is not None and code[0] != self._code:
            self._code = code[0]
            ray.get(code[0]).install()
        self._delivered = time.monotonic()
        run = (lambda: self._run_in_place(Job(**job))) if files is None else lambda: self._run(Job(**job), files)
        threading.Thread(target=run, daemon=True).start()
        return {}

    def next_message(self) -> dict[str, Any]:
        """Wait for the next message of the job. "files" are of its folder: all of them with the outcome."""
        return self._messages.get()

    def _run_in_place(self, job: Job) -> None:
        """Run a job whose folder has a URL or is shared by all nodes."""
        assert self._evaluator is not None
        try:
            check_shared(job.folder)
        except EnvironmentFault as error:
            self._messages.put({"fault": fault_of(error).to_json()})
            return
        run_job(self._evaluator, job, self._messages.put)

    def _run(self, job: Job, files: Files) -> None:
        """Run a job in a working folder, because its own is on the machine of the driver."""
        assert self._evaluator is not None
        checkpoint, folder = self._evaluator.checkpoint, working_folder()

        def send(message: dict[str, Any]) -> None:
            if "outcome" in message:
                message = message | {"files": read_files(folder)}
            elif "epoch" in message and time.monotonic() - self._delivered >= DELIVERY_SECONDS:
                message = message | {"files": read_files(folder, only=checkpoint)}
                self._delivered = time.monotonic()
            if message.keys() & set(LAST):
                shutil.rmtree(folder, ignore_errors=True)
            self._messages.put(message)

        try:
            write_files(folder, files)
        except OSError as error:
            send({"fault": fault_of(error).to_json()})
            return
        run_job(self._evaluator, replace(job, folder=folder), send)
