"""What the exceptions of Ray mean for a job: whose fault they are."""

from __future__ import annotations

import ray.exceptions as errors

from nas.errors import EnvironmentFault
from nas.evaluation.faults import Fault, fault_of, fault_of_death


def fault_of_ray(error: Exception, *, opened: bool, node_lives: bool) -> Fault | None:
    """The fault of a failed call of a worker.

    Parameters
    ----------
    error
        Raised by Ray for the call.
    opened
        Whether evaluator and data were loaded.
    node_lives
        Whether the worker's node is alive; False for a worker that never had one.

    Returns
    -------
    Fault or None
        None if nobody is to blame, because the node was lost: the job should run again on another.
    """
    if isinstance(error, errors.RuntimeEnvSetupError):
        return _environment(f"Nodes must prepare the environment of the search. Got {_line(error)}")
    if isinstance(error, errors.ActorUnschedulableError | errors.TaskUnschedulableError):
        return _environment(f"A node must have room for a worker. Got {_line(error)}")
    if isinstance(error, errors.RayActorError) and error.actor_init_failed:
        return _environment(f"Nodes must be able to start a worker. Got {_line(error)}")
    if isinstance(error, errors.RayTaskError):  # raised by a method of the worker
        return fault_of(error.cause if isinstance(error.cause, Exception) else error, opening=not opened)
    if isinstance(error, errors.OutOfMemoryError) or "NODE_OUT_OF_MEMORY" in str(error):
        return fault_of_death("ended by Ray, because the memory of its node was full", opened=opened)
    lost = isinstance(error, errors.ActorUnavailableError | errors.NodeDiedError | errors.ObjectLostError)
    if lost or getattr(error, "preempted", False) or not node_lives:
        return None
    return fault_of_death(None, opened=opened)


def _environment(reason: str) -> Fault:
    return fault_of(EnvironmentFault(reason))


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.400}"
