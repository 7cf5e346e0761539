"""The architecture: task, topology and operating points of an anytime network, with its content hash and its JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from operator import attrgetter
from typing import Any, Literal

from nas.errors import InvalidArchitecture
from nas.representation.cost import subnetwork_macs, subnetwork_params
from nas.representation.elements import FeatureMap, GatedModule, Operation, Subnetwork, Task, TrainingSpec
from nas.representation.gates import check_throttled, cut_to
from nas.representation.liveness import check_points, trim_unused
from nas.representation.norms import check_shared_norms
from nas.representation.topology import Topology

NORM_POLICIES = ("shared", "per_point", "recalibrated")

_values = {cls: attrgetter(*(f.name for f in fields(cls))) for cls in (FeatureMap, Operation, Subnetwork)}
"""The function that returns the values of an element, as a tuple."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """An anytime network: a task, a topology and its operating points.

    Parameters
    ----------
    task : Task
    topology : Topology
        Its map 0 has the input shape of the task.
    points : tuple of Subnetwork
        The operating points, ascending in MACs. Each is a valid network without dead operations or maps;
        :func:`nas.representation.liveness.trim_point` removes these.
    norm : {"recalibrated", "shared", "per_point"}
        "shared": one norm for all points; allowed if the points share their results exactly or differ in gated
        components. "per_point": a norm for every point. "recalibrated": one norm, whose statistics are estimated again
        for each point after training; a point without estimated statistics is refused.
    training : TrainingSpec
        The training rule with its settings.

    Raises
    ------
    InvalidArchitecture
        If a point is not a valid network, if the points do not grow in MACs, or if they share norms but not the values
        before them (:mod:`nas.representation.norms`).
    """

    task: Task
    topology: Topology
    points: tuple[Subnetwork, ...]
    norm: Literal["shared", "per_point", "recalibrated"] = "recalibrated"
    training: TrainingSpec = field(default_factory=TrainingSpec)

    def __post_init__(self) -> None:
        for name, part in (("task", Task), ("topology", Topology), ("training", TrainingSpec)):
            if not isinstance(getattr(self, name), part):
                raise InvalidArchitecture(f"{name} must be a {part.__name__}. Got {getattr(self, name)!r}.")
        if type(self.points) is not tuple or not {Subnetwork}.issuperset(map(type, self.points)):
            raise InvalidArchitecture(f"points must be a tuple of Subnetwork. Got {self.points!r}.")
        input_shape = (self.topology.maps[0].channels, *self.topology.maps[0].size)
        if input_shape != self.task.input_shape:
            raise InvalidArchitecture(
                f"Map 0 must have the task's input shape {self.task.input_shape}. Got {input_shape}."
            )
        if self.norm not in NORM_POLICIES:
            raise InvalidArchitecture(f"norm must be one of {NORM_POLICIES}. Got {self.norm!r}.")
        self._check_points()
        if self.norm == "shared":
            check_shared_norms(self.topology, self.points)

    def _check_points(self) -> None:
        if not self.points:
            raise InvalidArchitecture("An architecture must have at least one operating point.")
        check_points(self.topology, self.task, self.points)
        if self.topology.gated:
            check_throttled(self.topology, self.task, self.points[-1])
        for level, (before, after) in enumerate(pairwise(self.costs), start=1):
            if before >= after:
                raise InvalidArchitecture(
                    f"Operating points must grow in MACs. Got macs={self.costs} at levels {level - 1} and {level}."
                )

    def labelling(self, point: Subnetwork) -> int:
        """The labelling of the task that a point predicts: it has one label per channel of the point's output.

        Parameters
        ----------
        point : Subnetwork

        Returns
        -------
        int
            Number of the labelling, 0 for the fine labels.
        """
        return self.task.label_counts.index(self.topology.maps[point.output].channels)

    @cached_property
    def costs(self) -> tuple[int, ...]:
        """MACs of one example at every operating point, as :func:`nas.macs`."""
        return tuple(subnetwork_macs(self.topology, point) for point in self.points)

    @cached_property
    def canonical(self) -> Architecture:
        """The same network without operations, maps and channels that no operating point uses.

        Networks with equal keys are equal. The converse is best effort: networks whose maps are in a different order
        have different keys.
        """
        topology, points = trim_unused(self.topology, self.points)
        unchanged = topology is self.topology and points is self.points
        return self if unchanged else replace(self, topology=topology, points=points)

    @cached_property
    def network_key(self) -> str:
        """Content hash without the training rule, 16 hexadecimal digits; it seeds the training."""
        return hashlib.sha256(self._network_text().encode()).hexdigest()[:16]

    @cached_property
    def key(self) -> str:
        """Content hash with the training rule, 16 hexadecimal digits."""
        state = (self.network_key, self.training.rule, self.training.settings)
        return hashlib.sha256(repr(state).encode()).hexdigest()[:16]

    def _network_text(self) -> str:
        """The text that is hashed: the repr of a tuple of values. It must not change, or stored keys become invalid."""
        task, trimmed = self.task, self.canonical
        parts = [
            repr((task.input_shape, task.num_classes, task.hierarchy, task.metric)),
            f"[{', '.join(map(_text, trimmed.topology.maps))}]",
            f"[{', '.join(map(_text, trimmed.topology.operations))}]",
            repr([_values[Subnetwork](point) for point in trimmed.points]),
            repr(self.norm),
            *(repr((module.components, module.always)) for module in trimmed.topology.gated),
        ]
        return f"({', '.join(parts)})"

    def to_json(self) -> dict[str, Any]:
        """The architecture as plain JSON data; the inverse of :meth:`from_json`.

        Returns
        -------
        dict
            Without entries that have their default.
        """
        return {
            "format": 1,
            "task": _to_dict(self.task),
            "maps": [_to_dict(m) for m in self.topology.maps],
            "operations": [_to_dict(o) for o in self.topology.operations],
            **({"gated": [_to_dict(m) for m in self.topology.gated]} if self.topology.gated else {}),
            "points": [_to_dict(p) for p in self.points],
            "norm": self.norm,
            "training": {"rule": self.training.rule, "settings": dict(self.training.settings)},
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Architecture:
        """The architecture that :meth:`to_json` wrote.

        Parameters
        ----------
        data : dict

        Returns
        -------
        Architecture

        Raises
        ------
        InvalidArchitecture
            If the data does not describe a valid architecture, or has another format.
        PluginError
            If a kind of operation is not installed.
        """
        if not isinstance(data, dict) or data.get("format") != 1:
            got = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise InvalidArchitecture(f"This version reads architectures of format 1. Got format {got!r}.")
        try:
            _check_entries(data, "format", "task", "maps", "operations", "gated", "points", "norm", "training")
            _check_entries(data["training"], "rule", "settings")
            return Architecture(
                task=_from_dict(Task, data["task"]),
                topology=Topology(
                    maps=tuple(_from_dict(FeatureMap, m) for m in data["maps"]),
                    operations=tuple(_from_dict(Operation, o) for o in data["operations"]),
                    gated=tuple(_from_dict(GatedModule, m) for m in data.get("gated", ())),
                ),
                points=tuple(_from_dict(Subnetwork, p) for p in data["points"]),
                norm=data["norm"],
                training=TrainingSpec(
                    rule=data["training"]["rule"], settings=tuple(sorted(data["training"]["settings"].items()))
                ),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidArchitecture(f"The data is not an architecture: {type(error).__name__} {error}.") from error

    def with_points(self, points: Sequence[Subnetwork]) -> Architecture:
        """The same maps and operations with different operating points.

        The largest new point is at utilization 1: components that are off there are no longer gated.

        Parameters
        ----------
        points : sequence of Subnetwork
            Ascending in MACs.

        Returns
        -------
        Architecture
        """
        topology = self.topology
        if topology.gated and points:
            topology = replace(topology, gated=cut_to(topology, points[-1]))
        return replace(self, topology=topology, points=tuple(points))


def macs(architecture: Architecture) -> tuple[int, ...]:
    """Multiply-accumulate operations (MACs) of one example at every operating point.

    Parameters
    ----------
    architecture : Architecture

    Returns
    -------
    tuple of int
        One per operating point, ascending. Half of the FLOPs that torch's flop counter reports for
        ``network.extract(level)``.
    """
    return architecture.costs


def params(architecture: Architecture) -> tuple[int, ...]:
    """Number of parameters of every operating point: weights, biases and norm parameters.

    Parameters
    ----------
    architecture : Architecture

    Returns
    -------
    tuple of int
        One per operating point, as of ``network.extract(level)``.
    """
    return tuple(subnetwork_params(architecture.topology, point) for point in architecture.points)


@lru_cache(maxsize=16384)  # networks have few different parts
def _text(part: FeatureMap | Operation) -> str:
    """The repr of the values of a part."""
    return repr(_values[type(part)](part))


def _to_dict(item: Any) -> dict[str, Any]:
    return {f.name: value for f in fields(item) if (value := getattr(item, f.name)) != f.default}


def _from_dict(cls: type, data: dict[str, Any]) -> Any:
    return cls(**{name: _to_tuple(value) if type(value) is list else value for name, value in data.items()})


def _to_tuple(values: list[Any]) -> tuple[Any, ...]:
    return tuple([_to_tuple(value) if type(value) is list else value for value in values])


def _check_entries(data: dict[str, Any], *names: str) -> None:
    unknown = sorted(set(data).difference(names))
    if unknown:
        raise InvalidArchitecture(f"The data is not an architecture: it has unknown entries {unknown}.")
