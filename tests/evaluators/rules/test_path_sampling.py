"""The rules of path-sampled training: what a step trains, the same run from the same seed, points that answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from evaluators.rules.path_sampling import DegreeSampling, PathSampling, RandomPathSampling, UniformSampling
from evaluators.training import Training as Trainer
from nas.chain.importance import chain_scores, degree_importance, important_alternatives
from nas.errors import UserError
from nas.evaluation.jobs import Job
from nas.execution.network import AnytimeNetwork
from nas.plugins import load_plugin
from nas.representation.architecture import Architecture, macs
from nas.representation.builder import Builder
from nas.representation.elements import Subnetwork, Task, TrainingSpec
from nas.representation.supernet import sample_subnetwork
from search_spaces.slicing import sparse_resnext
from search_spaces.tips import resnet34

RULES = ("path_sampling", "uniform_sampling", "degree_sampling", "random_path_sampling")


def supernet(norm="recalibrated", **settings) -> Architecture:
    """A stem and two blocks on digits, with a parallel convolution, a pooling and a long skip to choose."""
    b, widths, nr = Builder(Task(input_shape=(1, 8, 8), num_classes=10)), (4, 8), ("norm", "relu")
    x = b.conv(b.input, widths, after=nr)
    y = b.conv(b.conv(x, widths, after=nr), widths, after=("norm",), activation="relu")
    b.identity(x, y)
    b.add("conv", x, y, kernel=1, after=("norm",), optional=True)
    z = b.conv(b.conv(y, widths, stride=2, after=nr), widths, after=("norm",), activation="relu")
    b.add("conv", y, z, kernel=1, stride=2, after=("norm",))
    b.add("avg_pool", y, z, kernel=3, stride=2, optional=True)
    b.add("avg_pool", x, z, kernel=3, stride=2, optional=True)
    b.head(z)
    return b.architecture(2, norm=norm, **settings)


def train(rule, folder, *, until=2, seed=1, epochs=2, images=300, **settings):
    architecture = replace(supernet(), training=TrainingSpec(rule=rule, settings=tuple(sorted(settings.items()))))
    job = Job(
        candidate=1,
        architecture=architecture.to_json(),
        seed=seed,
        epochs=epochs,
        until=until,
        images=images,
        folder=str(folder),
        test=True,
    )
    return Trainer("digits", device="cpu").evaluate(job, lambda epoch: None)


def step(rule, network, seed=0):
    """Losses of a step of a rule, and the subnetworks that it ran."""
    ran, forward = [], network.forward

    def spy(x, level=None):
        ran.append(level)
        return forward(x, level)

    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    labels = torch.arange(8) % 10
    network.forward = spy
    losses = list(rule.losses(network.train(), x, labels, torch.Generator().manual_seed(seed)))
    del network.forward
    return losses, ran, (x, labels)


@pytest.fixture
def network():
    return AnytimeNetwork(supernet(), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", RULES)
def test_a_step_trains_the_largest_the_smallest_and_sampled_ones(name, network):
    rule = load_plugin("nas.training_rules", name)(sampled=3)
    losses, ran, _ = step(rule, network)
    assert ran[:2] == [1, 0]
    assert [type(level) for level in ran[2:]] == [Subnetwork] * 3
    assert all(loss.shape == () and torch.isfinite(loss) for loss in losses)
    sum(losses).backward()
    assert all(p.grad is not None for p in network.parameters())
    assert step(rule, network)[1] == ran
    assert any(step(rule, network, seed)[1] != ran for seed in range(1, 5))


def test_soft_targets_are_the_largest_detached_answers(network):
    hard, ran, (x, labels) = step(PathSampling(), network)
    soft, again, _ = step(PathSampling(soft=True), network)
    assert ran == again
    with torch.no_grad():
        answers = network(x, 1).softmax(1)
        for losses, targets in ((hard, labels), (soft, answers)):
            expected = [F.cross_entropy(network(x, level), labels if level == 1 else targets) for level in ran]
            assert torch.tensor(losses) == pytest.approx(torch.stack(expected))
    network.zero_grad()
    step(PathSampling(soft=True, sampled=0), network)[0][1].backward()  # of the smallest point alone
    through = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    F.cross_entropy(network(x, 0), answers).backward()
    for got, parameter in zip(through, network.parameters()):
        torch.testing.assert_close(got, torch.zeros_like(got) if parameter.grad is None else parameter.grad)


@pytest.mark.parametrize("beta", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("walk", ["training", "paths", "flow", "undirected"])
def test_path_sampling_favours_what_the_chain_finds_important(walk, beta):
    architecture = supernet()
    best = important_alternatives(architecture, chain_scores(architecture, walk).importance)
    made = PathSampling(walk=walk, beta=beta).choice_groups(architecture)
    assert tuple(choice.important for choice in made) == best
    for choice in made:
        weights = [1 + beta * (i == choice.important) for i in range(len(choice.alternatives))]
        assert choice.probabilities == pytest.approx([w / sum(weights) for w in weights])


def test_the_controls_favour_what_they_say():
    architecture = supernet()
    even, degree = UniformSampling().choice_groups(architecture), DegreeSampling(beta=1.0).choice_groups(architecture)
    assert all(choice.important is None and len(set(choice.probabilities)) == 1 for choice in even)
    best = important_alternatives(architecture, degree_importance(architecture))
    assert tuple(choice.important for choice in degree) == best
    assert all(choice.probabilities[choice.important] == pytest.approx(2 / 3) for choice in degree)


def test_what_is_favoured_is_drawn_more_often(network):
    """How often a step runs the important operation of a choice, against half the time."""
    rule = PathSampling(beta=3.0, sampled=200)
    (choice, *_) = [c for c in rule.choice_groups(network.architecture) if len(c.alternatives) == 2]
    _, ran, _ = step(rule, network)
    optional = next(o for o in choice.alternatives if o is not None)
    share = np.mean([optional in point.operations for point in ran[2:]])
    assert share == pytest.approx(choice.probabilities[choice.alternatives.index(optional)], abs=0.12)


def test_a_random_path_is_drawn_once_and_by_its_number():
    architecture = supernet()
    rules = [RandomPathSampling(path=path) for path in (0, 0, *range(1, 9))]
    paths = [tuple(group.important for group in rule.choice_groups(architecture)) for rule in rules]
    assert paths[0] == paths[1]
    assert len(set(paths)) > 2


def test_settings_are_checked():
    for wrong in (
        {"beta": True},
        {"sampled": -1},
        {"sampled": 1.5},
        {"beta": -1.0},
        {"walk": "drunk"},
        {"widths": "any"},
        {"walk": 3},
        {"soft": "maybe"},
    ):
        with pytest.raises(UserError, match=str(next(iter(wrong.values())))):
            PathSampling(**wrong)
    with pytest.raises(UserError, match="path="):
        RandomPathSampling(path="a")


def test_a_norm_for_every_point_is_refused():
    network = AnytimeNetwork(supernet("per_point"))
    with pytest.raises(UserError, match="per_point"):
        step(PathSampling(), network)


def test_a_shared_norm_is_trained():
    sliced = sparse_resnext(1, 8, 1, 4, 4, task=Task(input_shape=(1, 8, 8), num_classes=10))
    shared = AnytimeNetwork(sliced, generator=torch.Generator().manual_seed(0))
    assert len(step(UniformSampling(), shared)[0]) == 4


@pytest.mark.parametrize("rule", [PathSampling, DegreeSampling, RandomPathSampling])
def test_a_rule_without_effect_is_refused(rule):
    plain = Builder(Task(input_shape=(1, 8, 8), num_classes=10))
    plain.head(plain.conv(plain.input, (4, 8)))
    network = plain.architecture(2)
    with pytest.raises(UserError, match=r"needs a network with optional operations.*Got none with beta=100"):
        rule(beta=100.0).check(network)
    rule(beta=0.0).check(network)
    UniformSampling().check(network)


def test_widths_of_points_are_those_of_the_operating_points():
    network = resnet34(Task(input_shape=(1, 16, 16), num_classes=4), width=8, depths=(1, 1, 1, 1), points=5)
    rng, points = np.random.default_rng(0), {point.channels for point in network.points}
    drawn = {sample_subnetwork(network, (), rng, widths="points").channels for _ in range(100)}
    assert drawn == points
    early = Builder(Task(input_shape=(1, 8, 8), num_classes=4))
    x = early.conv(early.input, (4, 8, 12))
    first = early.head(x)
    early.head(early.conv(early.conv(x, (4, 8, 12)), (4, 8, 12)))
    exits = early.architecture([early.point(0, output=first), early.point(0), early.point(2)])
    drawn = {sample_subnetwork(exits, (), rng, widths="points").channels for _ in range(100)}
    assert drawn == {point.channels for point in exits.points}
    common = {sample_subnetwork(network, (), rng, widths="common").channels for _ in range(100)}
    assert not common <= points  # maps with two widths are whole at all levels but one


@pytest.mark.parametrize("name", RULES)
def test_training_is_a_function_of_the_seed_and_continues_where_it_stopped(name, tmp_path):
    np.random.seed(3)  # noqa: NPY002  # the global state is what must not move
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    outcome = train(name, tmp_path / "once")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    train(name, tmp_path / "continued", until=1)
    assert train(name, tmp_path / "continued").points == outcome.points
    assert [point["macs"] for point in outcome.points] == list(macs(supernet()))
    assert all(np.isfinite(point["loss"]) and 0 <= point["test_accuracy"] <= 1 for point in outcome.points)
    network = AnytimeNetwork.load(tmp_path / "once")
    assert all(network(torch.zeros(2, 1, 8, 8), level).shape == (2, 10) for level in range(2))


def test_another_seed_trains_another_network(tmp_path):
    assert train("path_sampling", tmp_path / "a").points != train("path_sampling", tmp_path / "b", seed=2).points


def test_a_rule_learns(tmp_path):
    outcome = train("path_sampling", tmp_path, epochs=5, until=5, images=None, beta=1.0, walk="flow")
    assert outcome.points[-1]["accuracy"] > 0.6
