"""Which results of a larger operating point a smaller one shares: derived from the wiring, never declared."""

from __future__ import annotations

from itertools import pairwise

from nas.errors import UserError
from nas.representation.architecture import Architecture
from nas.representation.elements import Subnetwork
from nas.representation.topology import Topology, operation_name
from nas.representation.wiring import active_mask, reads_any

LINEAR_KINDS = ("conv", "linear")
"""Learned kinds whose answer is a sum over what they read, so that what is new can be added to what was known."""


def stable_maps(architecture: Architecture) -> tuple[frozenset[int], ...]:
    """For every level, the maps whose active channels have the same values as in a pass through the largest point.

    A channel is shared iff its live inputs, norm and scale never change after its birth. In a causal network with
    shared norms these are all maps but the classifier's, so that one pass answers for every level.

    Notes
    -----
    One sweep in topological order per level over channel masks, O(operations x channels²).
    """
    top = architecture.points[-1]
    return tuple(
        frozenset(index for index, why in _changes(architecture, point, top).items() if why is None)
        for point in architecture.points
    )


def accumulating_maps(architecture: Architecture) -> frozenset[int]:
    """The maps to whose values a larger point only adds: the logits of a causal network. Their bias is added once.

    Raises UserError unless every point builds on the results of those before it, exactly: all other maps that two
    points share must have the same values in both.
    """
    found: set[int] = set()
    changes: dict[tuple[int, int], dict[int, str | None]] = {}
    for index in range(1, len(architecture.topology.maps)):
        levels = [k for k, point in enumerate(architecture.points) if _is_live(architecture.topology, point, index)]
        for pair in pairwise(levels):
            before, after = (architecture.points[k] for k in pair)
            if pair not in changes:
                changes[pair] = _changes(architecture, before, after)
            why = changes[pair][index]
            if why is None:
                continue
            if not _accumulates(architecture, before, after, index, changes[pair]):
                raise UserError(
                    "The results of an operating point must stay what they are at the larger ones to be reused. "
                    f"Those of map {index} are others at level {pair[1]} than at level {pair[0]}: {why}. "
                    "Run and train each level on its own: network(x, level), rules like joint."
                )
            found.add(index)
    return frozenset(found)


def _is_live(topology: Topology, point: Subnetwork, index: int) -> bool:
    return any(topology.operations[o].target == index for o in point.operations)


def _changes(architecture: Architecture, point: Subnetwork, later: Subnetwork) -> dict[int, str | None]:
    """For each live map of a point, why its active channels have other values at a later one; None where they do
    not.
    """
    topology, live = architecture.topology, set(point.operations)
    found: dict[int, str | None] = {0: None}
    for index in range(1, len(topology.maps)):
        if any(o in live for o in topology.incoming[index]):
            found[index] = _change(architecture, point, later, index, found)
    return found


def _change(
    architecture: Architecture, point: Subnetwork, later: Subnetwork, index: int, changes: dict[int, str | None]
) -> str | None:
    topology = architecture.topology
    live, later_live = set(point.operations), set(later.operations)
    incoming, feature_map = topology.incoming[index], topology.maps[index]
    counts, later_counts = topology.active(point)[index], topology.active(later)[index]
    for o in incoming:
        if o in live and o not in later_live:
            return f"{operation_name(topology, o)} runs at the smaller one only"
        if o in live and changes[topology.operations[o].source] is not None:
            return f"what {operation_name(topology, o)} reads has changed"
    if feature_map.merge != "concat" and counts > later_counts:
        return f"it has fewer channels, {later_counts} instead of {counts}"
    if feature_map.scale != "none" and counts != later_counts:
        return f"its scale {feature_map.scale!r} goes with the number of its active components"
    if feature_map.merge == "concat":
        return None
    reasons = (_difference(architecture, point, later, o, o in live) for o in incoming if o in later_live)
    return next((why for why in reasons if why is not None), None)


def _difference(architecture: Architecture, point: Subnetwork, later: Subnetwork, index: int, live: bool) -> str | None:
    """Why an operation of a later point gives the active target channels of a smaller one other values; None where it
    does not.
    """
    topology = architecture.topology
    operation, name = topology.operations[index], operation_name(topology, index)
    normed = "norm" in operation.before or "norm" in operation.after
    if not live and (operation.bias or normed):
        return f"{name} adds a bias or a norm, and runs at the larger one only"
    if normed and architecture.norm != "shared":
        return f"{name} has a norm for every point (norm={architecture.norm!r} instead of 'shared')"
    rows = active_mask(topology, point, operation.target)
    new = active_mask(topology, later, operation.source)
    if live:
        new &= ~active_mask(topology, point, operation.source)
    if not reads_any(topology, index, rows, new):
        return None
    if not live:
        return f"{name} runs at the larger one only"
    return f"{name} reads channels that only the larger one has (its wiring is {operation.wiring!r})"


def _accumulates(
    architecture: Architecture, point: Subnetwork, later: Subnetwork, index: int, changes: dict[int, str | None]
) -> bool:
    """Whether the values of a map at a later point are those here and a sum over what is new."""
    topology = architecture.topology
    feature_map, later_live = topology.maps[index], set(later.operations)
    operations = [(o, topology.operations[o]) for o in topology.incoming[index] if o in later_live]
    live = {o for o in topology.incoming[index] if o in point.operations}
    normed = any("norm" in operation.before for _, operation in operations)
    return (
        feature_map.merge == "sum"
        and feature_map.activation == feature_map.scale == "none"
        and topology.active(point)[index] == topology.active(later)[index]
        and live.issubset(later_live)
        and all(changes[topology.operations[o].source] is None for o in live)
        and all(operation.kind in LINEAR_KINDS and not operation.after for _, operation in operations)
        and all(operation.groups == 1 and operation.wiring == "dense" for _, operation in operations)
        and not (normed and architecture.norm != "shared")
    )
