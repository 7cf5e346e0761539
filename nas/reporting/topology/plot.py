"""The picture of a topology: what :mod:`nas.reporting.topology.layout` has laid out, with its operations' importance.

Drawn without a display and without pyplot's global state.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path as Curve

from nas.chain.importance import chain_scores, important_operations, important_path, walk_of
from nas.errors import UserError
from nas.reporting.topology.captions import live_levels, map_ends, text_width
from nas.reporting.topology.layout import (
    BAR_PITCH,
    LABEL_HEIGHT,
    LABEL_POINTS,
    NODE_HEIGHT,
    NODE_POINTS,
    Box,
    Drawing,
    Edge,
    Point,
    bars_width,
    layout,
)
from nas.representation.architecture import Architecture, macs
from nas.representation.kinds import kind

ENDINGS = (".png", ".svg", ".pdf")

_INK, _MUTED, _LINE = "#1b1f24", "#6b7280", "#aab2bd"
_BANDS = ("#f3f5f8", "#e9edf2")
_PATH, _BARS = "#f2a541", "#8593a6"
_IMPORTANCE = LinearSegmentedColormap.from_list("importance", ["#b8c9dc", "#7fa6cd", "#3f78b5", "#24528a", "#132f57"])
_WHITE_FROM = 0.45  # share of importance above which white text has more contrast than ink
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # whose widths the layout knows
    "text.color": _INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "anytime-nas",  # the same figure is the same file
}
_EDGE, _HEADER, _LEGEND, _GUTTER = 0.3, 0.78, 2.3, 0.32  # inches
_FIRST_SIGN = 0.8  # inches below the legend's top
_WALKS = {
    "paths": "share of paths, where they run",
    "flow": "share of walks, where they run",
    "undirected": "share of time at their maps",
}


def draw_topology(
    architecture: Architecture, path: str | PathLike[str], *, walk: str | None = None, title: str = ""
) -> Path:
    """Draw a topology with the importance of its operations and its important path.

    path: a file ending in one of ENDINGS. walk: what importance is read from, a name in :data:`nas.chain.walks.WALKS`;
        by default that of the training rule, see :func:`nas.chain.importance.walk_of`. title: by default the key.

    Returns the path. Raises UserError on another ending, an unknown walk, or where the file cannot be written.
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
            raise UserError(f"The figure {path} must be writable, folder and disk, and is not: {error}.") from error
    return path


def topology_figure(architecture: Architecture, *, walk: str | None = None, title: str = "") -> Figure:
    """The figure that :func:`draw_topology` writes, one unit of its axes to the inch."""
    with rc_context(_STYLE):
        return _figure(architecture, walk or walk_of(architecture), title)


def _figure(architecture: Architecture, walk: str, title: str) -> Figure:
    architecture = architecture.canonical
    scores = chain_scores(architecture, walk)
    importance = [float(share) for share in scores.importance]
    drawing = layout(architecture, margin=(2 * _EDGE + _GUTTER + _LEGEND, 2 * _EDGE + _HEADER))
    highlighted = important_path(architecture, scores)
    winners = set(important_operations(architecture, scores.importance))
    signs = _signs(drawing, winners)
    headings = _headings(architecture, title)
    width = 2 * _EDGE + max(
        drawing.width + _GUTTER + _LEGEND, *(text_width(text, points) for text, points, _ in headings)
    )
    height = 2 * _EDGE + _HEADER + max(drawing.height, _FIRST_SIGN + sum(_room(text) for _, text in signs))
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-_EDGE, width - _EDGE)
    axes.set_ylim(height - _EDGE - _HEADER, -_EDGE - _HEADER)
    axes.axis("off")
    for (text, points, colour), y in zip(headings, (-0.68, -0.43, -0.22)):
        weight = "bold" if points > 10 else "normal"
        axes.text(0, y, text, fontsize=points, color=colour, weight=weight, va="center")
    _draw_bands(axes, drawing)
    _draw_edges(axes, drawing, importance, set(highlighted.operations))
    _draw_nodes(axes, drawing, set(highlighted.maps))
    _draw_labels(axes, drawing, importance, winners)
    _draw_legend(axes, signs, drawing.width + _GUTTER, walk)
    return figure


def _headings(architecture: Architecture, title: str) -> list[tuple[str, float, str]]:
    """Title and subtitles, as (text, size of type, colour)."""
    topology = architecture.topology
    costs = " · ".join(map(_short, macs(architecture)))
    points = len(architecture.points)
    counts = f"{len(topology.operations)} operations, {len(topology.maps)} feature maps"
    return [
        (title or f"Network {architecture.key[:8]}", 13, _INK),
        (f"{counts}, {points} operating point{'s' * (points > 1)}", 9, _MUTED),
        (f"MACs at level {'0' if points == 1 else f'0–{points - 1}'}:  {costs}", 9, _MUTED),
    ]


def _short(value: float) -> str:
    """A number with a prefix: 4688 is 4.69k."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{prefix}"
    return f"{value:.3g}"


# ---------------------------------------------------------------------------------------------------------- parts


def _draw_bands(axes: Axes, drawing: Drawing) -> None:
    """The stages, each with its spatial size."""
    for band in drawing.bands:
        box, colour = band.box, _BANDS[band.stage % 2]
        axes.add_patch(Rectangle((box.left, box.top), box.width, box.height, color=colour, linewidth=0, zorder=0))
        axes.text(
            box.left + 0.08, box.top + 0.14, band.text, fontsize=8, color=_MUTED, weight="bold", va="center", zorder=6
        )


def _draw_edges(axes: Axes, drawing: Drawing, importance: Sequence[float], path: set[int]) -> None:
    """Lines, the most important ones on top; the important path glows."""
    levels = len(drawing.architecture.points)
    folded = [edge for edge in drawing.edges if len(edge.pieces) > 1]
    folded.sort(key=lambda edge: edge.pieces[0][-1])
    tags = {edge.operation: chr(ord("a") + n % 26) for n, edge in enumerate(folded)}
    for edge in sorted(drawing.edges, key=lambda edge: (importance[edge.operation], -edge.operation)):
        share = importance[edge.operation]
        colour, width = _IMPORTANCE(share), 0.9 + 3.0 * share
        dashed = len(live_levels(drawing.architecture, edge.operation)) < levels
        above = 2 + share
        for n, piece in enumerate(edge.pieces):
            head = 0.065 + 0.012 * width
            last = n == len(edge.pieces) - 1
            curve = _rounded(_shortened(piece, 0.8 * head) if last else piece)
            if edge.operation in path:
                _stroke(axes, curve, _PATH, width + 5, 1.5, alpha=0.45)
            elif not edge.straight:
                _stroke(axes, curve, _BANDS[0], width + 1.6, above)
            _stroke(axes, curve, colour, width, above, dashed=dashed)
            if last:
                _draw_head(axes, piece, head, colour, above + 0.01)
        if edge.operation in tags:
            _draw_tags(axes, edge, tags[edge.operation], colour)


def _draw_tags(axes: Axes, edge: Edge, tag: str, colour: Any) -> None:
    """The same letter at both ends of a fold."""
    ends = [piece[-1] for piece in edge.pieces[:-1]] + [piece[0] for piece in edge.pieces[1:]]
    for x, y in ends:
        axes.add_patch(Circle((x, y), 0.075, facecolor="white", edgecolor=colour, linewidth=1, zorder=5))
        axes.text(x, y + 0.004, tag, fontsize=6.5, ha="center", va="center_baseline", zorder=6)


def _stroke(axes: Axes, curve: Curve, colour: Any, width: float, above: float, **how: Any) -> None:
    style = (0, (2.4, 1.2)) if how.pop("dashed", False) else "solid"
    axes.add_patch(
        PathPatch(
            curve,
            facecolor="none",
            edgecolor=colour,
            linewidth=width,
            linestyle=style,
            capstyle="butt",
            joinstyle="round",
            zorder=above,
            **how,
        )
    )


def _draw_head(axes: Axes, piece: Sequence[Point], size: float, colour: Any, above: float) -> None:
    (x0, y0), (x, y) = piece[-2:]
    length = max(abs(x - x0), abs(y - y0)) or 1.0
    dx, dy = size * (x - x0) / length, size * (y - y0) / length
    corners = [(x, y), (x - dx - 0.45 * dy, y - dy - 0.45 * dx), (x - dx + 0.45 * dy, y - dy + 0.45 * dx)]
    axes.add_patch(Polygon(corners, closed=True, facecolor=colour, linewidth=0, zorder=above))


def _shortened(piece: Sequence[Point], length: float) -> list[Point]:
    """A polyline without its last bit, where the head of the arrow is."""
    (x0, y0), (x, y) = piece[-2:]
    whole = max(abs(x - x0), abs(y - y0)) or 1.0
    keep = max(0.0, 1 - length / whole)
    return [*piece[:-1], (x0 + keep * (x - x0), y0 + keep * (y - y0))]


def _rounded(points: Sequence[Point], radius: float = 0.09) -> Curve:
    """A polyline with round corners."""
    vertices, codes = [points[0]], [Curve.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:]):
        vertices += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
        codes += [Curve.LINETO, Curve.CURVE3, Curve.CURVE3]
    return Curve([*vertices, points[-1]], [*codes, Curve.LINETO])


def _towards(start: Point, end: Point, distance: float) -> Point:
    """A point at this distance, but at most half way."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    share = min(0.5, distance / max(abs(dx), abs(dy), 1e-9))
    return start[0] + share * dx, start[1] + share * dy


def _draw_nodes(axes: Axes, drawing: Drawing, path: set[int]) -> None:
    """Maps: their channels at every level as numbers and, where they differ, as bars."""
    ends = map_ends(drawing.architecture)
    for node in drawing.nodes:
        box = node.box
        solid = node.map in ends
        _draw_box(axes, box, "#39424e" if solid else "white", _PATH if node.map in path else _LINE, NODE_HEIGHT / 2)
        bars = 0.0 if solid else bars_width(node.channels)
        start = box.x - (bars + text_width(node.text, NODE_POINTS)) / 2
        tallest = max(node.channels)
        for level, count in enumerate(node.channels) if bars else ():
            full = 0.13 * count / tallest
            place = start + level * BAR_PITCH, box.y + 0.065 - full
            axes.add_patch(Rectangle(place, 0.8 * BAR_PITCH, full, color=_BARS, linewidth=0, zorder=7))
        axes.text(
            (start + bars + box.x + (box.x - start)) / 2,
            box.y + 0.005,
            node.text,
            fontsize=NODE_POINTS,
            color="white" if solid else _INK,
            ha="center",
            va="center_baseline",
            zorder=7,
            gid=f"map {node.map}",
        )


def _draw_box(axes: Axes, box: Box, face: Any, border: Any, rounding: float, **how: Any) -> None:
    width = how.pop("linewidth", 1.8 if border == _PATH else 0.9)
    axes.add_patch(
        FancyBboxPatch(
            (box.left, box.top),
            box.width,
            box.height,
            boxstyle=f"round,pad=0,rounding_size={rounding}",
            facecolor=face,
            edgecolor=border,
            linewidth=width,
            zorder=how.pop("zorder", 6),
            **how,
        )
    )


def _draw_labels(axes: Axes, drawing: Drawing, importance: Sequence[float], winners: set[int]) -> None:
    """Operations: filled where learned, hollow where not; important ones are framed."""
    for edge in drawing.edges:
        o = edge.operation
        learned = kind(drawing.architecture.topology.operations[o].kind).learned
        _draw_label(axes, edge.label, edge.text, importance[o], learned, o in winners, gid=f"operation {o}")


def _draw_label(axes: Axes, box: Box, text: str, share: float, learned: bool, won: bool, gid: str | None) -> None:
    colour = _IMPORTANCE(share)
    if won:
        frame = Box(x=box.x, y=box.y, width=box.width + 0.03, height=box.height + 0.03)
        _draw_box(axes, frame, "white", _PATH, 0.055, linewidth=2.2)
    _draw_box(axes, box, colour if learned else "white", colour, 0.04, zorder=6.1)
    axes.text(
        box.x,
        box.y + 0.004,
        text,
        fontsize=LABEL_POINTS,
        color="white" if learned and share > _WHITE_FROM else _INK,
        ha="center",
        va="center_baseline",
        zorder=7,
        gid=gid,
    )


# --------------------------------------------------------------------------------------------------------- legend


def _draw_legend(axes: Axes, signs: Sequence[tuple[str, str]], x: float, walk: str) -> None:
    """Colour scale and signs, downwards from the top, beside the drawing."""
    axes.text(x, 0.1, "Importance of operations", fontsize=8.5, weight="bold", va="center")
    axes.text(x, 0.28, _WALKS.get(walk, walk), fontsize=7.5, color=_MUTED, va="center")
    steps, length = 100, _LEGEND - 0.2
    for n in range(steps):
        share = (n + 0.5) / steps
        half = (0.9 + 3.0 * share) / 72 * 1.6
        place = x + length * n / steps, 0.47 - half
        axes.add_patch(Rectangle(place, length / steps * 1.05, 2 * half, color=_IMPORTANCE(share), linewidth=0))
    for share in (0, 0.25, 0.5, 0.75, 1):
        text = f"{share:.0%}"
        axes.text(
            x + length * share,
            0.66,
            text,
            fontsize=7,
            color=_MUTED,
            ha=("left", "center", "right")[(share > 0) + (share == 1)],
        )
    y = _FIRST_SIGN
    for sign, text in signs:
        middle = y + _room(text) / 2
        _draw_sign(axes, sign, x, middle)
        axes.text(x + 0.72, middle, text, fontsize=7.5, color=_INK, va="center", linespacing=1.3)
        y += _room(text)


def _room(text: str) -> float:
    """Height, in inches, of a sign and its text in the legend."""
    return 0.3 + 0.1 * text.count("\n")


def _signs(drawing: Drawing, winners: set[int]) -> list[tuple[str, str]]:
    """The signs of the legend that occur, each with what it means."""
    architecture = drawing.architecture
    operations, count = architecture.topology.operations, len(architecture.points)
    varied = any(len(set(node.channels)) > 1 for node in drawing.nodes)
    partial = any(len(live_levels(architecture, o)) < count for o in range(len(operations)))
    signs = [
        ("map", "feature map: its channels\nat every level" if varied else "feature map: its channels"),
        ("learned", "learned operation"),
    ]
    if any(not kind(operation.kind).learned for operation in operations):
        signs.append(("plain", "operation without weights"))
    signs.append(("path", "the important path"))
    if winners:
        sampled = architecture.training.rule == "path_sampling"
        signs.append(("won", f"the most important of its\nalternatives{', sampled more often' * sampled}"))
    if partial:
        signs.append(("partial", "runs at some levels only:\nhere from level 1 on"))
    if any("↓" in edge.text for edge in drawing.edges):
        signs.append(("↓2", "stride 2"))
    if any("dw" in edge.text for edge in drawing.edges):
        signs.append(("dw", "depthwise"))
    if any("◣" in edge.text for edge in drawing.edges):
        signs.append(("◣", "causal: a slice reads\nno later slice"))
    if any(len(edge.pieces) > 1 for edge in drawing.edges):
        signs.append(("tag", "goes on at the top\nof the next panel"))
    return signs


def _draw_sign(axes: Axes, sign: str, x: float, y: float) -> None:
    box = Box(x=x + 0.3, y=y, width=0.56, height=LABEL_HEIGHT)
    line = Curve([(x, y), (x + 0.6, y)])
    if sign == "map":
        wide = Box(x=x + 0.3, y=y, width=0.6, height=NODE_HEIGHT - 0.02)
        _draw_box(axes, wide, "white", _LINE, wide.height / 2)
        for n in range(3):
            high = 0.05 + 0.04 * n
            axes.add_patch(
                Rectangle((x + 0.07 + n * BAR_PITCH, y + 0.065 - high), 0.04, high, color=_BARS, linewidth=0, zorder=7)
            )
        axes.text(x + 0.4, y + 0.004, "4/8/12", fontsize=6.5, ha="center", va="center_baseline", zorder=7)
    elif sign in ("learned", "plain", "won"):
        text = "skip" if sign == "plain" else "conv 3×3"
        _draw_label(axes, box, text, 0.5, sign != "plain", sign == "won", gid=None)
    elif sign == "path":
        _stroke(axes, line, _PATH, 7, 1.5, alpha=0.45)
        _stroke(axes, line, _IMPORTANCE(0.5), 2.4, 2)
    elif sign == "partial":
        _stroke(axes, line, _IMPORTANCE(0.5), 2.4, 2, dashed=True)
        _draw_label(axes, Box(x=x + 0.3, y=y, width=0.3, height=LABEL_HEIGHT), "≥1", 0.5, True, False, gid=None)
    elif sign == "tag":
        axes.add_patch(
            Circle((x + 0.3, y), 0.075, facecolor="white", edgecolor=_IMPORTANCE(0.5), linewidth=1, zorder=5)
        )
        axes.text(x + 0.3, y + 0.004, "a", fontsize=6.5, ha="center", va="center_baseline", zorder=6)
    else:
        axes.text(x + 0.3, y, sign, fontsize=8, ha="center", va="center_baseline", zorder=6)
