"""The parts of an anytime network as plain, frozen, validated data."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any, Literal

from nas.errors import InvalidArchitecture


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedModule:
    """Components that are switched on one after the other as the utilization grows.

    components: of each, the maps that it switches, ascending. The first component that names a map switches its first
        slice, the second its second, and so on: a map of one slice is on or off as a whole. Other slices are off.
    always: how many of the first are on at every utilization.
    """

    components: tuple[tuple[int, ...], ...]
    always: int = 0

    def __post_init__(self) -> None:
        components = self.components
        whole = type(components) is tuple and all(
            type(maps) is tuple and maps and {int}.issuperset(map(type, maps)) for maps in components
        )
        if not (whole and components):
            raise InvalidArchitecture(
                f"components must be a tuple of tuples of maps, none of them empty. Got {components!r}."
            )
        if not all(list(maps) == sorted(set(maps)) for maps in components):
            raise InvalidArchitecture(f"The maps of a component must ascend, each once. Got {components}.")
        if not (type(self.always) is int and 0 <= self.always < len(components)):
            raise InvalidArchitecture(
                f"always must leave one of the {len(components)} components to switch. Got {self.always!r}."
            )

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The smallest utilization at which each component is on, ascending: levels of equal measure between them.

        >>> GatedModule(components=((1,),) * 3, always=1).thresholds
        (0.0, 0.3333333333333333, 0.6666666666666666)
        """
        steps = len(self.components) - self.always + 1
        return tuple(max(0, i + 1 - self.always) / steps for i in range(len(self.components)))

    def on(self, utilization: float) -> int:
        """How many components are on.

        >>> [GatedModule(components=((1,),) * 4).on(u) for u in (0.0, 0.19, 0.2, 0.5, 1.0)]
        [0, 0, 1, 2, 4]
        """
        return sum(utilization >= threshold for threshold in self.thresholds)


Size = tuple[int, ...]


STEPS = ("norm", "relu", "relu6", "silu", "hardswish")


ACTIVATIONS = ("none", *STEPS[1:])


SCALES = ("none", "mean", "full")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
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
