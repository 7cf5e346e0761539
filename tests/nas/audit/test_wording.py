"""The audit in words: one line each, whatever is known."""

from __future__ import annotations

import math

import pytest

from nas.audit.savings import candidates_saved
from nas.audit.statistics import AuditRow, control_comparison
from nas.audit.wording import number, reliance_changes, reliance_line, saved, span, two_lines


def row(**changes):
    plain = {
        "proxy": "dtmc",
        "n": 90,
        "references": 1000,
        "tau": 0.41,
        "tau_low": 0.3,
        "tau_high": 0.5,
        "tau_size_removed": 0.2,
        "size_removed_low": 0.1,
        "size_removed_high": 0.3,
        "tau_within_bins": 0.25,
        "behind": None,
        "verdict": "earned",
    }
    return AuditRow(**(plain | changes))


def test_two_lines():
    rows = [row(), row(proxy="macs", tau=0.37), row(proxy="depth", tau=math.nan)]
    text = two_lines(rows, control_comparison([0.7, 0.72, 0.74] * 6, [0.6, 0.61, 0.62]))
    assert text.splitlines() == [
        "Proxy dtmc: earned its keep (τ 0.41 [0.30, 0.50]; size removed 0.20 [0.10, 0.30]; n = 90); "
        "raw τ of macs 0.37, depth undefined.",
        "Ranked against random: +11.0 points [9.1, 12.9] (18 ranked, 3 random).",
    ]


@pytest.mark.parametrize(
    ("rows", "accuracies", "told"),
    [
        ([], ([0.5], []), ["not audited", "not compared (1 ranked, 0 random)"]),
        ([row(verdict="undecided")], ([0.5, 0.6] * 9, [0.5, 0.7]), ["undecided", "not told apart"]),
        ([row(verdict="worthless", tau_size_removed=math.nan)], ([0.5], [0.4]), ["beyond size", "too few to tell"]),
    ],
)
def test_two_lines_are_two_whatever_is_known(rows, accuracies, told):
    lines = two_lines(rows, control_comparison(*accuracies)).splitlines()
    assert len(lines) == 2
    assert all(words in line for words, line in zip(told, lines))


def test_few_candidates_are_told_without_intervals():
    few = row(n=12, tau_low=math.nan, tau_high=math.nan)
    first, second = two_lines([few], control_comparison([0.5, 0.6], [0.5])).splitlines()
    assert first == "Proxy dtmc: too few candidates to tell (τ 0.41; n = 12, at least 20 are needed)."
    assert second == "Ranked against random: too few to tell (2 ranked, 1 random)."


@pytest.mark.parametrize(
    ("ranked", "controls", "told"),
    [
        (range(30), range(3), "candidates saved: cannot be told from 30 ranked and 3 random ones"),
        (range(10, 50), range(8), "candidates saved: 131 at least"),
        ([0.5] * 20, [0.5] * 10, "candidates saved: 0 [-11, 28]"),
    ],
)
def test_candidates_saved(ranked, controls, told):
    found = candidates_saved(list(ranked), list(controls))
    assert saved(found) == told
    assert two_lines([], control_comparison(list(ranked), list(controls)), found).endswith(f"; {told}.")


def test_nothing_is_minus_zero():
    assert (number(-0.001), number(-0.4, 0), number(1234.5, 0)) == ("0.00", "0", "1,234")
    assert span(-45.2, -0.3, 0) == " [-45, 0]"


def decision(relied):
    return {"relied": relied, "trained": 27, "reason": "numbers"}


def test_changes_of_reliance():
    """Keys come back from JSON as text, in any order."""
    decisions = {str(g): decision(relied) for g, relied in ((10, True), (0, True), (3, False), (4, False), (11, False))}
    assert [(generation, about["relied"]) for generation, about in reliance_changes(decisions)] == [
        (3, False),
        (10, True),
        (11, False),
    ]
    assert reliance_line("dtmc", {}) == reliance_line("dtmc", {"0": decision(True)}) == ""
    assert reliance_line("dtmc", {"3": decision(False)}) == (
        "From generation 4 on, the order was the strategy's own: dtmc did not beat size (numbers)."
    )
    assert reliance_line("dtmc", {"3": decision(False), "5": decision(True)}) == (
        "From generation 6 on, the order was by dtmc again (numbers). This changed 2 times."
    )
