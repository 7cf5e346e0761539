"""Throttleable networks: costs by hand, and what each utilization switches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.rules.random_utilization import RandomUtilization
from evaluators.training import Training
from nas.errors import InvalidArchitecture, UserError
from nas.evaluation.jobs import Job
from nas.execution.layers import Layer, Norm
from nas.execution.masked import nested_gates
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.elements import Task
from nas.representation.gates import distinct_utilizations, throttled
from search_spaces.throttleable import IN_GROUPS, Throttleable, c3d, densenet, resnet, resnext, spread_utilizations, vgg

SMALL = Task(input_shape=(3, 8, 8), num_classes=5)
FRAMES = Task(input_shape=(2, 4, 8, 8), num_classes=5)
NETWORKS: dict[str, Callable[..., Architecture]] = {
    "vgg": lambda **rest: vgg(4, (1, 2), 4, **{"task": SMALL} | rest),
    "c3d": lambda **rest: c3d(4, (1, 2), 4, **{"task": FRAMES} | rest),
    "resnet": lambda **rest: resnet(4, (2, 2), **{"task": SMALL} | rest),
    "resnext": lambda **rest: resnext(8, (1, 2), 2, 6, 3, **{"task": SMALL} | rest),
    "densenet": lambda **rest: densenet(3, (3, 3), **{"task": SMALL} | rest),
}
"""Small ones, with a distinct subnetwork for each of four points."""
every_network = pytest.mark.parametrize("name", NETWORKS)


def _costs(architecture: Architecture) -> list[int]:
    """MACs at every distinct utilization."""
    topology, largest = architecture.topology, architecture.points[-1]
    return list(
        architecture.with_points([throttled(topology, u, largest) for u in distinct_utilizations(topology)]).costs
    )


def test_macs_of_a_vgg_equal_the_sum_of_its_layers() -> None:
    """With c of n components on, a layer between gated ones costs (c / n)² of itself; the first and the last, c / n."""
    inner, size, channels = 0, 32, 64
    for stage, (multiple, depth) in enumerate(((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))):
        for layer in range(depth):
            if stage + layer:
                inner += size**2 * 9 * channels * 64 * multiple
            channels = 64 * multiple
        size //= 2
    inner += 2 * 512 * 512
    ends = 32**2 * 9 * 3 * 64 + 512 * 10
    assert _costs(vgg()) == [inner * c * c // 64 + ends * c // 8 for c in range(1, 9)]


@every_network
def test_with_norms_of_their_own_points_train_in_groups(name: str) -> None:
    architecture = NETWORKS[name](norm="recalibrated")
    assert (architecture.norm, architecture.topology) == ("recalibrated", NETWORKS[name]().topology)
    assert dict(architecture.training.settings) == IN_GROUPS
    with pytest.raises(UserError, match=r"norm policy.*per_point.*recalibrated"):
        NETWORKS[name](norm="per_point")


def test_proposals_train_all_points_from_the_start() -> None:
    """Successive halving judges them after a part of the training."""
    first = Throttleable().architecture(lambda name, options: options[0], SMALL)
    assert (first.norm, dict(first.training.settings)) == ("shared", {})
    last = Throttleable().architecture(lambda name, options: options[-1 if name == "norm" else 0], SMALL)
    assert (last.norm, dict(last.training.settings)) == ("recalibrated", {"groups": 4, "soft": True})


@pytest.mark.parametrize(("scale", "factor"), [("mean", 1 / 2), ("full", 3 / 2)])
def test_outputs_of_dense_layers_are_multiplied_by_1_or_n_over_c(scale: str, factor: float) -> None:
    """By what the head reads: the input of the block is not scaled."""
    make = partial(densenet, 3, (3,), task=SMALL, utilizations=(0.0, 0.3, 0.6, 1.0))
    (plain, x), (scaled, _) = (_network(make(scale=each)) for each in ("none", scale))
    scaled_layers = [layer for layer in scaled.operation_layers if layer.weight is not None]
    layers = [layer for layer in plain.operation_layers if layer.weight is not None]
    for one, two in zip(layers, scaled_layers, strict=True):
        two.load_state_dict(one.state_dict())
    seen: list[Tensor] = []
    for network in (plain, scaled):
        pooling = next(each for each in network.operation_layers if each.operation.kind == "global_avg_pool")
        pooling.register_forward_pre_hook(lambda _, read: seen.append(read[0]))
        network.set_utilization(0.5)  # two of three layers
        network(x)
    torch.testing.assert_close(seen[1][:, :6], seen[0][:, :6])
    torch.testing.assert_close(seen[1][:, 6:9], factor * seen[0][:, 6:9])
    every = torch.tensor([0.0, 0.3, 0.6, 1.0]).double()
    masked = scaled.forward_gated(x[:4], nested_gates(scaled.architecture.topology, every))
    for sample, utilization in enumerate(every.tolist()):
        scaled.set_utilization(utilization)
        torch.testing.assert_close(masked[sample], scaled(x[sample : sample + 1])[0])


def test_a_resnet_at_utilization_0_has_only_skips() -> None:
    stem, head = 32 * 32 * 9 * 3 * 16, 64 * 10
    shortcuts = 16 * 16 * 16 * 32 + 8 * 8 * 32 * 64
    costs = _costs(resnet())
    assert costs[0] == stem + shortcuts + head
    block = 2 * 32 * 32 * 9 * 16 * 16
    first = 8 * 8 * 9 * (32 * 64 + 64 * 64), 16 * 16 * 9 * (16 * 32 + 32 * 32), block
    assert [b - a for a, b in pairwise(costs)] == [*first, *[block] * 6]


def test_the_paths_of_a_resnext_cost_the_same_each() -> None:
    costs = _costs(resnext(64, (1,), 4, 8, 4))
    path = 32 * 32 * (2 * 64 * 4 + 9 * 4 * 4)
    assert costs == [32 * 32 * 9 * 3 * 64 + 64 * 10 + 2 * c * path for c in range(5)]


def test_macs_of_a_densenet_count_active_layers_only() -> None:
    costs = _costs(densenet(4, (3,)))
    layers = [32 * 32 * ((8 + 4 * i) * 16 + 9 * 16 * 4) for i in range(3)]
    assert [b - a for a, b in pairwise(costs)] == layers
    assert costs[0] == 32 * 32 * 9 * 3 * 8 + (8 + 3 * 4) * 10  # the classifier reads one vector, zero if it is off


def test_c3d_is_vgg_over_frames() -> None:
    topology = c3d().topology
    kernels = {o.kernel for o in topology.operations if o.kind == "conv"}
    assert kernels == {(3, 3, 3)}
    assert [m.size for m in topology.maps if m.size][:3] == [(16, 112, 112), (16, 112, 112), (16, 56, 56)]
    assert {m.scale for m in topology.maps} == {"none"}


@every_network
def test_points_are_utilizations(name: str) -> None:
    architecture = NETWORKS[name](utilizations=(0.3, 1.0))
    topology, largest = architecture.topology, architecture.points[-1]
    assert architecture.points == tuple(throttled(topology, u, largest) for u in (0.3, 1.0))
    assert (architecture.norm, architecture.training.rule) == ("shared", "random_utilization")


@pytest.mark.parametrize("always", [0, 1, 2])
@every_network
def test_components_that_are_always_on(name: str, always: int) -> None:
    chain = name in ("vgg", "c3d")
    first = 0.2 if chain and not always else 0.0
    architecture = NETWORKS[name](always=always, utilizations=(first, 1.0))
    topology, largest = architecture.topology, architecture.points[-1]
    on = [u for u in distinct_utilizations(topology) if throttled(topology, u, largest).operations]
    costs = architecture.with_points([throttled(topology, u, largest) for u in on]).costs
    least = _costs(NETWORKS[name]())
    assert costs[-1] == least[-1]
    assert len(costs) == len(least) - max(always, chain) + chain


def test_a_chain_goes_down_to_zero_components_and_then_answers_zero() -> None:
    """The components of the released C3D at some utilizations, of eight."""
    network = c3d(8, (1, 2), 8, task=FRAMES, always=0)
    module = network.topology.gated[0]
    assert [module.on(u) for u in (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1)] == [0, 0, 2, 4, 6, 8, 8]
    assert min(network.costs) > 0
    anytime, x = _network(network)
    utilizations = (0.0, 0.1, 0.2, 0.5)
    gates = nested_gates(network.topology, torch.tensor(utilizations).double())
    masked = anytime.forward_gated(x[:4], gates)
    for sample, utilization in enumerate(utilizations):
        macs = anytime.set_utilization(utilization)
        answer = anytime(x[sample : sample + 1])[0]
        torch.testing.assert_close(masked[sample], answer)
        with torch.no_grad():
            torch.testing.assert_close(anytime(x[sample : sample + 1])[0], answer)
        assert (macs == 0) == (utilization < 1 / 9) == (not answer.any())
    anytime.set_utilization(0.0)
    with pytest.raises(UserError, match="Images must have shape"):
        anytime(x[:, :1])
    with pytest.raises(InvalidArchitecture, match=r"Got the utilization 0.05: begin at 0.111"):
        vgg(8, (1, 2), 8, task=SMALL, always=0, utilizations=(0.05, 1.0))


def test_groups_without_components_do_not_learn() -> None:
    architecture = vgg(4, (1,), 4, task=SMALL, always=0, norm="recalibrated")
    network = AnytimeNetwork(architecture).train()
    rule = RandomUtilization(groups=3, soft=True)
    x, labels = torch.randn(6, *SMALL.input_shape), torch.arange(6) % 5
    losses = list(rule.losses(network, x, labels, torch.Generator().manual_seed(0)))
    assert 1 < len(losses) < 4  # the first group is at utilization 0
    assert all(loss.requires_grad for loss in losses)


def test_dropout_in_training_only() -> None:
    architecture = vgg(4, (1, 2), 4, task=SMALL, normed="none", dropout=True)
    steps = [o.after for o in architecture.topology.operations if o.kind == "linear"]
    assert steps == [("relu", "dropout"), ("relu", "dropout"), ()]
    network, x = _network(architecture)
    plain, _ = _network(vgg(4, (1, 2), 4, task=SMALL, normed="none"))
    torch.testing.assert_close(network(x, 2), plain(x, 2))
    torch.testing.assert_close(network.extract(2)(x), plain(x, 2))
    assert not torch.equal(network.train()(x, 2), network(x, 2))
    with torch.no_grad():  # as for a teacher, and for the statistics of norms
        torch.testing.assert_close(network(x, 2), plain(x, 2))
    dropped: list[Tensor] = []
    hidden = next(layer for layer in network.operation_layers if layer.operation.kind == "linear")
    hidden.register_forward_hook(lambda _, read, out: dropped.append(out))
    network(x.repeat(50, 1, 1, 1), 3)
    network.eval()(x.repeat(50, 1, 1, 1), 3)
    kept, whole = dropped
    assert float((kept[whole > 0] == 0).double().mean()) == pytest.approx(0.5, abs=0.05)
    torch.testing.assert_close(kept[(kept > 0)], 2 * whole[kept > 0])


def test_a_training_with_dropout_continues_exactly_and_leaves_global_randomness_alone(tmp_path: Path) -> None:
    task = Task(input_shape=(1, 8, 8), num_classes=10)
    job = Job(
        candidate=1,
        architecture=vgg(4, (1,), 4, task=task, dropout=True).to_json(),
        seed=2,
        epochs=2,
        until=2,
        images=100,
        folder=str(tmp_path / "whole"),
    )
    before = torch.get_rng_state()
    whole = Training("digits").evaluate(job, lambda epoch: None)
    assert torch.equal(torch.get_rng_state(), before)
    parts = replace(job, folder=str(tmp_path / "parts"))
    Training("digits").evaluate(replace(parts, until=1), lambda epoch: None)
    torch.rand(3)
    assert Training("digits").evaluate(parts, lambda epoch: None).points == whole.points


def test_components_of_stages_and_norms_as_in_the_released_c3d() -> None:
    network = c3d(
        32,
        task=Task(input_shape=(3, 4, 16, 16), num_classes=5),
        components=(1, 16, 32, 32, 32, 16),
        always=0,
        normed="first",
    )
    assert [len(module.components) for module in network.topology.gated] == [16, 32, 32, 32, 32, 32, 32, 16, 16]
    learned = [o for o in network.topology.operations if o.kind in ("conv", "linear")]
    assert ["norm" in o.after for o in learned] == [True] + [False] * 10
    assert [o.bias for o in learned] == [False] + [True] * 10
    first = {network.topology.maps[learned[0].target].channels}
    assert {dict(zip(network.topology.declared, p.channels))[learned[0].target] for p in network.points} == first
    plain = vgg(4, (1, 2), 4, task=SMALL, normed="none")
    assert not any("norm" in (*o.before, *o.after) for o in plain.topology.operations)
    for wrong, message in (
        ({"components": (4, 4)}, "one for each of the 2 stages"),
        ({"components": (1, 1, 1)}, "not all 1"),
        ({"components": 1}, "above 1"),
        ({"components": 2.5}, "must divide the width"),
        ({"dropout": "no"}, "dropout must be true or false"),
        ({"normed": "last"}, "Unknown choice of layers with a norm 'last'"),
    ):
        with pytest.raises(UserError, match=message):
            vgg(4, (1, 2), task=SMALL, **wrong)


@pytest.mark.parametrize(
    "make",
    [
        lambda: vgg(10, components=4),
        lambda: vgg(16, components=0),
        lambda: vgg(16, components=4.0),
        lambda: resnext(cardinality=8, components=3),
        lambda: vgg(16, ()),
        lambda: vgg(16, (1,) * 6),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(UserError, match=r"divide|one to five"):
        make()


def test_utilizations_that_are_one_subnetwork_are_refused() -> None:
    with pytest.raises(InvalidArchitecture, match="must grow in MACs"):
        vgg(utilizations=(0.0, 0.1, 1.0))


@pytest.mark.parametrize("points", range(1, 9))
def test_spread_utilizations_end_at_1(points: int) -> None:
    utilizations = spread_utilizations(points)
    assert len(set(utilizations)) == points
    assert utilizations[-1] == 1.0
    assert points == 1 or utilizations[0] == 0.0


# As torch modules ------------------------------------------------------------------------------------------------


def _network(architecture: Architecture, count: int = 6) -> tuple[AnytimeNetwork, Tensor]:
    """In double precision, with norms and biases that are not at rest, and images."""
    generator = torch.Generator().manual_seed(5)
    network = AnytimeNetwork(architecture, generator=generator).double()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, Norm):
                for tensor in (module.weight, module.bias, module.mean, module.var):
                    tensor.add_(0.3 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
    return network.eval(), torch.randn(count, *architecture.task.input_shape, generator=generator, dtype=torch.float64)


@every_network
def test_the_masked_path_of_a_sample_is_the_skipping_path(name: str) -> None:
    utilizations = distinct_utilizations(NETWORKS[name]().topology)
    network, x = _network(NETWORKS[name](), len(utilizations))
    masked = network.forward_gated(x, nested_gates(network.architecture.topology, torch.tensor(utilizations).double()))
    for sample, utilization in enumerate(utilizations):
        network.set_utilization(utilization)
        torch.testing.assert_close(masked[sample], network(x[sample : sample + 1])[0])
    assert masked.std(0).min() > 1e-3


@every_network
def test_only_active_components_get_gradients(name: str) -> None:
    network, x = _network(NETWORKS[name]())
    topology, network = network.architecture.topology, network.train()
    for utilization in distinct_utilizations(topology):
        network.zero_grad()
        gates = nested_gates(topology, torch.full((len(x),), utilization, dtype=torch.float64))
        network.forward_gated(x, gates).square().sum().backward()
        counts = topology.active(throttled(topology, utilization, network.architecture.points[-1]))
        for layer in network.operation_layers:
            if layer.weight is not None:
                on = counts[layer.operation.target] if counts[layer.operation.source] else 0
                assert layer.weight.grad is not None
                assert not layer.weight.grad[on:].any()
                assert all(row.any() for row in layer.weight.grad[:on])


@pytest.mark.parametrize("name", ["vgg", "c3d", "resnext"])
def test_utilization_1_without_normalisation_is_the_network_without_gates(name: str) -> None:
    gated = NETWORKS[name](scale="none")
    plain = replace(gated, topology=replace(gated.topology, gated=()), points=gated.points[-1:])
    (network, x), (other, _) = _network(gated), _network(plain)
    assert torch.equal(network(x), other(x))
    full, _ = _network(NETWORKS[name](scale="full"))
    assert torch.equal(network(x), full(x))


@pytest.mark.parametrize(("scale", "factor"), [("mean", 1 / 3), ("full", 4 / 3)])
def test_values_are_multiplied_by_1_or_n_over_c(scale: str, factor: float) -> None:
    (plain, x), (scaled, _) = (_network(NETWORKS["vgg"](scale=s)) for s in ("none", scale))
    inputs: list[list[Tensor]] = [[], []]
    for network, seen in zip((plain, scaled), inputs):
        network.operation_layers[1].register_forward_pre_hook(lambda _, read, seen=seen: seen.append(read[0]))
        network.set_utilization(0.5)  # three of four components
        network(x)
    torch.testing.assert_close(inputs[1][0], factor * inputs[0][0])


def test_a_resnet_at_utilization_0_computes_only_its_skips() -> None:
    network, x = _network(NETWORKS["resnet"]())
    layers = {(layer.operation.kernel, layer.operation.stride): layer for layer in network.operation_layers}

    def normed(layer: Layer, value: Tensor, stride: int) -> Tensor:
        norm, value = layer.after, F.conv2d(value, layer.weight, stride=stride, padding=layer.operation.padding)
        assert norm is not None
        return F.relu(F.batch_norm(value, norm.mean[0], norm.var[0], norm.weight[0], norm.bias[0]))

    value = normed(network.operation_layers[0], x, 1)
    value = normed(layers[(1, 1), (2, 2)], value, 2)
    head = network.operation_layers[-1]
    network.set_utilization(0.0)
    torch.testing.assert_close(network(x), F.linear(value.mean((2, 3)), head.weight, head.bias))


def test_a_block_of_a_resnext_is_the_sum_of_its_paths() -> None:
    """Each path separately, with its own three convolutions, beside the stream."""
    network, x = _network(resnext(8, (1,), 2, 6, 3, task=SMALL, scale="none"))
    stem, first, middle, last, *_ = network.operation_layers

    def normed(norm: Norm | None, value: Tensor, part: slice = slice(None)) -> Tensor:
        assert norm is not None
        return F.relu(F.batch_norm(value, *(t[0][part] for t in (norm.mean, norm.var, norm.weight, norm.bias))))

    stream = F.conv2d(x, stem.weight, padding=1)
    total, read = stream, normed(first.before, stream)
    for component in range(3):
        part = slice(4 * component, 4 * component + 4)
        inner = normed(first.after, F.conv2d(read, first.weight[part]), part)
        inner = normed(middle.after, F.conv2d(inner, middle.weight[part], padding=1, groups=2), part)
        total = total + F.conv2d(inner, last.weight[:, part])
        pool, head = network.operation_layers[-2:]
        network.set_utilization((component + 1.5) / 4)
        expected = F.linear(normed(pool.before, total).mean((2, 3)), head.weight, head.bias)
        torch.testing.assert_close(network(x), expected)
