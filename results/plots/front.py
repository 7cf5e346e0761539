"""Figure of a Pareto front: accuracy over cost, with the curves of all trained candidates."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator, PercentFormatter

from results.errors import StoreError
from results.front import Score
from results.measures import BUILT_IN, Measure, check_cost
from results.plots.style import COLOURS, ENDINGS, INK, MUTED, SHADE, STYLE, engineering, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from results.reading.curves import Curves


def plot_front(
    curves: Curves,
    front: pd.DataFrame,
    path: str | PathLike[str],
    *,
    score: Score | None = None,
    drawn: str = "trained candidate",
    policies: pd.DataFrame | None = None,
    measures: Sequence[Measure] = BUILT_IN,
) -> Path:
    """Plot the curve of every trained candidate, the Pareto front and its test accuracies.

    Parameters
    ----------
    curves : Curves
        From `Store.curves`, or ``Curves.of`` a DataFrame of points; their cost is the horizontal axis.
    front : pandas.DataFrame
        From `Store.front` with the same cost.
    path : str or path
        File that ends in one of ENDINGS.
    score : Score, optional
        Shades its range of budgets and shows the anytime accuracy of the front.
    drawn : str
        Noun for one curve, in the singular.
    policies : pandas.DataFrame, optional
        From `Store.policies`; mean MACs and accuracy, one curve for the controllers of a candidate and one for each of
        its gate policies.
    measures : sequence of Measure
        From `Store.measures`, if the cost is a measure of the evaluator.

    Returns
    -------
    pathlib.Path
        The path of the figure.

    Raises
    ------
    StoreError
        For another ending, an unknown cost, a file that cannot be written, or if nothing was trained.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise StoreError(f"A figure's file must end in {', '.join(ENDINGS)}. Got {path.name!r}.")
    figure = front_figure(curves, front, score=score, drawn=drawn, policies=policies, measures=measures)
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    with rc_context(STYLE):
        try:
            figure.savefig(path, dpi=200, metadata=metadata)
        except OSError as error:
            raise StoreError(f"The figure {path} must be writable: {error.strerror or error}.") from error
    return path


def front_figure(
    curves: Curves,
    front: pd.DataFrame,
    *,
    score: Score | None = None,
    drawn: str = "trained candidate",
    policies: pd.DataFrame | None = None,
    measures: Sequence[Measure] = BUILT_IN,
) -> Figure:
    """The figure that :func:`plot_front` writes; arguments and errors are the same."""
    cost, rows = curves.cost, curves.rows
    check_cost(cost, measures)
    axis = next(measure for measure in measures if measure.name == cost)
    if rows.empty:
        raise StoreError(f"A figure needs points with {cost} and accuracy, and there are none. Train some first.")
    with rc_context(STYLE):
        figure = Figure(figsize=(8.4, 5.2), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
        axes = figure.add_subplot()
        _frame(axes, rows, front, axis)
        if score is not None and score.cost == cost:
            _draw_budgets(axes, front, score, axis.unit)
        colours = {space: COLOURS[n % len(COLOURS)] for n, space in enumerate(sorted(curves.candidates))}
        _draw_front(axes, front, cost, colours)
        _draw_curves(axes, curves, colours)
        if policies is not None and cost == "macs":
            _draw_policies(axes, policies)
        _draw_titles(axes, curves, front, drawn)
    return figure


def _frame(axes: Axes, curves: pd.DataFrame, front: pd.DataFrame, measure: Measure) -> None:
    """Scales, limits, grid and labels: set first, because later text is placed by the limits."""
    cost = measure.name
    low, high = curves[cost].min(), curves[cost].max()
    margin = max(high / low, 1.5) ** 0.05
    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    shown = pd.concat([curves["accuracy"], front["test_accuracy"].dropna()])
    bottom, top = shown.quantile(0.01), shown.max()
    room = max(top - bottom, 0.02)
    axes.set_ylim(max(bottom - 0.08 * room, -0.01), top + 0.10 * room)
    decades = math.log10(high / low * margin**2)
    subs = (1.0,) if decades > 4 else (1.0, 2.0, 5.0) if decades > 0.7 else tuple(float(n) for n in range(1, 10))
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(engineering))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0 if room > 0.06 else 1))
    plain_axes(axes)
    axes.set_xlabel(measure.label, labelpad=6)
    joined = "coarse_accuracy" in front and bool(front["coarse_accuracy"].notna().any())
    axes.set_ylabel("accuracy, mean of fine and coarse labels" if joined else "accuracy", labelpad=6)


def _draw_budgets(axes: Axes, front: pd.DataFrame, score: Score, unit: str) -> None:
    """Shade the range of budgets, with the anytime accuracy of the front over it."""
    axes.axvspan(score.low, score.high, color=SHADE, linewidth=0, zorder=0)
    known = front.dropna(subset=[score.cost])
    values = known["test_accuracy" if score.split == "test" else "accuracy"]
    left, right = max(score.low, axes.get_xlim()[0]), min(score.high, axes.get_xlim()[1])
    if left >= right:  # the points lie beside the range
        return
    axes.text(
        math.sqrt(left * right),
        0.025,
        f"anytime accuracy of the front {score(known[score.cost], values):.1%}\n"
        f"over {engineering(score.low)} to {engineering(score.high)} {unit}",
        transform=axes.get_xaxis_transform(),
        ha="center",
        va="bottom",
        color=MUTED,
        fontsize=9,
        linespacing=1.4,
        zorder=6,
        bbox={"facecolor": SHADE, "edgecolor": "none", "alpha": 0.85, "pad": 3},
    )


def _draw_curves(axes: Axes, curves: Curves, colours: dict[str, str]) -> None:
    """Every candidate as a faint curve through its points, coloured by space."""
    cost = curves.cost
    alpha = min(0.6, max(0.12, 8 / curves.drawn))
    for space, members in curves.rows.groupby("space", sort=True):
        colour = colours[str(space)]
        ordered = members.sort_values(["study", "candidate", cost])
        shape = [curve.to_numpy() for _, curve in ordered.groupby(["study", "candidate"])[[cost, "accuracy"]]]
        axes.add_collection(LineCollection(shape, colors=colour, alpha=alpha, linewidths=0.7, zorder=2))
        axes.scatter(
            members[cost], members["accuracy"], s=9, color=colour, alpha=min(1.0, 2 * alpha), linewidths=0, zorder=2.5
        )
        axes.scatter([], [], s=22, color=colour, label=f"{space} ({curves.candidates[str(space)]:,})")


def _draw_policies(axes: Axes, policies: pd.DataFrame) -> None:
    """Mixed operating curves: mean MACs and accuracy under controllers, dashed."""
    look: dict[str, Any] = {"color": COLOURS[4], "marker": "s", "markersize": 4, "linewidth": 1.2, "linestyle": "--"}
    penalty = policies["penalty"].where(policies["learner"] == "gates", 0.0)  # a gate policy is a curve of its own
    groups = policies.groupby(
        [*(policies[name] for name in ("study", "candidate", "learner", "sees")), penalty], sort=False
    )
    labelled: set[str] = set()
    for (*_, learner, _, _), curve in groups:
        ordered = curve.sort_values("macs")
        label = "with a gate policy" if learner == "gates" else "with a controller"
        axes.plot(ordered["macs"], ordered["accuracy"], zorder=4.2, label=None if label in labelled else label, **look)
        labelled.add(label)


def _draw_front(axes: Axes, front: pd.DataFrame, cost: str, colours: dict[str, str]) -> None:
    """The front as steps: between two costs a budget buys the cheaper point. Test accuracy as hollow markers."""
    if front.empty:
        return
    ordered = front.sort_values(cost)
    costs, accuracy, test = ordered[cost].tolist(), ordered["accuracy"].tolist(), ordered["test_accuracy"]
    right = max(costs[-1], axes.get_xlim()[1])
    axes.plot([*costs, right], [*accuracy, accuracy[-1]], drawstyle="steps-post", color=INK, linewidth=2, zorder=4)
    if ordered["accuracy_sd"].notna().any():
        spread = ordered["accuracy_sd"]
        axes.errorbar(costs, accuracy, yerr=spread, fmt="none", ecolor=MUTED, elinewidth=1, capsize=2.5, zorder=3.5)
    filled = [colours.get(space, INK) for space in ordered["space"]]
    axes.scatter(costs, accuracy, s=38, c=filled, edgecolors=INK, linewidths=1.2, zorder=5)
    marker: dict[str, Any] = {"marker": "o", "markersize": 6, "markeredgecolor": INK, "markeredgewidth": 1.2}
    axes.plot([], [], color=INK, linewidth=2, markerfacecolor=MUTED, **marker, label="front, validation")
    if test.notna().any():
        hollow: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white", **marker, "marker": "D"}
        axes.plot(costs, test, **(hollow | {"markersize": 4.6}), zorder=4.5, label="front, test")


def _draw_titles(axes: Axes, curves: Curves, front: pd.DataFrame, drawn: str) -> None:
    """Title, counts and legend."""
    studies = textwrap.shorten(", ".join(curves.rows["study"].unique()), width=70, placeholder=" …")
    count = sum(curves.candidates.values())
    drawn_only = f"; {curves.drawn:,} of the curves are drawn" if curves.drawn < count else ""
    axes.set_title(studies, loc="left", fontsize=13, fontweight="bold", pad=22)
    axes.text(
        0,
        1.02,
        f"{count:,} {drawn}{'s' * (count != 1)}, {curves.points:,} operating points, {len(front):,} on the front"
        + drawn_only,
        transform=axes.transAxes,
        color=MUTED,
        fontsize=9.5,
        va="bottom",
    )
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        frameon=False,
        fontsize=9.5,
        handlelength=1.8,
        labelspacing=0.7,
    )
