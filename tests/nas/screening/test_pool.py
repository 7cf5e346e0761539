"""Pools: every proposal is accounted for once, with a reason; a pool without new proposals ends."""

from __future__ import annotations

from nas.screening import budgets, pool
from nas.screening.constraints import Constraints
from nas.screening.pool import GIVE_UP_AFTER, RE_ASKS
from nas.screening.proposals import Proposal, Rejected
from nas.spaces.choices import replay

from .screeners import drawn, screener_over, statuses


def test_a_pool_has_no_duplicates_and_as_many_places_as_next_decisions():
    results = drawn(screener_over("Small"), 200)
    assert statuses(results)["feasible"] == 200
    keys = [p.key for p in results if isinstance(p, Proposal)]
    assert len(set(keys)) == 200
    assert statuses(results)["duplicate"] > 0
    assert all(p.key in keys for p in results if isinstance(p, Rejected))


def test_candidates_of_the_study_are_not_proposed_again():
    first = [p.key for p in drawn(screener_over("Small"), 100) if isinstance(p, Proposal)]
    second = drawn(screener_over("Small"), 100, known=first)
    assert not set(first) & {p.key for p in second if isinstance(p, Proposal)}
    assert all(p.reason == f"The same network as {p.key}." for p in second if isinstance(p, Rejected))


def test_a_small_space_is_proposed_completely_and_then_ends():
    results = drawn(screener_over("Six"), 500)
    assert statuses(results)["feasible"] == 6
    assert len(results) <= 6 + GIVE_UP_AFTER * 2 * RE_ASKS + 6 * 2 * RE_ASKS
    everything = {p.key for p in results if isinstance(p, Proposal)}
    again = drawn(screener_over("Six"), 500, known=everything)
    assert statuses(again) == {"duplicate": GIVE_UP_AFTER * 2 * RE_ASKS}


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
    monkeypatch.setattr(pool, "REMEMBERED", 5)
    results = drawn(screener_over("Small"), 300)
    assert statuses(results)["feasible"] == 300
    assert len({p.key for p in results if isinstance(p, Proposal)}) < 300


def test_pools_are_a_function_of_the_seed():
    first, again, other = (drawn(screener_over("Small", "Other"), 50, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert [p.key for p in first] != [p.key for p in other]
    assert {p.space for p in first} == {"Small", "Other"}
