"""Ownership of filters in a causal network: which operating point adds which filters, the MACs, and moves.

In a causal network whose operating points differ only in widths, each operating point consists of the filters that it
owns and the filters of all smaller points. :mod:`search_spaces.stepping` splits the filters evenly;
:mod:`evaluators.rules.stepping` learns the ownership.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nas.errors import UserError
from nas.representation.architecture import Architecture
from nas.representation.coupling import coupling_groups
from nas.representation.elements import Subnetwork
from nas.representation.kinds import kind
from nas.representation.topology import Topology

Groups = tuple[tuple[int, ...], ...]


def owned_groups(architecture: Architecture) -> Groups:
    """The coupling groups of the hidden maps; the maps of a group share one ownership.

    The groups of the input and of the output are not hidden: the smallest subnetwork owns the input, and the output
    belongs to all.

    Parameters
    ----------
    architecture : Architecture

    Returns
    -------
    tuple of tuple of int
        Map indices, as in :func:`nas.representation.coupling.coupling_groups`.

    Raises
    ------
    UserError
        If filters cannot be owned in this network; see :func:`check_ownable`.
    """
    check_ownable(architecture)
    return _hidden(architecture)


def check_ownable(architecture: Architecture) -> None:
    """Raise UserError unless every filter of the network can be owned by one operating point.

    The operating points must differ only in widths; hidden layers must be wired causally; coupled maps must have equal
    slices; there must be a hidden layer, no concat and no grouped operation.
    """
    topology, points = architecture.topology, architecture.points
    every_operation = tuple(range(len(topology.operations)))
    for level, point in enumerate(points):
        if point.operations != every_operation or point.output != points[0].output:
            raise UserError(
                "The operating points must differ in widths only, so that each filter has one owner. "
                f"Got {len(point.operations)} of {len(every_operation)} operations and {point.output=} at {level=}."
            )
    concats = [index for index, m in enumerate(topology.maps) if m.merge == "concat"]
    grouped = [index for index, o in enumerate(topology.operations) if o.groups > 1]
    if concats or grouped:
        raise UserError(
            "Filters cannot be owned in a network with concats or grouped operations. "
            f"Got concats at maps {concats} and groups at operations {grouped}: use sums and groups=1."
        )
    hidden = {index for group in _hidden(architecture) for index in group}
    for operation in topology.operations:
        between_hidden = operation.source in hidden and operation.target in hidden
        if between_hidden and kind(operation.kind).mixing and operation.wiring != "causal":
            raise UserError(
                "Filters can be owned only in a causal network. "
                f"Got a {operation.wiring} {operation.kind} {operation.source} -> {operation.target}."
            )
    for group in coupling_groups(topology):
        if len({topology.maps[index].slices for index in group}) > 1:
            raise UserError(
                f"Maps that skips or poolings connect must have equal slices, to share owners. Got maps {group}."
            )
    if not hidden:
        raise UserError("Filters can be owned only in hidden layers. Got a network without any.")


def with_slices(architecture: Architecture, slices: Sequence[tuple[int, ...]]) -> Architecture:
    """The same layers with different widths: operating point k uses the k-th prefix of every group.

    Parameters
    ----------
    architecture : Architecture
        A network whose filters can be owned.
    slices : sequence of tuple of int
        Ascending prefix lengths of every group of :func:`owned_groups`, one per operating point of the result.

    Returns
    -------
    Architecture
    """
    slices_of = {i: s for maps, s in zip(owned_groups(architecture), slices, strict=True) for i in maps}
    old = architecture.topology
    maps = tuple(
        replace(m, channels=slices_of[i][-1], slices=slices_of[i]) if i in slices_of else m
        for i, m in enumerate(old.maps)
    )
    points = tuple(
        Subnetwork(
            channels=tuple(slices_of[i][level] if i in slices_of else m.channels for i, m in enumerate(maps)),
            operations=architecture.points[0].operations,
            output=architecture.points[0].output,
        )
        for level in range(len(slices[0]))
    )
    return replace(architecture, topology=Topology(maps=maps, operations=old.operations), points=points)


class OwnershipMacs:
    """MACs of every level of a causal network as a function of the number of filters that each level owns.

    Calling it with an integer array of shape (groups, levels) returns the MACs of each level, shape (levels,): equal to
    ``with_slices(...).costs``, without building the architecture.
    """

    def __init__(self, architecture: Architecture):
        topology = architecture.topology
        group = {i: g for g, maps in enumerate(owned_groups(architecture)) for i in maps}
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
    """Move filters to larger levels until every level is within its budget of MACs.

    Level by level, the least important filters move to the next level (from the last level they become unused) until
    the MACs of the level are within the budget; then those return for which there is room, most important first. Every
    level keeps one filter of every group, because slices must grow; if a level is still too large then, filters of the
    levels before it move too.

    Parameters
    ----------
    owners : sequence of ndarray
        For every group, the level of each filter, shape (channels,); ``len(budgets)`` means unused.
    scores : sequence of ndarray
        For every group, the importance of each filter, shape (channels,).
    budgets : sequence of float
        MACs of each level, ascending. A budget below the cost of one filter per level and group is not met.
    macs : OwnershipMacs

    Returns
    -------
    list of ndarray
        The new owners. No filter moves to a smaller level.
    """
    owners = [owner.copy() for owner in owners]
    levels = len(budgets)
    owned = np.array([np.bincount(owner, minlength=levels + 1)[:levels] for owner in owners])
    order = sorted((score, g, c) for g, group in enumerate(scores) for c, score in enumerate(group.tolist()))
    for level, budget in enumerate(budgets):
        within = bool(macs(owned)[level] <= budget)
        moved: list[tuple[int, int, int]] = []
        for giver in range(level, -1, -1):
            for _, g, c in order:
                if within:
                    break
                if owners[g][c] == giver and owned[g, giver] > 1:
                    moved.append((g, c, giver))
                    _move(owners, owned, g, c, level + 1)
                    within = bool(macs(owned)[level] <= budget)
        for g, c, giver in reversed(moved):  # the last move frees more than is needed: smaller filters fit again
            _move(owners, owned, g, c, giver)
            if np.any(macs(owned)[: level + 1] > budgets[: level + 1]):
                _move(owners, owned, g, c, level + 1)
    return owners


def _move(owners: Sequence[np.ndarray], owned: np.ndarray, group: int, filter_: int, level: int) -> None:
    """Give a filter to a level, or to none after the last; owned: number of filters of every group and level."""
    if (giver := owners[group][filter_]) < owned.shape[1]:
        owned[group, giver] -= 1
    owners[group][filter_] = level
    if level < owned.shape[1]:
        owned[group, level] += 1


def _hidden(architecture: Architecture) -> Groups:
    """The coupling groups without the groups of the input and of the output."""
    ends = {0, architecture.points[0].output}
    return tuple(group for group in coupling_groups(architecture.topology) if ends.isdisjoint(group))
