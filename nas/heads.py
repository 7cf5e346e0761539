"""A classifier for every operating point, in place of one whose logits add up from point to point."""

from __future__ import annotations

from dataclasses import replace

from nas.errors import UserError
from nas.liveness import trim_point
from nas.topology import Architecture, Topology


def own_heads(architecture: Architecture) -> Architecture:
    """The same network with an output map of its own for every operating point, written by operations of its own.

    In a causal network with one classifier, what a slice says of the classes is part of every larger point's answer:
    it must be right alone, and leave room for what comes. A classifier for each point weighs all its slices anew. The
    cost of each point stays the same; to refine an answer takes a few MACs more, for a classifier cannot be continued.

    Raises UserError where the points have outputs of their own already.
    """
    topology, points = architecture.topology, architecture.points
    output = points[0].output
    if any(point.output != output for point in points):
        raise UserError("The operating points must share an output map, to be given one each. Got one each already.")
    maps, operations = list(topology.maps), list(topology.operations)
    written, outputs = [set(topology.incoming[output])], [output]
    for _ in points[1:]:
        copies = [replace(topology.operations[o], target=len(maps)) for o in topology.incoming[output]]
        outputs.append(len(maps))
        written.append(set(range(len(operations), len(operations) + len(copies))))
        maps.append(topology.maps[output])
        operations += copies
    heads = Topology(maps=tuple(maps), operations=tuple(operations))
    more = tuple(m.channels for m in maps[len(topology.maps) :])
    made = [
        trim_point(
            heads,
            replace(
                point,
                channels=point.channels + more,
                operations=tuple(sorted({*point.operations} - written[0] | own)),
                output=index,
            ),
        )
        for point, own, index in zip(points, written, outputs)
    ]
    return replace(architecture, topology=heads, points=tuple(made)).canonical
