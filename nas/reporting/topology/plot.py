"""The figure of a topology with its training chain, from the coordinates of the layout.

Maps have the colour of the high band in their signal, operations the colour of their importance.

Needs no display and does not use pyplot's global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nas.chain.importance import TRAINING, chain_scores, important_operations, important_path, walk_of
from nas.chain.summary import training_summary
from nas.errors import UserError
from nas.reporting.topology.labels import live_levels, map_ends, text_width
from nas.reporting.topology.layout import (
    BAR_PITCH,
    NODE_HEIGHT,
    NODE_POINTS,
    Drawing,
    Edge,
    bars_width,
    layout,
)
from nas.reporting.topology.legend import LEGEND_WIDTH, draw_legend, legend_height, legend_signs
from nas.reporting.topology.marks import (
    BANDS,
    BARS,
    HIGH_BAND,
    IMPORTANCE,
    INK,
    LINE,
    MOST_HIGH,
    MUTED,
    PATH,
    draw_arrow_head,
    draw_box,
    draw_fold_tag,
    draw_label,
    line_width,
    rounded,
    shortened,
    stroke,
)
from nas.representation.architecture import Architecture, macs
from nas.representation.kinds import kind
from results.plots import engineering

ENDINGS = (".png", ".svg", ".pdf")

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # whose widths the layout knows
    "text.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "anytime-nas",  # the same figure is the same file
}
_EDGE, _HEADER, _GUTTER = 0.3, 0.99, 0.32  # inches


def draw_topology(
    architecture: Architecture, path: str | PathLike[str], *, walk: str | None = None, title: str = ""
) -> Path:
    """Draw a topology with the high band of its signals, the importance of its operations and its important path.

    Parameters
    ----------
    architecture : Architecture
        The architecture whose topology is drawn.
    path : path-like
        The file to write; its name ends in one of ENDINGS.
    walk : str, optional
        The chain that defines the importance, a name in :data:`nas.chain.importance.CHAINS`. Default: see
        :func:`nas.chain.importance.walk_of`.
    title : str, optional
        Default: the beginning of the architecture's key.

    Returns
    -------
    Path
        The path of the file.

    Raises
    ------
    UserError
        If the ending or the walk is unknown, or the file is not writable.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"A figure's file must end in {', '.join(ENDINGS)}. Got {path.name!r}.")
    figure = topology_figure(architecture, walk=walk, title=title)
    with rc_context(_STYLE):
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
        try:
            figure.savefig(path, dpi=170, metadata=metadata)
        except OSError as error:
            raise UserError(f"The figure {path} must be writable: {error.strerror or error}.") from error
    return path


def topology_figure(architecture: Architecture, *, walk: str | None = None, title: str = "") -> Figure:
    """The figure that :func:`draw_topology` writes. One unit of its axes is one inch."""
    with rc_context(_STYLE):
        return _figure(architecture, walk or walk_of(architecture), title)


def _figure(architecture: Architecture, walk: str, title: str) -> Figure:
    architecture = architecture.canonical
    scores = chain_scores(architecture, walk)
    summary = training_summary(architecture)
    importance = [float(share) for share in scores.importance]
    if walk == TRAINING:  # of the operating points: the sampled subnetworks only choose between alternatives
        trained = {each.operation: each.importance for each in summary.operations}
        importance = [trained.get(o, 0.0) for o in range(len(importance))]
    top = max(importance) if walk == TRAINING and any(importance) else 1.0
    importance = [share / top for share in importance]
    drawing = layout(architecture, margin=(2 * _EDGE + _GUTTER + LEGEND_WIDTH, 2 * _EDGE + _HEADER))
    highlighted = important_path(architecture, scores)
    winners = set(important_operations(architecture, scores.importance))
    signs = legend_signs(drawing, winners)
    headings = _headings(architecture, title, summary.sentence)
    width = 2 * _EDGE + max(
        drawing.width + _GUTTER + LEGEND_WIDTH, *(text_width(text, points) for text, points, _ in headings)
    )
    height = 2 * _EDGE + _HEADER + max(drawing.height, legend_height(signs))
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-_EDGE, width - _EDGE)
    axes.set_ylim(height - _EDGE - _HEADER, -_EDGE - _HEADER)
    axes.axis("off")
    for (text, points, colour), y in zip(headings, (-0.89, -0.64, -0.43, -0.22)):
        weight = "bold" if points > 10 else "normal"
        axes.text(0, y, text, fontsize=points, color=colour, weight=weight, va="center")
    _draw_bands(axes, drawing)
    _draw_edges(axes, drawing, importance, set(highlighted.operations))
    _draw_nodes(axes, drawing, set(highlighted.maps), {each.map: each.high_signal for each in summary.maps})
    _draw_labels(axes, drawing, importance, winners)
    draw_legend(axes, signs, drawing.width + _GUTTER, walk, top)
    return figure


def _headings(architecture: Architecture, title: str, sentence: str) -> list[tuple[str, float, str]]:
    """Title and subtitles, as (text, size of type, colour)."""
    topology = architecture.topology
    costs = " · ".join(map(engineering, macs(architecture)))
    points = len(architecture.points)
    counts = f"{len(topology.operations)} operations, {len(topology.maps)} feature maps"
    return [
        (title or f"Network {architecture.key[:8]}", 13, INK),
        (f"{counts}, {points} operating point{'s' * (points > 1)}", 9, MUTED),
        (f"MACs at level {'0' if points == 1 else f'0–{points - 1}'}:  {costs}", 9, MUTED),
        (sentence, 9, INK),
    ]


def _draw_bands(axes: Axes, drawing: Drawing) -> None:
    """Bands of one spatial size, each labelled with it."""
    for band in drawing.bands:
        box, colour = band.box, BANDS[band.stage % 2]
        axes.add_patch(Rectangle((box.left, box.top), box.width, box.height, color=colour, linewidth=0, zorder=0))
        axes.text(
            box.left + 0.08, box.top + 0.14, band.text, fontsize=8, color=MUTED, weight="bold", va="center", zorder=6
        )


def _draw_edges(axes: Axes, drawing: Drawing, importance: Sequence[float], path: set[int]) -> None:
    """Lines, the most important ones on top; the important path glows. importance: relative to the largest value."""
    levels = len(drawing.architecture.points)
    folded = [edge for edge in drawing.edges if len(edge.pieces) > 1]
    folded.sort(key=lambda edge: edge.pieces[0][-1])
    tags = {edge.operation: chr(ord("a") + n % 26) for n, edge in enumerate(folded)}
    for edge in sorted(drawing.edges, key=lambda edge: (importance[edge.operation], -edge.operation)):
        share = importance[edge.operation]
        colour, width = IMPORTANCE(share), line_width(share)
        dashed = len(live_levels(drawing.architecture, edge.operation)) < levels
        zorder = 2 + share
        for n, piece in enumerate(edge.pieces):
            head = 0.065 + 0.012 * width
            last = n == len(edge.pieces) - 1
            curve = rounded(shortened(piece, 0.8 * head) if last else piece)
            if edge.operation in path:
                stroke(axes, curve, PATH, width + 5, 1.5, alpha=0.45)
            elif not edge.straight:
                stroke(axes, curve, BANDS[0], width + 1.6, zorder)
            stroke(axes, curve, colour, width, zorder, dashed=dashed)
            if last:
                draw_arrow_head(axes, piece, head, colour, zorder + 0.01)
        if edge.operation in tags:
            _draw_tags(axes, edge, tags[edge.operation], colour)


def _draw_tags(axes: Axes, edge: Edge, tag: str, colour: Any) -> None:
    """The same letter at both ends of a fold."""
    ends = [piece[-1] for piece in edge.pieces[:-1]] + [piece[0] for piece in edge.pieces[1:]]
    for x, y in ends:
        draw_fold_tag(axes, x, y, tag, colour)


def _draw_nodes(axes: Axes, drawing: Drawing, path: set[int], high: Mapping[int, float]) -> None:
    """Maps: their channels at every level as numbers and, if they differ between levels, as bars.

    high: map → share of the high band in its signal, which gives its colour; vectors have no bands.
    """
    maps = drawing.architecture.topology.maps
    ends = map_ends(drawing.architecture)
    for node in drawing.nodes:
        box = node.box
        solid = node.map in ends
        border, linewidth = (PATH, 1.8) if node.map in path else (LINE, 0.9)
        share = high.get(node.map, 0.0) / MOST_HIGH if maps[node.map].size else 0.0
        face = "#39424e" if solid else HIGH_BAND(share)
        draw_box(axes, box, face, border, NODE_HEIGHT / 2, linewidth=linewidth)
        bars = 0.0 if solid else bars_width(node.channels)
        start = box.x - (bars + text_width(node.text, NODE_POINTS)) / 2
        tallest = max(node.channels)
        for level, count in enumerate(node.channels) if bars else ():
            full = 0.13 * count / tallest
            place = start + level * BAR_PITCH, box.y + 0.065 - full
            axes.add_patch(Rectangle(place, 0.8 * BAR_PITCH, full, color=BARS, linewidth=0, zorder=7))
        axes.text(
            (start + bars + box.x + (box.x - start)) / 2,
            box.y + 0.005,
            node.text,
            fontsize=NODE_POINTS,
            color="white" if solid else INK,
            ha="center",
            va="center_baseline",
            zorder=7,
            gid=f"map {node.map}",
        )


def _draw_labels(axes: Axes, drawing: Drawing, importance: Sequence[float], winners: set[int]) -> None:
    """Operations: filled if they have weights, hollow if not; important ones are framed."""
    for edge in drawing.edges:
        o = edge.operation
        learned = kind(drawing.architecture.topology.operations[o].kind).learned
        draw_label(axes, edge.label, edge.text, importance[o], learned, o in winners, gid=f"operation {o}")
