"""The masked pass of a sample equals the executed subnetwork at its utilization: values and gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from torch import Tensor
from torch.nn import functional as F

from nas.errors import UserError
from nas.execution.controller_architectures import actions
from nas.execution.masked import nested_gates
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.elements import Task
from nas.representation.gates import distinct_utilizations, gated_maps, throttled
from nas.representation.liveness import trim_point
from search_spaces.throttleable import resnet, vgg

from ..hand_built import ALL, TASK
from ..networks import random_images, random_network, random_statistics
from ..random_networks import architectures

SHARED = sorted(name for name in ALL if ALL[name]().topology.gated and ALL[name]().norm == "shared")
every_style = pytest.mark.parametrize("name", SHARED)


def _network(architecture: Architecture) -> AnytimeNetwork:
    return random_statistics(random_network(architecture, dtype=torch.float64)).eval()


def _one_sample_each(network: AnytimeNetwork) -> tuple[Tensor, Tensor]:
    """A sample for every distinct utilization, with the utilizations."""
    found = torch.tensor(distinct_utilizations(network.architecture.topology), dtype=torch.float64)
    return random_images(network, len(found)), found


def _assert_masked_is_skipping(network: AnytimeNetwork) -> None:
    x, utilization_N = _one_sample_each(network)
    masked = network.forward_gated(x, nested_gates(network.architecture.topology, utilization_N))
    for sample, utilization in enumerate(utilization_N.tolist()):
        network.set_utilization(utilization)
        torch.testing.assert_close(masked[sample], network(x[sample : sample + 1])[0])


@every_style
def test_each_sample_is_answered_as_if_throttled(name: str) -> None:
    _assert_masked_is_skipping(_network(ALL[name]()))


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(architecture=architectures())
def test_whatever_is_gated_each_sample_is_answered_as_if_throttled(architecture: Architecture) -> None:
    assume(architecture.topology.gated)
    alone = architecture.with_points(architecture.points[-1:])  # others may not share their norms
    _assert_masked_is_skipping(_network(replace(alone, norm="shared")))


@every_style
def test_in_training_a_batch_of_one_utilization_is_the_throttled_network(name: str) -> None:
    """Values and gradients; components that are off have none."""
    network = _network(ALL[name]()).train()
    topology, largest = network.architecture.topology, network.architecture.points[-1]
    x = random_images(network)
    for utilization in distinct_utilizations(topology):
        gates = nested_gates(topology, torch.full((len(x),), utilization, dtype=torch.float64))
        network.zero_grad()
        masked = network.forward_gated(x, gates)
        masked.square().sum().backward()
        mine = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
        network.zero_grad()
        network.set_utilization(utilization)
        skipping = network(x)
        skipping.square().sum().backward()
        torch.testing.assert_close(masked, skipping)
        for n, p in network.named_parameters():
            theirs = torch.zeros_like(p) if p.grad is None else p.grad
            torch.testing.assert_close(mine.get(n, torch.zeros_like(p)), theirs, rtol=1e-6, atol=1e-8)
        counts = topology.active(throttled(topology, utilization, largest))
        for layer in network.operation_layers:
            if layer.weight is not None:
                assert not mine[f"layers.{network.operation_layers.index(layer)}.weight"][
                    counts[layer.operation.target] :
                ].any()


def test_components_off_between_components_on() -> None:
    """Gates need not be nested: a sum of paths, by hand."""
    network = _network(ALL["gated_sum"]())
    x, (stem, first, paths, last, *_), gates = random_images(network, 1), network.operation_layers, [1.0, 0.0, 1.0]

    def normed(layer, value: Tensor) -> Tensor:
        norm = layer.after
        return F.relu(F.batch_norm(value, norm.mean[0], norm.var[0], norm.weight[0], norm.bias[0]))

    stream = normed(stem, F.conv2d(x, stem.weight, padding=1))
    inner = normed(paths, F.conv2d(normed(first, F.conv2d(stream, first.weight)), paths.weight, padding=1, groups=3))
    total = stream
    for path, gate in enumerate(gates):
        channels = slice(4 * path, 4 * path + 4)
        total = total + gate * 3 / sum(gates) * F.conv2d(inner[:, channels], last.weight[:, channels])
    head = network.operation_layers[-1]
    expected = F.linear(total.mean((2, 3)), head.weight, head.bias)
    torch.testing.assert_close(network.forward_gated(x, [torch.tensor([gates])]), expected)


@every_style
def test_gates_that_are_off_carry_gradients(name: str) -> None:
    network = _network(ALL[name]())
    x, utilization_N = _one_sample_each(network)
    gates = [g.double().requires_grad_() for g in nested_gates(network.architecture.topology, utilization_N)]
    network.forward_gated(x, gates).square().sum().backward()
    for gate in gates:
        assert gate.grad is not None
        assert gate.grad[0].any()


def test_the_gate_of_a_residual_branch_scales_it() -> None:
    """y = act(skip(x) + g · res(x)), whatever g is."""
    architecture = ALL["gated_residual"]()
    network = _network(Architecture.from_json({**architecture.to_json(), "norm": "shared"}))
    x, half = random_images(network, 2), torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.5, 0.0]])
    seen: dict[int, Tensor] = {}
    for o, layer in enumerate(network.operation_layers):
        layer.register_forward_hook(lambda _, __, out, o=o: seen.__setitem__(o, out))
    network.forward_gated(x, [half])
    topology = architecture.topology
    blocks = [
        max(o for o in topology.incoming[i]) for i, m in enumerate(topology.maps) if len(topology.incoming[i]) == 2
    ]
    for block, gate in zip(blocks, (1.0, 0.5, 0.0)):
        residual, skip = seen[block - 1], seen[block]
        following = seen[block + 3] if block != blocks[-1] else None
        if following is not None:
            torch.testing.assert_close(following, F.relu(skip + gate * residual))


@every_style
def test_utilization_1_is_the_network_without_gates(name: str) -> None:
    network = _network(ALL[name]())
    x = random_images(network)
    largest = network(x, network.levels - 1)
    network.set_utilization(1.0)
    assert torch.equal(network(x), largest)


def test_utilizations_in_single_precision_reach_their_thresholds() -> None:
    """0.7 of nine blocks is seven, also where 0.7 is rounded down."""
    architecture = resnet(4, (3, 3, 3), task=Task(input_shape=(1, 16, 16), num_classes=3))
    network, topology = AnytimeNetwork(architecture), architecture.topology
    (module,) = topology.gated
    for tenth in range(11):
        for kind in (torch.float32, torch.float64):
            (gate,) = nested_gates(topology, torch.tensor([tenth / 10], dtype=kind))
            assert int(gate.sum()) == module.on(tenth / 10) == min(tenth, 9)
        assert network.set_utilization(np.float32(tenth / 10)) == network.set_utilization(tenth / 10)


def test_set_utilization_returns_macs() -> None:
    network = _network(ALL["gated_concat"]())
    assert [network.set_utilization(u) for u in (0.0, 0.25, 0.5, 0.75, 1.0)] == [*network.macs, network.macs[-1]]


def test_a_network_without_gates_is_throttled_over_its_points() -> None:
    network = _network(ALL["residual"]())
    x = random_images(network)
    for utilization, level in ((0.0, 0), (0.33, 0), (0.34, 1), (0.99, 2), (1.0, 2)):
        assert network.set_utilization(utilization) == network.macs[level]
        assert torch.equal(network(x), network(x, level))


@pytest.mark.parametrize("norm", ["per_point", "recalibrated"])
def test_utilizations_are_points_if_points_have_own_norms(norm: str) -> None:
    made = replace(vgg(8, (1, 1), 4, task=TASK, utilizations=(0.3, 0.8)), norm=norm)
    network = _network(made)
    assert [network.set_utilization(u) for u in (0.0, 0.49, 0.5, 0.75, 1.0)] == [
        network.macs[level] for level in (0, 0, 1, 1, 1)
    ]
    x = random_images(network)
    assert torch.equal(network(x), network(x, 1))
    assert actions(made) == (0.25, 0.75)
    narrow = trim_point(made.topology, replace(made.points[0], channels=(3, 2, *made.points[0].channels[2:])))
    other = _network(made.with_points([narrow, made.points[1]]))  # what no gates switch has its place all the same
    assert [other.subnetwork_at(u) for u in actions(other.architecture)] == list(other.architecture.points)


def test_a_utilization_does_not_change_levels() -> None:
    network = _network(ALL["gated_concat"]())
    x = random_images(network)
    before = network(x, 3), network.forward_all(x), network.extract(3)(x)
    network.set_utilization(0.0)
    assert torch.equal(network(x, 3), before[0])
    assert all(map(torch.equal, network.forward_all(x), before[1]))
    assert torch.equal(network.extract(3)(x), before[2])


def test_gates_that_do_not_fit_are_refused() -> None:
    network = _network(ALL["gated_concat"]())
    x = random_images(network, 2)
    for gates in ([], [torch.ones(2, 3)], [torch.ones(1, 4)], [torch.ones(2, 4)] * 2):
        with pytest.raises(UserError, match=r"must have shape \(samples, components\) per module: \[\(2, 4\)\]. Got"):
            network.forward_gated(x, gates)
    with pytest.raises(UserError, match="need a network with gated modules"):
        _network(ALL["causal"]()).forward_gated(x, [])
    with pytest.raises(UserError, match=r"norm must be 'shared'. Got 'per_point'"):
        _network(ALL["gated_residual"]()).forward_gated(x, [torch.ones(2, 3)])
    for wrong in (1.5, -0.1, float("nan"), "0.5", None, True):
        with pytest.raises(UserError, match=r"between 0 and 1. Got"):
            network.set_utilization(wrong)


def test_all_gated_maps_are_masked() -> None:
    """That the styles above reach every case: maps in slices, whole maps, concats with holes, scaled concats."""
    topologies = [ALL[name]().topology for name in SHARED]
    gated = [(t, i) for t in topologies for module in t.gated for i in gated_maps(module)]
    assert {len(t.maps[i].slices) > 1 for t, i in gated} == {True, False}
    assert {m.scale for t in topologies for m in t.maps if m.merge == "concat"} >= {"none", "full"}


@every_style
def test_with_other_points_each_sample_is_answered_as_if_throttled(name: str) -> None:
    """Even if the largest point has components off."""
    architecture = ALL[name]()
    fewer = architecture.with_points(architecture.points[:-1])
    if fewer.topology.gated:
        _assert_masked_is_skipping(_network(fewer))
        assert [len(m.components) for m in fewer.topology.gated] < [
            len(m.components) for m in architecture.topology.gated
        ]
