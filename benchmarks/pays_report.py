"""The rows of the yardstick, `pays.py`, as scores and tables, and as a picture of test accuracy against MACs.

As a program, it prints the tables of rows/pays.csv and draws rows/pays.png.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from resumable import DECADE, paired_difference

from results.front import anytime_accuracy, hypervolume, non_dominated
from results.plots import STYLE

ROWS = Path(__file__).parent / "rows" / "pays.csv"
STYLES = {
    "search": ("search", "C1", "o"),
    "block-triangular": ("block-triangular ResNeXt", "C0", "s"),
    "slimmable": ("slimmable ResNet", "C2", "^"),
    "mobile": ("MobileNetV2", "C3", "v"),
}
"""Label, colour and marker of each method that is drawn."""
FLOOR = 0.1
"""Accuracy of the best constant answer on the data of the rows."""
NAMES = {"fashion_mnist": "Fashion-MNIST", "cifar10_10k": "10,000 images of CIFAR-10"}
FIXED = {"slimmable": "slimmable", "block-triangular": "slicing", "mobile": "mobile"}
"""Search space of each fixed network; its largest reference within the MACs, of the design that comes first."""
TICKS = (0.2, 0.5, 1, 2, 4)
"""Millions of MACs."""


def scores(frame: pd.DataFrame, max_macs: float, floor: float) -> pd.DataFrame:
    """Per run, in points: anytime accuracy of the best network and of the front, and hypervolume of the front."""
    low, lines = max_macs / DECADE, []
    for (method, number), rows in frame.groupby(["method", "seed"], sort=False):
        best = rows[rows.best.astype(bool)]
        by = {
            name: anytime_accuracy(r.macs, r.test_accuracy, low=low, high=max_macs, floor=floor, chosen_by=r.accuracy)
            for name, r in (("best", best), ("front", rows))
        }
        front = rows[non_dominated(rows.macs, rows.accuracy)]
        volume = hypervolume(
            np.maximum(low, front.macs), front.test_accuracy, reference_cost=max_macs, reference_accuracy=floor
        )
        lines.append(
            {
                "method": method,
                "seed": number,
                "best": 100 * by["best"],
                "front": 100 * by["front"],
                "hypervolume": volume,
                "seconds": rows.cpu_seconds.iloc[0],
            }
        )
    return pd.DataFrame(lines)


def report(frame: pd.DataFrame, max_macs: float, floor: float) -> None:
    """Print the scores of all methods at one time on one data set, and how each compares with the fixed networks."""
    first, by_run = frame.iloc[0], scores(frame, max_macs, floor)
    print(
        f"\n=== {first.data}, {first.minutes:g} minutes, {first.threads} threads: "
        f"test accuracy in % over {max_macs / DECADE / 1e6:g} to {max_macs / 1e6:g} M MACs ==="
    )
    table = by_run.groupby("method", sort=False)[["best", "front", "hypervolume", "seconds"]].mean()
    table["seeds"] = by_run.groupby("method").size()
    print(table.round(2).to_string())
    rivals = by_run[by_run.method.isin(FIXED)]
    if rivals.empty:
        return
    top = rivals.groupby("method").best.mean().idxmax()
    medians = rivals.groupby("seed").best.median()
    for method in table.index:
        if method not in FIXED:
            both = by_run.rename(columns={"best": "test_accuracy"}).assign(
                test_accuracy=lambda f: f.test_accuracy / 100
            )
            own = by_run[by_run.method == method].set_index("seed").best
            above = (own > medians.reindex(own.index)).sum()
            print(
                f"{method} − {top}, the best fixed network: {paired_difference(both, 'method', method, top)}; "
                f"above the median fixed network in {above} of {len(own)} seeds"
            )


def draw(rows: pd.DataFrame, figure: Figure) -> None:
    """Draw a panel for each data set and time. rows: of pays.py."""
    shown = rows[rows.method.isin(STYLES) & rows.best.astype(bool) & rows.test_accuracy.notna()]
    panels = list(shown.groupby(["data", "minutes", "threads"], sort=False))
    for axes, ((data, minutes, threads), points) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        _panel(axes, points)
        cores = "one core" if threads == 1 else f"{threads} cores"
        axes.set_title(f"{NAMES.get(data, data)}, {minutes:g} minutes, {cores}", fontsize="medium")
    figure.axes[0].set_ylabel("test accuracy, %")
    figure.axes[-1].legend(*figure.axes[0].get_legend_handles_labels(), frameon=False, loc="lower right")


def _panel(axes: Axes, points: pd.DataFrame) -> None:
    """The best networks of one data set and time, a line for each seed."""
    for method, (label, colour, marker) in STYLES.items():
        for number, (_, run) in enumerate(points[points.method == method].groupby("seed")):
            axes.plot(
                run.macs / 1e6,
                100 * run.test_accuracy,
                f"{marker}-",
                color=colour,
                alpha=0.8,
                markersize=4,
                linewidth=1,
                label=label if number == 0 else None,
            )
    low = points.max_macs.iloc[0] / DECADE / 1e6
    axes.axvspan(low, 10 * low, color="0.95", zorder=-1)
    axes.set_xscale("log")
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("MACs, millions (grey: range of anytime accuracy)")


def main() -> None:
    """Print and draw the committed rows."""
    rows = pd.read_csv(ROWS)
    for (_, _, _, max_macs), found in rows.groupby(["data", "minutes", "threads", "max_macs"], sort=False):
        report(found, max_macs, FLOOR)
    with rc_context(STYLE):
        count = len(rows[rows.method.isin(STYLES)].groupby(["data", "minutes", "threads"]))
        figure = Figure(figsize=(4.6 * count, 3.6), layout="constrained")
        draw(rows, figure)
        figure.savefig(ROWS.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
