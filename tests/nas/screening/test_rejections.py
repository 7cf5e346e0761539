"""Counts of rejected proposals, and the reason that rejects most of them."""

from __future__ import annotations

import json

import pytest

from nas.screening.constraints import Constraints
from nas.screening.proposals import Proposal, Rejected
from nas.screening.rejections import FEW, REMEMBERED, RejectionCounter, RejectionCounts

from ..searching import search
from .screeners import drawn, screener_over


def rejected(reason, count):
    return [Rejected(space="s", choices={}, status="infeasible", reason=reason.format(k=k)) for k in range(count)]


def counted(proposals, earlier=None):
    counter = RejectionCounter(earlier)
    for proposal in proposals:
        counter.add(proposal)
    return counter.counts


def test_reasons_that_differ_in_numbers_and_keys_are_one():
    reasons = [*rejected("The smallest point has {k},000 MACs.", 10), *rejected("Proxy failed on 0123456789a{k}.", 1)]
    feasible = next(p for p in drawn(screener_over("Small"), 4) if isinstance(p, Proposal))
    counts = counted(reasons)
    assert counts.majority() == (
        "10 of 11 proposals were rejected for one reason, the last: The smallest point has 9,000 MACs."
    )
    assert counted([feasible], counts).majority() is None
    assert RejectionCounts.from_json(json.loads(json.dumps(counts.to_json()))) == counts


def test_few_proposals_have_no_majority_and_rare_reasons_are_not_kept():
    assert counted(rejected("No.", FEW - 1)).majority() is None
    assert counted(rejected("No.", FEW)).majority() is not None
    many = [Rejected(space="s", choices={}, status="invalid", reason="x" * k) for k in range(2 * REMEMBERED)]
    assert len(counted(many).reasons) == REMEMBERED


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"points": 1, "low": 6e4, "max_macs": 1e9}, "(--low)."),
        ({"max_params": 1_500, "low": 1e8, "max_macs": 1e9}, "above --max-params 1,500."),
    ],
)
@pytest.mark.usefixtures("in_process")
def test_a_search_that_loses_most_proposals_to_one_reason_says_so(store, settings, words):
    study = search(store, **{"train": 3, "pool": 40, **settings})
    row = study.store.studies().iloc[0]
    assert "proposals were rejected for one reason, the last: The" in row.reason
    assert row.reason.endswith(words)
    reasons = study.candidates().reason[study.candidates().status == "infeasible"]
    assert sum(count for count, _ in study.state.rejections.reasons.values()) == len(reasons)


def test_constraints_that_most_proposals_keep_are_no_majority():
    counts = counted(drawn(screener_over("Small", constraints=Constraints(max_macs=10**9)), 50))
    assert counts == RejectionCounts(proposals=50)
    assert counts.majority() is None
