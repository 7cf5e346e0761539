"""Candidates that the user names are trained first; what cannot be trained is refused before the search."""

from __future__ import annotations

import json

import numpy as np
import pytest

import nas
import results
from nas.errors import UserError
from nas.proxies.contract import load_proxy
from nas.representation.builder import Builder
from nas.screening.constraints import Constraints
from nas.screening.enqueued import as_text, as_texts, enqueued
from nas.screening.screener import Screener

from ..searching import arguments, search, space, toy
from .screeners import TASK, screener_over

FIRST = {"width": 32, "depth": 1, "kernel 0": 3}


def chosen(study):
    """The trained candidates in the order of training, as pairs of key and choices."""
    rows = study.candidates().dropna(subset="position").sort_values(["generation", "position"])
    return list(zip(rows.key, map(json.loads, rows.choices), strict=True))


@pytest.mark.usefixtures("in_process")
def test_they_are_the_first_candidates_of_the_first_generation(store):
    study = search(store, enqueue=(as_text(FIRST), '{"Small/width": 16, "Small/depth": 2}'), train=8)
    (_, first), (_, second), *others = chosen(study)
    assert {name.removeprefix("Small/"): option for name, option in first.items()}.items() >= FIRST.items()
    assert (second["Small/width"], second["Small/depth"]) == (16, 2)
    assert len(others) == 6
    positions = study.candidates().dropna(subset="position")
    assert (positions.generation == 0).sum() == 4


@pytest.mark.usefixtures("in_process")
def test_a_search_in_python_takes_dicts_and_continues(store):
    settings = {"space": space(), "evaluator": toy(), "study": "s", "store": str(store), "workers": 1}
    settings |= {"epochs": 9, "images": 500, "final_epochs": 5, "pool": 12, "generation": 4, "strategy": "random"}
    first = chosen(nas.search("nothing", enqueue=[FIRST], train=4, **settings))
    assert first[0][1]["Small/width"] == 32
    assert chosen(nas.search("nothing", enqueue=[FIRST], train=8, **settings))[:4] == first
    same = json.dumps({name: FIRST[name] for name in reversed(FIRST)}, indent=2)
    assert chosen(nas.search("nothing", enqueue=[same], train=8, **settings))[:4] == first
    with pytest.raises(results.SettingsDiffer, match="--enqueue"):
        nas.search("nothing", enqueue=[FIRST | {"width": 16}], train=8, **settings)


def test_choices_that_are_not_given_are_drawn_by_the_seed():
    proposals = [enqueued(screener_over("Small"), [as_text({"width": 32})], seed) for seed in (0, 0, 1)]
    keys = [proposal.key for (proposal,) in proposals]
    assert keys[0] == keys[1] != keys[2]
    whole = {name.removeprefix("Small/"): option for name, option in proposals[0][0].choices.items()}
    twice = enqueued(screener_over("Small"), [as_text(whole), as_text(whole)], 0)
    assert [proposal.key for proposal in twice] == [keys[0]]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be a JSON object of choices"),
        ("[1]", "must be a JSON object of choices"),
        ('{"space": "Large"}', 'must name one of the spaces Small as "space"'),
        ('{"witdh": 16}', "must name choices of the space 'Small'"),
        ('{"width": 17}', "must choose among the options of 'width': 16, 24, 32, 48. Got 17."),
        ('{"width": 48, "depth": 3}', "must name networks within the limits"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["search", "dry run"])
def test_mistakes_are_one_clear_line(mistake, text, message, more):
    line = mistake(*arguments("nas.db", enqueue=text, max_macs=60_000), *more)
    assert message in line


@pytest.mark.usefixtures("in_process")
def test_there_must_be_room_for_them(store):
    named = tuple(as_text({"width": width, "depth": depth}) for width in (16, 24) for depth in (1, 2))
    with pytest.raises(UserError, match="Got 4 candidates for 3: raise --generation"):
        search(store, enqueue=named, generation=3)
    with pytest.raises(UserError, match="Got 4 candidates for 2: raise --train"):
        search(store, enqueue=named, generation=4, train=2)


def test_numbers_of_numpy_are_plain_numbers():
    assert as_texts([{"width": np.int64(32), "scale": np.float64(0.5), "big": np.bool_(True)}]) == (
        '{"big": true, "scale": 0.5, "width": 32}',
    )


@pytest.mark.parametrize("choices", [5, '{"width": 16}', {"width": 16}])
def test_they_are_a_list(choices):
    with pytest.raises(UserError, match="must be a list of dicts of choices"):
        as_texts(choices)


@pytest.mark.usefixtures("in_process")
def test_they_are_trained_although_an_earlier_study_trained_them(store):
    key, choices = chosen(search(store, study="first", train=4))[0]
    text = as_text({"space": "Small"} | {name.removeprefix("Small/"): option for name, option in choices.items()})
    later = search(store, study="later", train=4, warm_start="first", enqueue=(text,))
    assert chosen(later)[0][0] == key


@pytest.mark.parametrize("choices", [3, {"width": [16]}, {"width": float("nan")}])
def test_only_plain_choices(choices):
    if isinstance(choices, dict) and choices["width"] == [16]:
        with pytest.raises(UserError, match="must choose among the options"):
            enqueued(screener_over("Small"), [as_text(choices)], 0)
        return
    with pytest.raises(UserError, match=r"must be (a list of dicts|plain)"):
        as_text(choices)


class Conditional:
    """The width of the third layer is chosen if there is one."""

    def architecture(self, choose, task, *, points=4):
        builder = Builder(task)
        x = builder.input
        for layer in range(choose("depth", (1, 2, 3))):
            full = choose("third width", (16, 32)) if layer == 2 else 8
            x = builder.conv(x, tuple(full * k // points for k in range(1, points + 1)), after=("norm", "relu"))
        builder.head(x)
        return builder.architecture(points)


@pytest.mark.parametrize("seed", range(5))
def test_choices_that_exist_for_some_others_are_drawn_with_them(seed):
    screener = Screener({"Conditional": Conditional()}, TASK, proxy=("count", load_proxy("count")))
    (proposal,) = enqueued(screener, [as_text({"third width": 16})], seed)
    assert proposal.choices["Conditional/depth"] == 3
    with pytest.raises(UserError, match="must name choices of the space 'Conditional': depth, third width"):
        enqueued(screener, [as_text({"fourth width": 16})], seed)


def test_other_choices_are_drawn_until_the_network_is_within_the_limits():
    for seed in range(10):
        screener = screener_over("Small", constraints=Constraints(max_macs=150_000))
        (proposal,) = enqueued(screener, [as_text({"width": 32})], seed)
        assert proposal.choices["Small/width"] == 32
        assert proposal.macs[-1] <= 150_000
