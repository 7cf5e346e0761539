"""Separate classifiers: an output map for every operating point, in place of one whose logits accumulate."""

from __future__ import annotations

from dataclasses import replace

from nas.errors import UserError
from nas.representation.architecture import Architecture
from nas.representation.liveness import trim_point


def own_heads(architecture: Architecture) -> Architecture:
    """The same network with a separate output map for every operating point, with separate weights.

    If the operating points of a causal network share a classifier, the logits of a slice are part of the logits of all
    larger points: they must be correct for the small point and leave room for the terms of larger ones. A separate
    classifier weights all its slices anew. The MACs of each point stay the same; refining a prediction costs a few more
    MACs, because a classifier cannot be continued.

    Parameters
    ----------
    architecture : Architecture
        At least two of its operating points share an output map, or it has one point.

    Returns
    -------
    Architecture

    Raises
    ------
    UserError
        If every operating point has its own output map already.
    """
    topology, points = architecture.topology, architecture.points
    if len(points) > 1 and len({point.output for point in points}) == len(points):
        raise UserError("Operating points must share an output map to get separate ones. Got separate ones already.")
    maps, operations, used = list(topology.maps), list(topology.operations), set()
    separated = []
    for old in points:
        point = old
        if old.output in used:
            copies = [replace(topology.operations[o], target=len(maps)) for o in topology.incoming[old.output]]
            new = range(len(operations), len(operations) + len(copies))
            live = {*old.operations}.difference(topology.incoming[old.output]).union(new)
            point = replace(old, operations=tuple(sorted(live)), output=len(maps))
            maps.append(topology.maps[old.output])
            operations += copies
        used.add(point.output)
        separated.append(point)
    heads = replace(topology, maps=tuple(maps), operations=tuple(operations))
    added = tuple(m.channels for m in maps[len(topology.maps) :])
    separated = [trim_point(heads, replace(point, channels=point.channels + added)) for point in separated]
    return replace(architecture, topology=heads, points=tuple(separated)).canonical
