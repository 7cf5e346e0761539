"""The reference sample, and stored scores, which equal the computed ones."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from nas.audit.audit import sizes_of
from nas.audit.reference import ATTEMPTS, FILE, ReferenceScores
from nas.plugins import load_plugin, trust_named
from nas.proxies.dtmc import dtmc
from nas.representation.elements import Task

from ..searching import PLUGINS, config, space

TASK = Task(input_shape=(1, 8, 8), num_classes=10)


def scores_in(folder, name="Small", code=None, **settings):
    """The reference scores of a study of one space, stored in a folder."""
    spaces = {name: load_plugin("nas.search_spaces", space(name))()}
    return ReferenceScores(folder, config(**settings), TASK, spaces, code=code)


def never(key):
    raise AssertionError("computed again")


def test_the_sample_is_a_function_of_the_study(tmp_path):
    first, again = scores_in(tmp_path / "a"), scores_in(tmp_path / "b")
    keys = first.sample(60)
    assert len(keys) == 60
    assert again.sample(20) == keys[:20]
    assert again.sample(60) == keys
    assert scores_in(tmp_path / "c", seed=1).sample(60) != keys
    assert [first.architecture(key).key for key in keys] == keys


def test_stored_scores_are_not_computed_again(tmp_path):
    first = scores_in(tmp_path)
    keys = first.sample(30)
    sizes, scores = first.sizes(keys, first.architecture), first.scores("dtmc", dtmc, keys, first.architecture)
    first.save()
    again = scores_in(tmp_path)
    assert again.sample(30) == keys
    np.testing.assert_array_equal(again.sizes(keys, never), sizes)
    np.testing.assert_array_equal(again.scores("dtmc", dtmc, keys, never), scores)
    assert again.architecture(keys[-1]).key == keys[-1]  # drawn again
    assert sizes.tolist() == [list(sizes_of(first.architecture(key))) for key in keys]
    assert scores.tolist() == [dtmc(first.architecture(key)) for key in keys]


@pytest.mark.parametrize("settings", [{"seed": 1}, {"max_macs": 1e5}, {"points": 3}])
def test_scores_stored_for_another_study_are_ignored(tmp_path, settings):
    first = scores_in(tmp_path)
    keys = list(dict.fromkeys(first.sample(5)))
    first.sizes(keys, first.architecture)
    first.save()
    again = scores_in(tmp_path, **settings)
    computed = []
    again.sizes(keys, lambda key: computed.append(key) or first.architecture(key))
    assert computed == keys


def test_scores_of_changed_code_are_computed_again(tmp_path):
    file = tmp_path / "mine.py"
    text = "from nas.proxies import proxy\n@proxy('topology')\ndef mine(architecture):\n    return {}\n"
    for value in (1.0, 2.0):
        file.write_text(text.format(value))
        spec = f"{file}:mine"
        trust_named(spec)
        reference = scores_in(tmp_path)
        scores = reference.scores(spec, load_plugin("nas.proxies", spec), reference.sample(3), reference.architecture)
        assert scores.tolist() == [value] * 3
        reference.save()
    (tmp_path / FILE).unlink()
    assert [scored(tmp_path, code) for code in (b"one", b"one", b"another")] == [3, 0, 3]


def scored(folder, code):
    """The number of architectures of a sample of three that a version of the code computes the score of."""
    reference, keys = scores_in(folder, code=code), []
    sample = reference.sample(3)
    reference.scores("dtmc", dtmc, sample, lambda key: keys.append(key) or reference.architecture(key))
    reference.save()
    return len(keys)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "older"}', "\x00"])
def test_a_file_that_is_broken_does_no_harm(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    reference = scores_in(tmp_path)
    assert len(reference.sample(3)) == 3
    reference.save()
    assert json.loads((tmp_path / FILE).read_text())["keys"] == reference.sample(3)


def test_a_folder_that_is_not_there_does_no_harm(tmp_path):
    reference = scores_in(tmp_path / "none")
    reference.sample(3)
    reference.save()
    assert not list(tmp_path.iterdir())


def test_a_failing_proxy_leaves_gaps_and_an_error(tmp_path):
    proxy = load_plugin("nas.proxies", f"{PLUGINS}/parts.py:raises_sometimes")
    reference, done = scores_in(tmp_path), []
    scores = reference.scores("mine", proxy, reference.sample(40), reference.architecture, done.append)
    assert 0 < np.isnan(scores).sum() < 40
    assert set(scores[np.isfinite(scores)]) == {1.0}
    assert "no score" in reference.problems["mine"]
    assert done == list(range(1, 41))
    reference.save()
    assert scores_in(tmp_path).scores("mine", proxy, reference.sample(40), reference.architecture)[0] in (1.0, math.nan)
    assert "NaN" not in (tmp_path / FILE).read_text()


def test_the_sample_is_smaller_if_little_is_feasible(tmp_path):
    reference = scores_in(tmp_path, max_macs=1.0)
    assert reference.sample(5) == []
    reference.save()
    assert json.loads((tmp_path / FILE).read_text())["attempts"] == 5 * ATTEMPTS
    assert reference.sizes([], never).shape == (0, 3)
