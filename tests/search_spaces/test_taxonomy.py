"""Networks for labels with a hierarchy: coarse answers from small points, fine from large, each trained on its own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.rules.causal import Causal
from evaluators.rules.joint import Joint
from evaluators.rules.path_sampling import UniformSampling
from evaluators.rules.sandwich import Sandwich
from nas.errors import InvalidArchitecture
from nas.execution.network import AnytimeNetwork
from nas.plugins import load_plugin
from nas.representation.architecture import Architecture, macs
from nas.representation.elements import Task
from nas.spaces.choices import Domains, Recorder, at_random
from search_spaces.slicing import i_resnext, sparse_resnext

TASK = Task(input_shape=(1, 8, 8), num_classes=6, hierarchy=((0, 1, 1, 1, 0, 0),))
FLAT = Task(input_shape=(1, 8, 8), num_classes=6)
SMALL: dict[str, Any] = {"num_blocks": 1, "width": 8, "bottleneck": 1, "cardinality": 4, "levels": 4}
COARSE = torch.tensor(TASK.hierarchy[0])


def _network(architecture: Architecture) -> AnytimeNetwork:
    return AnytimeNetwork(architecture, generator=torch.Generator().manual_seed(3)).double()


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, *TASK.input_shape, generator=generator, dtype=torch.float64), torch.arange(12) % 6


@pytest.mark.parametrize("make", [i_resnext, sparse_resnext])
def test_the_first_half_of_the_points_answers_coarsely(make: Callable[..., Architecture]) -> None:
    deep, flat = make(**SMALL, task=TASK), make(**SMALL, task=FLAT)
    assert [deep.labelling(point) for point in deep.points] == [1, 1, 0, 0]
    features = [
        flat.topology.active(point)[-2 if make is sparse_resnext else point.output - 1] for point in flat.points
    ]
    for level, (cost, fine) in enumerate(zip(macs(deep), macs(flat))):
        assert fine - cost == (features[level] * (6 - 2) if level < 2 else 0)


@pytest.mark.parametrize("space", ["residual", "mobile", "slimmable", "slicing"])
def test_spaces_answer_coarsely_from_small_points(space: str) -> None:
    decide, domains, instance = (
        at_random(np.random.default_rng(0)),
        Domains(),
        load_plugin("nas.search_spaces", space)(),
    )
    built = 0
    for _ in range(12):
        try:
            architecture = instance.architecture(Recorder(decide, domains), TASK, points=4)
        except InvalidArchitecture:
            continue
        built += 1
        assert [architecture.labelling(point) for point in architecture.points] == [1, 1, 0, 0]
        assert [logits.shape[1] for logits in _network(architecture).train().forward_all(_batch()[0])] == [2, 2, 6, 6]
    assert built > 8


def test_the_stepping_space_answers_finely_at_all_points() -> None:
    architecture = load_plugin("nas.search_spaces", "stepping")().architecture(
        Recorder(at_random(np.random.default_rng(0)), Domains()), TASK, points=4
    )
    assert {architecture.labelling(point) for point in architecture.points} == {0}


def test_refining_counts_the_coarse_answers_that_are_discarded() -> None:
    """Steps cost their points' increments, and a step to finer labels all of its classifier, which starts afresh."""
    network, (x, _) = _network(sparse_resnext(**SMALL, task=TASK)), _batch()
    for layer in network.operation_layers:
        if layer.before is not None:
            layer.before.mean.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    network.eval()
    features = [network.architecture.topology.active(point) for point in network.architecture.points]
    pooled = max(i for i, m in enumerate(network.architecture.topology.maps) if m.size == () and m.channels > 6)
    discarded = features[1][pooled] * 2  # the coarse classifier's at the second point
    increments = [network.macs[0], *(after - before for before, after in pairwise(network.macs))]
    increments[2] += discarded
    assert list(network.refine_macs()) == increments
    assert sum(network.refine_macs()) == network.macs[-1] + discarded
    for level, (refined, alone, together) in enumerate(zip(network.refine(x), range(4), network.forward_all(x))):
        torch.testing.assert_close(refined, network(x, alone))
        torch.testing.assert_close(refined, together)
        torch.testing.assert_close(refined, network.extract(level)(x))


RULES: dict[str, tuple[Any, Callable[..., Architecture]]] = {
    "joint": (Joint(), i_resnext),
    "sandwich": (Sandwich(sampled=2), sparse_resnext),
    "causal": (Causal(), sparse_resnext),
    "uniform sampling": (UniformSampling(sampled=0), sparse_resnext),
}


@pytest.mark.parametrize("name", RULES)
def test_every_level_learns_the_labels_that_it_tells(name: str) -> None:
    rule, make = RULES[name]
    network, (x, labels) = _network(make(**SMALL, task=TASK)).train(), _batch()
    total = sum(rule.losses(network, x, labels, torch.Generator()))
    levels = (0, 3) if name == "uniform sampling" else range(4)
    labels_of = {0: COARSE[labels], 1: COARSE[labels], 2: labels, 3: labels}
    expected = sum(F.cross_entropy(network(x, level), labels_of[level]) for level in levels)
    torch.testing.assert_close(total, expected)


def test_sampled_subnetworks_learn_the_labels_that_they_tell() -> None:
    network, (x, labels) = _network(sparse_resnext(**SMALL, task=TASK)).train(), _batch()
    rule, labels_of = UniformSampling(sampled=1), {2: COARSE[labels], 6: labels}
    ran: list[Any] = []
    handle = network.register_forward_hook(lambda _, given, out: ran.append(given[1]))
    drawn = []
    for seed in range(12):
        *_, loss = rule.losses(network, x, labels, torch.Generator().manual_seed(seed))
        drawn.append((ran[-1], loss))
    handle.remove()
    for point, loss in drawn:
        logits = network(x, point)
        torch.testing.assert_close(loss, F.cross_entropy(logits, labels_of[logits.shape[1]]))
    assert {network(x, point).shape[1] for point, _ in drawn} == {2, 6}


@pytest.mark.parametrize("name", ["sandwich", "causal"])
def test_coarse_answers_are_distilled_from_fine_ones_by_adding_up(name: str) -> None:
    network, (x, labels) = _network(sparse_resnext(**SMALL, task=TASK)).train(), _batch()
    p = network(x).detach().softmax(1)
    joined = torch.stack([p[:, k == COARSE].sum(1) for k in range(2)], dim=1)
    teachers = [joined, joined, p, p]
    if name == "sandwich":
        total = sum(Sandwich(sampled=2, soft=True).losses(network, x, labels, torch.Generator()))
        expected = F.cross_entropy(network(x), labels)
        expected += sum(F.cross_entropy(network(x, level), teachers[level]) for level in range(3))
    else:
        (total,) = Causal(distill=0.5).losses(network, x, labels, torch.Generator())
        (expected,) = Causal().losses(network, x, labels, torch.Generator())
        for level in range(3):
            answers = network(x, level).log_softmax(1)
            expected += 0.5 * F.kl_div(answers, teachers[level], reduction="batchmean")
    torch.testing.assert_close(total.double(), expected.double(), rtol=1e-5, atol=1e-6)
