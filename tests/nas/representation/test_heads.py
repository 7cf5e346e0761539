"""A classifier for every operating point."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from torch.nn import functional as F

from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.heads import own_heads

from ..hand_built import TASK, causal, lenet, multi_exit, residual
from ..networks import random_images, random_network, random_statistics

causals = pytest.mark.parametrize("make", [causal, lenet], ids=["causal", "lenet"])


def _twins(architecture: Architecture) -> tuple[AnytimeNetwork, AnytimeNetwork]:
    """A network with one classifier, and one with a classifier for every point that says the same."""
    shared = random_statistics(random_network(architecture, dtype=torch.float64))
    own = AnytimeNetwork(own_heads(architecture)).double()
    for o, layer in enumerate(own.operation_layers):  # the classifier comes last, and its copies behind it
        layer.load_state_dict(shared.operation_layers[min(o, len(shared.operation_layers) - 1)].state_dict())
    own.calibrated.fill_(True)
    return shared.eval(), own.eval()


@pytest.mark.parametrize("make", [causal, lenet, residual], ids=["causal", "lenet", "residual"])
def test_the_same_classifier_for_every_point_says_the_same_at_the_same_cost(make):
    shared, own = _twins(make())
    x = random_images(shared)
    assert (own.macs, own.params) == (shared.macs, shared.params)
    assert len({point.output for point in own.architecture.points}) == own.levels
    for one, other in zip(shared.forward_all(x), own.forward_all(x)):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-12)


def test_points_that_answer_in_other_labels_keep_theirs():
    task = replace(TASK, hierarchy=((0, 0, 1, 1, 1),))
    builder = Builder(task)
    builder.head(builder.conv(builder.input, (2, 4, 6, 8), wiring="causal"))
    shared = builder.architecture(4, norm="shared")
    own = own_heads(shared)
    assert len({point.output for point in shared.points}) == 2
    assert len({point.output for point in own.points}) == 4
    assert [own.labelling(point) for point in own.points] == [shared.labelling(point) for point in shared.points]
    assert own.costs == shared.costs


@causals
def test_reuse_stays_exact_and_each_classifier_is_read_whole(make):
    shared, own = _twins(make())
    x = random_images(own)
    for level, logits in enumerate(own.refine(x)):
        torch.testing.assert_close(logits, own(x, level).detach(), rtol=0, atol=1e-10)
    classifier = shared.architecture.topology.macs_per_pair[-1] * shared.architecture.task.num_classes
    read = [point.channels[-2] for point in shared.architecture.points]
    again = [0, *accumulate(classifier * n for n in read[:-1])]
    assert list(accumulate(own.refine_macs())) == [cost + more for cost, more in zip(own.macs, again)]


@causals
def test_a_level_teaches_no_classifier_but_its_own(make):
    own = random_network(own_heads(make())).train()
    x = random_images(own)
    for level, logits in enumerate(own.forward_all(x)):
        own.zero_grad()
        F.cross_entropy(logits, torch.arange(len(x)) % 5).backward(retain_graph=True)
        heads = own.operation_layers[-own.levels :]
        taught = [h.weight.grad is not None and bool(h.weight.grad.any()) for h in heads]
        assert taught == [k == level for k in range(own.levels)]


def test_outputs_of_their_own_are_refused():
    with pytest.raises(UserError, match=r"share an output map.*separate ones already"):
        own_heads(multi_exit())
