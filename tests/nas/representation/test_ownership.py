"""Ownership of filters: costs equal the architecture's, moves keep the budgets and never go to smaller levels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UserError
from nas.representation.architecture import Architecture, macs
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.representation.ownership import OwnershipMacs, move_filters, owned_groups, with_slices

from ..hand_built import ALL, lenet

TASK = Task(input_shape=(3, 8, 8), num_classes=5)


def network() -> Architecture:
    """A stem, a residual block, a pooling and two layers: three coupling groups."""
    b = Builder(TASK)
    x = b.conv(b.input, (2, 5, 6), wiring="causal", after=("norm", "relu"))
    h = b.conv(x, (1, 3, 4), wiring="causal", after=("norm", "relu"))
    y = b.conv(h, (2, 5, 6), wiring="causal")
    b.identity(x, y, wiring="causal")
    p = b.map((2, 5, 6))
    b.add("max_pool", y, p, kernel=2, stride=2, padding=0, wiring="causal")
    z = b.conv(p, (3, 4, 8), kernel=4, padding=0, wiring="causal")
    b.add("linear", z, b.map(5), bias=True)
    return b.architecture(3, norm="shared")


def owned_of(slices) -> np.ndarray:
    return np.diff(np.array(slices), axis=1, prepend=0)


rows = st.lists(st.lists(st.integers(1, 6), min_size=3, max_size=3), min_size=3, max_size=3)


def test_coupling_groups_are_joined_by_skips_and_poolings():
    assert owned_groups(network()) == ((1, 3, 4), (2,), (5,))
    assert owned_groups(lenet()) == ((1,), (2,), (3,))


@given(rows)
def test_macs_of_an_ownership_are_those_of_the_architecture(owned):
    widened = with_slices(network(), [tuple(np.cumsum(row).tolist()) for row in owned])
    assert tuple(OwnershipMacs(network())(np.array(owned))) == macs(widened)


def test_other_slices_keep_everything_else():
    same = with_slices(network(), [(2, 5, 6), (1, 3, 4), (3, 4, 8)])
    assert same == network()
    one = with_slices(network(), [(7,), (3,), (2,)])
    assert len(one.points) == 1
    assert one.topology.operations == network().topology.operations
    assert one.canonical == one


@given(
    rows,
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.integers(0, 2**32 - 1),
)
def test_moves_meet_the_budgets_and_never_go_back(owned, shares, seed):
    rng, cost = np.random.default_rng(seed), OwnershipMacs(network())
    owned = np.array(owned) + 2
    owners = [rng.permutation(np.repeat(np.arange(3), row)) for row in owned]
    scores = [rng.random(len(owner)) for owner in owners]
    least, now = cost(np.ones((3, 3), dtype=int)), cost(owned)
    budgets = np.maximum.accumulate(least + np.sort(shares) * (now - least))
    moved = move_filters(owners, scores, budgets, cost)
    after = np.array([np.bincount(owner, minlength=4)[:3] for owner in moved])
    assert (cost(after) <= budgets).all()
    assert (after >= 1).all()
    assert all((new >= old).all() for new, old in zip(moved, owners))


def test_the_least_important_filters_move_and_no_more_than_needed():
    cost = OwnershipMacs(network())
    owners = [np.array([0, 0, 0, 0, 1, 2]), np.array([0, 0, 1, 2]), np.array([0, 0, 1, 2])]
    scores = [np.array([0.4, 0.1, 0.3, 0.2, 0.0, 0.0]), np.full(4, 1.0), np.full(4, 1.0)]
    owned = owned_of([(4, 5, 6), (2, 3, 4), (2, 3, 4)])
    budgets = cost(owned).astype(float)
    assert all(np.array_equal(a, b) for a, b in zip(move_filters(owners, scores, budgets, cost), owners))
    budgets[0] -= 1
    moved = move_filters(owners, scores, budgets, cost)
    assert moved[0].tolist() == [0, 1, 0, 0, 1, 2]
    assert [m.tolist() for m in moved[1:]] == [o.tolist() for o in owners[1:]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("residual", "only in a causal network"),
        ("causal", "grouped operations"),
        ("causal_concat", "concats"),
        ("gated_residual", "differ in widths only"),
    ],
)
def test_networks_without_owned_filters_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        owned_groups(ALL[name]())


def test_connected_maps_with_unequal_slices_are_refused():
    b = Builder(TASK)
    x = b.conv(b.input, (2, 4), wiring="causal")
    y = b.conv(x, (3, 6), wiring="causal")
    b.identity(x, y, wiring="causal")
    b.head(y)
    with pytest.raises(UserError, match="equal slices"):
        owned_groups(b.architecture(2, norm="shared"))


def test_a_network_without_hidden_filters_is_refused():
    b = Builder(TASK)
    b.add("global_avg_pool", b.input, b.map(3))
    b.add("linear", 1, b.map(5))
    with pytest.raises(UserError, match="only in hidden layers"):
        owned_groups(b.architecture(1, norm="shared"))
