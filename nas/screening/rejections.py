"""The reasons why screening rejects proposals, counted, so that a search says if one of them rejects most."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nas.screening.proposals import Proposal, Rejected

FEW = 10  # proposals, below which a share means nothing
REMEMBERED = 64  # different reasons that are counted; a frequent one is among the first
_VALUES = re.compile(r"\b[0-9a-f]{8,}\b|\d[\d,.]*")  # keys and numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionCounts:
    """Numbers of proposals.

    proposals: feasible or not. reasons: by reason without its numbers, how many proposals have it, and the last reason.
    """

    proposals: int = 0
    reasons: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    def majority(self) -> str | None:
        """A sentence on the reason that rejects more than nine in ten proposals; None if there is none.

        Not of half: constraints and the lowest budget are meant to reject the larger networks of a space.
        """
        count, last = max(self.reasons.values(), default=(0, ""))
        if self.proposals < FEW or 10 * count <= 9 * self.proposals:
            return None
        return f"{count:,} of {self.proposals:,} proposals were rejected for one reason, the last: {last:.400}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, inverse of :meth:`from_json`."""
        return {"proposals": self.proposals, "reasons": {name: list(value) for name, value in self.reasons.items()}}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> RejectionCounts:
        """The counts that ``to_json`` wrote; no proposals from empty data."""
        reasons = {name: (int(count), str(last)) for name, (count, last) in data.get("reasons", {}).items()}
        return RejectionCounts(proposals=int(data.get("proposals", 0)), reasons=reasons)


class RejectionCounter:
    """Counts proposals, beginning with earlier counts."""

    def __init__(self, earlier: RejectionCounts | None = None) -> None:
        earlier = earlier or RejectionCounts()
        self._proposals, self._reasons = earlier.proposals, dict(earlier.reasons)

    def add(self, proposal: Proposal | Rejected) -> None:
        """Count a proposal."""
        self._proposals += 1
        if isinstance(proposal, Rejected):
            self.add_reason(proposal.reason)

    def add_reason(self, reason: str) -> None:
        """Count a reason of a proposal that is counted already."""
        name = _VALUES.sub("#", reason)
        if name in self._reasons or len(self._reasons) < REMEMBERED:
            self._reasons[name] = (self._reasons.get(name, (0, ""))[0] + 1, reason)

    @property
    def counts(self) -> RejectionCounts:
        """The counts so far."""
        return RejectionCounts(proposals=self._proposals, reasons=dict(self._reasons))
