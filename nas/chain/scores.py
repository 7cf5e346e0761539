"""Scores of an architecture by its Markov chains: the training chain, and random walks over its operating points."""

from __future__ import annotations

import math
from operator import mul

from nas.chain.training import TrainedOperation, depends_on_widths, training_chain
from nas.representation.architecture import Architecture
from nas.representation.cost import live_weights
from nas.representation.elements import Subnetwork
from nas.representation.topology import Topology
from nas.representation.wiring import active_pairs


def training_scores(architecture: Architecture) -> tuple[float, ...]:
    """Score of each level by its training chain.

    Parameters
    ----------
    architecture : Architecture
        Any architecture.

    Returns
    -------
    tuple of float
        One value per level. 0.0 for a level without learned operations.

    Notes
    -----
    With the training importance p of each learned operation, the shares h and γ of the high band in its signal and
    gradient, κ the larger side of its kernel, C its connected pairs of active channels, A its number of associations,
    and n(x) the exponential of the entropy of (x, 1 − x), the effective number of bands::

        −Σ p ln p  +  ln Σ p · (κ + 1)/2 · n(h) · n(γ)  +  mean of ln min(C, A)

    The terms: how evenly the operations are trained, how much of the image the trained operations see and in how many
    bands, and how wide they are. A is the number of positions that an operation writes times the square of the number
    of classes: at a position it can associate the mean signal of each class with the mean gradient of each class, and
    pairs of channels beyond that have nothing else to learn. The classifier, which writes the output, has no limit.
    The score is ours; nothing in it is fitted.

    O(V + E) per level; levels with the same operations share the chain.
    """
    topology = architecture.topology
    widths = depends_on_widths(topology)
    chains: dict[object, tuple[float, int, list[float]]] = {}
    levels = []
    for point in architecture.points:
        key = point if widths else (point.operations, point.output)
        if key not in chains:
            chain = training_chain(topology, point)
            chains[key] = _balance_and_view(topology, chain), len(chain), _associations(topology, point)
        terms, learned, most = chains[key]
        pairs = filter(None, map(min, active_pairs(topology, point), most))
        levels.append(terms + sum(map(math.log, pairs)) / learned if learned else 0.0)
    return tuple(levels)


def _associations(topology: Topology, point: Subnetwork) -> list[float]:
    """Positions × classes² of each operation of a subnetwork; unlimited if it writes the output."""
    classes = topology.maps[point.output].channels
    targets = map(topology.targets.__getitem__, point.operations)
    return [math.inf if t == point.output else topology.positions[t] * classes**2 for t in targets]


def _balance_and_view(topology: Topology, chain: tuple[TrainedOperation, ...]) -> float:
    """The first two terms of :func:`training_scores`."""
    balance = view = 0.0
    for o, _, high_signal, _, high_gradient, importance in chain:
        reach = (max(topology.operations[o].kernel, default=1) + 1) / 2
        balance -= importance * math.log(importance)
        view += importance * reach * math.exp(_entropy(high_signal) + _entropy(high_gradient))
    return balance + math.log(view) if chain else 0.0


def _entropy(share: float) -> float:
    """Entropy of (share, 1 − share), in nats."""
    return -share * math.log(share) - (1 - share) * math.log1p(-share) if 0 < share < 1 else 0.0


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
