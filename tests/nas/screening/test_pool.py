"""Pools: every proposal is accounted for once, with a reason; a pool without new proposals ends."""

from __future__ import annotations

import numpy as np

from nas.screening import budgets
from nas.screening import pool as pools
from nas.screening.constraints import Constraints
from nas.screening.pool import ASKS, GIVE_UP_AFTER, pool
from nas.screening.proposals import Proposal
from nas.spaces import tried
from nas.spaces.choices import replay
from nas.strategies.contract import Strategy, Trial

from .screeners import drawn, screener_over, statuses


def test_a_pool_has_no_duplicates_and_as_many_places_as_next_decisions():
    results = drawn(screener_over("Small"), 200)
    assert statuses(results) == {"feasible": 200}
    assert len({p.key for p in results}) == len({repr(p.choices) for p in results}) == 200


def test_candidates_of_the_study_are_not_proposed_again():
    first = [p.key for p in drawn(screener_over("Small"), 100)]
    second = drawn(screener_over("Small"), 100, known=first)
    assert len(second) == 100
    assert not set(first) & {p.key for p in second}


def built(screener, monkeypatch):
    """The choices that a space was asked for, noted in a list."""
    noted, propose = [], screener.propose

    def noting(decide, space=None):
        proposal = propose(decide, space)
        noted.append(repr(proposal.choices))
        return proposal

    monkeypatch.setattr(screener, "propose", noting)
    return noted


def test_a_small_space_is_proposed_completely_without_a_repetition(monkeypatch):
    """Nine choices, which are six networks."""
    screener = screener_over("Six")
    choices = built(screener, monkeypatch)
    results = drawn(screener, 500)
    assert statuses(results) == {"feasible": 6}
    assert len(set(choices)) == len(choices) == 9
    choices.clear()
    assert drawn(screener, 500, known={p.key for p in results}) == []
    assert len(choices) == 9


def test_choices_of_the_history_are_not_built_again(monkeypatch):
    screener = screener_over("Six")
    results = drawn(screener, 500)
    domains = screener.domains
    history = [Trial(choices=p.choices, domains=domains.of(p.choices), value=0.5) for p in results[:4]]
    choices = built(screener, monkeypatch)
    again = drawn(screener, 500, known={p.key for p in results[:4]}, history=history)
    assert {p.key for p in again} == {p.key for p in results[4:]}
    assert len(choices) == 5
    assert not {repr(p.choices) for p in results[:4]} & set(choices)


class Stubborn(Strategy):
    """Proposes the first option of everything, and counts how often it is asked."""

    reads_architectures = False
    asked = 0

    def ask(self):
        self.asked += 1
        return lambda name, options: 0


def test_a_strategy_that_repeats_itself_is_asked_a_few_times_only():
    strategy, screener = Stubborn(seed=0), screener_over("Small")
    results = list(pool(screener, strategy, 50, known=set(), history=(), rng=np.random.default_rng(0)))
    assert statuses(results) == {"feasible": 50}
    assert strategy.asked <= 50 * ASKS


def test_a_pool_of_known_networks_ends(monkeypatch):
    """Without memory for choices, networks are recognised by their keys."""
    monkeypatch.setattr(tried, "MOST_NODES", 0)
    results = drawn(screener_over("Six"), 500)
    assert statuses(results) == {"feasible": 6}
    choices = built(screener := screener_over("Six"), monkeypatch)
    assert drawn(screener, 500, known={p.key for p in results}) == []
    assert len(choices) == GIVE_UP_AFTER


def test_two_names_of_one_network_are_one():
    keys = {}
    for kernel in (1, 3, 3.0):
        screener = screener_over("Six").propose(replay({"Six/width": 16, "Six/kernel": kernel}))
        keys[repr(kernel)] = screener.key
    assert keys["3"] == keys["3.0"] != keys["1"]


def test_a_pool_continues_until_a_proposal_is_feasible():
    tight = screener_over("Small", constraints=Constraints(max_macs=30_000))
    results = drawn(tight, 1)
    assert statuses(results)["feasible"] == 1
    assert statuses(results)["infeasible"] == len(results) - 1 > 5


def test_a_pool_gives_up_if_nothing_is_feasible(monkeypatch):
    monkeypatch.setattr(budgets, "ATTEMPTS", 50)
    results = drawn(screener_over("Small", constraints=Constraints(max_macs=1)), 3)
    assert statuses(results) == {"infeasible": 50}
    assert len(drawn(screener_over("Small", constraints=Constraints(max_macs=1)), 70)) == 70


def test_memory_of_a_pool_is_bounded(monkeypatch):
    monkeypatch.setattr(pools, "REMEMBERED", 5)
    monkeypatch.setattr(tried, "MOST_NODES", 5)
    results = drawn(screener_over("Small"), 300)
    assert statuses(results)["feasible"] == 300
    assert len({p.key for p in results if isinstance(p, Proposal)}) < 300


def test_pools_are_a_function_of_the_seed():
    first, again, other = (drawn(screener_over("Small", "Other"), 50, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert [p.key for p in first] != [p.key for p in other]
    assert {p.space for p in first} == {"Small", "Other"}
