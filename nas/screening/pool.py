"""The pool of a generation: proposals of a strategy without replacement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count

import numpy as np

from nas.screening import budgets
from nas.screening.proposals import Proposal, Rejected
from nas.screening.screener import Screener
from nas.screening.strategy_calls import next_decisions
from nas.spaces.choices import Primitive, mutate
from nas.spaces.tried import Tried
from nas.strategies.contract import Strategy, Trial

ASKS = 3
MUTATIONS = 20
GIVE_UP_AFTER = 120  # consecutive proposals whose network is known
REMEMBERED = 50_000  # most recent keys of a pool that are compared: bounds the memory


def pool(
    screener: Screener,
    strategy: Strategy,
    size: int,
    *,
    known: set[str],
    history: Iterable[Trial],
    rng: np.random.Generator,
) -> Iterator[Proposal | Rejected]:
    """Different proposals of a strategy, feasible or rejected, ``size`` of them.

    Parameters
    ----------
    screener
        Builds and checks the proposals.
    strategy
        Asked for each proposal.
    size
        Places of the pool.
    known
        Keys of the networks that the study has, which are not proposed.
    history
        Trials whose choices are not proposed; this saves building their networks.
    rng
        Of the mutations.

    Notes
    -----
    No choices are proposed twice, and no network. For each place, the strategy is asked up to ``ASKS`` times. If it
    gives nothing new, its last choices are mutated up to ``MUTATIONS`` times; after that, an option that leads to new
    choices is drawn if there is one.

    The pool ends early if all choices of the space were tried, or after ``GIVE_UP_AFTER`` consecutive known networks.
    If no proposal is feasible, it continues up to ``budgets.ATTEMPTS`` places.
    """
    tried, domains = Tried(), screener.domains
    for trial in history:
        tried.add(trial.choices, domains)
    recent: dict[str, None] = {}
    places, repeats, any_feasible = 0, 0, False
    while places < (size if any_feasible else max(size, budgets.ATTEMPTS)):
        choices: Mapping[str, Primitive] = {}
        for attempt in count():
            if tried.exhausted or repeats == GIVE_UP_AFTER:
                return
            decide = next_decisions(strategy) if attempt < ASKS else mutate(choices, rng, domains)
            new, choices = tried.new(decide)
            if new is None and attempt >= ASKS + MUTATIONS:
                new = tried.nearest(decide, rng)
            if new is None:
                continue
            proposal = screener.propose(new)
            choices = proposal.choices
            tried.add(choices, domains)
            if isinstance(proposal, Rejected):
                break
            any_feasible = True
            if proposal.key not in known and proposal.key not in recent:
                recent[proposal.key] = None
                if len(recent) > REMEMBERED:
                    del recent[next(iter(recent))]
                break
            repeats += 1
        places, repeats = places + 1, 0
        yield proposal
