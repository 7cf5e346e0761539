"""Regularised evolution: its contract, and that it mutates one choice of good parents among the newest trials."""

from __future__ import annotations

import numpy as np
import pytest

from nas.spaces.choices import Domains, Recorder
from nas.strategies.contract import Trial
from nas.strategies.evolution import Evolution
from nas.testing import strategy_checks

NAMES = tuple(f"layer {k}" for k in range(10))
OPTIONS = tuple(range(8))
DOMAINS = dict.fromkeys(NAMES, OPTIONS)


@pytest.mark.parametrize(("name", "check"), strategy_checks(Evolution))
def test_contract(name, check):
    check()


def trial(number, value):
    """A trial with random choices, far from those of other numbers."""
    answers = np.random.default_rng(number).integers(8, size=len(NAMES)).tolist()
    return Trial(choices=dict(zip(NAMES, answers)), domains=DOMAINS, value=value, generation=number)


def asked(strategy, count):
    """Choices of proposals."""
    proposals = []
    for _ in range(count):
        recorder = Recorder(strategy.ask(), Domains())
        proposals.append({name: recorder(name, OPTIONS) for name in NAMES})
    return proposals


def parents_of(proposals, trials):
    """For each proposal, the numbers of the trials that differ from it in one choice."""
    return [{t.generation for t in trials if sum(t.choices[name] != p[name] for name in NAMES) == 1} for p in proposals]


def test_proposals_are_random_until_there_is_a_population():
    trials = [trial(k, 0.5) for k in range(Evolution.population - 1)]
    assert asked(Evolution(seed=1, history=trials), 5) == asked(Evolution(seed=1), 5)


def test_each_proposal_changes_one_choice_of_a_trial():
    trials = [trial(k, k / 100) for k in range(Evolution.population)]
    assert all(parents_of(asked(Evolution(seed=0, history=trials), 50), trials))


def test_the_best_are_parents_and_the_oldest_are_not_even_if_they_are_better():
    """With 20 members and tournaments of 5, the worst four never win, and the best wins one in four."""
    old = [trial(k, 0.99) for k in range(10)]
    newest = [trial(100 + k, k / 100) for k in range(Evolution.population)]
    found = parents_of(asked(Evolution(seed=0, history=old + newest), 400), old + newest)
    counts = {t.generation: sum(t.generation in each for each in found) for t in old + newest}
    assert not any(counts[t.generation] for t in old)
    assert not any(counts[100 + k] for k in range(Evolution.tournament - 1))
    assert 60 <= counts[100 + Evolution.population - 1] <= 140


def test_history_is_a_set_and_telling_equals_rebuilding():
    trials = [trial(k, k / 100) for k in range(25)]
    told = Evolution(seed=3)
    for each in trials[::-1]:
        told.tell(each)
    assert asked(told, 10) == asked(Evolution(seed=3, history=trials), 10)
