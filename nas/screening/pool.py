"""The pool of a generation: proposals of a strategy without duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from nas.screening import budgets
from nas.screening.proposals import Proposal, Rejected, duplicate
from nas.screening.screener import Screener
from nas.screening.strategy_calls import next_decisions
from nas.spaces.choices import Primitive, mutate
from nas.strategies.contract import Strategy

RE_ASKS = 20
GIVE_UP_AFTER = 3  # consecutive places without a new proposal, after asking again and mutating
REMEMBERED = 50_000  # most recent keys of a pool that are compared: bounds the memory


def pool(
    screener: Screener, strategy: Strategy, size: int, *, known: set[str], rng: np.random.Generator
) -> Iterator[Proposal | Rejected]:
    """Proposals of a strategy, feasible or rejected: ``size`` of them, and the duplicates.

    Parameters
    ----------
    screener
        Builds and checks the proposals.
    strategy
        Asked for each proposal.
    size
        Places of the pool.
    known
        Keys of the networks that the study has; proposing one of them is a duplicate.
    rng
        Of the mutations.

    Notes
    -----
    The strategy is asked again for a duplicate, then the duplicate is mutated, ``RE_ASKS`` times each. The pool ends
    early if this gives nothing new for ``GIVE_UP_AFTER`` consecutive places: the space is nearly exhausted. If no
    proposal is feasible, it continues up to ``budgets.ATTEMPTS`` places.
    """
    recent: dict[str, None] = {}
    places_without_new, any_feasible = 0, False
    for place in range(max(size, budgets.ATTEMPTS)):
        if place >= size and any_feasible:
            return
        is_new = False
        for proposal in _until_new(screener, strategy, rng, known, recent):
            is_new = not (isinstance(proposal, Rejected) and proposal.status == "duplicate")
            any_feasible = any_feasible or not is_new or isinstance(proposal, Proposal)
            yield proposal
        places_without_new = 0 if is_new else places_without_new + 1
        if places_without_new == GIVE_UP_AFTER:
            return


def _until_new(
    screener: Screener, strategy: Strategy, rng: np.random.Generator, known: set[str], recent: dict[str, None]
) -> Iterator[Proposal | Rejected]:
    """Duplicates, then the first proposal that is none; only duplicates if all attempts give one."""
    last: Mapping[str, Primitive] = {}
    for attempt in range(2 * RE_ASKS):
        decide = next_decisions(strategy) if attempt < RE_ASKS else mutate(last, rng, screener.domains)
        proposal = screener.propose(decide)
        if isinstance(proposal, Rejected):
            yield proposal
            return
        if proposal.key not in known and proposal.key not in recent:
            recent[proposal.key] = None
            if len(recent) > REMEMBERED:
                del recent[next(iter(recent))]
            yield proposal
            return
        last = proposal.choices
        yield duplicate(proposal)
