"""Whose fault a failure is: the table from exceptions and deaths of workers to their owner, which all runners follow.

A fault of the environment stops the study and nothing is recorded; a fault of a candidate is recorded as its failure.
Some failures do not name their owner: the job is then repeated once, alone, and the second failure is charged.
"""

from __future__ import annotations

import re
import signal
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Owner(StrEnum):
    """Who is charged with a failure."""

    ENVIRONMENT = "environment"
    CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A row of the table.

    failure: in words. owner: who is charged. repeated: whether the job is first repeated once, alone. types: names of
    exception classes, subclasses included. message: pattern in the message of any exception, case ignored.
    """

    failure: str
    owner: Owner
    repeated: bool = False
    types: tuple[str, ...] = ()
    message: str | None = None

    def includes(self, error: BaseException) -> bool:
        """Whether an exception is of this kind."""
        if any(base.__name__ in self.types for base in type(error).__mro__):
            return True
        return self.message is not None and re.search(self.message, str(error), re.IGNORECASE) is not None


MEMORY = Kind(
    failure="Memory is exhausted, of Python or of the device",
    owner=Owner.CANDIDATE,
    repeated=True,
    types=("MemoryError", "OutOfMemoryError"),
    message="out of memory|(can't|cannot) allocate memory|RESOURCE_EXHAUSTED|STATUS_ALLOC_FAILED",
)
SHARED_MEMORY = Kind(
    failure="The shared memory is full, through which child processes send batches",
    owner=Owner.ENVIRONMENT,
    message=r"DataLoader worker .*(Bus error|shared memory)",
)
CHILD_DEATH = Kind(
    failure="A child process of the training dies, such as one that loads batches",
    owner=Owner.CANDIDATE,
    repeated=True,
    types=("BrokenExecutor",),
    message=r"DataLoader worker .*(killed|exited)",
)
DECLARED = Kind(
    failure="Data, a plug-in or the store cannot be used",
    owner=Owner.ENVIRONMENT,
    types=("EnvironmentFault", "DataError", "PluginError", "StoreError", "ImportError"),
)
SYSTEM = Kind(
    failure="The operating system refuses: disk full, file missing or read-only, connection lost, no more threads",
    owner=Owner.ENVIRONMENT,
    types=("OSError",),
    message="No space left|Disk quota exceeded|Read-only file system|Permission denied|Input/output error"
    "|Too many open files|Stale file handle|File too large|os error [0-9]+"
    "|inline_container|PytorchStreamWriter"  # torch.save
    "|database or disk is full|disk I/O error|readonly database|unable to open database file"  # SQLite
    "|can't start new thread|unhandled system error|ncclSystemError",
)
NO_DEVICE = Kind(
    failure="The device is missing or broken",
    owner=Owner.ENVIRONMENT,
    message="No CUDA GPUs|no NVIDIA driver|no CUDA-capable device|devices?(\\(s\\))? (is|are|is/are) busy"
    "|driver version is insufficient|driver initialization failed|CUDA unknown error|CUDA error: unknown error"
    "|Torch not compiled with|is_available\\(\\) is False|uncorrectable|fallen off the bus|GPU is lost"
    "|system not yet initialized|no kernel image|invalid device ordinal",
)
DEVICE_ERROR = Kind(
    failure="Another error of the device, such as an illegal access to memory",
    owner=Owner.CANDIDATE,
    repeated=True,
    types=("AcceleratorError",),
    message="CUDA error|HIP error|(CUBLAS|CUDNN|CUSOLVER|CUSPARSE)_STATUS",
)
DIVERGED = Kind(
    failure="Training diverged: infinite or undefined numbers, or no network within the limits",
    owner=Owner.CANDIDATE,
    types=("Diverged",),
)
EXCEPTION = Kind(
    failure="Any other exception in training, or an invalid outcome", owner=Owner.CANDIDATE, types=("BaseException",)
)
DEATH = Kind(failure="The worker dies without a message", owner=Owner.CANDIDATE, repeated=True)
HANG = Kind(failure="A training hangs (`--trial-timeout`)", owner=Owner.CANDIDATE, repeated=True)
NOT_OPENED = Kind(
    failure="Any exception while the evaluator and its data are loaded, before training", owner=Owner.ENVIRONMENT
)
NOT_STARTED = Kind(failure="The worker dies or hangs before training begins", owner=Owner.ENVIRONMENT, repeated=True)

EXCEPTIONS = (DIVERGED, DECLARED, SHARED_MEMORY, CHILD_DEATH, MEMORY, SYSTEM, NO_DEVICE, DEVICE_ERROR, EXCEPTION)
"""Kinds of exceptions in training; the first that includes an exception, or one that it was raised from, applies."""
TABLE = (*EXCEPTIONS, DEATH, HANG, NOT_OPENED, NOT_STARTED)
"""All kinds, for the documentation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A failed attempt of a job.

    reason: one line. owner, repeated: as in :class:`Kind`. traceback: of the exception; empty without one.
    """

    reason: str
    owner: Owner
    repeated: bool
    traceback: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, inverse of :meth:`from_json`."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Fault:
        """The fault that ``to_json`` wrote."""
        return Fault(**{**data, "owner": Owner(data["owner"])})


def kind_of(error: BaseException) -> Kind:
    """The row of the table for an exception in training.

    Parameters
    ----------
    error
        The exception. If only the last row includes it, exceptions that it was explicitly raised from decide.

    Examples
    --------
    >>> kind_of(FileNotFoundError("data.npz")).owner.value, kind_of(ZeroDivisionError()).owner.value
    ('environment', 'candidate')
    """
    for each in _explicit_causes(error):
        for kind in EXCEPTIONS[:-1]:
            if kind.includes(each):
                return kind
    return EXCEPTION


def fault_of(error: BaseException, *, opening: bool = False) -> Fault:
    """The fault of an exception. opening: raised while the evaluator and its data were loaded."""
    reason = str(error) if kind_of(error) is DECLARED else f"{type(error).__name__}: {error}"
    text = "".join(traceback.format_exception(error))
    return _fault(NOT_OPENED if opening else kind_of(error), " ".join(reason.split()), text)


def fault_of_death(status: int | str | None, *, opened: bool) -> Fault:
    """The fault of a worker that died without a message.

    status: exit status, or the negative number of a signal, or its end in words; None if unknown. opened: whether the
    evaluator and its data were loaded.
    """
    reason = f"The worker process died ({_status(status)}); log.txt may say why."
    return _fault(DEATH if opened else NOT_STARTED, reason)


def fault_of_hang(seconds: float, *, opened: bool) -> Fault:
    """The fault of a worker that completed no epoch in this time. opened: as in :func:`fault_of_death`."""
    place = "completed no epoch" if opened else "did not load evaluator and data"
    reason = f"The worker {place} within {seconds:,.0f} s and was ended; --trial-timeout allows more."
    return _fault(HANG if opened else NOT_STARTED, reason)


def _fault(kind: Kind, reason: str, traceback: str = "") -> Fault:
    return Fault(reason=reason, owner=kind.owner, repeated=kind.repeated, traceback=traceback)


def _explicit_causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, the one that it was raised from, and so on."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__


def _status(status: int | str | None) -> str:
    if status is None:
        return "unknown exit status"
    if isinstance(status, str):
        return status
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
