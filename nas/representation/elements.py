"""The parts of an anytime network as frozen data: task, feature maps, operations, subnetworks, gated modules.

Each class checks its own values when it is constructed. Checks that involve several parts are in
:mod:`nas.representation.topology` and :mod:`nas.representation.architecture`. The fields are part of the content hash
and of the JSON format.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any, Literal

from nas.errors import InvalidArchitecture

Size = tuple[int, ...]
"""Spatial sizes, one entry per dimension; () for a vector."""
SettingValue = str | int | float | bool | None

DROPOUT = "dropout"
"""The step that sets half of the values to zero in training, and nothing otherwise."""
STEPS = ("norm", "relu", "relu6", "silu", "hardswish", DROPOUT)
ACTIVATIONS = ("none", *STEPS[1:-1])
SCALES = ("none", "mean", "full")


def size_text(size: Size) -> str:
    """A spatial size in words.

    >>> size_text((32, 32)), size_text(())
    ('32×32', 'vector')
    """
    return "×".join(map(str, size)) or "vector"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A classification task.

    Parameters
    ----------
    input_shape : tuple of int
        Channels, then the spatial sizes (two for images, three for videos).
    num_classes : int
        Number of (fine) labels.
    hierarchy : tuple of tuple of int
        Coarser labellings, finest first. Each holds the coarse label of every fine label, and joins whole labels of the
        labelling before it. Labellings are numbered from 0, the fine labels; 1 is the first of the hierarchy.
    metric : str
        The metric of accuracies: one of ``results.measures.METRICS``, or an evaluator's own.
    """

    input_shape: tuple[int, ...]
    num_classes: int
    hierarchy: tuple[tuple[int, ...], ...] = ()
    metric: str = "accuracy"

    def __post_init__(self) -> None:
        if not (_is_int_tuple(self.input_shape) and len(self.input_shape) >= 2 and min(self.input_shape) >= 1):
            raise InvalidArchitecture(
                "input_shape must be a tuple of positive ints: channels and at least one spatial size. "
                f"Got {self.input_shape!r}."
            )
        if type(self.num_classes) is not int or self.num_classes < 2:
            raise InvalidArchitecture(f"A task must have at least two classes. Got {self.num_classes=}.")
        if type(self.hierarchy) is not tuple or not all(map(_is_int_tuple, self.hierarchy)):
            raise InvalidArchitecture(f"hierarchy must be a tuple of tuples of int labels. Got {self.hierarchy!r}.")
        if not isinstance(self.metric, str):
            raise InvalidArchitecture(f"metric must be a name. Got {self.metric!r}.")
        if self.hierarchy:
            self._check_hierarchy()

    def _check_hierarchy(self) -> None:
        for labels in self.hierarchy:
            if len(labels) != self.num_classes or set(labels) != set(range(max(labels) + 1)):
                raise InvalidArchitecture(
                    f"Each level of the hierarchy must give each of the {self.num_classes} fine labels a coarse label "
                    f"0..n-1, and use all n. Got {labels}."
                )
        counts = self.label_counts
        if counts[-1] < 2 or any(finer <= coarser for finer, coarser in pairwise(counts)):
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
        """Number of labels of every labelling, finest first; strictly decreasing."""
        return (self.num_classes, *(max(labels) + 1 for labels in self.hierarchy))

    def joined(self, finer: int, coarser: int) -> tuple[int, ...]:
        """The coarser label of every label of a finer labelling.

        Parameters
        ----------
        finer, coarser : int
            Numbers of two labellings, ``finer <= coarser``.

        Returns
        -------
        tuple of int
            One entry per label of the finer labelling.

        Raises
        ------
        InvalidArchitecture
            If a labelling does not exist or is not coarser.

        Examples
        --------
        >>> Task(input_shape=(1, 8, 8), num_classes=4, hierarchy=((0, 0, 1, 2), (0, 0, 1, 1))).joined(1, 2)
        (0, 1, 1)
        """
        if not 0 <= finer <= coarser < len(self.label_counts):
            raise InvalidArchitecture(f"Only labels of a finer labelling can be joined. Got {finer=}, {coarser=}.")
        labellings = (tuple(range(self.num_classes)), *self.hierarchy)
        coarse_of = dict(zip(labellings[finer], labellings[coarser]))
        return tuple(coarse_of[label] for label in range(len(coarse_of)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMap:
    """A node of the topology: operations write into it, it merges their results, and operations read it.

    Parameters
    ----------
    channels : int
        Number of channels at full width.
    size : tuple of int
        Spatial sizes; () for a vector.
    slices : tuple of int
        Prefix lengths that subnetworks may use, ascending, ending at ``channels``. They serve as elastic widths, as
        causal blocks and as the components of a gated module.
    merge : {"sum", "concat"}
        Results are summed, or concatenated. A concat is a view of its sources: a subnetwork does not declare its active
        channels, they follow from the sources.
    activation : str
        Applied after the merge.
    scale : {"none", "mean", "full"}
        Factor for the values of a gated map of which c of n components are active: "mean" 1/c, "full" n/c. The
        components are the slices; for a concat, its sources.
    """

    channels: int
    size: Size
    slices: tuple[int, ...]
    merge: Literal["sum", "concat"] = "sum"
    activation: str = "none"
    scale: Literal["none", "mean", "full"] = "none"

    def __post_init__(self) -> None:
        slices, size = self.slices, self.size
        if not (type(slices) is type(size) is tuple and _are_ints((self.channels, *size, *slices))):
            raise InvalidArchitecture(
                f"channels must be an int, size and slices tuples of int. Got {self.channels=}, {size=}, {slices=}."
            )
        if self.channels < 1:
            raise InvalidArchitecture(f"A feature map must have channels. Got {self.channels=}.")
        ascending = all(a < b for a, b in pairwise(slices))
        if not slices or slices[0] < 1 or slices[-1] != self.channels or not ascending:
            raise InvalidArchitecture(
                f"slices must ascend from at least 1 and end at channels={self.channels}. Got {slices=}."
            )
        if not _are_str((self.merge, self.activation, self.scale)):
            raise InvalidArchitecture(
                f"merge, activation and scale must be str. Got {self.merge!r}, {self.activation!r}, {self.scale!r}."
            )
        if self.merge not in ("sum", "concat"):
            raise InvalidArchitecture(f"merge must be 'sum' or 'concat'. Got {self.merge!r}.")
        if self.merge == "concat" and len(slices) > 1:
            raise InvalidArchitecture(f"A concat must have one slice: its sources determine the rest. Got {slices=}.")
        if self.activation not in ACTIVATIONS:
            raise InvalidArchitecture(f"activation must be one of {ACTIVATIONS}. Got {self.activation!r}.")
        if self.scale not in SCALES:
            raise InvalidArchitecture(f"scale must be one of {SCALES}. Got {self.scale!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An edge of the topology. Several operations may connect the same two maps.

    Parameters
    ----------
    source, target : int
        Indices of the map that is read and of the later map that is written.
    kind : str
        Name of a :class:`nas.representation.kinds.Kind`.
    kernel, stride, padding : tuple of int
        One entry per spatial dimension; () for kinds without a window.
    groups : int
        Number of groups at full width; an active prefix consists of whole groups.
    before, after : tuple of str
        Steps ("norm", "dropout" or an activation) on the source values, and on the results before the merge.
    wiring : {"dense", "causal"}
        "dense": every target channel reads the whole active prefix of the source. "causal": slice j of the target reads
        slices <= j of the source.
    bias : bool
        Whether a learned operation adds a bias.
    optional : bool
        Whether a subnetwork may leave the operation out.
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
        self._check_types()
        if not 0 <= self.source < self.target:
            raise InvalidArchitecture(f"An operation must lead to a later map. Got {self.source} -> {self.target}.")
        if self.groups < 1:
            raise InvalidArchitecture(f"groups must be at least 1. Got {self.groups=}.")
        if self.wiring not in ("dense", "causal"):
            raise InvalidArchitecture(f"wiring must be 'dense' or 'causal'. Got {self.wiring!r}.")
        for step in (*self.before, *self.after):
            if step not in STEPS:
                raise InvalidArchitecture(f"Steps before and after an operation must be among {STEPS}. Got {step!r}.")
        if self.before.count("norm") > 1 or self.after.count("norm") > 1:
            raise InvalidArchitecture(
                f"An operation may have at most one norm before and one after it. Got {self.before=}, {self.after=}."
            )

    def _check_types(self) -> None:
        kernel, stride, padding = self.kernel, self.stride, self.padding
        if not (type(kernel) is type(stride) is type(padding) is type(self.before) is type(self.after) is tuple):
            raise InvalidArchitecture(
                "kernel, stride, padding, before and after must be tuples. "
                f"Got {kernel=}, {stride=}, {padding=}, {self.before=}, {self.after=}."
            )
        if not _are_ints((self.source, self.target, self.groups, *kernel, *stride, *padding)):
            raise InvalidArchitecture(
                "source, target, groups, kernel, stride and padding must be ints. Got "
                f"{self.source!r}, {self.target!r}, {self.groups!r}, {kernel=}, {stride=}, {padding=}."
            )
        if not _are_str((self.kind, self.wiring, *self.before, *self.after)):
            raise InvalidArchitecture(
                "kind must be a name, wiring and the steps in before and after must be str. "
                f"Got {self.kind!r}, {self.wiring!r}, {self.before=}, {self.after=}."
            )
        if not type(self.bias) is type(self.optional) is bool:
            raise InvalidArchitecture(f"bias and optional must be bool. Got {self.bias!r}, {self.optional!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnetwork:
    """One operating point of an anytime network.

    Parameters
    ----------
    channels : tuple of int
        Active prefix of every feature map that is not a concat, in map order; 0 switches a map off.
    operations : tuple of int
        Indices of the operations that run, ascending.
    output : int
        Index of the map that holds the logits. Its number of channels determines the labelling of the task.
    """

    channels: tuple[int, ...]
    operations: tuple[int, ...]
    output: int

    def __post_init__(self) -> None:
        channels, operations = self.channels, self.operations
        tuples = type(channels) is type(operations) is tuple
        if not (tuples and _are_ints((self.output, *channels, *operations))):
            raise InvalidArchitecture(
                f"channels and operations must be tuples of int, output an int. Got {channels=}, {operations=}, "
                f"{self.output=}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedModule:
    """Components that are switched on one after the other as the utilization grows.

    Parameters
    ----------
    components : tuple of tuple of int
        For each component, the maps that it switches, ascending. The first component that names a map switches its
        first slice, the second its second slice, and so on; a map with one slice is on or off as a whole. Slices that
        no component switches are off.
    always : int
        Number of leading components that are on at every utilization.
    """

    components: tuple[tuple[int, ...], ...]
    always: int = 0

    def __post_init__(self) -> None:
        components = self.components
        tuples = type(components) is tuple and all(_is_int_tuple(maps) and maps for maps in components)
        if not (tuples and components):
            raise InvalidArchitecture(f"components must be a tuple of non-empty tuples of maps. Got {components!r}.")
        if any(list(maps) != sorted(set(maps)) for maps in components):
            raise InvalidArchitecture(f"The maps of a component must ascend, each once. Got {components}.")
        if type(self.always) is not int or not 0 <= self.always < len(components):
            raise InvalidArchitecture(
                f"always must leave one of the {len(components)} components to switch. Got {self.always!r}."
            )

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The smallest utilization at which each component is on, ascending; they divide [0, 1] into equal parts.

        >>> GatedModule(components=((1,),) * 3, always=1).thresholds
        (0.0, 0.3333333333333333, 0.6666666666666666)
        """
        steps = len(self.components) - self.always + 1
        return tuple(max(0, i + 1 - self.always) / steps for i in range(len(self.components)))

    def on(self, utilization: float) -> int:
        """Number of components that are on at a utilization.

        >>> [GatedModule(components=((1,),) * 4).on(u) for u in (0.0, 0.19, 0.2, 0.5, 1.0)]
        [0, 0, 1, 2, 4]
        """
        return sum(utilization >= threshold for threshold in self.thresholds)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """The name of a training rule and its settings. The rule is loaded when a study starts.

    Parameters
    ----------
    rule : str
        Name of a plug-in in the group ``nas.training_rules``, or ``path/file.py:Name``.
    settings : tuple of (str, str or int or float or bool or None)
        Arguments of the rule, sorted by name.
    """

    rule: str = "sandwich"
    settings: tuple[tuple[str, SettingValue], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.rule, str):
            raise InvalidArchitecture(f"A training rule must be a name. Got {self.rule!r}.")
        if type(self.settings) is not tuple or not all(map(_is_setting, self.settings)):
            raise InvalidArchitecture(
                f"Settings must be pairs of a name and a str, finite number, bool or None. Got {self.settings!r}."
            )
        names = [name for name, _ in self.settings]
        if names != sorted(set(names)):
            raise InvalidArchitecture(f"Settings must be sorted by name, each once. Got {names}.")


def _are_ints(values: Iterable[object]) -> bool:
    """Whether all values are exactly of type int.

    NumPy integers and bools are rejected: they change the content hash, and NumPy integers are not JSON-serialisable.
    """
    return {int}.issuperset(map(type, values))


def _are_str(values: Iterable[object]) -> bool:
    """Whether all values are exactly of type str. NumPy's strings are rejected: they change the content hash."""
    return {str}.issuperset(map(type, values))


def _is_int_tuple(value: Any) -> bool:
    return type(value) is tuple and _are_ints(value)


def _is_setting(pair: Any) -> bool:
    if type(pair) is not tuple or len(pair) != 2 or type(pair[0]) is not str:
        return False
    value = pair[1]
    return value is None or type(value) in (str, int, bool) or (type(value) is float and isfinite(value))
