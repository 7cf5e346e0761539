"""Constraints on the costs of candidates, checked before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.representation.architecture import Architecture, params


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Limits that every candidate must keep; None is no limit.

    max_macs, max_params: of the largest operating point. low: most MACs of the smallest operating point.
    needs_other_points: the setting that needs subnetworks besides the operating points, such as a latency limit; it
    excludes architectures with norms per operating point.
    """

    max_macs: float | None = None
    max_params: float | None = None
    low: float | None = None
    needs_other_points: str | None = None

    def violation(self, architecture: Architecture, costs: Sequence[int]) -> str | None:
        """The first violated constraint as a reason; None if there is none. costs: MACs of the operating points."""
        if self.max_macs is not None and costs[-1] > self.max_macs:
            return f"The largest point has {costs[-1]:,} MACs, above --max-macs {self.max_macs:,.0f}."
        if self.low is not None and costs[0] > self.low:
            return f"The smallest point has {costs[0]:,} MACs, above the lowest budget {self.low:,.0f} (--low)."
        if self.max_params is not None and (size := params(architecture)[-1]) > self.max_params:
            return f"The largest point has {size:,} parameters, above --max-params {self.max_params:,.0f}."
        if self.needs_other_points and architecture.norm == "per_point":
            return (
                "Its norms are per operating point, so other subnetworks cannot run, which "
                f"{self.needs_other_points} needs."
            )
        return None


UNCONSTRAINED = Constraints()
