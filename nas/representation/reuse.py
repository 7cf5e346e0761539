"""Reuse: the results of an operating point that a larger one shares, derived from the wiring."""

from __future__ import annotations

from itertools import pairwise

from nas.errors import UserError
from nas.representation.architecture import Architecture
from nas.representation.elements import Subnetwork
from nas.representation.topology import Topology, operation_name
from nas.representation.wiring import active_mask, reads_any

LINEAR_KINDS = ("conv", "linear")
"""Learned kinds whose output is a sum over their input channels: a larger point can add the terms of new channels."""

Changes = dict[int, str | None]
"""For each live map, the reason why its active channels have different values at a later point; None if they do not."""


def stable_maps(architecture: Architecture) -> tuple[frozenset[int], ...]:
    """The maps whose active channels have the same values as at the largest operating point, for every level.

    In a causal network with shared norms these are all maps but the logits, so that one pass of the largest point
    serves every level.

    Parameters
    ----------
    architecture : Architecture

    Returns
    -------
    tuple of frozenset of int
        Map indices, one set per operating point.

    Notes
    -----
    A channel is shared iff its live inputs, its norm and its scale are the same at both points. One sweep in
    topological order per level over channel masks: O(operations × channels²).
    """
    top = architecture.points[-1]
    return tuple(
        frozenset(index for index, reason in _changes(architecture, point, top).items() if reason is None)
        for point in architecture.points
    )


def accumulating_maps(architecture: Architecture) -> frozenset[int]:
    """The maps to whose values larger points only add terms, such as the logits of a causal network.

    Their bias is added once.

    Parameters
    ----------
    architecture : Architecture

    Returns
    -------
    frozenset of int

    Raises
    ------
    UserError
        If a map that two consecutive points share neither keeps its values nor accumulates: the results of the smaller
        point cannot be reused.
    """
    accumulating: set[int] = set()
    changes: dict[tuple[int, int], Changes] = {}
    for index in range(1, len(architecture.topology.maps)):
        levels = [k for k, point in enumerate(architecture.points) if _is_live(architecture.topology, point, index)]
        for pair in pairwise(levels):
            before, after = (architecture.points[k] for k in pair)
            if pair not in changes:
                changes[pair] = _changes(architecture, before, after)
            reason = changes[pair][index]
            if reason is None:
                continue
            if not _accumulates(architecture, before, after, index, changes[pair]):
                raise UserError(
                    f"Results cannot be reused: feature map {index} has different values at level {pair[1]} than at "
                    f"level {pair[0]}: {reason}. "
                    "Run and train each level on its own: network(x, level), rules like joint."
                )
            accumulating.add(index)
    return frozenset(accumulating)


def _is_live(topology: Topology, point: Subnetwork, index: int) -> bool:
    return any(topology.operations[o].target == index for o in point.operations)


def _changes(architecture: Architecture, point: Subnetwork, later: Subnetwork) -> Changes:
    topology, live = architecture.topology, set(point.operations)
    changes: Changes = {0: None}
    for index in range(1, len(topology.maps)):
        if any(o in live for o in topology.incoming[index]):
            changes[index] = _change(architecture, point, later, index, changes)
    return changes


def _change(
    architecture: Architecture, point: Subnetwork, later: Subnetwork, index: int, changes: Changes
) -> str | None:
    """The reason why a map has different values at a later point; changes: of the maps before it."""
    topology = architecture.topology
    live, later_live = set(point.operations), set(later.operations)
    incoming, feature_map = topology.incoming[index], topology.maps[index]
    counts, later_counts = topology.active(point)[index], topology.active(later)[index]
    for o in incoming:
        if o in live and o not in later_live:
            return f"{operation_name(topology, o)} runs at the smaller one only"
        if o in live and changes[topology.operations[o].source] is not None:
            return f"the input of {operation_name(topology, o)} changes"
    if feature_map.merge != "concat" and counts > later_counts:
        return f"it has fewer channels, {later_counts} instead of {counts}"
    if feature_map.scale != "none" and counts != later_counts:
        return f"its scale {feature_map.scale!r} depends on the number of active components"
    if feature_map.merge == "concat":
        return None
    reasons = (_difference(architecture, point, later, o, o in live) for o in incoming if o in later_live)
    return next((reason for reason in reasons if reason is not None), None)


def _difference(architecture: Architecture, point: Subnetwork, later: Subnetwork, index: int, live: bool) -> str | None:
    """The reason why an operation of a later point changes the target channels that the smaller point has."""
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
    architecture: Architecture, point: Subnetwork, later: Subnetwork, index: int, changes: Changes
) -> bool:
    """Whether the values of a map at a later point are its values at this point plus a sum over new channels."""
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
