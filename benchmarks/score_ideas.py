"""Scores of the training chain that were tried to beat `dtmc`, by family.

A score of a level is, unless an idea changes it, balance + view + width (:func:`nas.chain.scores.training_scores`) with
an unlimited width, as `dtmc` was before; a network has the mean over its levels. ``CHOSEN`` is `dtmc` now.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from population import HIGH, LOW

from nas.chain import training
from nas.representation.architecture import Architecture, params
from nas.representation.elements import Subnetwork
from nas.representation.topology import Topology
from nas.representation.wiring import active_pairs

Floats = NDArray[np.float64]
NATURAL = 0.04
"""Share of the high band (the upper half of all frequencies) in Fashion-MNIST; CIFAR-10 has 0.01, digits have 0.12."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """The learned operations of a level, as arrays of shape (operations,), and the graph of the level as numbers.

    Attributes
    ----------
    importance, gradient, high_signal, high_gradient : ndarray
        As in :class:`nas.chain.training.TrainedOperation`.
    kernel, pairs, sources, targets : ndarray
        Larger side of the kernel; connected pairs of active channels; active channels.
    reads, writes : ndarray
        Positions of the source and of the target map.
    weights : ndarray
        Weights of a pair of channels.
    fluctuation : ndarray
        Relative variance of the gradient's energy at the target that widths cause: 1/channels for each passage of a
        learned operation, times 5 behind an activation and 2 otherwise; parallel paths average.
    classifier : ndarray of bool
        Whether the operation writes the output.
    classes, macs, params : float
    path_entropy, effective_depth, gap, connectivity : float
        Of the random walk that follows the gradient's energy from the output to the image: entropy of its path;
        expected number of learned operations; spectral gap of the lazy walk that restarts at the output. Second
        smallest eigenvalue of the normalised Laplacian of the undirected graph.
    """

    importance: Floats
    gradient: Floats
    high_signal: Floats
    high_gradient: Floats
    kernel: Floats
    pairs: Floats
    sources: Floats
    targets: Floats
    reads: Floats
    writes: Floats
    weights: Floats
    fluctuation: Floats
    classifier: NDArray[np.bool_]
    classes: float
    macs: float
    params: float
    path_entropy: float
    effective_depth: float
    gap: float
    connectivity: float


def levels_of(
    architecture: Architecture, *, image: float = 0.5, loss: float = 0.5, through: Collection[str] = ()
) -> list[Level]:
    """All levels. image, loss: share of the high band in the image, and in the gradient at the output.

    through: kinds of operations without weights behind which an activation still acts.
    """
    topology, sizes = architecture.topology, params(architecture)
    levels = []
    for point, macs, size in zip(architecture.points, architecture.costs, sizes):
        links = _carried(topology, training._links(topology, point), through)
        levels.append(_level(architecture, point, links, image, loss, macs, size))
    return levels


def _carried(topology: Topology, links: list[training._Link], kinds: Collection[str]) -> list[training._Link]:
    """Links that also read through an activation if all operations that write their source carry it on.

    Operations of these kinds carry the activation of their source.
    """
    activated = [feature_map.activation != "none" for feature_map in topology.maps]
    writers: dict[int, list[training._Link]] = {}
    for link in links:
        writers.setdefault(link.target, []).append(link)
    for target, written in writers.items():
        operations = [topology.operations[link.operation] for link in written]
        activated[target] |= any(training.ACTIVATIONS & set(operation.after) for operation in operations)
        activated[target] |= all(o.kind in kinds and activated[o.source] for o in operations)
    return [link._replace(activated=link.activated or activated[link.source]) for link in links]


def _level(
    architecture: Architecture,
    point: Subnetwork,
    links: list[training._Link],
    image: float,
    loss: float,
    macs: float,
    size: float,
) -> Level:
    topology = architecture.topology
    maps = len(topology.maps)
    forward, backward = training._Waves(maps, start=0), training._Waves(maps, start=point.output)
    forward.high_shares[0], backward.high_shares[0] = image, loss
    signals = training._signals(links, forward)
    gradients = training._gradients(links, signals, backward)
    learned, counts = list(signals), topology.active(point)
    pairs = dict(zip(point.operations, active_pairs(topology, point)))
    operations = [topology.operations[o] for o in learned]
    energy = np.array([gradients[o][0] for o in learned])
    passed = {link.operation: _passed(link, signals, gradients, backward) for link in links}
    walk = _walk(links, passed, maps, point.output)
    fluctuation = _fluctuations(links, passed, counts, maps)
    return Level(
        importance=_shares(np.sqrt(energy)),
        gradient=energy,
        high_signal=np.array([signals[o][1] for o in learned]),
        high_gradient=np.array([gradients[o][1] for o in learned]),
        kernel=np.array([max(o.kernel, default=1) for o in operations], dtype=float),
        pairs=np.array([pairs[o] for o in learned], dtype=float),
        sources=np.array([counts[o.source] for o in operations], dtype=float),
        targets=np.array([counts[o.target] for o in operations], dtype=float),
        reads=np.array([math.prod(topology.maps[o.source].size) for o in operations], dtype=float),
        writes=np.array([math.prod(topology.maps[o.target].size) for o in operations], dtype=float),
        weights=np.array([topology.weights_per_pair[o] for o in learned], dtype=float),
        fluctuation=np.array([fluctuation[o.target] for o in operations]),
        classifier=np.array([o.target == point.output for o in operations]),
        classes=counts[point.output],
        macs=macs,
        params=size,
        **walk,
    )


def _shares(values: Floats) -> Floats:
    return values / values.sum()


def _passed(link, signals, gradients, waves) -> float:
    """Energy of the gradient that a link passes back to its source."""
    if link.learned:
        growth = (training.GROWTH if link.activated else 1.0) / (signals[link.operation][0] if link.normed else 1.0)
        return gradients[link.operation][0] * growth
    energy, high = waves.power(link.target)
    return energy * ((1 - high) * link.low**2 + high * link.high**2)


def _fluctuations(links, passed: dict[int, float], counts: list[int], maps: int) -> Floats:
    """Relative variance of the gradient's energy at every map, shape (maps,)."""
    total, variance = np.zeros(maps), np.zeros(maps)
    for link in links:
        total[link.source] += passed[link.operation]
    for link in reversed(links):
        own = (5 if link.activated else 2) / counts[link.source] if link.learned else 0
        share = passed[link.operation] / total[link.source]
        variance[link.source] += share**2 * (variance[link.target] + own)
    return variance


def _walk(links, passed: dict[int, float], maps: int, output: int) -> dict[str, float]:
    """The numbers of the graph, see :class:`Level`."""
    total, visits, move, near = np.zeros(maps), np.zeros(maps), np.zeros((maps, maps)), np.zeros((maps, maps))
    for link in links:
        total[link.target] += passed[link.operation]
        near[link.source, link.target] += 1
        near[link.target, link.source] += 1
    visits[output], depth, entropy = 1.0, 0.0, 0.0
    for link in reversed(links):
        probability = passed[link.operation] / total[link.target]
        visits[link.source] += visits[link.target] * probability
        move[link.target, link.source] += probability
        depth += visits[link.target] * probability * link.learned
        entropy -= visits[link.target] * probability * math.log(probability)
    live = np.flatnonzero(visits)
    move[0, output] = 1.0
    move, near = move[np.ix_(live, live)], near[np.ix_(live, live)]
    degree = near.sum(axis=0)
    eigenvalues = np.sort(np.abs(np.linalg.eigvals((np.eye(len(live)) + move) / 2)))
    symmetric = np.linalg.eigvalsh(near / np.sqrt(np.outer(degree, degree)))
    return {
        "path_entropy": entropy,
        "effective_depth": depth,
        "gap": float(1 - eigenvalues[-2]),
        "connectivity": float(1 - symmetric[-2]),
    }


def entropy(shares: Floats) -> float:
    """Entropy of shares that sum to 1, in nats."""
    return float(-(shares * np.log(shares)).sum())


def binary(shares: Floats) -> Floats:
    """Entropy of (share, 1 − share), in nats."""
    rest = 1 - shares
    return -shares * np.log(np.maximum(shares, 1e-300)) - rest * np.log(np.maximum(rest, 1e-300))


def balance(level: Level) -> float:
    """Entropy of the training importances."""
    return entropy(level.importance)


def bands(level: Level) -> Floats:
    """Effective numbers of bands of signal and gradient, multiplied."""
    return np.exp(binary(level.high_signal) + binary(level.high_gradient))


def view(level: Level, importance: Floats | None = None, factor: float | Floats = 1.0) -> float:
    """Logarithm of the kernels' reach times the numbers of bands, weighted by importance."""
    shares = level.importance if importance is None else importance
    return math.log(float((shares * (level.kernel + 1) / 2 * bands(level) * factor).sum()))


def width(level: Level) -> float:
    """Mean logarithm of the pairs of channels."""
    return float(np.log(level.pairs).mean())


def score(level: Level) -> float:
    """The score of a level without any change."""
    return balance(level) + view(level) + width(level)


def _of_importance(values: Callable[[Level], Floats]) -> Callable[[Level], float]:
    """The score with other training importances, proportional to the values."""

    def changed(level: Level) -> float:
        shares = _shares(values(level))
        return entropy(shares) + view(level, shares) + width(level)

    return changed


def _of_width(term: Callable[[Level], float]) -> Callable[[Level], float]:
    """The score with another width term."""
    return lambda level: balance(level) + view(level) + term(level)


def _plus(term: Callable[[Level], float]) -> Callable[[Level], float]:
    return lambda level: score(level) + term(level)


def _limited(values: Floats, limit: Floats | float) -> Floats:
    """Values that saturate at a limit."""
    return 1 / (1 / values + 1 / limit)


def associations(level: Level) -> Floats:
    """Positions × classes²: the pairs of class means that the weights of an operation can associate."""
    return level.writes * level.classes**2


def capped(level: Level) -> float:
    """Width term with at most :func:`associations` pairs; the classifier has no limit."""
    limit = np.where(level.classifier, np.inf, associations(level))
    return float(np.log(np.minimum(level.pairs, limit)).mean())


def octaves(level: Level) -> Floats:
    """Number of octaves of spatial frequency that a map resolves."""
    return 1 + np.log2(level.reads) / 2


def _mean(of: Callable[[Level], float]) -> Callable[[list[Level]], float]:
    return lambda levels: float(np.mean([of(level) for level in levels]))


def harmonic(of: Callable[[Level], float], sharpness: float = 1.0) -> Callable[[list[Level]], float]:
    """−log of the mean over levels of exp(−score): errors are inverse to exp(score), and are averaged."""

    def mean_error(levels: list[Level]) -> float:
        scores = np.array([of(level) for level in levels])
        return float(-np.log(np.mean(np.exp(-sharpness * scores))) / sharpness)

    return mean_error


def _intervals(levels: list[Level]) -> Floats:
    """The shares of the log-MACs range from LOW to HIGH in which each level is the best that is affordable."""
    edges = np.log(np.clip([*(level.macs for level in levels), HIGH], LOW, HIGH))
    shares = np.diff(edges)
    return _shares(np.maximum(shares, 1e-9))


def _by_budget(of: Callable[[Level], float]) -> Callable[[list[Level]], float]:
    return lambda levels: float(np.dot(_intervals(levels), [of(level) for level in levels]))


def _by_budget_harmonic(levels: list[Level]) -> float:
    errors = np.exp(-np.array([score(level) for level in levels]))
    return float(-np.log(np.dot(_intervals(levels), errors)))


def _agreement(levels: list[Level]) -> float:
    """Mean over neighbouring levels of the logarithm of the overlap of their weights, 0 for one level."""
    overlaps = [math.log(a.pairs.sum() / b.pairs.sum()) / 2 for a, b in pairwise(levels)]
    return float(np.mean(overlaps)) if overlaps else 0.0


SATURATED = _of_width(lambda v: float(np.log(_limited(v.pairs, associations(v))).mean()))
CAPPED = _of_width(capped)

OF_LEVELS: dict[str, Callable[[Level], float]] = {
    "terms: balance": balance,
    "terms: view": view,
    "terms: width": width,
    "terms: balance + view": lambda v: balance(v) + view(v),
    "terms: balance + width": lambda v: balance(v) + width(v),
    "terms: view + width": lambda v: view(v) + width(v),
    "terms: balance + log of parameters": lambda v: balance(v) + math.log(v.params),
    "terms: view + log of parameters": lambda v: view(v) + math.log(v.params),
    "width: weighted by importance": _of_width(lambda v: float((v.importance * np.log(v.pairs)).sum())),
    "width: log of the weighted mean": _of_width(lambda v: math.log((v.importance * v.pairs).sum())),
    "width: pairs × positions": _of_width(lambda v: float(np.log(v.pairs * v.writes).mean())),
    "width: pairs × √positions": _of_width(lambda v: float(np.log(v.pairs * np.sqrt(v.writes)).mean())),
    "width: log of all pairs": _of_width(lambda v: math.log(v.pairs.sum())),
    "width: log of parameters": _of_width(lambda v: math.log(v.params)),
    "width: smaller of the channels": _of_width(lambda v: float(np.log(np.minimum(v.sources, v.targets)).mean())),
    "width: √(source × target channels)": _of_width(lambda v: float(np.log(v.sources * v.targets).mean() / 2)),
    "width: half": _of_width(lambda v: width(v) / 2),
    "width: entropy over weights": lambda v: (
        view(v) + balance(v) + float((v.importance * np.log(v.pairs * v.weights)).sum())
    ),
    "width: Rényi entropy ½ over pairs": lambda v: view(v) + 2 * math.log(np.sqrt(v.importance * v.pairs).sum()),
    "width: sum of gradient norms × pairs": lambda v: view(v) + math.log((np.sqrt(v.gradient) * v.pairs).sum()),
    "width: sum of √pairs": lambda v: view(v) + 2 * math.log(np.sqrt(v.pairs).sum()),
    "width: and half the log of MACs": _plus(lambda v: math.log(v.macs) / 2),
    "fluctuations: minus their mean": _plus(lambda v: -float((v.importance * v.fluctuation).sum())),
    "fluctuations: minus the largest": _plus(lambda v: -float(v.fluctuation.max())),
    "fluctuations: minus log of 1 + the largest": _plus(lambda v: -math.log1p(v.fluctuation.max())),
    "fluctuations: damp the importance": _of_importance(lambda v: v.importance * np.exp(-v.fluctuation / 4)),
    "fluctuations: minus sum of 1/channels": _plus(lambda v: -float((1 / v.targets).sum())),
    "gap: plus log, gradient": _plus(lambda v: math.log(max(v.gap, 1e-9))),
    "gap: minus log, gradient": _plus(lambda v: -math.log(max(v.gap, 1e-9))),
    "gap: plus log, Laplacian": _plus(lambda v: math.log(max(v.connectivity, 1e-9))),
    "gap: minus log, Laplacian": _plus(lambda v: -math.log(max(v.connectivity, 1e-9))),
    "paths: plus entropy": _plus(lambda v: v.path_entropy),
    "paths: plus log of effective depth": _plus(lambda v: math.log(v.effective_depth)),
    "paths: minus log of effective depth": _plus(lambda v: -math.log(v.effective_depth)),
    "resolution: octaves in the view": lambda v: balance(v) + view(v, factor=octaves(v)) + width(v),
    "resolution: plus log of octaves": _plus(lambda v: float((v.importance * np.log(octaves(v))).sum())),
    "resolution: plus log of positions": _plus(lambda v: float((v.importance * np.log(v.reads)).sum())),
    "resolution: plus log of √positions": _plus(lambda v: float((v.importance * np.log(v.reads)).sum() / 2)),
    "resolution: reach within the map": lambda v: (
        balance(v) + width(v) + view(v, factor=(np.minimum(v.kernel, np.sqrt(v.reads)) + 1) / (v.kernel + 1))
    ),
    "resolution: balance over bands": lambda v: (
        balance(v)
        + float((v.importance * binary(v.high_gradient)).sum())
        + view(v, factor=np.exp(-binary(v.high_gradient)))
        + width(v)
    ),
    "importance: of weight gradients": _of_importance(lambda v: np.sqrt(v.gradient * v.sources * v.kernel**2)),
    "importance: energy": _of_importance(lambda v: v.gradient),
    "importance: fourth root of energy": _of_importance(lambda v: v.gradient**0.25),
    "importance: equal": _of_importance(lambda v: np.ones_like(v.gradient)),
    "importance: per position": _of_importance(lambda v: np.sqrt(v.gradient / v.writes)),
    "importance: times positions": _of_importance(lambda v: np.sqrt(v.gradient * v.writes)),
    "limit of pairs: classes": _of_width(lambda v: float(np.log(_limited(v.pairs, v.classes)).mean())),
    "limit of pairs: classes²": _of_width(lambda v: float(np.log(_limited(v.pairs, v.classes**2)).mean())),
    "limit of pairs: classes³": _of_width(lambda v: float(np.log(_limited(v.pairs, v.classes**3)).mean())),
    "limit of pairs: positions × classes": _of_width(
        lambda v: float(np.log(_limited(v.pairs, v.writes * v.classes)).mean())
    ),
    "limit of pairs: positions²": _of_width(lambda v: float(np.log(_limited(v.pairs, v.writes**2)).mean())),
    "limit of pairs: positions × classes²": SATURATED,
    "limit of pairs: hard, positions × classes²": _of_width(
        lambda v: float(np.log(np.minimum(v.pairs, associations(v))).mean())
    ),
    "limit of pairs: hard, without the classifier": CAPPED,
    "limit of pairs: positions of the source": _of_width(
        lambda v: float(np.log(_limited(v.pairs, v.reads * v.classes**2)).mean())
    ),
    "limit of channels: classes": _of_width(
        lambda v: float(np.log(_limited(v.pairs / v.targets, v.classes) * _limited(v.targets, v.classes)).mean())
    ),
    "limit of channels: classes, target only": _of_width(
        lambda v: float(np.log(v.pairs / v.targets * _limited(v.targets, v.classes)).mean())
    ),
    "limit of channels: positions": _of_width(
        lambda v: float(np.log(_limited(v.pairs / v.targets, v.reads) * _limited(v.targets, v.writes)).mean())
    ),
    "limit of channels: positions × classes": _of_width(
        lambda v: float(
            np.log(
                _limited(v.pairs / v.targets, v.reads * v.classes) * _limited(v.targets, v.writes * v.classes)
            ).mean()
        )
    ),
    "limit of rank: positions × classes": _of_width(
        lambda v: float(2 * np.log(_limited(_limited(v.pairs / v.targets, v.targets), v.writes * v.classes)).mean())
    ),
}
ALSO = (
    "terms: balance + width",
    "resolution: plus log of octaves",
    "importance: of weight gradients",
    "importance: fourth root of energy",
    "importance: equal",
    "importance: per position",
    "fluctuations: minus log of 1 + the largest",
    "paths: plus log of effective depth",
)
"""Ideas that were also tried on top of a limit of pairs and the harmonic mean over levels."""


def _both(of: Callable[[Level], float]) -> Callable[[list[Level]], float]:
    return harmonic(lambda level: of(level) - width(level) + SATURATED(level) - balance(level) - view(level))


OF_NETWORKS: dict[str, Callable[[list[Level]], float]] = {
    "levels: largest": lambda levels: score(levels[-1]),
    "levels: smallest": lambda levels: score(levels[0]),
    "levels: by budget": _by_budget(score),
    "levels: harmonic mean": harmonic(score),
    "levels: harmonic mean of roots": harmonic(score, 0.5),
    "levels: harmonic mean by budget": _by_budget_harmonic,
    "levels: plus agreement of weights": lambda levels: _mean(score)(levels) + _agreement(levels),
    "levels: minus agreement of weights": lambda levels: _mean(score)(levels) - _agreement(levels),
    "both: limit of pairs, smallest level": lambda levels: min(map(SATURATED, levels)),
    "both: limit of pairs, harmonic mean": harmonic(SATURATED),
    "both: hard limit without the classifier, harmonic mean": harmonic(CAPPED),
    **{f"both, and {name}": _both(OF_LEVELS[name]) for name in ALSO},
    "control: parameters, harmonic mean": harmonic(lambda v: math.log(v.params)),
    "control: parameters, smallest level": lambda levels: math.log(levels[0].params),
}
BEFORE, CHOSEN = "dtmc before", "limit of pairs: hard, without the classifier"
OTHERS = ("levels: harmonic mean", "both: hard limit without the classifier, harmonic mean")
"""What the tuning halves also favoured, and the report halves did not confirm."""
SPECTRA = {
    "spectrum: of natural images": {"image": NATURAL},
    "spectrum: of images and loss": {"image": NATURAL, "loss": NATURAL},
}
THROUGH = {
    "activations: act behind identities": ("identity",),
    "activations: act behind identities and average poolings": ("identity", "avg_pool"),
    "activations: act behind identities and all poolings": ("identity", "avg_pool", "max_pool"),
}
"""Tried with the limit of pairs of ``CHOSEN``."""


def terms(architecture: Architecture) -> list[float]:
    """What a surrogate knows of an architecture.

    Means over levels of the score's terms, with limited width, and of sizes; width and parameters of level 0.
    """
    levels = levels_of(architecture)
    of_level = (balance, view, capped, lambda v: math.log(v.params), lambda v: math.log(v.macs))
    return [*(_mean(of)(levels) for of in of_level), capped(levels[0]), math.log(levels[0].params)]


def surrogate(
    trained: Sequence[Architecture], results: Floats, strength: float = 1.0
) -> Callable[[Architecture], float]:
    """Ridge regression of results on :func:`terms`. strength: weight of the penalty, relative to the data."""
    known = np.array([terms(architecture) for architecture in trained])
    centre, spread = known.mean(axis=0), known.std(axis=0)
    scaled = (known - centre) / spread
    gram = scaled.T @ scaled + strength * len(known) * np.eye(len(centre))
    weights = np.linalg.solve(gram, scaled.T @ (results - results.mean()))
    return lambda architecture: float((np.array(terms(architecture)) - centre) / spread @ weights)


def ideas(architecture: Architecture) -> dict[str, float]:
    """The scores of an architecture by all ideas."""
    levels = levels_of(architecture)
    values = {BEFORE: _mean(score)(levels)}
    values |= {name: _mean(of)(levels) for name, of in OF_LEVELS.items()}
    values |= {name: of(levels) for name, of in OF_NETWORKS.items()}
    values |= {name: _mean(score)(levels_of(architecture, **spectrum)) for name, spectrum in SPECTRA.items()}
    values |= {name: _mean(CAPPED)(levels_of(architecture, through=kinds)) for name, kinds in THROUGH.items()}
    return values
