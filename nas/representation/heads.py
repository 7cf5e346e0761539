"""A classifier for every operating point, in place of one whose logits add up from point to point."""

from __future__ import annotations

from dataclasses import replace

from nas.errors import UserError
from nas.representation.architecture import Architecture
from nas.representation.liveness import trim_point


def own_heads(architecture: Architecture) -> Architecture:
    """The same network with an output map of its own for every operating point, written by operations of its own.

    In a causal network with one classifier, what a slice says of the classes is part of every larger point's answer:
    it must be right alone, and leave room for what comes. A classifier for each point weighs all its slices anew. The
    cost of each point stays the same; to refine an answer takes a few MACs more, for a classifier cannot be continued.

    Raises UserError where the points have outputs of their own already.
    """
    topology, points = architecture.topology, architecture.points
    if len(points) > 1 and len({point.output for point in points}) == len(points):
        raise UserError("Operating points must share an output map, to be given one each. Got one each already.")
    maps, operations, taken = list(topology.maps), list(topology.operations), set()
    made = []
    for old in points:
        point = old
        if old.output in taken:
            copies = [replace(topology.operations[o], target=len(maps)) for o in topology.incoming[old.output]]
            own = range(len(operations), len(operations) + len(copies))
            live = {*old.operations}.difference(topology.incoming[old.output]).union(own)
            point = replace(old, operations=tuple(sorted(live)), output=len(maps))
            maps.append(topology.maps[old.output])
            operations += copies
        taken.add(point.output)
        made.append(point)
    heads = replace(topology, maps=tuple(maps), operations=tuple(operations))
    more = tuple(m.channels for m in maps[len(topology.maps) :])
    made = [trim_point(heads, replace(point, channels=point.channels + more)) for point in made]
    return replace(architecture, topology=heads, points=tuple(made)).canonical
