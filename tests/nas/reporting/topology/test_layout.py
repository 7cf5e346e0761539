"""The layout keeps its promises on every topology; the pictures are made in every format; how they look is for eyes."""

import hashlib
import subprocess
import sys
import time
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nas.errors import UserError
from nas.reporting.topology.labels import levels_text, operation_label, text_width
from nas.reporting.topology.layout import Box, layout
from nas.reporting.topology.plot import draw_topology, topology_figure
from nas.representation.builder import Builder
from nas.representation.elements import Task
from search_spaces.mobile import Mobile
from search_spaces.residual import Residual

from ... import hand_built

TASK = Task(input_shape=(3, 32, 32), num_classes=10)


def sampled(space, seed, points=4):
    rng = np.random.default_rng(seed)
    return space.architecture(lambda name, options: options[int(rng.integers(len(options)))], TASK, points=points)


def large():
    """A residual supernet with at least 40 operations."""
    found = max((sampled(Residual(), seed) for seed in range(150)), key=lambda a: len(a.topology.operations))
    assert len(found.topology.operations) >= 40
    return found


def sixty():
    """61 operations: eleven blocks with shortcuts, poolings beside them and skips over two blocks, in three sizes."""
    builder, widths = Builder(TASK), (8, 16, 24, 32)
    nodes, stages = [builder.conv(0, widths)], [0]
    for block in range(11):
        stride = 2 if block in (4, 8) else 1
        hidden = builder.depthwise(builder.conv(nodes[-1], widths, kernel=1), kernel=5, stride=stride)
        end = builder.conv(hidden, widths, kernel=1, activation="relu")
        stages.append(stages[-1] + stride // 2)
        if stride == 1:
            builder.identity(nodes[-1], end)
        else:
            builder.add("conv", nodes[-1], end, kernel=1, stride=2)
        builder.add("avg_pool", nodes[-1], end, kernel=3, stride=stride, optional=True)
        if block % 4 == 2:
            builder.add("conv", nodes[-2], end, kernel=1, stride=2 ** (stages[-1] - stages[-3]), optional=True)
        nodes.append(end)
    builder.add("conv", nodes[0], nodes[-1], kernel=1, stride=4, optional=True)
    builder.head(nodes[-1])
    return builder.architecture(4)


def multi_scale():
    """Three sizes side by side, an exit after each step: several columns, and operations that pass one."""
    builder = Builder(TASK)
    fine = builder.conv(0, 8)
    middle = builder.conv(fine, 8, stride=2)
    coarse = builder.conv(middle, 8, stride=2)
    exits = []
    for step in range(3):
        lower, lowest = builder.map(8), builder.map(8)
        builder.add("conv", middle, lower, kernel=3)
        builder.add("conv", fine, lower, kernel=3, stride=2)
        builder.add("conv", coarse, lowest, kernel=3)
        builder.add("conv", middle, lowest, kernel=3, stride=2)
        if step == 2:
            builder.add("conv", fine, lowest, kernel=1, stride=4)
        # maps are in topological order, so the finest one of this step is a new map read in the next
        fine, middle, coarse = builder.conv(fine, 8), lower, lowest
        exits.append(builder.head(coarse))
    return builder.architecture([builder.point(0, output=out) for out in exits], norm="per_point")


MORE = {"large": large, "sixty": sixty, "multi_scale": multi_scale}
MORE |= {f"residual {seed}": lambda seed=seed: sampled(Residual(), seed) for seed in range(6)}
MORE |= {f"mobile {seed}": lambda seed=seed: sampled(Mobile(), seed, points=8) for seed in range(3)}
EVERY = hand_built.ALL | MORE


def segments(edge):
    """The straight stretches of an operation's line, as boxes without width."""
    for piece in edge.pieces:
        for (x0, y0), (x1, y1) in pairwise(piece):
            yield Box(x=(x0 + x1) / 2, y=(y0 + y1) / 2, width=abs(x0 - x1), height=abs(y0 - y1))


def check_layout(architecture, drawing):
    """What the layout promises."""
    topology = architecture.canonical.topology
    assert [node.map for node in drawing.nodes] == list(range(len(topology.maps)))
    assert [edge.operation for edge in drawing.edges] == list(range(len(topology.operations)))
    boxes = [node.box for node in drawing.nodes]
    labels = [edge.label for edge in drawing.edges]
    assert not [pair for pair in combinations(boxes + labels, 2) if pair[0].overlaps(pair[1])]
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
            assert not [o for o, label in enumerate(labels) if o != edge.operation and label.overlaps(line)]
            assert not [box for box in boxes if box.overlaps(line)]
    check_no_shared_stretch(drawing.edges)


def check_line(edge, source, target):
    """It leads from border to border, downwards, and through its own label."""
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
    drawing = layout(sixty())
    assert len({band.box.left for band in drawing.bands}) > 1
    assert 1.0 < drawing.width / drawing.height < 2.0
    assert len({band.box.left for band in layout(hand_built.residual()).bands}) == 1


def test_skips_of_a_residual_network_do_not_cross():
    """Blocks one after the other need one lane on a side."""
    drawing = layout(hand_built.gated_residual())
    assert len({edge.label.x for edge in drawing.edges if not edge.straight}) == 1


def test_labels():
    topology = hand_built.mobile().topology
    assert [operation_label(topology, o) for o in topology.operations] == [
        "conv 3×3", "1×1", "dw 5×5", "1×1", "skip", "pool", "linear",
    ]  # fmt: skip
    topology = hand_built.causal().topology
    assert [operation_label(topology, topology.operations[o]) for o in (2, 5, 6)] == [
        "conv 3×3 g6 ◣", "conv 3×3 ↓2 ◣", "avg 2×2 ↓2",
    ]  # fmt: skip
    topology = hand_built.video().topology
    assert operation_label(topology, topology.operations[1]) == "conv 1×3×3 ↓1×2×2"
    assert [edge.text for edge in layout(hand_built.multi_exit()).edges][:4] == [
        "conv 3×3", "conv 3×3", "pool @0", "linear @0",
    ]  # fmt: skip
    assert levels_text([1], 3) == "@1"
    texts = [node.text for node in layout(hand_built.gated_dense()).nodes]
    assert texts[0] == "input 3"
    assert texts[-1] == "5 classes"
    assert "concat 10/14/18" in texts
    assert {"4 · gated", "–/–/4 · gated", "–/4/4 · gated"} < set(texts)
    assert layout(hand_built.multi_exit()).nodes[4].text == "exit 0: 5 classes"
    assert "8…16" in "".join(node.text for node in layout(sampled(Residual(), 5, points=8)).nodes)


def test_bands_are_the_stages():
    bands = layout(hand_built.residual()).bands
    assert [band.text for band in bands] == ["8×8", "4×4", "vector"]
    assert all(above.box.bottom == pytest.approx(below.box.top) for above, below in pairwise(bands))


@pytest.mark.parametrize("make", [sixty, large, hand_built.multi_exit, multi_scale, hand_built.lenet])
def test_drawn_texts_fit_and_do_not_overlap(make):
    """Real text extents: inside their boxes, in the figure, and apart from each other."""
    figure = topology_figure(make())
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, (axes,) = canvas.get_renderer(), figure.axes
    drawing = layout(make(), margin=(3.22, 1.38))
    boxes = {f"map {node.map}": node.box for node in drawing.nodes}
    boxes |= {f"operation {edge.operation}": edge.label for edge in drawing.edges}
    extents = [(text, text.get_window_extent(renderer)) for text in axes.texts]
    assert not [(a[0], b[0]) for a, b in combinations(extents, 2) if a[1].overlaps(b[1])]
    seen = set()
    for text, extent in extents:
        assert figure.bbox.contains(extent.x0, extent.y0)
        assert figure.bbox.contains(extent.x1, extent.y1)
        if text.get_gid():
            seen.add(text.get_gid())
            left, right = axes.transData.inverted().transform([(extent.x0, 0), (extent.x1, 0)])[:, 0]
            assert boxes[text.get_gid()].left <= left
            assert right <= boxes[text.get_gid()].right
            assert right - left <= text_width(text.get_text(), text.get_fontsize()) + 0.03
    assert seen == set(boxes)


@pytest.mark.parametrize("name", hand_built.ALL)
def test_pictures(name, tmp_path):
    for ending in (".png", ".svg", ".pdf") if name in ("residual", "multi_exit") else (".svg",):
        path = tmp_path / f"{name}{ending}"
        assert draw_topology(hand_built.ALL[name](), path) == path
        assert path.stat().st_size > 5000


@pytest.mark.parametrize("walk", ["flow", "undirected"])
def test_other_walks(walk, tmp_path):
    draw_topology(hand_built.cell(), tmp_path / "cell.svg", walk=walk, title="A cell")
    drawn = (tmp_path / "cell.svg").read_text(encoding="utf-8")
    assert "A cell" in drawn
    assert {"flow": "share of walks", "undirected": "share of time"}[walk] in drawn


def test_the_same_architecture_is_the_same_file(tmp_path):
    """Also from another process, with another hash seed."""
    path = draw_topology(hand_built.residual(), tmp_path / "here.svg")
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); import hand_built; "
        "from nas.reporting.topology.plot import draw_topology; "
        f"draw_topology(hand_built.residual(), {str(tmp_path / 'there.svg')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONHASHSEED": "7"})
    digests = {hashlib.sha256((tmp_path / f"{name}.svg").read_bytes()).hexdigest() for name in ("here", "there")}
    assert len(digests) == 1
    drawn = path.read_text(encoding="utf-8")
    for text in ("9 operations, 7 feature maps, 3 operating points", "the important path", "conv 3×3", "4/8/12"):
        assert text in drawn


def test_refusals(tmp_path):
    with pytest.raises(UserError, match=r"must end in .png, .svg, .pdf. Got 'net.jpg'"):
        draw_topology(hand_built.cell(), tmp_path / "net.jpg")
    with pytest.raises(UserError, match=r"Unknown walk 'path'. Did you mean 'paths'"):
        draw_topology(hand_built.cell(), tmp_path / "net.png", walk="path")
    with pytest.raises(UserError, match="must be writable"):
        draw_topology(hand_built.cell(), tmp_path / "missing" / "net.png")


def test_sixty_operations_take_less_than_three_seconds(tmp_path):
    architecture = sixty()
    assert len(architecture.topology.operations) >= 60
    started = time.process_time()
    draw_topology(architecture, tmp_path / "sixty.png")
    assert time.process_time() - started < 3
