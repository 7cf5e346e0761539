"""What of a topology takes part in a subnetwork: checks it, trims what does not, and trims what no subnetwork uses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nas.errors import InvalidArchitecture
from nas.kinds import kind

if TYPE_CHECKING:
    from nas.topology import Architecture, FeatureMap, Operation, Subnetwork, Task, Topology


def live_operations(topology: Topology, operations: Iterable[int], output: int) -> tuple[int, ...]:
    """Those of the given operations that lie on a path from the input to the output map, sorted.

    Notes: one pass forward and one backward over operations ordered by target, O(V + E).
    """
    ops = topology.operations
    order = sorted(operations, key=lambda o: ops[o].target)
    reached = {0}
    forward = []
    for o in order:
        if ops[o].source in reached:
            reached.add(ops[o].target)
            forward.append(o)
    needed = {output}
    live = []
    for o in reversed(forward):
        if ops[o].target in needed:
            needed.add(ops[o].source)
            live.append(o)
    return tuple(sorted(live))


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
        and maps[point.output].channels == task.num_classes
        and all(n == 1 for n in maps[point.output].size)
    ):
        raise InvalidArchitecture(
            f"The output map must be a vector of the task's {task.num_classes} classes. Got map {point.output}."
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
    if not (counts[point.output] == task.num_classes):
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


def trim_unused(architecture: Architecture) -> Architecture:
    """The architecture without operations, maps and channels that no operating point uses; itself where there are
    none, or where the rest would compute something else without them.
    """
    topology, points = architecture.topology, architecture.points
    live = sorted({o for point in points for o in point.operations})
    columns = list(zip(*(p.channels for p in points)))
    widest = {index: max(column) for index, column in zip(topology.declared, columns)}
    used_maps = {0} | {topology.operations[o].target for o in live}
    if (
        len(live) == len(topology.operations)
        and len(used_maps) == len(topology.maps)
        and all(widest[index] == topology.maps[index].channels for index in topology.declared)
    ):
        return architecture
    kept = _slices_kept(topology, live, {index: n for index, n in widest.items() if index in used_maps})
    return architecture if kept is None else _rebuild(architecture, live, sorted(used_maps), kept)


def _slices_kept(topology: Topology, live: Sequence[int], widest: dict[int, int]) -> dict[int, int] | None:
    """How many slices of each used map stay: those that a point uses, and those that other maps' slices stand by.

    Grouped and causal operations pair the slices of source and target; n / c of a gated map counts all n; an aligned
    operation that reads a concat finds channels by their place in it. None where only a whole topology keeps all that.
    """
    maps, operations = topology.maps, topology.operations
    kept = {index: maps[index].slices.index(n) + 1 for index, n in widest.items()}
    read = {i for o in live if _places(topology, o) for i in _view(topology, live, operations[o].source)}
    for index in {0} | {operations[o].target for o in live}:
        whole = index in read or maps[index].scale == "full"
        if whole and maps[index].merge != "concat":
            kept[index] = len(maps[index].slices)
        elif whole and not set(topology.incoming[index]) <= set(live):
            return None
    growing = True
    while growing:
        growing = False
        for o in live:
            more = _paired(topology, live, o, kept)
            if more is None:
                return None
            growing |= bool(more)
            kept |= more
    return kept


def _places(topology: Topology, index: int) -> bool:
    """Whether an operation finds each channel of a concat by its place: it is aligned, and more than a view itself."""
    operation = topology.operations[index]
    maps = topology.maps
    concat, view = (maps[i].merge == "concat" for i in (operation.source, operation.target))
    return concat and not view and not kind(operation.kind).mixing


def _view(topology: Topology, live: Sequence[int], index: int) -> list[int]:
    """A map and, where it is a concat, all that it is a view of."""
    if topology.maps[index].merge != "concat":
        return [index]
    inputs = (o for o in topology.incoming[index] if o in live)
    return [index, *(i for o in inputs for i in _view(topology, live, topology.operations[o].source))]


def _paired(topology: Topology, live: Sequence[int], index: int, kept: dict[int, int]) -> dict[int, int] | None:
    """What must grow for a live operation to have the same groups or slices on both sides; None where it cannot."""
    operation, maps = topology.operations[index], topology.maps
    source, target = operation.source, operation.target
    if operation.groups > 1:
        groups = [maps[i].slices[kept[i] - 1] * operation.groups // maps[i].channels for i in (source, target)]
        short = (source, target)[groups[0] > groups[1]]
        return {} if groups[0] == groups[1] else {short: kept[short] + 1}
    if operation.wiring == "dense" or len({j for _, j in topology.blocks(source)}) == 1:
        return {}
    leaves = [i for i in _view(topology, live, source) if i in kept]
    depth = max(kept[leaf] for leaf in leaves)
    if depth >= kept[target]:
        return {} if depth == kept[target] else {target: depth}
    wide = [leaf for leaf in leaves if len(maps[leaf].slices) >= kept[target]]
    return {wide[0]: kept[target]} if wide else None


def _rebuild(
    architecture: Architecture, live: Sequence[int], used: Sequence[int], kept: dict[int, int]
) -> Architecture:
    from nas.topology import Topology

    old = architecture.topology
    place = {index: at for at, index in enumerate(used)}
    width: dict[int, int] = {}
    maps: list[FeatureMap] = []
    for index in used:
        item = old.maps[index]
        if item.merge == "concat":
            channels = sum(width[old.operations[o].source] for o in old.incoming[index] if o in live)
            slices: tuple[int, ...] = (channels,)
        else:
            slices = item.slices[: kept[index]]
            channels = slices[-1]
        width[index] = channels
        maps.append(replace(item, channels=channels, slices=slices))
    operations = [_narrowed(old, old.operations[o], place, width) for o in live]
    position = {o: at for at, o in enumerate(live)}
    declared = dict(zip(old.declared, range(len(old.declared))))
    points = tuple(
        replace(
            point,
            channels=tuple(point.channels[declared[index]] for index in used if index in declared),
            operations=tuple(position[o] for o in point.operations),
            output=place[point.output],
        )
        for point in architecture.points
    )
    return replace(architecture, topology=Topology(maps=tuple(maps), operations=tuple(operations)), points=points)


def _narrowed(old: Topology, operation: Operation, place: dict[int, int], width: dict[int, int]) -> Operation:
    """The operation between the narrowed maps; groups are cut to those still there."""
    groups = operation.groups
    if groups > 1:
        groups = width[operation.target] * groups // old.maps[operation.target].channels
    return replace(operation, source=place[operation.source], target=place[operation.target], groups=groups)
