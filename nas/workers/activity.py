"""What a runner does at present: its nodes, and the jobs that run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningJob:
    """A job that runs.

    candidate: its id. node: name; "" if unknown. epoch, until: completed epochs in this run, and the last one of the
    job. seconds: since the last event, or since the start.
    """

    candidate: int
    node: str
    epoch: int
    until: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What a runner does. nodes: name → number of jobs that run there side by side. running: the jobs that run."""

    nodes: Mapping[str, int]
    running: tuple[RunningJob, ...] = ()

    def limited(self, most: int | None) -> Activity:
        """The activity if at most this number of jobs run side by side: nodes without a job lose slots first.

        Examples
        --------
        >>> Activity(nodes={"a": 2, "b": 4}).limited(3).nodes
        {'a': 2, 'b': 1}
        """
        if most is None:
            return self
        used = Counter(job.node for job in self.running)
        slots = {name: min(count, used[name]) for name, count in self.nodes.items()}
        for name, count in self.nodes.items():
            slots[name] += max(0, min(count - slots[name], most - sum(slots.values())))
        return replace(self, nodes={name: count for name, count in slots.items() if count})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, inverse of :meth:`from_json`."""
        return {"nodes": dict(self.nodes), "running": [asdict(job) for job in self.running]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Activity:
        """The activity that ``to_json`` wrote."""
        return Activity(nodes=data["nodes"], running=tuple(RunningJob(**job) for job in data["running"]))
