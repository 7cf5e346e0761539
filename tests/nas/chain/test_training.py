"""The training chain: worked values, closed forms, a dense oracle, relabelling, and networks at random weights."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.chain.scores import training_scores
from nas.chain.training import GROWTH, WHITENED, TrainedOperation, training_chain, training_flow
from nas.execution.layers import Layer
from nas.execution.network import AnytimeNetwork
from nas.proxies.dtmc import dtmc
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import STEPS, Task
from nas.representation.gates import scale_factor
from nas.representation.kinds import kind

from ..random_networks import architectures

TASK = Task(input_shape=(3, 8, 8), num_classes=10)
NR = ("norm", "relu")


def plain(convolutions: int, after: tuple[str, ...] = NR, widths=(8,), levels: int = 1) -> Architecture:
    """Convolutions one after the other."""
    b = Builder(TASK)
    x = b.input
    for _ in range(convolutions):
        x = b.conv(x, widths, after=after)
    b.head(x)
    return b.architecture(levels)


def pre_activated(convolutions: int, skips: bool, width: int = 8, task: Task = TASK) -> Architecture:
    """Stem, convolutions that read through a ReLU, each with an identity beside it, and a head with norm and ReLU."""
    b = Builder(task)
    x = b.conv(b.input, (width,), after=("norm",))
    for _ in range(convolutions):
        y = b.conv(x, (width,), before=("relu",), after=("norm",))
        if skips:
            b.identity(x, y)
        x = y
    b.head(x, before=NR)
    return b.architecture(1)


def blocks(count: int, width: int = 8, task: Task = TASK) -> Architecture:
    """Stem, and blocks of two convolutions with an identity and a ReLU after the sum."""
    b = Builder(task)
    x = b.conv(b.input, (width,), after=NR)
    for _ in range(count):
        y = b.conv(b.conv(x, (width,), after=NR), (width,), after=("norm",), activation="relu")
        x = b.identity(x, y)
    b.head(x)
    return b.architecture(1)


def pooled() -> Architecture:
    b = Builder(TASK)
    x = b.conv(b.input, (8,), after=("norm",))
    y = b.map((8,))
    b.add("avg_pool", x, y, kernel=2, stride=2, padding=0)
    b.head(b.conv(y, (16,), kernel=1, after=NR))
    return b.architecture(1)


def depthwise() -> Architecture:
    b = Builder(TASK)
    x = b.depthwise(b.conv(b.input, (8,), after=NR), kernel=3, after=NR)
    b.head(b.conv(x, (16,), kernel=1, after=("norm",)))
    return b.architecture(1)


def strided() -> Architecture:
    b = Builder(TASK)
    b.head(b.conv(b.conv(b.input, (8,), after=NR), (16,), stride=2, after=NR))
    return b.architecture(1)


WORKED = {
    "1 convolution": (plain(1), 6.264947),
    "2 convolutions": (plain(2), 6.910881),
    "3 convolutions": (plain(3), 7.309005),
    "6 convolutions": (plain(6), 7.969919),
    "without norms": (plain(3, ("relu",)), 7.309005),
    "pre-activated": (pre_activated(2, False), 7.309005),
    "identities": (pre_activated(2, True), 7.288691),
    "4 with identities": (pre_activated(4, True), 7.763342),
    "1 block": (blocks(1), 7.299085),
    "3 blocks": (blocks(3), 8.098105),
    "average pooling": (pooled(), 6.948263),
    "depthwise": (depthwise(), 7.008258),
    "stride": (strided(), 7.372980),
}


@pytest.mark.parametrize("name", WORKED)
def test_worked_values(name: str) -> None:
    architecture, score = WORKED[name]
    assert training_scores(architecture) == pytest.approx((score,), abs=5e-7)
    assert dtmc(architecture) == training_scores(architecture)[0]


def test_the_score_of_a_network_is_the_mean_over_its_levels() -> None:
    architecture = plain(3, widths=(4, 8, 12), levels=3)
    scores = training_scores(architecture)
    alone = [training_scores(replace(architecture, points=(point,)))[0] for point in architecture.points]
    assert scores == pytest.approx(alone, abs=1e-14)
    assert dtmc(architecture) == pytest.approx(sum(scores) / 3, abs=1e-14)


@pytest.mark.parametrize("width", [4, 8, 12, 16, 100])
def test_pairs_of_channels_beyond_the_associations_do_not_count(width: int) -> None:
    """Two classes, 4×4 positions: 16 · 2² = 64 associations. The classifier, with 2 pairs a channel, has no limit."""

    def score(channels: int) -> float:
        b = Builder(Task(input_shape=(3, 4, 4), num_classes=2))
        b.head(b.conv(b.conv(b.input, channels, after=NR), channels, after=NR))
        return dtmc(b.architecture(1))

    expected = math.log(min(3 * width, 64) / 3) + math.log(min(width**2, 64)) + math.log(width)
    assert score(width) - score(1) == pytest.approx(expected / 3)


def chain(architecture: Architecture, level: int = -1) -> tuple[TrainedOperation, ...]:
    return training_chain(architecture.topology, architecture.points[level])


@pytest.mark.parametrize("convolutions", [1, 2, 5, 40])
def test_gradients_of_a_plain_chain_grow_geometrically(convolutions: int) -> None:
    *trained, linear = chain(plain(convolutions))
    expected = [GROWTH ** (convolutions - 1 - k) for k in range(convolutions)]
    assert [t.gradient for t in trained] == pytest.approx(expected)
    assert (linear.gradient, linear.power) == (1, 1)
    assert {t.high_signal for t in trained} | {t.high_gradient for t in trained} == {0.5}
    root, n = math.sqrt(GROWTH), convolutions
    total = 1 + (root**n - 1) / (root - 1)
    assert [t.importance for t in trained] == pytest.approx([root ** (n - 1 - k) / total for k in range(n)])


@pytest.mark.parametrize("depth", [1, 3, 30, 300])
def test_gradients_of_a_residual_stack_are_a_ratio_of_gamma_functions(depth: int) -> None:
    """A map after k blocks has power k + 1; the gradient grows there by the factor 1 + e / (k + 1)."""
    stem, *trained, _ = chain(pre_activated(depth, True))
    assert [t.power for t in trained] == pytest.approx([k + 1 for k in range(depth)])

    def log_growth(k: int) -> float:
        return math.lgamma(k + 1 + GROWTH) - math.lgamma(k + 1)

    first = [stem.gradient, *(t.gradient for t in trained)]
    expected = [math.exp(log_growth(depth) - log_growth(k)) for k in range(depth + 1)]
    assert [g / first[-1] for g in first] == pytest.approx(expected)


def test_importance_in_a_deep_residual_stack_falls_by_a_power_of_the_depth() -> None:
    """As depth → ∞, √g of block k falls like k^(−e/2): no geometric decay, so that all blocks are trained."""
    trained = chain(pre_activated(2000, True))
    exponent = math.log(trained[1000].importance / trained[2000].importance) / math.log(2)
    assert exponent == pytest.approx(GROWTH / 2, abs=2e-3)


def test_shares_of_the_high_band() -> None:
    """Average pooling damps the high band, signal and gradient alike; a ReLU moves both towards white."""
    conv, mixer, _ = chain(pooled())
    damped = (1 / 4) / (1 + 1 / 4)
    assert (mixer.power, mixer.high_signal) == pytest.approx((5 / 8, damped))
    assert conv.high_gradient == pytest.approx(damped)
    b = Builder(TASK)
    x = b.conv(b.input, (8,), after=("norm",))
    y = b.map((8,), activation="relu")
    b.add("avg_pool", x, y, kernel=2, stride=2, padding=0)
    b.head(b.conv(b.conv(y, (16,), after=("norm",)), (16,), after=("norm",)))
    _, _, after, _ = chain(b.architecture(1))
    assert after.high_signal == pytest.approx((1 - WHITENED) * damped + WHITENED / 2)


def test_the_signal_behind_a_stride_is_white() -> None:
    b = Builder(TASK)
    x = b.conv(b.input, (8,), after=("norm",))
    y = b.map((8,))
    b.add("avg_pool", x, y, kernel=3, stride=1, padding=1)
    for stride in (1, 2):
        y = b.conv(y, (8,), stride=stride, after=("norm",))
    b.head(b.conv(y, (8,), after=("norm",)))
    _, *after, last, _ = chain(b.architecture(1))
    assert [t.high_signal for t in after] == pytest.approx([0.1, 0.1])
    assert last.high_signal == 0.5


@pytest.mark.parametrize("pooling", ["max_pool", "avg_pool"])
def test_a_relu_in_front_of_a_pooling_is_not_read_behind_it(pooling: str) -> None:
    """Only the steps of an operation, and merge and writers of its source count: docs/evidence/training-chain.md."""

    def gradient(after: tuple[str, ...]) -> float:
        b = Builder(TASK)
        x = b.conv(b.input, 8, after=after)
        pooled = b.add(pooling, x, b.map(8), kernel=2, stride=2, padding=0)
        b.head(b.conv(pooled, 8, after=NR))
        return chain(b.architecture(1))[0].gradient

    assert gradient(NR) == gradient(("norm",))


def test_importances_are_shares() -> None:
    for architecture, _ in WORKED.values():
        trained = chain(architecture)
        assert sum(t.importance for t in trained) == pytest.approx(1)
        roots = [math.sqrt(t.gradient) for t in trained]
        assert [t.importance for t in trained] == pytest.approx([root / sum(roots) for root in roots])


@given(architectures())
@settings(max_examples=40, deadline=None)
def test_maps_and_operations_of_the_flow_are_those_of_the_chain(architecture: Architecture) -> None:
    topology, point = architecture.topology, architecture.points[-1]
    flow, trained = training_flow(topology, point), training_chain(topology, point)
    maps = {each.map: each for each in flow.maps}
    total = sum(flow.norms[t.operation] for t in trained)
    assert sorted(flow.norms) == list(point.operations)
    for t in trained:
        source = maps[topology.operations[t.operation].source]
        assert (source.power, source.high_signal) == (t.power, t.high_signal)
        assert flow.norms[t.operation] / total == pytest.approx(t.importance)
    assert (maps[point.output].gradient, maps[point.output].high_gradient) == (1, 0.5)
    assert (maps[0].power, maps[0].high_signal) == (1, 0.5)


# Oracle ----------------------------------------------------------------------------------------------------------


def dense_chain(architecture: Architecture, level: int) -> dict[int, tuple[float, float, float, float]]:
    """The same numbers from matrices: column j of (1 − S)⁻¹ has the amplitudes at all maps of a source at map j.

    S: operations without weights, one matrix for each band.
    """
    topology, point = architecture.topology, architecture.points[level]
    maps, count, live = topology.maps, len(topology.maps), set(point.operations)
    active = topology.active(point)
    gain, steps = {}, np.zeros((2, count, count))
    for o in live:
        operation = topology.operations[o]
        target = maps[operation.target]
        writers = [w for w in topology.incoming[operation.target] if w in live]
        gain[o] = scale_factor(topology, operation.target, active[operation.target], len(writers))
        if target.merge == "concat":
            gain[o] *= (active[operation.source] / active[operation.target]) ** 0.5
        if not kind(operation.kind).learned:
            steps[0, operation.target, operation.source] += gain[o]
            damped = math.prod(operation.kernel) ** -0.5 if operation.kind == "avg_pool" else 1
            steps[1, operation.target, operation.source] += gain[o] * damped
    reach = np.linalg.inv(np.eye(count) - steps)
    learned = sorted((o for o in live if kind(topology.operations[o].kind).learned), key=lambda o: _target(topology, o))
    bent = {o: _reads_through_an_activation(topology, live, o) for o in learned}

    def powers(at: int, starts: list, ends: np.ndarray) -> tuple[float, float]:
        bands = [sum((amplitude * ends[band, at, m]) ** 2 * (h if band else 1 - h) for m, amplitude, h in starts)
                 for band in (0, 1)]  # fmt: skip
        return sum(bands), bands[1] / sum(bands)

    signals, starts = {}, [(0, 1.0, 0.5)]
    for o in learned:
        operation = topology.operations[o]
        signals[o] = power, high = powers(operation.source, starts, reach)
        normed = "norm" in (*operation.before, *operation.after)
        white = (1 - WHITENED) * high + WHITENED / 2 if bent[o] else high
        white = 0.5 if set(operation.stride) - {1} else white
        starts.append((operation.target, gain[o] * (1 if normed else power**0.5), white))
    gradients, starts = {}, [(point.output, 1.0, 0.5)]
    for o in reversed(learned):
        operation = topology.operations[o]
        energy, high = powers(operation.target, starts, reach.transpose(0, 2, 1))
        gradients[o] = energy * gain[o] ** 2, high
        normed = "norm" in (*operation.before, *operation.after)
        white = (1 - WHITENED) * high + WHITENED / 2 if bent[o] else high
        passed = gradients[o][0] * (GROWTH if bent[o] else 1) / (signals[o][0] if normed else 1)
        starts.append((operation.source, passed**0.5, white))
    return {o: (*signals[o], *gradients[o]) for o in learned}


def _target(topology, o: int) -> int:
    return topology.operations[o].target


def _reads_through_an_activation(topology, live: set[int], o: int) -> bool:
    activations, operation = set(STEPS) - {"norm"}, topology.operations[o]
    steps = set(operation.before) | {topology.maps[operation.source].activation}
    for writer in topology.incoming[operation.source]:
        if writer in live:
            steps |= set(topology.operations[writer].after)
    return bool(steps & activations)


@given(architectures())
@settings(max_examples=150, deadline=None)
def test_the_chain_agrees_with_dense_matrices(architecture: Architecture) -> None:
    for level in range(len(architecture.points)):
        dense = dense_chain(architecture, level)
        trained = chain(architecture, level)
        assert sorted(dense) == sorted(t.operation for t in trained)
        for t in trained:
            assert (t.power, t.high_signal, t.gradient, t.high_gradient) == pytest.approx(dense[t.operation], rel=1e-9)


@given(architectures(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_score_does_not_depend_on_the_order_of_operations(architecture: Architecture, random) -> None:
    topology = architecture.topology
    if any(m.merge == "concat" for m in topology.maps):
        return  # the order of the operations into a concat is the order of its channels
    order = list(range(len(topology.operations)))
    random.shuffle(order)
    place = {o: index for index, o in enumerate(order)}
    operations = tuple(topology.operations[o] for o in order)
    points = tuple(replace(p, operations=tuple(sorted(place[o] for o in p.operations))) for p in architecture.points)
    other = replace(architecture, topology=replace(topology, operations=operations), points=points)
    assert training_scores(other) == pytest.approx(training_scores(architecture), rel=1e-9)


def with_maps_reordered(architecture: Architecture, random) -> Architecture:
    """The same network with its maps in another topological order."""
    topology = architecture.topology
    sources = [{topology.operations[o].source for o in writers} for writers in topology.incoming]
    order = [0]
    while len(order) < len(sources):
        order.append(random.choice([m for m, read in enumerate(sources) if m not in order and read <= set(order)]))
    place = {m: index for index, m in enumerate(order)}
    other = replace(
        topology,
        maps=tuple(topology.maps[m] for m in order),
        operations=tuple(replace(o, source=place[o.source], target=place[o.target]) for o in topology.operations),
        gated=tuple(
            replace(module, components=tuple(tuple(sorted(place[m] for m in c)) for c in module.components))
            for module in topology.gated
        ),
    )
    points = []
    for point in architecture.points:
        channels = {place[m]: count for m, count in zip(topology.declared, point.channels)}
        points.append(replace(point, channels=tuple(channels[m] for m in other.declared), output=place[point.output]))
    return replace(architecture, topology=other, points=tuple(points))


@given(architectures(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_score_does_not_depend_on_the_order_of_maps(architecture: Architecture, random) -> None:
    other = with_maps_reordered(architecture, random)
    assert training_scores(other) == pytest.approx(training_scores(architecture), rel=1e-9)
    for one, two in zip(architecture.points, other.points):
        trained, again = (sorted(training_chain(a.topology, p)) for a, p in ((architecture, one), (other, two)))
        assert np.array(trained) == pytest.approx(np.array(again))


# Networks with random weights ------------------------------------------------------------------------------------


def measured(architecture: Architecture, *, images: int = 64) -> tuple[dict[int, float], dict[int, float]]:
    """Variance of the map that each convolution reads, and energy of the gradient behind its norm.

    Energies are relative to the last convolution but one: a global pooling gives the last one a gradient that is equal
    at all positions, of which a norm removes the mean.
    """
    torch.manual_seed(0)
    network, variances, outputs = AnytimeNetwork(architecture).train(), {}, {}

    def watch(o: int, layer: Layer) -> None:
        def keep_variance(_, inputs) -> None:
            variances[o] = float(inputs[0].detach().var((0, 2, 3)).mean())

        def keep_output(_, inputs, output) -> None:
            output.retain_grad()
            outputs[o] = output

        layer.register_forward_pre_hook(keep_variance)
        layer.after.register_forward_hook(keep_output)

    for o, layer in enumerate(network.operation_layers):
        if layer.after is not None:
            watch(o, layer)
    logits = network(torch.randn(images, *architecture.task.input_shape))
    logits.backward(torch.randn(logits.shape))
    energies = {o: float(output.grad.square().sum()) for o, output in outputs.items()}
    del energies[max(energies)]
    return variances, {o: energy / energies[max(energies)] for o, energy in energies.items()}


WIDE = Task(input_shape=(3, 8, 8), num_classes=100)


@pytest.mark.parametrize(
    "architecture",
    [pre_activated(6, True, 64, WIDE), pre_activated(6, False, 64, WIDE), blocks(3, 64, WIDE)],
    ids=["identities", "plain", "blocks"],
)
def test_gradients_agree_with_networks_of_random_weights(architecture: Architecture) -> None:
    """Within 5 % for each layer: the chain has no borders of images, no finite widths and no means over a batch."""
    _, energies = measured(architecture)
    trained = {t.operation: t for t in chain(architecture)}
    last = trained[max(energies)].gradient
    for layers, (o, energy) in enumerate(sorted(energies.items(), reverse=True)):
        assert math.log(trained[o].gradient / last) == pytest.approx(math.log(energy), abs=0.05 * layers + 1e-9)
    assert max(energies.values()) > 3


def test_powers_agree_with_networks_of_random_weights() -> None:
    architecture = pre_activated(6, True, 64, WIDE)
    variances, _ = measured(architecture)
    for t in chain(architecture)[1:-1]:
        assert variances[t.operation] == pytest.approx(t.power, rel=0.1)
