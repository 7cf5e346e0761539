"""Whether operating points can share their norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from nas.errors import InvalidArchitecture
from nas.representation.elements import Subnetwork
from nas.representation.gates import gated_maps
from nas.representation.topology import Topology, operation_name
from nas.representation.wiring import active_mask, reads_any


def check_shared_norms(topology: Topology, points: Sequence[Subnetwork]) -> None:
    """Raise InvalidArchitecture unless one norm can serve all operating points: wherever a norm runs at two of them,
    the channels that it has at both must have the same values.

    What comes and goes with gates is left aside: whole operations, and what is read of a gated map. There a norm sees a
    mixture by design; of widths, it would be wrong at every one but those that it saw most.
    """
    live = [set(point.operations) for point in points]
    found: dict[tuple[int, int], _Widths] = {}
    for index, operation in enumerate(topology.operations):
        if "norm" not in (*operation.before, *operation.after):
            continue
        for pair in pairwise(k for k in range(len(points)) if index in live[k]):
            if pair not in found:
                found[pair] = _Widths(topology, points[pair[0]], points[pair[1]])
            why = found[pair].changed.get(operation.source)
            if why is None and "norm" in operation.after:
                why = found[pair].reads_others(index)
            if why is not None:
                raise InvalidArchitecture(
                    "Points share their norms where what a norm sees stays what it is at larger points, or goes with "
                    f"gates. That of {operation_name(topology, index)} sees other values at level {pair[1]} than at "
                    f"level {pair[0]}: {why}. Wire it causally, or let norm be 'recalibrated' or 'per_point'."
                )


class _Widths:
    """What widths change between two points, in the operations that both run.

    changed: by map, why its channels, those that both have, have other values at one than at the other.
    """

    def __init__(self, topology: Topology, *points: Subnetwork):
        self.topology = topology
        self.switched = {index for module in topology.gated for index in gated_maps(module)}
        common = sorted(set(points[0].operations) & set(points[1].operations))
        self.points = [replace(point, operations=tuple(common)) for point in points]
        self.counts = [topology.active(point) for point in self.points]
        self.changed: dict[int, str] = {}
        for o in sorted(common, key=lambda o: topology.operations[o].target):
            operation = topology.operations[o]
            if operation.source in self.changed and not self._gated(operation.source):
                self.changed.setdefault(operation.target, f"what {operation_name(topology, o)} reads has changed")
            elif topology.maps[operation.target].merge != "concat" and (why := self.reads_others(o)):
                self.changed.setdefault(operation.target, why)
            elif self._is_rescaled(operation.target):
                self.changed.setdefault(operation.target, "its values are scaled by how many components are on")

    def reads_others(self, index: int) -> str | None:
        """Why an operation reads, for channels that it writes at both points, channels that one of them has not."""
        topology, operation = self.topology, self.topology.operations[index]
        source, target = topology.maps[operation.source], topology.maps[operation.target]
        read = [counts[operation.source] for counts in self.counts]
        prefix = source.merge == "sum"
        if (prefix and read[0] == read[1]) or self._gated(operation.source):
            return None
        written = min(counts[operation.target] for counts in self.counts)
        if operation.wiring == "causal" and prefix and min(read) and written:
            others = target.slices.index(written) > source.slices.index(min(read))  # it reads slices up to its own
        else:
            rows = np.logical_and(*(active_mask(topology, point, operation.target) for point in self.points))
            columns = np.logical_xor(*(active_mask(topology, point, operation.source) for point in self.points))
            others = reads_any(topology, index, rows, columns)
        if not others:
            return None
        wiring = f"its wiring is {operation.wiring!r}"
        name = operation_name(topology, index)
        return f"{name} reads {read[0]} channels at the smaller, {read[1]} at the larger, and {wiring}"

    def _is_rescaled(self, index: int) -> bool:
        scaled, counts = self.topology.maps[index].scale != "none", {counts[index] for counts in self.counts}
        return scaled and len(counts) > 1 and not self._gated(index)

    def _gated(self, index: int) -> bool:
        """Whether what is active of a map is components that a gate switches, rather than a width."""
        if self.topology.maps[index].merge == "concat":
            sources = [self.topology.operations[o].source for o in self.topology.incoming[index]]
            return all(len({counts[s] for counts in self.counts}) == 1 or self._gated(s) for s in sources)
        return index in self.switched
