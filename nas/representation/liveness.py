"""Liveness: check subnetworks, and trim parts that lie on no path to the output or that no operating point uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from operator import contains

from nas.errors import InvalidArchitecture
from nas.representation.elements import FeatureMap, Operation, Subnetwork, Task
from nas.representation.kinds import kind
from nas.representation.topology import Topology

Points = tuple[Subnetwork, ...]


def trim_point(topology: Topology, point: Subnetwork) -> Subnetwork:
    """The subnetwork without operations and maps that lie on no path from the input to its output.

    An operation is off if one of its maps is off.

    Parameters
    ----------
    topology : Topology
    point : Subnetwork

    Returns
    -------
    Subnetwork
        The same object if there is nothing to trim.

    Raises
    ------
    InvalidArchitecture
        If no path is left.
    """
    usable = point.operations
    if 0 in point.channels:
        off = {index for index, channels in zip(topology.declared, point.channels) if not channels}
        usable = tuple(o for o in usable if off.isdisjoint((topology.sources[o], topology.targets[o])))
    route = topology.route(usable, point.output)
    if not route.operations:
        raise InvalidArchitecture(
            f"The input does not reach the output. Got output map {point.output}: add operations that lead to it."
        )
    channels = point.channels
    if len(route.maps) < len(topology.maps):
        channels = tuple(n if index in route.maps else 0 for index, n in zip(topology.declared, channels))
    if route.operations == point.operations and channels == point.channels:
        return point
    return replace(point, channels=channels, operations=route.operations)


def check_points(topology: Topology, task: Task, points: Points) -> None:
    """Raise InvalidArchitecture, with the level, unless every operating point is as :func:`check_point` requires."""
    checked: set[tuple[tuple[int, ...], int]] = set()  # levels mostly run the same operations
    for level, point in enumerate(points):
        route = (point.operations, point.output)
        try:
            if route not in checked:
                _check_route(topology, task, point)
            _check_channels(topology, point)
        except InvalidArchitecture as error:
            raise InvalidArchitecture(f"Operating point {level}: {error}") from None
        checked.add(route)


def check_point(topology: Topology, task: Task, point: Subnetwork) -> None:
    """Raise InvalidArchitecture unless the subnetwork is a valid network without dead operations or maps."""
    _check_route(topology, task, point)
    _check_channels(topology, point)


def _check_route(topology: Topology, task: Task, point: Subnetwork) -> None:
    """Check the output of a subnetwork and its operations."""
    maps, operations, output = topology.maps, point.operations, point.output
    if not (0 < output < len(maps) and maps[output].channels in task.label_counts and prod(maps[output].size) == 1):
        raise InvalidArchitecture(
            f"The output map must be a vector of the task's {' or '.join(map(str, task.label_counts))} classes. "
            f"Got map {output}."
        )
    if operations != tuple(sorted(set(operations))):
        raise InvalidArchitecture(f"Operations must be sorted, each once. Got {point.operations=}.")
    if operations and not 0 <= operations[0] <= operations[-1] < len(topology.operations):
        raise InvalidArchitecture(f"There are {len(topology.operations)} operations. Got {point.operations=}.")


def _check_channels(topology: Topology, point: Subnetwork) -> None:
    """Check the channels of a subnetwork whose operations and output exist."""
    maps, channels = topology.maps, point.channels
    if len(channels) != len(topology.declared):
        raise InvalidArchitecture(
            f"It must declare the channels of the {len(topology.declared)} maps that are not a concat. "
            f"Got {len(channels)}."
        )
    if not all(map(contains, topology.prefixes, channels)):
        for index, prefixes, n in zip(topology.declared, topology.prefixes, channels):
            if n not in prefixes:
                raise InvalidArchitecture(f"Map {index} may have {prefixes} active channels. Got {n}.")
    if channels[0] != maps[0].channels:
        raise InvalidArchitecture(f"All {maps[0].channels} channels of the input must be active. Got {channels[0]}.")
    trimmed = trim_point(topology, point)
    if trimmed is not point:
        dead = sorted(set(point.operations).difference(trimmed.operations))
        raise InvalidArchitecture(
            f"Every operation and map must lie on a path from input to output. Got dead operations {dead}, and "
            f"channels {channels} instead of {trimmed.channels}. trim_point removes dead parts."
        )
    counts = topology.active(point)
    classes = maps[point.output].channels
    if counts[point.output] != classes:
        raise InvalidArchitecture(
            f"All classes of the output map must be active. Got {counts[point.output]} of {classes}."
        )
    _check_groups(topology, point, counts)


def _check_groups(topology: Topology, point: Subnetwork, counts: list[int]) -> None:
    """Raise InvalidArchitecture unless grouped operations have the same groups active on both sides."""
    for o in topology.grouped:
        operation = topology.operations[o]
        sources, targets = counts[operation.source], counts[operation.target]
        all_sources = topology.maps[operation.source].channels
        all_targets = topology.maps[operation.target].channels
        if sources * all_targets != targets * all_sources and o in point.operations:
            raise InvalidArchitecture(
                f"Operation {o} must have the same groups active in source and target. "
                f"Got {sources} of {all_sources} and {targets} of {all_targets} channels."
            )


def trim_unused(topology: Topology, points: Points) -> tuple[Topology, Points]:
    """Topology and points without the operations, maps and channels that no operating point uses.

    Unused parts stay if the used parts would compute something different without them, see Notes.

    Parameters
    ----------
    topology : Topology
    points : tuple of Subnetwork

    Returns
    -------
    topology : Topology
    points : tuple of Subnetwork
        The same objects if there is nothing to trim.

    Notes
    -----
    Three unused parts stay: slices that a grouped or causal operation pairs with used slices of its other map; all
    components of a map that is scaled by n / c; and all channels of a concat that an aligned operation reads, because
    it reads them by position.
    """
    whole = tuple(prefixes[-1] for prefixes in topology.prefixes)
    if any(len(point.operations) == len(topology.operations) and point.channels == whole for point in points):
        return topology, points
    used = UsedParts(topology, points)
    return (topology, points) if used.is_all() else _rebuild(topology, points, used)


def _active_parts(topology: Topology, points: Points) -> tuple[set[int], dict[int, int]]:
    """The operations that run at some point, and the largest number of active channels of each declared map."""
    operations = set().union(*(point.operations for point in points))
    widest = map(max, zip(*(point.channels for point in points)))
    return operations, dict(zip(topology.declared, widest))


class UsedParts:
    """The parts of a topology that :func:`trim_unused` keeps.

    operations, maps: their indices. slices: number of slices of each map that is not a concat.
    """

    def __init__(self, topology: Topology, points: Points):
        maps, operations = topology.maps, topology.operations
        live, widest = _active_parts(topology, points)
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
            pass  # a pair that grew may need further pairs

    def is_all(self) -> bool:
        """Whether every operation, map and slice is used."""
        maps = self.topology.maps
        return len(self.operations) == len(self.topology.operations) and all(
            self.slices.get(index) == len(maps[index].slices) for index in self.topology.declared
        )

    def _keep_inputs(self, index: int) -> None:
        """Keep all sources of a concat, with all operations into them; nothing for other maps."""
        if self.topology.maps[index].merge == "concat":
            for o in self.topology.incoming[index]:
                self.operations.add(o)
                self._keep(self.topology.operations[o].source)

    def _keep(self, index: int) -> None:
        """Keep a map whole, and all operations into it."""
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
        """A map and, for a concat, its sources recursively; each is visited before its sources."""
        visit(index)
        if self.topology.maps[index].merge != "concat":
            return [index]
        sources = [self.topology.operations[o].source for o in self.topology.incoming[index] if o in self.operations]
        return [index, *(i for source in sources for i in self._view(source, visit))]

    def _pair(self, index: int) -> bool:
        """Give a kept operation the same groups or slices on both sides; returns whether a map grew."""
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
        else:  # no used source is deep enough
            self._view(source, self._keep_inputs)
        return True


def _rebuild(old: Topology, points: Points, used: UsedParts) -> tuple[Topology, Points]:
    """Topology and points of the used parts, renumbered."""
    new_map = {index: number for number, index in enumerate(sorted(used.maps))}
    new_operation = {index: number for number, index in enumerate(sorted(used.operations))}
    maps = _narrowed_maps(old, used)
    width = {index: narrowed.channels for index, narrowed in maps.items()}
    topology = Topology(
        maps=tuple(maps.values()),
        operations=tuple(_narrowed(old, old.operations[o], new_map, width) for o in new_operation),
        gated=tuple(
            replace(module, components=tuple(tuple(new_map[i] for i in component) for component in module.components))
            for module in old.gated
        ),
    )
    declared = {index: place for place, index in enumerate(old.declared)}
    narrowed = tuple(
        replace(
            point,
            channels=tuple(point.channels[declared[index]] for index in new_map if index in declared),
            operations=tuple(new_operation[o] for o in point.operations),
            output=new_map[point.output],
        )
        for point in points
    )
    return topology, narrowed


def _narrowed_maps(old: Topology, used: UsedParts) -> dict[int, FeatureMap]:
    """The used maps with their used slices, by their old index."""
    maps: dict[int, FeatureMap] = {}
    for index in sorted(used.maps):
        item = old.maps[index]
        if item.merge == "concat":
            sources = [old.operations[o].source for o in old.incoming[index] if o in used.operations]
            slices: tuple[int, ...] = (sum(maps[source].channels for source in sources),)
        else:
            slices = item.slices[: used.slices[index]]
        maps[index] = replace(item, channels=slices[-1], slices=slices)
    return maps


def _narrowed(old: Topology, operation: Operation, new_map: dict[int, int], width: dict[int, int]) -> Operation:
    """The operation between the narrowed maps, with the remaining groups."""
    groups = operation.groups
    if groups > 1:
        groups = width[operation.target] * groups // old.maps[operation.target].channels
    return replace(operation, source=new_map[operation.source], target=new_map[operation.target], groups=groups)
