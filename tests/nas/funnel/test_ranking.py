"""The order of training against brute-force dominance; the shortlist against ordering everything at once."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import UserError
from nas.funnel.ranking import Entry, Shortlist, mixed, order_of_training, with_controls

POOLS = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), max_size=30)


def peeled(scores, macs):
    """Ranks by removing one front after the other."""
    left, ranks = set(range(len(scores))), {}
    while left:
        front = {
            i
            for i in left
            if not any(
                scores[j] >= scores[i] and macs[j] <= macs[i] and (scores[j], macs[j]) != (scores[i], macs[i])
                for j in left
            )
        }
        ranks |= dict.fromkeys(front, len(set(ranks.values())))
        left -= front
    return ranks


def entries(pool):
    return [Entry(key=f"{i:03}", score=s, macs=m, payload=i) for i, (s, m) in enumerate(pool)]


@given(POOLS)
@settings(max_examples=60, deadline=None)
def test_fronts_come_one_after_the_other(pool):
    scores, macs = [s for s, _ in pool], [m for _, m in pool]
    order = order_of_training(scores, macs).tolist()
    assert sorted(order) == list(range(len(pool)))
    ranks = peeled(scores, macs)
    assert [ranks[i] for i in order] == sorted(ranks.values())
    for keep in range(len(pool)):
        assert order_of_training(scores, macs, keep=keep).tolist() == order[:keep]


@given(POOLS, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_does_not_depend_on_that_of_the_arguments(pool, random):
    keys = [f"{i:03}" for i in range(len(pool))]
    where = list(range(len(pool)))
    random.shuffle(where)
    scores, macs = [s for s, _ in pool], [m for _, m in pool]
    first = [keys[i] for i in order_of_training(scores, macs, keys=keys)]
    second = order_of_training([scores[i] for i in where], [macs[i] for i in where], keys=[keys[i] for i in where])
    assert [keys[where[i]] for i in second] == first


def test_a_front_too_large_keeps_its_ends_and_isolated_points():
    macs = np.array([1, 1.01, 1.02, 10, 90, 95, 100])
    order = order_of_training(np.arange(7), macs, keep=3).tolist()
    assert set(order[:2]) == {0, 6}
    assert order[2] == 3


def test_monotone_changes_of_score_and_unit_of_macs_do_not_matter():
    rng = np.random.default_rng(0)
    scores, macs = rng.normal(size=200), np.exp(rng.normal(size=200))
    expected = order_of_training(scores, macs).tolist()
    assert order_of_training(np.exp(scores), 1e6 * macs).tolist() == expected


def test_unknown_scores_come_last():
    assert order_of_training([np.nan, 1.0, 2.0], [5, 5, 5]).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": [1, 2], "macs": [1, 0]}, "positive"),
        ({"scores": [1, 2], "macs": [1, np.inf]}, "finite"),
        ({"scores": [1, 2], "macs": [1]}, "same length"),
        ({"scores": [1], "macs": [1], "keys": []}, "same length"),
        ({"scores": [1], "macs": [1], "keep": -1}, "negative"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        order_of_training(**arguments)


@given(POOLS, st.integers(1, 8), st.integers(1, 30))
@settings(max_examples=80, deadline=None)
def test_shortlist_is_flat_and_does_not_depend_on_chunks(pool, capacity, size):
    at_once, in_chunks = Shortlist(capacity=capacity), Shortlist(capacity=capacity)
    given_entries = entries(pool)
    at_once.extend(given_entries)
    dropped = []
    for start in range(0, len(pool), size):
        dropped += in_chunks.extend(given_entries[start : start + size])
        assert len(in_chunks) < 2 * capacity
    assert in_chunks.ordered() == at_once.ordered()
    assert in_chunks.seen == len(pool)
    assert sorted(e.key for e in (*dropped, *in_chunks._held.values())) == [e.key for e in given_entries]
    assert min(len(pool), capacity) <= len(at_once.ordered()) == len(at_once)


@given(POOLS, st.integers(1, 8))
@settings(max_examples=80, deadline=None)
def test_shortlist_keeps_a_front_that_fits(pool, capacity):
    """Exact if the first front never exceeded the capacity, or if nothing was dropped."""
    scores, macs = [s for s, _ in pool], [m for _, m in pool]
    sizes = [list(peeled(scores[:n], macs[:n]).values()).count(0) for n in range(1, len(pool) + 1)]
    shortlist = Shortlist(capacity=capacity)
    shortlist.extend(entries(pool))
    shortlisted = {entry.payload for entry in shortlist.ordered()}
    if sizes and max(sizes) <= capacity:
        assert {i for i, rank in peeled(scores, macs).items() if rank == 0} <= shortlisted
    if len(pool) < 2 * capacity:
        assert [e.payload for e in shortlist.ordered()] == order_of_training(scores, macs).tolist()


def test_shortlist_holds_a_key_once():
    shortlist = Shortlist(capacity=3)
    shortlist.extend(entries([(1, 1)]) * 5)
    assert len(shortlist) == 1
    assert shortlist.seen == 5


def test_shortlist_needs_room():
    with pytest.raises(UserError, match="room"):
        Shortlist(capacity=0)


@given(st.integers(0, 40), st.integers(0, 10), st.integers(2, 12), st.integers(0, 30))
def test_every_tenth_is_a_control(ranked, controls, every, start):
    mixed = with_controls(range(ranked), range(100, 100 + controls), every=every, start=start)
    assert [c for c, is_control in mixed if not is_control] == list(range(ranked))
    placed = [c for c, is_control in mixed if is_control]
    assert placed == list(range(100, 100 + len(placed)))
    due = [place for place in range(len(mixed)) if (start + place) % every == every - 1]
    assert [place for place, (_, is_control) in enumerate(mixed) if is_control] == due[: len(placed)]
    assert len(placed) == min(controls, len(due)) or ranked == 0


def test_generations_of_eight_share_the_count():
    flags = [f for start in range(0, 80, 8) for _, f in with_controls(range(8), "c", start=start)[:8]]
    assert [i for i, flag in enumerate(flags) if flag] == [9, 19, 29, 39, 49, 59, 69, 79]


def test_controls_without_ranked_candidates_are_refused():
    with pytest.raises(UserError, match="every=1"):
        with_controls("ab", "c", every=1)


def proposals(keys):
    """Stand-ins for proposals, of which only the key is read."""
    return [SimpleNamespace(key=key) for key in keys]


@given(st.permutations("abcdef"), st.permutations("abcdef"), st.integers(0, 6), st.integers(0, 8))
def test_two_orders_are_mixed_evenly_without_repetition(first, second, of_first, count):
    of_first = min(of_first, count)
    mix = [(p.key, which) for p, which in mixed(proposals(first), proposals(second), of_first=of_first, count=count)]
    assert len({key for key, _ in mix}) == len(mix) == min(count, 6)
    if count <= 6:
        assert sum(which for _, which in mix) == of_first
    for length in range(len(mix)):
        if count <= 6:
            assert abs(sum(which for _, which in mix[:length]) - length * of_first / max(1, count)) < 1
    for which, order in ((True, first), (False, second)):
        places = [order.index(key) for key, by in mix if by is which]
        assert places == sorted(places)


def test_an_order_that_is_too_short_is_filled_by_the_other_one():
    mix = mixed(proposals("ab"), proposals("bcde"), of_first=3, count=5)
    assert [(p.key, which) for p, which in mix] == [("b", False), ("a", True), ("c", False), ("d", False), ("e", False)]
