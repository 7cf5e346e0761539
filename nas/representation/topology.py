"""The one representation: an anytime network as plain, frozen, validated data.

A search space returns an :class:`Architecture`; cost, Markov chain, torch module, drawing and export are derived from
it. Nothing here needs torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod

from nas.errors import InvalidArchitecture
from nas.representation.elements import FeatureMap, GatedModule, Operation, Subnetwork
from nas.representation.kinds import kind

REMEMBERED_QUESTIONS = 4096
"""How many sets of operations a topology knows the live ones of: a training that samples them asks without end."""


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


def check_gated(topology: Topology) -> None:
    """Raise InvalidArchitecture unless every gated map is switched slice by slice, by one module."""
    seen: set[int] = set()
    for module in topology.gated:
        named = Counter(index for component in module.components for index in component)
        for index, times in sorted(named.items()):
            if not (0 < index < len(topology.maps) and topology.maps[index].merge == "sum"):
                raise InvalidArchitecture(f"Gated maps are sums, not the input and no concats. Got map {index}.")
            if index in seen:
                raise InvalidArchitecture(f"A map belongs to one gated module. Got map {index} in two.")
            if not (times <= len(topology.maps[index].slices)):
                raise InvalidArchitecture(
                    f"Map {index} may be in as many components as it has slices, {len(topology.maps[index].slices)}. "
                    f"Got {times}."
                )
        seen.update(named)


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


def operation_name(topology: Topology, index: int) -> str:
    operation = topology.operations[index]
    return f"operation {index} ({operation.kind} {operation.source} -> {operation.target})"
