"""Gate policies: nested gates of exactly 0 and 1, execution of the chosen components, saving and loading."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nas.errors import UserError
from nas.execution.controlled_network import ControlledNetwork
from nas.execution.controller_architectures import gate_policy_architecture
from nas.execution.gate_policy import GatePolicy
from nas.execution.network import AnytimeNetwork
from nas.representation.elements import Task
from nas.representation.gates import module_shares, switched
from search_spaces.throttleable import densenet, resnet, vgg

from ..hand_built import ALL
from ..networks import random_images, random_network, random_statistics

TASK = Task(input_shape=(3, 8, 8), num_classes=5)
NETWORKS = {
    "vgg": vgg(4, (1, 1), 4, task=TASK),
    "resnet": resnet(4, (2, 2), task=TASK),
    "densenet": densenet(3, (3, 2), task=TASK, utilizations=(0.0, 1.0), always=1),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def _policy(name: str) -> tuple[AnytimeNetwork, GatePolicy, torch.Tensor]:
    """A network, a policy that switches its modules in several ways, and images."""
    architecture = NETWORKS[name]
    network = random_statistics(random_network(architecture)).eval()
    made = AnytimeNetwork(gate_policy_architecture(architecture)).eval()
    policy, x = GatePolicy.for_modules(made, architecture.topology.gated), random_images(network, 24)
    with torch.no_grad():
        shifted = made(torch.cat([x, torch.full((24, 1, 8, 8), 0.5)], dim=1)).mean(0)
        made.operation_layers[-1].bias.sub_(shifted)
    return network, policy.with_utilization(0.5), x


@every_network
def test_gates_are_exact_and_nested_with_some_always_on(name: str) -> None:
    network, policy, x = _policy(name)
    gates = policy.gates(x, torch.full((24,), 0.5))
    for gate, module in zip(gates, network.architecture.topology.gated):
        assert set(gate.unique().tolist()) <= {0.0, 1.0}
        assert (gate.diff(dim=1) <= 0).all()
        assert gate[:, : module.always].all()
    assert torch.equal(torch.stack([gate.sum(1) for gate in gates], dim=1).long(), policy(x))
    assert len(policy(x).unique(dim=0)) > 2


@every_network
def test_chosen_components_are_executed(name: str) -> None:
    """Logits equal the masked pass; one pass runs for each distinct choice."""
    network, policy, x = _policy(name)
    masked = network.forward_gated(x, policy.gates(x, torch.full((24,), 0.5)))
    ran: list[int] = []
    network.operation_layers[0].register_forward_hook(lambda _, __, out: ran.append(len(out)))
    torch.testing.assert_close(ControlledNetwork(network, policy)(x), masked)
    assert sorted(ran) == sorted(policy(x).unique(dim=0, return_counts=True)[1].tolist())


def test_gates_carry_gradients_to_the_policy() -> None:
    network, policy, x = _policy("resnet")
    utilization = torch.full((24,), 0.5)
    network.forward_gated(x, policy.gates(x, utilization)).square().sum().backward()
    last = policy.network.operation_layers[-1].weight.grad
    assert last is not None
    assert last.any()


def test_the_utilization_is_an_input() -> None:
    _, policy, x = _policy("vgg")
    with torch.no_grad():
        policy.network.operation_layers[1].weight[:, -1].fill_(3.0)
    assert not torch.equal(policy.with_utilization(0.0)(x), policy.with_utilization(1.0)(x))


def test_shares_are_of_the_cost_that_can_be_saved() -> None:
    topology, largest = NETWORKS["densenet"].topology, NETWORKS["densenet"].points[-1]
    found = module_shares(topology, largest)
    assert sum(found) == pytest.approx(1)
    assert len(found) == 2
    assert found[0] > found[1]  # more layers, on larger maps
    assert switched(topology, [3, 2], largest) == NETWORKS["densenet"].points[-1]


def test_saving_and_loading(tmp_path) -> None:
    network, policy, x = _policy("densenet")
    policy.save(tmp_path)
    found = GatePolicy.load(tmp_path)
    assert found.utilization == 1.0
    assert found.macs == policy.macs
    assert torch.equal(
        ControlledNetwork(network, found.with_utilization(0.5))(x), ControlledNetwork(network, policy)(x)
    )


def test_invalid_policies_are_rejected(tmp_path) -> None:
    network, policy, x = _policy("vgg")
    with pytest.raises(UserError, match="needs a network with gated modules"):
        gate_policy_architecture(ALL["residual"]())
    with pytest.raises(UserError, match=r"norms that all utilizations share.* Got 'recalibrated'"):
        gate_policy_architecture(replace(network.architecture, norm="recalibrated"))
    with pytest.raises(UserError, match=r"between 0 and 1. Got 1.5"):
        policy.with_utilization(1.5)
    without_gates = random_network(ALL["residual"]()).eval()
    with pytest.raises(UserError, match=r"a network with modules .* Got \(\)"):
        policy.subnetworks(without_gates, policy(x))
    for sizes in ([], [(4, 9)], [(-4, 1)], [(1, 0)]):
        with pytest.raises(UserError, match="an output for each component that can be off"):
            GatePolicy(policy.network, sizes)
    with pytest.raises(UserError, match=r"must be a folder that policy.save wrote"):
        GatePolicy.load(tmp_path)
    with pytest.raises(UserError, match=r"call eval\(\) of network and controller"):
        ControlledNetwork(network.train(), policy)(x)


def test_empty_batches() -> None:
    network, policy, x = _policy("vgg")
    assert ControlledNetwork(network, policy)(x[:0]).shape == (0, 5)
