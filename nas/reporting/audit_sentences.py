"""The audit in sentences, for readers of the report who do not know its method."""

from __future__ import annotations

import math

from nas.audit import wording
from nas.audit.audit import FEW, AuditRow
from nas.audit.savings import Comparison, Savings
from nas.reporting.formats import plugin_name


def short_verdict(row: AuditRow) -> str:
    """The verdict on a proxy in a few words."""
    return "too few candidates" if row.n < FEW else wording.VERDICTS[row.verdict]


def verdict_sentence(proxy: str, row: AuditRow | None) -> str:
    """The verdict on the study's own proxy for readers who do not know the method."""
    name = plugin_name(proxy)
    if row is None or row.n < FEW:
        return f"{name}: {wording.verdict_text(row)}."
    verdict = {
        "earned": f"{name} earned its keep: among networks of similar size, it prefers the more accurate ones",
        "undecided": f"Undecided: the candidates do not show whether {name} contains information beyond size",
        "worthless": f"{name} is worth nothing beyond size: among networks of similar size, it does not prefer the "
        "more accurate ones",
    }[row.verdict]
    behind = f" {row.behind} is significantly better." if row.behind else ""
    return f"{verdict} ({wording.numbers(row)}).{behind}"


def comparison_sentences(comparison: Comparison, savings: Savings) -> list[str]:
    """Ranked candidates compared with random controls."""
    difference = f"Ranked against random candidates, at the first rung: {wording.comparison_text(comparison)}."
    saved = wording.savings_text(savings).capitalize()
    if math.isnan(savings.saved):
        return [difference, f"{saved}."]
    worth = "more than the method can measure" if math.isinf(savings.worth) else f"{savings.worth:.2g}"
    chance = "" if savings.low > 0 or savings.high < 0 else "; chance can explain this"
    return [difference, f"{saved}. One ranked candidate was worth {worth} random ones{chance}."]
