"""Coupling groups by hand, and on all hand-built networks against the definition."""

from __future__ import annotations

import networkx as nx
import pytest

from nas.representation.builder import Builder
from nas.representation.coupling import coupling_groups
from nas.representation.elements import Task
from nas.representation.kinds import kind

from ..hand_built import ALL


def test_skips_poolings_and_grouped_operations_couple_maps():
    builder = Builder(Task(input_shape=(3, 8, 8), num_classes=5))
    x = builder.conv(builder.input, (2, 4))
    y = builder.depthwise(x)
    z = builder.conv(y, (2, 4))
    builder.identity(y, z)
    both = builder.concat([z, builder.conv(z, 4)])
    builder.head(builder.conv(both, (3, 6)))
    assert coupling_groups(builder.topology()) == ((0,), (1, 2, 3), (4,), (6, 7), (8,))


@pytest.mark.parametrize("name", ALL)
def test_groups_are_the_connected_components_of_coupling_operations(name):
    topology = ALL[name]().topology
    graph = nx.Graph()
    graph.add_nodes_from(topology.declared)
    for operation in topology.operations:
        if operation.groups > 1 or not kind(operation.kind).mixing:
            graph.add_edge(operation.source, operation.target)
    graph = graph.subgraph(topology.declared)
    assert coupling_groups(topology) == tuple(sorted(tuple(sorted(group)) for group in nx.connected_components(graph)))
