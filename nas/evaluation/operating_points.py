"""The choice of operating points after training: settings and results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.config import check_settings, setting
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

    max_macs: float | None = setting(None, "Upper limit on the multiply-accumulates of each point.")
    max_params: float | None = setting(None, "Upper limit on the parameters of each point.")
    max_latency_ms: float | None = setting(
        None, "Upper limit on the milliseconds of each point for one example, on this machine."
    )

    def __post_init__(self) -> None:
        check_settings(self)


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
class SelectionSettings(Limits):
    """Settings of a final search, see :mod:`nas.deploy.subnetwork_search`.

    Parameters
    ----------
    max_macs, max_params, max_latency_ms
        See :class:`Limits`.
    points
        Number of operating points; None: as before.
    evaluations
        Number of subnetworks to measure.
    low, high
        Range of budgets of the anytime accuracy, in MACs; None: the range of the measured subnetworks. A user chooses
        only ``low``; a study has both.

    Raises
    ------
    UserError
        For a value of another type or outside of its limits.
    """

    points: int | None = setting(None, "Number of operating points.", default="unchanged")
    evaluations: int = setting(EVALUATIONS, "Subnetworks to measure.", most=1_000_000)
    low: float | None = setting(None, "Lowest budget in MACs.", default="as in the study")
    high: float | None = None


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
