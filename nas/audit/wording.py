"""The audit in words: two lines at the end of a search, sentences in the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nas.audit.savings import Savings
from nas.audit.statistics import FEW, AuditRow, Comparison


def two_lines(
    rows: Sequence[AuditRow], comparison: Comparison, savings: Savings | None = None, *, proxy: str = "dtmc"
) -> str:
    """The audit in two lines of plain text: the proxy that ordered the training beside the others, and ranked against
    random.

    Accuracies are taken to be fractions: differences are told in points.
    """
    row = next((r for r in rows if r.proxy == proxy), None)
    others = [f"{r.proxy} {number(r.tau)}" for r in rows if r.proxy != proxy]
    first = f"Proxy {proxy}: {told(row)}" + (f"; raw τ of {', '.join(others)}." if row and others else ".")
    return f"{first}\nRanked against random: {compared(comparison)}{'' if savings is None else '; ' + saved(savings)}."


def told(row: AuditRow | None) -> str:
    """What is known of a proxy: its verdict with the numbers behind it."""
    if row is None:
        return "not audited, because no candidate with its score has been trained"
    if row.n < FEW:
        return f"too few candidates to tell (τ {number(row.tau)}; n = {row.n}, at least {FEW} are needed)"
    return f"{VERDICTS[row.verdict]} ({numbers(row)})"


VERDICTS = {"earned": "earned its keep", "undecided": "undecided", "worthless": "worthless beyond size"}


def numbers(row: AuditRow) -> str:
    """τ raw and with size removed, with their intervals, and how many candidates they are from."""
    return (
        f"τ {number(row.tau)}{span(row.tau_low, row.tau_high)}; size removed "
        f"{number(row.tau_size_removed)}{span(row.size_removed_low, row.size_removed_high)}; n = {row.n}"
    )


def compared(comparison: Comparison) -> str:
    """The mean accuracy of ranked candidates beside that of random controls, in points."""
    counts = f"{comparison.ranked} ranked, {comparison.controls} random"
    points = [100 * v for v in (comparison.difference, comparison.low, comparison.high)]
    if math.isnan(points[0]):
        return f"not compared ({counts})"
    if math.isnan(points[1]) or comparison.ranked + comparison.controls < FEW:
        return f"too few to tell ({counts})"
    clear = "" if points[1] > 0 or points[2] < 0 else ", not told apart"
    return f"{points[0]:+.1f} points{span(points[1], points[2], 1)}{clear} ({counts})"


def saved(savings: Savings) -> str:
    """How many candidates need not be trained, thanks to how they were chosen."""
    if math.isnan(savings.saved):
        return f"candidates saved: cannot be told from {savings.chosen} ranked and {savings.controls} random ones"
    if math.isinf(savings.saved):
        return f"candidates saved: {number(savings.low, 0)} at least"
    return f"candidates saved: {number(savings.saved, 0)}{span(savings.low, savings.high, 0)}"


def reliance_line(proxy: str, decisions: Mapping[str, Any]) -> str:
    """Since when the order of training has not been by the proxy, and why; empty where it always was.

    decisions: by generation, counted from 0, as the driver keeps them in the store's memo.
    """
    changes = reliance_changes(decisions)
    if not changes:
        return ""
    generation, about = changes[-1]
    again = f" This changed {len(changes)} times." if len(changes) > 1 else ""
    return f"{reliance_sentence(proxy, generation, about)}{again}"


def reliance_changes(decisions: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The decisions that changed something, with their generation, counted from 0; the first generation relies."""
    changes, relied = [], True
    for generation, about in sorted((int(g), about) for g, about in decisions.items()):
        if about["relied"] != relied:
            changes.append((generation, about))
            relied = about["relied"]
    return changes


def reliance_sentence(proxy: str, generation: int, about: Mapping[str, Any]) -> str:
    """One such change as a sentence."""
    if about["relied"]:
        return f"From generation {generation + 1} on, the order was by {proxy} again ({about['reason']})."
    return (
        f"From generation {generation + 1} on, the order was the strategy's own: {proxy} did not beat size "
        f"({about['reason']})."
    )


def number(value: float, digits: int = 2) -> str:
    """A number, or that there is none."""
    return "undefined" if math.isnan(value) else f"{round(value, digits) + 0.0:,.{digits}f}"  # no -0


def span(low: float, high: float, digits: int = 2) -> str:
    """An interval in brackets, after a space; empty where it is unknown."""
    if math.isnan(low):
        return ""
    return f" [{number(low, digits)}, {'∞' if math.isinf(high) else number(high, digits)}]"
