"""Check that operating points can share their norms: the values before a norm must be equal at all points."""

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
    """Raise InvalidArchitecture unless one norm can serve all operating points.

    A norm that runs at two points must have equal values before it, on the channels that are active at both.
    Differences that come from gates are allowed: operations that are switched off as a whole, and gated maps that are
    read with fewer components. There a norm averages over the combinations by design; after a varying width, its
    statistics would be wrong at every width but the ones that training uses most.
    """
    live = [set(point.operations) for point in points]
    comparisons: dict[tuple[int, int], _Comparison] = {}
    for index, operation in enumerate(topology.operations):
        if "norm" not in (*operation.before, *operation.after):
            continue
        for pair in pairwise(k for k in range(len(points)) if index in live[k]):
            if pair not in comparisons:
                comparisons[pair] = _Comparison(topology, points[pair[0]], points[pair[1]])
            reason = comparisons[pair].changed.get(operation.source)
            if reason is None and "norm" in operation.after:
                reason = comparisons[pair].reads_more(index)
            if reason is not None:
                raise InvalidArchitecture(
                    "Operating points may share a norm only if the values before it are equal at all of them, gates "
                    f"apart. The norm of {operation_name(topology, index)} has different values at level {pair[1]} "
                    f"than at level {pair[0]}: {reason}. Wire it causally, or set norm to 'recalibrated' or "
                    "'per_point'."
                )


class _Comparison:
    """The differences between two points that come from widths, in the operations that run at both.

    changed: for each map whose shared channels have different values at the two points, the reason.
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
                self.changed.setdefault(operation.target, f"the input of {operation_name(topology, o)} changes")
            elif topology.maps[operation.target].merge != "concat" and (reason := self.reads_more(o)):
                self.changed.setdefault(operation.target, reason)
            elif self._is_rescaled(operation.target):
                self.changed.setdefault(operation.target, "its scale depends on the number of active components")

    def reads_more(self, index: int) -> str | None:
        """The reason, if target channels that are active at both points read source channels that only one has."""
        topology, operation = self.topology, self.topology.operations[index]
        source, target = topology.maps[operation.source], topology.maps[operation.target]
        read = [counts[operation.source] for counts in self.counts]
        prefix = source.merge == "sum"
        if (prefix and read[0] == read[1]) or self._gated(operation.source):
            return None
        written = min(counts[operation.target] for counts in self.counts)
        if operation.wiring == "causal" and prefix and min(read) and written:  # it reads slices up to its own
            more = target.slices.index(written) > source.slices.index(min(read))
        else:
            rows = np.logical_and(*(active_mask(topology, point, operation.target) for point in self.points))
            columns = np.logical_xor(*(active_mask(topology, point, operation.source) for point in self.points))
            more = reads_any(topology, index, rows, columns)
        if not more:
            return None
        name = operation_name(topology, index)
        return (
            f"{name} reads {read[0]} channels at the smaller, {read[1]} at the larger, and its wiring is "
            f"{operation.wiring!r}"
        )

    def _is_rescaled(self, index: int) -> bool:
        scaled, counts = self.topology.maps[index].scale != "none", {counts[index] for counts in self.counts}
        return scaled and len(counts) > 1 and not self._gated(index)

    def _gated(self, index: int) -> bool:
        """Whether a gate, rather than a width, determines the active channels of a map."""
        if self.topology.maps[index].merge == "concat":
            sources = [self.topology.operations[o].source for o in self.topology.incoming[index]]
            return all(len({counts[s] for counts in self.counts}) == 1 or self._gated(s) for s in sources)
        return index in self.switched
