"""Which subnetwork owns which filter: coupling groups of a causal network, the MACs of an ownership, and moves.

In a causal network whose operating points differ in widths alone, a point is which filters it owns, and those of the
smaller points. Pure Python and numpy: :mod:`search_spaces.stepping` splits filters evenly by it,
:mod:`evaluators.rules.stepping` learns who owns which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nas.errors import UserError
from nas.representation.architecture import Architecture
from nas.representation.elements import Subnetwork
from nas.representation.kinds import kind
from nas.representation.topology import Topology


def coupling_groups(architecture: Architecture) -> tuple[tuple[int, ...], ...]:
    """The hidden maps that share one ownership, each group in order, groups by their first map.

    Maps joined by an operation that does not mix channels (identity, pooling) belong together; the groups of the input
    and of the output are not hidden: the first belongs to the smallest subnetwork, the second to all.

    Raises UserError where the points differ in more than widths, where a hidden layer is wired densely, where maps that
    belong together have other widths, and for concats and grouped operations.
    """
    topology, points = architecture.topology, architecture.points
    everything = tuple(range(len(topology.operations)))
    if not all(point.operations == everything and point.output == points[0].output for point in points):
        raise UserError("The operating points must differ in widths alone, for filters to be owned by one of them.")
    if any(m.merge == "concat" for m in topology.maps) or any(o.groups > 1 for o in topology.operations):
        raise UserError("Filters cannot be owned in a network with concats or grouped operations.")
    group = list(range(len(topology.maps)))
    for operation in topology.operations:
        if not kind(operation.kind).mixing:
            old, new = sorted((group[operation.source], group[operation.target]), reverse=True)
            group = [new if g == old else g for g in group]
    fixed = {group[0], group[points[0].output]}
    for operation in topology.operations:
        hidden = fixed.isdisjoint((group[operation.source], group[operation.target]))
        if hidden and kind(operation.kind).mixing and operation.wiring != "causal":
            raise UserError(
                "Filters can be owned in a causal network alone. "
                f"Got a {operation.wiring} {operation.kind} {operation.source} -> {operation.target}."
            )
    found = tuple(
        tuple(i for i, g in enumerate(group) if g == first) for first in sorted(set(group)) if first not in fixed
    )
    if any(topology.maps[i].slices != topology.maps[g].slices for i, g in enumerate(group)):
        raise UserError("Maps joined by skips or poolings must have the same widths, for their filters to be owned.")
    if not found:
        raise UserError("There must be hidden filters to be owned. Got a network without any.")
    return found


def with_slices(architecture: Architecture, slices: Sequence[tuple[int, ...]]) -> Architecture:
    """The same layers with other widths: operating point k uses the k-th prefix of every coupling group.

    slices: ascending prefix lengths of every group of :func:`coupling_groups`, as many each as points are wanted.
    """
    wanted = {i: s for maps, s in zip(coupling_groups(architecture), slices, strict=True) for i in maps}
    old = architecture.topology
    maps = tuple(
        replace(m, channels=wanted[i][-1], slices=wanted[i]) if i in wanted else m for i, m in enumerate(old.maps)
    )
    points = tuple(
        Subnetwork(
            channels=tuple(wanted[i][level] if i in wanted else m.channels for i, m in enumerate(maps)),
            operations=architecture.points[0].operations,
            output=architecture.points[0].output,
        )
        for level in range(len(slices[0]))
    )
    return replace(architecture, topology=Topology(maps=maps, operations=old.operations), points=points)


class OwnershipMacs:
    """Multiply-accumulates of every level of a causal network as a function of how many filters each level owns.

    Called with an integer array (groups, levels), it returns the MACs of each level, (levels,): what
    ``with_slices(...).costs`` are, without building the architecture.
    """

    def __init__(self, architecture: Architecture):
        topology = architecture.topology
        group = {i: g for g, maps in enumerate(coupling_groups(architecture)) for i in maps}
        self._terms: list[tuple[int, int | None, int | None]] = []
        for operation, each in zip(topology.operations, topology.macs_per_pair):
            if each:
                for end in (operation.source, operation.target):
                    each *= 1 if end in group else topology.maps[end].channels
                self._terms.append((each, group.get(operation.source), group.get(operation.target)))

    def __call__(self, owned: np.ndarray) -> np.ndarray:
        active = owned.cumsum(axis=1)
        total = np.zeros(owned.shape[1], dtype=np.int64)
        for each, source, target in self._terms:
            if source is not None and target is not None:
                total += each * (owned[target] * active[source]).cumsum()
            else:
                end = target if source is None else source
                total += each * (1 if end is None else active[end])
        return total


def move_filters(
    owners: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    budgets: Sequence[float] | np.ndarray,
    macs: OwnershipMacs,
) -> list[np.ndarray]:
    """New owners, with which every level is within its budget of MACs; no filter goes to a smaller level.

    Level by level, the least important filters of a level go to the next one, those of the last become unused, until
    its MACs are within the budget. Every level keeps a filter of every group, for slices must grow; where that leaves
    one too large, filters of the levels before it go too.

    owners: level of every filter of a group, (channels,) each; ``len(budgets)`` means unused. scores: importance of
    each, (channels,). budgets: ascending; a budget below the cost of one filter a level and group is not met.
    """
    owners = [owner.copy() for owner in owners]
    levels = len(budgets)
    owned = np.array([np.bincount(owner, minlength=levels + 1)[:levels] for owner in owners])
    order = sorted((score, g, c) for g, group in enumerate(scores) for c, score in enumerate(group.tolist()))
    for level, budget in enumerate(budgets):
        within = bool(macs(owned)[level] <= budget)
        for giver in range(level, -1, -1):
            for _, g, c in order:
                if within:
                    break
                if owners[g][c] == giver and owned[g, giver] > 1:
                    owners[g][c] = level + 1
                    owned[g, giver] -= 1
                    if level + 1 < levels:
                        owned[g, level + 1] += 1
                    within = bool(macs(owned)[level] <= budget)
    return owners
