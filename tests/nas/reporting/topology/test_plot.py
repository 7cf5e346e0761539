"""Figures of topologies: texts fit their boxes, every format is written, equal architectures give equal files."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch

from nas.chain.summary import training_summary
from nas.errors import UserError
from nas.reporting.topology.labels import text_width
from nas.reporting.topology.layout import layout
from nas.reporting.topology.marks import HIGH_BAND, IMPORTANCE, text_on
from nas.reporting.topology.plot import draw_topology, topology_figure

from ... import hand_built
from .drawn_networks import large, multi_scale, sixty


@pytest.mark.parametrize("share", np.linspace(0, 1, 41))
def test_texts_on_labels_have_the_contrast_that_wcag_asks_for(share):
    def luminance(colour):
        channels = np.array(to_rgb(colour))
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    dark, light = sorted((luminance(IMPORTANCE(share)), luminance(text_on(IMPORTANCE(share)))))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize("make", [sixty, large, hand_built.multi_exit, multi_scale, hand_built.lenet])
def test_drawn_texts_fit_and_do_not_overlap(make):
    """Real text extents: inside their boxes, in the figure, and apart from each other."""
    figure = topology_figure(make())
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, (axes,) = canvas.get_renderer(), figure.axes
    drawing = layout(make(), margin=(3.22, 1.59))
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


@pytest.mark.parametrize("walk", ["paths", "flow", "undirected"])
def test_other_walks(walk, tmp_path):
    draw_topology(hand_built.cell(), tmp_path / "cell.svg", walk=walk, title="A cell")
    drawn = (tmp_path / "cell.svg").read_text(encoding="utf-8")
    assert "A cell" in drawn
    assert {"paths": "share of paths", "flow": "share of walks", "undirected": "share of time"}[walk] in drawn


def test_the_drawing_has_the_numbers_of_the_summary():
    """Maps by the high band of their signal, operations by training importance, the least trained stage in words."""
    architecture = sixty()
    summary = training_summary(architecture.canonical)
    figure = topology_figure(architecture)
    (axes,) = figure.axes
    texts = {text.get_text() for text in axes.texts}
    assert {summary.sentence, "share of the gradient at their levels", "High frequencies in maps"} <= texts
    faces = {tuple(patch.get_facecolor()) for patch in axes.patches if isinstance(patch, FancyBboxPatch)}
    maps = architecture.canonical.topology.maps
    for each in summary.maps[1:-2]:
        assert maps[each.map].size
        assert HIGH_BAND(each.high_signal / 0.5) in faces
    top = max(each.importance for each in summary.operations)
    for each in summary.operations:
        if each.learned:
            assert IMPORTANCE(each.importance / top) in faces


def test_scales_of_colour_become_darker_for_colour_blind_readers():
    for scale in (HIGH_BAND, IMPORTANCE):
        lightness = [np.dot(scale(x)[:3], (0.299, 0.587, 0.114)) for x in np.linspace(0, 1, 20)]
        assert (np.diff(lightness) < 0).all()


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
