"""Controllers: choices, execution of equal choices together, saving and loading."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nas.errors import UserError
from nas.execution.controlled_network import ControlledNetwork
from nas.execution.controller import Controller, top_log_probabilities
from nas.execution.controller_architectures import SEES, UTILIZATIONS, actions, controller_architecture
from nas.execution.network import AnytimeNetwork
from nas.representation.builder import Builder
from nas.representation.elements import Task
from search_spaces.slicing import sparse_resnext
from search_spaces.throttleable import vgg

from ..hand_built import ALL, TASK
from ..networks import random_images, random_network, random_statistics


def _controller(name: str, sees: str = "input") -> tuple[AnytimeNetwork, Controller]:
    """A network and a controller that chooses several of its utilizations."""
    network = random_statistics(random_network(ALL[name]())).eval()
    choices = actions(network.architecture)
    picks = AnytimeNetwork(controller_architecture(network.architecture.task, len(choices), sees=sees)).eval()
    x = random_images(network, 24)
    with torch.no_grad():
        seen = x if sees == "input" else top_log_probabilities(network(x, network.subnetwork_at(choices[0])))
        picks.operation_layers[-1].bias.sub_(picks(seen).mean(0))
    return network, Controller(picks, choices, sees=sees)


every_sight = pytest.mark.parametrize("sees", SEES)


@every_sight
@pytest.mark.parametrize("name", ["gated_concat", "gated_dense", "residual", "i_resnext", "video", "causal"])
def test_each_input_runs_at_its_chosen_utilization(name: str, sees: str) -> None:
    network, controller = _controller(name, sees)
    x = random_images(network, 24)
    (choices, _), logits = controller.choose(network, x), ControlledNetwork(network, controller)(x)
    assert len(choices.unique()) > 1
    for sample, choice in enumerate(choices.tolist()):
        network.set_utilization(controller.utilizations[choice])
        torch.testing.assert_close(logits[sample], network(x[sample : sample + 1])[0])


@every_sight
def test_only_chosen_components_run(monkeypatch: pytest.MonkeyPatch, sees: str) -> None:
    """One pass for each distinct choice, with its inputs only; the first pass is not repeated."""
    network, controller = _controller("gated_concat", sees)
    x, ran, forward = random_images(network, 24), [], network.forward
    counts = controller.choose(network, x)[0].bincount(minlength=len(controller.utilizations)).tolist()
    monkeypatch.setattr(network, "forward", lambda x, level: ran.append(len(x)) or forward(x, level))
    with FlopCounterMode(display=False) as counter:
        ControlledNetwork(network, controller)(x)
    passes = [len(x), *counts[1:]] if sees == "answer" else counts
    assert sorted(ran) == sorted(filter(None, passes))
    costs = controller.costs(network)
    assert counter.get_total_flops() == 2 * sum(cost * count for cost, count in zip(costs, counts))


@every_sight
def test_empty_batches(sees: str) -> None:
    network, controller = _controller("gated_concat", sees)
    assert ControlledNetwork(network, controller)(random_images(network, 0)).shape == (0, 5)


def test_actions_are_tenths_that_differ() -> None:
    architecture = ALL["gated_concat"]()
    assert actions(architecture) == (0.1, 0.3, 0.5, 0.8)
    network = AnytimeNetwork(architecture)
    assert [network.macs_at(u) for u in actions(architecture)] == list(network.macs)
    assert set(actions(architecture)) <= set(UTILIZATIONS)


def test_actions_of_a_network_without_gates_are_its_points() -> None:
    network = AnytimeNetwork(ALL["multi_exit"]())
    assert [network.subnetwork_at(u) for u in actions(network.architecture)] == list(network.architecture.points)


def test_a_single_point_is_rejected() -> None:
    b = Builder(TASK)
    b.head(b.conv(b.input, 4))
    with pytest.raises(UserError, match="at least two operating points"):
        actions(b.architecture(1))


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 8, 8), (1, 28, 28), (3, 224, 224), (3, 16, 112, 112), (2, 50)], ids=str
)
def test_controllers_are_small(shape: tuple[int, ...]) -> None:
    task = Task(input_shape=shape, num_classes=7)
    found = controller_architecture(task, 10)
    assert found.task == Task(input_shape=shape, num_classes=10)
    assert found.costs[0] < 1.5e6
    network = AnytimeNetwork(found).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 10)


@every_sight
def test_saving_and_loading(tmp_path, sees: str) -> None:
    network, controller = _controller("gated_concat", sees)
    controller.save(tmp_path / "c")
    found, x = Controller.load(tmp_path / "c"), random_images(network, 24)
    assert (found.utilizations, found.sees) == (controller.utilizations, sees)
    assert found.macs == controller.macs == controller.network.macs[0]
    assert torch.equal(ControlledNetwork(network, found)(x), ControlledNetwork(network, controller)(x))


def test_folders_without_a_controller_are_rejected(tmp_path) -> None:
    network, controller = _controller("gated_concat")
    network.save(tmp_path)
    with pytest.raises(UserError, match=r"must be a folder that controller.save wrote"):
        Controller.load(tmp_path)
    (tmp_path / "controller.json").write_text('{"utilizations": [0.1, 2.0], "sees": "input"}')
    with pytest.raises(UserError, match="between 0 and 1"):
        Controller.load(tmp_path)
    with pytest.raises(UserError, match=r"a class for each utilization. Got 4 classes for 2"):
        Controller(controller.network, (0.1, 1.0))
    with pytest.raises(UserError, match=r"thing to see.*'labels'.*answer"):
        Controller(controller.network, controller.utilizations, sees="labels")


@every_sight
def test_a_controller_of_another_network_is_rejected(sees: str) -> None:
    _, controller = _controller("gated_concat", sees)
    other = AnytimeNetwork(vgg(8, (1,), 4, task=Task(input_shape=(1, 8, 8), num_classes=3))).eval()
    for way in (ControlledNetwork(other, controller), lambda x: controller.choose(other, x)):
        with pytest.raises(UserError, match=f"sees the {sees} of this network must have input shape"):
            way(random_images(other, 2))


@every_sight
def test_coarse_answers_are_rejected(sees: str) -> None:
    task = Task(input_shape=(3, 8, 8), num_classes=5, hierarchy=((0, 0, 1, 1, 1),))
    network = AnytimeNetwork(sparse_resnext(1, 8, 1, 8, levels=4, task=task)).eval()
    _, controller = _controller("gated_concat", sees)
    with pytest.raises(UserError, match="must answer in fine labels at all points"):
        ControlledNetwork(network, controller)(random_images(network, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@every_sight
def test_other_precisions(dtype: torch.dtype, sees: str) -> None:
    network, controller = _controller("gated_concat", sees)
    network.to(dtype)
    controller.network.to(dtype)
    assert ControlledNetwork(network, controller)(random_images(network, 4)).dtype == dtype


def test_utilizations_must_ascend() -> None:
    _, controller = _controller("gated_concat")
    with pytest.raises(UserError, match=r"must ascend. Got \(0.8, 0.5, 0.3, 0.1\)"):
        Controller(controller.network, controller.utilizations[::-1])


def test_training_mode_is_rejected() -> None:
    network, controller = _controller("gated_concat")
    with pytest.raises(UserError, match=r"call eval\(\) of network and controller"):
        ControlledNetwork(network.train(), controller)(random_images(network))
