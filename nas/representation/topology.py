"""The one representation: an anytime network as plain, frozen, validated data.

A search space returns an :class:`Architecture`; cost, Markov chain, torch module, drawing and export are derived from
it. Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise
from math import isfinite, prod
from operator import attrgetter
from typing import Any, Literal

from nas.errors import InvalidArchitecture
from nas.representation.gates import GatedModule, check_gated, check_throttled, cut_to
from nas.representation.kinds import Size, kind

STEPS = ("norm", "relu", "relu6", "silu", "hardswish")
ACTIVATIONS = ("none", *STEPS[1:])
SCALES = ("none", "mean", "full")
NORM_POLICIES = ("shared", "per_point", "recalibrated")

REMEMBERED_QUESTIONS = 4096
"""How many sets of operations a topology knows the live ones of: a training that samples them asks without end."""

Setting = str | int | float | bool | None

_INT = {int}
"""What types of whole numbers there may be: numpy's would give other keys, and cannot be written as JSON."""


def _whole(numbers: Any) -> bool:
    return type(numbers) is tuple and {int}.issuperset(map(type, numbers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be learned.

    input_shape: channels first, then the spatial sizes (two for images, three for video).
    num_classes: number of (fine) labels.
    hierarchy: coarser labellings of the fine labels, finest first; each gives the coarse label of every fine one, and
        joins labels of the labelling before it. Labellings are numbered: 0 are the fine labels, 1 the first of these.
    metric: what "accuracy" means; a name for reports.
    """

    input_shape: tuple[int, ...]
    num_classes: int
    hierarchy: tuple[tuple[int, ...], ...] = ()
    metric: str = "accuracy"

    def __post_init__(self) -> None:
        if not (_whole(self.input_shape) and len(self.input_shape) >= 2 and min(self.input_shape) >= 1):
            raise InvalidArchitecture(
                "input_shape must be a tuple of channels and at least one spatial size, whole numbers, all positive. "
                f"Got {self.input_shape!r}."
            )
        if not (type(self.num_classes) is int and self.num_classes >= 2):
            raise InvalidArchitecture(f"A task must have at least two classes. Got {self.num_classes=}.")
        if not (type(self.hierarchy) is tuple and all(map(_whole, self.hierarchy))):
            raise InvalidArchitecture(f"hierarchy must be a tuple of tuples of labels. Got {self.hierarchy!r}.")
        if not isinstance(self.metric, str):
            raise InvalidArchitecture(f"metric must be a name. Got {self.metric!r}.")
        for labels in self.hierarchy:
            if not (len(labels) == self.num_classes and set(labels) == set(range(max(labels) + 1))):
                raise InvalidArchitecture(
                    f"Each level of the hierarchy must give every one of the {self.num_classes} labels a coarse label "
                    f"0..n-1, none left out. Got {labels}."
                )
        counts = self.label_counts
        if not (counts[-1] >= 2 and all(finer > coarser for finer, coarser in pairwise(counts))):
            raise InvalidArchitecture(
                "Each level of the hierarchy must have fewer labels than the one before it, and at least two. "
                f"Got {', '.join(map(str, counts))} labels, finest first."
            )
        for finer, coarser in pairwise(self.hierarchy):
            if len(set(zip(finer, coarser))) > len(set(finer)):
                raise InvalidArchitecture(
                    "Each level of the hierarchy must join whole labels of the one before it. "
                    f"Got {coarser}, which splits labels of {finer}."
                )

    @property
    def label_counts(self) -> tuple[int, ...]:
        """Number of labels of every labelling, finest first; no two are equal."""
        return (self.num_classes, *(max(labels) + 1 for labels in self.hierarchy))

    def joined(self, finer: int, coarser: int) -> tuple[int, ...]:
        """For every label of a labelling, the label of another, which is coarser or the same.

        >>> Task(input_shape=(1, 8, 8), num_classes=4, hierarchy=((0, 0, 1, 2), (0, 0, 1, 1))).joined(1, 2)
        (0, 1, 1)
        """
        if not 0 <= finer <= coarser < len(self.label_counts):
            raise InvalidArchitecture(f"Only labels of a finer labelling can be joined. Got {finer=}, {coarser=}.")
        labellings = (tuple(range(self.num_classes)), *self.hierarchy)
        found = dict(zip(labellings[finer], labellings[coarser]))
        return tuple(found[label] for label in range(len(found)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMap:
    """A node of the topology: what operations write, merge and read.

    channels: at full width.
    size: spatial sizes; () for a vector.
    slices: prefix lengths that a subnetwork may use, ascending, ending at ``channels``. The same field serves elastic
        widths, causal blocks and the components of a gated module.
    merge: "sum" of what arrives, or "concat": a view of its sources, whose active part is derived, never declared.
    activation: after the merge.
    scale: a gated map's values are multiplied by 1/c ("mean") or n/c ("full") when c of its n components are active;
        the components are the slices, for a concat its sources.
    """

    channels: int
    size: Size
    slices: tuple[int, ...]
    merge: Literal["sum", "concat"] = "sum"
    activation: str = "none"
    scale: Literal["none", "mean", "full"] = "none"

    def __post_init__(self) -> None:
        slices, size = self.slices, self.size
        if not (type(slices) is type(size) is tuple and {type(self.channels), *map(type, slices + size)} == _INT):
            raise InvalidArchitecture(
                "channels must be a whole number, size and slices tuples of whole numbers. "
                f"Got {self.channels=}, {size=}, {slices=}."
            )
        if not (self.channels >= 1):
            raise InvalidArchitecture(f"A feature map must have channels. Got {self.channels=}.")
        if not (
            len(slices) > 0
            and slices[-1] == self.channels
            and slices[0] >= 1
            and all(a < b for a, b in pairwise(slices))
        ):
            raise InvalidArchitecture(
                f"slices must ascend from at least 1 and end at channels={self.channels}. Got {slices=}."
            )
        if self.merge not in ("sum", "concat"):
            raise InvalidArchitecture(f"merge must be 'sum' or 'concat'. Got {self.merge!r}.")
        if self.merge == "concat" and len(slices) > 1:
            raise InvalidArchitecture(f"What is active of a concat is derived: it has one slice. Got {slices=}.")
        if self.activation not in ACTIVATIONS:
            raise InvalidArchitecture(f"activation must be one of {ACTIVATIONS}. Got {self.activation!r}.")
        if self.scale not in SCALES:
            raise InvalidArchitecture(f"scale must be one of {SCALES}. Got {self.scale!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An edge of the topology. Parallel operations between the same two maps are allowed.

    kind: name of a :class:`nas.representation.kinds.Kind`.
    kernel, stride, padding: one entry per spatial dimension; () for kinds without a window.
    groups: counted at full width; active prefixes are whole groups.
    before, after: steps ("norm" or an activation) on what is read, and on what is written before the merge.
    wiring: "dense" reads the whole active prefix; "causal": slice j of the target reads slices <= j of the source.
    bias: whether a learned operation adds one.
    optional: a subnetwork may drop it.
    """

    source: int
    target: int
    kind: str
    kernel: Size = ()
    stride: Size = ()
    padding: Size = ()
    groups: int = 1
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    wiring: Literal["dense", "causal"] = "dense"
    bias: bool = False
    optional: bool = False

    def __post_init__(self) -> None:
        kernel, stride, padding = self.kernel, self.stride, self.padding
        if not (type(kernel) is type(stride) is type(padding) is type(self.before) is type(self.after) is tuple):
            raise InvalidArchitecture(
                "kernel, stride, padding, before and after must be tuples. "
                f"Got {kernel=}, {stride=}, {padding=}, {self.before=}, {self.after=}."
            )
        numbers = (self.source, self.target, self.groups, *kernel, *stride, *padding)
        if not (set(map(type, numbers)) == _INT):
            raise InvalidArchitecture(
                "source, target, groups, kernel, stride and padding must be whole numbers. Got "
                f"{self.source!r}, {self.target!r}, {self.groups!r}, {kernel=}, {stride=}, {padding=}."
            )
        if not (isinstance(self.kind, str) and type(self.bias) is type(self.optional) is bool):
            raise InvalidArchitecture(
                "kind must be a name, bias and optional must be true or false. "
                f"Got {self.kind!r}, {self.bias!r}, {self.optional!r}."
            )
        if not (0 <= self.source < self.target):
            raise InvalidArchitecture(f"An operation must lead to a later map. Got {self.source} -> {self.target}.")
        if not (self.groups >= 1):
            raise InvalidArchitecture(f"groups must be at least 1. Got {self.groups=}.")
        if self.wiring not in ("dense", "causal"):
            raise InvalidArchitecture(f"wiring must be 'dense' or 'causal'. Got {self.wiring!r}.")
        for step in (*self.before, *self.after):
            if step not in STEPS:
                raise InvalidArchitecture(f"Steps before and after an operation must be among {STEPS}. Got {step!r}.")
        if not (self.before.count("norm") <= 1 and self.after.count("norm") <= 1):
            raise InvalidArchitecture(
                f"An operation has at most one norm before and one after it. Got {self.before=}, {self.after=}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnetwork:
    """One operating point of an anytime network, as plain data.

    channels: active prefix of every feature map that is not a concat, in map order; 0 switches a map off.
    operations: indices of the operations that run, sorted.
    output: the map that the answer is read from; one with as many channels as a labelling of the task has labels tells
        those.
    """

    channels: tuple[int, ...]
    operations: tuple[int, ...]
    output: int

    def __post_init__(self) -> None:
        channels, operations = self.channels, self.operations
        tuples = type(channels) is type(operations) is tuple
        if not (tuples and {type(self.output), *map(type, channels), *map(type, operations)} == _INT):
            raise InvalidArchitecture(
                "channels and operations must be tuples of whole numbers, output a whole number. "
                f"Got {channels=}, {operations=}, {self.output=}."
            )


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Feature maps in topological order (map 0 is the input) and the operations between them.

    Validated at birth: sizes are those that the operations produce, concats are fed by identities alone and have the
    channels of their sources, grouped and causal wirings fit the slices.

    gated: modules of which a utilization says what is on, see :mod:`nas.representation.gates`; subnetworks are not
    confined to that.
    """

    maps: tuple[FeatureMap, ...]
    operations: tuple[Operation, ...]
    gated: tuple[GatedModule, ...] = ()

    def __post_init__(self) -> None:
        parts = (("maps", FeatureMap), ("operations", Operation), ("gated", GatedModule))
        for name, what in parts:
            items = getattr(self, name)
            if not (type(items) is tuple and all(type(item) is what for item in items)):
                raise InvalidArchitecture(f"{name} must be a tuple of {what.__name__}. Got {items!r}.")
        count = len(self.maps)
        if not (count >= 2):
            raise InvalidArchitecture(f"A topology must have an input and an output map. Got {count} maps.")
        first = self.maps[0]
        if not (first.merge == "sum" and first.activation == first.scale == "none"):
            raise InvalidArchitecture(f"Map 0 is the input: no concat, activation or scale. Got {first}.")
        for index, operation in enumerate(self.operations):
            if not (operation.target < count):
                raise InvalidArchitecture(f"Operation {index} leads to map {operation.target} of {count}.")
            try:
                self._check(operation)
            except InvalidArchitecture as error:
                raise InvalidArchitecture(
                    f"Operation {index} ({operation.kind} {operation.source} -> {operation.target}): {error}"
                ) from None
        for index, feature_map in enumerate(self.maps):
            if not (index == 0 or bool(self.incoming[index])):
                raise InvalidArchitecture(f"Every map but the input must be written. Nothing writes map {index}.")
            if feature_map.merge == "concat":
                width = sum(self.maps[self.operations[o].source].channels for o in self.incoming[index])
                if not (width == feature_map.channels):
                    raise InvalidArchitecture(
                        f"Concat {index} must have the {width} channels of its sources. Got {feature_map.channels}."
                    )
        check_gated(self)

    def _check(self, operation: Operation) -> None:
        source, target, what = self.maps[operation.source], self.maps[operation.target], kind(operation.kind)
        size = what.output_size(operation, source.size)
        if not (size == target.size):
            raise InvalidArchitecture(f"It produces size {size}, but the target map has size {target.size}.")
        if operation.bias and not what.learned:
            raise InvalidArchitecture("Only learned operations have a bias.")
        plain = operation.kind == "identity" and not operation.before and not operation.after
        if target.merge == "concat" and not plain:
            raise InvalidArchitecture("Only plain identities may feed a concat: put an intermediate map before it.")
        if operation.groups > 1:
            self._check_groups(operation, source, target, what.mixing and what.learned)
        if operation.wiring == "causal":
            if not (target.merge != "concat"):
                raise InvalidArchitecture("An identity into a concat is a view: its wiring must be 'dense'.")
            depth = max(index for _, index in self.blocks(operation.source)) + 1
            if depth not in (1, len(target.slices)):
                raise InvalidArchitecture(
                    "A causal operation needs as many slices in its target as in its source, or one in its source. "
                    f"Got {depth} and {len(target.slices)}."
                )

    def _check_groups(self, operation: Operation, source: FeatureMap, target: FeatureMap, weighted: bool) -> None:
        groups = operation.groups
        if not (weighted):
            raise InvalidArchitecture("Only learned operations that mix channels have groups.")
        if not (source.merge == "sum"):
            raise InvalidArchitecture("A grouped operation cannot read a concat.")
        if not (source.channels % groups == 0 and target.channels % groups == 0):
            raise InvalidArchitecture(
                f"Channels must be whole groups. Got {source.channels} and {target.channels} channels, {groups} groups."
            )
        per_source, per_target = source.channels // groups, target.channels // groups
        if not (all(s % per_source == 0 for s in source.slices) and all(s % per_target == 0 for s in target.slices)):
            raise InvalidArchitecture(
                f"Every slice must be whole groups. Got slices {source.slices} and {target.slices} for {groups} groups."
            )
        same = [s // per_source for s in source.slices] == [s // per_target for s in target.slices]
        if operation.wiring == "causal" and not same:
            raise InvalidArchitecture(
                "A grouped causal operation needs the same groups in each slice of source and target. "
                f"Got {source.slices} and {target.slices}."
            )

    @cached_property
    def incoming(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the operations that write each map, in order."""
        into: list[list[int]] = [[] for _ in self.maps]
        for index, operation in enumerate(self.operations):
            into[operation.target].append(index)
        return tuple(map(tuple, into))

    @cached_property
    def _live(self) -> dict[tuple[tuple[int, ...], int], tuple[int, ...]]:
        return {}

    def live(self, operations: tuple[int, ...], output: int) -> tuple[int, ...]:
        """Those of the operations that lie on a path from the input to a map; remembered, for points share them."""
        from nas.representation.liveness import live_operations

        question = (operations, output)
        if question not in self._live:
            if len(self._live) >= REMEMBERED_QUESTIONS:
                self._live.clear()
            self._live[question] = live_operations(self, operations, output)
        return self._live[question]

    @cached_property
    def macs_per_pair(self) -> tuple[int, ...]:
        """Multiply-accumulates of every operation for each pair of connected channels: positions × weights of a pair;
        0 where nothing is learned.
        """
        return tuple(
            prod(self.maps[operation.target].size) * prod(what.weight_size(operation)) * what.learned
            for operation in self.operations
            for what in (kind(operation.kind),)
        )

    @cached_property
    def weights_per_pair(self) -> tuple[int, ...]:
        """Weights of every operation for each pair of connected channels; 0 where nothing is learned."""
        return tuple(
            prod(what.weight_size(operation)) * what.learned
            for operation in self.operations
            for what in (kind(operation.kind),)
        )

    @cached_property
    def declared(self) -> tuple[int, ...]:
        """The maps whose active prefix a subnetwork declares: all that are not a concat."""
        return tuple(i for i, m in enumerate(self.maps) if m.merge != "concat")

    def blocks(self, index: int) -> tuple[tuple[int, int], ...]:
        """The blocks of a map as (number of channels, slice index), in channel order; a concat has those of its
        sources.
        """
        feature_map = self.maps[index]
        if feature_map.merge == "concat":
            return tuple(block for o in self.incoming[index] for block in self.blocks(self.operations[o].source))
        slices = feature_map.slices
        return tuple((stop - start, j) for j, (start, stop) in enumerate(zip((0, *slices), slices)))

    def active(self, point: Subnetwork) -> list[int]:
        """Number of active channels of every map in a subnetwork, those of concats derived."""
        counts = [0] * len(self.maps)
        for index, channels in zip(self.declared, point.channels):
            counts[index] = channels
        if len(self.declared) < len(self.maps):
            live = set(point.operations)
            for index, feature_map in enumerate(self.maps):
                if feature_map.merge == "concat":
                    counts[index] = sum(counts[self.operations[o].source] for o in self.incoming[index] if o in live)
        return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The name of a training rule and its settings; the name is looked up when a study starts."""

    rule: str = "sandwich"
    settings: tuple[tuple[str, Setting], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.rule, str):
            raise InvalidArchitecture(f"A training rule is a name. Got {self.rule!r}.")
        if not (type(self.settings) is tuple and all(map(_is_setting, self.settings))):
            raise InvalidArchitecture(
                "Settings must be pairs of a name and a text, a finite number, a truth value or nothing. "
                f"Got {self.settings!r}."
            )
        names = [name for name, _ in self.settings]
        if not (names == sorted(set(names))):
            raise InvalidArchitecture(f"Settings must be sorted by name, each once. Got {names}.")


def _is_setting(pair: Any) -> bool:
    if not (type(pair) is tuple and len(pair) == 2 and type(pair[0]) is str):
        return False
    value = pair[1]
    return value is None or type(value) in (str, int, bool) or (type(value) is float and isfinite(value))


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
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        from nas.representation.liveness import check_point
        from nas.representation.reuse import check_shared_norms

        for name, what in (("task", Task), ("topology", Topology), ("training", Training)):
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
            check_shared_norms(self)

    def labelling(self, point: Subnetwork) -> int:
        """Which of the task's labellings a point answers in, 0 the fine labels: told by how many its output tells."""
        return self.task.label_counts.index(self.topology.maps[point.output].channels)

    @cached_property
    def costs(self) -> tuple[int, ...]:
        """Multiply-accumulates of one example at every operating point, as :func:`nas.macs` has it."""
        from nas.representation.cost import subnetwork_macs

        return tuple(subnetwork_macs(self.topology, point) for point in self.points)

    @cached_property
    def canonical(self) -> Architecture:
        """The same network without what no point uses: dead operations, maps and channels.

        Equal keys mean equal networks; the converse is best effort (permuted maps are told apart).
        """
        from nas.representation.liveness import trim_unused

        return trim_unused(self)

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
                training=Training(
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
