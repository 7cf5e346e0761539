"""An anytime network: task, topology and operating points, checked; with its keys and its JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise
from operator import attrgetter
from typing import Any, Literal

from nas.errors import InvalidArchitecture
from nas.representation.cost import subnetwork_macs, subnetwork_params
from nas.representation.elements import FeatureMap, GatedModule, Operation, Subnetwork, Task, TrainingSpec
from nas.representation.gates import check_throttled, cut_to
from nas.representation.liveness import check_point, trim_unused
from nas.representation.norms import check_shared_norms
from nas.representation.topology import Topology

NORM_POLICIES = ("shared", "per_point", "recalibrated")


_MAP_FIELDS = tuple(f.name for f in fields(FeatureMap))


_OPERATION_FIELDS = tuple(f.name for f in fields(Operation))


_POINT_FIELDS = tuple(f.name for f in fields(Subnetwork))


_map_state, _operation_state, _point_state = (
    attrgetter(*_MAP_FIELDS),
    attrgetter(*_OPERATION_FIELDS),
    attrgetter(*_POINT_FIELDS),
)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """An anytime network: task, topology and operating points from small to large.

    norm: "shared": one norm for all points, legal where reuse is exact or modules are gated; "per_point": its own norm
        for every point; "recalibrated": one norm whose statistics are re-estimated per point after training, without
        which a point is refused.
    training: the rule that trains it, with its settings.

    Raises InvalidArchitecture when a point is not a network on its own (see :mod:`nas.representation.liveness`, which
    trims what is not), when the points do not grow in MACs, or when they share norms that they cannot (see
    :mod:`nas.representation.reuse`).
    """

    task: Task
    topology: Topology
    points: tuple[Subnetwork, ...]
    norm: Literal["shared", "per_point", "recalibrated"] = "recalibrated"
    training: TrainingSpec = field(default_factory=TrainingSpec)

    def __post_init__(self) -> None:
        for name, what in (("task", Task), ("topology", Topology), ("training", TrainingSpec)):
            if not isinstance(getattr(self, name), what):
                raise InvalidArchitecture(f"{name} must be a {what.__name__}. Got {getattr(self, name)!r}.")
        if not (type(self.points) is tuple and all(type(point) is Subnetwork for point in self.points)):
            raise InvalidArchitecture(f"points must be a tuple of Subnetwork. Got {self.points!r}.")
        first = self.topology.maps[0]
        if not ((first.channels, *first.size) == self.task.input_shape):
            raise InvalidArchitecture(
                f"Map 0 must have the task's input shape {self.task.input_shape}. Got {(first.channels, *first.size)}."
            )
        if self.norm not in NORM_POLICIES:
            raise InvalidArchitecture(f"norm must be one of {NORM_POLICIES}. Got {self.norm!r}.")
        if not (len(self.points) >= 1):
            raise InvalidArchitecture("An architecture must have at least one operating point.")
        for level, point in enumerate(self.points):
            try:
                check_point(self.topology, self.task, point)
            except InvalidArchitecture as error:
                raise InvalidArchitecture(f"Operating point {level}: {error}") from None
        if self.topology.gated:
            check_throttled(self.topology, self.task, self.points[-1])
        for level, (before, after) in enumerate(pairwise(self.costs), start=1):
            if not (before < after):
                raise InvalidArchitecture(
                    f"Operating points must grow in MACs. Got macs={self.costs} at levels {level - 1} and {level}."
                )
        if self.norm == "shared":
            check_shared_norms(self.topology, self.points)

    def labelling(self, point: Subnetwork) -> int:
        """Which of the task's labellings a point answers in, 0 the fine labels: told by how many its output tells."""
        return self.task.label_counts.index(self.topology.maps[point.output].channels)

    @cached_property
    def costs(self) -> tuple[int, ...]:
        """Multiply-accumulates of one example at every operating point, as :func:`nas.macs` has it."""
        return tuple(subnetwork_macs(self.topology, point) for point in self.points)

    @cached_property
    def canonical(self) -> Architecture:
        """The same network without what no point uses: dead operations, maps and channels.

        Equal keys mean equal networks; the converse is best effort (permuted maps are told apart).
        """
        topology, points = trim_unused(self.topology, self.points)
        unchanged = topology is self.topology and points is self.points
        return self if unchanged else replace(self, topology=topology, points=points)

    @cached_property
    def network_key(self) -> str:
        """Identity of the network, 16 hexadecimal digits; the training rule is left out. It seeds the training."""
        return hashlib.sha256(repr(self._network_state()).encode()).hexdigest()[:16]

    @cached_property
    def key(self) -> str:
        """Identity of the architecture, training rule included, 16 hexadecimal digits."""
        state = (self.network_key, self.training.rule, self.training.settings)
        return hashlib.sha256(repr(state).encode()).hexdigest()[:16]

    def _network_state(self) -> tuple[Any, ...]:
        trimmed = self.canonical
        return (
            (self.task.input_shape, self.task.num_classes, self.task.hierarchy, self.task.metric),
            [_map_state(m) for m in trimmed.topology.maps],
            [_operation_state(o) for o in trimmed.topology.operations],
            [_point_state(p) for p in trimmed.points],
            self.norm,
            *((m.components, m.always) for m in trimmed.topology.gated),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; defaults are left out. Inverse of :meth:`from_json`."""
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
        """The architecture that ``to_json`` wrote. Raises InvalidArchitecture when the data is no architecture."""
        if not (isinstance(data, dict) and data.get("format") == 1):
            got = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise InvalidArchitecture(f"This version reads architectures of format 1. Got format {got!r}.")
        try:
            _only(data, "format", "task", "maps", "operations", "gated", "points", "norm", "training")
            _only(data["training"], "rule", "settings")
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
        """The same maps and operations with other operating points, the largest of which is at utilization 1:
        components that are off there are gated no more.
        """
        topology = self.topology
        if topology.gated and points:
            topology = replace(topology, gated=cut_to(topology, points[-1]))
        return replace(self, topology=topology, points=tuple(points))


def _to_dict(item: Any) -> dict[str, Any]:
    return {f.name: value for f in fields(item) if (value := getattr(item, f.name)) != f.default}


def _only(data: dict[str, Any], *names: str) -> None:
    unknown = sorted(set(data).difference(names))
    if unknown:
        raise InvalidArchitecture(f"The data is not an architecture: it has unknown entries {unknown}.")


def _tupled(value: Any) -> Any:
    return tuple(_tupled(v) for v in value) if isinstance(value, list | tuple) else value


def _from_dict(cls: type, data: dict[str, Any]) -> Any:
    return cls(**{name: _tupled(value) for name, value in data.items()})


def macs(architecture: Architecture) -> tuple[int, ...]:
    """Multiply-accumulates of one example at every operating point.

    Equals half of what torch's flop counter says of ``network.extract(level)``.
    """
    return architecture.costs


def params(architecture: Architecture) -> tuple[int, ...]:
    """Weights, biases and norm parameters of every operating point on its own, as in ``network.extract(level)``."""
    return tuple(subnetwork_params(architecture.topology, point) for point in architecture.points)
