"""The state of a study: plain JSON in the store, readable from every version."""

from __future__ import annotations

import json

import pytest

from nas.audit.reliance import Reliance, chosen_by_proxy
from nas.evaluation.jobs import Stage
from nas.funnel.full.plan import FinalsPlan
from nas.funnel.state import StudyState

COMPLETE = {
    "seconds": 12.5,
    "domains": {"Small/width": [16, 32], "Small/norm": [None, "batch"]},
    "screening": 1.25,
    "reliance": {
        "0": {"share": 0.5, "trained": 0, "reason": "no comparison yet", "ordered": [0, 2], "own": [1, 3]},
        "1": {"share": 0.25, "trained": 20, "reason": "numbers", "ordered": [], "own": [0]},
    },
    "rejections": {"proposals": 30, "reasons": {"MACs": [20, "too many MACs"]}},
    "generations": 2,
    "slowest_epoch": 1e-09,
    "finals": {
        "generations": 2,
        "candidates": [7, 3],
        "stages": [[2, 80, 0.0, 0.5], [4, None, 0.5, 1.0]],
        "fitted": True,
        "continues": True,
        "reason": "because",
    },
}


@pytest.mark.parametrize(
    "names",
    [
        ("seconds", "domains"),
        ("seconds", "domains", "screening", "reliance"),
        ("seconds", "domains", "screening", "reliance", "generations"),
        ("seconds", "domains", "screening", "reliance", "rejections", "generations", "slowest_epoch"),
        tuple(COMPLETE),
    ],
)
def test_the_json_of_a_state_is_read_and_written_as_it_is(names):
    stored = json.dumps({name: COMPLETE[name] for name in names})
    assert json.dumps(StudyState.from_json(json.loads(stored)).to_json()) == stored


def test_fields_of_a_state_are_typed():
    state = StudyState.from_json(COMPLETE)
    assert state.reliance[1] == Reliance(share=0.25, trained=20, reason="numbers", own=(0,))
    stages = Stage(2, 80, 0.0, 0.5), Stage(4, None, 0.5, 1.0)
    assert state.finals == FinalsPlan(generations=2, candidates=(7, 3), stages=stages, fitted=True, reason="because")
    assert (state.generations, state.seconds, state.screening) == (2, 12.5, 1.25)


def test_plans_of_earlier_versions_are_read():
    plan = FinalsPlan.from_json({"generations": 2, "epochs": 5, "candidates": [7, 3]})
    assert (plan.candidates, plan.epochs, plan.fitted) == ((7, 3), 5, True)


def test_decisions_of_earlier_versions_are_read():
    stored = {
        "reliance": {
            "0": {"relied": True, "trained": 0, "reason": "few"},
            "1": {"relied": False, "trained": 20, "reason": "τ 0.10"},
        }
    }
    decisions = StudyState.from_json(stored).reliance
    assert decisions[1] == Reliance(share=0.0, trained=20, reason="τ 0.10")
    assert [chosen_by_proxy(decisions, generation, 3) for generation in (0, 1, 2)] == [True, False, True]


def test_a_new_study_has_the_initial_state():
    assert StudyState.from_json({}) == StudyState()
