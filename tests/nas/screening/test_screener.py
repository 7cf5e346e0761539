"""Proposals: the architecture that the choices build, checked, with its constraints and its training rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas.errors import PluginError
from nas.evaluation.rule import parse_rule
from nas.evaluation.training_rules import check_accepts, load_rule
from nas.plugins import load_plugin
from nas.proxies.contract import load_proxy
from nas.representation.architecture import macs, params
from nas.representation.elements import TrainingSpec
from nas.screening.constraints import Constraints
from nas.screening.proposals import Proposal, Rejected
from nas.screening.screener import BROKEN_AFTER, Screener
from nas.screening.strategy_calls import next_decisions
from nas.spaces.choices import Domains, Recorder, at_random, replay

from ..searching import PLUGINS
from .screeners import TASK, drawn, screener_over, space_class


def test_a_proposal_has_the_network_of_its_choices():
    screener = screener_over("Small", "Other")
    for proposal in drawn(screener, 30):
        if isinstance(proposal, Proposal):
            assert screener.propose(replay(proposal.choices)) == proposal
            own = {name.partition("/")[2]: value for name, value in proposal.choices.items() if "/" in name}
            built = screener.spaces[proposal.space].architecture(Recorder(replay(own), Domains()), TASK)
            assert built.key == proposal.key == proposal.architecture.key
            assert proposal.macs == macs(built)
            assert all(name.startswith(f"{proposal.space}/") for name in proposal.choices if name != "space")


@pytest.mark.parametrize(
    ("constraints", "words"),
    [
        (Constraints(max_macs=100_000), "above --max-macs 100,000."),
        (Constraints(low=20_000), "above the lowest budget 20,000 (--low)."),
        (Constraints(max_params=2_000), "above --max-params 2,000."),
    ],
)
def test_constraints_are_exact(constraints, words):
    free, bound = screener_over("Small"), screener_over("Small", constraints=constraints)
    decide = at_random(np.random.default_rng(0))
    feasible = 0
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
        feasible += fits
        if not fits:
            assert again.status == "infeasible"
            assert again.reason.endswith(words)
    assert 0 < feasible < 100


def test_failures_carry_their_traceback_and_end_nothing_once_the_space_has_worked():
    screener = screener_over("RaisesSometimes")
    results = [screener.propose(at_random(np.random.default_rng(seed))) for seed in range(60)]
    failed = [p for p in results if isinstance(p, Rejected)]
    assert 5 < len(failed) < 40
    assert {p.status for p in failed} == {"failed"}
    assert all("KeyError" in p.traceback and p.reason == "KeyError: 'kernel 3'" for p in failed)
    always = replay({"RaisesSometimes/kernel 0": 3})
    assert all(screener.propose(always).status == "failed" for _ in range(3 * BROKEN_AFTER))


def test_a_space_that_never_works_is_given_up():
    screener = screener_over("Raises")
    decide = at_random(np.random.default_rng(0))
    for _ in range(BROKEN_AFTER - 1):
        assert screener.propose(decide).reason == "ZeroDivisionError: no network today"
    with pytest.raises(PluginError, match="space 'Raises' failed on 20 proposals"):
        screener.propose(decide)


def test_a_proxy_that_never_works_is_given_up():
    screener = screener_over("Small", proxy=f"{PLUGINS}/parts.py:raises")
    decide = at_random(np.random.default_rng(0))
    for _ in range(BROKEN_AFTER - 1):
        assert "no score" in screener.propose(decide).reason
    with pytest.raises(PluginError, match=r"parts\.py:raises' failed on 20 proposals"):
        screener.propose(decide)


def test_an_object_that_is_no_network_is_invalid():
    rejected = screener_over("Invalid").propose(at_random(np.random.default_rng(0)))
    assert (rejected.status, rejected.reason) in {("invalid", "No way 1."), ("invalid", "No way 2.")}
    assert rejected.choices.keys() == {"Invalid/way"}


def test_strategies_are_held_to_answers():
    for name, words in (("AskRaises", "nothing to propose"), ("DecideRaises", "undecided")):
        strategy = load_plugin("nas.strategies", f"{PLUGINS}/parts.py:{name}")(seed=0)
        with pytest.raises(PluginError, match=f"{name} must propose something. It raised ZeroDivisionError: {words}"):
            screener_over("Small").propose(next_decisions(strategy))


def test_settings_of_the_same_rule_override_the_space():
    class Widened(space_class("Small")):
        def architecture(self, choose, task, *, points=4):
            architecture, own = super().architecture(choose, task, points=points), (("sampled", 2), ("soft", True))
            return replace(architecture, training=TrainingSpec(rule="sandwich", settings=own))

    screener = screener_over("Small", training=parse_rule("sandwich:sampled=3"))
    screener.spaces["Small"] = Widened()
    (proposal,) = (p for p in drawn(screener, 1) if isinstance(p, Proposal))
    expected = (("sampled", 3), ("soft", True))
    assert proposal.architecture.training == TrainingSpec(rule="sandwich", settings=expected)


@pytest.mark.parametrize(
    ("space", "rule", "words"),
    [
        ("slicing", "causal:distill=1", "Results cannot be reused: feature map"),
        ("slicing", "uniform_sampling", "Sampled subnetworks need norms that are 'shared' or 'recalibrated'"),
    ],
)
def test_a_rule_rejects_the_architectures_that_it_does_not_accept(space, rule, words):
    screener = Screener(
        {space: load_plugin("nas.search_spaces", space)()},
        TASK,
        proxy=("count", load_proxy("count")),
        training=parse_rule(rule),
    )
    decide = at_random(np.random.default_rng(0))
    proposals = [screener.propose(decide) for _ in range(40)]
    rejected = [p for p in proposals if isinstance(p, Rejected)]
    assert 5 < len(rejected) < 35
    for proposal in proposals:
        if isinstance(proposal, Rejected):
            assert proposal.status == "infeasible"
            assert words in proposal.reason
        else:
            check_accepts(load_rule(proposal.architecture.training), proposal.architecture)


def test_a_training_rule_replaces_the_rule_of_the_space():
    screener = screener_over("Small", training=parse_rule("joint"))
    proposal = screener.propose(at_random(np.random.default_rng(0)))
    assert proposal.architecture.training.rule == "joint"
    other = screener_over("Small").propose(replay(proposal.choices))
    assert other.key != proposal.key
    assert other.architecture.network_key == proposal.architecture.network_key
