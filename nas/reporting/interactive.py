"""Charts of a report that react to the pointer, as data for plotly.js, which the page embeds.

A chart is plain data: traces and a layout without colours of text, lines and ground, which ``report.js`` takes from the
stylesheet, so that they follow the reader's light or dark mode. Text in charts is escaped, because plotly.js reads some
HTML in it.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterable
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

from results.curves import evenly
from results.plots import AXES, COLOURS, engineering, shown_accuracies
from results.text import json_data

if TYPE_CHECKING:
    import pandas as pd

    from results.curves import Curves
    from results.front import Score

MARKERS = ("circle", "square", "triangle-up", "triangle-down", "cross", "x", "pentagon", "star")
"""As the markers of :mod:`results.plots`, by the names of plotly.js."""


def _hover(quantity: str) -> str:
    return f"%{{customdata[3]}}<br>%{{x:,.6~g}}, {quantity} %{{y:.2%}}<extra></extra>"


@cache
def script() -> str:
    """plotly.js, gzip as base64: 2 MB in place of 5. ``report.js`` unpacks it; equal versions give equal text."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def as_json(chart: dict[str, Any]) -> str:
    """A chart as JSON for a script element: no tag and no comment can begin in it, and missing numbers are null."""
    text = json.dumps(json_data(chart), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def front_chart(curves: Curves, front: pd.DataFrame, score: Score | None, store_option: str) -> dict[str, Any]:
    """A front with the curves of trained candidates.

    store_option: the option of a command that names the store.
    """
    cost, several = curves.cost, curves.rows["study"].nunique() > 1
    group = "study" if several else "space"
    names = sorted(curves.rows[group].unique())
    data = []
    for place, name in enumerate(names):
        look = {"color": COLOURS[place % len(COLOURS)], "symbol": MARKERS[place % len(MARKERS) if several else 0]}
        for finished, members in curves.rows[curves.rows[group] == name].groupby("finished", sort=False):
            shown = look if finished else look | {"symbol": look["symbol"] + "-open"}
            label = name if finished else f"{name}, not trained in full"
            data.append(_candidates(members, curves, label, shown, store_option))
    ordered = front.sort_values(cost)
    data.append(
        {
            "name": "front, validation",
            "x": _numbers(ordered[cost]),
            "y": _numbers(ordered["accuracy"]),
            "customdata": _labels(ordered, store_option),
            "hovertemplate": _hover(curves.quantity),
            "mode": "lines+markers",
            "line": {"shape": "hv", "width": 2},
            "marker": {"size": 9},
            "meta": "ink",
        }
    )
    if ordered["test_accuracy"].notna().any():
        data.append(
            {
                "name": "front, test",
                "x": _numbers(ordered[cost]),
                "y": _numbers(ordered["test_accuracy"]),
                "customdata": _labels(ordered, store_option),
                "hovertemplate": _hover(f"test {curves.quantity}"),
                "mode": "markers",
                "marker": {"symbol": "diamond-open", "size": 8, "line": {"width": 1.5}},
                "meta": "ink",
            }
        )
    layout: dict[str, Any] = {
        "xaxis": {"type": "log", "title": {"text": "MACs per input, logarithmic"}}
        | _log_ticks(curves.rows[cost], score),
        "yaxis": {
            "title": {"text": curves.quantity},
            "tickformat": ".4~p",
            "range": shown_accuracies(curves.rows, front),
        },
    }
    if score is not None and score.cost == cost:
        layout["shapes"] = [
            {"type": "rect", "xref": "x", "yref": "paper", "x0": score.low, "x1": score.high, "y0": 0, "y1": 1}
        ]
        budgets = f"budgets of {engineering(score.low)} to {engineering(score.high)} MACs"
        layout["annotations"] = [
            {"xref": "paper", "yref": "paper", "x": 0, "y": 1.06, "showarrow": False, "text": f"Shaded: {budgets}"}
        ]
    return {"data": data, "layout": layout}


def _log_ticks(costs: pd.Series, score: Score | None) -> dict[str, Any]:
    """Ticks at 1, 2 and 5 in every decade, with a prefix: plotly.js itself would write single digits."""
    low = math.log10(min([costs.min(), *([score.low] if score else [])]))
    high = math.log10(max([costs.max(), *([score.high] if score else [])]))
    values = [digit * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for digit in (1, 2, 5)]
    return {"tickmode": "array", "tickvals": values, "ticktext": [engineering(value) for value in values]}


def progress_chart(history: pd.DataFrame, store_option: str, quantity: str = "accuracy") -> dict[str, Any]:
    """The evaluations of a study, and the best so far, over their number; buttons choose time or work."""
    known = history.dropna(subset=["anytime_accuracy"])
    shown = known.loc[evenly(known.index.to_numpy())]
    axes = {name: (column, label) for name, (column, label) in AXES.items() if known[column].notna().all()}
    first = next(iter(axes.values()))[0]
    data = [
        {
            "name": "best so far",
            "x": _numbers(known[first]),
            "y": _numbers(known["best"]),
            "mode": "lines",
            "line": {"shape": "hv", "width": 2},
            "hovertemplate": "best so far %{y:.2%}<extra></extra>",
            "meta": "ink",
        },
        {
            "name": "evaluation",
            "x": _numbers(shown[first]),
            "y": _numbers(shown["anytime_accuracy"]),
            "customdata": _labels(shown.assign(level=shown["fidelity"]), store_option, noun="passes"),
            "hovertemplate": f"%{{customdata[3]}}<br>anytime {quantity} %{{y:.2%}}<extra></extra>",
            "mode": "markers",
            "marker": {"size": 7, "color": COLOURS[0], "opacity": 0.6},
        },
    ]
    buttons = [
        {
            "label": label.partition(",")[0],
            "method": "update",
            "args": [
                {"x": [_numbers(known[column]), _numbers(shown[column])]},
                {"xaxis.title.text": label if column == "evaluation" else f"{label} (seconds)"},
            ],
        }
        for column, label in axes.values()
    ]
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": next(iter(axes.values()))[1]}},
        "yaxis": {"title": {"text": f"anytime {quantity}"}, "tickformat": ".4~p"},
    }
    if len(buttons) > 1:
        place = {"x": 0, "xanchor": "left", "y": 1.16, "yanchor": "top"}
        layout["updatemenus"] = [
            {"type": "buttons", "direction": "right", "showactive": False, "buttons": buttons, **place}
        ]
    return {"data": data, "layout": layout}


def _candidates(
    members: pd.DataFrame, curves: Curves, name: str, look: dict[str, Any], store_option: str
) -> dict[str, Any]:
    """The curves of candidates as one series; a gap ends each."""
    x: list[float | None] = []
    y: list[float | None] = []
    labels: list[list[Any]] = []
    for _, curve in members.groupby(["study", "candidate"], sort=False):
        ordered = curve.sort_values(curves.cost)
        x += [*_numbers(ordered[curves.cost]), None]
        y += [*_numbers(ordered["accuracy"]), None]
        labels += [*_labels(ordered, store_option), ["", "", 0, ""]]
    return {
        "name": escape(name),
        "x": x,
        "y": y,
        "customdata": labels,
        "hovertemplate": _hover(curves.quantity),
        "mode": "lines+markers",
        "line": {"width": 0.7, "color": look["color"]},
        "marker": {"size": 5, **look},
        "opacity": 0.7,
    }


def _labels(rows: pd.DataFrame, store_option: str, noun: str = "level") -> list[list[Any]]:
    """Study, candidate, level and the text of the pointer: candidate, and a command that shows it."""
    found = []
    for row in rows.itertuples():
        command = f"nas show {row.candidate[:8]} --study {row.study}{store_option}"
        detail = f"{row.level:g} passes" if noun == "passes" else f"level {row.level}"
        about = f"<b>{row.candidate[:8]}</b>, {detail}, {escape(str(row.space))}<br>{escape(command)}"
        found.append([row.study, row.candidate, int(row.level), about])
    return found


def _numbers(values: Iterable[Any]) -> list[float | None]:
    return [None if value is None or math.isnan(value) else float(value) for value in values]
