"""Exact cost of operating points, without torch. The "FLOPs" of the papers are multiply-accumulate operations (MACs).

Only weights cost MACs: skips, poolings, norms, activations and biases cost none.
"""

from __future__ import annotations

from nas.representation.elements import Subnetwork
from nas.representation.kinds import kind
from nas.representation.topology import Topology
from nas.representation.wiring import pairs


def subnetwork_macs(topology: Topology, point: Subnetwork) -> int:
    """MACs of one example through a subnetwork."""
    counts = topology.active(point)
    total = 0
    operations, each = topology.operations, topology.macs_per_pair
    for o in point.operations:
        if each[o]:
            total += each[o] * pairs(topology, operations[o], point, counts)
    return total


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
    counts, each, operations = topology.active(point), topology.weights_per_pair, topology.operations
    return [each[o] * pairs(topology, operations[o], point, counts) if each[o] else 0 for o in point.operations]
