"""Data on a cluster: one read-only copy on each node, or files that every node has."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nas.errors import EnvironmentFault, UserError
from nas.evaluation.evaluator import Evaluator, LoadedData
from nas.ray.nodes import Node
from nas.workers.session import EvaluatorCall

APPLIED = ("layout", "hierarchy")
"""Settings of evaluators that data in memory have gone through."""
CHECK_SECONDS = 60.0
"""Time in which nodes must answer whether they have the files; later answers are awaited by the workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCall:
    """The call of an evaluator that workers on any node can make.

    call: with the data specification. data: reference to data in memory, which take the place of the specification.
    code: reference to the user's code that the evaluator needs; None if every node has it.
    """

    call: EvaluatorCall
    data: ray.ObjectRef | None
    code: ray.ObjectRef | None

    @property
    def device(self) -> str:
        """Name of the torch device of a training, or "auto"."""
        return self.call.device

    def load(self) -> Evaluator:
        """A new evaluator on this node. Its arrays lie in memory that all workers of the node share.

        Raises
        ------
        EnvironmentFault
            If a file does not exist on this node, or the data differ from those of the study.
        """
        if self.code is not None:
            ray.get(self.code).install()
        if self.data is not None:
            return replace(self.call, data=ray.get(self.data)).load()
        if missing := missing_files(self.call.files):
            raise EnvironmentFault(_requirement({platform.node(): missing}))
        return self.call.load()


def placed(call: EvaluatorCall, data: LoadedData | None, code: ray.ObjectRef | None) -> PlacedCall:
    """Put the data of a study where the workers of a cluster can read them.

    Parameters
    ----------
    call
        With a data specification.
    data
        The same data in memory; None: the workers load the specification.
    code
        See :class:`PlacedCall`.
    """
    if data is None:
        return PlacedCall(call=call, data=None, code=code)
    settings = {name: value for name, value in call.settings.items() if name not in APPLIED}
    return PlacedCall(call=replace(call, settings=settings), data=ray.put(data), code=code)


def check_files(files: Iterable[str], nodes: Iterable[Node]) -> None:
    """Check that nodes have files, before anything is trained.

    Parameters
    ----------
    files
        Paths.
    nodes
        Of the workers.

    Raises
    ------
    UserError
        If a file is missing on a node.
    """
    files = tuple(files)
    if not files:
        return
    check = ray.remote(missing_files)
    answers = {
        check.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
            files
        ): node.name
        for node in nodes
    }
    ready, _ = ray.wait(list(answers), num_returns=len(answers), timeout=CHECK_SECONDS) if answers else ([], [])
    missing: dict[str, list[str]] = {}
    for answer in ready:
        try:
            found = ray.get(answer)
        except ray.exceptions.RayError:  # the node was lost
            continue
        if found:
            missing[answers[answer]] = found
    if missing:
        raise UserError(_requirement(missing))


def missing_files(files: Iterable[str]) -> list[str]:
    """The paths that do not exist on this node."""
    return [path for path in files if not Path(path).exists()]


def _requirement(missing: dict[str, list[str]]) -> str:
    places = "; ".join(f"no {' and no '.join(paths)} on {node}" for node, paths in sorted(missing.items()))
    return (
        f"Every node must have the files of the data. Got {places}. Copy them there or mount a shared folder, or use "
        "data that fit into memory, such as npz:FILE with the evaluator 'training', which are sent to the nodes."
    )
