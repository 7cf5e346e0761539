"""Gate policies: penalties by their formulas, and a training that keeps below the utilization asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluators.controllers.gate_policies import mean_gate, measure_gates, penalty, train_gates
from evaluators.data.batches import batches
from nas.evaluation.controllers import SHAPES, ControllerSettings
from nas.execution.controller_architectures import gate_policy_architecture
from nas.execution.gate_policy import GatePolicy
from nas.execution.masked import nested_gates
from nas.execution.network import AnytimeNetwork
from nas.execution.preprocessing import Preprocessing
from nas.representation.elements import Task
from nas.representation.gates import module_shares
from search_spaces.throttleable import vgg

TASK = Task(input_shape=(1, 8, 8), num_classes=2)
NET = vgg(4, (1, 1), 4, task=TASK)
shares_of_one = st.floats(0, 1, width=32)


@given(gate=shares_of_one, utilization=shares_of_one, power=st.sampled_from((1.0, 2.0)))
def test_the_hinge_is_zero_if_the_mean_gate_is_within_the_utilization(
    gate: float, utilization: float, power: float
) -> None:
    hinge, distance, linear = (
        float(penalty(torch.tensor([gate]).double(), torch.tensor([utilization]).double(), shape, power))
        for shape in ("hinge", "distance", "linear")
    )
    assert (hinge == 0) == (gate <= utilization or (gate - utilization) ** power == 0)
    assert distance == pytest.approx(abs(gate - utilization) ** power)
    assert hinge in (0, distance)
    assert linear == pytest.approx((1 - utilization) * gate)


def test_the_mean_gate_weighs_modules_by_cost() -> None:
    sizes = [(len(module.components), module.always) for module in NET.topology.gated]
    shares = module_shares(NET.topology, NET.points[-1])
    gates = nested_gates(NET.topology, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert mean_gate(gates, sizes, shares).tolist() == pytest.approx([0.0, 1.0])
    gates[1][1, 1:] = 0
    assert mean_gate(gates, sizes, shares).tolist() == pytest.approx([0.0, 1 - shares[1]])


@pytest.mark.parametrize("shape", SHAPES)
def test_training_uses_less_at_small_utilizations_and_changes_no_network(shape: str) -> None:
    generator = torch.Generator().manual_seed(0)
    network = AnytimeNetwork(NET, generator=generator).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    policy = GatePolicy.for_modules(
        AnytimeNetwork(gate_policy_architecture(NET), generator=generator), NET.topology.gated
    )
    x = np.random.default_rng(0).normal(0, 1, (64, 1, 8, 8)).astype(np.float32)
    plain = Preprocessing(mean=(0.0,), std=(1.0,), scale=1.0)
    images = batches(x, np.arange(64) % 2, size=32, preprocessing=plain)
    settings = ControllerSettings(learner="gates", shape=shape, epochs=40)
    train_gates(policy, network, images, 30.0, settings, generator)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    policy.network.eval()
    spent = {u: measure_gates(policy.with_utilization(u), network, {"": images})["macs"] for u in (0.0, 1.0)}
    assert spent[0.0] < spent[1.0] - 0.2 * network.macs[-1] if shape == "distance" else spent[0.0] <= spent[1.0]
    assert spent[0.0] < policy.macs + network.macs[0] + 0.2 * network.macs[-1]
