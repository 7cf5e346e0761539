"""The tree of tried choices against a set of all choices of random spaces whose names depend on earlier answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.spaces import tried as tried_choices
from nas.spaces.choices import Domains, Recorder, at_random
from nas.spaces.tried import Tried

from .enumeration import enumerate_choices

TREES = st.recursive(st.just(None), lambda children: st.lists(children, min_size=1, max_size=3), max_leaves=12)
"""A node has a branch for each option; None ends a proposal."""


def space_of(tree):
    """A function of choices: each node has a name of its own."""

    def space(choose):
        node, path = tree, "root"
        while node is not None:
            index = choose(path, tuple(range(len(node))))
            node, path = node[index], f"{path}.{index}"

    return space


@given(TREES, st.integers(0, 2**31), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_every_choice_is_proposed_once_and_then_the_space_is_exhausted(tree, seed, random):
    space, domains, rng = space_of(tree), Domains(), np.random.default_rng(seed)
    every = list(enumerate_choices(space, 100))
    known = random.sample(every, random.randrange(len(every)))
    for choices in every:
        for name in choices:
            space(Recorder(lambda n, o, at=choices: at.get(n, 0), domains))
            assert name in domains.options
    tried = Tried()
    for choices in known:
        tried.add(choices, domains)
    seen = [repr(choices) for choices in known]
    while not tried.exhausted:
        recorder = Recorder(tried.nearest(at_random(rng), rng), domains)
        space(recorder)
        seen.append(repr(recorder.choices))
        tried.add(recorder.choices, domains)
    assert sorted(seen) == sorted(map(repr, every))


@given(TREES, st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_a_decision_is_new_exactly_if_its_choices_were_not_tried(tree, seed):
    space, domains, rng = space_of(tree), Domains(), np.random.default_rng(seed)
    tried, seen = Tried(), set()
    for _ in range(30):
        answers = rng.integers(0, 3, size=100).tolist()

        def decide(name, options, answers=answers):
            return answers[sum(map(ord, name)) % 100] % len(options)

        recorder = Recorder(decide, domains)
        space(recorder)
        new, choices = tried.new(decide)
        assert (new is None) == (repr(recorder.choices) in seen)
        if new is None:
            assert choices.items() <= recorder.choices.items()
        else:
            again = Recorder(new, domains)
            space(again)
            assert again.choices == recorder.choices
        seen.add(repr(recorder.choices))
        tried.add(recorder.choices, domains)


def test_rejected_partial_choices_close_all_that_begin_with_them():
    domains, tried = Domains({"a": (0, 1), "b": (0, 1)}), Tried()
    tried.add({"a": 0}, domains)
    assert tried.new(lambda name, options: 0) == (None, {"a": 0})
    new, _ = tried.new(lambda name, options: 1)
    assert new is not None
    tried.add({"a": 1, "b": 0}, domains)
    assert not tried.exhausted
    tried.add({"a": 1, "b": 1}, domains)
    assert tried.exhausted


def test_a_decision_is_asked_once_for_each_name():
    domains, tried = Domains({"a": (0, 1), "b": (0, 1)}), Tried()
    tried.add({"a": 0, "b": 0}, domains)
    asked = []

    def decide(name, options):
        asked.append(name)
        return len(asked) - 1

    new, _ = tried.new(decide)
    recorder = Recorder(new, domains)
    assert (recorder("a", (0, 1)), recorder("b", (0, 1))) == (0, 1)
    assert asked == ["a", "b"]


def test_choices_of_another_space_are_left_out():
    domains, tried = Domains({"a": (0, 1), "b": (0, 1), "c": (0,)}), Tried()
    tried.add({"a": 0, "b": 0}, domains)
    tried.add({"b": 0}, domains)
    tried.add({"a": 0, "c": 0}, domains)
    assert not tried.exhausted
    assert tried.new(lambda name, options: 0)[0] is None
    assert tried.new(lambda name, options: int(name == "b"))[0] is not None


def test_a_space_without_choices_has_one_proposal():
    tried = Tried()
    assert not tried.exhausted
    tried.add({}, Domains())
    assert tried.exhausted


@pytest.mark.parametrize("most", [0, 3])
def test_memory_is_bounded(monkeypatch, most):
    monkeypatch.setattr(tried_choices, "MOST_NODES", most)
    domains, tried = Domains({f"{k}": (0, 1) for k in range(6)}), Tried()
    for number in range(64):
        tried.add({f"{k}": number >> k & 1 for k in range(6)}, domains)
    assert not tried.exhausted
    assert (tried.new(lambda name, options: 0)[0] is None) == (most > 0)
