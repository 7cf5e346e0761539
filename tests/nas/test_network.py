"""Every style of network: masked oracle, slices, one pass for all levels, extraction, costs."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import nas
from nas.errors import UserError
from nas.network import AnytimeNetwork
from nas.topology import Architecture

from .hand_built import ALL, REUSABLE
from .masked import masked_forward


def _network(name: str) -> tuple[AnytimeNetwork, torch.Tensor]:
    architecture = ALL[name]()
    generator = torch.Generator().manual_seed(7)
    network = AnytimeNetwork(architecture, generator=generator)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 2 and parameter.shape[0] <= len(architecture.points):  # affine rows of norms
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return network, torch.randn(6, *architecture.task.input_shape, generator=generator)


def _with_statistics(network: AnytimeNetwork) -> AnytimeNetwork:
    generator = torch.Generator().manual_seed(8)
    for name, buffer in network.named_buffers():
        if name.endswith("mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.2)
        if name.endswith("var"):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.2)
    network.calibrated.fill_(True)
    return network


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", ALL)
def test_slices_equal_the_masked_oracle(name: str, training: bool) -> None:
    network, x = _network(name)
    _with_statistics(network).train(training)
    everything = network.forward_all(x)
    for level in range(network.levels):
        expected, _ = masked_forward(network, x, level, training=training)
        torch.testing.assert_close(network(x, level), expected, rtol=2e-4, atol=2e-5)
        torch.testing.assert_close(everything[level], expected, rtol=2e-4, atol=2e-5)
        assert not torch.allclose(expected[0], expected[1])  # it does look at its input


@pytest.mark.parametrize("name", ALL)
def test_gradients_equal_the_masked_oracle(name: str) -> None:
    network, x = _network(name)
    network.train()
    for level in range(network.levels):
        network.zero_grad()
        network(x, level).square().sum().backward()
        mine = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
        network.zero_grad()
        masked_forward(network, x, level, training=True)[0].square().sum().backward()
        for n, p in network.named_parameters():
            theirs = torch.zeros_like(p) if p.grad is None else p.grad
            torch.testing.assert_close(mine.get(n, torch.zeros_like(p)), theirs, rtol=3e-3, atol=3e-4)


@pytest.mark.parametrize("name", ALL)
def test_extraction_answers_like_its_level_and_has_its_cost(name: str) -> None:
    network, x = _network(name)
    _with_statistics(network).eval()
    for level in range(network.levels):
        alone = network.extract(level)
        torch.testing.assert_close(alone(x), network(x, level), rtol=2e-4, atol=2e-5)
        assert sum(p.numel() for p in alone.parameters()) == network.params[level]
        with FlopCounterMode(display=False) as counter:
            copy.deepcopy(alone).to("meta")(torch.empty(1, *x.shape[1:], device="meta"))
        assert counter.get_total_flops() == 2 * network.macs[level]


@pytest.mark.parametrize("name", ALL)
def test_one_pass_serves_all_levels_exactly_where_reuse_is_exact(name: str) -> None:
    network, x = _network(name)
    ran = []
    for o, layer in enumerate(network.layers):
        layer.register_forward_hook(lambda *_, o=o: ran.append(o))
    network.train().forward_all(x)
    convolutions = [o for o in ran if network.architecture.topology.operations[o].kind == "conv"]
    assert (len(convolutions) == len(set(convolutions))) == (name in REUSABLE)


@pytest.mark.parametrize("name", ALL)
def test_json_round_trip_keeps_keys(name: str) -> None:
    architecture = ALL[name]()
    again = Architecture.from_json(json.loads(json.dumps(architecture.to_json())))
    assert again == architecture
    assert (again.key, again.network_key) == (architecture.key, architecture.network_key)


@pytest.mark.parametrize("name", ["residual", "i_resnext", "causal"])
def test_saved_network_is_the_very_network(name: str, tmp_path) -> None:
    network, x = _network(name)
    _with_statistics(network).eval().save(tmp_path / "net")
    again = nas.load(tmp_path / "net")
    for level in range(network.levels):
        assert torch.equal(again(x, level), network(x, level))


def test_recalibration_is_required_and_is_the_cumulative_average() -> None:
    network, x = _network("residual")
    network.eval()
    with pytest.raises(UserError, match="recalibrated before it answers"):
        network(x)
    batches = [x[:3], x[3:]]
    network.calibrate(batches)
    first = network.layers[0]
    means = [torch.nn.functional.conv2d(b, first.weight[:4], padding=1).mean((0, 2, 3)) for b in batches]
    torch.testing.assert_close(first.after.mean[0, :4], sum(means) / 2, rtol=1e-4, atol=1e-5)
    assert torch.equal(first.after.mean[0, 4:], torch.zeros(8))  # level 0 never sees the others
    network(x)


def test_recalibrated_training_touches_no_statistics() -> None:
    network, x = _network("residual")
    before = {n: b.clone() for n, b in network.named_buffers()}
    network.train()(x, 1)
    assert all(torch.equal(before[n], b) for n, b in network.named_buffers())


def test_at_budget_is_the_largest_that_fits() -> None:
    network, x = _network("causal")
    network.eval()
    assert torch.equal(network.at_budget(network.macs[1] + 1)(x), network(x, 1))
    with pytest.raises(UserError, match="smallest operating point"):
        network.at_budget(1)


def test_a_level_that_is_not_there() -> None:
    network, x = _network("causal")
    with pytest.raises(UserError, match="between 0 and 2"):
        network(x, 3)


def test_initialisation_depends_on_the_generator_alone() -> None:
    torch.manual_seed(1)
    a, _ = _network("mobile")
    torch.manual_seed(2)
    b, _ = _network("mobile")
    state = torch.random.get_rng_state()
    _network("mobile")
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))


def test_causal_rows_start_with_their_own_fan_in() -> None:
    network = AnytimeNetwork(ALL["causal"](), generator=torch.Generator().manual_seed(0))
    stds = [network.layers[1].weight[i : i + 4].detach().square().sum((1, 2, 3)).mean() for i in (0, 4, 8)]
    assert np.allclose(stds, 2, rtol=0.6)  # the sum of squares over what a row reads is 2 for every slice
