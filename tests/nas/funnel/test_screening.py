"""The untrained end: every proposal is accounted for, once, with a reason; nothing new ends a pool."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from nas.errors import PluginError, Unsatisfiable
from nas.funnel import screening as funnels
from nas.funnel.screening import Bounds, Constraints, Funnel, Proposal, Rejected, asked, bounds, training_of
from nas.plugins import load_plugin
from nas.proxies.contract import load_proxy
from nas.representation.architecture import macs, params
from nas.representation.elements import Task, TrainingSpec
from nas.spaces.choices import Domains, Recorder, at_random, replay
from nas.strategies.random import Random

from ..searching import PLUGINS, space

TASK = Task(input_shape=(1, 8, 8), num_classes=10)


def spaces_of(name):
    """A class of tests/plugins/spaces.py."""
    return load_plugin("nas.search_spaces", space(name))


def funnel(*names, proxy="count", **settings):
    """A funnel over spaces of tests/plugins/spaces.py."""
    spaces = {name: spaces_of(name)() for name in names}
    return Funnel(spaces, TASK, proxy=(proxy, load_proxy(proxy)), **settings)


def pool(of, size, *, known=frozenset(), seed=0):
    """What comes out of a pool of random proposals."""
    return list(of.pool(Random(seed=seed), size, known=set(known), rng=np.random.default_rng(seed)))


def statuses(found):
    return Counter(p.status if isinstance(p, Rejected) else "feasible" for p in found)


# Pools ---------------------------------------------------------------------------------------------------------------


def test_a_pool_has_no_duplicates_and_as_many_places_as_asked():
    found = pool(funnel("Small"), 200)
    assert statuses(found)["feasible"] == 200
    keys = [p.key for p in found if isinstance(p, Proposal)]
    assert len(set(keys)) == 200
    assert statuses(found)["duplicate"] > 0
    assert all(p.key in keys for p in found if isinstance(p, Rejected))


def test_what_the_study_knows_is_not_proposed_again():
    first = [p.key for p in pool(funnel("Small"), 100) if isinstance(p, Proposal)]
    second = pool(funnel("Small"), 100, known=first)
    assert not set(first) & {p.key for p in second if isinstance(p, Proposal)}
    assert all(p.reason == f"The same network as {p.key}." for p in second if isinstance(p, Rejected))


def test_a_small_space_is_found_whole_and_then_given_up():
    found = pool(funnel("Six"), 500)
    assert statuses(found)["feasible"] == 6
    assert len(found) <= 6 + funnels.GIVE_UP_AFTER * 2 * funnels.RE_ASKS + 6 * 2 * funnels.RE_ASKS
    everything = {p.key for p in found if isinstance(p, Proposal)}
    again = pool(funnel("Six"), 500, known=everything)
    assert statuses(again) == {"duplicate": funnels.GIVE_UP_AFTER * 2 * funnels.RE_ASKS}


def test_two_names_of_one_network_are_one():
    keys = {}
    for kernel in (1, 3, 3.0):
        made = funnel("Six").propose(replay({"Six/width": 16, "Six/kernel": kernel}))
        keys[repr(kernel)] = made.key
    assert keys["3"] == keys["3.0"] != keys["1"]


def test_a_pool_goes_on_while_nothing_is_feasible():
    tight = funnel("Small", constraints=Constraints(max_macs=30_000))
    found = pool(tight, 1)
    assert statuses(found)["feasible"] == 1
    assert statuses(found)["infeasible"] == len(found) - 1 > 5


def test_a_pool_gives_up_where_nothing_ever_is(monkeypatch):
    monkeypatch.setattr(funnels, "BOUNDS_ATTEMPTS", 50)
    found = pool(funnel("Small", constraints=Constraints(max_macs=1)), 3)
    assert statuses(found) == {"infeasible": 50}
    assert len(pool(funnel("Small", constraints=Constraints(max_macs=1)), 70)) == 70


def test_memory_of_a_pool_is_bounded(monkeypatch):
    monkeypatch.setattr(funnels, "REMEMBERED", 5)
    found = pool(funnel("Small"), 300)
    assert statuses(found)["feasible"] == 300
    assert len({p.key for p in found if isinstance(p, Proposal)}) < 300


def test_pools_are_a_function_of_the_seed():
    first, again, other = (pool(funnel("Small", "Other"), 50, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert [p.key for p in first] != [p.key for p in other]
    assert {p.space for p in first} == {"Small", "Other"}


# Proposals -----------------------------------------------------------------------------------------------------------


def test_a_proposal_is_what_its_choices_build():
    made = funnel("Small", "Other")
    for proposal in pool(made, 30):
        if isinstance(proposal, Proposal):
            assert made.propose(replay(proposal.choices)) == proposal
            own = {name.partition("/")[2]: value for name, value in proposal.choices.items() if "/" in name}
            built = made.spaces[proposal.space].architecture(Recorder(replay(own), Domains()), TASK)
            assert built.key == proposal.key == proposal.architecture.key
            assert proposal.macs == macs(built)
            assert all(name.startswith(f"{proposal.space}/") for name in proposal.choices if name != "space")


@pytest.mark.parametrize(
    ("constraints", "words"),
    [
        (Constraints(max_macs=100_000), "above --max-macs 100,000."),
        (Constraints(low=20_000), "above the lowest budget 20,000."),
        (Constraints(max_params=2_000), "above --max-params 2,000."),
    ],
)
def test_constraints_are_exact(constraints, words):
    free, bound = funnel("Small"), funnel("Small", constraints=constraints)
    decide = at_random(np.random.default_rng(0))
    kept = 0
    for _ in range(100):
        proposal = free.propose(decide)
        assert isinstance(proposal, Proposal)
        size, least, most = params(proposal.architecture)[-1], proposal.macs[0], proposal.macs[-1]
        fits = (
            most <= (constraints.max_macs or most)
            and least <= (constraints.low or least)
            and size <= (constraints.max_params or size)
        )
        again = bound.propose(replay(proposal.choices))
        assert isinstance(again, Proposal) == fits
        kept += fits
        if not fits:
            assert again.status == "infeasible"
            assert again.reason.endswith(words)
    assert 0 < kept < 100


def test_failures_carry_their_traceback_and_end_nothing_once_the_space_has_worked():
    made = funnel("RaisesSometimes")
    found = [made.propose(at_random(np.random.default_rng(seed))) for seed in range(60)]
    failed = [p for p in found if isinstance(p, Rejected)]
    assert 5 < len(failed) < 40
    assert {p.status for p in failed} == {"failed"}
    assert all("KeyError" in p.traceback and p.reason == "KeyError: 'kernel 3'" for p in failed)
    always = replay({"RaisesSometimes/kernel 0": 3})
    assert all(made.propose(always).status == "failed" for _ in range(3 * funnels.BROKEN_AFTER))


def test_a_space_that_never_works_is_given_up():
    made = funnel("Raises")
    decide = at_random(np.random.default_rng(0))
    for _ in range(funnels.BROKEN_AFTER - 1):
        assert made.propose(decide).reason == "ZeroDivisionError: no network today"
    with pytest.raises(PluginError, match="space 'Raises' failed on 20 proposals"):
        made.propose(decide)


def test_a_proxy_that_never_works_is_given_up():
    made = funnel("Small", proxy=f"{PLUGINS}/parts.py:raises")
    decide = at_random(np.random.default_rng(0))
    for _ in range(funnels.BROKEN_AFTER - 1):
        assert "no score" in made.propose(decide).reason
    with pytest.raises(PluginError, match=r"parts\.py:raises' failed on 20 proposals"):
        made.propose(decide)


def test_what_is_no_network_is_invalid():
    rejected = funnel("Invalid").propose(at_random(np.random.default_rng(0)))
    assert (rejected.status, rejected.reason) in {("invalid", "No way 1."), ("invalid", "No way 2.")}
    assert rejected.choices.keys() == {"Invalid/way"}


def test_strategies_are_held_to_answers():
    for name, words in (("AskRaises", "nothing to propose"), ("DecideRaises", "undecided")):
        strategy = load_plugin("nas.strategies", f"{PLUGINS}/parts.py:{name}")(seed=0)
        with pytest.raises(PluginError, match=f"{name} must propose something. It raised ZeroDivisionError: {words}"):
            funnel("Small").propose(asked(strategy))


def test_settings_of_the_same_rule_are_laid_over_those_of_the_space():
    class Widened(spaces_of("Small")):
        def architecture(self, choose, task, *, points=4):
            made, own = super().architecture(choose, task, points=points), (("expansion", 1.5), ("gamma", 0.5))
            return replace(made, training=TrainingSpec(rule="stepping", settings=own))

    made = funnel("Small", training=training_of("stepping:beta=1,gamma=1"))
    made.spaces["Small"] = Widened()
    (proposal,) = (p for p in pool(made, 1) if isinstance(p, Proposal))
    expected = (("beta", 1), ("expansion", 1.5), ("gamma", 1))
    assert proposal.architecture.training == TrainingSpec(rule="stepping", settings=expected)


def test_a_training_rule_replaces_that_of_the_space():
    made = funnel("Small", training=training_of("joint"))
    proposal = made.propose(at_random(np.random.default_rng(0)))
    assert proposal.architecture.training.rule == "joint"
    other = funnel("Small").propose(replay(proposal.choices))
    assert other.key != proposal.key
    assert other.architecture.network_key == proposal.architecture.network_key


# The range of budgets ------------------------------------------------------------------------------------------------


def test_bounds_are_the_median_cheapest_and_the_largest_cost(monkeypatch):
    monkeypatch.setattr(funnels, "BOUNDS_SAMPLE", 101)
    made = funnel("Small", "Six")
    found = bounds(made, 7)
    assert found == bounds(funnel("Small", "Six"), 7)
    assert found != bounds(made, 8)
    assert set(found.notes) == {"Small", "Six"}
    assert found.low == max(found.notes.values())
    six = sorted(p.macs for p in pool(funnel("Six"), 100) if isinstance(p, Proposal))
    assert found.notes["Six"] in {costs[0] for costs in six}
    assert found.high >= max(costs[-1] for costs in six)


def test_given_bounds_are_kept(monkeypatch):
    monkeypatch.setattr(funnels, "BOUNDS_SAMPLE", 20)
    found = bounds(funnel("Small", constraints=Constraints(low=30_000, max_macs=900_000)), 0)
    assert found == Bounds(low=30_000, high=900_000, notes=found.notes)
    assert found.notes["Small"] <= 30_000


@pytest.mark.parametrize("constraints", [Constraints(max_macs=9), Constraints(max_params=9), Constraints(low=9)])
def test_the_nearest_cost_that_a_space_reaches_is_named(monkeypatch, constraints):
    monkeypatch.setattr(funnels, "BOUNDS_ATTEMPTS", 2000)
    with pytest.raises(Unsatisfiable) as told:
        bounds(funnel("Small", constraints=constraints), 0)
    numbers = [int(word.replace(",", "")) for word in str(told.value).split() if word.replace(",", "").isdigit()]
    found = [p for p in pool(funnel("Small"), 400) if isinstance(p, Proposal)]
    cheapest = min(p.macs[-1] for p in found)
    assert numbers == [cheapest, min(params(p.architecture)[-1] for p in found), min(p.macs[0] for p in found)]
    reachable = Constraints(max_macs=numbers[0], max_params=numbers[1], low=numbers[2])
    assert any(reachable.broken(p.architecture, p.macs) is None for p in found)


def test_one_of_several_spaces_that_fits_nothing_is_named(monkeypatch):
    monkeypatch.setattr(funnels, "BOUNDS_ATTEMPTS", 200)
    with pytest.raises(Unsatisfiable, match="space 'Invalid' must offer networks"):
        bounds(funnel("Small", "Invalid"), 0)
