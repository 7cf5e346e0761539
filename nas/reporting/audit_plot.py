"""The audit as a figure: τ of every proxy with its interval, raw on the left, with size removed on the right."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from nas.audit.audit import TRIVIAL_TAU, AuditRow
from nas.proxies.sizes import SIZE_PROXIES
from nas.reporting.formats import plugin_name
from results.plots import GRID, INK, MUTED, STYLE

_OWN, _SIZE = "#d9822b", "#8593a6"


def audit_figure(rows: Sequence[AuditRow], *, proxy: str) -> Figure:
    """One line for each proxy: the study's own on top and emphasised, the sizes at the bottom and in grey."""
    shown = sorted(rows, key=lambda row: (row.proxy != proxy, row.proxy in SIZE_PROXIES))
    with rc_context(STYLE):
        figure = Figure(figsize=(8.4, 1.5 + 0.34 * len(shown)), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
        raw, removed = figure.subplots(1, 2, sharey=True, sharex=True)
        _draw(raw, "raw", [(row, row.tau, row.tau_low, row.tau_high) for row in shown], proxy)
        values = [(row, row.tau_size_removed, row.size_removed_low, row.size_removed_high) for row in shown]
        _draw(removed, "with size removed", values, proxy)
        removed.axvspan(-TRIVIAL_TAU, TRIVIAL_TAU, color="#f3f5f8", linewidth=0, zorder=0)
        raw.set_yticks(range(len(shown)), [plugin_name(row.proxy) for row in shown], parse_math=False)
        raw.set_ylim(len(shown) - 0.4, -0.6)
        for label, row in zip(raw.get_yticklabels(), shown):
            label.set_color(MUTED if row.proxy in SIZE_PROXIES else INK)
            label.set_fontweight("bold" if row.proxy == proxy else "normal")
        figure.supxlabel("Kendall τ with anytime accuracy at the first rung, 95 % intervals", fontsize=10)
    return figure


def _draw(axes: Axes, title: str, values: Sequence[tuple[AuditRow, float, float, float]], proxy: str) -> None:
    """One panel. values: (row, τ, ends of its interval)."""
    axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
    axes.set_xlim(-1.02, 1.02)
    axes.set_xticks((-0.8, -0.4, 0.0, 0.4, 0.8))
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for y, (row, tau, low, high) in enumerate(values):
        colour = _OWN if row.proxy == proxy else _SIZE if row.proxy in SIZE_PROXIES else INK
        if math.isnan(tau):
            text = "explained by size" if row.verdict == "worthless" else "undefined"
            axes.text(0.03, y, text, color=MUTED, fontsize=8.5, va="center", zorder=4)
            continue
        if not math.isnan(low):
            axes.plot([low, high], [y, y], color=colour, linewidth=2.2, solid_capstyle="round", zorder=2)
        axes.scatter([tau], [y], s=34, color=colour, zorder=3, edgecolors="white", linewidths=0.8)
