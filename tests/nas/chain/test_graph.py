"""Graphs of architectures: their structure, and networkx and numpy as oracle of the walks and their scores."""

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings

import nas
from nas.chain.graph import graph_of, to_networkx
from nas.chain.scores import log_walk_weights
from nas.chain.walks import WALKS, flow, path_counts, paths
from nas.representation.builder import Builder
from nas.representation.cost import live_weights

from ..hand_built import ALL
from ..random_networks import architectures
from ..supernets import TASK, small_supernets, supernet


def at_level(graph, level):
    """The subgraph of the operations that run at a level, with its input and output map."""
    live = nx.MultiDiGraph(graph.edge_subgraph([e for e in graph.edges if level in graph.edges[e]["levels"]]))
    (output,) = (m for m, levels in graph.nodes(data="output_of") if level in levels)
    return live, output


def expected_visits(live, output):
    """By map and by operation, the expected visits of the walk that leaves every map by a uniform operation: the row
    of the input in the fundamental matrix (I − P)⁻¹.
    """
    maps = sorted(live)
    steps = nx.to_numpy_array(live, nodelist=maps, weight=None)  # parallel operations add up
    steps[maps.index(output)] = 0.0
    transition = steps / np.maximum(1, steps.sum(axis=1, keepdims=True))
    visits = dict(zip(maps, np.linalg.inv(np.eye(len(maps)) - transition)[maps.index(0)]))
    return visits, {o: visits[source] / live.out_degree(source) for source, _, o in live.edges(keys=True)}


@given(architectures() | small_supernets())
@settings(max_examples=60, deadline=None)
def test_path_counts_agree_with_networkx(architecture):
    view, graph = graph_of(architecture), to_networkx(architecture)
    shares_TO = paths(view.graph).visits_TN[:, list(view.operation_nodes)]
    for level in range(len(architecture.points)):
        live, output = at_level(graph, level)
        listed = [[o for _, _, o in path] for path in nx.all_simple_edge_paths(live, 0, output)]
        assert path_counts(view.graph, level)[view.graph.source] == len(listed)
        expected = np.zeros(len(architecture.topology.operations))
        for path in listed:
            expected[path] += 1 / len(listed)
        assert shares_TO[level] == pytest.approx(expected)


@given(architectures() | small_supernets())
@settings(max_examples=60, deadline=None)
def test_flow_agrees_with_the_fundamental_matrix(architecture):
    view, graph = graph_of(architecture), to_networkx(architecture)
    visits_TN = flow(view.graph).visits_TN
    for level in range(len(architecture.points)):
        maps, operations = expected_visits(*at_level(graph, level))
        for index, node in enumerate(view.map_nodes):
            assert visits_TN[level, node] == pytest.approx(maps.get(index, 0.0))
        for o, node in enumerate(view.operation_nodes):
            assert visits_TN[level, node] == pytest.approx(operations.get(o, 0.0))


@given(architectures() | small_supernets())
@settings(max_examples=60, deadline=None)
def test_weights_on_a_walk_agree_with_the_fundamental_matrix(architecture):
    graph = to_networkx(architecture)
    for level, point in enumerate(architecture.points):
        _, shares = expected_visits(*at_level(graph, level))
        weights = dict(zip(point.operations, live_weights(architecture.topology, point)))
        expected = sum(share * weights[o] for o, share in shares.items())
        assert log_walk_weights(architecture)[level] == pytest.approx(math.log(max(1.0, expected)))


@pytest.mark.parametrize("style", ALL)
def test_networkx_graph_has_all_attributes(style):
    architecture = ALL[style]()
    topology, graph = architecture.topology, nas.to_networkx(architecture)
    assert (graph.graph["key"], graph.graph["macs"]) == (architecture.key, architecture.costs)
    assert list(graph) == list(range(len(topology.maps)))
    for index, feature_map in enumerate(topology.maps):
        node = dict(graph.nodes[index])
        assert list(node.pop("active")) == [topology.active(point)[index] for point in architecture.points]
        assert node.pop("output_of") == tuple(k for k, p in enumerate(architecture.points) if p.output == index)
        assert nas.FeatureMap(**node) == feature_map
    edges = {o: (source, target, dict(data)) for source, target, o, data in graph.edges(keys=True, data=True)}
    assert sorted(edges) == list(range(len(topology.operations)))
    for o, (source, target, data) in edges.items():
        assert data.pop("levels") == tuple(k for k, p in enumerate(architecture.points) if o in p.operations)
        assert data.pop("learned") == (topology.operations[o].kind in ("conv", "linear"))
        assert nas.Operation(source=source, target=target, **data) == topology.operations[o]
    assert nx.is_directed_acyclic_graph(graph)


def test_graph_has_a_node_for_every_map_and_operation():
    architecture = supernet()
    view, topology = graph_of(architecture), architecture.topology
    assert sorted(view.map_nodes + view.operation_nodes) == list(range(view.graph.num_nodes))
    for o, operation in enumerate(topology.operations):
        node = view.operation_nodes[o]
        assert view.graph.edges[2 * o] == (view.map_nodes[operation.source], node)
        assert view.graph.edges[2 * o + 1] == (node, view.map_nodes[operation.target])
    assert [len(live) for live in view.graph.live] == [26, 28, 30]


@pytest.mark.parametrize("walk", [walk for walk in WALKS if walk != "tips"])  # which couples all copies
def test_walks_pass_live_operations_only(walk):
    view = graph_of(supernet())
    scores = WALKS[walk](view.graph)
    conv1x1 = view.operation_nodes[3]
    assert scores.visits_TN[0, conv1x1] == 0
    assert scores.visits_TN[1, conv1x1] > 0


def test_walks_of_early_exits_end_at_their_output():
    builder = Builder(TASK)
    x = builder.conv(builder.input, 8)
    early = builder.head(x)
    last = builder.head(builder.conv(x, 8))
    architecture = builder.architecture([builder.point(0, output=early), builder.point(0, output=last)])
    view = graph_of(architecture)
    assert view.graph.sinks == (view.map_nodes[early], view.map_nodes[last])
    assert flow(view.graph).visits_TN[:, view.map_nodes[last]].tolist() == [0, 1]
