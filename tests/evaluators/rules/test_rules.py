"""Training rules: which levels a step trains, on what targets, and what the gradients may touch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.rules.causal import Causal
from evaluators.rules.joint import Joint
from evaluators.rules.random_utilization import RandomUtilization
from evaluators.rules.sandwich import Sandwich
from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from search_spaces.throttleable import resnet

from ..training.jobs import small
from .steppings import construction

TASK = Task(input_shape=(1, 5, 5), num_classes=3)
EIGHT = Task(input_shape=(1, 8, 8), num_classes=3)


class _Watched(AnytimeNetwork):
    """Writes down which levels answer."""

    def forward(self, x: Tensor, level: Any = None) -> Tensor:
        self.ran.append(level)
        return super().forward(x, level)


def _network(points: int = 4) -> _Watched:
    builder = Builder(TASK)
    x = builder.conv(builder.input, tuple(range(2, 2 * points + 1, 2)), after=("norm", "relu"))
    builder.head(x)
    network = _Watched(builder.architecture(points)).train()
    network.ran = []  # type: ignore[assignment]
    return network


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, *TASK.input_shape, generator=generator), torch.arange(8) % 3


def _losses(rule: Any, network: AnytimeNetwork, seed: int = 0) -> Iterator[Tensor]:
    return rule.losses(network, *_batch(), torch.Generator().manual_seed(seed))


def _levels(rule: Any, network: _Watched, seed: int = 0) -> list[int]:
    network.ran.clear()
    count = len(list(_losses(rule, network, seed)))
    assert count == len(network.ran)
    return list(network.ran)


@pytest.mark.parametrize("points", [1, 2, 4])
def test_joint_trains_every_level_on_the_labels(points: int) -> None:
    network = _network(points)
    x, labels = _batch()
    losses = list(_losses(Joint(), network))
    assert _levels(Joint(), network) == list(reversed(range(points)))
    for level, loss in zip(reversed(range(points)), losses):
        assert torch.equal(loss, F.cross_entropy(network(x, level), labels))


@pytest.mark.parametrize("sampled", [0, 1, 2, 3, 9])
def test_sandwich_trains_the_largest_the_smallest_and_some_between(sampled: int) -> None:
    network, rule = _network(5), Sandwich(sampled=sampled)
    between: Counter[int] = Counter()
    for seed in range(60):
        largest, smallest, *others = _levels(rule, network, seed)
        assert (largest, smallest) == (4, 0)
        assert len(others) == len(set(others)) == min(sampled, 3)
        assert set(others) <= {1, 2, 3}
        between.update(others)
    if sampled:
        assert set(between) == {1, 2, 3}
        assert max(between.values()) < 2 * min(between.values())


@pytest.mark.parametrize(("points", "expected"), [(1, [0]), (2, [1, 0]), (3, [2, 0, 1])])
def test_sandwich_with_few_levels(points: int, expected: list[int]) -> None:
    assert _levels(Sandwich(sampled=3), _network(points)) == expected


def test_what_is_sampled_comes_from_the_generator_alone() -> None:
    network, rule = _network(6), Sandwich()
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first = [_levels(rule, network, seed) for seed in range(20)]
    torch.rand(3)
    assert [_levels(rule, network, seed) for seed in range(20)] == first
    assert len({tuple(levels) for levels in first}) == 4
    torch.random.set_rng_state(state)
    list(_losses(rule, network))
    assert torch.equal(state, torch.random.get_rng_state())


def test_labels_are_the_targets_by_default() -> None:
    network = _network()
    x, labels = _batch()
    for loss, level in zip(_losses(Sandwich(), network), [3, 0]):
        assert torch.equal(loss, F.cross_entropy(network(x, level), labels))


def test_soft_targets_are_the_answers_of_the_largest() -> None:
    network = _network()
    x, labels = _batch()
    answers = network(x, 3).softmax(1)
    hard, soft, *_ = _losses(Sandwich(soft=True), network)
    assert torch.equal(hard, F.cross_entropy(network(x, 3), labels))
    expected = -(answers * network(x, 0).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(soft, expected)


def test_soft_targets_are_detached() -> None:
    """The loss of the smallest level has no gradient on what only the largest uses."""
    network = _network()
    losses = _losses(Sandwich(soft=True), network)
    next(losses)
    network.zero_grad()
    next(losses).backward()
    weight = network.operation_layers[0].weight
    assert weight.grad[:2].any()
    assert not weight.grad[2:].any()


def test_losses_come_one_at_a_time() -> None:
    """The next level runs only when it is asked for: the graph of one is free before the next is built."""
    network = _network()
    losses = _losses(Sandwich(), network)
    network.ran.clear()
    next(losses)
    assert network.ran == [3]
    next(losses)
    assert network.ran == [3, 0]


@pytest.mark.parametrize("sampled", [-1, 1.5, "2", None, True])
def test_sampled_is_a_number_of_points(sampled: Any) -> None:
    with pytest.raises(UserError, match="sampled must be a whole number of points, at least 0"):
        Sandwich(sampled=sampled)


@pytest.mark.parametrize("soft", ["no", 2, None])
def test_soft_is_true_or_false(soft: Any) -> None:
    with pytest.raises(UserError, match="soft must be true or false"):
        Sandwich(soft=soft)


@pytest.mark.parametrize(
    ("rule", "architecture"),
    [
        (Joint(), small()),
        (Sandwich(soft=True, smoothing=0.1), small()),
        (Causal(distill=0.5), small("shared")),
        (RandomUtilization(groups=2), resnet(8, (2, 2), task=EIGHT)),
    ],
)
def test_probabilities_of_labels_give_the_losses_of_the_labels(rule: Any, architecture: Architecture) -> None:
    x, labels = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    losses = []
    for target in (labels, F.one_hot(labels, 3).float()):
        network = AnytimeNetwork(architecture, generator=torch.Generator().manual_seed(1)).train()
        made = rule.losses(network, x, target, torch.Generator().manual_seed(2))
        losses.append([loss.item() for loss in made])
    assert losses[0] == pytest.approx(losses[1])


def test_probabilities_of_labels_in_the_construction_of_a_stepping_net() -> None:
    x, labels = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    losses = []
    for target in (labels, F.one_hot(labels, 3).float()):
        made = construction()
        made.train()
        losses.append([])
        for loss in made.losses(0, x, target, torch.Generator().manual_seed(2)):
            losses[-1].append(loss.item())
            loss.backward()
    assert losses[0] == pytest.approx(losses[1])
