"""Layouts of topologies: no overlaps, no line through a label or a map, no shared stretch, deterministic."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import UserError
from nas.reporting.topology.layout import Box, layout
from nas.representation.builder import Builder
from nas.representation.elements import Task

from ... import hand_built
from .drawn_networks import EVERY, sixty


def overlap(one, other):
    """Whether two boxes share an area."""
    return (
        abs(one.x - other.x) < (one.width + other.width) / 2 - 1e-9
        and abs(one.y - other.y) < (one.height + other.height) / 2 - 1e-9
    )


def segments(edge):
    """The straight stretches of an operation's line, as boxes without width."""
    for piece in edge.pieces:
        for (x0, y0), (x1, y1) in pairwise(piece):
            yield Box(x=(x0 + x1) / 2, y=(y0 + y1) / 2, width=abs(x0 - x1), height=abs(y0 - y1))


def check_layout(architecture, drawing):
    """Check the guarantees of the layout."""
    topology = architecture.canonical.topology
    assert [node.map for node in drawing.nodes] == list(range(len(topology.maps)))
    assert [edge.operation for edge in drawing.edges] == list(range(len(topology.operations)))
    boxes = [node.box for node in drawing.nodes]
    labels = [edge.label for edge in drawing.edges]
    assert not [pair for pair in combinations(boxes + labels, 2) if overlap(*pair)]
    for box in boxes + labels + [band.box for band in drawing.bands]:
        assert box.left >= -1e-9
        assert box.top >= -1e-9
        assert box.right <= drawing.width + 1e-9
        assert box.bottom <= drawing.height + 1e-9
    for edge, operation in zip(drawing.edges, topology.operations):
        source, target = drawing.nodes[operation.source], drawing.nodes[operation.target]
        assert source.row < target.row
        check_line(edge, source, target)
        for line in segments(edge):
            assert not [o for o, label in enumerate(labels) if o != edge.operation and overlap(label, line)]
            assert not [box for box in boxes if overlap(box, line)]
    check_no_shared_stretch(drawing.edges)


def check_line(edge, source, target):
    """A line leads downwards from border to border, through its own label."""
    for node, (x, y) in ((source, edge.pieces[0][0]), (target, edge.pieces[-1][-1])):
        assert abs(abs(x - node.box.x) - node.box.width / 2) < 1e-9 or abs(abs(y - node.box.y) - 0.125) < 1e-9
        assert node.box.top - 1e-9 <= y <= node.box.bottom + 1e-9
    for piece in edge.pieces:
        assert all(y0 <= y1 + 1e-9 and (x0 == x1 or y0 == y1) for (x0, y0), (x1, y1) in pairwise(piece))
    through = [line for line in segments(edge) if line.width == 0 and line.x == edge.label.x]
    assert any(line.top <= edge.label.top and edge.label.bottom <= line.bottom for line in through)


def check_no_shared_stretch(edges):
    """Lines may cross, but no two run along each other."""
    for one, two in combinations(edges, 2):
        for a in segments(one):
            for b in segments(two):
                upright = a.width == b.width == 0 and abs(a.x - b.x) < 1e-6
                level = a.height == b.height == 0 and abs(a.y - b.y) < 1e-6
                assert not (upright and min(a.bottom, b.bottom) > max(a.top, b.top) + 1e-6)
                assert not (level and min(a.right, b.right) > max(a.left, b.left) + 1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_layout(name):
    architecture = EVERY[name]()
    drawing = layout(architecture)
    check_layout(architecture, drawing)
    assert drawing == layout(architecture)
    trunk = [node for node in drawing.nodes if node.column == 0]
    assert [node.row for node in sorted(trunk, key=lambda node: node.row)] == list(range(len(trunk)))


@pytest.mark.parametrize("panels", ["folded", "whole"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_layout_of_any_graph(panels, data):
    """Random graphs; a wide margin makes more panels."""
    builder = Builder(Task(input_shape=(4, 8, 8), num_classes=3))
    maps = [0]
    for _ in range(data.draw(st.integers(1, 24 if panels == "folded" else 9))):
        new = builder.map(4)
        near = maps[-5:]
        for source in data.draw(st.lists(st.sampled_from(near), min_size=1, max_size=3)):
            if data.draw(st.booleans()):
                builder.add("conv", source, new, kernel=3)
            else:
                builder.identity(source, new)
        maps.append(new)
    places = data.draw(st.lists(st.sampled_from(maps[1:]), max_size=2, unique=True))
    outputs = [builder.head(place) for place in sorted({*places, maps[-1]})]
    try:
        architecture = builder.architecture([builder.point(0, output=out) for out in outputs], norm="per_point")
    except UserError:  # a later exit that costs no more
        architecture = builder.architecture([builder.point(0, output=outputs[-1])])
    check_layout(architecture, layout(architecture, margin=(2.0, 9.0 if panels == "folded" else 0.0)))


def test_deep_networks_are_folded_to_fit_a_screen():
    assert len(sixty().topology.operations) >= 60
    drawing = layout(sixty())
    assert len({band.box.left for band in drawing.bands}) > 1
    assert 1.0 < drawing.width / drawing.height < 2.0
    assert len({band.box.left for band in layout(hand_built.residual()).bands}) == 1


def test_skips_of_a_residual_network_do_not_cross():
    """Consecutive blocks share one lane."""
    drawing = layout(hand_built.gated_residual())
    assert len({edge.label.x for edge in drawing.edges if not edge.straight}) == 1


def test_bands_are_the_stages():
    bands = layout(hand_built.residual()).bands
    assert [band.text for band in bands] == ["8×8", "4×4", "vector"]
    assert all(above.box.bottom == pytest.approx(below.box.top) for above, below in pairwise(bands))
