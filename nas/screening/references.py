"""The reference architectures of a study's spaces as proposals."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas.errors import PluginError, UserError
from nas.screening.proposals import Proposal
from nas.screening.screener import Screener
from nas.spaces.choices import replay
from nas.spaces.references import ReferringSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class FeasibleReference:
    """A reference within the constraints of a study. name: design and size."""

    design: str
    name: str
    proposal: Proposal


def references_of(screener: Screener, space: str, high: float = math.inf) -> list[FeasibleReference]:
    """The references of one space within the constraints, in the order of the space.

    Parameters
    ----------
    screener
        Of the study.
    space
        One of its spaces.
    high
        Most MACs of the largest operating point, if the constraints do not limit it further.

    Raises
    ------
    PluginError
        If the space fails, or the choices of a reference are not those of the space.
    UserError
        From a space that cannot serve the task.
    """
    searched = screener.spaces[space]
    if not isinstance(searched, ReferringSpace):
        return []
    limit = min(screener.constraints.max_macs or math.inf, high)
    try:
        references = searched.references(screener.task, limit, points=screener.points)
    except UserError:
        raise
    except Exception as error:  # any exception of a plug-in
        raise PluginError(
            f"The space {space!r} must name its references. It raised {type(error).__name__}: {error}"
        ) from error
    found = []
    for reference in references:
        choices = {"space": space} | {f"{space}/{name}": value for name, value in reference.choices.items()}
        proposal = screener.propose(replay(choices))
        if isinstance(proposal, Proposal):
            found.append(FeasibleReference(design=reference.design, name=reference.name, proposal=proposal))
    return found


def feasible_references(screener: Screener, high: float = math.inf) -> list[FeasibleReference]:
    """The references of all spaces of a study within the constraints, each network once.

    Parameters
    ----------
    screener, high
        As for :func:`references_of`.

    Returns
    -------
    list of FeasibleReference
        The middle size of each design first, then the sizes next to it, and so on; equally near ones in the order of
        the proxy.
    """
    designs: dict[tuple[str, str], list[FeasibleReference]] = {}
    for space in screener.spaces:
        for found in references_of(screener, space, high):
            designs.setdefault((space, found.design), []).append(found)
    ordered: list[tuple[int, float, FeasibleReference]] = []
    for sizes in designs.values():
        sizes.sort(key=lambda each: each.proposal.macs[-1])
        for place, each in enumerate(sizes):
            score = each.proposal.score
            ordered.append((abs(place - (len(sizes) - 1) // 2), math.inf if math.isnan(score) else -score, each))
    distinct: dict[str, FeasibleReference] = {}
    for _, _, each in sorted(ordered, key=lambda entry: entry[:2]):
        distinct.setdefault(each.proposal.key, each)
    return list(distinct.values())
