"""The proxy's share: from comparisons to a probability, in closed form and in the cases that matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.audit.reliance import FADING, WINS, Reliance, chosen_by_proxy, decide

ACCURACIES = st.lists(st.integers(0, 9).map(lambda k: k / 10), max_size=6)
GENERATIONS = st.lists(st.tuples(ACCURACIES, ACCURACIES), max_size=6)

BETTER, WORSE = [0.8, 0.8, 0.8, 0.8], [0.6, 0.6, 0.6, 0.6]


def test_the_prior_without_a_comparison():
    for generations in ([], [([], [0.5])], [([0.5], []), ([], [])]):
        assert decide(generations, 9).share == pytest.approx(1 - WINS)
    assert decide([], 9).reason == "no comparison yet"


def test_one_generation_in_closed_form():
    """The uniform prior becomes Beta(5, 1) by four wins, with distribution function p⁵, and Beta(1, 5) by losses."""
    assert decide([(BETTER, WORSE)], 8).share == pytest.approx(1 - WINS**5)
    assert decide([(WORSE, BETTER)], 8).share == pytest.approx((1 - WINS) ** 5)


def test_a_proxy_that_is_no_better_loses_its_share():
    shares = [decide([(BETTER, BETTER)] * count, 8 * count).share for count in (0, 1, 3, 10)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.25


def test_the_smaller_group_counts():
    assert decide([([0.8], [0.6] * 7)], 8).share == pytest.approx(1 - WINS**2)


def test_older_comparisons_fade_with_every_candidate():
    """A generation without comparison makes old ones count less: two candidates, then 100 of one group."""
    once = decide([(BETTER, WORSE)], 8).share
    wins = 4 * FADING**100
    later = decide([(BETTER, WORSE), ([], [0.5] * 100)], 108).share
    assert later == pytest.approx(1 - WINS ** (1 + wins))
    assert 1 - WINS < later < once


def test_small_generations_are_compared_together():
    """Eight generations of one candidate are one comparison of four with four."""
    singles = [([0.8], []) if k % 2 else ([], [0.6]) for k in range(8)]
    assert decide(singles, 8).share == pytest.approx(1 - WINS**5)


@given(GENERATIONS)
@settings(max_examples=100, deadline=None)
def test_a_better_candidate_of_the_proxy_never_lowers_its_share(generations):
    share = decide(generations, 0).share
    assert 0 <= share <= 1
    better = [([accuracy + 0.05 for accuracy in ordered], own) for ordered, own in generations]
    assert decide(better, 0).share >= share - 1e-12


@given(GENERATIONS)
@settings(max_examples=60, deadline=None)
def test_only_the_order_of_accuracies_matters(generations):
    changed = [tuple([np.exp(3 * value) for value in group] for group in groups) for groups in generations]
    assert decide(changed, 0) == decide(generations, 0)


def test_the_reason_has_the_numbers():
    decision = decide([(BETTER, WORSE), ([0.7], [0.9, 0.5])], 11)
    assert decision.reason == (
        "its candidates won 89% of the newest comparisons with the strategy's own; 5 and 6 candidates"
    )
    assert decision.trained == 11


def test_the_proxy_chose_what_was_written_down():
    decisions = {3: Reliance(share=0.5, trained=20, reason="", ordered=(0, 2), own=(1,))}
    assert [chosen_by_proxy(decisions, 3, position) for position in range(4)] == [True, False, True, False]
    assert chosen_by_proxy(decisions, 4, 0)  # of a study that made no decisions
