"""The legend of a topology's figure: the colour scales of importance and of the high band, and the signs that occur."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.patches import Rectangle
from matplotlib.path import Path as Curve

from nas.reporting.topology.labels import live_levels
from nas.reporting.topology.layout import BAR_PITCH, LABEL_HEIGHT, NODE_HEIGHT, Box, Drawing
from nas.reporting.topology.marks import (
    BARS,
    HIGH_BAND,
    IMPORTANCE,
    INK,
    LINE,
    MOST_HIGH,
    MUTED,
    PATH,
    draw_box,
    draw_fold_tag,
    draw_label,
    line_width,
    stroke,
)
from nas.representation.kinds import kind

LEGEND_WIDTH = 2.3  # inches
_SECOND_SCALE, _FIRST_SIGN = 0.88, 1.66  # inches below the legend's top
_WALKS = {
    "training": "share of the gradient at their levels",
    "paths": "share of paths at their levels",
    "flow": "share of walks at their levels",
    "undirected": "share of time at their maps",
    "tips": "share of time at their maps",
}


def legend_signs(drawing: Drawing, winners: set[int]) -> list[tuple[str, str]]:
    """The signs that occur in the drawing, each with its meaning."""
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
        signs.append(("tag", "continues at the top\nof the next panel"))
    return signs


def legend_height(signs: Sequence[tuple[str, str]]) -> float:
    """Height of the legend in inches."""
    return _FIRST_SIGN + sum(_room(text) for _, text in signs)


def _room(text: str) -> float:
    """Height, in inches, of a sign and its text in the legend."""
    return 0.3 + 0.1 * text.count("\n")


def draw_legend(axes: Axes, signs: Sequence[tuple[str, str]], x: float, walk: str, top: float) -> None:
    """Colour scales and signs, downwards from the top, beside the drawing. top: importance at the end of its scale."""
    _draw_scale(axes, x, 0.1, "Importance of operations", _WALKS.get(walk, walk), IMPORTANCE, top, widens=True)
    _draw_scale(
        axes,
        x,
        _SECOND_SCALE,
        "High frequencies in maps",
        "share of the signal",
        HIGH_BAND,
        MOST_HIGH,
    )
    y = _FIRST_SIGN
    for sign, text in signs:
        middle = y + _room(text) / 2
        _draw_sign(axes, sign, x, middle)
        axes.text(x + 0.72, middle, text, fontsize=7.5, color=INK, va="center", linespacing=1.3)
        y += _room(text)


def _draw_scale(
    axes: Axes, x: float, y: float, title: str, unit: str, colours: Colormap, top: float, *, widens: bool = False
) -> None:
    """A colour scale from 0 to ``top`` with its title. widens: it is as wide as the lines of operations are."""
    axes.text(x, y, title, fontsize=8.5, weight="bold", va="center")
    axes.text(x, y + 0.18, unit, fontsize=7.5, color=MUTED, va="center")
    steps, length = 100, LEGEND_WIDTH - 0.2
    for n in range(steps):
        share = (n + 0.5) / steps
        half = line_width(share if widens else 1.0) / 72 * 1.6
        place = x + length * n / steps, y + 0.37 - half
        axes.add_patch(Rectangle(place, length / steps * 1.05, 2 * half, color=colours(share), linewidth=0))
    if not widens:
        frame = Rectangle((x, y + 0.37 - half), length, 2 * half, fill=False, edgecolor=LINE, linewidth=0.6)
        axes.add_patch(frame)
    for share in (0, 0.25, 0.5, 0.75, 1):
        text = f"{share * top:.0%}" if top > 0.2 else f"{share * top:.1%}"
        alignment = ("left", "center", "right")[(share > 0) + (share == 1)]
        axes.text(x + length * share, y + 0.56, text, fontsize=7, color=MUTED, ha=alignment)


def _draw_sign(axes: Axes, sign: str, x: float, y: float) -> None:
    """One sign, as in the drawing."""
    box = Box(x=x + 0.3, y=y, width=0.56, height=LABEL_HEIGHT)
    line = Curve([(x, y), (x + 0.6, y)])
    if sign == "map":
        wide = Box(x=x + 0.3, y=y, width=0.6, height=NODE_HEIGHT - 0.02)
        draw_box(axes, wide, "white", LINE, wide.height / 2)
        for n in range(3):
            high = 0.05 + 0.04 * n
            axes.add_patch(
                Rectangle((x + 0.07 + n * BAR_PITCH, y + 0.065 - high), 0.04, high, color=BARS, linewidth=0, zorder=7)
            )
        axes.text(x + 0.4, y + 0.004, "4/8/12", fontsize=6.5, ha="center", va="center_baseline", zorder=7)
    elif sign in ("learned", "plain", "won"):
        text = "skip" if sign == "plain" else "conv 3×3"
        draw_label(axes, box, text, 0.5, sign != "plain", sign == "won", gid=None)
    elif sign == "path":
        stroke(axes, line, PATH, 7, 1.5, alpha=0.45)
        stroke(axes, line, IMPORTANCE(0.5), 2.4, 2)
    elif sign == "partial":
        stroke(axes, line, IMPORTANCE(0.5), 2.4, 2, dashed=True)
        draw_label(axes, Box(x=x + 0.3, y=y, width=0.3, height=LABEL_HEIGHT), "≥1", 0.5, True, False, gid=None)
    elif sign == "tag":
        draw_fold_tag(axes, x + 0.3, y, "a", IMPORTANCE(0.5))
    else:
        axes.text(x + 0.3, y, sign, fontsize=8, ha="center", va="center_baseline", zorder=6)
