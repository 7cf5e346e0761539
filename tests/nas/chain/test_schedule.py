"""Width schedules: the authors' chain by dense matrices, their networks' important blocks, and equal MACs."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.chain import width_importance, width_schedule
from nas.chain.residual_graph import accumulated_scores, path_operations, residual_graph
from nas.chain.schedule import IMPORTANCES, TOLERANCE
from nas.chain.walks import undirected
from nas.errors import InvalidArchitecture, UserError
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.coupling import coupling_groups
from nas.representation.elements import Task
from nas.spaces.choices import Domains, Recorder, at_random
from search_spaces.slicing import sparse_resnext
from search_spaces.slimmable import Slimmable
from search_spaces.tips import mobilenet_v2, resnet34

from ..supernets import proposals as supernets

TASK = Task(input_shape=(3, 16, 16), num_classes=10)
SMALL = resnet34(TASK, width=16, depths=(2, 2, 1, 1), points=5)


def stack(blocks, convolutions=2, widths=(8, 16), **conv):
    """Blocks of convolutions beside an identity, and the builder's map of every block."""
    builder = Builder(TASK)
    x = builder.conv(builder.input, widths)
    ends = [x]
    for _ in range(blocks):
        inner = x
        for _ in range(convolutions):
            inner = builder.conv(inner, widths, **conv)
        builder.identity(x, inner)
        ends.append(x := inner)
    builder.head(x)
    return builder.architecture(len(widths)), ends


@pytest.mark.parametrize(("convolutions", "copies"), [(2, 10), (3, 10), (2, 1), (4, 3)])
def test_the_chain_of_a_stack_of_blocks_is_that_of_the_adjacency_matrix(convolutions, copies):
    """A block is a chain of nodes with an edge from the first to the last; copies of a node are coupled with 1."""
    architecture, _ = stack(3, convolutions)
    inner = convolutions + 1  # the convolutions' outputs and the sum
    nodes = 2 + 3 * inner + 2  # image and stem, blocks, pooling and classifier
    matrix = np.zeros((nodes, nodes))
    matrix += np.diag(np.ones(nodes - 1), 1) + np.diag(np.ones(nodes - 1), -1)
    for block in range(3):
        first = 1 + block * inner
        matrix[first, first + inner] = matrix[first + inner, first] = 1
    matrix[0, 0] = matrix[-1, -1] = 1
    every = np.kron(np.eye(copies), matrix) + np.kron(np.ones((copies, copies)) - np.eye(copies), np.eye(nodes))
    transition = every / every.sum(axis=0)  # columns, as in the authors' code
    values, vectors = np.linalg.eig(transition)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    expected = (stationary / stationary.sum()).reshape(copies, nodes).sum(axis=0)
    graph = residual_graph(architecture, subnetworks=copies)
    assert accumulated_scores(graph) == pytest.approx(expected, abs=1e-12)
    assert accumulated_scores(graph, partial(undirected, coupling=1.0, every_copy=True, self_loops=True)) == (
        accumulated_scores(graph)
    )


def test_projections_are_left_out():
    """A block that changes size or width has no skip."""
    builder = Builder(TASK)
    x = builder.conv(builder.input, (4, 8))
    out = builder.conv(builder.conv(x, (8, 16), stride=2), (8, 16))
    builder.add("conv", x, out, kernel=1, stride=2)
    builder.head(out)
    graph = residual_graph(builder.architecture(2), subnetworks=1)
    assert graph.operation_nodes == (1, 2, 3, None, 4, 5)
    assert graph.graph.edges == tuple((n, n + 1) for n in range(5))


def test_a_branch_of_equal_size_and_width_is_no_projection():
    builder = Builder(TASK)
    x = builder.conv(builder.input, (8, 16))
    out = builder.conv(builder.conv(x, (8, 16)), (8, 16))
    builder.add("conv", x, out, kernel=1)
    builder.head(out)
    assert None not in residual_graph(builder.architecture(2)).operation_nodes


def test_the_path_takes_every_skip_and_passes_blocks_without_one():
    graph = residual_graph(SMALL)
    passed = path_operations(SMALL, graph, accumulated_scores(graph))
    operations, skips = SMALL.topology.operations, {}
    for operation in operations:
        if operation.kind == "identity":
            skips[operation.target] = operation.source
    beside = {o for o, op in enumerate(operations) if op.target in skips and op.kind == "conv"}
    inner = {operations[o].source for o in beside}
    expected = {
        o for o, op in enumerate(operations) if op.kind != "identity" and o not in beside and op.target not in inner
    }
    assert set(passed) == expected


def test_important_groups_of_a_residual_network():
    """The trunks and the insides of the first blocks of stages, but not those of blocks with a skip."""
    architecture, ends = stack(2)
    importance = dict(zip(coupling_groups(architecture.topology), width_importance(architecture)))
    trunk = next(group for group in importance if ends[0] in group)
    assert set(ends) <= set(trunk)
    elastic = [g for g in importance if len(architecture.topology.maps[g[0]].slices) > 1]
    assert {g: importance[g] for g in elastic} == {g: float(g == trunk) for g in elastic}
    inverse = dict(zip(importance, width_importance(architecture, "inverse")))
    assert all(importance[g] + inverse[g] == 1 for g in elastic)


def test_subnetworks_may_lose_a_branch():
    architecture, _ = stack(3)
    whole = residual_graph(architecture, subnetworks=200).graph
    assert set(whole.live) == {whole.live[0]}
    some = residual_graph(architecture, subnetworks=200, dropped=1.0).graph
    assert len({len(live) for live in some.live}) == 4  # 0 to 3 blocks with their skip alone
    assert set(some.live) == set(residual_graph(architecture, subnetworks=200, dropped=1.0).graph.live)
    assert max(map(len, some.live)) < len(whole.live[0])
    assert len(accumulated_scores(residual_graph(architecture, dropped=0.5))) == whole.num_nodes


@pytest.mark.parametrize("by", IMPORTANCES)
@pytest.mark.parametrize("space", ["residual", "mobile", "slimmable"])
def test_every_point_keeps_its_macs(by, space):
    changed = 0
    for architecture in proposals(space, 12):
        try:
            scheduled = width_schedule(architecture, by)
        except InvalidArchitecture:  # all equally important
            assert len(set(width_importance(architecture, by))) < 3
            continue
        changed += 1
        _check(architecture, scheduled)
        ratios = np.array(scheduled.costs) / np.array(architecture.costs)
        assert np.abs(ratios - 1).max() < 0.05
        assert np.abs(ratios - 1).mean() < 2 * TOLERANCE
    assert changed >= 6


def proposals(space, count):
    """Random networks of a space; those of `slimmable` have no optional operations."""
    if space != "slimmable":
        return supernets(space, count)
    decide, domains, space = at_random(np.random.default_rng(0)), Domains(), Slimmable()
    return [space.architecture(Recorder(decide, domains), TASK) for _ in range(count)]


def _check(before: Architecture, after: Architecture) -> None:
    """The largest point is the same, and the widths ascend wherever they did before."""
    assert after.points[-1] == before.points[-1]
    assert after.topology.operations == before.topology.operations
    assert [m.channels for m in after.topology.maps] == [m.channels for m in before.topology.maps]
    old, new = (np.array([p.channels for p in each.points]) for each in (before, after))
    assert (np.diff(new, axis=0)[np.diff(old, axis=0) > 0] > 0).all()
    assert (np.diff(new, axis=0) >= 0).all()
    assert ((old == 0) == (new == 0)).all()


def test_important_maps_are_wider_and_others_narrower():
    scheduled = width_schedule(SMALL)
    for group, importance in zip(coupling_groups(SMALL.topology), width_importance(SMALL)):
        place = SMALL.topology.declared.index(group[0])
        before, after = ([point.channels[place] for point in each.points] for each in (SMALL, scheduled))
        if importance and len(set(before)) > 2:
            assert sum(after) >= sum(before)
        if not importance and len(set(before)) > 2:
            assert sum(after) <= sum(before)


def test_half_the_pace():
    """A point without rounding: an important width loses half the share that an unimportant one does."""
    architecture, _ = stack(2, widths=(400, 600, 800))
    scheduled = width_schedule(architecture)
    for level in (0, 1):
        lost = {}
        for group, importance in zip(coupling_groups(architecture.topology), width_importance(architecture)):
            if len(architecture.topology.maps[group[0]].slices) > 1:
                channels = scheduled.points[level].channels[scheduled.topology.declared.index(group[0])]
                lost.setdefault(importance, []).append(1 - channels / 800)
        assert np.mean(lost[1.0]) == pytest.approx(np.mean(lost[0.0]) / 2, abs=0.01)


@given(st.floats(0, 5), st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_beta_widens_important_maps(beta, draw):
    by = IMPORTANCES[draw]
    _check(SMALL, width_schedule(SMALL, by, beta=beta))
    assert width_schedule(SMALL, by, beta=0) == SMALL


def test_a_given_importance_is_used():
    groups = coupling_groups(SMALL.topology)
    assert width_schedule(SMALL, importance=width_importance(SMALL)) == width_schedule(SMALL)
    with pytest.raises(InvalidArchitecture, match="equally important"):
        width_schedule(SMALL, importance=[1.0] * len(groups))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"by": "luck"}, "Unknown importance of widths 'luck'"),
        ({"walk": "drunk"}, "Unknown walk 'drunk'"),
        ({"compare": "luck"}, "Unknown way to compare paths"),
        ({"beta": -1.0}, "beta must be finite and not negative"),
        ({"beta": None}, "beta must be finite and not negative"),
        ({"walk": None}, "A walk must be one of flow, paths, undirected, tips or a function"),
        ({"subnetworks": 1.5}, "at least one subnetwork"),
        ({"dropped": 2.0}, "dropped must be from 0 to 1"),
        ({"subnetworks": 0}, "at least one subnetwork"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        width_schedule(SMALL, **change)


@pytest.mark.parametrize("importance", [[1.0], [0.5] * 12 + [-1.0], [0.5] * 12 + [7.0], [0.5] * 12 + [float("nan")]])
def test_a_given_importance_is_checked(importance):
    assert len(coupling_groups(SMALL.topology)) == 13
    with pytest.raises(UserError, match="a number from 0 to 1 for each coupling group of the network, of which there"):
        width_schedule(SMALL, importance=importance)


@pytest.mark.parametrize("widths", [(1, 2, 3, 4), (7, 8), (63, 64)])
def test_maps_without_room_are_refused(widths):
    architecture, _ = stack(2, widths=widths)
    with pytest.raises(InvalidArchitecture, match=r"must (change a width|keep the MACs).* use wider maps or fewer"):
        width_schedule(architecture)


def test_maps_of_constant_width_keep_it():
    """Also the image, and maps that a pooling couples with elastic ones of other channels."""
    builder = Builder(TASK)
    x = builder.conv(builder.input, (16,))
    out = builder.conv(builder.conv(x, (16, 32), stride=2), (16, 32))
    builder.add("avg_pool", x, out, kernel=3, stride=2)
    builder.add("avg_pool", builder.input, x, kernel=3)
    last = builder.conv(builder.conv(out, (16, 32)), (16, 32))
    builder.identity(out, last)
    builder.head(last)
    architecture = builder.architecture(2)
    scheduled = width_schedule(architecture)
    _check(architecture, scheduled)
    assert [point.channels[:2] for point in scheduled.points] == [(3, 16)] * 2


def test_early_exits_are_refused():
    builder = Builder(TASK)
    x = builder.conv(builder.input, (8, 16, 24))
    early = builder.head(x)
    last = builder.conv(builder.conv(x, (8, 16, 24)), (8, 16, 24))
    builder.identity(x, last)
    builder.head(last)
    points = [builder.point(0, output=early), builder.point(1), builder.point(2)]
    with pytest.raises(InvalidArchitecture, match=r"end at one map\. Got early exits: 2 maps"):
        width_schedule(builder.architecture(points))


def test_points_may_predict_different_labellings():
    task = Task(input_shape=(1, 16, 16), num_classes=4, hierarchy=((0, 0, 1, 1),))
    architecture = resnet34(task, width=8, depths=(2, 1, 1, 1), points=4)
    assert width_schedule(architecture) != architecture


def test_a_single_point_has_no_elastic_widths():
    with pytest.raises(InvalidArchitecture, match="Got 0 elastic groups"):
        width_schedule(SMALL.with_points(SMALL.points[-1:]))


def test_networks_without_dense_widths_are_refused():
    with pytest.raises(InvalidArchitecture, match="dense widths"):
        width_schedule(sparse_resnext(1, 8, 1, 4, 4, task=TASK))


def test_a_network_without_skips_has_no_important_widths():
    builder = Builder(TASK)
    builder.head(builder.conv(builder.conv(builder.input, (8, 16)), (8, 16)))
    with pytest.raises(InvalidArchitecture, match="all equally important"):
        width_schedule(builder.architecture(2))


@pytest.mark.parametrize("architecture", [SMALL, mobilenet_v2(TASK, width=0.25, points=3)], ids=["resnet", "mobile"])
def test_scheduled_networks_run(architecture):
    network = AnytimeNetwork(width_schedule(architecture), generator=torch.Generator().manual_seed(0))
    x = torch.zeros(2, *TASK.input_shape)
    assert {tuple(network(x, level).shape) for level in range(network.levels)} == {(2, 10)}


def test_a_schedule_of_a_slimmable_network_is_a_slimmable_network():
    for architecture in proposals("slimmable", 3):
        assert width_schedule(architecture).norm == architecture.norm
