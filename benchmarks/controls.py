"""The former default score, a control for newer proxies.

Usable like any proxy: ``nas search --proxy benchmarks/controls.py:learned_paths``.
"""

from __future__ import annotations

import math
from functools import cache

from nas.proxies.contract import proxy
from nas.representation.architecture import Architecture
from nas.representation.kinds import kind


@proxy("topology")
def learned_paths(architecture: Architecture) -> float:
    """Number of learned operations on all paths: mean over levels of log(paths × expected learned operations).

    Widths have no effect. About 10 µs for 35 operations if all levels run the same operations.
    """
    levels = log_learned_paths(architecture)
    return sum(levels) / len(levels)


def log_learned_paths(architecture: Architecture) -> tuple[float, ...]:
    """Logarithm of the number of learned operations on all input→output paths, per level.

    Equals log(number of paths × expected number of learned operations on a path of the path-uniform walk). A level
    without learned operations has 0.0, like a level with one learned operation.

    Notes
    -----
    One pass over the operations in topological order, in exact integers; levels with the same operations share it.
    """
    topology = architecture.topology

    @cache
    def log_learned(live: tuple[int, ...], output: int) -> float:
        paths, learned = [0] * len(topology.maps), [0] * len(topology.maps)
        paths[0] = 1
        for operation in sorted([topology.operations[o] for o in live], key=lambda operation: operation.target):
            source, target = operation.source, operation.target
            paths[target] += paths[source]
            learned[target] += learned[source] + (paths[source] if kind(operation.kind).learned else 0)
        return math.log(max(1, learned[output]))

    return tuple(log_learned(point.operations, point.output) for point in architecture.points)
