"""The amount of training ahead, and the time that it takes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.config import Config
from nas.funnel.eta import Work


@given(
    st.integers(1, 30),
    st.integers(1, 40),
    st.integers(1, 100),
    st.integers(1, 2000),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_work_is_the_sum_of_the_epochs_that_will_be_trained(epochs, generation, train, images, finalists, seeds):
    """The oracle trains the generations one epoch at a time; the last may be smaller."""
    config = Config(
        epochs=epochs,
        generation=generation,
        train=train,
        images=images,
        finalists=finalists,
        seeds=seeds,
        final_epochs=50,
    )
    work = Work(config, 1000, limit=train, generations=0)
    share = min(1.0, images / 1000)
    total = 0.0
    for first in range(0, train, generation):
        alive, before = min(generation, train - first), 0
        for rung in config.rungs():
            for _ in range(alive):
                for _ in range(before, rung):
                    work.add(images)
                    total += share
            alive, before = math.ceil(alive / 3), rung
    assert work.done == pytest.approx(total)
    for _ in range(finalists * seeds * 50):
        work.add(None)
    total += finalists * seeds * 50
    assert work.total == pytest.approx(total)
    assert work.done == pytest.approx(total)
    assert work.seconds_left(10.0) == pytest.approx(0, abs=1e-6)


def test_time_left_counts_from_this_start():
    config = Config(epochs=9, images=1000, final_epochs=20, finalists=1, generation=9)
    work = Work(config, 1000, limit=18, generations=1)
    assert work.seconds_left(5.0) is None
    generation = 9 * 1 + 3 * 2 + 1 * 6
    assert (work.done, work.total) == (generation, 2 * generation + 20)
    for _ in range(generation):
        work.add(None)
    assert work.seconds_left(21.0) == pytest.approx(20.0)  # a second an epoch


def test_work_is_limited_by_what_ends_first():
    config = Config(epochs=1, images=1000, final_epochs=1, generation=10, finalists=1, generations=2)
    assert Work(config, 1000, limit=100, generations=0).total == 2 * 10 + 1
    assert Work(config, 1000, limit=15, generations=0).total == 15 + 1
    assert Work(config, 1000, limit=10, generations=0).total == 10 + 1
    assert Work(config, 1000, limit=math.inf, generations=7).done == 21
