"""The decisions of a search whether its proxy orders the training of a generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliance:
    """Whether the training of a generation is ordered by the study's proxy, and why.

    Attributes
    ----------
    relied : bool
        Whether it is.
    trained : int
        Number of candidates that had been trained at the time of the decision.
    reason : str
        The numbers of the audit, or why there was none.
    """

    relied: bool
    trained: int
    reason: str


def relied_on(decisions: Mapping[int, Reliance], generation: int) -> bool:
    """Whether the proxy ordered a generation, counted from 0; it did if there is no decision."""
    decision = decisions.get(generation)
    return decision is None or decision.relied


def reliance_changes(decisions: Mapping[int, Reliance]) -> list[tuple[int, Reliance]]:
    """The decisions that differ from the one before, with their generation, counted from 0.

    Before the first decision, the search relies on the proxy.
    """
    changes: list[tuple[int, Reliance]] = []
    relied = True
    for generation, decision in sorted(decisions.items(), key=lambda item: item[0]):
        if decision.relied != relied:
            changes.append((generation, decision))
            relied = decision.relied
    return changes
