"""Worker processes on this machine. A process that dies or hangs affects only its job, and is replaced."""

from __future__ import annotations

import json
import os
import platform
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from nas.evaluation.faults import Fault, fault_of_death, fault_of_hang
from nas.evaluation.jobs import Job, Outcome
from nas.workers import gpus
from nas.workers.activity import Activity, RunningJob
from nas.workers.gpus import visible_gpus
from nas.workers.job_queue import JobQueue
from nas.workers.machines import Machine, Machines
from nas.workers.runner import OPENING, Done, EpochDone, Patience
from nas.workers.session import EvaluatorCall

_WAIT = 0.25  # seconds between checks for signals, and for dead and hanging workers


class LocalRunner:
    """A :class:`nas.workers.runner.Runner` with worker processes on this machine; a context manager.

    Parameters
    ----------
    call
        The evaluator that every worker constructs.
    workers
        Most processes side by side.
    log
        File for the standard output and error of the workers; None: discarded.
    say
        Shows a line to the user.

    Notes
    -----
    On a machine with several GPUs the workers are spread over them: each worker sees one GPU.

    A worker ends after any failure, which may have corrupted its state, for example its CUDA context. What becomes of
    the job: :mod:`nas.evaluation.faults`. A repeated job continues from its checkpoint.
    """

    def __init__(
        self,
        call: EvaluatorCall,
        *,
        workers: int = 1,
        log: str | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._call, self._limit, self._log = call, workers, log
        self._say, self._machines = say, Machines()
        self._gpus = visible_gpus(call.settings.get("device", "cpu"))
        self._workers: list[_Worker] = []
        self._events: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        self._checked = 0.0

    def __enter__(self) -> LocalRunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def slots(self) -> int:
        """Number of jobs that run side by side."""
        return self._limit

    def activity(self) -> Activity:
        """The only node is this machine."""
        node = platform.node()
        running = (
            RunningJob(candidate=job.candidate, node=node, epoch=worker.epochs, until=job.until, seconds=worker.silent)
            for worker in self._workers
            if (job := worker.job) is not None
        )
        return Activity(nodes={node: self._limit}, running=tuple(running))

    def run(self, jobs: Iterable[Job], done: Done, progress: EpochDone, patience: Patience) -> None:
        """Run jobs; return when each of them has a result. See :meth:`nas.workers.runner.Runner.run`."""
        waiting = JobQueue(jobs)
        self._checked = time.monotonic()
        while self._running() or waiting:
            self._start(waiting)
            for worker in self._hanging(patience):
                self._failed(worker, worker.hang(), waiting, done)
            try:
                worker, message = self._events.get(timeout=_WAIT)
            except queue.Empty:
                self._find_dead()
                continue
            if message is None:
                self._failed(worker, worker.death(), waiting, done)
            elif "fault" in message:
                self._failed(worker, Fault.from_json(message["fault"]), waiting, done)
            elif worker.job is not None:
                self._alive(worker, worker.job, message, done, progress)

    def _alive(self, worker: _Worker, job: Job, message: dict[str, Any], done: Done, progress: EpochDone) -> None:
        """Handle an event of a running job: its evaluator and data are loaded, an epoch or the whole job is done."""
        worker.opened, worker.silent = True, 0.0
        if "opened" in message:
            self._report_mixture(worker, Machine(**message["opened"]))
        if "outcome" in message:
            worker.job = None
            done(job, Outcome(**message["outcome"]))
        elif message.get("epoch", 0) > worker.epochs:
            worker.epochs = message["epoch"]
            progress(job, worker.epochs)

    def _report_mixture(self, worker: _Worker, machine: Machine) -> None:
        """Say once for each new kind of GPU that the GPUs differ."""
        sentence = self._machines.add("this machine" if worker.gpu is None else f"GPU {worker.gpu}", machine)
        if sentence:
            self._say(sentence)
            self._note(f"{sentence}\n")

    def _note(self, text: str) -> None:
        """Write to the study's log."""
        if self._log is not None:
            with open(self._log, "a", encoding="utf-8") as log:
                log.write(text)

    def _failed(self, worker: _Worker, fault: Fault, waiting: JobQueue, done: Done) -> None:
        """Replace a worker whose job failed, or that died idle; repeat the job, or report its failure."""
        job, worker.job = worker.job, None
        if worker in self._workers:
            self._workers.remove(worker)
            worker.end()
        if job is None:
            return
        failure = waiting.failed(job, fault)
        if failure is not None:
            done(job, failure)
        else:
            self._note(f"{fault.reason} The training in {job.folder} is repeated once, alone.\n{fault.traceback}")

    def _start(self, waiting: JobQueue) -> None:
        """Give waiting jobs to idle workers, and start missing workers up to the limit."""
        idle = [worker for worker in self._workers if worker.job is None and worker.process.poll() is None]
        while idle or len(self._workers) < self._limit:
            job = waiting.take(running=self._running())
            if job is None:
                return
            if waiting.is_repeated(job):  # alone: idle workers may hold memory of the device
                self.close()
                idle = []
            if not idle:
                idle = [_Worker(self._call, self._events, self._log, self._free_gpu())]
                self._workers += idle
            idle.pop(0).start(job)

    def _free_gpu(self) -> str | None:
        """The GPU of the fewest workers; None if there is no choice."""
        used = Counter(worker.gpu for worker in self._workers)
        return min(self._gpus, key=lambda gpu: used[gpu]) if len(self._gpus) > 1 else None

    def _running(self) -> int:
        return sum(worker.job is not None for worker in self._workers)

    def _hanging(self, patience: Patience) -> list[_Worker]:
        """Workers whose job has had no event for too long. Time in which this process was stopped does not count."""
        before, self._checked = self._checked, time.monotonic()
        for worker in self._workers:
            worker.silent += min(self._checked - before, 4 * _WAIT)
        if not self._events.empty():
            return []
        return [
            worker
            for worker in self._workers
            if worker.job is not None and worker.silent > patience(worker.job) * (1 if worker.opened else OPENING)
        ]

    def _find_dead(self) -> None:
        """Report dead workers whose child processes keep their output open, after all that they wrote was read."""
        for worker in self._workers:
            if worker.process.poll() is not None:
                worker.kill()
                worker.listener.join(timeout=5)  # it reports the death when the output has ended
                if worker.listener.is_alive():  # a daemon outside of the process group keeps the output open
                    self._events.put((worker, None))

    def close(self) -> None:
        """Stop all workers and their child processes at once. Checkpoints remain."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.end()
        self._workers.clear()


@dataclass(eq=False)
class _Worker:
    """A worker process and its job.

    call: of its evaluator, sent first. gpu: the only one that it sees; None: those of this process. opened: whether
    evaluator and data are loaded. epochs: completed ones of the job. silent: seconds since the job's last event.
    """

    call: EvaluatorCall
    events: queue.Queue
    log: str | None
    gpu: str | None = None
    job: Job | None = None
    opened: bool = False
    epochs: int = 0
    silent: float = 0.0
    process: subprocess.Popen = field(init=False)
    listener: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.call.threads)}
        if self.gpu is not None:
            environment[gpus.VARIABLE] = self.gpu
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
        self._send(self.call.to_json())
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def start(self, job: Job) -> None:
        """Send a job. If the worker is dead, its output ends."""
        self.job, self.epochs, self.silent = job, 0, 0.0
        self._send(job.to_json())

    def hang(self) -> Fault:
        """The fault of a job without an event for too long."""
        return fault_of_hang(self.silent, opened=self.opened)

    def death(self) -> Fault:
        """The fault, after the output has ended."""
        with suppress(subprocess.TimeoutExpired):  # the output may end before the process
            self.process.wait(timeout=5)
        return fault_of_death(self.process.returncode, opened=self.opened)

    def kill(self) -> None:
        """Stop the process and its child processes, if they run."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Stop the process if it runs, and close its pipes."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):  # a process that waits for a broken disk cannot be killed
            self.process.wait(timeout=5)
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
