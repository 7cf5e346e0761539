"""Random architectures that use everything the representation has, as a Hypothesis strategy.

Valid by construction: a network of the strategy that :class:`Architecture` refuses is a bug in one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from nas.errors import InvalidArchitecture
from nas.representation.architecture import Architecture
from nas.representation.cost import subnetwork_macs
from nas.representation.elements import FeatureMap, GatedModule, Operation, Subnetwork, Task
from nas.representation.kinds import kind
from nas.representation.liveness import trim_point
from nas.representation.topology import Topology

Pick = Callable[[Sequence[Any]], Any]

SIZES = ((4, 4), (5, 3), (6, 6), (7,), (3, 4, 4))
SLICES = {1: ((3,), (4,), (6,)), 2: ((2, 4), (3, 6), (4, 6), (1, 4)), 3: ((1, 2, 4), (2, 4, 6), (1, 3, 6), (4, 8, 12))}
STEPS = ((), (), (), ("norm",), ("relu",), ("norm", "relu"), ("silu", "norm"), ("hardswish",), ("norm", "relu6"))
ACTIVATIONS = ("none", "none", "none", "relu", "relu6", "silu", "hardswish")
SCALES = ("none", "none", "none", "mean", "full")
WINDOWS = ((1, 1, 0), (3, 1, 1), (3, 2, 1), (2, 2, 0), (3, 1, 0), (2, 1, 1))
NORMS = ("shared", "per_point", "recalibrated")


@st.composite
def architectures(draw: st.DrawFn, *, most_maps: int = 6, most_points: int = 3) -> Architecture:
    """A random architecture, with one to ``most_points`` operating points; dead operations and channels included."""
    return random_architecture(lambda options: draw(st.sampled_from(options)), most_maps, most_points)


def random_architecture(pick: Pick, most_maps: int = 6, most_points: int = 3) -> Architecture:
    """The architecture that these decisions describe. pick: chooses one of the options."""
    size = pick(SIZES)
    task = Task(input_shape=(pick((1, 3)), *size), num_classes=pick((2, 3)))
    net = _Growing(task, pick)
    for _ in range(pick(range(1, most_maps + 1))):
        net.grow()
    outputs = [net.head() for _ in range(pick((1, 1, 2)))]
    topology = Topology(maps=tuple(net.maps), operations=tuple(net.operations))
    everything = Subnetwork(
        channels=tuple(topology.maps[i].channels for i in topology.declared),
        operations=tuple(range(len(topology.operations))),
        output=outputs[-1],
    )
    points = [trim_point(topology, everything)]
    for _ in range(pick(range(2, most_points + 4))):
        points += _random_point(topology, outputs, pick)
    if len(points) > 1 and pick((False, True)):
        del points[0]
    by_cost = {subnetwork_macs(topology, point): point for point in points}
    chosen = [point for _, point in sorted(by_cost.items(), key=lambda pair: pair[0])][-most_points:]
    architecture = Architecture(task=task, topology=topology, points=tuple(chosen))
    with suppress(InvalidArchitecture):  # norms that these points cannot share
        architecture = replace(architecture, norm=pick(NORMS))
    return _gated(architecture, pick) if pick((False, True)) else architecture


def _gated(architecture: Architecture, pick: Pick) -> Architecture:
    """The same with some maps gated, one or several per module, unless no valid network is left."""
    for index in architecture.topology.declared[1:]:
        slices, modules = len(architecture.topology.maps[index].slices), architecture.topology.gated
        fits = [m for m, module in enumerate(modules) if len(module.components) == slices]
        if fits and pick((True, False)):
            joined = replace(modules[fits[0]], components=tuple((*c, index) for c in modules[fits[0]].components))
            gated = tuple(joined if m == fits[0] else module for m, module in enumerate(modules))
        else:
            always = min(slices - 1, pick((0, 1, 1)))
            gated = (*modules, GatedModule(components=((index,),) * slices, always=always))
        try:
            architecture = replace(architecture, topology=replace(architecture.topology, gated=gated))
        except InvalidArchitecture:
            continue
    return architecture


class _Growing:
    """A topology under construction."""

    def __init__(self, task: Task, pick: Pick):
        self.task, self.pick = task, pick
        alike = pick((2, 3, 3))  # most maps have equal numbers of slices, so that causal operations fit
        self.slices = [*SLICES[alike], *SLICES[alike], *SLICES[1], *SLICES[2]]
        channels = task.input_shape[0]
        self.maps = [FeatureMap(channels=channels, size=task.input_shape[1:], slices=(channels,))]
        self.operations: list[Operation] = []

    def grow(self) -> None:
        """Add a map and its incoming operations: a concat of earlier maps, or a sum of one to three operations."""
        source = self._source()
        alike = [i for i, m in enumerate(self.maps) if m.size == self.maps[source].size]
        if self.pick((False, False, True)) and len(alike) > 1:
            sources = [alike[-1], *(self.pick(alike) for _ in range(self.pick((1, 2))))]
            target = self._concat(sources)
        else:
            target = self._sum(source)
        assert target == len(self.maps) - 1

    def _source(self) -> int:
        """A map to read: often one of the latest."""
        return self.pick([*range(len(self.maps)), *[len(self.maps) - 1] * 4])

    def _concat(self, sources: Sequence[int]) -> int:
        width, scale = sum(self.maps[s].channels for s in sources), self.pick(SCALES)
        self.maps.append(
            FeatureMap(channels=width, size=self.maps[sources[0]].size, slices=(width,), merge="concat", scale=scale)
        )
        self.operations += [Operation(source=s, target=len(self.maps) - 1, kind="identity") for s in sources]
        return len(self.maps) - 1

    def _sum(self, source: int) -> int:
        pick, target = self.pick, len(self.maps)
        first = self._operation(source, target, None)
        slices = self.maps[source].slices if first.groups > 1 else pick(self.slices)
        if first.groups > 1 and pick((False, True)):
            slices = tuple(2 * s for s in slices)
        written = kind(first.kind).output_size(first, self.maps[source].size)
        self.maps.append(
            FeatureMap(
                channels=slices[-1], size=written, slices=slices, activation=pick(ACTIVATIONS), scale=pick(SCALES)
            )
        )
        self._add(first)
        for _ in range(pick((0, 1, 1, 2))):
            operation = self._operation(min(self._source(), target - 1), target, written)
            if kind(operation.kind).output_size(operation, self.maps[operation.source].size) == written:
                self._add(operation)
        return target

    def _operation(self, source: int, target: int, written: tuple[int, ...] | None) -> Operation:
        """A random operation from a map; it keeps the size if no window of the kind fits."""
        pick, item = self.pick, self.maps[source]
        name = pick(("conv", "conv", "depthwise", "depthwise", "identity", "max_pool", "avg_pool"))
        if name == "depthwise" and item.merge == "concat":
            name = "conv"
        steps = {"before": pick(STEPS), "after": pick(STEPS), "optional": pick((False, True))}
        if name == "identity":
            return Operation(source=source, target=target, kind=name, **steps)
        groups = 1
        if name == "depthwise":
            whole = [g for g in (2, 3, item.channels) if all(n * g % item.channels == 0 for n in item.slices)]
            groups = pick([g for g in whole if item.channels % g == 0])
        kernel, stride, padding = pick(WINDOWS)
        dims = len(item.size)
        operation = Operation(
            source=source,
            target=target,
            kind="conv" if name == "depthwise" else name,
            kernel=(kernel,) * dims,
            stride=(stride,) * dims,
            padding=(padding,) * dims,
            groups=groups,
            bias=name in ("conv", "depthwise") and pick((False, True)),
            **steps,
        )
        try:
            size = kind(operation.kind).output_size(operation, item.size)
        except InvalidArchitecture:
            size = None
        if size is None or (written is not None and size != written):
            return Operation(source=source, target=target, kind="identity", **steps)
        return operation

    def _add(self, operation: Operation) -> None:
        """Add it, grouped and causal if that fits; grouped with this number of groups or not at all."""
        causal = self.pick((False, True))
        for wiring in ("causal", "dense") if causal else ("dense",):
            candidate = replace(operation, wiring=wiring)
            try:
                Topology(maps=tuple(self.maps), operations=(*self.operations, candidate))
            except InvalidArchitecture:
                continue
            self.operations.append(candidate)
            return
        self.operations.append(replace(operation, groups=1))

    def head(self) -> int:
        """A classifier from a map, the last one more often than not; returns its output."""
        written = range(1, len(self.maps))
        source = self.pick([*written, *[written[-1]] * 4])
        while self.maps[source].size == ():  # the output of a previous head
            source -= 1
        item, at = self.maps[source], len(self.maps)
        slices = item.slices if self.pick((False, True, True)) else self.pick(self.slices)
        classes = self.task.num_classes
        self.maps += [
            FeatureMap(channels=slices[-1], size=(), slices=slices),
            FeatureMap(channels=classes, size=(), slices=(classes,)),
        ]
        self._add(Operation(source=source, target=at, kind="global_avg_pool", before=self.pick(STEPS)))
        bias = self.pick((False, True))
        self.operations.append(Operation(source=at, target=at + 1, kind="linear", bias=bias))
        return at + 1


def _random_point(topology: Topology, outputs: Sequence[int], pick: Pick) -> list[Subnetwork]:
    """A point with random widths, without some operations and maps; None if no path to its output is left."""
    level = pick((0, 0, 1, 2, None))
    output, channels = pick(outputs), {}
    for index in topology.declared:
        slices = topology.maps[index].slices
        whole = index in (0, *outputs)
        common = slices[-1] if whole else slices[min(2 if level is None else level, len(slices) - 1)]
        free = pick((*slices, *slices, 0)) if level is None and not whole else common
        channels[index] = free
    counts = [channels.get(index, 0) for index in range(len(topology.maps))]
    running = []
    for o, operation in enumerate(topology.operations):
        source, target = topology.maps[operation.source], topology.maps[operation.target]
        same = operation.groups == 1 or (
            counts[operation.source] * operation.groups // source.channels
            == counts[operation.target] * operation.groups // target.channels
        )
        if same and pick((True,) * 9 + (False,)):
            running.append(o)
    point = Subnetwork(channels=tuple(channels.values()), operations=tuple(running), output=output)
    try:
        return [trim_point(topology, point)]
    except InvalidArchitecture:
        return []
