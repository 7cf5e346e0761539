"""What of a topology takes part in a subnetwork: checks it, trims what does not, and trims what no subnetwork uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nas.errors import InvalidArchitecture
from nas.representation.elements import FeatureMap, Operation, Subnetwork, Task
from nas.representation.kinds import kind
from nas.representation.topology import Topology

Points = tuple[Subnetwork, ...]


def trim_point(topology: Topology, point: Subnetwork) -> Subnetwork:
    """The subnetwork without the operations and maps that no path from the input to its output passes.

    An operation is off when either of its maps is. Raises InvalidArchitecture when no path is left: such a proposal is
    rejected.
    """
    counts = dict(zip(topology.declared, point.channels))
    off = {index for index, channels in counts.items() if not channels}
    usable = point.operations
    if off:
        ends = topology.operations
        usable = tuple(o for o in usable if ends[o].source not in off and ends[o].target not in off)
    live = topology.live(usable, point.output)
    if not (bool(live)):
        raise InvalidArchitecture("The input does not reach the output.")
    used = {0} | {topology.operations[o].target for o in live}
    channels = tuple(n if index in used else 0 for index, n in zip(topology.declared, point.channels))
    if live == point.operations and channels == point.channels:
        return point
    return replace(point, channels=channels, operations=live)


def check_point(topology: Topology, task: Task, point: Subnetwork) -> None:
    """Raise InvalidArchitecture unless the subnetwork is a network on its own."""
    maps, operations = topology.maps, topology.operations
    if not (len(point.channels) == len(topology.declared)):
        raise InvalidArchitecture(
            f"It must declare the channels of the {len(topology.declared)} maps that are no concat. "
            f"Got {len(point.channels)}."
        )
    for index, channels in zip(topology.declared, point.channels):
        if not (channels == 0 or channels in maps[index].slices):
            raise InvalidArchitecture(
                f"Map {index} may have {(0, *maps[index].slices)} active channels. Got {channels}."
            )
    if not (point.channels[0] == maps[0].channels):
        raise InvalidArchitecture(f"The input is always whole. Got {point.channels[0]} channels.")
    if not (
        0 < point.output < len(maps)
        and maps[point.output].channels in task.label_counts
        and all(n == 1 for n in maps[point.output].size)
    ):
        raise InvalidArchitecture(
            f"The output map must be a vector of the task's {' or '.join(map(str, task.label_counts))} classes. "
            f"Got map {point.output}."
        )
    if not (all(a < b for a, b in zip(point.operations, point.operations[1:]))):
        raise InvalidArchitecture("Operations must be sorted, each once.")
    if point.operations and not 0 <= point.operations[0] <= point.operations[-1] < len(operations):
        raise InvalidArchitecture(f"There are {len(operations)} operations. Got {point.operations=}.")
    trimmed = trim_point(topology, point)
    if trimmed is not point:
        raise InvalidArchitecture(
            "It has operations or maps that lie on no path from input to output: trim_point removes them."
        )
    counts = topology.active(point)
    if not (counts[point.output] == maps[point.output].channels):
        raise InvalidArchitecture("All classes of the output map must be active.")
    for o in point.operations:
        operation = operations[o]
        if operation.groups > 1:
            sources, targets = counts[operation.source], counts[operation.target]
            all_sources, all_targets = maps[operation.source].channels, maps[operation.target].channels
            if sources * operation.groups // all_sources != targets * operation.groups // all_targets:
                raise InvalidArchitecture(
                    f"Operation {o} must have the same groups active in source and target. "
                    f"Got {sources} of {all_sources} and {targets} of {all_targets} channels."
                )


def trim_unused(topology: Topology, points: Points) -> tuple[Topology, Points]:
    """Topology and points without operations, maps and channels that no operating point uses; the same if there are
    none. Unused ones stay where what is used would compute something else without them.
    """
    live = {o for point in points for o in point.operations}
    columns = list(zip(*(p.channels for p in points)))
    widest = {index: max(column) for index, column in zip(topology.declared, columns)}
    if _is_all(topology, live, widest):
        return topology, points
    kept = _Kept(topology, live, widest)
    channels = {index: topology.maps[index].slices[n - 1] for index, n in kept.slices.items()}
    return (topology, points) if _is_all(topology, kept.operations, channels) else _rebuild(topology, points, kept)


def _is_all(topology: Topology, operations: set[int], channels: dict[int, int]) -> bool:
    return len(operations) == len(topology.operations) and all(
        channels.get(index) == topology.maps[index].channels for index in topology.declared
    )


class _Kept:
    """What of a topology stays when what no point uses goes.

    operations: those that stay. maps: likewise. slices: how many of each map that is no concat.

    Beside what is used, this stays: slices that others stand by, as grouped and causal operations pair those of source
    and target; all components of a map that is scaled by n / c; and all channels of a concat that an aligned operation
    reads, which finds them by their place.
    """

    def __init__(self, topology: Topology, live: set[int], widest: dict[int, int]):
        maps, operations = topology.maps, topology.operations
        self.topology, self.operations = topology, set(live)
        self.maps = {0} | {operations[o].target for o in live}
        self.slices = {i: maps[i].slices.index(n) + 1 for i, n in widest.items() if i in self.maps}
        for index in sorted(self.maps):
            if maps[index].scale == "full":
                self._keep_inputs(index)
                self._keep_channels(index)
        for o in live:
            source, target = operations[o].source, operations[o].target
            if (
                not kind(operations[o].kind).mixing
                and maps[target].merge != "concat"
                and maps[source].merge == "concat"
            ):
                for index in self._view(source, self._keep_inputs):
                    self._keep_channels(index)
        while any(self._pair(o) for o in sorted(self.operations)):
            pass  # what grew may have others to pair with

    def _keep_inputs(self, index: int) -> None:
        """Keep all that a concat is a view of, with all that writes it; nothing to do for other maps."""
        if self.topology.maps[index].merge == "concat":
            for o in self.topology.incoming[index]:
                self.operations.add(o)
                self._keep(self.topology.operations[o].source)

    def _keep(self, index: int) -> None:
        """Keep a map whole, and what writes it, unless it is kept already."""
        if index not in self.maps:
            self.maps.add(index)
            self._keep_channels(index)
            for o in self.topology.incoming[index]:
                self.operations.add(o)
                self._keep(self.topology.operations[o].source)

    def _keep_channels(self, index: int) -> None:
        if self.topology.maps[index].merge != "concat":
            self.slices[index] = len(self.topology.maps[index].slices)

    def _view(self, index: int, visit: Callable[[int], None] = lambda index: None) -> list[int]:
        """A map and all that it is a view of, each visited before what is behind it."""
        visit(index)
        if self.topology.maps[index].merge != "concat":
            return [index]
        sources = [self.topology.operations[o].source for o in self.topology.incoming[index] if o in self.operations]
        return [index, *(i for source in sources for i in self._view(source, visit))]

    def _pair(self, index: int) -> bool:
        """Let a kept operation have the same groups or slices on both sides; returns whether anything grew for it."""
        topology, maps, slices = self.topology, self.topology.maps, self.slices
        operation = topology.operations[index]
        source, target = operation.source, operation.target
        if operation.groups > 1:
            groups = [maps[i].slices[slices[i] - 1] * operation.groups // maps[i].channels for i in (source, target)]
            if groups[0] == groups[1]:
                return False
            slices[source if groups[0] < groups[1] else target] += 1
            return True
        if operation.wiring == "dense" or len({j for _, j in topology.blocks(source)}) == 1:
            return False
        leaves = [i for i in self._view(source) if i in slices]
        depth = max(slices[leaf] for leaf in leaves)
        if depth == slices[target]:
            return False
        wide = [leaf for leaf in leaves if len(maps[leaf].slices) >= slices[target]]
        if depth > slices[target]:
            slices[target] = depth
        elif wide:
            slices[wide[0]] = slices[target]
        else:  # what was deep enough is not used
            self._view(source, self._keep_inputs)
        return True


def _rebuild(old: Topology, points: Points, kept: _Kept) -> tuple[Topology, Points]:
    live, used = sorted(kept.operations), sorted(kept.maps)
    place = {index: at for at, index in enumerate(used)}
    width: dict[int, int] = {}
    maps: list[FeatureMap] = []
    for index in used:
        item = old.maps[index]
        if item.merge == "concat":
            channels = sum(width[old.operations[o].source] for o in old.incoming[index] if o in kept.operations)
            slices: tuple[int, ...] = (channels,)
        else:
            slices = item.slices[: kept.slices[index]]
            channels = slices[-1]
        width[index] = channels
        maps.append(replace(item, channels=channels, slices=slices))
    operations = [_narrowed(old, old.operations[o], place, width) for o in live]
    position = {o: at for at, o in enumerate(live)}
    declared = dict(zip(old.declared, range(len(old.declared))))
    narrowed = tuple(
        replace(
            point,
            channels=tuple(point.channels[declared[index]] for index in used if index in declared),
            operations=tuple(position[o] for o in point.operations),
            output=place[point.output],
        )
        for point in points
    )
    gated = tuple(
        replace(module, components=tuple(tuple(place[index] for index in maps) for maps in module.components))
        for module in old.gated
    )
    topology = Topology(maps=tuple(maps), operations=tuple(operations), gated=gated)
    return topology, narrowed


def _narrowed(old: Topology, operation: Operation, place: dict[int, int], width: dict[int, int]) -> Operation:
    """The operation between the narrowed maps; groups are cut to those still there."""
    groups = operation.groups
    if groups > 1:
        groups = width[operation.target] * groups // old.maps[operation.target].channels
    return replace(operation, source=place[operation.source], target=place[operation.target], groups=groups)
