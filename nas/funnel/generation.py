"""Proposing a generation: references, candidates that proxy and strategy chose, and random controls.

The first generation begins with the candidates that the user enqueued and the references of the spaces: one of each
design, then other sizes. Later ones begin with other sizes of the leading design.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np

from nas.audit.reliance import Reliance, decide
from nas.audit.wording import reliance_sentence
from nas.config import Config
from nas.funnel.ranking import TwoOrders, mixed, with_controls
from nas.funnel.records import Queued, Records
from nas.funnel.state import StateKeeper
from nas.proxies.contract import evaluate, load_proxy
from nas.proxies.sizes import SIZE_PROXIES
from nas.screening.enqueued import enqueued
from nas.screening.pool import pool
from nas.screening.proposals import Proposal, Rejected, outranked
from nas.screening.references import FeasibleReference, feasible_references
from nas.screening.rejections import RejectionCounter
from nas.screening.screener import Screener
from nas.screening.strategy_calls import new_strategy
from nas.seeds import seed
from nas.spaces.references import design_of
from nas.strategies.contract import Strategy, Trial
from nas.strategies.random import Random

CONTROL_EVERY = 10
CHUNK = 256  # rejected proposals written at once
TIMED_FIRST = 3  # times --generation references in the first generation, if the time is limited
OTHER_SIZES = 3  # one in so many candidates of a later generation may be another size of the leading design


class GenerationProposer:
    """Fills the generations of a study with candidates.

    strategy: the class of the study's strategy.
    """

    def __init__(
        self,
        config: Config,
        records: Records,
        keeper: StateKeeper,
        screener: Screener,
        strategy: type[Strategy],
    ):
        self.config, self.records, self.keeper, self.screener = config, records, keeper, screener
        self.strategy = strategy
        self.proxies = {config.proxy: screener.proxy}
        self.proxies |= {name: load_proxy(name) for name in SIZE_PROXIES if name not in self.proxies}

    def propose(self, generation: int, limit: float, **changes: Any) -> bool:
        """Fill a generation, counted from 0.

        limit: candidates of the whole study. changes: of the state, written together with the candidates. Returns False
        if there is no new feasible proposal; the changes are then left out.
        """
        started = self.keeper.clock.elapsed()
        self.records.drop_generation(generation)
        ledger = self.records.ledger
        trained_before, known = len(ledger), ledger.keys | self.records.earlier_keys
        count = int(min(self.config.generation, limit - ledger.chosen()))
        named = self._enqueued(generation)
        known = known | {pick.proposal.key for pick in named}
        room, most = count - len(named), limit - ledger.chosen() - len(named)
        references = named + self._references(generation, room, most, known)
        known = known | {pick.proposal.key for pick in references}
        count, trained_before = max(0, count - len(references)), trained_before + len(references)
        places = range(trained_before, trained_before + count)
        due = sum(place % CONTROL_EVERY == CONTROL_EVERY - 1 for place in places)
        reliance = self._reliance(generation)
        rng = np.random.default_rng(seed(self.config.seed, "order", generation))
        by_proxy = int(reliance.share * (count - due) + rng.random())  # on average, the share
        counter = RejectionCounter(self.keeper.state.rejections)
        history = self.records.history(self.screener.domains, with_architecture=self.strategy.reads_architectures)
        ordered, own = self._ranked(generation, count, by_proxy, history, known, counter) if count else ([], [])
        known = known | {proposal.key for proposal in (*ordered[:count], *own[:count])}
        controls, drawn_in_vain = self._controls(generation, due, history, known, counter)
        mix = mixed(ordered, own, of_first=by_proxy, count=count - len(controls))
        picks = [_Pick(proposal, "proxy" if by_proxy else "strategy") for proposal, by_proxy in mix]
        random = [_Pick(proposal, "chance") for proposal in controls]
        mixture = with_controls(picks, random, every=CONTROL_EVERY, start=trained_before)
        chosen = references + ([pick for pick, _ in mixture] or random)  # a generation of one may be a control
        chosen_keys = {pick.proposal.key for pick in chosen}
        passed_over = {
            proposal.key: outranked(proposal, place)
            for proposals in (own, ordered)
            for place, proposal in enumerate(proposals)
            if proposal.key not in chosen_keys
        }
        queued = [self._queued(pick) for pick in chosen]
        reliance = replace(
            reliance,
            ordered=tuple(position for position, pick in enumerate(chosen) if pick.by == "proxy"),
            own=tuple(position for position, pick in enumerate(chosen) if pick.by == "strategy"),
        )
        state = self.keeper.state
        with self.records.transaction():
            self.records.add_rejected([*passed_over.values(), *drawn_in_vain], generation)
            self.records.add_queued(queued, generation)
            self.keeper.update(
                screening=state.screening + self.keeper.clock.elapsed() - started,
                reliance={**state.reliance, generation: reliance},
                rejections=counter.counts,
                **(changes if queued else {}),
            )
        return bool(queued)

    def _queued(self, pick: _Pick) -> Queued:
        """A chosen proposal with the scores of all proxies, which audits use too."""
        architecture = pick.proposal.architecture
        scores = evaluate(architecture, self.proxies)
        return Queued(proposal=pick.proposal, control=pick.by == "chance", reference=pick.reference, proxies=scores)

    def _enqueued(self, generation: int) -> list[_Pick]:
        """The candidates that the user named, in the first generation, also if an earlier study trained them."""
        if generation or not self.config.enqueue:
            return []
        proposals = enqueued(self.screener, self.config.enqueue, self.config.seed)
        names = {reference.proposal.key: reference.name for reference in self._built_references}
        return [_Pick(each, "user", names.get(each.key)) for each in proposals]

    @cached_property
    def _built_references(self) -> list[FeasibleReference]:
        """The references of the spaces within the constraints; none if the study leaves them out."""
        return feasible_references(self.screener, self.records.score.high) if self.config.references else []

    def _references(self, generation: int, count: int, most: float, known: set[str]) -> list[_Pick]:
        """The references that a generation begins with.

        count: of the generation. With a time limit, the first has more, of which as many are trained as there is time
        for. most: that the limits allow. known: keys that are not proposed again.
        """
        new = [reference for reference in self._built_references if reference.proposal.key not in known]
        if generation:
            ledger = self.records.ledger
            tried = [n for n in ledger.ended() if ledger[n].reference is not None and self.records.reached(n)]
            if not tried:
                return []
            leader = max(tried, key=lambda n: max(ledger[n].accuracy.items()))  # the longest training, then the best
            new = [each for each in new if each.design == design_of(ledger[leader].reference or "")]
            count = count // OTHER_SIZES
        elif self.config.hours is not None:
            count = TIMED_FIRST * count
        return [_Pick(each.proposal, "reference", each.name) for each in new[: int(min(count, most))]]

    def _reliance(self, generation: int) -> Reliance:
        """The share of a generation that the proxy chooses: by the candidates before it, at the first rung."""
        records = self.records
        first, floor, ledger = records.rung(self.config.rungs()[0]), records.score.floor, records.ledger
        compared: list[tuple[list[float], list[float]]] = []
        for earlier, decision in sorted(self.keeper.state.reliance.items(), key=itemgetter(0)):
            if earlier < generation:
                entries = [ledger[number] for number in ledger.of_generation(earlier)]
                values = [floor if e.status == "failed" else e.accuracy.get(first) for e in entries]
                ordered, own = (
                    [value for position in group if (value := values[position]) is not None]
                    for group in (decision.ordered, decision.own)
                )
                compared.append((ordered, own))
        decision = decide(compared, trained=ledger.trained())
        records.log(reliance_sentence(self.config.proxy, generation, decision))
        return decision

    def _ranked(
        self,
        generation: int,
        count: int,
        by_proxy: int,
        history: list[Trial],
        known: set[str],
        counter: RejectionCounter,
    ) -> tuple[list[Proposal], list[Proposal]]:
        """The best feasible proposals of a pool: in the order of the proxy, and in the order of the strategy.

        Store and counter get the rejected ones. If the proxy chooses none and the strategy does not rank, the pool ends
        after ``count`` feasible proposals.
        """
        config = self.config
        strategy = new_strategy(self.strategy, seed(config.seed, "strategy", generation), history)
        size = min(config.pool, strategy.pool_limit or config.pool)
        rng = np.random.default_rng(seed(config.seed, "mutation", generation))
        orders = TwoOrders(strategy, count, with_proxy=by_proxy > 0)
        rejected: list[Rejected] = []
        for proposal in pool(self.screener, strategy, size, known=known, history=history, rng=rng):
            counter.add(proposal)
            if isinstance(proposal, Rejected):
                rejected.append(proposal)
            else:
                rejected += map(outranked, orders.add(proposal))
                if orders.complete:
                    break
            if len(rejected) >= CHUNK:
                self.records.add_rejected(rejected, generation)
                rejected.clear()
        self.records.add_rejected(rejected, generation)
        return orders.by_proxy(), orders.own()

    def _controls(
        self, generation: int, count: int, history: list[Trial], known: set[str], counter: RejectionCounter
    ) -> tuple[list[Proposal], list[Rejected]]:
        """Random feasible proposals, whatever their score, and the rejected ones that were drawn on the way."""
        controls: list[Proposal] = []
        rejected: list[Rejected] = []
        if count:
            strategy = Random(seed=seed(self.config.seed, "controls", generation))
            rng = np.random.default_rng(seed(self.config.seed, "mutated controls", generation))
            for proposal in pool(self.screener, strategy, self.config.pool, known=known, history=history, rng=rng):
                counter.add(proposal)
                if isinstance(proposal, Rejected):
                    rejected.append(proposal)
                    continue
                controls.append(proposal)
                if len(controls) == count:
                    break
        return controls, rejected


@dataclass(frozen=True, slots=True)
class _Pick:
    """A proposal that is trained. by: proxy, strategy, chance (a random control), user, or reference with its name."""

    proposal: Proposal
    by: str
    reference: str | None = None
