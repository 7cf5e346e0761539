"""The marks of a topology's figure: colours, lines, arrow heads, boxes and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve

from nas.reporting.topology.layout import LABEL_POINTS, Box, Point

INK, MUTED, LINE = "#1b1f24", "#6b7280", "#aab2bd"
BANDS = ("#f3f5f8", "#e9edf2")
PATH, BARS = "#f2a541", "#5d6b7e"
IMPORTANCE = LinearSegmentedColormap.from_list("importance", ["#8fadcc", "#6b97c4", "#3f78b5", "#24528a", "#132f57"])
HIGH_BAND = LinearSegmentedColormap.from_list("high band", ["#ffffff", "#c9a6d6"])
"""Shares of the high band, from 0 to :data:`MOST_HIGH`. Lightness falls along both scales, for colour-blind readers."""
MOST_HIGH = 0.5  # white noise; no operation has a signal above it


def stroke(
    axes: Axes, curve: Curve, colour: Any, width: float, zorder: float, *, dashed: bool = False, alpha: float = 1.0
) -> None:
    """A line along a curve. width: in points."""
    axes.add_patch(
        PathPatch(
            curve,
            facecolor="none",
            edgecolor=colour,
            linewidth=width,
            linestyle=(0, (2.4, 1.2)) if dashed else "solid",
            capstyle="butt",
            joinstyle="round",
            zorder=zorder,
            alpha=None if alpha == 1.0 else alpha,
        )
    )


def line_width(share: float) -> float:
    """Width of the line of an operation in points. share: its importance, relative to the end of the scale."""
    return 1.3 + 2.8 * share


def draw_arrow_head(axes: Axes, piece: Sequence[Point], size: float, colour: Any, zorder: float) -> None:
    """The head of an arrow at the end of a polyline. size: its length in inches."""
    (x0, y0), (x, y) = piece[-2:]
    length = max(abs(x - x0), abs(y - y0)) or 1.0
    dx, dy = size * (x - x0) / length, size * (y - y0) / length
    corners = [(x, y), (x - dx - 0.45 * dy, y - dy - 0.45 * dx), (x - dx + 0.45 * dy, y - dy + 0.45 * dx)]
    axes.add_patch(Polygon(corners, closed=True, facecolor=colour, linewidth=0, zorder=zorder))


def shortened(piece: Sequence[Point], length: float) -> list[Point]:
    """A polyline shortened at its end, to leave room for the head of the arrow."""
    (x0, y0), (x, y) = piece[-2:]
    whole = max(abs(x - x0), abs(y - y0)) or 1.0
    share = max(0.0, 1 - length / whole)
    return [*piece[:-1], (x0 + share * (x - x0), y0 + share * (y - y0))]


def rounded(points: Sequence[Point], radius: float = 0.09) -> Curve:
    """A polyline with round corners."""
    vertices, codes = [points[0]], [Curve.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:]):
        vertices += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
        codes += [Curve.LINETO, Curve.CURVE3, Curve.CURVE3]
    return Curve([*vertices, points[-1]], [*codes, Curve.LINETO])


def _towards(start: Point, end: Point, distance: float) -> Point:
    """The point at this distance from the start, but at most half way to the end."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    share = min(0.5, distance / max(abs(dx), abs(dy), 1e-9))
    return start[0] + share * dx, start[1] + share * dy


def draw_box(
    axes: Axes, box: Box, face: Any, border: Any, rounding: float, *, linewidth: float = 0.9, zorder: float = 6
) -> None:
    """A box with round corners. rounding: their radius in inches."""
    axes.add_patch(
        FancyBboxPatch(
            (box.left, box.top),
            box.width,
            box.height,
            boxstyle=f"round,pad=0,rounding_size={rounding}",
            facecolor=face,
            edgecolor=border,
            linewidth=linewidth,
            zorder=zorder,
        )
    )


def draw_label(axes: Axes, box: Box, text: str, share: float, learned: bool, won: bool, gid: str | None) -> None:
    """The label of an operation: filled if it has weights, framed if it won. gid: its SVG id.

    share: its importance, relative to the end of the scale.
    """
    colour = IMPORTANCE(share)
    if won:
        frame = Box(x=box.x, y=box.y, width=box.width + 0.03, height=box.height + 0.03)
        draw_box(axes, frame, "white", PATH, 0.055, linewidth=2.2)
    draw_box(axes, box, colour if learned else "white", colour, 0.04, zorder=6.1)
    axes.text(
        box.x,
        box.y + 0.004,
        text,
        fontsize=LABEL_POINTS,
        color=text_on(colour) if learned else INK,
        ha="center",
        va="center_baseline",
        zorder=7,
        gid=gid,
    )


def text_on(colour: Any) -> str:
    """White or black, whichever has more contrast with a ground, as WCAG 2 defines it: 4.5 or more."""
    ground = _luminance(colour) + 0.05
    return "white" if 1.05 / ground > ground / 0.05 else "black"


def _luminance(colour: Any) -> float:
    """Relative luminance of an sRGB colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def draw_fold_tag(axes: Axes, x: float, y: float, letter: str, colour: Any) -> None:
    """A letter in a circle, at an end of an interrupted line."""
    axes.add_patch(Circle((x, y), 0.075, facecolor="white", edgecolor=colour, linewidth=1, zorder=5))
    axes.text(x, y + 0.004, letter, fontsize=6.5, ha="center", va="center_baseline", zorder=6)
