"""SynFlow against closed forms: products of matrices, conservation of flow, and counts of paths."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from evaluators.zero_cost.scoring import fresh_network
from evaluators.zero_cost.synflow import SynFlow, log_flow, synaptic_flow
from nas.proxies.contract import load_proxy
from nas.representation.builder import Builder
from nas.representation.elements import Task

from ...benchmarks.scripts import BENCHMARKS
from ...nas.hand_built import ALL
from .networks import one_by_one, set_weight, unlearned


def test_flow_of_a_linear_chain_is_the_product_of_its_absolute_matrices():
    architecture = one_by_one((3, 5, 4, 6), classes=7)
    network = fresh_network(architecture)
    matrices = [
        layer.weight.detach().double().flatten(1).abs()
        for layer in network.operation_layers
        if layer.weight is not None
    ]
    product = torch.ones(3, dtype=torch.float64)
    for matrix in matrices:
        product = matrix @ product
    flows = synaptic_flow(network, 0)
    assert list(flows.values()) == pytest.approx([float(product.sum())] * 4, rel=1e-12)
    assert SynFlow()(architecture) == pytest.approx(math.log(4 * float(product.sum())), rel=1e-12)


@pytest.mark.parametrize("steps", [(), ("norm", "relu6"), ("norm", "silu"), ("hardswish",)])
def test_flow_is_conserved_along_a_chain(steps):
    """Every operation that lies on all paths carries the whole output, through strides, poolings and activations."""
    builder = Builder(Task(input_shape=(2, 9, 9), num_classes=3))
    x = builder.conv(builder.input, 6, after=steps)
    x = builder.depthwise(x, kernel=5, stride=2, before=steps)
    x = builder.add("max_pool", x, builder.map(6, activation="relu6"), kernel=3, stride=2)
    builder.head(builder.conv(x, 8, kernel=1, before=steps))
    flows = list(synaptic_flow(fresh_network(builder.architecture(1)), 0).values())
    assert len(flows) == 4
    assert flows == pytest.approx([flows[0]] * 4, rel=1e-12)


def test_flow_divides_between_branches():
    builder = Builder(Task(input_shape=(2, 4, 4), num_classes=3))
    x = builder.conv(builder.input, 6)
    y = builder.conv(builder.conv(x, 5), 6)
    builder.add("conv", x, y, kernel=1)
    builder.head(y)
    network = fresh_network(builder.architecture(1))
    stem, first, second, beside, _, head = [synaptic_flow(network, 0).get(o, 0.0) for o in range(6)]
    assert first == pytest.approx(second, rel=1e-12)
    assert first + beside == pytest.approx(stem, rel=1e-12) == pytest.approx(head, rel=1e-12)


def test_flow_with_unit_weights_counts_learned_operations_on_paths():
    """On one channel, with all weights 1, the flow counts the learned operations on all paths, once a class."""
    builder = Builder(Task(input_shape=(1, 1, 1), num_classes=2))
    x = builder.conv(builder.input, 1, kernel=1)
    for _ in range(3):
        y = builder.conv(builder.conv(x, 1, kernel=1, after=("norm", "relu6")), 1, kernel=1)
        builder.identity(x, y)
        builder.add("conv", x, y, kernel=1)
        x = y
    builder.head(x)
    architecture = builder.architecture(1)
    network = fresh_network(architecture)
    for o, layer in enumerate(network.operation_layers):
        if layer.weight is not None:
            set_weight(network, o, torch.ones_like(layer.weight))
    learned_paths = load_proxy(f"{BENCHMARKS / 'controls.py'}:learned_paths")
    assert math.log(sum(synaptic_flow(network, 0).values())) == pytest.approx(learned_paths(architecture) + math.log(2))


def test_flow_ignores_data_signs_and_statistics():
    network = fresh_network(ALL["gated_residual"]())
    before = synaptic_flow(network, 2)
    network(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 100, 2)  # moves running statistics
    with torch.no_grad():
        for layer in network.operation_layers:
            if layer.weight is not None:
                layer.weight.neg_()
    assert synaptic_flow(network, 2) == before
    assert all(p.grad is None for p in network.parameters())


def test_flow_scales_with_any_operation_on_every_path():
    architecture = ALL["mobile"]()
    network = fresh_network(architecture)
    before = sum(synaptic_flow(network, 1).values())
    with torch.no_grad():
        network.operation_layers[0].weight.mul_(3)
    assert sum(synaptic_flow(network, 1).values()) == pytest.approx(3 * before, rel=1e-6)


def test_flow_is_clipped_to_the_range_of_floats():
    assert SynFlow()(unlearned()) == math.log(sys.float_info.min)
    for size, bound in ((1e38, sys.float_info.max), (1e-38, sys.float_info.min)):
        network = fresh_network(one_by_one((3, *[4] * 12)))
        for o, layer in enumerate(network.operation_layers):
            if layer.weight is not None:
                set_weight(network, o, torch.full_like(layer.weight, size))
        assert log_flow(synaptic_flow(network, 0).values()) == math.log(bound)
