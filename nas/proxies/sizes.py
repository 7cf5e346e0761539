"""Sizes of an architecture as proxies: the controls that every other proxy must beat."""

from __future__ import annotations

import math
from statistics import fmean

from nas.proxies.contract import proxy
from nas.representation.architecture import Architecture
from nas.representation.architecture import params as params_of
from nas.representation.cost import subnetwork_depth
from nas.representation.kinds import kind

SIZE_PROXIES = ("macs", "params", "depth", "count")
"""The names of the sizes."""


@proxy("topology")
def macs(architecture: Architecture) -> float:
    """Log of the MACs, mean over levels."""
    return fmean(math.log(max(1, cost)) for cost in architecture.costs)


@proxy("topology")
def params(architecture: Architecture) -> float:
    """Log of the parameters of a level's subnetwork, mean over levels."""
    return fmean(math.log(max(1, size)) for size in params_of(architecture))


@proxy("topology")
def depth(architecture: Architecture) -> float:
    """Number of learned operations on the longest path of the largest operating point."""
    return float(subnetwork_depth(architecture.topology, architecture.points[-1]))


@proxy("topology")
def count(architecture: Architecture) -> float:
    """Number of live learned operations, mean over levels."""
    learned = [kind(operation.kind).learned for operation in architecture.topology.operations]
    return sum(learned[o] for point in architecture.points for o in point.operations) / len(architecture.points)
