"""Figures of studies, drawn without a display and without pyplot's global state."""

from results.plots.front import front_figure, plot_front, shown_accuracies
from results.plots.history import AXES, history_figure, plot_history
from results.plots.progress import progress_figure
from results.plots.style import COLOURS, ENDINGS, GRID, INK, MUTED, STYLE, as_svg, check_ending, engineering, write

__all__ = [
    "AXES",
    "COLOURS",
    "ENDINGS",
    "GRID",
    "INK",
    "MUTED",
    "STYLE",
    "as_svg",
    "check_ending",
    "engineering",
    "front_figure",
    "history_figure",
    "plot_front",
    "plot_history",
    "progress_figure",
    "shown_accuracies",
    "write",
]
