"""The graph of an architecture, and what is on its walks and paths: closed forms and brute force over all paths."""

import math

import numpy as np
import pytest
from hypothesis import given, settings

from nas.chain.graph import graph_of, log_walk_weights
from nas.chain.walks import WALKS, flow
from nas.representation.cost import live_weights

from ..random_networks import architectures
from ..supernets import supernet


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
    scores = WALKS[walk](view.graph)
    conv1x1 = view.operation_nodes[3]
    assert scores.visits_TN[0, conv1x1] == 0
    assert scores.visits_TN[1, conv1x1] > 0


@given(architectures())
@settings(max_examples=60, deadline=None)
def test_weights_on_a_walk_are_those_of_operations_by_their_importance(architecture):
    """Against the shares of the chain's own walk, and weights as extraction counts them."""
    view = graph_of(architecture)
    shares_TO = flow(view.graph).visits_TN[:, list(view.operation_nodes)]
    for level, point in enumerate(architecture.points):
        weights = np.zeros(len(architecture.topology.operations))
        weights[list(point.operations)] = live_weights(architecture.topology, point)
        met = float(shares_TO[level] @ weights)
        assert log_walk_weights(architecture)[level] == pytest.approx(math.log(max(1.0, met)))
