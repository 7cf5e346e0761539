"""Controllers: the bandit finds the best choice, the network stays unchanged, measurements equal execution."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from evaluators.controllers.bandits import policy_loss, train_policy
from evaluators.controllers.training import correct
from evaluators.data.batches import batches
from evaluators.training.evaluator import Training
from nas.errors import UserError
from nas.evaluation.controllers import ControllerSettings
from nas.execution.controlled_network import ControlledNetwork
from nas.execution.controller_architectures import SEES, actions, controller_architecture
from nas.execution.network import AnytimeNetwork
from nas.execution.preprocessing import Preprocessing
from nas.representation.elements import Task
from search_spaces.slimmable import Slimmable
from search_spaces.throttleable import vgg

BANDITS = ("expected", "reinforce")
every_learner = pytest.mark.parametrize("learner", BANDITS)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@every_learner
def test_on_a_table_the_bandit_finds_the_best_choice(learner: str) -> None:
    """Bright, dark and striped images, each kind with another choice that pays most."""
    rng = np.random.default_rng(0)
    kind_N = np.arange(192) % 3
    x = rng.normal(0, 0.1, (192, 1, 8, 8)).astype(np.float32)
    x += np.array([1.0, -1.0, 0.0], dtype=np.float32)[kind_N, None, None, None]
    x[kind_N == 2, :, ::2] += 1
    reward_NA = torch.tensor([[0.2, 0.9, 0.1], [0.8, 0.3, 0.7], [0.0, 0.4, 0.6]])[kind_N]
    task = Task(input_shape=(1, 8, 8), num_classes=2)
    network = AnytimeNetwork(controller_architecture(task, 3), generator=_generator())
    inputs = batches(x, np.arange(192), size=32, preprocessing=Preprocessing(mean=(0.0,), std=(1.0,), scale=1.0))
    train_policy(network, inputs, reward_NA, ControllerSettings(learner=learner, epochs=60), _generator())
    found = network.eval()(torch.from_numpy(x)).argmax(1)
    assert float((found == reward_NA.argmax(1)).double().mean()) > 0.97


def test_reinforce_estimates_the_gradient_of_the_expected_reward() -> None:
    logits = torch.randn(1, 4, generator=_generator(1)).repeat(40_000, 1).requires_grad_()
    reward_NA = torch.rand(1, 4, generator=_generator(2)).expand(40_000, -1)
    found = []
    for learner in BANDITS:
        policy_loss(logits.log_softmax(1), reward_NA, learner, _generator(3)).backward()
        found.append(logits.grad.sum(0).clone())
        logits.grad = None
    torch.testing.assert_close(found[1], found[0], atol=3e-3, rtol=0)


def test_the_expected_reward_is_that_of_the_policy() -> None:
    policy, reward = (
        torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]),
        torch.tensor([[1.0, 0.0, 1.0], [0.3, 9.0, 9.0]]),
    )
    loss = policy_loss(policy.clamp(min=1e-30).log(), reward, "expected", _generator())
    assert float(loss) == pytest.approx(-(0.75 + 0.3) / 2)


@pytest.fixture(scope="module")
def trainer() -> Training:
    return Training("digits", device="cpu")


@pytest.fixture(scope="module")
def network(trainer: Training) -> AnytimeNetwork:
    """Trained a little: it separates some images, and more of them at larger utilizations."""
    architecture = vgg(8, (1, 1), 4, task=trainer.dataset.task)
    made = AnytimeNetwork(architecture, generator=_generator())
    loader = trainer.source.training(trainer.source.training_rows, 64, share=0.0)
    optimiser = torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        for x, y in loader.train(_generator(1)):
            for level in (3, 1, 0):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(made.train()(x, level), y).backward()
                optimiser.step()
    made.preprocess = trainer.source.preprocessing
    return made.eval()


@pytest.mark.parametrize("sees", SEES)
def test_controllers_leave_the_data_path_bit_identical_and_are_measured_as_they_run(
    trainer: Training, network: AnytimeNetwork, sees: str
) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    seen: list[tuple[int, int]] = []
    settings = ControllerSettings(penalties=(0.0, 30.0), epochs=25, sees=sees)
    found = trainer.train_controllers(network, settings, seed=1, report=lambda *at: seen.append(at))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert seen == [(0, 2), (1, 2)]
    loader = trainer.source.test()
    for controller, policy in zip(found.controllers, found.policies):
        right, flops, count = 0, 0, 0
        for x, y in loader.evaluate():
            with FlopCounterMode(display=False) as counter:
                right += int((ControlledNetwork(network, controller)(x).argmax(1) == y).sum())
            flops += counter.get_total_flops()
            count += len(y)
        assert policy["test_accuracy"] == pytest.approx(right / count)
        assert policy["test_macs"] == pytest.approx(flops / 2 / count)
        assert (policy["controller_macs"], policy["sees"]) == (controller.macs, sees)
    frugal, smallest = found.policies[-1], found.fixed[0]
    assert frugal["macs"] == smallest["macs"] + found.controllers[-1].macs
    assert frugal["test_accuracy"] == smallest["test_accuracy"]
    assert found.policies[0]["macs"] > frugal["macs"]


def test_equal_seeds_give_equal_controllers(trainer: Training, network: AnytimeNetwork) -> None:
    settings = ControllerSettings(penalties=(0.1,), epochs=2)
    one, again, other = (trainer.train_controllers(network, settings, seed=seed).controllers[0] for seed in (1, 1, 2))
    states = [controller.network.state_dict() for controller in (one, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_correct_answers_by_utilization(trainer: Training, network: AnytimeNetwork) -> None:
    rows, choices = np.arange(100), actions(network.architecture)
    found = correct(network, trainer.source.test(rows), choices)
    assert found.shape == (100, len(choices))
    x, y = (
        trainer.source.preprocessing(torch.from_numpy(trainer.dataset.x_test[:100])),
        torch.from_numpy(trainer.dataset.y_test),
    )
    network.set_utilization(choices[1])
    assert torch.equal(found[:, 1], network(x).argmax(1) == y[:100])
    network.set_utilization(1.0)
    means = found.double().mean(0).tolist()
    assert means[0] < means[-1]


def test_the_points_of_another_network_are_its_actions(trainer: Training) -> None:
    slimmable = Slimmable().architecture(lambda name, options: options[0], trainer.dataset.task)
    other = AnytimeNetwork(slimmable).eval()
    assert [other.subnetwork_at(u) for u in actions(slimmable)] == list(slimmable.points)
    found = trainer.train_controllers(other, ControllerSettings(penalties=(30.0,), epochs=20))
    assert [row["macs"] for row in found.fixed] == list(other.macs)
    assert found.policies[0]["macs"] == other.macs[0] + found.controllers[0].macs


def test_penalties_cost_accuracy_and_save_work(trainer: Training, network: AnytimeNetwork) -> None:
    found = trainer.train_controllers(network, ControllerSettings(penalties=(0.01, 1.0, 10.0), epochs=20))
    costs = [policy["macs"] for policy in found.policies]
    assert all(a >= b for a, b in pairwise(costs))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"penalties": ()}, r"Each --penalty must be a number, at least 0 and ascending. Got \(\)"),
        ({"penalties": (0.3, 0.1)}, "ascending"),
        ({"penalties": (-0.1,)}, "at least 0"),
        ({"penalties": (float("nan"),)}, "Got"),
        ({"learner": "greedy"}, r"Unknown --learner.*greedy.*reinforce"),
        ({"sees": "answer", "learner": "gates"}, "Gate policies see the input"),
        ({"sees": "labels"}, r"Unknown --sees.*labels.*answer.*input"),
        ({"epochs": 0}, "--epochs must be a whole number"),
        ({"width": 2.0}, "--width must be a whole number"),
        ({"shape": "square"}, r"Unknown --shape.*square.*hinge"),
        ({"power": 0, "learner": "gates"}, r"--power must be a positive, finite number. Got 0"),
        ({"shape": "linear"}, "--shape and --power need gate policies: add --learner gates"),
        ({"power": 1.0, "learner": "reinforce"}, "--shape and --power need gate policies: add --learner gates"),
        ({"shape": "linear", "power": 3.0, "learner": "gates"}, "--power needs --shape hinge or distance"),
    ],
)
def test_settings_that_make_no_sense(settings: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ControllerSettings(**settings)
