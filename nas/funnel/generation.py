"""Proposing a generation: a screened pool in order of training, random controls, and whether the proxy is used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nas.audit.proxy_audit import decide
from nas.audit.reference import ReferenceScores
from nas.audit.reliance import Reliance, reliance_changes
from nas.audit.wording import reliance_sentence
from nas.config import Config
from nas.funnel.ranking import Shortlist, entry_of, with_controls
from nas.funnel.records import Queued, Records
from nas.funnel.state import StateKeeper
from nas.progress import Progress
from nas.proxies.contract import evaluate, load_proxy
from nas.proxies.sizes import SIZE_PROXIES
from nas.screening.pool import pool
from nas.screening.proposals import Proposal, Rejected, duplicate, outranked
from nas.screening.rejections import RejectionCounter
from nas.screening.screener import Screener
from nas.screening.strategy_calls import new_strategy, with_strategy_score
from nas.seeds import seed
from nas.strategies.contract import Strategy
from nas.strategies.random import Random

CONTROL_EVERY = 10
AUDITED = 1_000  # candidates of an audit between generations, at most
SHORTLIST = 4  # times the number of candidates that a generation trains
CHUNK = 256  # rejected proposals written at once


class GenerationProposer:
    """Fills the generations of a study with candidates.

    strategy: the class of the study's strategy. progress: shows changes in the use of the proxy.
    """

    def __init__(
        self,
        config: Config,
        records: Records,
        keeper: StateKeeper,
        screener: Screener,
        strategy: type[Strategy],
        progress: Progress,
    ):
        self.config, self.records, self.keeper, self.screener = config, records, keeper, screener
        self.strategy, self.progress = strategy, progress
        self.proxies = {config.proxy: screener.proxy}
        self.proxies |= {name: load_proxy(name) for name in SIZE_PROXIES if name not in self.proxies}
        with_low = replace(config, low=records.score.low)
        self.reference = ReferenceScores(records.files, with_low, screener.task, screener.spaces)

    def propose(self, generation: int, limit: float, **changes: Any) -> bool:
        """Fill a generation, counted from 0: the best proposals of a pool, in order of training, and random controls.

        limit: candidates of the whole study. changes: of the state, written together with the candidates. Returns False
        if there is no new feasible proposal; the changes are then left out.
        """
        started = self.keeper.clock.elapsed()
        self.records.drop_generation(generation)
        ledger = self.records.ledger
        trained_before, earlier_keys = len(ledger), ledger.keys | self.records.earlier_keys
        count = int(min(self.config.generation, limit - ledger.chosen()))
        reliance = self._reliance(generation)
        counter = RejectionCounter(self.keeper.state.rejections)
        ranked = self._ranked(generation, count, earlier_keys, counter, use_proxy=reliance.relied)
        excluded_keys = earlier_keys | {proposal.key for proposal in ranked[:count]}
        places = range(trained_before, trained_before + count)
        due = sum(place % CONTROL_EVERY == CONTROL_EVERY - 1 for place in places)
        controls, drawn_in_vain = self._controls(generation, due, excluded_keys, counter)
        chosen = with_controls(ranked, controls, every=CONTROL_EVERY, start=trained_before)[:count]
        chosen_keys = {proposal.key for proposal, _ in chosen}
        passed_over = [outranked(p, place) for place, p in enumerate(ranked) if p.key not in chosen_keys]
        queued = [self._queued(proposal, control=control) for proposal, control in chosen]
        state = self.keeper.state
        with self.records.transaction():
            self.records.add_rejected([*passed_over, *drawn_in_vain], generation)
            self.records.add_queued(queued, generation)
            self.keeper.update(
                screening=state.screening + self.keeper.clock.elapsed() - started,
                reliance={**state.reliance, generation: reliance},
                rejections=counter.counts,
                **(changes if queued else {}),
            )
        return bool(queued)

    def _queued(self, proposal: Proposal, *, control: bool) -> Queued:
        """A chosen proposal with the scores of all proxies, which later audits use too."""
        scores = evaluate(proposal.architecture, self.proxies)
        self.reference.note(proposal.architecture, self.proxies, scores)
        return Queued(proposal=proposal, control=control, proxies=scores)

    def _reliance(self, generation: int) -> Reliance:
        """Whether the proxy orders a generation: by the candidates trained before it, the newest, at the first rung."""
        records, first = self.records, self.records.rung(self.config.rungs()[0])
        trained = {records.ledger[n].key: n for n in records.ledger.with_result(first, most=AUDITED)}
        reliance = decide(
            self.reference,
            (self.config.proxy, self.proxies[self.config.proxy]),
            list(trained),
            lambda key: records.architecture(trained[key]),
            [records.ledger[number].accuracy[first] for number in trained.values()],
            rng_seed=seed(self.config.seed, "reliance", generation),
        )
        changes = reliance_changes({**self.keeper.state.reliance, generation: reliance})
        if changes and changes[-1][0] == generation:
            sentence = reliance_sentence(self.config.proxy, *changes[-1])
            self.progress.say(sentence)
            self.records.log(sentence)
        return reliance

    def _ranked(
        self, generation: int, count: int, earlier_keys: set[str], counter: RejectionCounter, *, use_proxy: bool
    ) -> list[Proposal]:
        """The best feasible proposals of a pool in order of training; store and counter get the rejected ones.

        If neither the proxy nor the strategy ranks, this is the order of proposal, and the pool ends after ``count``
        feasible proposals.
        """
        config = self.config
        history = self.records.history(
            self.screener.domains, with_proxy=use_proxy, with_architecture=self.strategy.reads_architectures
        )
        strategy = new_strategy(self.strategy, seed(config.seed, "strategy", generation), history)
        size = min(config.pool, strategy.pool_limit or config.pool)
        rng = np.random.default_rng(seed(config.seed, "mutation", generation))
        best: Shortlist[Proposal] = Shortlist(capacity=SHORTLIST * count)
        unranked: list[Proposal] = []
        rejected: list[Rejected] = []
        for proposal in pool(self.screener, strategy, size, known=earlier_keys, rng=rng):
            counter.add(proposal)
            if isinstance(proposal, Rejected):
                rejected.append(proposal)
            else:
                proposal = with_strategy_score(strategy, proposal, with_proxy=use_proxy)
                if not (use_proxy or proposal.ranked_by_strategy):
                    unranked.append(proposal)
                    if len(unranked) == count:
                        break
                    continue
                rejected += [outranked(dropped.payload) for dropped in best.extend([entry_of(proposal)])]
            if len(rejected) >= CHUNK:
                self.records.add_rejected(rejected, generation)
                rejected.clear()
        self.records.add_rejected(rejected, generation)
        return unranked or [entry.payload for entry in best.ordered()]

    def _controls(
        self, generation: int, count: int, excluded_keys: set[str], counter: RejectionCounter
    ) -> tuple[list[Proposal], list[Rejected]]:
        """Random feasible proposals, whatever their score, and the rejected ones that were drawn on the way."""
        decisions = Random(seed=seed(self.config.seed, "controls", generation)).ask()
        controls: dict[str, Proposal] = {}
        rejected: list[Rejected] = []
        for _ in range(self.config.pool):
            if len(controls) == count:
                break
            proposal = self.screener.propose(decisions)
            counter.add(proposal)
            if isinstance(proposal, Rejected):
                rejected.append(proposal)
            elif proposal.key in excluded_keys or proposal.key in controls:
                rejected.append(duplicate(proposal))
            else:
                controls[proposal.key] = proposal
        return list(controls.values()), rejected
