"""Passes without gradients use copies of the weights with norms folded in: same logits, same work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.execution.plan_cache import MAX_COPIES, CopiedWeights
from nas.representation.architecture import Architecture
from nas.representation.elements import Subnetwork
from nas.representation.gates import distinct_utilizations
from search_spaces.throttleable import vgg

from ..hand_built import ALL, TASK
from ..networks import random_images, random_network, random_statistics
from ..random_networks import architectures


def _network(architecture: Architecture) -> AnytimeNetwork:
    return random_statistics(random_network(architecture, dtype=torch.float64)).eval()


def _folded(network: AnytimeNetwork, x: torch.Tensor, level: int | Subnetwork | None = None) -> torch.Tensor:
    with torch.no_grad():
        return network(x, level)


def _check_all(network: AnytimeNetwork) -> None:
    """At every level and every utilization, with the flops that are counted for the level."""
    x = random_images(network)
    levels: list[int | Subnetwork] = [*range(network.levels)]
    if network.architecture.topology.gated and network.architecture.norm == "shared":
        levels += [network.subnetwork_at(u) for u in distinct_utilizations(network.architecture.topology)]
    for level in levels:
        with FlopCounterMode(display=False) as counter:
            logits = _folded(network, x, level)
        torch.testing.assert_close(logits, network.forward_unfolded(x, level).detach(), rtol=0, atol=1e-10)
        if isinstance(level, int):
            assert counter.get_total_flops() == 2 * len(x) * network.macs[level]


def _check(network: AnytimeNetwork, x: torch.Tensor) -> None:
    expected = network.forward_unfolded(x, 0).detach()
    torch.testing.assert_close(_folded(network, x, 0), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", sorted(ALL))
def test_logits_equal_an_unfolded_pass(name: str) -> None:
    _check_all(_network(ALL[name]()))


@given(architectures())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_logits_of_any_network_equal_an_unfolded_pass(architecture: Architecture) -> None:
    """Under every norm policy: every operating point uses its own rows."""
    _check_all(_network(architecture))


@pytest.mark.parametrize("norm", ["per_point", "recalibrated"])
def test_each_point_has_its_own_norms(norm: str) -> None:
    network = _network(replace(ALL["residual"](), norm=norm))
    assert network.levels > 1
    _check_all(network)


def _runs_layer_by_layer(network: AnytimeNetwork, run: Callable[[], object]) -> bool:
    """Whether layers are called: passes with copies call none."""
    called: list[int] = []
    layer = network.operation_layers[0]
    original = layer.forward
    layer.forward = lambda *inputs: called.append(1) or original(*inputs)  # type: ignore[method-assign]
    run()
    del layer.forward
    return bool(called)


def test_copies_are_used_in_evaluation_mode_without_gradients_only() -> None:
    network = _network(ALL["gated_concat"]())
    x = random_images(network)
    network.set_utilization(0.0)
    assert network(x).requires_grad
    for level in (None, 1, network.subnetwork_at(0.5)):
        assert not _runs_layer_by_layer(network, lambda level=level: _folded(network, x, level))
        assert _runs_layer_by_layer(network, lambda level=level: network(x, level))
    network.train()
    assert _runs_layer_by_layer(network, lambda: _folded(network, x))


def test_a_throttled_network_runs_at_its_utilization() -> None:
    network = _network(ALL["gated_concat"]())
    x = random_images(network)
    network.set_utilization(0.0)
    assert torch.equal(_folded(network, x), _folded(network, x, network.subnetwork_at(0.0)))
    assert not torch.allclose(_folded(network, x), _folded(network, x, network.levels - 1))


def test_weights_are_current() -> None:
    network = _network(ALL["gated_concat"]())
    x = random_images(network)
    before = _folded(network, x, 0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    assert not torch.equal(_folded(network, x, 0), before)
    _check_all(network)
    network.train()
    network(x * 3 + 1)  # moves statistics, which torch does not count as a change
    _check_all(network.eval())
    network.to(torch.float32)
    torch.testing.assert_close(_folded(network, x.float(), 0), network(x.float(), 0).detach())


def test_statistics_are_current_after_calibration() -> None:
    network = _network(replace(ALL["residual"](), norm="recalibrated"))
    x = random_images(network)
    before = _folded(network, x, 0)
    network.calibrate([x * 3 + 1])
    assert not torch.equal(_folded(network, x, 0), before)
    _check_all(network)


def test_weights_that_hooks_compute_are_used() -> None:
    """Pruning replaces a parameter by a tensor: right after a copy was made, and from then on."""
    network = _network(ALL["gated_concat"]())
    x = random_images(network)
    _folded(network, x, 0)
    prune.l1_unstructured(network.operation_layers[0], "weight", amount=0.5)
    _check(network, x)
    with torch.no_grad():
        network.operation_layers[0].weight_orig.mul_(3)
    _check(network, x)


def test_hooks_of_layers_and_norms_run() -> None:
    network = _network(ALL["gated_concat"]())
    x, layer = random_images(network), network.operation_layers[0]
    for module in (layer, layer.after):
        called: list[int] = []
        handle = module.register_forward_hook(lambda *_, called=called: called.append(1))
        _folded(network, x)
        handle.remove()
        assert called == [1]


def test_replaced_parameters_are_noticed() -> None:
    network = _network(ALL["gated_concat"]())
    x = random_images(network)
    _folded(network, x, 0)
    layer = network.operation_layers[0]
    weight = layer.weight.detach() * 2
    del layer.weight
    layer.weight = weight
    _check(network, x)


def test_changed_weights_of_inference_mode_are_noticed() -> None:
    with torch.inference_mode():
        network = _network(ALL["gated_concat"]())
        x = random_images(network)
        network(x, 0)
        for parameter in network.parameters():
            parameter.mul_(1.5)
        _check(network, x)


def test_uncalibrated_networks_are_rejected() -> None:
    architecture = replace(ALL["residual"](), norm="recalibrated")
    network = _network(architecture)
    x = random_images(network)
    _folded(network, x, 0)
    network.load_state_dict(AnytimeNetwork(architecture).to(torch.float64).state_dict())
    with pytest.raises(UserError, match="must be recalibrated before it answers"):
        _folded(network, x, 0)


@pytest.mark.parametrize("shape", [(6, 4, 8, 8), (6, 2, 8, 8), (6, 3, 9, 9), (6, 3, 8), (3, 8, 8)], ids=str)
def test_images_of_another_shape_are_rejected(shape: tuple[int, ...]) -> None:
    network, x = _network(ALL["causal"]()), torch.zeros(shape, dtype=torch.float64)
    for run in (network, network.forward_all, lambda x: _folded(network, x, 0), lambda x: next(network.refine(x))):
        with pytest.raises(UserError, match=r"must have shape \(N, 3, 8, 8\). Got"):
            run(x)


def test_copies_are_kept_for_the_subnetworks_used_last() -> None:
    network = AnytimeNetwork(vgg(32, (1, 1), 32, task=TASK)).eval()
    copies, device = CopiedWeights(network.plans, network.operation_layers), torch.device("cpu")
    points = [network.subnetwork_at(step / 32) for step in range(MAX_COPIES + 1)]
    assert len(set(points)) == MAX_COPIES + 1
    first, *rest = (copies.fast_pass(point, 0, device) for point in points[:-1])
    assert copies.fast_pass(points[0], 0, device) is first  # now the one used last
    copies.fast_pass(points[-1], 0, device)
    assert copies.fast_pass(points[0], 0, device) is first
    assert copies.fast_pass(points[2], 0, device) is rest[1]
    assert copies.fast_pass(points[1], 0, device) is not rest[0]
