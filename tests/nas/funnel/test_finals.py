"""Who is trained in full, and for how long: against brute force, and within its time."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.funnel.finals import choose_finalists, epochs_within
from nas.funnel.records import Curve
from results.front import Score

SCORE = Score(low=10, high=1000, floor=0.1)
SECONDS = st.floats(1e-5, 1.0)


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
                seconds_per_image=draw(SECONDS),
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
    a, b = (
        Curve(candidate=n, key=k, macs=(20,), accuracy=(0.5,), seconds_per_image=1) for n, k in ((0, "b"), (1, "a"))
    )
    assert [c.key for c in choose_finalists([a, b], SCORE, 2)] == ["a", "b"]
    assert choose_finalists([], SCORE, 3) == []


def test_candidates_without_gain_within_the_budgets_are_chosen_by_hypervolume():
    """Both rivals add nothing above low; one is good below it, and the front of all points sees that."""

    def curve(key, macs, accuracy):
        return Curve(candidate=int(key), key=key, macs=macs, accuracy=accuracy, seconds_per_image=1)

    best = curve("1", (8, 100), (0.3, 0.9))
    dull, thrifty = curve("2", (9, 500), (0.3, 0.8)), curve("3", (2, 500), (0.3, 0.7))
    assert choose_finalists([dull, thrifty, best], SCORE, 2) == [best, thrifty]


@given(
    curves(),
    st.floats(0, 1e5),
    st.integers(1, 10_000),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 100),
    st.integers(1, 100),
)
def test_planned_final_trainings_fit_into_the_time(candidates, seconds, images, workers, repeats, most, least):
    finalists, epochs = epochs_within(
        candidates, seconds=seconds, images=images, workers=workers, repeats=repeats, most=most, least=least
    )
    assert finalists == candidates[: len(finalists)]
    assert finalists
    assert 1 <= epochs <= most
    jobs = sorted((c.seconds_per_image * images * epochs for c in finalists for _ in range(repeats)), reverse=True)
    if epochs > 1 or sum(jobs) <= seconds:
        assert sum(jobs) / workers <= seconds * (1 + 1e-9)
        assert max(jobs) <= seconds * (1 + 1e-9)
    if len(finalists) > 1:
        assert epochs >= min(least, epochs)
        assert epochs >= least or most < least
    if seconds >= 2 * sum(c.seconds_per_image * images * repeats * most for c in candidates) and most >= least:
        assert (finalists, epochs) == (candidates, most)


def test_one_worker_trains_one_after_the_other():
    candidates = [Curve(candidate=n, key=str(n), macs=(1,), accuracy=(1,), seconds_per_image=0.01) for n in range(4)]
    settings = {"images": 100, "workers": 1, "repeats": 1, "most": 50, "least": 3}
    assert epochs_within(candidates, seconds=40, **settings) == (candidates, 10)  # a second an epoch
    assert epochs_within(candidates, seconds=10, **settings) == (candidates[:3], 3)
    assert epochs_within(candidates, seconds=2, **settings) == (candidates[:1], 2)
    assert epochs_within(candidates, seconds=0, **settings) == (candidates[:1], 1)
    assert epochs_within(candidates, seconds=40, **settings | {"workers": 4}) == (candidates, 40)
    assert epochs_within(candidates, seconds=40, **settings | {"repeats": 2}) == (candidates, 5)
    assert epochs_within(candidates, seconds=1e9, **settings) == (candidates, 50)
