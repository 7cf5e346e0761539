"""Training on a cluster: warm actors that take one job at a time, on as many nodes as there are."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import Any

import ray

from nas.config import Config
from nas.errors import EnvironmentFault, UserError
from nas.evaluation.evaluator import LoadedData
from nas.evaluation.faults import Fault, Owner, fault_of_hang
from nas.evaluation.jobs import Job, Outcome
from nas.ray.data import check_files, placed
from nas.ray.environment import CodeSender, plugins_of_job, plugins_of_worker
from nas.ray.failures import fault_of_ray
from nas.ray.head import Head
from nas.ray.job_files import Files, read_files, write_files
from nas.ray.logs import logged_output
from nas.ray.nodes import Node, Request, autoscales, described, living_nodes, node_names
from nas.ray.slot import Slot, State
from nas.workers.activity import Activity, RunningJob
from nas.workers.job_queue import JobQueue
from nas.workers.machines import Machine, Machines
from nas.workers.runner import OPENING, Done, EpochDone, Patience
from nas.workers.session import EvaluatorCall
from results.files.places import is_url

WAIT = 0.25  # seconds between checks for signals and for hanging workers
NODES_EVERY = 2.0  # seconds between looks at the nodes of the cluster
UNFIT_SECONDS = 45.0
"""A request that no node has satisfied for this time is an error, unless an autoscaler may add nodes."""
IDLE_SECONDS = 60.0
GIVEN_UP = 3
"""Nodes that are given up one after the other, without an outcome in between, before the study stops."""


class RayRunner:
    """A :class:`nas.workers.runner.Runner` with actors on the cluster that this process has joined.

    Parameters
    ----------
    call
        The evaluator that every worker constructs.
    data
        Its data in memory, of which each node keeps one copy; None: every worker loads their specification.
    request
        The resources that a training reserves.
    workers
        Most trainings side by side; None: as many as the cluster has room for, also when nodes join.
    environment
        Runtime environment of the actors.
    log, say
        The study's log, and the user's display.
    shared_files
        Whether workers read and write the folders of jobs themselves, as they do at a URL.

    Notes
    -----
    An actor ends after any failure, which may have corrupted its state. What becomes of the job:
    :mod:`nas.evaluation.faults`. A job that is repeated continues from the last checkpoint that was delivered. A lost
    node is nobody's fault: its jobs run on others. A node with a fault of the environment is given up.
    """

    def __init__(
        self,
        call: EvaluatorCall,
        *,
        data: LoadedData | None = None,
        request: Request,
        workers: int | None = None,
        environment: Mapping[str, Any] | None = None,
        log: str | None = None,
        say: Callable[[str], None] = lambda text: None,
        shared_files: bool = False,
    ) -> None:
        threads = str(call.threads)
        self._environment = dict(environment or {})
        self._environment["env_vars"] = {"OMP_NUM_THREADS": threads, **self._environment.get("env_vars", {})}
        self._call, self._request, self._workers, self._log, self._say = call, request, workers, log, say
        self._shared_files = shared_files
        self._code = CodeSender(plugins_of_worker(call, data))
        self._placed_call = ray.put(placed(call, data, self._code.reference()))
        self._head = Head()
        self._slots: list[Slot] = []
        self._machines = Machines()
        self._avoided: set[str] = set()
        self._given_up = self._unopened = 0
        self._checked = time.monotonic()
        self._unfit_since: float | None = None
        self._nodes: list[Node] = []
        self._nodes_at = -NODES_EVERY

    @property
    def request(self) -> Request:
        """The resources that a training reserves."""
        return self._request

    @property
    def slots(self) -> int:
        """Number of jobs that run side by side."""
        capacity = max(1, sum(node.slots(self._request) for node in self._living()))
        return capacity if self._workers is None else min(capacity, self._workers)

    def activity(self) -> Activity:
        """The nodes with room for a training, and the running jobs."""
        nodes: Counter[str] = Counter()
        for node in self._living():
            nodes[node.name] += node.slots(self._request)
        running = (
            RunningJob(
                candidate=job.candidate,
                node=self._name(slot),
                epoch=slot.epochs,
                until=job.until,
                seconds=slot.silent,
            )
            for slot in self._slots
            if (job := slot.job) is not None
        )
        return Activity(nodes={name: count for name, count in nodes.items() if count}, running=tuple(running))

    def run(self, jobs: Iterable[Job], done: Done, progress: EpochDone, patience: Patience) -> None:
        """Run jobs; return when each of them has a result. See :meth:`nas.workers.runner.Runner.run`."""
        with self._head.watched():
            self._run(jobs, done, progress, patience)

    def _run(self, jobs: Iterable[Job], done: Done, progress: EpochDone, patience: Patience) -> None:
        waiting = JobQueue(jobs)
        if (first := waiting.first) is None:
            return
        self._checked, self._unfit_since = time.monotonic(), None
        while self._running() or waiting:
            if self._head.answers:
                self._start(waiting)
            self.check_fit(running=self._running() > 0)
            for slot in self._hanging(lambda job: patience(job or first)):
                fault = fault_of_hang(slot.silent, opened=slot.state is State.RUNNING)
                self._failed(slot, fault, waiting, done)
            self._end_unused()
            for slot, call in self._ready():
                self._advance(slot, call, waiting, done, progress)
        for slot in [slot for slot in self._slots if slot.state in (State.PLACING, State.OPENING)]:
            self._end(slot)  # it would keep a node for itself

    def close(self) -> None:
        """Stop all workers at once. Checkpoints that were delivered remain."""
        if not self._head.answers:  # they end with the cluster
            return
        for slot in list(self._slots):
            self._end(slot)

    # For workers that another scheduler starts -------------------------------------------------------------------

    def call_for(self, job: Job) -> tuple[ray.ObjectRef, tuple[ray.ObjectRef | None]]:
        """References to the call of the evaluator, and to the user's code that a job needs."""
        return self._placed_call, (self._code.reference(plugins_of_job(job.architecture)),)

    def files_of(self, job: Job) -> Files | None:
        """The files of a job's folder, for its worker; None if the worker reads and writes the folder itself."""
        return None if self._shared_files or is_url(job.folder) else read_files(job.folder)

    def head_answers(self) -> bool:
        """Whether the head of the cluster answers now; calls of Ray wait for one that does not."""
        return self._head.look()

    def lives(self, node: str) -> bool:
        """Whether the node with an id is alive."""
        return any(each.id == node for each in self._living(now=True))

    # Slots -------------------------------------------------------------------------------------------------------

    def _running(self) -> int:
        return sum(slot.job is not None for slot in self._slots)

    def _start(self, waiting: JobQueue) -> None:
        """Give waiting jobs to idle workers, and ask for missing workers up to the limit."""
        for slot in [slot for slot in self._slots if slot.state is State.IDLE]:
            job = waiting.take(running=self._running())
            if job is None:
                return
            if waiting.is_repeated(job) and not (slot.fresh and len(self._slots) == 1):
                waiting.put_back(job)  # alone, in a new worker: others may hold memory of the device
                self.close()
                break
            code = self._code.reference(plugins_of_job(job.architecture))
            slot.start(job, code, self.files_of(job))
        beginning = sum(slot.job is None for slot in self._slots)
        room = self._limit() - len(self._slots)
        startable = waiting.startable(running=self._running(), most=beginning + room)
        for _ in range(min(room, startable - beginning)):
            self._slots.append(Slot(self._placed_call, self._request.options(self._avoided), self._environment))

    def _limit(self) -> int:
        """Most workers. Without a limit of the user, those that wait for room make an autoscaler add nodes."""
        if self._workers is not None:
            return self._workers
        return 2 * self.slots if self._autoscales else self.slots

    @cached_property
    def _autoscales(self) -> bool:
        return autoscales()

    def _end_unused(self) -> None:
        """End workers that have been idle for long, so that an autoscaler can remove their nodes."""
        for slot in [slot for slot in self._slots if slot.state is State.IDLE and slot.silent > IDLE_SECONDS]:
            if self._autoscales:
                self._end(slot)

    def _ready(self) -> list[tuple[Slot, ray.ObjectRef]]:
        """The slots whose call has returned, with the call, after a short wait for the first."""
        calls = {slot.call: slot for slot in self._slots if slot.call is not None}
        if not calls:
            time.sleep(WAIT)
            return []
        ready, _ = ray.wait(list(calls), timeout=WAIT)
        if ready:
            ready, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
        return [(calls[call], call) for call in ready]

    def _advance(self, slot: Slot, call: ray.ObjectRef, waiting: JobQueue, done: Done, progress: EpochDone) -> None:
        """Handle the result of a slot's call."""
        if slot not in self._slots:  # ended since, with others
            return
        try:
            message: dict[str, Any] = ray.get(call)
        except ray.exceptions.RayError as error:
            self._lost(slot, error, waiting, done)
            return
        slot.silent = 0.0
        if slot.job is not None and "files" in message:
            write_files(slot.job.folder, message["files"])
        if "fault" in message:
            self._failed(slot, Fault.from_json(message["fault"]), waiting, done)
        elif "outcome" in message:
            job, slot.job = slot.job, None
            slot.rest()
            self._given_up = 0
            if slot.node in self._avoided:  # given up in the meantime
                self._end(slot)
            assert job is not None
            done(job, Outcome(**message["outcome"]))
        else:
            if "opened" in message:
                self._unopened = 0
                self.report_machine(self._name(slot), Machine(**message["opened"]))
            elif slot.job is not None and message.get("epoch", 0) > slot.epochs:
                slot.epochs = message["epoch"]
                progress(slot.job, slot.epochs)
            slot.proceed(message)

    def _end(self, slot: Slot) -> None:
        if slot in self._slots:
            self._slots.remove(slot)
        slot.end()

    # Failures ----------------------------------------------------------------------------------------------------

    def _lost(self, slot: Slot, error: Exception, waiting: JobQueue, done: Done) -> None:
        """Handle a worker that died or cannot be reached."""
        lives = slot.node is None or any(node.id == slot.node for node in self._living(now=True))
        opened = slot.state is State.RUNNING
        fault = fault_of_ray(error, opened=opened, node_lives=lives)
        died_idle = slot.state is State.STARTING and isinstance(error, ray.exceptions.RayActorError)
        if fault is None or died_idle:
            job, slot.job = slot.job, None
            self._end(slot)
            if job is not None:
                waiting.put_back(job)
                lost = "A worker" if lives else "The node of a worker"
                self._note(f"{lost} on {self._name(slot)} was lost; its training in {job.folder} runs again.")
            return
        self._failed(slot, fault, waiting, done)

    def _failed(self, slot: Slot, fault: Fault, waiting: JobQueue, done: Done) -> None:
        """Replace a worker that failed, and repeat its job, report its failure, or give up its node."""
        job, slot.job = slot.job, None
        self._end(slot)
        if job is None:
            self._unopened += 1
            if not fault.repeated or self._unopened > 1:
                self._give_up(slot, fault)
        elif fault.owner is Owner.ENVIRONMENT and not (fault.repeated and not waiting.is_repeated(job)):
            waiting.put_back(job)
            self._give_up(slot, fault)
        elif (failure := waiting.failed(job, fault)) is not None:
            done(job, failure)
        else:
            self._note(f"{fault.reason} The training in {job.folder} is repeated once, alone.\n{fault.traceback}")

    def _give_up(self, slot: Slot, fault: Fault) -> None:
        """Avoid the node of a worker from now on. Raises EnvironmentFault if the study must stop."""
        self._unopened = 0
        if slot.node in self._avoided:  # by an earlier failure of another worker there
            return
        self._given_up += 1
        if slot.node is not None:
            self._avoided.add(slot.node)
        for other in [each for each in self._slots if each.job is None and each.node in (None, slot.node)]:
            self._end(other)
        left = [node for node in self._living(now=True) if node.slots(self._request)]
        if slot.node is None or not left or self._given_up >= GIVEN_UP:
            where = f"On node {self._name(slot)}: " if slot.node else ""
            raise EnvironmentFault(
                f"{where}{fault.reason.rstrip('.')}. No candidate is to blame: mend the cause and resume."
            )
        text = f"Node {self._name(slot)} is given up: {fault.reason}"
        self._say(text)
        self._note(f"{text}\n{fault.traceback}")

    def _hanging(self, patience: Callable[[Job | None], float]) -> list[Slot]:
        """Slots without an event for too long. Time in which this process was stopped does not count."""
        before, self._checked = self._checked, time.monotonic()
        hanging = []
        for slot in self._slots:
            slot.silent += min(self._checked - before, 4 * WAIT)
            limit = patience(slot.job) * (OPENING if slot.state is State.OPENING else 1)
            if slot.state in (State.OPENING, State.STARTING, State.RUNNING) and slot.silent > limit:
                hanging.append(slot)
        return hanging

    def check_fit(self, *, running: bool) -> None:
        """Raise UserError if no node has had room for a training for long, and none will be added.

        running: whether one runs. To be called often. Raises EnvironmentFault if the head of the cluster is lost.
        """
        self._head.check()
        nodes = self._living()
        if running or any(node.slots(self._request) for node in nodes):
            self._unfit_since = None
            return
        if self._unfit_since is None:
            self._unfit_since = time.monotonic()
            self._say(f"Waiting for a node with {self._request}. The cluster has {described(nodes)}.")
        if time.monotonic() - self._unfit_since > UNFIT_SECONDS and not autoscales():
            raise UserError(
                f"A training reserves {self._request}, which a node of the cluster must have. Got {described(nodes)}. "
                "Reserve less (--cpus-per-trial, --gpus-per-trial, --resource, --device cpu) or add a node."
            )

    # Nodes and log -----------------------------------------------------------------------------------------------

    def _living(self, *, now: bool = False) -> list[Node]:
        """The nodes that are alive and not avoided, as of at most ``NODES_EVERY`` ago."""
        if self._head.answers and (now or time.monotonic() - self._nodes_at > NODES_EVERY):
            with self._head.watched():
                self._nodes, self._nodes_at = living_nodes(self._avoided), time.monotonic()
        return self._nodes

    def _name(self, slot: Slot) -> str:
        return slot.node_name or "unknown"

    def report_machine(self, node: str, machine: Machine) -> None:
        """Say once for each new kind of machine that the nodes differ. node: the name of the machine's."""
        if sentence := self._machines.add(node, machine):
            self._say(sentence)
            self._note(sentence)

    def _note(self, text: str) -> None:
        """Write to the study's log."""
        if self._log is not None and text:
            with open(self._log, "a", encoding="utf-8") as log:
                log.write(f"{text}\n")


@contextmanager
def ray_runner(
    config: Config, call: EvaluatorCall, data: LoadedData | None, *, log: str | None, say: Callable[[str], None]
) -> Iterator[RayRunner]:
    """The runner of a study on the cluster that this process has joined.

    Raises UserError if a node with room for a training has not the files of data that are not in memory.
    """
    request = request_of(config)
    settings = {**call.settings, "device": worker_device(config.device, request)}
    names = node_names()
    call = replace(call, settings=settings)
    if data is None:
        check_files(call.files, [node for node in living_nodes() if node.slots(request)])
    shared = config.files is not None
    runner = RayRunner(call, data=data, request=request, workers=config.workers, log=log, say=say, shared_files=shared)
    with logged_output(log, lambda address: names.get(address, address)):
        try:
            yield runner
        finally:
            with suppress(Exception):  # of a cluster that is lost; do not hide the first error
                runner.close()


def request_of(config: Config) -> Request:
    """The resources that a training of a study reserves; a GPU by default if the device is one."""
    gpus = config.gpus_per_trial
    if gpus is None:
        has_gpus = any(node.resources.get("GPU", 0) for node in living_nodes())
        gpus = 1.0 if config.device.startswith("cuda") or (config.device == "auto" and has_gpus) else 0.0
    return Request(cpus=config.cpus_per_trial or config.least_threads, gpus=gpus, custom=config.custom_resources())


def worker_device(device: str, request: Request) -> str:
    """The device of the workers. Ray shows a worker only the GPUs that it reserved, numbered from 0."""
    if request.gpus:
        return "cuda" if device == "auto" or device.startswith("cuda") else device
    return "cpu" if device == "auto" else device
