"""Worker processes on this machine. A process that dies affects only its job, which is tried again."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any

from nas.errors import EnvironmentFault
from nas.evaluation.data_identity import DataIdentity
from nas.evaluation.jobs import Job, Outcome
from nas.workers.runner import Done, EpochDone, Failure

ATTEMPTS = 2
_WAIT = 0.25  # seconds between checks for signals and dead workers


class LocalRunner:
    """A :class:`nas.workers.runner.Runner` with worker processes on this machine; a context manager.

    Parameters
    ----------
    evaluator, data, settings
        Name, data specification and settings of the evaluator that every worker constructs.
    identity
        The data of the study, with which every worker compares its own before the first job; None: not compared.
    workers
        Most processes side by side.
    log
        File for the standard output and error of the workers; None: discarded.

    Notes
    -----
    A job that raises, or whose worker dies, is tried again on a fresh worker, from its checkpoint, up to ``ATTEMPTS``
    times in all. Diverged training is not tried again, because it would diverge again. A worker ends after an
    exception, which may have corrupted its state, for example its CUDA context.
    """

    def __init__(
        self,
        evaluator: str,
        data: str,
        settings: dict[str, Any],
        *,
        identity: DataIdentity | None = None,
        workers: int = 1,
        log: str | None = None,
    ):
        self._greeting = {
            "evaluator": evaluator,
            "data": data,
            "settings": settings,
            "identity": asdict(identity) if identity else None,
        }
        self._limit, self._log = workers, log
        self._workers: list[_Worker] = []
        self._events: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()

    def __enter__(self) -> LocalRunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def run(self, jobs: Iterable[Job], done: Done, progress: EpochDone) -> None:
        """Run jobs; return when each of them has a result. See :meth:`nas.workers.runner.Runner.run`."""
        waiting = deque((job, 1) for job in jobs)
        while waiting or any(w.job for w in self._workers):
            for worker in self._idle(len(waiting)):
                worker.start(*waiting.popleft())
            try:
                worker, message = self._events.get(timeout=_WAIT)
            except queue.Empty:
                for worker in self._workers:  # children of a dead worker may keep its output open
                    if worker.process.poll() is not None:
                        self._events.put((worker, None))
                continue
            if message is not None and "epoch" in message:
                if worker.job:
                    progress(worker.job, message["epoch"])
                continue
            self._ended(worker, message, waiting, done)

    def _ended(
        self, worker: _Worker, message: dict[str, Any] | None, waiting: deque[tuple[Job, int]], done: Done
    ) -> None:
        """Handle the result of a worker's job. message: an outcome or a failure; None if the worker died."""
        job, attempt = worker.job, worker.attempt
        worker.job = None
        if message is None:
            with suppress(subprocess.TimeoutExpired):  # its output may end before the process
                worker.process.wait(timeout=5)
        if message is None or "failure" in message:
            self._drop(worker)
        if message is not None and message.get("environment"):
            raise EnvironmentFault(message["environment"])
        if job is None:
            return
        if message is not None and "outcome" in message:
            done(job, Outcome(**message["outcome"]))
            return
        if message is None:
            reason = f"The worker process died (exit status {worker.process.returncode}); log.txt may say why."
            message = {"failure": reason, "diverged": False, "traceback": ""}
        if attempt < ATTEMPTS and not message["diverged"]:
            waiting.append((job, attempt + 1))
        else:
            done(job, Failure(reason=message["failure"], traceback=message["traceback"], attempts=attempt))

    def _drop(self, worker: _Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
            worker.end()

    def _idle(self, count: int) -> list[_Worker]:
        """Up to ``count`` workers without a job; starts missing ones up to the limit."""
        idle = [w for w in self._workers if w.job is None]
        while len(idle) < count and len(self._workers) < self._limit:
            self._workers.append(_Worker(self._greeting, self._events, self._log))
            idle.append(self._workers[-1])
        return idle[:count]

    def close(self) -> None:
        """Stop all workers and their child processes at once. Checkpoints remain."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.end()
        self._workers.clear()


@dataclass(eq=False)
class _Worker:
    """A worker process and its job. greeting: name, data and settings of its evaluator, sent first."""

    greeting: dict[str, Any]
    events: queue.Queue
    log: str | None
    job: Job | None = None
    attempt: int = 0
    process: subprocess.Popen = field(init=False)
    listener: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.greeting["settings"].get("threads", 1))}
        environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        with open(self.log or os.devnull, "ab") as log:
            self.process = subprocess.Popen(
                # -P: modules in the working directory, such as random.py, do not hide others
                [sys.executable, "-P", "-m", "nas.workers.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
                start_new_session=True,  # Ctrl-C reaches only the driver, which stops the workers and their children
            )
        self._send(self.greeting)
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def start(self, job: Job, attempt: int) -> None:
        """Send a job. If the worker is dead, its output ends."""
        self.job, self.attempt = job, attempt
        self._send(job.to_json())

    def kill(self) -> None:
        """Stop the process and its child processes, if they run."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Stop the process if it runs, and close its pipes."""
        self.kill()
        self.process.wait()
        self.listener.join(timeout=5)
        if self.listener.is_alive():  # a daemon of the worker keeps the pipe open, and the read cannot be stopped
            return
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # a dead process does not read the rest of the buffer
                assert pipe is not None
                pipe.close()

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # the output of a dead worker ends, which the listener reports
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.put((self, json.loads(line)))
        self.events.put((self, None))
