"""Importance on small supernets: closed forms, brute force over all paths, choice groups and the important path."""

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.builder import Builder
from nas.errors import UserError
from nas.importance import (
    choice_groups,
    graph_of,
    important_operations,
    important_path,
    log_learned_paths,
    map_importance,
    operation_importance,
    path_score,
)
from nas.kinds import kind
from nas.markov import WALKS
from nas.topology import Task

TASK = Task(input_shape=(3, 8, 8), num_classes=10)


def points(builder, *dropped):
    """One operating point a set of dropped operations, each a slice wider than the one before."""
    return [builder.point(level, without=without) for level, without in enumerate(dropped)]


def supernet():
    """Stem, three residual blocks whose skips are conv 1×1 ∥ identity, head; smaller points drop some of them.

    Operations: 0 stem; block b: 1+4b, 2+4b body, 3+4b conv 1×1 skip, 4+4b identity skip; 13, 14 head.
    """
    builder, widths = Builder(TASK), (4, 8, 16)
    x = builder.conv(builder.input, widths)
    for _ in range(3):
        inner = builder.conv(x, widths)
        out = builder.conv(inner, widths)
        builder.add("conv", x, out, kernel=1, optional=True)
        builder.identity(x, out, optional=True)
        x = out
    builder.head(x)
    return builder.architecture(points(builder, (3, 8), (8,), ()))


def residual_stack(blocks=4):
    builder = Builder(TASK)
    x = builder.conv(builder.input, 8)
    for _ in range(blocks):
        out = builder.conv(builder.conv(x, 8), 8)
        x = builder.identity(x, out)
    builder.head(x)
    return builder.architecture(points=1)


@st.composite
def architectures(draw):
    """Random topologies of 8×8 maps with parallel convolutions and identities, and two points."""
    builder = Builder(TASK)
    maps = [builder.conv(builder.input, (4, 8))]
    for _ in range(draw(st.integers(1, 5))):
        target = builder.map((4, 8))
        for source in draw(st.sets(st.sampled_from(maps), min_size=1)):
            for what in draw(st.sets(st.sampled_from(["conv", "identity", "max_pool"]), min_size=1)):
                window = {} if what == "identity" else {"kernel": 3}
                builder.add(what, source, target, optional=draw(st.booleans()), **window)
        maps.append(target)
    builder.head(maps[-1])
    count = len(builder.topology().operations)
    out = [o for o in range(1, count - 2) if draw(st.integers(0, 5)) == 0]
    whole = builder.point(1)
    try:
        return builder.architecture([builder.point(0, without=out), whole])
    except ValueError:
        return builder.architecture([builder.point(0), whole])


def listed_paths(architecture, live, output):
    """Every path as a list of operations, by networkx."""
    multi = nx.MultiDiGraph()
    for o in live:
        operation = architecture.topology.operations[o]
        multi.add_edge(operation.source, operation.target, key=o)
    return [[o for _, _, o in path] for path in nx.all_simple_edge_paths(multi, 0, output)]


def learned(architecture, o):
    return kind(architecture.topology.operations[o].kind).learned


@given(architectures())
@settings(max_examples=60, deadline=None)
def test_passes_agree_with_listing_all_paths(architecture):
    shares = np.zeros((len(architecture.points), len(architecture.topology.operations)))
    for level, point in enumerate(architecture.points):
        listed = listed_paths(architecture, point.operations, point.output)
        for path in listed:
            shares[level, path] += 1 / len(listed)
        total = sum(learned(architecture, o) for path in listed for o in path)
        assert log_learned_paths(architecture)[level] == pytest.approx(math.log(total))
    assert operation_importance(architecture) == pytest.approx(shares.mean(axis=0))


@given(architectures())
@settings(max_examples=60, deadline=None)
def test_important_path_is_the_best_of_all_listed(architecture):
    chosen = set(important_operations(architecture))
    offered = {o for group in choice_groups(architecture.topology) for o in group.operations}
    found = important_path(architecture)
    view = graph_of(architecture)
    tas = WALKS["paths"](view.graph).nodes_N

    def value(path):
        lost, won = sum(o in offered - chosen for o in path), sum(o in chosen for o in path)
        maps = [0, *(architecture.topology.operations[o].target for o in path)]
        total = sum(tas[view.map_nodes[m]] for m in maps) + sum(tas[view.operation_nodes[o]] for o in path)
        return -lost, won, round(total, 9)

    everything = range(len(architecture.topology.operations))
    best = max(value(path) for path in listed_paths(architecture, everything, architecture.points[-1].output))
    assert value(found.operations) == best
    assert found.total == pytest.approx(path_score(architecture, found.operations, "paths"))
    assert found.mean == pytest.approx(path_score(architecture, found.operations, "paths", mean=True))
    assert found.maps == (0, *(architecture.topology.operations[o].target for o in found.operations))


def test_graph_has_a_node_for_every_map_and_operation():
    architecture = supernet()
    view, topology = graph_of(architecture), architecture.topology
    assert sorted(view.map_nodes + view.operation_nodes) == list(range(view.graph.num_nodes))
    for o, operation in enumerate(topology.operations):
        node = view.operation_nodes[o]
        assert view.graph.edges[2 * o] == (view.map_nodes[operation.source], node)
        assert view.graph.edges[2 * o + 1] == (node, view.map_nodes[operation.target])
    assert [len(live) for live in view.graph.live] == [26, 28, 30]


@pytest.mark.parametrize("walk", WALKS)
def test_only_what_is_live_counts(walk):
    view = graph_of(supernet())
    visits_TN = WALKS[walk](view.graph).visits_TN
    conv1x1 = [view.operation_nodes[o] for o in (3, 8)]
    assert visits_TN[0, conv1x1[0]] == 0
    assert visits_TN[1, conv1x1[0]] > 0
    assert map_importance(supernet(), walk).sum() + WALKS[walk](view.graph).nodes_N[
        list(view.operation_nodes)
    ].sum() == pytest.approx(1)


def test_residual_stack_has_its_closed_form():
    """2⁴ equally likely paths: the body of a block, two learned operations, is on half of them."""
    architecture = residual_stack()
    importance = operation_importance(architecture)
    assert importance[0] == importance[-1] == 1
    body = [o for o, op in enumerate(architecture.topology.operations) if op.kind == "conv"][1:]
    skips = [o for o, op in enumerate(architecture.topology.operations) if op.kind == "identity"]
    assert importance[body] == pytest.approx(0.5)
    assert importance[skips] == pytest.approx(0.5)
    expected = math.log(16 * (2 + 4 * 2 * 0.5))
    assert log_learned_paths(architecture) == pytest.approx((expected,))


def test_early_exits_end_where_they_are_read():
    builder = Builder(TASK)
    x = builder.conv(builder.input, 8)
    early = builder.head(x)
    x = builder.conv(x, 8)
    last = builder.head(x)
    architecture = builder.architecture([builder.point(0, output=early), builder.point(0, output=last)])
    assert operation_importance(architecture).tolist() == [1, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert log_learned_paths(architecture) == pytest.approx((math.log(2), math.log(3)))
    assert important_path(architecture).operations == (0, 3, 4, 5)


def test_choice_groups_are_parallels_and_lone_optionals():
    builder = Builder(TASK)
    x = builder.conv(builder.input, 8)  # 0
    y = builder.conv(x, 8)  # 1: a residual whose identity always runs is no choice
    builder.identity(x, y)  # 2
    z = builder.conv(y, 8, optional=True)  # 3 and 4: alternatives
    builder.identity(y, z)
    builder.add("conv", x, z, kernel=1, optional=True)  # 5: or its absence
    builder.head(z)
    groups = choice_groups(builder.topology())
    assert [(group.operations, group.absence) for group in groups] == [((3, 4), False), ((5,), True)]


def test_important_operations_are_live_on_more_walks():
    """Conv 1×1 loses to the identity where small points drop it; where nothing tells them apart, it wins."""
    architecture = supernet()
    assert [group.operations for group in choice_groups(architecture.topology)] == [(3, 4), (7, 8), (11, 12)]
    assert important_operations(architecture) == (4, 7, 11)


@pytest.mark.parametrize("walk", ["paths", "flow"])
def test_important_path_is_neither_trunk_nor_all_skips(walk):
    architecture = supernet()
    path = important_path(architecture, walk)
    skips = [o for o in path.operations if architecture.topology.operations[o].kind == "identity"]
    convs = [o for o in path.operations if architecture.topology.operations[o].kind == "conv"]
    assert skips
    assert len(convs) > 1
    assert set(important_operations(architecture, walk)) <= set(path.operations)


def test_highest_summed_score_is_the_trunk_and_that_is_why_paths_go_by_choices():
    architecture = residual_stack()
    trunk = [o for o, op in enumerate(architecture.topology.operations) if op.kind != "identity"]
    by_sum = max(
        listed_paths(architecture, architecture.points[0].operations, architecture.points[0].output),
        key=lambda path: path_score(architecture, path),
    )
    by_mean = max(
        listed_paths(architecture, architecture.points[0].operations, architecture.points[0].output),
        key=lambda path: path_score(architecture, path, mean=True),
    )
    assert by_sum == trunk
    assert sum(architecture.topology.operations[o].kind == "identity" for o in by_mean) == 4


def optional_branch(*dropped):
    builder, widths = Builder(TASK), (4, 8, 16)
    x = builder.conv(builder.input, widths)
    y = builder.conv(x, widths, optional=True)  # 1
    out = builder.conv(y, widths)  # 2
    builder.identity(x, out)  # 3
    builder.head(out)
    return builder.architecture(points(builder, *dropped))


def test_an_absence_may_be_more_important():
    assert important_operations(optional_branch((), (), ())) == (1,)
    assert important_operations(optional_branch((1,), (1,), ())) == ()
    assert 3 in important_path(optional_branch((1,), (1,), ())).operations


def test_path_must_hang_together():
    with pytest.raises(UserError, match="follow one another"):
        path_score(residual_stack(), (0, 2))


def test_unknown_walk_lists_the_valid_ones():
    with pytest.raises(UserError, match="flow, paths, undirected"):
        operation_importance(residual_stack(), "drunk")
