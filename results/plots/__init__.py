"""Figures of studies, drawn without a display and without pyplot's global state."""

from results.plots.front import front_figure, plot_front
from results.plots.progress import progress_figure
from results.plots.style import COLOURS, ENDINGS, GRID, INK, MUTED, STYLE, as_svg, engineering

__all__ = [
    "COLOURS",
    "ENDINGS",
    "GRID",
    "INK",
    "MUTED",
    "STYLE",
    "as_svg",
    "engineering",
    "front_figure",
    "plot_front",
    "progress_figure",
]
