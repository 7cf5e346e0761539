"""A network and its controller as one torch module."""

from __future__ import annotations

import pytest
import torch

import nas
from nas.errors import UserError
from nas.execution.controller_architectures import actions, controller_architecture

from ..hand_built import ALL
from ..networks import random_images, random_network, random_statistics


@pytest.fixture
def controlled() -> nas.ControlledNetwork:
    network = random_statistics(random_network(ALL["gated_concat"]())).eval()
    choices = actions(network.architecture)
    picks = nas.AnytimeNetwork(controller_architecture(network.architecture.task, len(choices))).eval()
    return nas.ControlledNetwork(network, nas.Controller(picks, choices))


def test_mode_and_precision_reach_network_and_controller(controlled: nas.ControlledNetwork) -> None:
    assert not controlled.training
    controlled.double()
    parts = (controlled.network, controlled.controller.network)
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.float64}
    assert controlled(random_images(controlled.network, 3)).shape == (3, 5)
    controlled.train()
    assert all(part.training for part in parts)
    with pytest.raises(UserError, match=r"call eval\(\) of network and controller"):
        controlled(random_images(controlled.network, 3))


def test_state_holds_both_and_is_strict(controlled: nas.ControlledNetwork) -> None:
    state = controlled.state_dict()
    assert {name.split(".")[0] for name in state} == {"network", "controller"}
    x = random_images(controlled.network, 8)
    before, copied = controlled(x), {name: tensor.clone() for name, tensor in state.items()}
    with torch.no_grad():
        for parameter in controlled.parameters():
            parameter.zero_()
    controlled.load_state_dict(copied)
    assert torch.equal(controlled(x), before)
    with pytest.raises(RuntimeError, match="Missing key"):
        controlled.load_state_dict({})


def test_networks_do_not_know_their_controllers(controlled: nas.ControlledNetwork) -> None:
    other = nas.ControlledNetwork(controlled.network, controlled.controller)
    assert other.network is controlled.network
    assert not any(name.startswith("controller") for name in controlled.network.state_dict())
