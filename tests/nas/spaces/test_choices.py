"""Choices: the contract of `choose`, and the decisions behind it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import PluginError, UserError
from nas.spaces.choices import Domains, Recorder, at_random, index_of, mutate, replay

from .enumeration import enumerate_choices


def staged(choose):
    """A conditional toy space: two stages of one to three blocks."""
    for stage in range(2):
        for block in range(choose(f"stage {stage} depth", (1, 2, 3))):
            choose(f"stage {stage} block {block} kernel", (3, 5))
    choose("only", ("one",))
    choose("mixed", (1, True, 1.0, None, "1"))


def propose(space, decide, domains):
    recorder = Recorder(decide, domains)
    space(recorder)
    return recorder.choices


def first(name, options):
    return 0


# ------------------------------------------------------------------------------------------------ recorder


def test_records_in_order_and_asks_once():
    asked = []

    def decide(name, options):
        asked.append(name)
        return 1

    recorder = Recorder(decide, Domains())
    assert recorder("b", (1, 2)) == 2
    assert recorder("a", ["x", None]) is None
    assert recorder("b", (1, 2)) == 2
    assert recorder("a", ("x", None)) is None
    assert asked == ["b", "a"]
    assert list(recorder.choices.items()) == [("b", 2), ("a", None)]
    assert recorder.domains.of(recorder.choices) == {"b": (1, 2), "a": ("x", None)}


def test_a_range_is_a_sequence():
    assert Recorder(first, Domains())("n", range(3, 6)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "must not be empty"),
        ([], "must not be empty"),
        ((1, 2, 1), "must not repeat"),
        ((3, np.int64(4)), "of type int64"),
        ((3.0, np.float64(4)), "of type float64"),
        ((math.nan, 1.0), "finite"),
        (((1, 2), (3, 4)), "of type tuple"),
        ("abc", "must be a sequence"),
        ({1, 2}, "must be a sequence"),
        (None, "must be a sequence"),
    ],
)
def test_options_are_checked(options, message):
    domains = Domains()
    for _ in range(2):
        with pytest.raises(PluginError, match=message):
            Recorder(first, domains)("name", options)
    assert domains.options == {}


@pytest.mark.parametrize("name", ["", None, 3, ["a"]])
def test_names_are_checked(name):
    with pytest.raises(PluginError, match="name of a choice must be"):
        Recorder(first, Domains())(name, (1, 2))


@pytest.mark.parametrize(
    "later", [(1, 2), (1, 2, 4), (2, 1, 3), (True, 2, 3), (1.0, 2, 3), [1, 2], range(3), None, "abc"]
)
def test_options_must_not_change(later):
    domains = Domains()
    Recorder(first, domains)("width", (1, 2, 3))
    with pytest.raises(PluginError):
        Recorder(first, domains)("width", later)
    recorder = Recorder(first, domains)
    recorder("width", [1, 2, 3])
    with pytest.raises(PluginError):
        recorder("width", later)


def test_message_of_changed_options_shows_both_and_the_way_out():
    domains = Domains({"width": (1, 2)})
    with pytest.raises(PluginError, match="same options every time") as caught:
        Recorder(first, domains)("width", (1, 3))
    message = str(caught.value)
    assert "choose('width', (1, 3))" in message
    assert "choose('width', (1, 2))" in message
    assert message.endswith("put the condition into the name.")


def test_options_equal_as_numbers_are_different_options():
    options = (1, True, 1.0, 0, False, None, "1")
    for index, option in enumerate(options):
        answer = Recorder(lambda name, options, index=index: index, Domains())("name", options)
        assert type(answer) is type(option)
        assert index_of(options, option) == index
    assert index_of(options, "True") == -1


@pytest.mark.parametrize("index", [2, "a", None, 1.0])
def test_a_decision_is_an_index(index):
    with pytest.raises(PluginError, match="index of an option"):
        Recorder(lambda name, options: index, Domains())("name", ("a", "b"))


def test_mutable_options_are_copied():
    options, domains = [1, 2], Domains()
    Recorder(first, domains)("name", options)
    options.append(3)
    with pytest.raises(PluginError, match="same options"):
        Recorder(first, domains)("name", options)


# ------------------------------------------------------------------------------------------------ decisions


def test_at_random_is_uniform_and_seeded():
    def draws(seed):
        decide = at_random(np.random.default_rng(seed))
        return [decide("name", (1, 2, 3)) for _ in range(3000)]

    assert draws(1) == draws(1) != draws(2)
    assert np.bincount(draws(1), minlength=3) == pytest.approx([1000] * 3, abs=100)


@given(st.integers(0, 2**32))
def test_replay_repeats(seed):
    domains = Domains()
    choices = propose(staged, at_random(np.random.default_rng(seed)), domains)
    again = propose(staged, replay(choices), domains)
    assert list(map(repr, again.items())) == list(map(repr, choices.items()))


def test_replay_of_a_changed_space():
    with pytest.raises(PluginError, match="among the options"):
        Recorder(replay({"width": 1}), Domains())("width", (True, 2))
    with pytest.raises(PluginError, match="include every name"):
        Recorder(replay({"width": 1}), Domains())("depth", (1, 2))


@given(st.integers(0, 2**32), st.sampled_from([None, 0.0, 0.1, 1.0]))
def test_mutate_changes_something_and_keeps_the_contract(seed, rate):
    domains, rng = Domains(), np.random.default_rng(seed)
    choices = propose(staged, at_random(rng), domains)
    mutated = propose(staged, mutate(choices, rng, domains, rate), domains)
    assert list(map(repr, mutated.items())) != list(map(repr, choices.items()))
    assert list(map(repr, propose(staged, replay(mutated), domains))) == list(map(repr, mutated))
    if rate == 1.0:
        assert all(repr(mutated[name]) != repr(choices[name]) for name in mutated.keys() & choices.keys() - {"only"})


def test_mutation_reaches_every_other_option_equally():
    domains, rng = Domains({"x": (1, 2, 3, 4)}), np.random.default_rng(0)
    counts = np.bincount([Recorder(mutate({"x": 2}, rng, domains), domains)("x", (1, 2, 3, 4)) for _ in range(3000)])
    assert counts[[1, 3, 4]] == pytest.approx([1000] * 3, abs=100)
    assert counts[2] == 0


def test_mutate_without_alternatives_and_with_a_bad_rate():
    domains, rng = Domains({"only": ("one",)}), np.random.default_rng(0)
    assert Recorder(mutate({"only": "one"}, rng, domains), domains)("only", ("one",)) == "one"
    assert mutate({}, rng, domains)("new", (1, 2)) in (0, 1)
    with pytest.raises(UserError, match="rate=2"):
        mutate({}, rng, domains, rate=2)


def test_enumeration_is_complete_and_without_repeats():
    enumerated = list(enumerate_choices(staged, 1000))
    assert len(enumerated) == (2 + 4 + 8) ** 2 * 5
    assert len({repr(choices) for choices in enumerated}) == len(enumerated)
    domains = Domains()
    decide = at_random(np.random.default_rng(0))
    assert {repr(propose(staged, decide, domains)) for _ in range(200)} <= {repr(choices) for choices in enumerated}


def test_enumeration_of_small_spaces_and_its_limit():
    assert list(enumerate_choices(lambda choose: None, 1)) == [{}]
    assert list(enumerate_choices(lambda choose: choose("a", (1, 2)), 2)) == [{"a": 1}, {"a": 2}]
    with pytest.raises(UserError, match="at most 1 "):
        list(enumerate_choices(lambda choose: choose("a", (1, 2)), 1))
