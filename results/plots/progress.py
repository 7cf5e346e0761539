"""Figure of the progress of one search: the accuracy of each trained candidate, and the best so far."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from results.curves import evenly
from results.plots.style import COLOURS, GRID, INK, STYLE, Drawing, legend, percent_labels, plain_axes

MOST_LINES = 60
"""Starts of generations that are drawn as lines."""


def progress_figure(trained: pd.DataFrame, quantity: str = "accuracy") -> Figure:
    """The best anytime accuracy after each trained candidate, and the accuracy of each candidate.

    trained: in the order of training: accuracy (anytime accuracy), reference (name of the reference architecture, if it
    is one), control (drawn at random), generation, finished (trained to the last rung; others were stopped before). At
    most 500 candidates are drawn, evenly spaced, and all improvements. quantity: the metric in words.
    """
    place = np.arange(1, len(trained) + 1)
    drawn = np.zeros(len(trained), dtype=bool)
    drawn[evenly(np.arange(len(trained)))] = True
    with rc_context(STYLE):
        figure = Drawing(8.4, 3.6)
        axes = figure.add_subplot()
        starts = [n + 1 for n, generation in enumerate(trained["generation"].diff()) if n and generation]
        for start in starts if len(starts) <= MOST_LINES else ():
            axes.axvline(start - 0.5, color=GRID, linewidth=0.8, zorder=0)
        best = trained["accuracy"].cummax()
        steps = drawn | best.diff().ne(0).to_numpy()
        axes.plot(
            place[steps], best[steps], drawstyle="steps-post", color=INK, linewidth=2, zorder=2, label="best so far"
        )
        reference = trained["reference"].notna()
        proposed = ~trained["control"] & ~reference
        kinds: list[tuple[str, pd.Series, str, dict[str, Any]]] = [
            ("finished the last rung", proposed & trained["finished"], "o", {"color": COLOURS[0]}),
            ("stopped early", proposed & ~trained["finished"], "o", {"facecolors": "none", "edgecolors": COLOURS[0]}),
            ("reference", reference, "^", {"color": COLOURS[2]}),
            ("random control", trained["control"], "D", {"facecolors": "white", "edgecolors": COLOURS[1]}),
        ]
        for label, mask, marker, look in kinds:
            if mask.any():
                shown = mask.to_numpy(dtype=bool) & drawn
                axes.scatter(
                    place[shown], trained["accuracy"][shown], s=22, marker=marker, label=label, zorder=3, **look
                )
        axes.set_xlabel("candidates trained in part; a line for the start of a generation", labelpad=6)
        axes.set_ylabel(f"anytime {quantity}", labelpad=6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(0.3, len(trained) + 0.7)
        percent_labels(axes.yaxis)
        plain_axes(axes)
        legend(axes)
    return figure
