"""Figure of searches over their evaluations or over time: the best anytime accuracy so far."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.ticker import MaxNLocator

from results.curves import evenly
from results.errors import StoreError
from results.plots.style import (
    COLOURS,
    MARKERS,
    STYLE,
    Drawing,
    check_ending,
    in_legend,
    legend,
    percent_labels,
    plain_axes,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = {
    "evaluations": ("evaluation", "evaluations"),
    "time": ("elapsed_seconds", "time since the first start"),
    "work": ("worker_seconds", "training and evaluation, summed over workers"),
}
"""Name of a horizontal axis → column of `Store.history`, and label."""
_UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"))
"""Units in seconds; an axis that is two of them long, or longer, is in the unit. Shorter ones are in seconds."""


def plot_history(history: pd.DataFrame, path: str | PathLike[str], *, over: str = "evaluations") -> Path:
    """Plot the best anytime accuracy so far of studies.

    Parameters
    ----------
    history : pandas.DataFrame
        From `Store.history`.
    path : str or path
        File that ends in one of ENDINGS.
    over : str
        Horizontal axis, one of AXES.

    Returns
    -------
    pathlib.Path
        The path of the figure.

    Raises
    ------
    StoreError
        For another ending, an unknown axis, a file that cannot be written, or if there is no value to draw.
    """
    path = check_ending(path)
    write(history_figure(history, over=over), path)
    return path


def history_figure(history: pd.DataFrame, *, over: str = "evaluations", quantity: str = "accuracy") -> Drawing:
    """The figure that :func:`plot_history` writes; errors are the same. quantity: the metric in words."""
    if over not in AXES:
        raise StoreError(f"A history is drawn over one of {', '.join(AXES)}. Got {over!r}.")
    column, label = AXES[over]
    known = history.dropna(subset=[column, "anytime_accuracy"])
    if known.empty:
        raise StoreError(f"A figure needs evaluations with {column} and anytime accuracy, and there are none.")
    unit = 1.0
    if over != "evaluations":
        longest = known[column].max()
        unit, name = next(((size, name) for size, name in _UNITS if longest >= 2 * size), (1.0, "seconds"))
        label = f"{label} ({name})"
    with rc_context(STYLE):
        figure = Drawing(8.4, 4.4)
        axes = figure.add_subplot()
        for place, (study, rows) in enumerate(known.groupby("study", sort=False)):
            _draw_study(axes, str(study), rows[column].to_numpy() / unit, rows, place)
        axes.set_xlabel(label, labelpad=6)
        axes.set_ylabel(f"anytime {quantity}", labelpad=6)
        axes.set_xlim(left=0)
        if over == "evaluations":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        percent_labels(axes.yaxis)
        plain_axes(axes)
        legend(axes)
    return figure


def _draw_study(axes: Axes, study: str, at: np.ndarray, rows: pd.DataFrame, place: int) -> None:
    """The best so far as steps, each evaluation as a faint marker; at most 500 markers, evenly spaced."""
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    accuracy, best = rows["anytime_accuracy"].to_numpy(), rows["best"].to_numpy()
    axes.plot(
        at, best, drawstyle="steps-post", color=colour, linewidth=2, zorder=3, label=in_legend(f"{study}, best so far")
    )
    shown = evenly(np.arange(len(at)))
    axes.scatter(
        at[shown],
        accuracy[shown],
        s=14,
        marker=marker,
        color=colour,
        alpha=0.35,
        linewidths=0,
        zorder=2,
        label=in_legend(f"{study}, evaluations"),
    )
