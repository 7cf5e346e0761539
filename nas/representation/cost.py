"""Exact cost of operating points, without torch. The "FLOPs" of the papers are multiply-accumulate operations (MACs).

Only weights cost MACs: skips, poolings, norms, activations and biases cost none.
"""

from __future__ import annotations

from operator import mul

from nas.representation.elements import Subnetwork
from nas.representation.kinds import kind
from nas.representation.topology import Topology
from nas.representation.wiring import active_pairs


def subnetwork_macs(topology: Topology, point: Subnetwork) -> int:
    """MACs of one example through a subnetwork."""
    each = map(topology.macs_per_pair.__getitem__, point.operations)
    return sum(map(mul, each, active_pairs(topology, point)))


def subnetwork_params(topology: Topology, point: Subnetwork) -> int:
    """Parameters of a subnetwork: live weights, biases, and two per normalised channel."""
    counts = topology.active(point)
    total = sum(live_weights(topology, point))
    for o in point.operations:
        operation = topology.operations[o]
        total += operation.bias * counts[operation.target]
        total += 2 * counts[operation.source] * operation.before.count("norm")
        total += 2 * counts[operation.target] * operation.after.count("norm")
    return total


def subnetwork_depth(topology: Topology, point: Subnetwork) -> int:
    """Number of learned operations on the longest path of a subnetwork."""
    longest = [0] * len(topology.maps)
    for operation in sorted((topology.operations[o] for o in point.operations), key=lambda operation: operation.target):
        steps = longest[operation.source] + kind(operation.kind).learned
        longest[operation.target] = max(longest[operation.target], steps)
    return longest[point.output]


def live_weights(topology: Topology, point: Subnetwork) -> list[int]:
    """Weights of each operation of a subnetwork, without biases, in the order of ``point.operations``."""
    each = map(topology.weights_per_pair.__getitem__, point.operations)
    return list(map(mul, each, active_pairs(topology, point)))
