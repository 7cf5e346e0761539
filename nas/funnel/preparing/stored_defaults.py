"""What the store says on the defaults of a study: the spaces that were left out, and where the budgets come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.front import Score

LEFT_OUT = "_spaces_left_out"
"""Name, in the stored settings of a study with the default spaces, of the spaces that do not suit, with the reasons."""
BUDGETS_FROM = "_budgets_from"
"""Name of the setting that says in words where the ends of the range of budgets come from."""


def left_out_sentences(stored: Mapping[str, Any]) -> list[str]:
    """One line for each space that is left out.

    stored: the settings of the study in the store.
    """
    return [f"Space {name} is left out: {reason}" for name, reason in stored.get(LEFT_OUT, {}).items()]


def budgets_sentence(score: Score, stored: Mapping[str, Any]) -> str:
    """The range of budgets, and where it comes from.

    stored: the settings of the study in the store.
    """
    origins = stored.get(BUDGETS_FROM, {})
    low, high = (f" ({origins[end]})" if end in origins else "" for end in ("low", "high"))
    return f"Budgets: {score.low:,.0f}{low} to {score.high:,.0f} MACs{high}."
