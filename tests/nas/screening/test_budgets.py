"""The range of budgets: medians of random proposals, or the settings; messages name the nearest costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas.errors import Unsatisfiable
from nas.representation.architecture import params
from nas.screening import budgets
from nas.screening.budgets import budget_range
from nas.screening.constraints import Constraints
from nas.screening.proposals import Proposal
from nas.screening.rule import parse_rule

from .screeners import drawn, screener_over


def test_bounds_are_the_median_cheapest_and_the_largest_cost(monkeypatch):
    monkeypatch.setattr(budgets, "SAMPLE", 101)
    screener = screener_over("Small", "Six")
    bounds = budget_range(screener, 7)
    assert bounds == budget_range(screener_over("Small", "Six"), 7)
    assert bounds != budget_range(screener, 8)
    assert set(bounds.medians) == {"Small", "Six"}
    assert bounds.low == max(bounds.medians.values())
    six = sorted(p.macs for p in drawn(screener_over("Six"), 100) if isinstance(p, Proposal))
    assert bounds.medians["Six"] in {costs[0] for costs in six}
    assert bounds.high >= max(costs[-1] for costs in six)


def test_bounds_of_the_constraints_are_used(monkeypatch):
    monkeypatch.setattr(budgets, "SAMPLE", 20)
    bounds = budget_range(screener_over("Small", constraints=Constraints(low=30_000, max_macs=900_000)), 0)
    assert bounds == replace(bounds, low=30_000, high=900_000)
    assert bounds.medians["Small"] <= 30_000


@pytest.mark.parametrize("constraints", [Constraints(max_macs=9), Constraints(max_params=9), Constraints(low=9)])
def test_the_nearest_cost_that_a_space_reaches_is_named(monkeypatch, constraints):
    monkeypatch.setattr(budgets, "ATTEMPTS", 2000)
    with pytest.raises(Unsatisfiable) as error:
        budget_range(screener_over("Small", constraints=constraints), 0)
    numbers = [int(word.replace(",", "")) for word in str(error.value).split() if word.replace(",", "").isdigit()]
    proposals = [p for p in drawn(screener_over("Small"), 400) if isinstance(p, Proposal)]
    cheapest = min(p.macs[-1] for p in proposals)
    assert numbers == [cheapest, min(params(p.architecture)[-1] for p in proposals), min(p.macs[0] for p in proposals)]
    reachable = Constraints(max_macs=numbers[0], max_params=numbers[1], low=numbers[2])
    assert any(reachable.violation(p.architecture, p.macs) is None for p in proposals)


def test_a_rule_that_accepts_nothing_is_named(monkeypatch):
    monkeypatch.setattr(budgets, "ATTEMPTS", 40)
    for rule, words in (("random_utilization", "gated modules"), ("causal", "Results cannot be reused")):
        with pytest.raises(Unsatisfiable, match=f"Got none; the last proposal: The training rule .*{words}"):
            budget_range(screener_over("Small", training=parse_rule(rule)), 0)


def test_one_of_several_spaces_that_fits_nothing_is_named(monkeypatch):
    monkeypatch.setattr(budgets, "ATTEMPTS", 200)
    with pytest.raises(Unsatisfiable, match="space 'Invalid' must offer networks"):
        budget_range(screener_over("Small", "Invalid"), 0)
