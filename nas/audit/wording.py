"""The audit in words: two lines at the end of a search, sentences in the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nas.audit.audit import FEW, AuditRow
from nas.audit.reliance import Reliance
from nas.audit.savings import FEWEST, Comparison, Savings

VERDICTS = {"earned": "earned its keep", "undecided": "undecided", "worthless": "worthless beyond size"}
"""Verdicts of an audit as they are displayed."""


def audit_summary(
    rows: Sequence[AuditRow], comparison: Comparison, savings: Savings | None = None, *, proxy: str = "dtmc"
) -> str:
    """The audit in two lines of plain text.

    Parameters
    ----------
    rows : sequence of AuditRow
        The audit.
    comparison : Comparison
        Ranked candidates against random controls; accuracies are fractions, and differences are shown in points.
    savings : Savings, optional
        Shown if given.
    proxy : str
        The proxy that ordered the training.

    Returns
    -------
    str
        First line: the verdict on the proxy, and the τ of the other proxies. Second line: ranked against random.
    """
    row = next((r for r in rows if r.proxy == proxy), None)
    rivals = [f"{r.proxy} {number(r.tau)}" for r in rows if r.proxy != proxy]
    first = f"Proxy {proxy}: {verdict_text(row)}" + (f"; raw τ of {', '.join(rivals)}." if row and rivals else ".")
    second = f"Ranked against random: {comparison_text(comparison)}"
    return f"{first}\n{second}{'' if savings is None else '; ' + savings_text(savings)}."


def verdict_text(row: AuditRow | None) -> str:
    """The verdict on a proxy, with its numbers."""
    if row is None:
        return "not audited, because no candidate with its score has been trained"
    if row.n < FEW:
        return f"too few candidates (τ {number(row.tau)}; n = {row.n}, at least {FEW} are needed)"
    return f"{VERDICTS[row.verdict]} ({numbers(row)})"


def numbers(row: AuditRow) -> str:
    """τ raw and with size removed, with their intervals, and the number of candidates."""
    return (
        f"τ {number(row.tau)}{span(row.tau_low, row.tau_high)}; size removed "
        f"{number(row.tau_size_removed)}{span(row.size_removed_low, row.size_removed_high)}; n = {row.n}"
    )


def comparison_text(comparison: Comparison) -> str:
    """The difference between ranked candidates and random controls, in points of accuracy."""
    counts = f"{comparison.ranked} ranked, {comparison.controls} random"
    points = [100 * v for v in (comparison.difference, comparison.low, comparison.high)]
    if math.isnan(points[0]):
        return f"not compared ({counts})"
    if math.isnan(points[1]) or comparison.ranked + comparison.controls < FEW:
        return f"too few candidates ({counts})"
    clear = "" if points[1] > 0 or points[2] < 0 else ", no clear difference"
    return f"{points[0]:+.1f} points{span(points[1], points[2], 1)}{clear} ({counts})"


def savings_text(savings: Savings) -> str:
    """The number of trainings that ranking saved."""
    if math.isnan(savings.saved):
        counts = f"{savings.chosen} ranked, {savings.controls} random"
        return f"candidates saved: unknown ({counts}; at least {FEWEST} of each are needed)"
    if math.isinf(savings.saved):
        return f"candidates saved: {number(savings.low, 0)} at least"
    return f"candidates saved: {number(savings.saved, 0)}{span(savings.low, savings.high, 0)}"


def reliance_line(proxy: str, decisions: Mapping[int, Reliance]) -> str:
    """The share of the newest generation that the proxy chose, with the reason; empty before the first decision.

    decisions: by generation, counted from 0.
    """
    return reliance_sentence(proxy, max(decisions), decisions[max(decisions)]) if decisions else ""


def reliance_sentence(proxy: str, generation: int, decision: Reliance) -> str:
    """A decision as a sentence. generation: counted from 0."""
    return f"{proxy} chose {decision.share:.0%} of the candidates of generation {generation + 1}: {decision.reason}."


def number(value: float, digits: int = 2) -> str:
    """A number with a fixed number of digits, or "undefined"."""
    return "undefined" if math.isnan(value) else f"{round(value, digits) + 0.0:,.{digits}f}"  # no -0


def span(low: float, high: float, digits: int = 2) -> str:
    """An interval in brackets after a space, or nothing if it is unknown."""
    if math.isnan(low):
        return ""
    return f" [{number(low, digits)}, {'∞' if math.isinf(high) else number(high, digits)}]"
