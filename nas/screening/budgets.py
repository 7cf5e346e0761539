"""The range of budgets of a study, in MACs, from the references of its spaces, or from random feasible proposals."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median_low

import numpy as np

from nas.errors import Unsatisfiable
from nas.representation.architecture import params
from nas.screening.constraints import Constraints
from nas.screening.proposals import Proposal, Rejected
from nas.screening.references import FeasibleReference, references_of
from nas.screening.rejections import RejectionCounter, RejectionCounts
from nas.screening.screener import Screener
from nas.seeds import seed
from nas.spaces.choices import at_random

SAMPLE = 512  # feasible proposals of the spaces, together
ATTEMPTS = 24 * SAMPLE  # proposals per space, feasible or not
FEW = 96  # feasible proposals of the spaces with references, together
TRIES = 128  # proposals per space with references
SUITING = 64  # proposals of a space that the user did not name, of which one must be feasible


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One end of the range of budgets. origin: in words, where the MACs come from."""

    macs: float
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRange:
    """The range of budgets of a study in MACs.

    rejections: of random proposals, within this range.
    """

    low: Budget
    high: Budget
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
        As described in the notes.

    Raises
    ------
    Unsatisfiable
        If a space has no feasible network (the message names the nearest costs), or if the range is empty.

    Notes
    -----
    high: ``max_macs``, or the median over the designs of all spaces of the largest reference. The median, because one
    odd design is ten times as large as the others. It is raised to the cheapest reference of every space.

    low: the lower quartile of the smallest points of a space's references up to ``high``, maximum over the spaces. The
    quartile, because designs have about four sizes, of which the smallest can then answer at the lowest budget; the
    maximum over the designs depends on one odd design. But not below the lower quartile of random proposals
    up to ``high`` of all spaces, because too few would be feasible.

    Spaces without references: for low, the median of the smallest points of random proposals; for high, the median of
    their largest points in place of the cheapest reference. If no space has references, high is the largest proposal.
    """
    counter = RejectionCounter()
    references = {space: references_of(screener, space) for space in screener.spaces}
    drawn = {
        space: _random(screener, space, study_seed, counter, required=not found) for space, found in references.items()
    }
    limit = screener.constraints.max_macs
    high = _highest(references, drawn) if limit is None else Budget(macs=float(limit), origin="--max-macs")
    small: list[Budget] = []
    for space, found in references.items():
        within = found and (references_of(screener, space, high.macs) if limit is None else found)
        small.append(_small(space, within or found, drawn[space]))
    proposals = [proposal for of_space in drawn.values() for proposal in of_space]
    low = _lowest(small, [proposal for proposal in proposals if proposal.macs[-1] <= high.macs])
    if screener.constraints.low is not None:
        low = Budget(macs=screener.constraints.low, origin="--low")
    if limit is None and low.macs >= high.macs:  # a larger --low, or one reference with one operating point
        high = _largest(proposals)
    if low.macs >= high.macs:
        raise Unsatisfiable(
            f"The range of budgets must not be empty. Got low={low.macs:,.0f} and high={high.macs:,.0f} MACs: "
            "raise --max-macs, or set --low below it."
        )
    for proposal in proposals:
        if reason := Constraints(low=low.macs).violation(proposal.architecture, proposal.macs):
            counter.add_reason(reason)
    return BudgetRange(low=low, high=high, rejections=counter.counts)


def why_unsuitable(screener: Screener, space: str, study_seed: int) -> str | None:
    """The reason why a space probably has no feasible network; None if it has one.

    Parameters
    ----------
    screener
        Of the study.
    space
        One of its spaces.
    study_seed
        Seed of the study.

    Raises
    ------
    UserError
        From the space, if it cannot serve the task; PluginError if the space fails.
    """
    decide = at_random(np.random.default_rng(seed(study_seed, "suits", space)))
    reason = ""
    for _ in range(SUITING):
        proposal = screener.propose(decide, space)
        if isinstance(proposal, Proposal):
            return None
        reason = proposal.reason
    if references_of(screener, space):
        return None
    return f"Its references and {SUITING} random proposals are not feasible. The last reason: {reason:.300}"


def _highest(references: dict[str, list[FeasibleReference]], drawn: dict[str, list[Proposal]]) -> Budget:
    """The largest budget without a limit."""
    if not any(references.values()):
        return _largest([proposal for of_space in drawn.values() for proposal in of_space])
    designs: list[Budget] = []
    least: list[Budget] = []
    for space, found in references.items():
        if found:
            by_size = sorted(found, key=lambda each: each.proposal.macs[-1])
            designs += [_budget(each, -1) for each in {each.design: each for each in by_size}.values()]
            least.append(_budget(by_size[0], -1))
        else:
            least.append(_median(space, drawn[space], -1))
    middle = median_low((each.macs, each.origin) for each in designs)
    return max([Budget(macs=middle[0], origin=middle[1]), *least], key=lambda each: each.macs)


def _largest(proposals: list[Proposal]) -> Budget:
    return Budget(macs=float(max(proposal.macs[-1] for proposal in proposals)), origin="the largest random proposal")


def _small(space: str, references: list[FeasibleReference], drawn: list[Proposal]) -> Budget:
    """The lowest budget that suits a space."""
    if not references:
        return _median(space, drawn, 0)
    return _quartile([_budget(each, 0) for each in references])


def _lowest(small: list[Budget], proposals: list[Proposal]) -> Budget:
    """The lowest budget of the study. small: that suits each space."""
    origin = "the lower quartile of the smallest points of random proposals"
    random = [Budget(macs=float(proposal.macs[0]), origin=origin) for proposal in proposals]
    lowest = [*small, _quartile(random)] if random else small
    return max(lowest, key=lambda each: each.macs)


def _quartile(budgets: list[Budget]) -> Budget:
    """The lower quartile, one of the budgets."""
    return sorted(budgets, key=lambda each: each.macs)[round((len(budgets) - 1) / 4)]


def _budget(reference: FeasibleReference, level: int) -> Budget:
    """The MACs of an operating point of a reference."""
    origin = f"the {_point(level)} point of {reference.name} ({reference.proposal.space})"
    return Budget(macs=float(reference.proposal.macs[level]), origin=origin)


def _median(space: str, drawn: list[Proposal], level: int) -> Budget:
    """The median MACs of an operating point of random proposals."""
    median = float(np.median([proposal.macs[level] for proposal in drawn]))
    return Budget(macs=median, origin=f"the median {_point(level)} point of random proposals of {space}")


def _point(level: int) -> str:
    return "smallest" if level == 0 else "largest"


def _random(
    screener: Screener, space: str, study_seed: int, counter: RejectionCounter, *, required: bool
) -> list[Proposal]:
    """Random feasible proposals of a space: up to its part of SAMPLE, or of FEW if they are not required.

    Raises Unsatisfiable if they are required and there is none.
    """
    decide = at_random(np.random.default_rng(seed(study_seed, "bounds", space)))
    feasible: list[Proposal] = []
    most = -(-(SAMPLE if required else FEW) // len(screener.spaces))
    for _ in range(ATTEMPTS if required else TRIES):
        proposal = screener.propose(decide, space)
        counter.add(proposal)
        if isinstance(proposal, Proposal):
            feasible.append(proposal)
            if len(feasible) == most:
                break
    if required and not feasible:
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
