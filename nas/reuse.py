"""Which results of a larger operating point a smaller one shares: derived from the wiring, never declared."""

from __future__ import annotations

import numpy as np

from nas.topology import Architecture, Subnetwork
from nas.wiring import active_channels, channel_mask


def stable_maps(architecture: Architecture) -> tuple[frozenset[int], ...]:
    """For every level, the maps whose active channels have the same values as in a pass through the largest point.

    A channel is shared iff its live inputs, norm and scale never change after its birth. In a causal network with
    shared norms these are all maps but the classifier's, so that one pass answers for every level.

    Notes
    -----
    One sweep in topological order per level over channel masks, O(operations x channels²).
    """
    return tuple(_stable(architecture, point) for point in architecture.points)


def _stable(architecture: Architecture, point: Subnetwork) -> frozenset[int]:
    topology, top = architecture.topology, architecture.points[-1]
    counts, top_counts = topology.active(point), topology.active(top)
    live, top_live = set(point.operations), set(top.operations)
    stable = {0}
    widths, top_widths = (dict(zip(topology.declared, p.channels)) for p in (point, top))
    for index, feature_map in enumerate(topology.maps):
        incoming = topology.incoming[index]
        here = [o for o in incoming if o in live]
        if not here or not top_live.issuperset(here):
            continue
        if not all(topology.operations[o].source in stable for o in here):
            continue
        if widths.get(index, 0) > top_widths.get(index, 0):
            continue
        if feature_map.scale != "none" and counts[index] != top_counts[index]:
            continue
        if feature_map.merge == "concat" or all(
            _same(architecture, point, o, o in live) for o in incoming if o in top_live
        ):
            stable.add(index)
    return frozenset(stable)


def _same(architecture: Architecture, point: Subnetwork, index: int, live: bool) -> bool:
    """Whether an operation of the largest point gives the active target channels of a smaller one the same values."""
    topology, top = architecture.topology, architecture.points[-1]
    operation = topology.operations[index]
    normed = "norm" in operation.before or "norm" in operation.after
    if not live and (operation.bias or normed):
        return False
    if normed and architecture.norm != "shared":
        return False
    rows = np.zeros(topology.maps[operation.target].channels, dtype=bool)
    for start, stop in active_channels(topology, point, operation.target):
        rows[start:stop] = True
    later = np.zeros(topology.maps[operation.source].channels, dtype=bool)
    for start, stop in active_channels(topology, top, operation.source):
        later[start:stop] = True
    if live:
        for start, stop in active_channels(topology, point, operation.source):
            later[start:stop] = False
    return not channel_mask(topology, index)[np.ix_(rows, later)].any()
