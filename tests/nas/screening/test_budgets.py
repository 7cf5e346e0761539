"""The range of budgets: from references, random proposals or the settings; messages name the nearest costs."""

from __future__ import annotations

import pytest

from nas.errors import Unsatisfiable
from nas.evaluation.rule import parse_rule
from nas.proxies.contract import load_proxy
from nas.representation.architecture import params
from nas.representation.builder import Builder
from nas.screening import budgets
from nas.screening.budgets import Budget, budget_range
from nas.screening.constraints import Constraints
from nas.screening.proposals import Proposal
from nas.screening.screener import Screener
from nas.spaces.references import Reference

from .screeners import TASK, drawn, screener_over


def test_spaces_without_references_use_the_median_cheapest_and_the_largest_cost(monkeypatch):
    monkeypatch.setattr(budgets, "SAMPLE", 202)
    screener = screener_over("Small", "Six")
    bounds = budget_range(screener, 7)
    assert bounds == budget_range(screener_over("Small", "Six"), 7)
    assert bounds != budget_range(screener, 8)
    monkeypatch.setattr(budgets, "SAMPLE", 101)
    alone = {name: budget_range(screener_over(name), 7).low for name in ("Small", "Six")}
    assert bounds.low == max(alone.values(), key=lambda low: low.macs)
    assert bounds.low.origin == "the median smallest point of random proposals of Small"
    six = sorted(p.macs for p in drawn(screener_over("Six"), 100) if isinstance(p, Proposal))
    assert alone["Six"].macs in {costs[0] for costs in six}
    assert bounds.high.macs >= max(costs[-1] for costs in six)


def test_bounds_of_the_constraints_are_used(monkeypatch):
    monkeypatch.setattr(budgets, "SAMPLE", 20)
    bounds = budget_range(screener_over("Small", constraints=Constraints(low=30_000, max_macs=900_000)), 0)
    assert (bounds.low, bounds.high) == (
        Budget(macs=30_000, origin="--low"),
        Budget(macs=900_000, origin="--max-macs"),
    )


def referring(widths, **settings):
    """A screener over one space, whose designs have these widths; a network of width w has about w² MACs."""
    return Screener({"Referring": Referring(widths)}, TASK, proxy=("count", load_proxy("count")), **settings)


class Referring:
    """Networks of one width, and references by design."""

    def __init__(self, widths):
        self._widths = widths

    def architecture(self, choose, task, *, points=4):
        width = choose("width", tuple(range(8, 801, 8)))
        builder = Builder(task)
        x = builder.conv(builder.input, tuple(width * (k + 1) // points for k in range(points)), kernel=1)
        builder.head(x)
        return builder.architecture(points)

    def references(self, task, max_macs, *, points=4):
        found = []
        for design, widths in self._widths.items():
            for width in widths:
                largest = self.architecture(lambda name, options, w=width: w, task, points=points).costs[-1]
                if largest <= max_macs:
                    found.append(
                        Reference(design=design, size=f"width {width}", origin="here", choices={"width": width})
                    )
        return found


def costs_of(width):
    """MACs of the points of a network of this width."""
    return Referring({}).architecture(lambda name, options: width, TASK).costs


def test_references_give_the_range():
    """low: the lower quartile of the smallest points; high: the median over the designs of the largest."""
    bounds = budget_range(referring({"a": (80, 160, 240, 320), "b": (200, 400), "odd": (800,)}), 0)
    assert bounds.high == Budget(macs=costs_of(400)[-1], origin="the largest point of b, width 400 (Referring)")
    assert bounds.low == Budget(macs=costs_of(160)[0], origin="the smallest point of a, width 160 (Referring)")


def test_references_above_the_limit_do_not_count():
    screener = referring({"a": (80, 160, 240, 320)}, constraints=Constraints(max_macs=costs_of(160)[-1]))
    bounds = budget_range(screener, 0)
    assert (bounds.low.macs, bounds.high.macs) == (costs_of(80)[0], costs_of(160)[-1])


def test_references_that_are_smaller_than_nearly_all_proposals_give_way_to_these():
    bounds = budget_range(referring({"a": (8, 160)}), 0)
    assert bounds.low.origin == "the lower quartile of the smallest points of random proposals"
    assert costs_of(8)[0] < bounds.low.macs < costs_of(160)[0]


def test_a_larger_low_raises_the_range():
    bounds = budget_range(referring({"a": (80, 160)}, constraints=Constraints(low=costs_of(160)[-1])), 0)
    assert bounds.high.origin == "the largest random proposal"


def test_one_reference_of_one_point_gives_no_empty_range():
    bounds = budget_range(referring({"a": (160,)}, points=1), 0)
    assert bounds.low.macs < bounds.high.macs


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
