"""Answers with norms folded in: those of a pass without, at the work that is counted for them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

from nas.errors import UserError
from nas.execution.network import REMEMBERED_COPIES, AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.gates import distinct_utilizations
from search_spaces.throttleable import vgg

from ..hand_built import ALL, TASK
from ..networks import random_images, random_network, random_statistics
from ..random_networks import architectures


def _network(architecture: Architecture) -> AnytimeNetwork:
    return random_statistics(random_network(architecture, dtype=torch.float64)).eval()


def _check(network: AnytimeNetwork) -> None:
    x = random_images(network)
    levels = [*range(network.levels)]
    if network.architecture.topology.gated and network.architecture.norm == "shared":
        levels += [network.at(u) for u in distinct_utilizations(network.architecture.topology)]
    for level in levels:
        with FlopCounterMode(display=False) as counter:
            logits = network.answer(x, level)
        with torch.no_grad():
            torch.testing.assert_close(logits, network(x, level), rtol=0, atol=1e-10)
        if level in range(network.levels):
            assert counter.get_total_flops() == 2 * len(x) * network.macs[level]


def _check_answers(network: AnytimeNetwork, x: torch.Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(network.answer(x, 0), network(x, 0), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", sorted(ALL))
def test_answers_as_a_pass_without_folding(name: str) -> None:
    _check(_network(ALL[name]()))


@given(architectures())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_network_answers_as_a_pass_without_folding(architecture: Architecture) -> None:
    """Whatever its norm policy: every operating point finds its own rows."""
    _check(_network(architecture))


@pytest.mark.parametrize("norm", ["per_point", "recalibrated"])
def test_each_point_has_its_own_norms(norm: str) -> None:
    network = _network(replace(ALL["residual"](), norm=norm))
    assert network.levels > 1
    _check(network)


def test_throttled_networks_answer_so_where_no_gradients_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _network(ALL["gated_concat"]())
    x, asked = random_images(network), []
    monkeypatch.setattr(network, "answer", lambda x, level: asked.append(level) or x.new_zeros(len(x), 5))
    network.throttle(0.0)
    assert network(x).requires_grad
    with torch.no_grad():
        network(x, 1)
        assert not asked
        network(x)
        assert asked == [network.at(0.0)]
        network.train()(x)
    assert len(asked) == 1


def test_answers_with_weights_as_they_are_now() -> None:
    network = _network(ALL["gated_concat"]())
    x = random_images(network)
    before = network.answer(x, 0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    assert not torch.equal(network.answer(x, 0), before)
    _check(network)
    network.train()
    network(x * 3 + 1)  # moves statistics, unnoticed by torch's versions
    _check(network.eval())
    network.to(torch.float32)
    torch.testing.assert_close(network.answer(x.float(), 0), network(x.float(), 0).detach())


def test_weights_that_hooks_make_are_used() -> None:
    """As of pruning, which puts a tensor in place of a parameter: right after a copy was made, and from then on."""
    network = _network(ALL["gated_concat"]())
    x = random_images(network)
    network.answer(x, 0)
    prune.l1_unstructured(network.operation_layers[0], "weight", amount=0.5)
    _check_answers(network, x)
    with torch.no_grad():
        network.operation_layers[0].weight_orig.mul_(3)
    _check_answers(network, x)


def test_parameters_that_are_replaced_are_noticed() -> None:
    network = _network(ALL["gated_concat"]())
    x = random_images(network)
    network.answer(x, 0)
    layer = network.operation_layers[0]
    weight = layer.weight.detach() * 2
    del layer.weight
    layer.weight = weight
    _check_answers(network, x)


def test_weights_of_inference_mode_that_change_are_noticed() -> None:
    with torch.inference_mode():
        network = _network(ALL["gated_concat"]())
        x = random_images(network)
        network.answer(x, 0)
        for parameter in network.parameters():
            parameter.mul_(1.5)
        _check_answers(network, x)


def test_without_statistics_there_is_no_answer() -> None:
    made = replace(ALL["residual"](), norm="recalibrated")
    network = _network(made)
    x = random_images(network)
    network.answer(x, 0)
    network.load_state_dict(AnytimeNetwork(made).to(torch.float64).state_dict())
    with pytest.raises(UserError, match="must be recalibrated before it answers"):
        network.answer(x, 0)


@pytest.mark.parametrize("shape", [(6, 4, 8, 8), (6, 2, 8, 8), (6, 3, 9, 9), (6, 3, 8), (3, 8, 8)], ids=str)
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    network, x = _network(ALL["causal"]()), torch.zeros(shape, dtype=torch.float64)
    ways = [network, network.forward_all, lambda x: network.answer(x, 0), lambda x: next(network.refine(x))]
    for way in ways:
        with pytest.raises(UserError, match=r"must have shape \(N, 3, 8, 8\). Got"):
            way(x)


def test_training_mode_is_refused() -> None:
    network = _network(ALL["gated_concat"]()).train()
    with pytest.raises(UserError, match=r"call network.eval\(\) first"):
        network.answer(random_images(network), 0)


def test_copies_are_kept_for_the_latest_levels_alone() -> None:
    network = AnytimeNetwork(vgg(32, (1, 1), 32, task=TASK)).eval()
    x = random_images(network, 2)
    for step in range(32):
        network.answer(x, network.at(step / 32))
    assert len(network._folded) == REMEMBERED_COPIES
