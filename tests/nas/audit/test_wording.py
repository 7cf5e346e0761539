"""The audit in words: one line each for the proxy and for ranked against random."""

from __future__ import annotations

import math

import pytest

from nas.audit.audit import AuditRow
from nas.audit.reliance import Reliance
from nas.audit.savings import candidates_saved, control_comparison
from nas.audit.wording import audit_summary, number, reliance_line, savings_text, span


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


def test_audit_summary():
    rows = [row(), row(proxy="macs", tau=0.37), row(proxy="depth", tau=math.nan)]
    text = audit_summary(rows, control_comparison([0.7, 0.72, 0.74] * 6, [0.6, 0.61, 0.62]))
    assert text.splitlines() == [
        "Proxy dtmc: earned its keep (τ 0.41 [0.30, 0.50]; size removed 0.20 [0.10, 0.30]; n = 90); "
        "raw τ of macs 0.37, depth undefined.",
        "Ranked against random: +11.0 points [9.1, 12.9] (18 ranked, 3 random).",
    ]


@pytest.mark.parametrize(
    ("rows", "accuracies", "words"),
    [
        ([], ([0.5], []), ["not audited", "not compared (1 ranked, 0 random)"]),
        ([row(verdict="undecided")], ([0.5, 0.6] * 9, [0.5, 0.7]), ["undecided", "no clear difference"]),
        ([row(verdict="worthless", tau_size_removed=math.nan)], ([0.5], [0.4]), ["beyond size", "too few candidates"]),
    ],
)
def test_the_summary_always_has_audit_summary(rows, accuracies, words):
    lines = audit_summary(rows, control_comparison(*accuracies)).splitlines()
    assert len(lines) == 2
    assert all(word in line for word, line in zip(words, lines))


def test_few_candidates_are_reported_without_intervals():
    few = row(n=12, tau_low=math.nan, tau_high=math.nan)
    first, second = audit_summary([few], control_comparison([0.5, 0.6], [0.5])).splitlines()
    assert first == "Proxy dtmc: too few candidates (τ 0.41; n = 12, at least 20 are needed)."
    assert second == "Ranked against random: too few candidates (2 ranked, 1 random)."


@pytest.mark.parametrize(
    ("ranked", "controls", "text"),
    [
        (range(30), range(3), "candidates saved: unknown (30 ranked, 3 random; at least 5 of each are needed)"),
        (range(10, 50), range(8), "candidates saved: 131 at least"),
        ([0.5] * 20, [0.5] * 10, "candidates saved: 0 [-11, 28]"),
    ],
)
def test_candidates_saved(ranked, controls, text):
    savings = candidates_saved(list(ranked), list(controls))
    assert savings_text(savings) == text
    assert audit_summary([], control_comparison(list(ranked), list(controls)), savings).endswith(f"; {text}.")


def test_nothing_is_minus_zero():
    assert (number(-0.001), number(-0.4, 0), number(1234.5, 0)) == ("0.00", "0", "1,234")
    assert span(-45.2, -0.3, 0) == " [-45, 0]"


def test_the_share_of_the_newest_generation_is_named_with_its_reason():
    shares = {0: 0.5, 10: 0.034, 3: 1.0}
    decisions = {g: Reliance(share=share, trained=27, reason="numbers") for g, share in shares.items()}
    assert reliance_line("dtmc", {}) == ""
    assert reliance_line("dtmc", decisions) == "dtmc chose 3% of the candidates of generation 11: numbers."
