"""Who is trained in full, and for how long: against brute force, and within its time."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.evaluation.jobs import Stage, images_seen
from nas.funnel.full.finals import choose_finalists
from nas.funnel.full.plan import FinalsPlan, halves, images_within, second_half
from nas.funnel.records import Curve
from results.front import Score

SCORE = Score(low=10, high=1000, floor=0.1)
SECONDS = st.lists(st.floats(1e-5, 1.0), min_size=1, max_size=6)


@st.composite
def curves(draw, least=1, most=6):
    """Candidates with two to four points and different keys."""
    candidates = []
    for number in range(draw(st.integers(least, most))):
        macs = sorted(draw(st.lists(st.integers(5, 1500), min_size=2, max_size=4, unique=True)))
        accuracy = [draw(st.integers(0, 20)) / 20 for _ in macs]
        candidates.append(
            Curve(
                candidate=number,
                key=f"{number:04x}",
                macs=tuple(macs),
                accuracy=tuple(accuracy),
                images=100,
            )
        )
    return candidates


def union(chosen):
    """The anytime accuracy of always taking the best that the budget allows."""
    return SCORE([m for c in chosen for m in c.macs], [a for c in chosen for a in c.accuracy])


@given(curves(), st.integers(1, 8), st.randoms())
def test_finalists_are_chosen_greedily_in_any_order(candidates, count, rng):
    chosen = choose_finalists(candidates, SCORE, count)
    assert len(chosen) == min(count, len(candidates))
    assert len({c.candidate for c in chosen}) == len(chosen)
    for place, c in enumerate(chosen):
        rivals = [r for r in candidates if r not in chosen[:place]]
        assert union([*chosen[:place], c]) == pytest.approx(max(union([*chosen[:place], r]) for r in rivals), abs=1e-12)
    shuffled = list(candidates)
    rng.shuffle(shuffled)
    assert choose_finalists(shuffled, SCORE, count) == chosen


@given(curves(least=2))
def test_greedy_is_near_the_best_pair(candidates):
    """The score of a union is submodular: greedy choice reaches at least 1 - 1/e of the optimum."""
    best = max(union(pair) for pair in combinations(candidates, 2)) - 0.1
    assert union(choose_finalists(candidates, SCORE, 2)) - 0.1 >= (1 - 1 / 2.718281828) * best - 1e-9


def test_the_best_comes_first_and_ties_go_by_key():
    a, b = (Curve(candidate=n, key=k, macs=(20,), accuracy=(0.5,), images=1) for n, k in ((0, "b"), (1, "a")))
    assert [c.key for c in choose_finalists([a, b], SCORE, 2)] == ["a", "b"]
    assert choose_finalists([], SCORE, 3) == []


def test_candidates_without_gain_within_the_budgets_are_chosen_by_hypervolume():
    """Both rivals add nothing above low; one is good below it, and the front of all points sees that."""

    def curve(key, macs, accuracy):
        return Curve(candidate=int(key), key=key, macs=macs, accuracy=accuracy, images=1)

    best = curve("1", (8, 100), (0.3, 0.9))
    dull, thrifty = curve("2", (9, 500), (0.3, 0.8)), curve("3", (2, 500), (0.3, 0.7))
    assert choose_finalists([dull, thrifty, best], SCORE, 2) == [best, thrifty]


@given(SECONDS, st.floats(1e-3, 1e5), st.integers(1, 4), st.integers(1, 3), st.floats(0, 1000))
def test_planned_final_trainings_fit_into_the_time(costs, seconds, workers, repeats, extra):
    """The longest first, each to the worker that is free first: all end in time, and the last just in time."""
    images = images_within(costs, seconds=seconds, workers=workers, repeats=repeats, extra=extra)
    free = [0.0] * workers
    for cost in sorted(costs * repeats, reverse=True):
        free[free.index(min(free))] += cost * (images + extra)
    if images:
        assert max(free) == pytest.approx(seconds)
    else:
        assert max(free) >= seconds * (1 - 1e-9)


def test_unknown_costs_allow_any_number_of_images():
    assert images_within([0.1, math.nan], seconds=10, workers=1, repeats=1) == math.inf


@given(st.floats(0, 1e6), st.integers(300, 60_000), st.integers(0, 25))
def test_full_training_is_half_warm_and_sees_the_planned_images(images, count, partial_epochs):
    first, second = halves(images, count)
    assert (first.start, first.stop, second.start, second.stop) == (0, 0.5, 0.5, 1)
    assert second.end == 2 * first.end
    seen = images_seen([first, second], second.end, count)
    assert min(images, count * (images // count)) - second.end - 512 <= seen
    assert seen <= max(images, 512) + count * 1e-6 + 1
    again = second_half(first, images / 2, count)
    assert again == second
    plan = FinalsPlan(generations=1, candidates=(1,), stages=(first, second))
    assert plan.marks()[-1] == plan.epochs == second.end
    assert first.end in plan.marks()
    partial = [Stage(partial_epochs, 100)] if partial_epochs else []
    stages = plan.after(partial)
    assert stages[-1].end == partial_epochs + plan.epochs
    assert FinalsPlan.from_json(json.loads(json.dumps(asdict(plan)))) == plan
