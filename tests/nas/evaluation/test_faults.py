"""The table of failures: whose fault an exception or a death is."""

from __future__ import annotations

import errno
import json
import sqlite3
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from nas.errors import DataError, EnvironmentFault, InvalidArchitecture, PluginError, UserError
from nas.evaluation import faults
from nas.evaluation.faults import Fault, Owner, fault_of, fault_of_death, fault_of_hang, kind_of
from nas.evaluation.jobs import Diverged
from results.errors import StoreError


def raised_from(cause):
    """A candidate's exception that was explicitly raised from another one."""
    try:
        raise RuntimeError("training failed") from cause
    except RuntimeError as error:
        return error


def raised_while_handling(cause):
    """A candidate's exception that occurred while another one was handled."""
    try:
        try:
            raise cause
        except OSError:
            raise KeyError("kernel 3")  # noqa: B904
    except KeyError as error:
        return error


def of_safetensors():
    """The exception of safetensors for a folder that is not there."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with pytest.raises((SafetensorError, OSError)) as raised:
        save_file({"x": torch.zeros(1)}, "/nowhere/x.safetensors")
    return raised.value


def of_torch():
    """The exception of torch.save on a full disk."""
    with pytest.raises(RuntimeError) as raised:
        torch.save({"x": torch.zeros(3_000_000)}, "/dev/full")
    return raised.value


ENVIRONMENT = [
    EnvironmentFault("the board does not answer"),
    DataError("npz data must be a file. Got nothing."),
    PluginError("The evaluator does not import: no module"),
    StoreError("The store needs space."),
    ModuleNotFoundError("No module named 'meter'"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EROFS, "Read-only file system"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    FileNotFoundError(errno.ENOENT, "No such file", "x.npz"),
    ConnectionResetError("by the board"),
    of_safetensors(),
    RuntimeError('Error while serializing: IoError(Os { code: 28, message: "No space left on device" })'),
    of_torch(),
    RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
    sqlite3.OperationalError("database or disk is full"),
    sqlite3.OperationalError("disk I/O error"),
    sqlite3.OperationalError("attempt to write a readonly database"),
    RuntimeError("can't start new thread"),
    RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled system error (run with NCCL_DEBUG=INFO)"),
    RuntimeError(
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory. Please try to raise your shared memory limit."
    ),
    RuntimeError("No CUDA GPUs are available"),
    RuntimeError("Found no NVIDIA driver on your system."),
    AssertionError("Torch not compiled with CUDA enabled"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"),
    raised_from(FileNotFoundError("x.npz")),
    raised_from(raised_from(RuntimeError("No CUDA GPUs are available"))),
]
REPEATED = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    raised_from(MemoryError()),
    RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
    BrokenProcessPool("A process in the process pool was terminated abruptly"),
]
CANDIDATE = [
    Diverged("The loss became nan."),
    ZeroDivisionError("float division by zero"),
    ValueError("Outcome.points must be of the levels 0 to 3"),
    InvalidArchitecture("Operating points must grow in MACs."),
    UserError("No subnetwork is within the limits."),
    SystemExit(3),
    raised_while_handling(FileNotFoundError("cache.json")),
]


@pytest.mark.parametrize("error", ENVIRONMENT, ids=lambda error: type(error).__name__)
def test_faults_of_the_environment(error):
    kind = kind_of(error)
    assert (kind.owner, kind.repeated) == (Owner.ENVIRONMENT, False)


@pytest.mark.parametrize("error", REPEATED, ids=lambda error: type(error).__name__)
def test_faults_whose_second_occurrence_is_the_candidates(error):
    kind = kind_of(error)
    assert (kind.owner, kind.repeated) == (Owner.CANDIDATE, True)


@pytest.mark.parametrize("error", CANDIDATE, ids=lambda error: type(error).__name__)
def test_faults_of_candidates(error):
    kind = kind_of(error)
    assert (kind.owner, kind.repeated) == (Owner.CANDIDATE, False)


def test_an_exception_before_training_is_of_the_environment():
    fault = fault_of(ZeroDivisionError("no data"), opening=True)
    assert (fault.owner, fault.repeated, fault.reason) == (Owner.ENVIRONMENT, False, "ZeroDivisionError: no data")


@pytest.mark.parametrize(
    ("status", "words"), [(7, "exit status 7"), (-9, "killed by SIGKILL"), (-99, "signal 99"), (None, "unknown")]
)
def test_a_death_is_repeated_first(status, words):
    trained, opened = (fault_of_death(status, opened=opened) for opened in (True, False))
    assert words in trained.reason
    assert (trained.owner, trained.repeated) == (Owner.CANDIDATE, True)
    assert (opened.owner, opened.repeated) == (Owner.ENVIRONMENT, True)


def test_a_hang_is_repeated_first():
    trained, opened = (fault_of_hang(600.4, opened=opened) for opened in (True, False))
    assert "completed no epoch within 600 s" in trained.reason
    assert (trained.owner, trained.repeated) == (Owner.CANDIDATE, True)
    assert (opened.owner, opened.repeated) == (Owner.ENVIRONMENT, True)


def test_a_fault_is_one_line_and_survives_the_protocol():
    fault = fault_of(raised_from(RuntimeError("in\ntwo lines")))
    assert Fault.from_json(json.loads(json.dumps(fault.to_json()))) == fault
    assert "in\ntwo lines" in fault.traceback
    assert fault_of(RuntimeError("in\ntwo lines")).reason == "RuntimeError: in two lines"


def test_an_exception_is_of_the_first_kind_that_includes_it():
    assert faults.EXCEPTIONS[-1].includes(KeyboardInterrupt())
    assert len({kind.failure for kind in faults.TABLE}) == len(faults.TABLE)
