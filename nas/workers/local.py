"""Runs jobs on this machine, several side by side, each worker a process of its own that may die without harm."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

from nas.evaluation.jobs import Job, Outcome

ATTEMPTS = 2
_WAIT = 0.25  # seconds between looks at whether the user wants to stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A job that gave no outcome. reason: one line. attempts: how often it was tried."""

    reason: str
    traceback: str
    attempts: int


Done = Callable[[Job, Outcome | Failure], None]


class Runner(Protocol):
    """Runs jobs somewhere. ``done`` and ``progress`` are called in the thread that called ``run``, one at a time, in
    any order of jobs; ``run`` returns when every job is done."""

    def run(self, jobs: Iterable[Job], done: Done, progress: Callable[[Job, int], None]) -> None: ...

    def close(self) -> None: ...


class LocalRunner:
    """Worker processes on this machine.

    evaluator, data, settings: what each worker makes its evaluator from. workers: processes side by side.

    A job that raises, or whose worker dies, is tried again on a fresh worker, at most ``ATTEMPTS`` times in all, from
    its checkpoint; diverged training is not tried again, for it would diverge again. No worker outlives an exception:
    what raised may have spoilt it for others, as a lost CUDA context does.
    """

    def __init__(
        self, evaluator: str, data: str, settings: dict[str, Any], *, workers: int = 1, log: str | None = None
    ):
        self._made = {"evaluator": evaluator, "data": data, "settings": settings}
        self._limit, self._log = workers, log
        self._workers: list[_Worker] = []
        self._events: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()

    def __enter__(self) -> LocalRunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def run(self, jobs: Iterable[Job], done: Done, progress: Callable[[Job, int], None]) -> None:
        waiting = deque((job, 1) for job in jobs)
        while waiting or any(w.job for w in self._workers):
            for worker in self._idle(len(waiting)):
                worker.start(*waiting.popleft())
            try:
                worker, message = self._events.get(timeout=_WAIT)
            except queue.Empty:
                for worker in self._workers:  # one that left children behind: they keep its output open
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
        """A job gave an outcome or a failure, or (None) its worker died."""
        job, attempt = worker.job, worker.attempt
        worker.job = None
        if message is None:
            with suppress(subprocess.TimeoutExpired):  # its output may end before it does
                worker.process.wait(timeout=5)
        if message is None or "failure" in message:
            self._drop(worker)
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

    def _idle(self, wanted: int) -> list[_Worker]:
        """Up to so many workers without a job, started where there are too few."""
        idle = [w for w in self._workers if w.job is None]
        while len(idle) < wanted and len(self._workers) < self._limit:
            self._workers.append(_Worker(self._made, self._events, self._log))
            idle.append(self._workers[-1])
        return idle[:wanted]

    def close(self) -> None:
        """Stop all workers at once; checkpoints keep what they have done."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.end()
        self._workers.clear()


@dataclass(eq=False)
class _Worker:
    """A worker process and the job that it has."""

    made: dict[str, Any]
    events: queue.Queue
    log: str | None
    job: Job | None = None
    attempt: int = 0
    process: subprocess.Popen = field(init=False)
    listener: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.made["settings"].get("threads", 1))}
        environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        with open(self.log or os.devnull, "ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "nas.workers.worker",
                ],  # -P: a user's random.py here is not the standard one
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
                start_new_session=True,  # Ctrl-C reaches the driver alone, which then stops us and our children
            )
        self._send(self.made)
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def start(self, job: Job, attempt: int) -> None:
        """Hand over a job; a worker that is dying says so through its end of output."""
        self.job, self.attempt = job, attempt
        self._send(job.to_json())

    def kill(self) -> None:
        """Stop the process and those that it started, if they still run."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Stop the process if it still runs, and let go of its pipes."""
        self.kill()
        self.process.wait()
        self.listener.join(timeout=5)
        if self.listener.is_alive():  # a daemon of its own keeps the pipe open, and a read cannot be ended
            return
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # what was never written cannot be flushed any more
                assert pipe is not None
                pipe.close()

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # a dead worker says so through its end of output
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.put((self, json.loads(line)))
        self.events.put((self, None))
