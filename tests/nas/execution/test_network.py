"""Every style of network: masked oracle, slices, one pass for all levels, extraction, costs; and as a torch module.

Norms are in test_norms, folders in test_saving, random networks in test_network_properties.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.execution.static import Rows
from nas.representation.builder import Builder
from nas.representation.elements import Task

from ..hand_built import ALL, REUSABLE
from ..masked import masked_forward
from ..networks import random_images, random_network, random_statistics


def _network(name: str, dtype: torch.dtype = torch.float32) -> tuple[AnytimeNetwork, torch.Tensor]:
    network = random_statistics(random_network(ALL[name](), dtype=dtype))
    return network, random_images(network)


def _double(name: str) -> tuple[AnytimeNetwork, torch.Tensor]:
    return _network(name, torch.float64)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", ALL)
def test_slices_equal_the_masked_oracle(name: str, training: bool) -> None:
    network, x = _double(name)
    network.train(training)
    everything = network.forward_all(x)
    for level in range(network.levels):
        expected, _ = masked_forward(network, x, level, training=training)
        torch.testing.assert_close(network(x, level), expected)
        torch.testing.assert_close(everything[level], expected)
        assert not torch.allclose(expected[0], expected[1])  # it does look at its input


@pytest.mark.parametrize("name", ALL)
def test_gradients_equal_the_masked_oracle(name: str) -> None:
    network, x = _double(name)
    network.train()
    for level in range(network.levels):
        network.zero_grad()
        network(x, level).square().sum().backward()
        mine = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
        network.zero_grad()
        masked_forward(network, x, level, training=True)[0].square().sum().backward()
        for n, p in network.named_parameters():
            theirs = torch.zeros_like(p) if p.grad is None else p.grad
            torch.testing.assert_close(mine.get(n, torch.zeros_like(p)), theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ALL)
def test_one_pass_gives_the_gradients_of_all_levels(name: str) -> None:
    network, x = _double(name)
    network.train()
    sum(logits.square().sum() for logits in network.forward_all(x)).backward()
    together = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    for level in range(network.levels):
        network(x, level).square().sum().backward()
    for mine, p in zip(together, network.parameters()):
        torch.testing.assert_close(mine, p.grad)


@pytest.mark.parametrize("name", ALL)
def test_extraction_answers_like_its_level_and_has_its_cost(name: str) -> None:
    network, x = _double(name)
    network.eval()
    for level in range(network.levels):
        alone = network.extract(level)
        torch.testing.assert_close(alone(x), network(x, level))
        assert sum(p.numel() for p in alone.parameters()) == network.params[level]
        with FlopCounterMode(display=False) as counter:
            copy.deepcopy(alone).to("meta")(torch.empty(1, *x.shape[1:], dtype=x.dtype, device="meta"))
        assert counter.get_total_flops() == 2 * network.macs[level]


@pytest.mark.parametrize("name", ALL)
def test_one_pass_computes_all_levels_if_reuse_is_exact(name: str) -> None:
    network, x = _network(name)
    ran: list[int] = []
    for o, layer in enumerate(network.operation_layers):
        layer.register_forward_hook(lambda *_, o=o: ran.append(o))
    network.train().forward_all(x)
    convolutions = [o for o in ran if network.architecture.topology.operations[o].kind == "conv"]
    assert (len(convolutions) == len(set(convolutions))) == (name in REUSABLE)


# Levels and budgets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ALL))
def test_macs_by_weights_that_are_not_zero(name: str) -> None:
    """Against multiplying by each weight at each position, one after the other."""
    network = _network(name)[0].eval()
    assert network.nonzero_macs == network.macs
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in network.operation_layers:
            if layer.weight is not None:
                layer.weight *= torch.rand(layer.weight.shape, generator=generator) < 0.6
    x = random_images(network)[:1]
    for level, found in enumerate(network.nonzero_macs):
        multiplied = 0

        def count(rows: Rows, _: object, out: torch.Tensor) -> None:
            nonlocal multiplied
            for _position in range(out[0, 0].numel()):
                for weight in rows.weight.flatten().tolist():
                    multiplied += weight != 0

        static = network.extract(level)
        for module in static.modules():
            if isinstance(module, Rows):
                module.register_forward_hook(count)
        static(x)
        assert found == multiplied < network.macs[level]


def test_the_largest_level_is_the_default() -> None:
    network, x = _network("causal")
    network.eval()
    assert torch.equal(network(x), network(x, 2))
    assert network.levels == 3


def test_at_budget_is_the_largest_that_fits() -> None:
    network, x = _network("causal")
    network.eval()
    for level, cost in enumerate(network.macs):
        assert torch.equal(network.at_budget(cost)(x), network(x, level))
        assert torch.equal(network.at_budget(cost + 0.5)(x), network(x, level))
    for budget in (0, network.macs[0] - 1, float("nan"), -5):
        with pytest.raises(UserError, match=f"smallest operating point, {network.macs[0]:,} MACs"):
            network.at_budget(budget)


@pytest.mark.parametrize("level", [3, -1, 10**9])
def test_levels_out_of_range(level: int) -> None:
    network, x = _network("causal")
    with pytest.raises(UserError, match=f"between 0 and 2. Got level={level}"):
        network(x, level)
    with pytest.raises(UserError, match="between 0 and 2"):
        network.extract(level)


# Weights ---------------------------------------------------------------------------------------------------------


def test_initialisation_depends_on_the_generator_only() -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    one, other = (AnytimeNetwork(ALL["mobile"](), generator=torch.Generator().manual_seed(s)) for s in (7, 8))
    again, default, default_again = (
        AnytimeNetwork(ALL["mobile"](), generator=g) for g in (torch.Generator().manual_seed(7), None, None)
    )
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), again.parameters()))
    assert all(torch.equal(p, q) for p, q in zip(default.parameters(), default_again.parameters()))
    assert not any(torch.equal(p, q) for p, q in zip(_weights(one), _weights(other)))


def _weights(network: AnytimeNetwork) -> list[torch.Tensor]:
    return [layer.weight for layer in network.operation_layers if layer.weight is not None]


def test_every_row_starts_with_its_own_fan_in() -> None:
    """The sum of squares over the inputs of a row is 2 (1 for a classifier), for any number of inputs."""
    builder = Builder(Task(input_shape=(3, 8, 8), num_classes=400))
    x = builder.conv(builder.input, (60, 300, 600), kernel=1)
    y = builder.conv(x, (60, 300, 600), kernel=1, wiring="causal")
    z = builder.conv(y, (60, 300, 600), kernel=5, groups=600)
    builder.head(builder.conv(z, (60, 300, 600), kernel=1, groups=60))
    network = AnytimeNetwork(builder.architecture(3), generator=torch.Generator().manual_seed(0))
    for layer in network.operation_layers:
        if layer.weight is not None:
            expected = 1 if layer.operation.kind == "linear" else 2
            for rows in (slice(0, 60), slice(60, 300), slice(300, None)):
                square = layer.weight[rows].detach().square().flatten(1).sum(1).mean()
                assert np.isclose(square, expected, rtol=0.15)
            assert not (layer.mask is not None and (layer.weight * (1 - layer.mask)).any())


def test_state_is_strict() -> None:
    residual, mobile = (AnytimeNetwork(ALL[name]()) for name in ("residual", "mobile"))
    with pytest.raises(RuntimeError, match=r"Missing key|size mismatch"):
        residual.load_state_dict(mobile.state_dict())
    state = residual.state_dict()
    assert "calibrated" in state
    assert all("mask" not in name for name in AnytimeNetwork(ALL["causal"]()).state_dict())
    del state["layers.0.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*layers\.0\.weight"):
        residual.load_state_dict(state)


def test_an_extracted_network_refuses_images_of_a_wrong_size() -> None:
    """Poolings would accept them, and answer."""
    network, x = _network("residual")
    with pytest.raises(UserError, match=r"Images must have shape \(N, .*\)\. Got"):
        network.eval().extract(0)(x[..., 1:])


def test_an_extracted_network_is_a_copy() -> None:
    network, x = _network("causal")
    alone = network.eval().extract(1)
    before = alone(x)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1)
    assert torch.equal(alone(x), before)
    assert all(not name.startswith("operations.") or "columns" not in name for name in alone.state_dict())
    again = copy.deepcopy(alone)
    again.load_state_dict(alone.state_dict())
    assert torch.equal(again(x), before)


def test_an_extracted_network_trains_on_as_its_level_would() -> None:
    network, x = _double("residual")
    alone = network.eval().extract(1).train()
    network.train()
    torch.testing.assert_close(alone(x), network(x, 1))
    alone(x).sum().backward()
    assert all(p.grad is not None for p in alone.parameters())


# As a torch module -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_memory_format_changes_nothing(name: str) -> None:
    network, x = _double(name)
    network.eval()
    expected = [network(x, level) for level in range(network.levels)]
    last = torch.channels_last_3d if x.dim() == 5 else torch.channels_last
    if x.dim() == 4:
        network.to(memory_format=last)
    x = x.to(memory_format=last)
    for level, logits in enumerate(expected):
        torch.testing.assert_close(network(x, level), logits)
        torch.testing.assert_close(network.extract(level)(x), logits)
    network.train().forward_all(x)[0].sum().backward()


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_under_autocast_is_near(name: str) -> None:
    network, x = _network(name)
    network.eval()
    with torch.no_grad():
        expected = network.forward_all(x)
        with torch.autocast("cpu", torch.bfloat16):
            for level, logits in enumerate(network.forward_all(x)):
                assert logits.dtype == torch.bfloat16
                scale = expected[level].abs().max()
                assert (logits - expected[level]).abs().max() < 0.1 * scale
    with torch.autocast("cpu", torch.bfloat16):
        loss = sum(logits.float().square().mean() for logits in network.train().forward_all(x))
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", ["gated_dense", "causal", "residual"])
def test_precision_and_back(name: str) -> None:
    network, x = _network(name)
    network.eval()
    before = [network(x, level) for level in range(network.levels)]
    for level, logits in enumerate(network.double().forward_all(x.double())):
        assert logits.dtype == torch.float64
        torch.testing.assert_close(logits.float(), before[level], rtol=1e-4, atol=1e-4)
        assert network.extract(level)(x.double()).dtype == torch.float64
    assert network.calibrated.dtype == torch.bool
    assert all(torch.equal(network.float()(x, level), logits) for level, logits in enumerate(before))


def test_a_device_of_its_own() -> None:
    """Every tensor of a pass follows the network: on the meta device, one that stayed behind would be an error."""
    network, x = _network("gated_dense")
    network.eval()
    network(x)  # plans for the CPU exist
    assert [t.shape for t in network.to("meta").forward_all(x.to("meta"))] == [(6, 5)] * 3
    alone = copy.deepcopy(_network("gated_dense")[0].eval().extract(1)).to("meta")
    assert alone(x.to("meta")).shape == (6, 5)


def test_one_image_and_many() -> None:
    network, x = _double("mobile")
    network.eval()
    torch.testing.assert_close(torch.cat([network(image[None], 0) for image in x]), network(x, 0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_extraction_exports(name: str) -> None:
    network, x = _double(name)
    network.eval()
    for level in range(network.levels):
        alone = network.extract(level)
        batch = torch.export.Dim("batch", min=2, max=64)
        program = torch.export.export(alone, (x,), dynamic_shapes=({0: batch},))
        for images in (x, x[:3]):
            torch.testing.assert_close(program.module()(images), alone(images))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "gated_dense", "causal"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_compiled_networks_answer_the_same(name: str) -> None:
    network, x = _network(name)
    network.eval()
    compiled = torch.compile(network, backend="aot_eager")
    with torch.no_grad():
        for level in range(network.levels):
            torch.testing.assert_close(compiled(x, level), network(x, level), rtol=1e-4, atol=1e-5)
            alone = network.extract(level)
            torch.testing.assert_close(
                torch.compile(alone, backend="aot_eager", fullgraph=True)(x), alone(x), rtol=1e-4, atol=1e-5
            )
    torch._dynamo.reset()
