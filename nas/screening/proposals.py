"""The two results of screening: a feasible proposal, and a rejected one with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.representation.architecture import Architecture
from nas.spaces.choices import Primitive


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A feasible candidate.

    macs: one per operating point, smallest first. score: higher is trained earlier.
    ranked_by_strategy: the score is the strategy's, and orders the training by itself; a proxy's score orders it
    together with the MACs.
    """

    space: str
    choices: Mapping[str, Primitive]
    architecture: Architecture
    key: str
    macs: tuple[int, ...]
    score: float
    ranked_by_strategy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A proposal that will not be trained.

    status: "invalid", "infeasible", "outranked" or "failed". key: None if there is no architecture.
    traceback: of a plug-in that failed.
    """

    space: str
    choices: Mapping[str, Primitive]
    status: str
    reason: str
    key: str | None = None
    traceback: str | None = None


def own_choices(space: str, choices: Mapping[str, Any]) -> dict[str, Any]:
    """The choices of a proposal by the names that its space gave them.

    >>> own_choices("cells", {"space": "cells", "cells/width": 8})
    {'width': 8}
    """
    prefix = f"{space}/"
    return {name.removeprefix(prefix): value for name, value in choices.items() if name.startswith(prefix)}


def outranked(proposal: Proposal, place: int | None = None) -> Rejected:
    """The rejection of a feasible proposal that ranks too low. place: counted from 0; None if it left the shortlist."""
    rank = "It left the shortlist" if place is None else f"Place {place + 1} in the order of training"
    reason = f"{rank}: score {proposal.score:.4g} at {proposal.macs[-1]:,} MACs."
    return Rejected(space=proposal.space, choices=proposal.choices, status="outranked", reason=reason, key=proposal.key)
