"""What a worker does, in a process of this machine or on a cluster: load an evaluator, run jobs, name the faults.

A worker reports by messages of plain JSON data, with one of the keys

- ``opened``: the evaluator and its data are loaded on this machine, see :class:`nas.workers.machines.Machine`,
- ``epoch``: an epoch of the job is done, and its checkpoint is on disk,
- ``outcome``: the job is done,
- ``fault``: loading or the job failed. The worker should be ended, because its state may be corrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nas.evaluation.data_identity import DataIdentity, checked_evaluator
from nas.evaluation.faults import fault_of
from nas.evaluation.jobs import Job
from nas.evaluation.loading import data_files, load_evaluator, split_evaluator
from nas.workers.job_folder import job_folder
from nas.workers.machines import Machine
from nas.workers.outcome_checks import checked_outcome

if TYPE_CHECKING:
    from nas.evaluation.evaluator import Evaluator, LoadedData

Send = Callable[[dict[str, Any]], None]
"""Receives a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatorCall:
    """The evaluator that every worker of a study constructs.

    evaluator, data, settings: name, data specification or data in memory, and settings. identity: the data of the
    study, with which every worker compares its own before the first job; None: not compared.
    """

    evaluator: str
    data: str | LoadedData
    settings: dict[str, Any]
    identity: DataIdentity | None = None

    @property
    def threads(self) -> int:
        """Threads of a training."""
        return int(self.settings.get("threads", 1))

    @property
    def device(self) -> str:
        """Name of the torch device of a training, or "auto"."""
        return str(self.settings.get("device", "auto"))

    @property
    def files(self) -> tuple[str, ...]:
        """Paths that every machine with a worker must have."""
        _, file = split_evaluator(self.evaluator)
        of_data = data_files(self.data, self.settings) if isinstance(self.data, str) else ()
        return (*of_data, *([file] if file else []))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, inverse of :meth:`from_json`, with a data specification."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> EvaluatorCall:
        """The call that ``to_json`` wrote."""
        identity = data["identity"]
        return EvaluatorCall(**{**data, "identity": identity and DataIdentity(**identity)})

    def load(self) -> Evaluator:
        """A new evaluator, whose data are those of the study."""
        if self.identity is None:
            return self._load()
        return checked_evaluator(self._load, self.data, self.identity)[0]

    def _load(self) -> Evaluator:
        return load_evaluator(self.evaluator, self.data, self.settings)


class Loads(Protocol):
    """A call, or a call that is prepared on the worker first. device: name of a torch device, or "auto"."""

    @property
    def device(self) -> str: ...

    def load(self) -> Evaluator:
        """A new evaluator, whose data are those of the study."""


def opened_evaluator(call: Loads, send: Send) -> Evaluator | None:
    """Load the evaluator of a worker, and send a message. None after a fault."""
    try:
        evaluator = call.load()
    except BaseException as error:  # a plug-in may raise anything
        send({"fault": fault_of(error, opening=True).to_json()})
        return None
    send({"opened": Machine.present(call.device).to_json()})
    return evaluator


def run_job(evaluator: Evaluator, job: Job, send: Send) -> None:
    """Run a job, and send its messages; the last one is its outcome or a fault."""
    try:
        with job_folder(job, evaluator.checkpoint) as folder:

            def report(epoch: int) -> None:
                folder.reported()
                send({"epoch": int(epoch)})

            outcome = evaluator.evaluate(folder.job, report)
            message = {"outcome": checked_outcome(job, outcome, evaluator.measures).to_json()}
            folder.finish()
        send(message)
    except BaseException as error:  # a plug-in may raise anything
        send({"fault": fault_of(error).to_json()})
