"""Outcomes of evaluators: the worker accepts only outcomes that the store can hold."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from nas.plugins import load_plugin
from nas.workers.outcome_checks import checked_outcome

from ..searching import toy

chosen = load_plugin("nas.evaluators", toy("chosen"))
"""Whether the evaluators of tests/plugins/toy.py misbehave on a job."""


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        ("WrongLevels", r"points must be of the levels 0 to 3, in order. Got levels \[0, 0, 0, 0\]"),
        ("Missing", r"missing \['accuracy'\]"),
        ("Unknown", r"unknown \['sunshine'\]"),
        ("Text", "accuracy must be a number. Got good"),
        ("Percent", "accuracy must be a fraction between 0 and 1"),
        ("NegativeMacs", "macs and params must be whole and positive. Got -5"),
        ("NotJson", "accuracy must be a number"),
        ("NotPoints", "points must be a list of dicts. Got 42"),
        ("NoTest", r"missing \['test_accuracy'\]"),
        ("NoEnergy", r"must have .*test_accuracy, energy_mj, .*missing \['energy_mj'\]"),
        ("NegativeShare", "idle must be a fraction between 0 and 1. Got -1"),
    ],
)
def test_outcomes_are_held_to_their_contract(jobs, evaluator, message):
    job = next(job for job in jobs if chosen(job))
    made = load_plugin("nas.evaluators", toy(evaluator))("nothing")
    made.write = lambda path, known: None  # some of these outcomes are not JSON
    with pytest.raises((TypeError, ValueError), match=message):
        checked_outcome(job, made.outcome(job, "0123456789"), made.measures)


@pytest.mark.parametrize(
    "change", [{"epochs": 1.5}, {"images": None}, {"seconds": "long"}, {"seconds": -1.0}, {"seconds": math.nan}]
)
def test_outcomes_have_costs(jobs, change):
    made = load_plugin("nas.evaluators", toy())("nothing")
    good = made.outcome(jobs[0], "0123456789")
    assert checked_outcome(jobs[0], good, made.measures) is good
    with pytest.raises(ValueError, match="whole epochs and images, and seconds"):
        checked_outcome(jobs[0], replace(good, **change), made.measures)


def test_a_realised_architecture_must_be_of_the_same_task(jobs):
    made = load_plugin("nas.evaluators", toy())("nothing")
    good = made.outcome(jobs[0], "0123456789")
    other = replace(jobs[0].parsed_architecture, points=jobs[0].parsed_architecture.points[-1:])
    with pytest.raises(ValueError, match="same 4 points"):
        checked_outcome(jobs[0], replace(good, realised=other.to_json()), made.measures)
