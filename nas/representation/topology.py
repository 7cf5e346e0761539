"""The topology: feature maps in topological order and the operations between them, checked for consistency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

from nas.errors import InvalidArchitecture
from nas.representation.elements import FeatureMap, GatedModule, Operation, Subnetwork
from nas.representation.kinds import kind

ROUTE_CACHE_SIZE = 4096
"""Answers of :meth:`Topology.route` that a topology keeps; without a limit, training with path sampling would fill the
memory.
"""


class Route(NamedTuple):
    """What lies on a path from the input to an output.

    operations: ascending; empty if the input does not reach the output. maps: their ends.
    """

    operations: tuple[int, ...]
    maps: frozenset[int]


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Feature maps in topological order (map 0 is the input) and the operations between them.

    Parameters
    ----------
    maps : tuple of FeatureMap
    operations : tuple of Operation
    gated : tuple of GatedModule
        Modules whose components a utilization switches on and off, see :mod:`nas.representation.gates`. Subnetworks may
        also use other combinations of components.

    Raises
    ------
    InvalidArchitecture
        If an operation does not produce the size of its target; if a concat is fed by anything but plain identities, or
        does not have the channels of its sources; if groups or causal wiring do not fit the slices; or if a map belongs
        to two gated modules.
    """

    maps: tuple[FeatureMap, ...]
    operations: tuple[Operation, ...]
    gated: tuple[GatedModule, ...] = ()

    def __post_init__(self) -> None:
        for name, part in (("maps", FeatureMap), ("operations", Operation), ("gated", GatedModule)):
            items = getattr(self, name)
            if type(items) is not tuple or not {part}.issuperset(map(type, items)):
                raise InvalidArchitecture(f"{name} must be a tuple of {part.__name__}. Got {items!r}.")
        if len(self.maps) < 2:
            raise InvalidArchitecture(f"A topology must have an input and an output map. Got {len(self.maps)} maps.")
        first = self.maps[0]
        if first.merge != "sum" or first.activation != "none" or first.scale != "none":
            raise InvalidArchitecture(f"Map 0, the input, must have no concat, activation or scale. Got {first}.")
        for index, operation in enumerate(self.operations):
            if operation.target >= len(self.maps):
                raise InvalidArchitecture(f"Operation {index} leads to map {operation.target} of {len(self.maps)}.")
            try:
                self._check_operation(operation)
            except InvalidArchitecture as error:
                raise InvalidArchitecture(
                    f"Operation {index} ({operation.kind} {operation.source} -> {operation.target}): {error}"
                ) from None
        self._check_maps()
        self._check_gated()

    def _check_operation(self, operation: Operation) -> None:
        source, target, its_kind = self.maps[operation.source], self.maps[operation.target], kind(operation.kind)
        size = its_kind.output_size(operation, source.size)
        if size != target.size:
            raise InvalidArchitecture(f"It produces size {size}, but the target map has size {target.size}.")
        if operation.bias and not its_kind.learned:
            raise InvalidArchitecture(f"Only learned operations may have a bias. Got {operation.kind!r}.")
        plain = operation.kind == "identity" and not operation.before and not operation.after
        if target.merge == "concat" and not plain:
            raise InvalidArchitecture(
                "Only plain identities may feed a concat: put an intermediate map before it. "
                f"Got {operation.kind!r}, {operation.before=}, {operation.after=}."
            )
        if operation.groups > 1:
            if not (its_kind.mixing and its_kind.learned):
                raise InvalidArchitecture(
                    "Only learned operations that mix channels may have groups. "
                    f"Got {operation.kind!r} with {operation.groups=}."
                )
            self._check_groups(operation, source, target)
        if operation.wiring == "causal":
            if target.merge == "concat":
                raise InvalidArchitecture(
                    f"An identity into a concat is a view: its wiring must be 'dense'. Got {operation.wiring!r}."
                )
            depth = max(index for _, index in self.blocks(operation.source)) + 1
            if depth not in (1, len(target.slices)):
                raise InvalidArchitecture(
                    "A causal operation must have equal numbers of slices in source and target, or one in the source. "
                    f"Got {depth} and {len(target.slices)}."
                )

    def _check_groups(self, operation: Operation, source: FeatureMap, target: FeatureMap) -> None:
        groups = operation.groups
        if source.merge != "sum":
            raise InvalidArchitecture(
                f"A grouped operation cannot read a concat. Got {groups=} from map {operation.source}: sum the sources."
            )
        if source.channels % groups or target.channels % groups:
            raise InvalidArchitecture(
                f"Channels must be whole groups. Got {source.channels} and {target.channels} channels, {groups} groups."
            )
        per_source, per_target = source.channels // groups, target.channels // groups
        if any(s % per_source for s in source.slices) or any(s % per_target for s in target.slices):
            raise InvalidArchitecture(
                f"Every slice must be whole groups. Got slices {source.slices} and {target.slices} for {groups} groups."
            )
        same = [s // per_source for s in source.slices] == [s // per_target for s in target.slices]
        if operation.wiring == "causal" and not same:
            raise InvalidArchitecture(
                "A grouped causal operation needs the same groups in each slice of source and target. "
                f"Got {source.slices} and {target.slices}."
            )

    def _check_maps(self) -> None:
        if len({0, *self.targets}) < len(self.maps):
            unwritten = min(set(range(1, len(self.maps))).difference(self.targets))
            raise InvalidArchitecture(f"An operation must write every map but the input. None writes map {unwritten}.")
        for index, feature_map in enumerate(self.maps):
            if feature_map.merge == "concat":
                width = sum(self.maps[self.sources[o]].channels for o in self.incoming[index])
                if width != feature_map.channels:
                    raise InvalidArchitecture(
                        f"Concat {index} must have the {width} channels of its sources. Got {feature_map.channels}."
                    )

    def _check_gated(self) -> None:
        """Every gated map must be switched slice by slice, by one module."""
        seen: set[int] = set()
        for module in self.gated:
            named = Counter(index for component in module.components for index in component)
            for index, times in sorted(named.items()):
                if not 0 < index < len(self.maps) or self.maps[index].merge != "sum":
                    raise InvalidArchitecture(f"Gated maps must be sums, and not the input. Got map {index}.")
                if index in seen:
                    raise InvalidArchitecture(f"A map must belong to one gated module only. Got map {index} in two.")
                if times > len(self.maps[index].slices):
                    raise InvalidArchitecture(
                        f"Map {index} may be in at most {len(self.maps[index].slices)} components, one per slice. "
                        f"Got {times}."
                    )
            seen.update(named)

    @cached_property
    def sources(self) -> tuple[int, ...]:
        """The map that each operation reads."""
        return tuple(operation.source for operation in self.operations)

    @cached_property
    def targets(self) -> tuple[int, ...]:
        """The map that each operation writes."""
        return tuple(operation.target for operation in self.operations)

    @cached_property
    def grouped(self) -> dict[int, int]:
        """The operations with several groups, and the number of source channels in a group of each."""
        grouped = ((o, operation) for o, operation in enumerate(self.operations) if operation.groups > 1)
        return {o: self.maps[operation.source].channels // operation.groups for o, operation in grouped}

    @cached_property
    def causal(self) -> frozenset[int]:
        """The operations that their wiring restricts: declared causal, from a source with more than one slice."""
        declared = [o for o, operation in enumerate(self.operations) if operation.wiring == "causal"]
        return frozenset(o for o in declared if len({j for _, j in self.blocks(self.sources[o])}) > 1)

    @cached_property
    def incoming(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the operations that write each map, ascending."""
        into: list[list[int]] = [[] for _ in self.maps]
        for index, target in enumerate(self.targets):
            into[target].append(index)
        return tuple(map(tuple, into))

    @cached_property
    def declared(self) -> tuple[int, ...]:
        """The maps whose active prefix a subnetwork declares: all maps that are not a concat."""
        return tuple(i for i, m in enumerate(self.maps) if m.merge != "concat")

    @cached_property
    def prefixes(self) -> tuple[tuple[int, ...], ...]:
        """The numbers of channels that a subnetwork may declare for each of the :attr:`declared` maps; 0 is off."""
        return tuple((0, *self.maps[index].slices) for index in self.declared)

    @cached_property
    def positions(self) -> tuple[int, ...]:
        """Number of spatial positions of every map."""
        return tuple(prod(feature_map.size) for feature_map in self.maps)

    @cached_property
    def macs_per_pair(self) -> tuple[int, ...]:
        """MACs of every operation per pair of connected channels: weights × output positions; 0 if not learned."""
        return tuple(each * self.positions[target] for each, target in zip(self.weights_per_pair, self.targets))

    @cached_property
    def weights_per_pair(self) -> tuple[int, ...]:
        """Weights of every operation per pair of connected channels; 0 if not learned."""
        kinds = [kind(operation.kind) for operation in self.operations]
        return tuple(prod(k.weight_size(o)) if k.learned else 0 for k, o in zip(kinds, self.operations))

    @cached_property
    def route_cache(self) -> dict[tuple[tuple[int, ...], int], Route]:
        """Recent answers of :meth:`route`."""
        return {}

    def route(self, operations: tuple[int, ...], output: int) -> Route:
        """The operations on a path from the input to an output map, as :func:`live_operations`, and their maps.

        Cached, because operating points share many sets of operations.

        Parameters
        ----------
        operations : tuple of int
            Indices of the operations that may be used.
        output : int
            Index of the output map.

        Returns
        -------
        Route
        """
        request = (operations, output)
        if request not in self.route_cache:
            if len(self.route_cache) >= ROUTE_CACHE_SIZE:
                self.route_cache.clear()
            live = live_operations(self, operations, output)
            ends = map(self.sources.__getitem__, live), map(self.targets.__getitem__, live)
            self.route_cache[request] = Route(live, frozenset().union(*ends))
        return self.route_cache[request]

    def live(self, operations: tuple[int, ...], output: int) -> tuple[int, ...]:
        """The operations of :meth:`route`.

        Parameters
        ----------
        operations : tuple of int
            Indices of the operations that may be used.
        output : int
            Index of the output map.

        Returns
        -------
        tuple of int
            Ascending; empty if the input does not reach the output.
        """
        return self.route(operations, output).operations

    def blocks(self, index: int) -> tuple[tuple[int, int], ...]:
        """The blocks of a map. A sum has one block per slice; a concat has the blocks of its sources.

        Parameters
        ----------
        index : int
            Index of the map.

        Returns
        -------
        tuple of (int, int)
            Number of channels and slice index of each block, in channel order.
        """
        feature_map = self.maps[index]
        if feature_map.merge == "concat":
            return tuple(block for o in self.incoming[index] for block in self.blocks(self.operations[o].source))
        slices = feature_map.slices
        return tuple((stop - start, j) for j, (start, stop) in enumerate(zip((0, *slices), slices)))

    def active(self, point: Subnetwork) -> list[int]:
        """Number of active channels of every map in a subnetwork, concats included.

        Parameters
        ----------
        point : Subnetwork

        Returns
        -------
        list of int
            One per map.
        """
        if len(self.declared) == len(self.maps):
            return list(point.channels)
        counts = [0] * len(self.maps)
        for index, channels in zip(self.declared, point.channels):
            counts[index] = channels
        live = set(point.operations)
        for index, feature_map in enumerate(self.maps):
            if feature_map.merge == "concat":
                counts[index] = sum(counts[self.sources[o]] for o in self.incoming[index] if o in live)
        return counts


def live_operations(topology: Topology, operations: Iterable[int], output: int) -> tuple[int, ...]:
    """The operations that lie on a path from the input to an output map.

    Parameters
    ----------
    topology : Topology
    operations : iterable of int
        Indices of the operations that may be used.
    output : int
        Index of the output map.

    Returns
    -------
    tuple of int
        Ascending; empty if the input does not reach the output.

    Notes
    -----
    One pass forward and one backward over the operations, ordered by target: O(V + E log E).
    """
    sources, targets = topology.sources, topology.targets
    reached = {0}
    forward = []
    for o in sorted(operations, key=targets.__getitem__):
        if sources[o] in reached:
            reached.add(targets[o])
            forward.append(o)
    needed = {output}
    live = []
    for o in reversed(forward):
        if targets[o] in needed:
            needed.add(sources[o])
            live.append(o)
    return tuple(sorted(set(live)))


def operation_name(topology: Topology, index: int) -> str:
    """An operation in messages, such as "operation 3 (conv 1 -> 2)"."""
    operation = topology.operations[index]
    return f"operation {index} ({operation.kind} {operation.source} -> {operation.target})"
