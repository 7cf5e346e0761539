"""Sliced networks: what each is by hand, and the theory that lets points share results."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas.errors import UserError
from nas.execution.layers import Layer, Norm
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture, macs, params
from nas.representation.elements import Subnetwork, Task
from nas.spaces.choices import Domains, Recorder, at_random
from search_spaces.slicing import TRANSITIONS, Slicing, i_resnext, sparse_resnext

TASK = Task(input_shape=(3, 8, 8), num_classes=5)
SMALL: dict[str, Any] = {
    "num_blocks": 2,
    "width": 12,
    "bottleneck": 2,
    "cardinality": 8,
    "levels": 4,
    "task": TASK,
}
both_modes = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
transitions = pytest.mark.parametrize("transition", TRANSITIONS)


def _network(architecture: Architecture, *, training: bool) -> AnytimeNetwork:
    """In double precision, with norms and biases that are not at rest."""
    generator = torch.Generator().manual_seed(5)
    network = AnytimeNetwork(architecture, generator=generator).double()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, Norm):
                for tensor in (module.weight, module.bias, module.mean, module.var):
                    tensor.add_(0.3 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
    return network.train(training)


def _images() -> Tensor:
    return torch.randn(6, *TASK.input_shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


def _width(architecture: Architecture, index: int, level: int) -> int:
    """Channels of a map in the slices up to a level; all of one with a single slice."""
    slices = architecture.topology.maps[index].slices
    return slices[min(level, len(slices) - 1)]


def _weights(num_blocks: int, w: int, b: int, c: int, levels: int, k: int, sparse: bool) -> Iterator[tuple[int, int]]:
    """(positions, weights) of everything learned at level k = 1 … levels, only from the formulas; 32×32 images."""
    shown = w * k // levels if sparse else w
    yield 32 * 32, 9 * 3 * shown
    for stage in range(3):
        inner, stream = b * 2**stage * c, w * 2**stage
        on = inner * k // levels
        one = stream * inner * k * (k + 1) // (2 * levels**2) if sparse else stream * on
        for _ in range(num_blocks):
            yield (32 >> stage) ** 2, one
            yield (32 >> stage) ** 2, 9 * on * b * 2**stage
            yield (32 >> stage) ** 2, one
    yield 1, 4 * shown * 10


def _norm_and_bias_params(num_blocks: int, w: int, b: int, c: int, levels: int, k: int, sparse: bool) -> int:
    shown = w * k // levels if sparse else w
    blocks = sum(2 * 2**stage * (shown + 2 * b * c * k // levels) for stage in range(3))
    return num_blocks * blocks + 2 * 4 * shown + 10


@pytest.mark.parametrize("sparse", [False, True], ids=["i_resnext", "sparse"])
@pytest.mark.parametrize("sizes", [(7, 64, 4, 8, 8), (7, 64, 4, 8, 4), (1, 12, 2, 8, 4)], ids=str)
def test_costs_are_those_of_the_formulas(sizes: tuple[int, ...], sparse: bool) -> None:
    architecture = (sparse_resnext if sparse else i_resnext)(*sizes)
    for level, (cost, count) in enumerate(zip(macs(architecture), params(architecture)), start=1):
        learned = list(_weights(*sizes, level, sparse))
        assert cost == sum(positions * weights for positions, weights in learned)
        assert count == sum(n for _, n in learned) + _norm_and_bias_params(*sizes, level, sparse)


def test_i_resnext_has_the_published_defaults() -> None:
    architecture = i_resnext()
    maps = architecture.topology.maps
    assert len(architecture.points) == 8
    assert [m.slices for m in maps if m.size == (8, 8)][1] == tuple(range(16, 129, 16))
    assert {(m.channels, m.size) for m in maps if len(m.slices) == 1 and m.size} == {
        (3, (32, 32)),
        (64, (32, 32)),
        (128, (16, 16)),
        (256, (8, 8)),
    }
    assert (architecture.norm, architecture.training.rule) == ("per_point", "joint")
    assert len({point.output for point in architecture.points}) == 8
    assert sum(operation.groups == 8 for operation in architecture.topology.operations) == 21


def test_costs_of_a_small_i_resnext_equal_a_count_by_hand() -> None:
    """One block a stage, four channels, one branch of one channel a level: all numbers fit on a card."""
    architecture = i_resnext(1, 4, 1, 2, 2, task=Task(input_shape=(1, 4, 4), num_classes=2))
    stem, head = 16 * 9 * 4, 16 * 2
    level_0 = 16 * (4 + 9 + 4) + 4 * (16 + 9 * 4 + 16) + 1 * (64 + 9 * 16 + 64)
    assert macs(architecture) == (stem + level_0 + head, stem + 2 * level_0 + head)
    norms = 2 * (4 + 1 + 1) + 2 * (8 + 2 + 2) + 2 * (16 + 4 + 4) + 2 * 16
    assert params(architecture)[0] == 9 * 4 + (17 + 68 + 272) + norms + 16 * 2 + 2


def _reference_i_resnext(network: AnytimeNetwork, x: Tensor, level: int, sizes: dict[str, Any]) -> Tensor:
    """A dense forward at full width under the norms of a level; the branches beyond it are zeroed at the last conv."""
    layers = iter(network.operation_layers)

    def normed(layer: Layer, x: Tensor) -> Tensor:
        norm = layer.before
        assert norm is not None
        mean, var = norm.mean[level].clone(), norm.var[level].clone()
        x = F.batch_norm(x, mean, var, norm.weight[level], norm.bias[level], network.training, 0.1)
        return F.relu(x)

    x = F.conv2d(x, next(layers).weight, padding=1)
    for stage in range(3):
        if stage:
            next(layers)
            x = F.avg_pool2d(x, 2)
            x = torch.cat([x, torch.zeros_like(x)], dim=1)
        for _ in range(sizes["num_blocks"]):
            one, grouped, last, _ = (next(layers) for _ in range(4))
            h = F.conv2d(normed(one, x), one.weight)
            h = F.conv2d(normed(grouped, h), grouped.weight, padding=1, groups=sizes["cardinality"])
            h = normed(last, h)
            on = h.shape[1] * (level + 1) // sizes["levels"]
            h = torch.cat([h[:, :on], torch.zeros_like(h[:, on:])], dim=1)
            x = x + F.conv2d(h, last.weight)
    pool, linear = [(next(layers), next(layers)) for _ in range(level + 1)][-1]
    return F.linear(normed(pool, x).mean((2, 3)), linear.weight, linear.bias)


@both_modes
def test_i_resnext_is_the_dense_network_with_branches_zeroed_before_the_last_convolution(training: bool) -> None:
    network, x = _network(i_resnext(**SMALL), training=training), _images()
    for level in range(4):
        torch.testing.assert_close(network(x, level), _reference_i_resnext(network, x, level, SMALL))


def test_i_resnext_refuses_reuse_and_names_the_operation() -> None:
    network = _network(i_resnext(**SMALL), training=False)
    with pytest.raises(UserError, match=r"operation 1 \(conv 1 -> 2\) has a norm for every point"):
        network.refine(_images())


@both_modes
@transitions
def test_a_prefix_on_its_own_is_its_part_of_the_full_pass(transition: str, training: bool) -> None:
    """Every map's values, not only the answers; extracted networks as well."""
    network, x = _network(sparse_resnext(**SMALL, transition=transition), training=training), _images()
    values: dict[int, Tensor] = {}
    for o, layer in enumerate(network.operation_layers):
        layer.register_forward_hook(lambda _, __, out, o=o: values.__setitem__(o, out))
    network(x)
    whole, answers = dict(values), network.forward_all(x)
    classifier = len(network.operation_layers) - 1
    for level in range(4):
        values.clear()
        torch.testing.assert_close(network(x, level), answers[level])
        torch.testing.assert_close(network.extract(level).train(training)(x), answers[level])
        for o, alone in values.items():
            if o != classifier:
                torch.testing.assert_close(alone, whole[o][:, : alone.shape[1]])


@transitions
def test_the_loss_of_a_level_has_no_gradient_on_later_slices(transition: str) -> None:
    architecture = sparse_resnext(**SMALL, transition=transition)
    network, x = _network(architecture, training=True), _images()
    labels = torch.arange(6) % 5
    for level in range(4):
        network.zero_grad()
        F.cross_entropy(network.forward_all(x)[level], labels).backward()
        for layer in network.operation_layers:
            source, target = (_width(architecture, i, level) for i in (layer.operation.source, layer.operation.target))
            if layer.weight is not None:
                assert layer.weight.grad is not None
                assert not layer.weight.grad[target:].any()
                assert layer.operation.groups > 1 or not layer.weight.grad[:, source:].any()
            if layer.before is not None:
                assert layer.before.weight.grad is not None
                assert layer.before.weight.grad[:, :source].any()
                assert not layer.before.weight.grad[:, source:].any()


@both_modes
@transitions
def test_a_later_slice_changes_no_earlier_answer(transition: str, training: bool) -> None:
    architecture = sparse_resnext(**SMALL, transition=transition)
    network, x = _network(architecture, training=training), _images()
    for late in range(1, 4):
        before = network.forward_all(x)
        with torch.no_grad():
            for layer in network.operation_layers[:-1]:
                source, target = (
                    _width(architecture, i, late - 1) for i in (layer.operation.source, layer.operation.target)
                )
                if layer.weight is not None:
                    layer.weight[target:] += 0.1 * torch.rand_like(layer.weight[target:])
                if layer.before is not None:
                    layer.before.bias[:, source:] += 0.5
        for level, (old, new) in enumerate(zip(before, network.forward_all(x))):
            assert torch.allclose(old, new, rtol=1e-12, atol=1e-12) == (level < late)


@transitions
def test_steps_cost_the_increments_and_sum_to_the_full_network(transition: str) -> None:
    network, x = _network(sparse_resnext(**SMALL, transition=transition), training=False), _images()
    increments = (network.macs[0], *(b - a for a, b in pairwise(network.macs)))
    assert network.refine_macs() == increments
    assert sum(network.refine_macs()) == network.macs[-1]
    for level, logits in enumerate(network.refine(x)):
        torch.testing.assert_close(logits, network(x, level).detach(), rtol=0, atol=1e-10)


def test_slices_may_be_given_one_by_one() -> None:
    sizes = {"num_blocks": 2, "bottleneck": 2, "task": TASK}
    assert sparse_resnext(width=(3, 6, 9, 12), cardinality=(2, 4, 6, 8), **sizes) == sparse_resnext(**SMALL)
    network, x = _network(sparse_resnext(width=(5, 6, 12), cardinality=(1, 4, 6), **sizes), training=False), _images()
    assert [point.channels[1] for point in network.architecture.points] == [5, 6, 12]
    for level, logits in enumerate(network.refine(x)):
        torch.testing.assert_close(logits, network(x, level).detach(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("make", [i_resnext, sparse_resnext])
def test_a_strided_stem_halves_every_map(make: Any) -> None:
    plain, strided = (make(**SMALL, stride=stride).topology.maps for stride in (1, 2))
    assert [tuple(n // 2 for n in m.size) for m in plain[1:7]] == [m.size for m in strided[1:7]]


@pytest.mark.parametrize("make", [i_resnext, sparse_resnext])
def test_slices_must_be_of_equal_size(make: Any) -> None:
    with pytest.raises(UserError, match=r"levels must divide a whole number\. Got 8"):
        make(width=24, cardinality=8, levels=3)


def test_an_unknown_transition_lists_the_known() -> None:
    with pytest.raises(UserError, match="'pad', 'project'"):
        sparse_resnext(transition="crop")


def test_the_space_proposes_both_kinds_each_with_its_rule() -> None:
    decide, domains, pairs = at_random(np.random.default_rng(0)), Domains(), set()
    for _ in range(40):
        recorder = Recorder(decide, domains)
        architecture, choices = Slicing().architecture(recorder, TASK), recorder.choices
        pairs.add((choices["kind"], choices.get("heads"), architecture.norm, architecture.training.rule))
        network = AnytimeNetwork(architecture).eval()
        if choices["kind"] == "sparse":
            left_behind = [TASK.num_classes * _read(architecture, point) for point in architecture.points[:-1]]
            again = sum(left_behind) if choices["heads"] == "own" else 0
            assert sum(network.refine_macs()) == architecture.costs[-1] + again
        else:
            with pytest.raises(UserError):
                network.check_reuse()
    assert pairs == {
        ("sparse", "own", "shared", "causal"),
        ("sparse", "shared", "shared", "causal"),
        ("i_resnext", None, "per_point", "joint"),
    }


def _read(architecture: Architecture, point: Subnetwork) -> int:
    """Channels that the classifier of a point reads."""
    (source,) = (o.source for o in architecture.topology.operations if o.target == point.output)
    return point.channels[source]
