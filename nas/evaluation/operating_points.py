"""The choice of operating points after training: settings and results."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.errors import UserError
from nas.representation.elements import Subnetwork

if TYPE_CHECKING:
    from nas.execution.network import AnytimeNetwork


EVALUATIONS = 192
"""Default number of subnetworks that a final search measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper limits for every operating point; None: no limit.

    Parameters
    ----------
    max_macs, max_params
        Multiply-accumulates of one example; parameters.
    max_latency_ms
        Milliseconds for one example, measured on the device of the search.

    Raises
    ------
    UserError
        For a limit that is not positive and finite.
    """

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
class MeasuredSubnetwork:
    """A subnetwork with its costs and measurements. latency_ms: only if latency is limited."""

    subnetwork: Subnetwork
    macs: int
    params: int
    accuracy: float
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetworkSearchResult:
    """The subnetworks of a final search.

    Parameters
    ----------
    measured
        In the order of measurement.
    seen
        Number of distinct subnetworks that were considered.
    """

    measured: tuple[MeasuredSubnetwork, ...]
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Settings of a final search, see :mod:`nas.deploy.subnetwork_search`.

    Parameters
    ----------
    evaluations
        Number of subnetworks to measure.
    low, high
        Range of budgets of the anytime accuracy, in MACs; None: the range of the measured subnetworks.
    max_macs, max_params, max_latency_ms
        See :class:`Limits`.

    Raises
    ------
    UserError
        For a limit that is not positive and finite.
    """

    evaluations: int = EVALUATIONS
    low: float | None = None
    high: float | None = None
    max_macs: float | None = None
    max_params: float | None = None
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        _ = self.limits  # checks them

    @property
    def limits(self) -> Limits:
        """Limits for every operating point."""
        return Limits(max_macs=self.max_macs, max_params=self.max_params, max_latency_ms=self.max_latency_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionResult:
    """A network with the operating points that a final search chose.

    Parameters
    ----------
    network
        Calibrated.
    points
        Measurements, as in :class:`nas.evaluation.jobs.Outcome`.
    search
        All subnetworks that were measured.
    """

    network: AnytimeNetwork
    points: list[dict[str, Any]]
    search: SubnetworkSearchResult
