"""The worker of an asynchronous search: a trial of Ray Tune that trains a candidate from rung to rung."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune
from ray.tune.result import DONE, RESULT_DUPLICATE

from nas.errors import EnvironmentFault
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.faults import Fault, fault_of
from nas.evaluation.jobs import Job
from nas.ray.data import PlacedCall
from nas.ray.job_files import Files, read_files, working_folder, write_files
from nas.workers.job_folder import check_shared
from nas.workers.session import opened_evaluator, run_job
from results.front import Score

METRIC, EPOCH, RESOURCE, DELIVERY = "anytime_accuracy", "epoch", "resource", "delivery"
"""Keys of a result. resource: a power of ETA for each rung, which is the time of schedulers."""
ETA = 3
"""Reduction factor of the schedulers."""
NOT_BEGUN = "A worker must receive a training before it trains. Got none: resume the search."


class TrialFault(Exception):
    """Ends a trial and its worker. The argument is a fault as JSON."""

    @property
    def fault(self) -> Fault:
        """The fault."""
        return Fault.from_json(self.args[0])


class Delivery:
    """The outcome of a stretch and the files of its job, which leave the result that Tune keeps."""

    def __init__(self, outcome: dict[str, Any], files: Files) -> None:
        self._content: tuple[dict[str, Any], Files] | None = (outcome, files)

    def take(self) -> tuple[dict[str, Any], Files]:
        """The outcome and the files; schedulers keep the empty object."""
        content, self._content = self._content, None
        assert content is not None
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The training up to a rung.

    resource: of the rung. known: the anytime accuracy, if it was measured in an earlier run.
    """

    epochs: int
    resource: int
    test: bool
    known: float | None


class StretchTrainable(tune.Trainable):
    """Trains one stretch in every step. Its state travels to the driver with every result, not as Tune's checkpoint."""

    _evaluator: Evaluator | None = None
    _code: ray.ObjectRef | None = None
    _job: Job | None = None
    _stretches: Sequence[Stretch] = ()
    _fault: dict[str, Any] | None = None
    _folder: str | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """See :class:`ray.tune.Trainable`: forget the former trial; :meth:`begin` follows."""
        self._end()
        return True

    def begin(
        self,
        call: PlacedCall,
        code: tuple[ray.ObjectRef | None],
        job: dict[str, Any],
        stretches: Sequence[Stretch],
        score: Score,
        files: Files | None,
    ) -> dict[str, Any]:
        """Take the job of a trial, before its first step and after every pause; the first one loads the evaluator.

        code: of the user, in a tuple, because Ray would load an argument of its own each time. stretches: that are
        left. files: of the job's folder, with the checkpoint that it continues from; None if this worker reads and
        writes the folder itself. Returns id and name of the node, after loading the message of
        :func:`nas.workers.session.opened_evaluator`, and "fault" if a part of it failed.
        """
        self._end()
        messages: list[dict[str, Any]] = [{}]
        try:
            if self._evaluator is None:
                self._code = call.code
                self._evaluator = opened_evaluator(call, messages.append)
                self._fault = messages[-1].get("fault")
            if code[0] is not None and code[0] != self._code:
                ray.get(code[0]).install()
                self._code = code[0]
            if files is None:
                check_shared(job["folder"])
            else:
                self._folder = working_folder()
                write_files(self._folder, files)
            self._score, self._stretches = score, list(stretches)
            self._job = replace(Job(**job), folder=self._folder or job["folder"])
        except Exception as error:
            self._fault = self._fault or fault_of(error, opening=True).to_json()
        place = {"node": ray.get_runtime_context().get_node_id(), "name": platform.node()}
        return place | messages[-1] | ({} if self._fault is None else {"fault": self._fault})

    def step(self) -> dict[str, Any]:
        """See :class:`ray.tune.Trainable`: train a stretch, and measure."""
        if self._job is None:
            raise TrialFault(self._fault or fault_of(EnvironmentFault(NOT_BEGUN)).to_json())
        if not self._stretches:  # a result with "done" would not reach the scheduler
            return {RESULT_DUPLICATE: True, DONE: True}
        stretch, *self._stretches = self._stretches
        place = {EPOCH: stretch.epochs, RESOURCE: stretch.resource}
        if stretch.known is not None:
            return {METRIC: stretch.known, **place}
        outcome = self._trained(replace(self._job, until=stretch.epochs, test=stretch.test))
        costs, accuracies = ([point[name] for point in outcome["points"]] for name in ("macs", "accuracy"))
        delivery = Delivery(outcome, {} if self._folder is None else read_files(self._folder))
        return {METRIC: self._score(costs, accuracies), DELIVERY: delivery, **place}

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """See :class:`ray.tune.Trainable`: nothing, because the driver has the files already."""
        return SimpleNamespace(checkpoint=None, metrics={})

    def cleanup(self) -> None:
        """See :class:`ray.tune.Trainable`: remove the files of the worker."""
        self._end()

    def _trained(self, job: Job) -> dict[str, Any]:
        """The outcome of a job as JSON. Raises TrialFault."""
        if self._fault is not None:
            raise TrialFault(self._fault)
        assert self._evaluator is not None
        messages: list[dict[str, Any]] = []
        run_job(self._evaluator, job, messages.append)
        last = messages[-1]
        if "fault" in last:
            raise TrialFault(last["fault"])
        outcome: dict[str, Any] = last["outcome"]
        return outcome

    def _end(self) -> None:
        """Forget the job."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._job, self._stretches, self._fault, self._folder = None, (), None, None
