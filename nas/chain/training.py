"""The training chain: the signal from the input and the gradient from the output of a network before training.

Signal and gradient have two bands of spatial frequency, low and high. A learned operation draws a new signal with the
power that it reads, and a new gradient likewise. Skips add, average poolings damp the high band, strides of learned
operations fold it onto the low band, so that their signal is white; norms set the power of the signal and divide the
gradient by it.

Notes
-----
Without copies of one signal that meet in a sum, the energy of the gradient is a Markov chain over (operation, band): it
moves against the direction of the operations and is absorbed at the image. Copies that meet add their amplitudes, which
is quadratic and no Markov chain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from nas.representation.elements import DROPOUT, STEPS, Subnetwork
from nas.representation.gates import scale_factor
from nas.representation.kinds import kind
from nas.representation.topology import Topology

WHITENED = (math.pi - 2) / (2 * (math.pi - 1))
"""Share of the variance of a ReLU's output, on Gaussian input, that is not linear in the input; taken as white."""
GROWTH = math.pi / (math.pi - 1)
"""Growth of the gradient's energy through a ReLU behind a norm."""

ACTIVATIONS = frozenset(STEPS) - {"norm", DROPOUT}


class TrainedOperation(NamedTuple):
    """A learned operation in the chain of a subnetwork.

    Attributes
    ----------
    operation : int
        Index in the topology.
    power : float
        Power of the signal that it reads, a mean over channels and positions; 1 at the image.
    high_signal : float
        Share of the high band in this power.
    gradient : float
        Energy of the gradient at its target, a sum over channels and positions; 1 at the output.
    high_gradient : float
        Share of the high band in this energy.
    importance : float
        Training importance: its share in the sum of the gradients' norms.
    """

    operation: int
    power: float
    high_signal: float
    gradient: float
    high_gradient: float
    importance: float


class TrainedMap(NamedTuple):
    """A feature map in the chain of a subnetwork.

    Attributes
    ----------
    map : int
        Index in the topology.
    power : float
        Power of the signal, a mean over channels and positions; 1 at the image.
    high_signal : float
        Share of the high band in this power.
    gradient : float
        Energy of the gradient, a sum over channels and positions; 1 at the output.
    high_gradient : float
        Share of the high band in this energy.
    """

    map: int
    power: float
    high_signal: float
    gradient: float
    high_gradient: float


class TrainingFlow(NamedTuple):
    """Signal and gradient of a subnetwork at all of its parts.

    Attributes
    ----------
    maps : tuple of TrainedMap
        The live maps, in topological order.
    norms : dict
        Live operation → norm of the gradient that it passes back or, if it is learned, receives: the square root of an
        energy. Their shares in the sum over learned operations are the training importances.
    """

    maps: tuple[TrainedMap, ...]
    norms: dict[int, float]


def training_flow(topology: Topology, point: Subnetwork) -> TrainingFlow:
    """Signal and gradient at all live maps, and the gradient through all live operations.

    Parameters
    ----------
    topology : Topology
    point : Subnetwork

    Returns
    -------
    TrainingFlow

    Notes
    -----
    The chain of :func:`training_chain`, with the same cost.
    """
    links, maps = _links(topology, point), len(topology.maps)
    forward, backward = _Waves(maps, start=0), _Waves(maps, start=point.output)
    _gradients(links, _signals(links, forward), backward)
    live = sorted({0, *(link.target for link in links)})
    trained = {m: TrainedMap(m, *forward.power(m), *backward.power(m)) for m in live}
    norms = {}
    for link in links:
        at = trained[link.target]
        passed = (1 - at.high_gradient) * link.low**2 + at.high_gradient * link.high**2
        norms[link.operation] = math.sqrt(at.gradient * passed)
    return TrainingFlow(maps=tuple(trained.values()), norms=norms)


def training_chain(topology: Topology, point: Subnetwork) -> tuple[TrainedOperation, ...]:
    """The learned operations of a subnetwork, with the signal and the gradient that reach them.

    Parameters
    ----------
    topology : Topology
    point : Subnetwork

    Returns
    -------
    tuple of TrainedOperation
        In topological order.

    Notes
    -----
    O(V + E), if few signals meet: each map holds the amplitudes of all signals that reach it without a learned
    operation in between.
    """
    links, maps = _links(topology, point), len(topology.maps)
    signals = _signals(links, _Waves(maps, start=0))
    gradients = _gradients(links, signals, _Waves(maps, start=point.output))
    norms = {o: math.sqrt(energy) for o, (energy, _) in gradients.items()}
    total = sum(norms.values())
    return tuple(TrainedOperation(o, *signals[o], *gradients[o], norms[o] / total) for o in signals)


def depends_on_widths(topology: Topology) -> bool:
    """Whether subnetworks with equal operations may differ in :func:`training_chain`."""
    return any(feature_map.merge == "concat" or feature_map.scale != "none" for feature_map in topology.maps)


class _Waves:
    """Signals or gradients at maps: source → amplitudes in the low and the high band, and the spectrum of each source.

    Copies of one source add their amplitudes; different sources are independent, so that their powers add.
    """

    def __init__(self, maps: int, start: int):
        self.at: list[dict[int, tuple[float, float]]] = [{} for _ in range(maps)]
        self.high_shares: list[float] = []
        self.begin(start, 1.0, 0.5)

    def begin(self, at: int, amplitude: float, high_share: float) -> None:
        """Add a new source to a map."""
        self.at[at][len(self.high_shares)] = amplitude, amplitude
        self.high_shares.append(high_share)

    def move(self, source: int, target: int, low: float, high: float) -> None:
        """Add the waves at a map, times a factor in each band, to another map."""
        waves = self.at[target]
        if not waves and low == high == 1.0:
            waves.update(self.at[source])
            return
        for origin, (a, b) in self.at[source].items():
            c, d = waves.get(origin, (0.0, 0.0))
            waves[origin] = c + low * a, d + high * b

    def power(self, at: int) -> tuple[float, float]:
        """Power at a map, and the share of the high band in it."""
        low = high = 0.0
        for origin, (a, b) in self.at[at].items():
            share = self.high_shares[origin]
            low += a * a * (1.0 - share)
            high += b * b * share
        return low + high, high / (low + high)


class _Link(NamedTuple):
    """An operation in the chain.

    low, high: factors of the amplitudes. normed: whether the power of its output is independent of its input.
    activated: whether it reads through an activation. folded: whether it is learned and has a stride.
    """

    operation: int
    source: int
    target: int
    learned: bool
    low: float
    high: float
    normed: bool
    activated: bool
    folded: bool


def _links(topology: Topology, point: Subnetwork) -> list[_Link]:
    """The operations of a subnetwork, sorted by their targets."""
    operations, weights = topology.operations, topology.weights_per_pair
    factors = _factors(topology, point) if depends_on_widths(topology) else {}
    activated = [feature_map.activation != "none" for feature_map in topology.maps]
    links = []
    for o in sorted(point.operations, key=topology.targets.__getitem__):
        operation = operations[o]
        before, after, factor = operation.before, operation.after, factors.get(o, 1.0)
        if after and not ACTIVATIONS.isdisjoint(after):
            activated[operation.target] = True
        if weights[o]:
            normed = "norm" in before or "norm" in after
            bent = activated[operation.source] or not ACTIVATIONS.isdisjoint(before)
            folded = max(operation.stride, default=1) > 1
            links.append(_Link(o, operation.source, operation.target, True, factor, factor, normed, bent, folded))
        else:
            high = factor * kind(operation.kind).high_gain(operation)
            links.append(_Link(o, operation.source, operation.target, False, factor, high, False, False, False))
    return links


def _factors(topology: Topology, point: Subnetwork) -> dict[int, float]:
    """Operation → factor of its amplitudes, from its share in a concat and from the scale of its target."""
    counts, live, factors = topology.active(point), set(point.operations), {}
    for index, feature_map in enumerate(topology.maps):
        writers = [o for o in topology.incoming[index] if o in live]
        if not writers or (feature_map.merge == "sum" and feature_map.scale == "none"):
            continue
        scale = scale_factor(topology, index, counts[index], len(writers))
        for o in writers:
            share = counts[topology.operations[o].source] / counts[index] if feature_map.merge == "concat" else 1.0
            factors[o] = scale * math.sqrt(share)
    return factors


def _signals(links: Sequence[_Link], waves: _Waves) -> dict[int, tuple[float, float]]:
    """Learned operation → power that it reads, and share of the high band in it."""
    signals = {}
    for o, source, target, learned, low, high, normed, activated, folded in links:
        if learned:
            power, share = signals[o] = waves.power(source)
            amplitude = low if normed else low * math.sqrt(power)
            waves.begin(target, amplitude, 0.5 if folded else _whitened(share) if activated else share)
        else:
            waves.move(source, target, low, high)
    return signals


def _gradients(
    links: Sequence[_Link], signals: dict[int, tuple[float, float]], waves: _Waves
) -> dict[int, tuple[float, float]]:
    """Learned operation → energy of the gradient at its output, and share of the high band in it."""
    gradients = {}
    for o, source, target, learned, low, high, normed, activated, _ in reversed(links):
        if learned:
            energy, share = waves.power(target)
            gradients[o] = energy * low * low, share
            growth = (GROWTH if activated else 1.0) / (signals[o][0] if normed else 1.0)
            waves.begin(source, low * math.sqrt(energy * growth), _whitened(share) if activated else share)
        else:
            waves.move(target, source, low, high)
    return gradients


def _whitened(high_share: float) -> float:
    """The share of the high band behind a ReLU."""
    return high_share + WHITENED * (0.5 - high_share)
