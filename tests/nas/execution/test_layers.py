"""Channels of aligned operations arrive at their places, in the same memory format."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.execution.layers import place
from nas.execution.plan import Moves


@given(st.permutations(range(7)), st.integers(1, 7), st.integers(1, 7))
def test_every_channel_arrives_at_its_place_and_the_rest_is_zero(places: list[int], sources: int, wanted: int) -> None:
    to = [at if at < wanted else -1 for at in places[:sources]]
    x = torch.arange(1.0, sources + 1).reshape(1, -1, 1, 1).expand(2, -1, 2, 3)
    expected = torch.zeros(2, wanted, 2, 3)
    for channel, at in enumerate(to):
        if at >= 0:
            expected[:, at] = x[:, channel]
    assert torch.equal(place(x, wanted, Moves.of(to, wanted)), expected)


def test_a_prefix_that_stays_in_place_needs_no_moves() -> None:
    assert Moves.of([0, 1, 2], 5) is None
    assert Moves.of([0, 1, -1], 2) is None
    assert Moves.of([0, 2, 3], 5) == Moves(sizes=(1, 2), order=(0, -1, 1, -1))


def test_the_layout_stays() -> None:
    x = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert place(x, 6, Moves.of([0, 3, 4], 6)).is_contiguous(memory_format=torch.channels_last)
