"""Packed graphs against the functions for one architecture, over random architectures and lists of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.chain.graph import graph_of
from nas.chain.scores import log_walk_weights
from nas.chain.walks import WALKS
from nas.errors import UserError
from nas.proxies.dtmc import walk_weights
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task

from ..nas import hand_built
from ..nas.random_networks import architectures
from ..nas.supernets import proposals, small_supernets
from .scripts import script

log_learned_paths = script("controls").log_learned_paths
packed_graphs = script("packed")
PACKED_WALKS, pack = packed_graphs.PACKED_WALKS, packed_graphs.pack
packed_learned_paths, packed_mean_walk_weights = (
    packed_graphs.packed_learned_paths,
    packed_graphs.packed_mean_walk_weights,
)
packed_scores, packed_walk_weights = packed_graphs.packed_scores, packed_graphs.packed_walk_weights


def check(batch: list[Architecture], tolerance: float = 1e-12) -> None:
    """Packed functions agree with the functions for one architecture."""
    packed = pack(batch)
    paths_AL, weights_AL, scores_A = (
        packed_learned_paths(packed),
        packed_walk_weights(packed),
        packed_mean_walk_weights(packed),
    )
    walked = {walk: packed_scores(packed, walk) for walk in PACKED_WALKS}
    for a, architecture in enumerate(batch):
        count = len(architecture.points)
        for levels_AL, of in ((paths_AL, log_learned_paths), (weights_AL, log_walk_weights)):
            assert levels_AL[a, :count] == pytest.approx(of(architecture), rel=tolerance, abs=tolerance)
            assert np.isnan(levels_AL[a, count:]).all()
        assert scores_A[a] == pytest.approx(walk_weights(architecture), rel=tolerance, abs=tolerance)
        view, graphs = graph_of(architecture), packed.graph_AL[a, :count]
        maps, outputs = list(view.map_nodes), list(view.operation_nodes)
        for walk, scores in walked.items():
            expected = WALKS[walk](view.graph)
            for packed_visits, visits in (
                (scores.maps_GM[graphs], expected.visits_TN[:, maps]),
                (scores.operations_GO[graphs], expected.visits_TN[:, outputs]),
                (scores.tas_maps_AM[[a]], expected.nodes_N[None, maps]),
                (scores.tas_outputs_AO[[a]], expected.nodes_N[None, outputs]),
            ):
                size = visits.shape[1]
                assert np.abs(packed_visits[:, :size] - visits).max() <= tolerance
                assert not packed_visits[:, size:].any()


@given(st.lists(architectures() | small_supernets(), max_size=5))
@settings(max_examples=60, deadline=None)
def test_agrees_with_the_functions_for_one_architecture(batch):
    check(batch)


def test_agrees_on_all_styles_and_on_shipped_spaces_together():
    check(
        [make() for make in hand_built.ALL.values()] + list(proposals("residual", 20)) + list(proposals("mobile", 20))
    )


def test_the_order_of_architectures_does_not_matter():
    batch = [make() for make in hand_built.ALL.values()]
    order = np.random.default_rng(0).permutation(len(batch))
    scores, shuffled = (packed_mean_walk_weights(pack(some)) for some in (batch, [batch[i] for i in order]))
    assert scores[order].tolist() == shuffled.tolist()


def test_levels_that_run_the_same_operations_share_a_graph():
    packed = pack([hand_built.residual(), hand_built.multi_exit()])
    assert len(set(packed.graph_AL[0])) == 1
    assert len(set(packed.graph_AL[1])) == 3
    assert len(packed.output_G) == 4
    assert packed.count_P.tolist() == sorted(packed.count_P, reverse=True)


def stack(blocks: int, kind: str, parallel: int, channels: int) -> Builder:
    """Blocks of parallel operations, one after the other."""
    builder = Builder(Task(input_shape=(10, 8, 8), num_classes=10))
    x = builder.conv(builder.input, channels) if kind == "conv" else builder.input
    for _ in range(blocks):
        y = builder.map(channels)
        for _ in range(parallel):
            builder.add(kind, x, y, kernel=3)
        x = y
    return builder


def test_more_paths_than_a_float_can_count():
    """10^321 paths; logarithms of 740 are exact to 1e-13, and shares are products of 160 of their differences."""
    builder = stack(160, "conv", 102, 8)
    builder.head(160 + 1)
    architecture = builder.architecture(1)
    check([architecture, hand_built.residual()], 1e-10)
    assert packed_learned_paths(pack([architecture]))[0, 0] > 160 * math.log(102) > math.log(1e308)


@pytest.mark.parametrize("blocks", [40, 1200])
def test_a_learned_path_among_very_many_keeps_its_precision(blocks):
    """5 learned operations beside 3^1200 paths without any: in floats, the sum of both equals the latter."""
    builder = stack(blocks, "max_pool", 3, 10)
    for _ in range(5):
        builder.add("conv", builder.input, blocks, kernel=1)
    builder.add("global_avg_pool", blocks, builder.map(10))
    architecture = builder.architecture(1)
    assert log_learned_paths(architecture) == pytest.approx((math.log(5),))
    assert packed_learned_paths(pack([architecture]))[0, 0] == pytest.approx(math.log(5), rel=1e-12)


def test_nothing_to_pack():
    packed = pack([])
    assert packed_mean_walk_weights(packed).shape == (0,)
    assert packed_scores(packed).tas_maps_AM.shape == (0, 0)


def test_the_walk_must_be_directed():
    with pytest.raises(UserError, match="flow, paths"):
        packed_scores(pack([hand_built.cell()]), "undirected")
