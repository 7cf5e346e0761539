"""Coupling groups: the feature maps of a network that must have the same width."""

from __future__ import annotations

from nas.representation.kinds import kind
from nas.representation.topology import Topology


def coupling_groups(topology: Topology) -> tuple[tuple[int, ...], ...]:
    """Groups of feature maps that share one width.

    Two maps share a width if an operation that does not mix channels (identity, pooling) or a grouped operation
    connects them. Concats belong to no group: their width follows from their sources.

    Parameters
    ----------
    topology : Topology

    Returns
    -------
    tuple of tuple of int
        Map indices, ascending in each group; groups ordered by their first map. Every map that is not a concat is in
        exactly one group.
    """
    parent = list(range(len(topology.maps)))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    declared = frozenset(topology.declared)
    for operation in topology.operations:
        joins = operation.groups > 1 or not kind(operation.kind).mixing
        if joins and operation.source in declared and operation.target in declared:
            low, high = sorted((root(operation.source), root(operation.target)))
            parent[high] = low
    groups: dict[int, list[int]] = {}
    for index in topology.declared:
        groups.setdefault(root(index), []).append(index)
    return tuple(map(tuple, groups.values()))
