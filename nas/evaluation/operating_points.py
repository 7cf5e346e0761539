"""The choice of operating points after training: settings, limits and results."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.errors import UserError
from nas.representation.elements import Subnetwork

if TYPE_CHECKING:
    from nas.execution.network import AnytimeNetwork


EVALUATIONS = 192


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What every operating point must keep; None is no limit. max_latency_ms: as measured."""

    max_macs: float | None = None
    max_params: float | None = None
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_macs", "max_params", "max_latency_ms"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
                raise UserError(f"{name} must be positive and finite. Got {value!r}.")


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A subnetwork with its costs and what was measured of it."""

    subnetwork: Subnetwork
    macs: int
    params: int
    accuracy: float
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a final search saw. measured: in order of measurement. seen: different subnetworks looked at, in all."""

    measured: tuple[Measured, ...]
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The settings of a final search, see :mod:`nas.deploy.subnetwork_search`.

    evaluations: subnetworks that are measured. low, high: range of budgets of the score that points are chosen by, in
    MACs; None: of what is found. max_macs, max_params, max_latency_ms: what every point must keep.
    """

    evaluations: int = EVALUATIONS
    low: float | None = None
    high: float | None = None
    max_macs: float | None = None
    max_params: float | None = None
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        _ = self.limits  # refuses what is none

    @property
    def limits(self) -> Limits:
        """What every point must keep. Raises UserError where one is no limit."""
        return Limits(max_macs=self.max_macs, max_params=self.max_params, max_latency_ms=self.max_latency_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionResult:
    """What a final search made. network: with the chosen points, calibrated. points: as in :class:`Outcome`.
    found: all that was measured on the way.
    """

    network: AnytimeNetwork
    points: list[dict[str, Any]]
    found: Found
