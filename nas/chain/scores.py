"""Scores of an architecture by random walks over its operating points."""

from __future__ import annotations

import math
from operator import mul

from nas.representation.architecture import Architecture
from nas.representation.cost import live_weights
from nas.representation.topology import Topology


def log_walk_weights(architecture: Architecture) -> tuple[float, ...]:
    """Logarithm of the expected number of weights of the operations on a random walk, per level.

    Parameters
    ----------
    architecture : Architecture
        Any architecture.

    Returns
    -------
    tuple of float
        One value per level. 0.0 for a level without weights, like for a level with one weight.

    Notes
    -----
    The walk is :func:`nas.chain.walks.flow`: it starts at the input, leaves every map by one of its live operations
    with equal probability, and ends at the output. So the weights of an operation count by its importance, the share of
    walks through it.

    O(V + E) per level; levels with the same operations share the walk.

    References
    ----------
    Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023
        (the chain). The weights on a walk are ours.
    """
    topology = architecture.topology
    shares_of: dict[tuple[tuple[int, ...], int], list[float]] = {}  # levels mostly run the same operations
    levels = []
    for point in architecture.points:
        key = (point.operations, point.output)
        if key not in shares_of:
            shares_of[key] = _shares(topology, point.operations)
        weights = live_weights(topology, point)
        levels.append(math.log(max(1.0, sum(map(mul, shares_of[key], weights)))))
    return tuple(levels)


def _shares(topology: Topology, live: tuple[int, ...]) -> list[float]:
    """The share of walks through each live operation of a subnetwork, in the order of ``live``."""
    operations = topology.operations
    leaving, visits = [0] * len(topology.maps), [0.0] * len(topology.maps)
    for o in live:
        leaving[operations[o].source] += 1
    visits[0] = 1.0
    shares = dict.fromkeys(live, 0.0)
    for o in sorted(live, key=lambda o: operations[o].target):
        operation = operations[o]
        shares[o] = share = visits[operation.source] / leaving[operation.source]
        visits[operation.target] += share
    return list(shares.values())
