"""Importance against closed forms and lists of all paths, and the important path on shipped supernets."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from nas.chain.graph import graph_of, sampled_graph, sampled_operations
from nas.chain.importance import (
    CHAINS,
    ChainScores,
    chain_scores,
    degree_importance,
    important_alternatives,
    important_operations,
    important_path,
    path_score,
)
from nas.chain.training import training_chain
from nas.chain.walks import WALKS
from nas.errors import UserError
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.representation.kinds import kind
from nas.representation.supernet import choice_groups

from ..supernets import (
    TASK,
    all_optional,
    listed_paths,
    proposals,
    residual_stack,
    small_supernets,
    supernet,
    two_blocks,
)

BENCHMARK = Path(__file__).resolve().parents[3] / "benchmarks" / "path_sampling.py"


def ranked(architecture: Architecture, importance: list[float]) -> ChainScores:
    """Scores in which operations have this importance and everything the same TAS."""
    maps, count = len(architecture.topology.maps), len(architecture.topology.operations)
    return ChainScores(
        maps=np.full(maps, 1 / (maps + count)),
        outputs=np.full(count, 1 / (maps + count)),
        importance=np.array(importance),
    )


@given(small_supernets())
@settings(max_examples=40, deadline=None)
def test_importance_agrees_with_listing_all_paths_of_all_draws(architecture):
    graph = sampled_graph(architecture, subnetworks=16)
    shares, live = np.zeros(len(architecture.topology.operations)), np.zeros(len(architecture.topology.operations))
    for edges in graph.live:
        operations = sorted({e // 2 for e in edges})
        paths = listed_paths(architecture, operations, architecture.points[-1].output)
        live[operations] += 1
        for path in paths:
            shares[path] += 1 / len(paths)
    importance = chain_scores(architecture, subnetworks=16).importance
    assert importance == pytest.approx(shares / np.maximum(1, live))


@given(small_supernets())
@settings(max_examples=60, deadline=None)
def test_important_path_is_the_best_of_all_listed(architecture):
    scores = chain_scores(architecture, subnetworks=16)
    chosen = set(important_operations(architecture, scores.importance))
    offered = [o for choice in choice_groups(architecture.topology) for o in choice.alternatives if o is not None]
    average = scores.importance[offered].mean() if offered else 0.0
    sought = {o for o in chosen if scores.importance[o] > average + 1e-9}
    path = important_path(architecture, scores)

    def value(path):
        avoided, preferred = sum(o in offered and o not in chosen for o in path), sum(o in sought for o in path)
        return -avoided, preferred, round(path_score(architecture, path, scores), 9)

    everything = range(len(architecture.topology.operations))
    best = max(value(path) for path in listed_paths(architecture, everything, architecture.points[-1].output))
    assert value(path.operations) == best
    assert path.total == pytest.approx(path_score(architecture, path.operations, scores))
    assert path.mean == pytest.approx(path_score(architecture, path.operations, scores, mean=True))
    assert path.maps == (0, *(architecture.topology.operations[o].target for o in path.operations))


@pytest.mark.parametrize("walk", WALKS)
def test_scores_are_shares_of_a_whole(walk):
    for architecture in (supernet(), residual_stack(), all_optional(), *proposals("residual", 3)):
        scores = chain_scores(architecture, walk, subnetworks=64)
        assert scores.maps.sum() + scores.outputs.sum() == pytest.approx(1)
        assert (scores.importance > 0).all()
        assert (scores.importance <= 1 + 1e-12).all()


def test_residual_stack_has_its_closed_form():
    """Nothing to choose, 2⁴ equally likely paths: the body of a block is on half of them."""
    architecture = residual_stack()
    importance = chain_scores(architecture).importance
    kinds = [operation.kind for operation in architecture.topology.operations]
    ends = [0, len(kinds) - 2, len(kinds) - 1]
    assert importance[ends] == pytest.approx(1)
    assert np.delete(importance, ends) == pytest.approx(0.5)
    assert important_operations(architecture, importance) == ()


def test_training_importance_is_the_share_of_the_gradient():
    """Nothing to choose: the chain of the network. An identity passes on as much as the body beside it receives."""
    architecture = residual_stack()
    scores = chain_scores(architecture, "training")
    for trained in training_chain(architecture.topology, architecture.points[-1]):
        assert scores.importance[trained.operation] == pytest.approx(trained.importance)
    operations = architecture.topology.operations
    for o, operation in enumerate(operations):
        if operation.kind == "identity":
            beside = [b for b, body in enumerate(operations) if body.target == operation.target and b != o]
            assert scores.importance[o] == pytest.approx(scores.importance[beside[0]])
    assert scores.maps.sum() + scores.outputs.sum() == pytest.approx(1)


def test_training_importance_is_the_mean_norm_over_subnetworks():
    architecture = two_blocks()
    topology, norms = architecture.topology, {}
    for operations, output in sampled_operations(architecture):
        point = replace(architecture.points[-1], operations=operations, output=output)
        for trained in training_chain(topology, point):
            norms.setdefault(trained.operation, []).append(trained.gradient**0.5)
    means = {o: np.mean(found) for o, found in norms.items()}
    assert len(norms[4]) == 2
    importance = chain_scores(architecture, "training").importance
    for o, mean in means.items():
        assert importance[o] == pytest.approx(mean / sum(means.values()))


def test_of_parallel_alternatives_training_prefers_the_learned_ones():
    builder = Builder(TASK)
    x = builder.conv(builder.input, 8)
    y = builder.map(8)
    for name in ("max_pool", "avg_pool", "conv"):
        builder.add(name, x, y, kernel=3, padding=1, stride=1, optional=True)
    builder.head(y)
    architecture = builder.architecture(1)
    importance = chain_scores(architecture, "training").importance
    assert important_operations(architecture, importance) == (3,)
    assert importance[2] < importance[1]


@pytest.mark.parametrize("walk", CHAINS)
def test_tas_sums_to_1(walk):
    for architecture in proposals("residual", 3):
        scores = chain_scores(architecture, walk, subnetworks=32)
        assert scores.maps.sum() + scores.outputs.sum() == pytest.approx(1)
        assert (scores.importance >= 0).all()


def test_early_exits_end_at_their_outputs():
    builder = Builder(TASK)
    x = builder.conv(builder.input, 8)
    early = builder.head(x)
    x = builder.conv(x, 8)
    last = builder.head(x)
    architecture = builder.architecture([builder.point(0, output=early), builder.point(0, output=last)])
    scores = chain_scores(architecture)
    assert scores.importance.tolist() == [1] * 6  # over the subnetworks in which it is live
    assert scores.maps[0] == pytest.approx(2 / (7 + 9))  # two walks a round, through 4 + 3 and 5 + 4 nodes
    assert important_path(architecture, scores).operations == (0, 3, 4, 5)


def test_chain_importance_by_hand():
    """Paths from the stem's map: 2 or 3 through block 1, times 2 through block 2, plus the path of the skip."""
    architecture = two_blocks()
    assert len(sampled_graph(architecture).live) == 4
    by_paths = chain_scores(architecture, "paths").importance
    assert by_paths[4] == pytest.approx((2 / 6 + 2 / 7) / 2)
    assert by_paths[8] == pytest.approx((1 / 5 + 1 / 7) / 2)
    assert by_paths[[0, 9, 10]] == pytest.approx(1)
    by_flow = chain_scores(architecture, "flow").importance
    assert by_flow[[4, 8]] == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert important_alternatives(architecture, by_paths) == (0, 1)
    assert important_alternatives(architecture, by_flow) == (0, 0)  # a tie: present


def test_undirected_importance_is_degree_if_everything_is_always_live():
    b = Builder(TASK)
    x = b.conv(b.input, (4, 8))
    y = b.conv(x, (4, 8))
    b.identity(x, y)
    b.head(y)
    architecture = b.architecture(1)
    view = graph_of(architecture)
    total = 2 * len(view.graph.edges)
    importance = chain_scores(architecture, "undirected").importance
    assert importance * total * 2 == pytest.approx(degree_importance(architecture))


@pytest.mark.parametrize("walk", ["paths", "flow"])
def test_operations_between_the_same_maps_are_alike_to_a_walk(walk):
    """Why shares are compared across the supernet and not within a group of parallel operations."""
    for architecture in proposals("residual", 10):
        operations = architecture.topology.operations
        shares_TO = WALKS[walk](sampled_graph(architecture, subnetworks=64)).visits_TN[
            :, list(graph_of(architecture).operation_nodes)
        ]
        for i, one in enumerate(operations):
            for j, other in enumerate(operations[:i]):
                if (one.source, one.target) == (other.source, other.target):
                    both = (shares_TO[:, i] > 0) & (shares_TO[:, j] > 0)
                    assert shares_TO[both, i] == pytest.approx(shares_TO[both, j])


def test_large_chains_are_sampled_by_a_seed_of_the_network():
    architecture = max(proposals("residual", 30), key=lambda a: len(choice_groups(a.topology)))
    once, again = (sampled_graph(architecture, subnetworks=100) for _ in range(2))
    assert once == again
    assert len(once.live) == 100
    exact, sampled = (chain_scores(architecture, subnetworks=n).importance for n in (5000, 500))
    assert sampled == pytest.approx(exact, abs=0.03)


def important_share(architecture, walk, **settings):
    """The important path, all important operations, and the path's learned operations that always run."""
    scores = chain_scores(architecture, walk, **settings)
    path = important_path(architecture, scores).operations
    operations = architecture.topology.operations
    best = set(important_operations(architecture, scores.importance))
    body = [o for o in path if kind(operations[o].kind).learned and not operations[o].optional]
    return path, best, body


@pytest.mark.parametrize("space", ["residual", "mobile"])
@pytest.mark.parametrize("walk", WALKS)
def test_important_path_is_neither_the_trunk_nor_skips_only(space, walk):
    """Rarely the trunk, if all alternatives have equal importance, and rarely a path of skips only. With a single
    choice group the alternatives cannot be compared, and the path keeps to the body.
    """
    trunk, skips_only = [], []
    for architecture in proposals(space, 60):
        operations = architecture.topology.operations
        path, best, body = important_share(architecture, walk, subnetworks=256)
        assert {o for o in path if operations[o].optional} <= best
        if len(choice_groups(architecture.topology)) < 2:
            assert not best.intersection(path)
            continue
        trunk.append(not best.intersection(path))
        skips_only.append(len(body) <= 2)  # stem and classifier
    assert np.mean(trunk) <= (0.3 if walk in ("undirected", "tips") else 0.1)
    assert np.mean(skips_only) <= (0.05 if walk == "paths" else 0.2)


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("walk", ["paths", "flow"])
def test_important_path_of_the_supernet_that_path_sampling_is_measured_on(size, walk, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARK.parent)
    architecture = runpy.run_path(str(BENCHMARK))["supernet"](Task(input_shape=(3, size, size), num_classes=10), 16)
    path, best, body = important_share(architecture, walk, subnetworks=512)
    assert len(best.intersection(path)) >= 3
    assert len(body) >= 5


def test_a_lone_skip_is_no_reason_to_leave_the_body():
    """It is exactly the average optional operation, and the body carries more walks."""
    b = Builder(TASK)
    x = b.conv(b.input, 8)
    y = b.conv(b.conv(x, 8), 8)
    b.add("conv", x, y, kernel=1, optional=True)
    b.head(y)
    architecture = b.architecture(1)
    scores = chain_scores(architecture)
    assert important_operations(architecture, scores.importance) == (3,)
    assert important_path(architecture, scores).operations == (0, 1, 2, 4, 5)


def test_the_path_runs_through_operations_above_the_average():
    architecture = two_blocks()
    scores = chain_scores(architecture)
    assert important_operations(architecture, scores.importance) == (4,)
    assert important_path(architecture, scores).operations == (0, 4, 5, 6, 9, 10)
    other = ranked(architecture, [float(o == 8) for o in range(11)])
    assert important_operations(architecture, other.importance) == (8,)
    assert important_path(architecture, other).operations == (0, 8, 9, 10)


def test_alternatives_by_hand():
    architecture = supernet()  # conv 1×1 or identity in each of three blocks
    learned_first = ranked(architecture, [0.5] * 15)
    assert important_operations(architecture, learned_first.importance) == (3, 7, 11)
    share = [0.5] * 15
    share[8] = 0.6
    assert important_operations(architecture, ranked(architecture, share).importance) == (3, 8, 11)
    assert 8 in important_path(architecture, ranked(architecture, share)).operations


def test_highest_summed_score_is_the_trunk_and_that_is_why_paths_go_by_choices():
    architecture = residual_stack()
    scores, point = chain_scores(architecture, "flow"), architecture.points[0]
    listed = listed_paths(architecture, point.operations, point.output)
    kinds = [operation.kind for operation in architecture.topology.operations]
    by_sum = max(listed, key=lambda path: path_score(architecture, path, scores))
    by_mean = max(listed, key=lambda path: path_score(architecture, path, scores, mean=True))
    assert by_sum == [o for o, name in enumerate(kinds) if name != "identity"]
    assert sum(kinds[o] == "identity" for o in by_mean) == 4


def test_path_must_hang_together():
    architecture = residual_stack()
    with pytest.raises(UserError, match="follow one another"):
        path_score(architecture, (0, 2), chain_scores(architecture))


def test_unknown_walk_lists_the_valid_ones():
    with pytest.raises(UserError, match="flow, paths, tips, training, undirected"):
        chain_scores(residual_stack(), "drunk")
