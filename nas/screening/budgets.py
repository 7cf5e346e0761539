"""The range of budgets of a study, in MACs, from random feasible proposals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.errors import Unsatisfiable
from nas.representation.architecture import params
from nas.screening.constraints import Constraints
from nas.screening.proposals import Proposal, Rejected
from nas.screening.rejections import RejectionCounter, RejectionCounts
from nas.screening.screener import Screener
from nas.seeds import seed
from nas.spaces.choices import at_random

SAMPLE = 512  # feasible proposals per space
ATTEMPTS = 24 * SAMPLE  # proposals per space, feasible or not


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRange:
    """The range of budgets of a study in MACs.

    medians: MACs of the smallest operating point, median, by space. rejections: of the random proposals, within this
    range.
    """

    low: float
    high: float
    medians: dict[str, float]
    rejections: RejectionCounts


def budget_range(screener: Screener, study_seed: int) -> BudgetRange:
    """The range of budgets if the settings name none.

    Parameters
    ----------
    screener
        Its constraints ``low`` and ``max_macs`` take precedence.
    study_seed
        Seed of the study; the proposals are a function of it and of the name of the space.

    Returns
    -------
    BudgetRange
        low: median MACs of the smallest operating point, maximum over the spaces. high: ``max_macs``, or the largest
        MACs of a proposal.

    Raises
    ------
    Unsatisfiable
        If a space has no feasible proposal (the message names the nearest costs), or if the range is empty.
    """
    medians: dict[str, float] = {}
    feasible: list[Proposal] = []
    counter = RejectionCounter()
    for space in screener.spaces:
        of_space = _random_feasible(screener, space, study_seed, counter)
        medians[space] = float(np.median([proposal.macs[0] for proposal in of_space]))
        feasible += of_space
    low = screener.constraints.low or max(medians.values())
    high = float(screener.constraints.max_macs or max(proposal.macs[-1] for proposal in feasible))
    if low >= high:
        raise Unsatisfiable(
            f"The range of budgets must not be empty. Got low={low:,.0f} and high={high:,.0f} MACs: "
            "raise --max-macs, or set --low below it."
        )
    for proposal in feasible:
        if reason := Constraints(low=low).violation(proposal.architecture, proposal.macs):
            counter.add_reason(reason)
    return BudgetRange(low=low, high=high, medians=medians, rejections=counter.counts)


def _random_feasible(screener: Screener, space: str, study_seed: int, counter: RejectionCounter) -> list[Proposal]:
    """Random feasible proposals of a space, up to SAMPLE. Raises Unsatisfiable if there is none."""
    decide = at_random(np.random.default_rng(seed(study_seed, "bounds", space)))
    feasible: list[Proposal] = []
    for _ in range(ATTEMPTS):
        proposal = screener.propose(decide, space)
        counter.add(proposal)
        if isinstance(proposal, Proposal):
            feasible.append(proposal)
            if len(feasible) == SAMPLE:
                break
    if not feasible:
        raise Unsatisfiable(_nearest_costs(screener, space, study_seed))
    return feasible


def _nearest_costs(screener: Screener, space: str, study_seed: int) -> str:
    """The message for a space without a feasible proposal: the lowest costs of its proposals without limits on costs.

    If there is none either, the reason of the last.
    """
    free = Screener(
        {space: screener.spaces[space]},
        screener.task,
        points=screener.points,
        proxy=(screener.proxy_name, screener.proxy),
        constraints=Constraints(needs_other_points=screener.constraints.needs_other_points),
        training=screener.training,
    )
    decide = at_random(np.random.default_rng(seed(study_seed, "nearest", space)))
    drawn = [free.propose(decide, space) for _ in range(ATTEMPTS // 4)]
    proposals = [proposal for proposal in drawn if isinstance(proposal, Proposal)]
    reason = next((p.reason for p in reversed(drawn) if isinstance(p, Rejected)), "")
    if not proposals:
        return (
            f"The space {space!r} must offer networks for {screener.task} that these settings accept. Got none; the "
            f"last proposal: {reason:.300}"
        )
    return (
        f"The space {space!r} must have networks within the constraints. The nearest: a largest point of "
        f"{min(p.macs[-1] for p in proposals):,} MACs, or of {min(params(p.architecture)[-1] for p in proposals):,} "
        f"parameters, and a smallest point of {min(p.macs[0] for p in proposals):,} MACs. "
        "Raise --max-macs, --max-params or --low, or leave the space out."
    )
