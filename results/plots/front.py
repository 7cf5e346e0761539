"""Figure of a Pareto front: accuracy over cost, with the curves of all trained candidates."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.collections import LineCollection

from results.errors import StoreError
from results.front import Score
from results.measures import BUILT_IN, Measure, check_cost
from results.plots.style import (
    COLOURS,
    INK,
    MARKERS,
    MUTED,
    SHADE,
    STYLE,
    Drawing,
    check_ending,
    engineering,
    in_legend,
    legend,
    log_labels,
    percent_labels,
    plain_axes,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from results.curves import Curves

_FARTHEST = 4.0
"""The axis is extended to the end of the range of budgets if that is at most this factor beyond the points."""
_LOWEST = 0.15
"""The share of the operating points that may lie below the axes; their number is then written there."""


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
        From `Store.curves`, or ``Curves.of`` a DataFrame of points; their cost is the horizontal axis. Candidates that
        were stopped before the largest fidelity of their study have hollow markers.
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
    path = check_ending(path)
    write(front_figure(curves, front, score=score, drawn=drawn, policies=policies, measures=measures), path)
    return path


def front_figure(
    curves: Curves,
    front: pd.DataFrame,
    *,
    score: Score | None = None,
    drawn: str = "trained candidate",
    policies: pd.DataFrame | None = None,
    measures: Sequence[Measure] = BUILT_IN,
) -> Drawing:
    """The figure that :func:`plot_front` writes; arguments and errors are the same."""
    cost, rows = curves.cost, curves.rows
    check_cost(cost, measures)
    axis = next(measure for measure in measures if measure.name == cost)
    if rows.empty:
        raise StoreError(f"A figure needs points with {cost} and accuracy, and there are none. Train some first.")
    shaded = score if score is not None and score.cost == cost else None
    groups = _Groups(curves)
    with rc_context(STYLE):
        figure = Drawing(8.4, 5.2)
        axes = figure.add_subplot()
        _frame(axes, curves, front, axis, shaded)
        if shaded is not None:
            axes.axvspan(shaded.low, shaded.high, color=SHADE, linewidth=0, zorder=0)
        _draw_front(axes, front, cost, groups)
        _draw_curves(axes, curves, groups)
        if policies is not None and cost == "macs":
            _draw_policies(axes, policies)
        _draw_titles(axes, curves, front, drawn, axis.unit, shaded)
        legend(axes)
    return figure


class _Groups:
    """The colours and markers of studies if there are several, otherwise of search spaces."""

    def __init__(self, curves: Curves) -> None:
        several = curves.rows["study"].nunique() > 1
        self.column = "study" if several else "space"
        names = sorted(curves.rows["study"].unique() if several else curves.candidates)
        self._places: Mapping[str, int] = {name: place for place, name in enumerate(names)}

    def colour(self, name: object) -> str:
        """The colour of a group; ink for one without curves."""
        place = self._places.get(str(name))
        return INK if place is None else COLOURS[place % len(COLOURS)]

    def marker(self, name: object) -> str:
        """The marker of a study; spaces differ by colour only, because the front shows them with one shape."""
        return MARKERS[self._places.get(str(name), 0) % len(MARKERS)] if self.column == "study" else MARKERS[0]


def _frame(axes: Axes, curves: Curves, front: pd.DataFrame, measure: Measure, score: Score | None) -> None:
    """Scales, limits, grid and labels: set first, because later text is placed by the limits."""
    rows = curves.rows
    costs = pd.concat([rows[measure.name], front[measure.name].dropna()]).astype(float)
    low, high = costs.min(), costs.max()
    if score is not None:
        low, high = min(low, max(score.low, low / _FARTHEST)), max(high, min(score.high, high * _FARTHEST))
    margin = max(high / low, 1.5) ** 0.05
    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    log_labels(axes.xaxis, low / margin, high * margin)
    axes.set_ylim(*shown_accuracies(rows, front))
    percent_labels(axes.yaxis)
    plain_axes(axes)
    if below := int((rows["accuracy"] < axes.get_ylim()[0]).sum()):
        points = f"{below:,} operating point{'s' * (below != 1)} lie{'s' * (below == 1)} below"
        axes.text(0.005, 0.012, f"▾ {points}", transform=axes.transAxes, color=MUTED, fontsize=9, va="bottom")
    axes.set_xlabel(f"{measure.label}, logarithmic", labelpad=6)
    joined = "coarse_accuracy" in front and bool(front["coarse_accuracy"].notna().any())
    axes.set_ylabel(f"{curves.quantity}, mean of fine and coarse labels" if joined else curves.quantity, labelpad=6)


def shown_accuracies(curves: pd.DataFrame, front: pd.DataFrame) -> tuple[float, float]:
    """Limits of the axis of accuracies: all of the front, and most points of candidates."""
    kept = pd.concat([front["accuracy"], front["test_accuracy"].dropna()]).astype(float)
    bottom = min([curves["accuracy"].quantile(_LOWEST, interpolation="higher"), *kept])
    top = max([curves["accuracy"].max(), *kept])
    room = max(top - bottom, 0.01)
    return float(bottom - 0.08 * room), float(top + 0.08 * room)


def _draw_curves(axes: Axes, curves: Curves, groups: _Groups) -> None:
    """Every candidate as a faint curve through its points; hollow if it was stopped before full training."""
    cost = curves.cost
    alpha = min(0.6, max(0.12, 8 / curves.drawn))
    of_group = curves.rows.drop_duplicates(["study", "candidate"]).groupby(groups.column).size()
    counts = curves.candidates if groups.column == "space" else of_group.to_dict()
    for name, members in curves.rows.groupby(groups.column, sort=True):
        colour, marker = groups.colour(name), groups.marker(name)
        ordered = members.sort_values(["study", "candidate", cost])
        shape = [curve.to_numpy() for _, curve in ordered.groupby(["study", "candidate"])[[cost, "accuracy"]]]
        axes.add_collection(LineCollection(shape, colors=colour, alpha=alpha, linewidths=0.7, zorder=2))
        for full, points in members.groupby("finished"):
            look = {"color": colour, "linewidths": 0} if full else {"facecolors": "none", "edgecolors": colour}
            axes.scatter(
                points[cost], points["accuracy"], s=11, marker=marker, alpha=min(1.0, 2 * alpha), zorder=2.5, **look
            )
        axes.scatter([], [], s=22, marker=marker, color=colour, label=in_legend(f"{name} ({counts[str(name)]:,})"))
    if not curves.rows["finished"].all():
        axes.scatter([], [], s=22, facecolors="none", edgecolors=MUTED, label="not trained in full")


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


def _draw_front(axes: Axes, front: pd.DataFrame, cost: str, groups: _Groups) -> None:
    """The front as steps: between two costs a budget buys the cheaper point. Test accuracy as white diamonds."""
    if front.empty:
        return
    ordered = front.sort_values(cost)
    costs, accuracy, test = ordered[cost].tolist(), ordered["accuracy"].tolist(), ordered["test_accuracy"]
    axes.plot(costs, accuracy, drawstyle="steps-post", color=INK, linewidth=2, zorder=4)
    if ordered["accuracy_sd"].notna().any():
        spread = ordered["accuracy_sd"]
        axes.errorbar(costs, accuracy, yerr=spread, fmt="none", ecolor=MUTED, elinewidth=1, capsize=2.5, zorder=3.5)
    for name, members in ordered.groupby(groups.column, sort=True):
        look: dict[str, Any] = {"color": groups.colour(name), "edgecolors": INK, "linewidths": 1.2}
        axes.scatter(members[cost], members["accuracy"], s=44, marker=groups.marker(name), zorder=5, **look)
    marker: dict[str, Any] = {"marker": "o", "markersize": 6, "markeredgecolor": INK, "markeredgewidth": 1.2}
    axes.plot([], [], color=INK, linewidth=2, markerfacecolor=MUTED, **marker, label="front, validation")
    if test.notna().any():
        hollow: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white", **marker, "marker": "D"}
        axes.plot(costs, test, **(hollow | {"markersize": 3.6, "markeredgewidth": 1}), zorder=5.5, label="front, test")


def _draw_titles(axes: Axes, curves: Curves, front: pd.DataFrame, drawn: str, unit: str, score: Score | None) -> None:
    """Title, counts, and the anytime accuracy of the front over the shaded range of budgets."""
    studies = textwrap.shorten(", ".join(curves.rows["study"].unique()), width=70, placeholder=" …")
    count = sum(curves.candidates.values())
    drawn_only = f"; {curves.drawn:,} of the curves are drawn" if curves.drawn < count else ""
    lines = [
        f"{count:,} {drawn}{'s' * (count != 1)}, {curves.points:,} operating points, {len(front):,} on the front"
        + drawn_only
    ]
    if score is not None and len(known := front.dropna(subset=[score.cost])):
        values = known["test_accuracy" if score.split == "test" else "accuracy"]
        lines.append(
            f"anytime {score.quantity} of the front {score(known[score.cost], values):.1%} for budgets of "
            f"{engineering(score.low)} to {engineering(score.high)} {unit} (shaded)"
        )
    axes.set_title(studies, loc="left", fontsize=13, fontweight="bold", pad=8 + 14 * len(lines))
    axes.text(0, 1.02, "\n".join(lines), transform=axes.transAxes, color=MUTED, fontsize=9.5, va="bottom")
