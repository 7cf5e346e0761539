"""SteppingNet's construction: ownership of filters, budgets and settings."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from evaluators.rules.permutation import channel_groups
from evaluators.rules.stepping import Stepping
from nas.errors import UserError
from nas.representation.architecture import macs
from nas.representation.ownership import move_filters, owned_groups, with_slices
from nas.representation.wiring import channel_mask

from .steppings import construction, owners_of, proposal, train


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("importance", ["gradient", "magnitude", "random"])
def test_no_live_weight_reads_a_filter_of_a_larger_subnet(norm, importance):
    made = construction(proposal(norm=norm), importance=importance, rounds=7)
    train(made, range(30), rate=0.01)
    topology, owners = made.network.architecture.topology, made.owners()
    group_of = {i: g for g, maps in enumerate(made.groups) for i in maps}
    for index, layer in enumerate(made.network.operation_layers):
        operation = topology.operations[index]
        if layer.weight is None or not {operation.source, operation.target} <= group_of.keys():
            continue
        reads, writes = owners[group_of[operation.source]], owners[group_of[operation.target]]
        backwards = torch.from_numpy(reads[None, :] > writes[:, None])
        assert backwards.any()
        assert not layer.weight[backwards].any()
        assert (channel_mask(topology, index) == ~backwards.numpy()).all()


def test_importance_is_weighed_by_level_and_has_mean_one():
    made = construction(importance="gradient")
    for group in range(len(made.groups)):
        known = made.importance(group)
        known.copy_(torch.arange(known.numel()).reshape(known.shape).float() + group)
        expected = sum(0.5**level * known[level] for level in range(made.levels)).double().numpy()
        scores = made.scores(torch.Generator())[group]
        np.testing.assert_allclose(scores, expected / expected.mean(), rtol=1e-6)


def test_the_least_important_filters_go_first():
    made = construction(importance="gradient")
    rng = np.random.default_rng(0)
    for group in range(len(made.groups)):
        known = made.importance(group)
        known.copy_(torch.from_numpy(rng.random(known.shape)))
    scores, before = made.scores(torch.Generator()), made.owners()
    owners = move_filters(before, scores, [0.6 * cost for cost in made.start.costs], made.macs)
    moved = [after > owner for after, owner in zip(owners, before)]
    assert any(m.any() for m in moved)
    for level in range(made.levels):  # of what a level had, across groups: what went is below what stayed, but for
        for score, owner, gone in zip(scores, before, moved):  # a level's last filter
            here = owner == level
            if gone[here].any() and not gone[here].all():
                assert score[here & gone].max() <= score[here & ~gone].min()


def test_half_of_what_is_known_is_remembered_after_a_round():
    made = construction(steps=30, rounds=3)
    generator = torch.Generator().manual_seed(1)
    for group in range(len(made.groups)):
        made.importance(group).fill_(8.0)
    step = next(s for s in range(30) if made.round_at(s + 1) != made.round_at(s))
    assert made.advance(step, generator) is not None
    for group in range(len(made.groups)):
        assert set(made.importance(group).unique().tolist()) == {4.0}


def test_what_is_constructed_is_refined_step_by_step_at_what_it_costs():
    """The executor with cached activations, with pruned weights: answers, and MACs as torch counts them."""
    made = construction(prune=0.05)
    train(made, range(30))
    network = made.network.eval()
    assert any(mask.any() for mask in made.pruned().values())
    x, steps = torch.randn(4, 1, 8, 8), network.refine(torch.randn(4, 1, 8, 8))
    assert sum(network.refine_macs()) == network.macs[-1]
    for level, logits in enumerate(network.refine(x)):
        torch.testing.assert_close(logits, network.extract(level)(x), rtol=1e-4, atol=1e-5)
    for level in range(network.levels):
        with FlopCounterMode(display=False) as counter:
            next(steps)
        assert counter.get_total_flops() == 2 * 4 * network.refine_macs()[level]


def test_every_subnet_alone_answers_as_in_the_causal_pass():
    made = construction()
    train(made, range(30))
    x = torch.randn(5, 1, 8, 8)
    for training in (True, False):
        made.network.train(training)
        with torch.no_grad():
            together = made.network.forward_all(x)
            for level, logits in enumerate(together):
                torch.testing.assert_close(made.network(x, level), logits)
    for level, logits in enumerate(together):
        torch.testing.assert_close(made.network.extract(level)(x), logits)


def test_the_macs_of_the_first_subnet_and_the_increments_are_those_of_the_last():
    """Increments counted from the wiring: what a level's own filters read, and what the classifier reads of them."""
    made = construction()
    train(made, range(30))
    architecture = made.network.architecture
    topology, points = architecture.topology, architecture.points
    increments = []
    for level, point in enumerate(points):
        total = 0
        before = topology.active(points[level - 1]) if level else [0] * len(topology.maps)
        now = topology.active(point)
        for index, operation in enumerate(topology.operations):
            mask, each = channel_mask(topology, index), topology.macs_per_pair[index]
            if operation.target == point.output:
                total += each * mask[:, before[operation.source] : now[operation.source]].sum()
            else:
                rows = mask[before[operation.target] : now[operation.target], : now[operation.source]]
                total += each * rows.sum()
        increments.append(total)
    assert increments[0] == macs(architecture)[0]
    assert np.cumsum(increments).tolist() == list(macs(architecture))


@pytest.mark.parametrize("settings_", [{}, {"original": "4-4-9"}, {"expansion": 1.0}, {"expansion": 3.0}], ids=str)
def test_budgets_hold_at_the_end_of_construction(settings_):
    """Until then the smallest subnet shrinks; larger ones also read more for filters that have come to them."""
    made, costs = construction(rounds=6, **settings_), []
    for step in range(30):
        train(made, range(step, step + 1))
        costs.append(macs(made.network.architecture))
    budgets = macs(proposal())
    assert all(cost <= budget for cost, budget in zip(costs[-1], budgets))
    assert costs[9] == costs[-1]
    assert all(after[0] <= before[0] for before, after in pairwise(costs))
    assert len(set(costs[:10])) > 1


def test_all_filters_start_in_the_first_subnet_but_one_for_each_of_the_others():
    made = construction(expansion=2.0)
    assert owners_of(made) == [[0] * 10 + [1, 2], [0] * 8 + [1, 2], [0] * 12 + [1, 2]]
    assert [len(owner) for owner in owners_of(construction(original="5-9-20", expansion=1.4))] == [7, 13, 28]


def test_ownership_never_decreases():
    """Filters are told apart by a bias that training cannot change: it has no gradient."""
    made = construction(rounds=10)
    topology, names = made.network.architecture.topology, [f"layers.{o}.after.bias" for o in (0, 5)]
    assert len(topology.operations) == 7
    seen: dict[tuple[str, float], int] = {}
    parameters = dict(made.network.named_parameters())
    with torch.no_grad():
        for name in names:
            parameters[name].copy_(torch.arange(1, parameters[name].shape[1] + 1))
    groups_of = channel_groups(topology, made.groups)
    for step in range(12):
        train(made, range(step, step + 1), rate=0.0, decay=0.0)
        parameters, owners = dict(made.network.named_parameters()), made.owners()
        for name in names:
            for mark, owner in zip(parameters[name][0].tolist(), owners[groups_of[name][1]].tolist()):
                assert owner >= seen.get((name, mark), 0)
                seen[name, mark] = owner
    assert set(seen.values()) == {0, 1, 2}


def test_every_subnet_keeps_a_filter_of_every_layer():
    made = construction(rounds=3)
    train(made, range(30))
    assert all(set(owner) == {0, 1, 2} for owner in owners_of(made))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"original": "3,4"}, "original must be numbers of filters"),
        ({"original": "3-0"}, "such as 32-32-32. Got '3-0'"),
        ({"expansion": 0.5}, "expansion must be a number, at least 1"),
        ({"construction": 1.0}, "construction must be a share"),
        ({"rounds": 0}, "rounds must be a whole number"),
        ({"rounds": True}, "rounds must be a whole number"),
        ({"importance": "size"}, "Unknown importance 'size'"),
        ({"prune": -1}, "prune must be a number, at least 0"),
        ({"beta": 1.5}, "beta must be a number between 0 and 1"),
        ({"gamma": "none"}, "gamma must be a number between 0 and 1"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense(changes, said):
    with pytest.raises(UserError, match=said):
        Stepping(**changes)


def test_networks_that_cannot_be_constructed():
    with pytest.raises(UserError, match=r"filters of 3 layers, such as 6-5-7\. Got 3-4"):
        construction(original="3-4")
    with pytest.raises(UserError, match=r"share their norms\. Got norm='recalibrated'"):
        construction(replace(proposal(), norm="recalibrated"))


def test_one_level_is_a_network_of_less_width():
    made = construction(with_slices(proposal(), [(6,), (5,), (7,)]), gamma=1.0)
    train(made, range(30))
    assert macs(made.network.architecture)[0] <= macs(with_slices(proposal(), [(6,), (5,), (7,)]))[0]
    assert owned_groups(made.network.architecture) == made.groups


def test_fewer_steps_than_rounds_still_meet_the_budgets():
    made = construction(steps=3, rounds=20)
    train(made, range(3))
    assert all(cost <= budget for cost, budget in zip(macs(made.network.architecture), macs(proposal())))
