"""A builder for architectures: it infers sizes, adds operating points and trims unused parts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from nas.errors import InvalidArchitecture
from nas.representation.architecture import Architecture
from nas.representation.elements import (
    GatedModule,
    Operation,
    SettingValue,
    Size,
    Subnetwork,
    Task,
    TrainingSpec,
)
from nas.representation.gates import distinct_utilizations, throttled
from nas.representation.liveness import trim_point
from nas.representation.parts import feature_map, operation_on
from nas.representation.topology import Topology

Widths = int | Sequence[int]


class Builder:
    """Builds an :class:`Architecture` from maps and operations that are added in topological order.

    Methods that add a layer return the index of the map that it writes. ``builder.input`` is map 0, the input.

    Parameters
    ----------
    task : Task
        Determines the input shape and the outputs of :meth:`head`.

    Notes
    -----
    ``widths`` is the number of channels of a map, or the tuple of prefix lengths that subnetworks may use. Mistakes
    raise InvalidArchitecture.

    Examples
    --------
    >>> builder = Builder(Task(input_shape=(1, 8, 8), num_classes=10))
    >>> x = builder.conv(builder.input, (8, 16), kernel=3, after=("norm", "relu"))
    >>> builder.head(x)
    3
    >>> from nas.representation.architecture import macs
    >>> macs(builder.architecture(points=2))
    (4688, 9376)
    """

    input = 0

    def __init__(self, task: Task):
        self.task = task
        self._maps: list[tuple[tuple[int, ...], dict[str, Any]]] = [
            (task.input_shape[:1], {"size": task.input_shape[1:]})
        ]
        """Prefix lengths and further fields of every map."""
        self._operations: list[Operation] = []
        self._classifiers: dict[int, tuple[int, ...]] = {}
        """For each output map of the fine labels: the output maps of all labellings, finest first."""
        self._gated: list[GatedModule] = []

    def map(self, widths: Widths, *, merge: str = "sum", activation: str = "none", scale: str = "none") -> int:
        """Add a map without operations; the first operation into it determines its size.

        Parameters
        ----------
        widths : int or sequence of int
            Number of channels, or the prefix lengths that subnetworks may use, ascending.
        merge, activation, scale : str
            As in :class:`nas.representation.elements.FeatureMap`.

        Returns
        -------
        int
            Index of the map.
        """
        slices = tuple(widths) if isinstance(widths, tuple | list) and widths else (widths,)
        self._maps.append((slices, {"merge": merge, "activation": activation, "scale": scale}))
        return len(self._maps) - 1

    def slices(self, index: int) -> tuple[int, ...]:
        """The prefix lengths of a map.

        Parameters
        ----------
        index : int

        Returns
        -------
        tuple of int
            Ascending, up to the number of channels.
        """
        return self._maps[index][0]

    def size(self, index: int) -> Size:
        """The spatial size of a map.

        Parameters
        ----------
        index : int

        Returns
        -------
        tuple of int
            One entry per dimension; () for a vector.

        Raises
        ------
        InvalidArchitecture
            If the map does not exist, or until an operation writes it.
        """
        if not 0 <= index < len(self._maps):
            raise InvalidArchitecture(f"There are maps 0 to {len(self._maps) - 1} so far. Got {index}.")
        rest = self._maps[index][1]
        if "size" not in rest:
            raise InvalidArchitecture(f"Map {index} has no size yet: an operation must write it before it is read.")
        return rest["size"]

    def add(
        self,
        kind_name: str,
        source: int,
        target: int,
        *,
        kernel: int | Size | None = None,
        stride: int | Size = 1,
        padding: int | Size | None = None,
        **rest: Any,
    ) -> int:
        """Add an operation between two maps.

        Parameters
        ----------
        kind_name : str
            Name of a :class:`nas.representation.kinds.Kind`, or ``path/file.py:Name``.
        source, target : int
            Indices of the maps.
        kernel, stride, padding : int or tuple of int, optional
            One number for all dimensions, or one per dimension. The default padding, half the kernel, keeps the size at
            stride 1. Kinds without a window take none of them.
        **rest
            groups, before, after, wiring, bias, optional, as in :class:`nas.representation.elements.Operation`.

        Returns
        -------
        int
            The target.

        Raises
        ------
        InvalidArchitecture
            If a map does not exist or has no size yet, or if the result does not have the size of the target.
        PluginError
            If no kind has this name.
        """
        size = self.size(source)
        if not 0 <= target < len(self._maps):
            raise InvalidArchitecture(f"There are maps 0 to {len(self._maps) - 1} so far. Got {target=}.")
        operation, written = operation_on(size, kind_name, source, target, kernel, stride, padding, **rest)
        if (of_target := self._maps[target][1].setdefault("size", written)) != written:
            raise InvalidArchitecture(
                f"All operations into map {target} must produce its size {of_target}. Got {written} from map {source}."
            )
        self._operations.append(operation)
        return target

    def conv(
        self, source: int, widths: Widths, *, kernel: int | Size = 3, activation: str = "none", **rest: Any
    ) -> int:
        """Add a convolution into a new map.

        Parameters
        ----------
        source : int
            Index of the map that is read.
        widths : int or sequence of int
            As in :meth:`map`.
        kernel : int or tuple of int
            One number for all dimensions, or one per dimension.
        activation : str
            Activation of the new map.
        **rest
            As in :meth:`add`.

        Returns
        -------
        int
            Index of the new map.
        """
        return self.add("conv", source, self.map(widths, activation=activation), kernel=kernel, **rest)

    def depthwise(self, source: int, *, kernel: int | Size = 3, **rest: Any) -> int:
        """Add a depthwise convolution into a new map of the same widths.

        Parameters
        ----------
        source : int
            Index of the map that is read.
        kernel : int or tuple of int
            One number for all dimensions, or one per dimension.
        **rest
            As in :meth:`add`.

        Returns
        -------
        int
            Index of the new map.
        """
        slices = self.slices(source)
        return self.add("conv", source, self.map(slices), kernel=kernel, groups=slices[-1], **rest)

    def identity(self, source: int, target: int, **rest: Any) -> int:
        """Add a skip connection into an existing map.

        Parameters
        ----------
        source, target : int
            Indices of two maps of the same size.
        **rest
            As in :meth:`add`.

        Returns
        -------
        int
            The target.
        """
        return self.add("identity", source, target, **rest)

    def concat(self, sources: Sequence[int], *, scale: str = "none", optional: bool = False) -> int:
        """Add the concatenation of several maps as a new map.

        Parameters
        ----------
        sources : sequence of int
            Indices of maps of the same size, in the order of their channels.
        scale : str
            As in :class:`nas.representation.elements.FeatureMap`.
        optional : bool
            Whether a subnetwork may leave sources out.

        Returns
        -------
        int
            Index of the new map.
        """
        target = self.map(sum(self.slices(s)[-1] for s in sources), merge="concat", scale=scale)
        for source in sources:
            self.identity(source, target, optional=optional)
        return target

    def gate(self, components: Sequence[Sequence[int]], *, always: int = 0) -> None:
        """Add a gated module.

        Parameters
        ----------
        components : sequence of sequence of int
            For each component, the maps that it switches.
        always : int
            Number of leading components that are on at every utilization.

        Raises
        ------
        InvalidArchitecture
            If components or always break the rules of :class:`nas.representation.elements.GatedModule`.
        """
        self._gated.append(GatedModule(components=tuple(map(tuple, components)), always=always))

    def head(self, source: int, *, before: tuple[str, ...] = ()) -> int:
        """Add global average pooling and a linear classifier for each labelling of the task.

        Parameters
        ----------
        source : int
            Index of the map that is read.
        before : tuple of str
            Steps ("norm" or an activation) on its values.

        Returns
        -------
        int
            The output map of the fine labels, which is the last map.
        """
        pooled = self.add("global_avg_pool", source, self.map(self.slices(source)), before=before)
        outputs = [self.add("linear", pooled, self.map(n), bias=True) for n in reversed(self.task.label_counts)]
        self._classifiers[outputs[-1]] = tuple(reversed(outputs))
        return outputs[-1]

    def topology(self) -> Topology:
        """The topology of all maps and operations added so far.

        Returns
        -------
        Topology

        Raises
        ------
        InvalidArchitecture
            If no operation writes a map, or if the parts do not fit, see :class:`Topology`.
        """
        for index in range(len(self._maps)):
            self.size(index)
        return Topology(
            maps=tuple([feature_map(slices, **rest) for slices, rest in self._maps]),
            operations=tuple(self._operations),
            gated=tuple(self._gated),
        )

    def throttled(self, utilizations: Sequence[float]) -> list[Subnetwork]:
        """The subnetworks at these utilizations; the output is the last map.

        Parameters
        ----------
        utilizations : sequence of float
            In [0, 1]: the share of the gated components that are on.

        Returns
        -------
        list of Subnetwork
            One per utilization.

        Raises
        ------
        InvalidArchitecture
            If the input does not reach the output.
        """
        topology = self.topology()
        everything = Subnetwork(
            channels=tuple(topology.maps[index].channels for index in topology.declared),
            operations=tuple(range(len(topology.operations))),
            output=len(topology.maps) - 1,
        )
        largest = trim_point(topology, everything)
        points = [throttled(topology, utilization, largest) for utilization in utilizations]
        for utilization, point in zip(utilizations, points):
            if not point.operations:
                first = next(u for u in distinct_utilizations(topology) if throttled(topology, u, largest).operations)
                raise InvalidArchitecture(
                    "An operating point must have a component of every module on that the input has to pass. "
                    f"Got the utilization {utilization:g}: begin at {first:.3g}."
                )
        return points

    def point(
        self, level: int, *, output: int | None = None, labelling: int = 0, without: Sequence[int] = ()
    ) -> Subnetwork:
        """The subnetwork that uses the prefix up to slice ``level`` of every map.

        Parameters
        ----------
        level : int
            At least 0. Maps with fewer slices are used whole.
        output : int, optional
            The output map; the last map by default.
        labelling : int
            The labelling that is predicted, if :meth:`head` added the output; 0 for the fine labels.
        without : sequence of int
            Operations that do not run.

        Returns
        -------
        Subnetwork
            Not trimmed; :meth:`architecture` trims it.

        Raises
        ------
        InvalidArchitecture
            If the level is negative, or if the output has no classifier for the labelling.
        """
        if level < 0:
            raise InvalidArchitecture(f"Levels count from 0, the smallest. Got {level=}.")
        declared = [slices for slices, rest in self._maps if rest.get("merge") != "concat"]
        channels = tuple([slices[level] if level < len(slices) else slices[-1] for slices in declared])
        operations = tuple([o for o in range(len(self._operations)) if o not in without])
        output = len(self._maps) - 1 if output is None else output
        if output in self._classifiers:
            if not 0 <= labelling < len(self._classifiers[output]):
                raise InvalidArchitecture(
                    f"The task has {len(self._classifiers[output])} labellings. Got {labelling=}."
                )
            output = self._classifiers[output][labelling]
        return Subnetwork(channels=channels, operations=operations, output=output)

    def architecture(
        self,
        points: int | Sequence[Subnetwork] = 4,
        *,
        norm: str = "recalibrated",
        rule: str = "sandwich",
        **settings: SettingValue,
    ) -> Architecture:
        """The finished architecture, without parts that no operating point uses.

        Parameters
        ----------
        points : int or sequence of Subnetwork
            The operating points; a number stands for :meth:`point` at levels 0, 1, …, which predict the
            :func:`labellings` of the task.
        norm : {"recalibrated", "shared", "per_point"}
            As in :class:`nas.representation.architecture.Architecture`.
        rule : str
            Name of the training rule.
        **settings
            Settings of the training rule.

        Returns
        -------
        Architecture

        Raises
        ------
        InvalidArchitecture
            If the input of a point does not reach its output, or if the points do not grow in MACs.
        """
        topology = self.topology()
        if isinstance(points, int):
            predicted = enumerate(labellings(self.task, points))
            points = [self.point(level, labelling=labelling) for level, labelling in predicted]
        architecture = Architecture(
            task=self.task,
            topology=topology,
            points=tuple(trim_point(topology, point) for point in points),
            norm=norm,  # type: ignore[arg-type]  # checked by Architecture
            training=TrainingSpec(rule=rule, settings=tuple(sorted(settings.items()))),
        )
        return architecture.canonical


def labellings(task: Task, points: int) -> tuple[int, ...]:
    """The labelling that each operating point predicts: from the coarsest for the smallest points to the fine labels.

    Every labelling serves an equal share of the points; a remainder goes to the finer ones.

    Parameters
    ----------
    task : Task
    points : int
        Number of operating points.

    Returns
    -------
    tuple of int
        Number of a labelling for every point.

    Examples
    --------
    >>> task = Task(input_shape=(1, 8, 8), num_classes=4, hierarchy=((0, 0, 1, 1),))
    >>> labellings(task, 4), labellings(task, 3), labellings(task, 1)
    ((1, 1, 0, 0), (1, 0, 0), (0,))
    """
    return tuple((points - 1 - level) * len(task.label_counts) // points for level in range(points))


def widths(full: int, fractions: Sequence[float], *, divisor: int = 4) -> tuple[int, ...]:
    """Prefix lengths of a map at ascending fractions of its channels.

    Parameters
    ----------
    full : int
        Number of channels of the map.
    fractions : sequence of float
        Ascending to 1.
    divisor : int
        All lengths but the last are multiples of it.

    Returns
    -------
    tuple of int
        Strictly ascending, so that every operating point grows.

    Raises
    ------
    InvalidArchitecture
        If the map has too few channels.

    Examples
    --------
    >>> widths(32, (0.25, 0.5, 0.75, 1))
    (8, 16, 24, 32)
    """
    lengths = [max(divisor, round(full * f / divisor) * divisor) for f in fractions]
    lengths[-1] = full
    if any(a >= b for a, b in pairwise(lengths)):
        raise InvalidArchitecture(
            f"{full} channels have no {len(lengths)} different prefixes in steps of {divisor} at {tuple(fractions)}."
        )
    return tuple(lengths)
