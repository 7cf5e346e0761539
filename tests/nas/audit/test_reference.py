"""The reference sample and the scores that are kept: the same as those worked out anew, in a hundredth of the time."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from nas.audit.reference import ATTEMPTS, FILE, Scorebook
from nas.audit.statistics import sizes_of
from nas.plugins import load_plugin
from nas.proxies.dtmc import dtmc
from nas.representation.elements import Task

from ..searching import PLUGINS, config, space

TASK = Task(input_shape=(1, 8, 8), num_classes=10)


def book(folder, name="Small", **settings):
    return Scorebook(folder, config(**settings), TASK, {name: load_plugin("nas.search_spaces", space(name))()})


def never(key):
    raise AssertionError("worked out again")


def test_the_sample_is_a_function_of_the_study(tmp_path):
    first, again = book(tmp_path / "a"), book(tmp_path / "b")
    keys = first.reference(60)
    assert len(keys) == 60
    assert again.reference(20) == keys[:20]
    assert again.reference(60) == keys
    assert book(tmp_path / "c", seed=1).reference(60) != keys
    assert [first.drawn(key).key for key in keys] == keys


def test_what_was_kept_is_not_worked_out_again(tmp_path):
    first = book(tmp_path)
    keys = first.reference(30)
    sizes, scores = first.sizes(keys, first.drawn), first.scores("dtmc", dtmc, keys, first.drawn)
    first.save()
    again = book(tmp_path)
    assert again.reference(30) == keys
    np.testing.assert_array_equal(again.sizes(keys, never), sizes)
    np.testing.assert_array_equal(again.scores("dtmc", dtmc, keys, never), scores)
    assert again.drawn(keys[-1]).key == keys[-1]  # drawn again where one is needed
    assert sizes.tolist() == [list(sizes_of(first.drawn(key))) for key in keys]
    assert scores.tolist() == [dtmc(first.drawn(key)) for key in keys]


@pytest.mark.parametrize("settings", [{"seed": 1}, {"max_macs": 1e5}, {"points": 3}])
def test_what_was_kept_of_another_study_does_not_count(tmp_path, settings):
    first = book(tmp_path)
    first.sizes(first.reference(5), first.drawn)
    first.save()
    assert book(tmp_path, **settings)._kept["sizes"] == {}


def test_code_that_changes_is_worked_out_anew(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    text = "from nas.proxies import proxy\n@proxy('topology')\ndef mine(architecture):\n    return {}\n"
    for value in (1.0, 2.0):
        file.write_text(text.format(value))
        spec = f"{file}:mine"
        made = book(tmp_path)
        found = made.scores(spec, load_plugin("nas.proxies", spec), made.reference(3), made.drawn)
        assert found.tolist() == [value] * 3
        made.save()
    monkeypatch.setattr("nas.audit.reference._framework", lambda: b"another version")
    assert book(tmp_path)._kept["keys"] == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "older"}', "\x00"])
def test_a_file_that_is_broken_does_no_harm(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    made = book(tmp_path)
    assert len(made.reference(3)) == 3
    made.save()
    assert json.loads((tmp_path / FILE).read_text())["keys"] == made.reference(3)


def test_a_folder_that_is_not_there_does_no_harm(tmp_path):
    made = book(tmp_path / "none")
    made.reference(3)
    made.save()
    assert not list(tmp_path.iterdir())


def test_a_proxy_that_fails_leaves_gaps_and_tells_why(tmp_path):
    proxy = load_plugin("nas.proxies", f"{PLUGINS}/parts.py:raises_sometimes")
    made, done = book(tmp_path), []
    scores = made.scores("mine", proxy, made.reference(40), made.drawn, done.append)
    assert 0 < np.isnan(scores).sum() < 40
    assert set(scores[np.isfinite(scores)]) == {1.0}
    assert "no score" in made.problems["mine"]
    assert done == list(range(1, 41))
    made.save()
    assert book(tmp_path).scores("mine", proxy, made.reference(40), made.drawn)[0] in (1.0, math.nan)
    assert "NaN" not in (tmp_path / FILE).read_text()


def test_a_space_where_little_is_feasible_gives_what_there_is(tmp_path):
    made = book(tmp_path, max_macs=1.0)
    assert made.reference(5) == []
    assert made._kept["attempts"] == 5 * ATTEMPTS
    assert made.sizes([], never).shape == (0, 3)
