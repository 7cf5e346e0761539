"""Colours, fonts and number formats that all figures share; figures are drawn without a display and without pyplot."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDINGS = (".png", ".svg", ".pdf")

INK, MUTED, GRID, SHADE = "#1b1f24", "#6b7280", "#e7e9ec", "#f3f5f8"
COLOURS = ("#3f78b5", "#d9822b", "#3f9c6e", "#8c64b0", "#c2504d", "#5aa7b8", "#a07f3d", "#c86fa5")
"""By space, or by study if there are several."""
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "svg.fonttype": "none",
    "svg.hashsalt": "anytime-nas",  # the same figure is the same file
}


def as_svg(figure: Figure) -> str:
    """A figure as SVG text that looks the same everywhere: letters are outlines. Equal figures give equal text."""
    written = io.StringIO()
    with rc_context(STYLE | {"svg.fonttype": "path"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def engineering(value: float, _: object = None) -> str:
    """Short form with a prefix: 1.5k, 20M, 3G; plain below a thousand.

    >>> engineering(1.5e6), engineering(20e6), engineering(0.25)
    ('1.5M', '20M', '0.25')
    """
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{prefix}"
    return f"{value:.3g}"


def plain_axes(axes: Axes) -> None:
    """Horizontal grid lines, and only the lower spine."""
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=3, width=0.8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
