"""Random utilizations: what the four orders switch on, and one step of training."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from evaluators.rules.random_utilization import ORDERS, RandomUtilization, sample_gates
from evaluators.training.evaluator import Training
from nas.errors import UserError
from nas.evaluation.jobs import Job
from nas.execution.masked import nested_gates
from nas.execution.network import AnytimeNetwork
from nas.representation.cost import subnetwork_macs
from nas.representation.elements import Subnetwork, Task
from nas.representation.gates import round_robin
from search_spaces.slimmable import Slimmable
from search_spaces.throttleable import densenet, resnet, resnext, vgg

TASK = Task(input_shape=(3, 8, 8), num_classes=5)
NET = densenet(3, (2, 4), task=TASK, utilizations=(0.0, 1.0), always=1)
TOPOLOGY = NET.topology
"""Modules of two and four components, the first of each always on."""


def _utilizations(count: int = 400) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _gates(order: str) -> list[torch.Tensor]:
    return sample_gates(TOPOLOGY, _utilizations(), order, torch.Generator().manual_seed(2))


@pytest.mark.parametrize("order", ORDERS)
def test_gates_are_0_or_1_and_what_is_always_on_is(order: str) -> None:
    for gate, module in zip(_gates(order), TOPOLOGY.gated):
        assert gate.shape == (400, len(module.components))
        assert set(gate.unique().tolist()) == {0.0, 1.0}
        assert gate[:, : module.always].all()


def test_nested_gates_are_the_first() -> None:
    for gate, module, utilization in zip(_gates("nested"), TOPOLOGY.gated, [_utilizations()] * 2):
        assert gate.sum(1).tolist() == [module.on(u) for u in utilization.tolist()]
        assert (gate.diff(dim=1) <= 0).all()


def test_permuted_gates_are_as_many_and_any() -> None:
    for gate, nested in zip(_gates("permuted"), _gates("nested")):
        assert torch.equal(gate.sum(1), nested.sum(1))
    free = _gates("permuted")[1][:, 1:]
    assert free.mean(0).tolist() == pytest.approx([0.5] * 3, abs=0.08)


@pytest.mark.parametrize("order", ["joint", "blockwise"])
def test_all_modules_share_one_vector(order: str) -> None:
    free = torch.cat([gate[:, 1:] for gate in _gates(order)], dim=1)
    assert free.sum(1).tolist() == [min(int(u * 5), 4) for u in _utilizations().tolist()]


def test_joint_gates_are_any_of_all_modules() -> None:
    free = torch.cat([gate[:, 1:] for gate in _gates("joint")], dim=1)
    assert free.mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.08)


def test_blockwise_gates_go_on_round_robin_from_the_last_module() -> None:
    gates = [gate[:, 1:] for gate in _gates("blockwise")]
    sizes, order = [1, 3], round_robin([1, 3])
    for sample, utilization in enumerate(_utilizations().tolist()):
        on = [(m, i) for m in (0, 1) for i in range(len(gates[m][sample])) if gates[m][sample, i]]
        expected: list[tuple[int, int]] = []
        for m, i in order:  # the slow obvious way
            room = sum(part == m for part, _ in expected) < math.ceil(sizes[m] * utilization)
            if room and len(expected) < min(int(utilization * 5), 4):
                expected.append((m, i))
        assert sorted(expected) == on


def test_blockwise_blocks_of_a_resnet_are_those_of_the_released_code() -> None:
    """Stages of 3, 4 and 6 blocks: 2 of 101 utilizations differ from the order without the cap of a stage."""
    topology = resnet(4, (3, 4, 6), utilizations=(0.0, 0.5, 1.0)).topology
    (module,) = topology.gated
    sizes = [topology.maps[maps[0]].size for maps in module.components]
    utilization_N = torch.arange(101, dtype=torch.double) / 100
    (gates,) = sample_gates(topology, utilization_N, "blockwise", torch.Generator())
    (nested,) = sample_gates(topology, utilization_N, "nested", torch.Generator())
    assert torch.equal(gates.sum(1), nested.sum(1))
    differ = [u for u in range(101) if not torch.equal(gates[u], nested[u])]
    assert differ == [65, 66]
    on = [sum(bool(g) for g, size in zip(gates[65], sizes) if size == each) for each in sorted(set(sizes))[::-1]]
    assert on == [2, 3, 4]


def test_modules_of_a_stage_share_a_permutation() -> None:
    topology = vgg(8, (2, 3), 4).topology
    drawn = sample_gates(topology, torch.full((50,), 0.5).double(), "permuted", torch.Generator().manual_seed(0))
    first, second, third, fourth, fifth, *_ = drawn
    assert torch.equal(first, second)
    assert torch.equal(third, fourth)
    assert torch.equal(third, fifth)
    assert not torch.equal(second, third)


def test_a_step_is_cross_entropy_at_the_utilizations_drawn() -> None:
    network = AnytimeNetwork(NET).eval()
    x, labels = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(3)), torch.arange(6) % 5
    (loss,) = RandomUtilization(least=0.4).losses(network, x, labels, torch.Generator().manual_seed(4))
    drawn = 0.4 + 0.6 * torch.rand(6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = []
    for sample, utilization in enumerate(drawn.tolist()):
        network.set_utilization(utilization)
        expected.append(F.cross_entropy(network(x[sample : sample + 1]), labels[sample : sample + 1]))
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    assert nested_gates(TOPOLOGY, drawn)[1].sum() < 6 * 4


def _spied(monkeypatch: pytest.MonkeyPatch, count: int = 16, **settings: Any) -> tuple[list[tuple[int, int]], float]:
    """Samples and MACs of the passes of one step without its masked pass, and the sum of its losses."""
    network = AnytimeNetwork(replace(NET, norm="recalibrated")).train()
    passes: list[tuple[int, int]] = []
    forward = network.forward

    def spy(x: torch.Tensor, level: int | Subnetwork) -> torch.Tensor:
        point = level if isinstance(level, Subnetwork) else network.architecture.points[level]
        passes.append((len(x), subnetwork_macs(TOPOLOGY, point)))
        return forward(x, level)

    monkeypatch.setattr(network, "forward", spy)
    x, labels = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(3)), torch.arange(count) % 5
    losses = list(RandomUtilization(**settings).losses(network, x, labels, torch.Generator().manual_seed(4)))
    return passes, sum(loss.item() for loss in losses)


def test_groups_of_one_utilization_run_what_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """All samples at utilization 1, and once more in groups, the first of them at the smallest."""
    passes, loss = _spied(monkeypatch, groups=3)
    smallest, largest = NET.costs
    assert [count for count, _ in passes] == [16, 6, 5, 5]
    assert [cost for _, cost in passes[:2]] == [largest, smallest]
    assert all(smallest <= cost <= largest for _, cost in passes)
    assert 2 < loss < 6  # two means over the batch: about ln 5 each


def test_groups_are_of_two_samples_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [count for count, _ in _spied(monkeypatch, count=7, groups=4)[0]] == [7, 3, 2, 2]
    assert [count for count, _ in _spied(monkeypatch, count=2, groups=4)[0]] == [2, 2]


def test_groups_learn_the_answers_of_the_largest_where_these_are_soft() -> None:
    network = AnytimeNetwork(NET).eval()
    x, labels = torch.randn(6, 3, 8, 8), torch.arange(6) % 5
    rule = RandomUtilization(groups=2, weight=0.5, soft=True)
    largest, first, second = rule.losses(network, x, labels, torch.Generator())
    torch.testing.assert_close(largest, F.cross_entropy(network(x), labels))
    network.set_utilization(0.0)
    answers = network(x, 1).softmax(1).detach()
    torch.testing.assert_close(first, F.cross_entropy(network(x[:3]), answers[:3]) / 4)
    assert second.item() > 0


def test_all_samples_warm_up_at_utilization_1(monkeypatch: pytest.MonkeyPatch) -> None:
    network = AnytimeNetwork(NET).eval()
    x, labels = torch.randn(6, 3, 8, 8), torch.arange(6) % 5
    rule = RandomUtilization(warm_up=0.5)
    rule.progress = 0.49
    (loss,) = rule.losses(network, x, labels, torch.Generator())
    torch.testing.assert_close(loss, F.cross_entropy(network(x), labels))
    rule.progress = 0.5
    (other,) = rule.losses(network, x, labels, torch.Generator().manual_seed(4))
    assert other.item() != pytest.approx(loss.item(), abs=1e-6)


def test_the_trainer_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[float] = []

    class Watching(RandomUtilization):
        @property
        def progress(self) -> float:  # type: ignore[override]
            return told[-1] if told else 1.0

        @progress.setter
        def progress(self, value: float) -> None:
            told.append(value)

    trainer = Training("synthetic:n=400,classes=3,size=8,channels=1", device="cpu")
    network = resnext(8, (1, 1), 2, 4, 2, task=trainer.dataset.task, utilizations=(0.0, 1.0))
    job = Job(candidate=0, architecture=network.to_json(), seed=0, epochs=4, until=2, images=None, folder=str(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluators.rules.random_utilization.RandomUtilization", Watching)
        trainer.evaluate(job, lambda epoch: None)
    steps = len(told)
    assert told == pytest.approx([step / (2 * steps) for step in range(steps)])


@pytest.mark.parametrize("order", ORDERS)
def test_training_lowers_the_loss_at_every_utilization(order: str) -> None:
    generator = torch.Generator().manual_seed(5)
    network = AnytimeNetwork(resnext(8, (1, 1), 2, 4, 2, task=TASK, utilizations=(0.0, 1.0)), generator=generator)
    labels = torch.arange(40) % 5
    x = 0.3 * torch.randn(40, 3, 8, 8, generator=generator)
    x += torch.randn(5, 3, 1, 1, generator=generator)[labels]
    rule, optimiser = RandomUtilization(order=order), torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(40):
        optimiser.zero_grad()
        for loss in rule.losses(network.train(), x, labels, generator):
            loss.backward()
        optimiser.step()
    network.eval()
    for utilization in (0.0, 0.5, 1.0):
        network.set_utilization(utilization)
        assert (network(x).argmax(1) == labels).float().mean() > 0.8


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"least": 1.0}, r"from 0 to below 1. Got 1.0"),
        ({"least": -0.1}, "Got -0.1"),
        ({"least": True}, "Got True"),
        ({"least": "a"}, "Got 'a'"),
        ({"warm_up": -0.5}, "warm_up must be a share"),
        ({"soft": True}, "soft must be true or false, and is for groups. Got soft=True, groups=0"),
        ({"groups": 2, "weight": 0}, "weight must be positive. Got 0"),
        ({"weight": 0.5}, "weight is for groups. Got weight=0.5, groups=0"),
        ({"groups": 1.5}, "groups must be a whole number, at least 0. Got 1.5"),
        ({"groups": 2, "order": "joint"}, "need the order 'nested'. Got groups=2, order='joint'"),
        ({"order": "random"}, r"order of components.*random.*blockwise"),
    ],
)
def test_settings_that_make_no_sense(settings: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        RandomUtilization(**settings)


def test_a_network_without_gates_is_refused() -> None:
    network = AnytimeNetwork(Slimmable().architecture(lambda name, options: options[0], TASK))
    with pytest.raises(UserError, match="need a network with gated modules"):
        next(RandomUtilization().losses(network, torch.zeros(2, 3, 8, 8), torch.zeros(2).long(), torch.Generator()))
