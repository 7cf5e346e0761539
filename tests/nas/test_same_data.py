"""A study keeps its data: every process that trains or measures compares them, and says what differs."""

from __future__ import annotations

import numpy as np
import pytest

import nas
import results
from nas import launch
from nas.errors import EnvironmentFault
from nas.evaluation.data_identity import DataIdentity
from nas.funnel.preparing.preparation import prepared, stored_settings
from results.front import Score

from .searching import PLUGINS, TINY, arguments, assert_same, config, content, search, state_of, statuses

DESCRIBED = f"{PLUGINS}/described.py:Described"
FUNCTION = """
import numpy as np
from sklearn.model_selection import train_test_split

X = np.random.default_rng(0).integers(256, size=(80, 8, 8), dtype=np.uint8)
Y = np.arange(80) % 4

def split(seed=None):
    x_train, x_test, y_train, y_test = train_test_split(X, Y, stratify=Y, random_state=seed)
    return x_train, y_train, x_test, y_test

ONCE = split()

def unseeded(): return split()
def once(): return ONCE
def seeded(): return split(seed=0)
def noise(): return np.random.default_rng().integers(256, size=(80, 8, 8), dtype=np.uint8), Y
"""


def arrays(**changes):
    rng = np.random.default_rng(0)
    x, y = rng.integers(256, size=(80, 8, 8), dtype=np.uint8), np.arange(80) % 4
    return {"x_train": x[:60], "y_train": y[:60], "x_test": x[60:], "y_test": y[60:]} | changes


@pytest.fixture
def function(tmp_path):
    """The specification of a function that loads data."""
    (tmp_path / "mine.py").write_text(FUNCTION)
    return lambda name: f"{tmp_path / 'mine.py'}:{name}"


@pytest.fixture
def file(tmp_path):
    """A file of data."""
    np.savez(tmp_path / "data.npz", **arrays())
    return tmp_path / "data.npz"


class Disturbance:
    """A display of the progress that disturbs the first training."""

    def __init__(self, disturb):
        self.disturb = disturb

    def say(self, text):
        pass

    def show(self, state):
        if "rung" in state.stage or "generation" in state.stage:
            self.disturb()
            self.disturb = lambda: None


# Functions without a seed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "word"), [("unseeded", "another split or order of the same examples"), ("noise", "other training images")]
)
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_function_that_needs_a_seed_starts_no_study(mistake, function, name, word, more):
    line = mistake(*arguments("nas.db", *more, evaluator=DESCRIBED, data=function(name)))
    assert "Two loads of" in line
    assert word in line
    assert "random_state" in line


@pytest.mark.usefixtures("in_process")
def test_a_study_that_was_started_without_a_seed_is_told_so(mistake, store, function):
    settings = {"evaluator": DESCRIBED, "data": function("unseeded")}
    parts, _ = prepared(config(**settings), {})
    with results.open(store).writer("toy", stored_settings(parts.config, parts.info)) as writer:
        writer.set_score(Score(low=1e4, high=1e6, floor=0.1))
    line = mistake(*arguments(store, **settings), writes=True)
    assert "Two loads of" in line
    assert "another split or order" in line


def test_a_function_with_a_seed_is_searched(store, function):
    assert statuses(search(store, evaluator=DESCRIBED, data=function("seeded")))["finished"] == 2


def test_a_worker_with_another_split_stops_the_study(store, function):
    with pytest.raises(EnvironmentFault, match=r"another split or order of the same examples in .*once.*seed the func"):
        search(store, evaluator=DESCRIBED, data=function("once"))
    found = nas.Study("toy", store=str(store))
    assert "failed" not in statuses(found)
    assert found.points().empty


# Files that change ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disturbance", ["change", "remove"])
def test_a_worker_whose_file_changed_stops_the_study_and_resuming_continues(store, file, tmp_path, disturbance):
    settings = {"evaluator": DESCRIBED, "data": f"npz:{file}"}
    whole = content(search(tmp_path / "whole.db", **settings).url)
    original = file.read_bytes()
    changed = arrays(x_train=255 - arrays()["x_train"])
    disturb = file.unlink if disturbance == "remove" else lambda: np.savez(file, **changed)
    word = "nothing there" if disturbance == "remove" else "other training images"
    with pytest.raises(EnvironmentFault, match=word):
        launch.run(config(**settings), store=str(store), progress=Disturbance(disturb))
    assert "failed" not in statuses(nas.Study("toy", store=str(store)))
    assert state_of(store)[0] != "finished"
    file.write_bytes(original)
    nas.resume("toy", store=str(store))
    assert_same(content(store), whole, settings=False)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"x_train": 255 - arrays()["x_train"]}, "other training images"),
        ({"y_test": np.roll(arrays()["y_test"], 1)}, "other test labels"),
        ({"x_test": arrays()["x_test"][:, ::-1], "y_test": 3 - arrays()["y_test"]}, "other test images, test labels"),
        ({"y_train_coarse": arrays()["y_train"] // 2}, "other classes"),
        ({name: array[::-1] for name, array in arrays().items()}, "another split or order of the same examples"),
        ({"x_val": arrays()["x_test"], "y_val": arrays()["y_test"]}, "other validation images, validation labels"),
    ],
)
@pytest.mark.usefixtures("in_process")
def test_resuming_names_what_changed(mistake, file, store, changes, word):
    settings = {"evaluator": DESCRIBED, "data": f"npz:{file}"}
    search(store, **settings)
    np.savez(file, **arrays(**changes))
    line = mistake("resume", "toy", "--store", store, writes=True)
    assert f"started with {word} of --data. Restore the data" in line


@pytest.mark.usefixtures("in_process")
def test_images_that_are_augmented_otherwise_are_another_study(mistake, store, file, tmp_path):
    """As after an update of the software: the images are the same, what becomes of them in training is not."""
    study = search(store, evaluator=DESCRIBED, data=f"npz:{file}")
    assert study.store.settings("toy")["_augmentation"] == "not mirrored"
    assert "augmentation: not mirrored;" in study.report(tmp_path / "report.html").read_text("utf-8")
    np.savez(file, **arrays(mirror_invariant=True))
    line = mistake("resume", "toy", "--store", store, writes=True)
    assert "It was started with: not mirrored. Got: mirrored at random." in line


def test_a_difference_without_parts_is_a_difference():
    old, new = DataIdentity(fingerprint="a"), DataIdentity(fingerprint="b", parts={"test images": "c"})
    assert old.difference(new) == "other data"
    assert new.difference(old) == "other data"
    assert not old.difference(DataIdentity(fingerprint="a", parts={"test images": "c"}))


def test_the_data_of_a_finished_study_are_compared_before_they_measure(tmp_path):
    """Select and throttle measured noise as if it were the data of the study."""
    file, store = tmp_path / "data.npz", str(tmp_path / "nas.db")
    rng = np.random.default_rng(0)
    good = {"x_train": rng.integers(256, size=(400, 8, 8), dtype=np.uint8), "y_train": np.arange(400) % 3}
    np.savez(file, **good)
    study = nas.search(
        f"npz:{file}",
        study="s",
        space="slimmable",
        store=store,
        **TINY | {"train": 1, "pool": 4, "seed": 3, "max_macs": 5e5},
    )
    key = str(study.best().key)
    np.savez(file, **good | {"x_train": 255 - good["x_train"]})
    with pytest.raises(EnvironmentFault, match="other training images, test images"):
        nas.throttle(key, store=store, penalties=(1.0,), epochs=1)
    with pytest.raises(EnvironmentFault, match="other training images, test images"):
        nas.select(key, store=store, points=2)
    assert results.open(store).policies("s").empty
    nas.select(key, store=store, points=2, evaluations=4, data=f"npz:{file}")  # named: nothing is recorded
    np.savez(file, **good)
    nas.throttle(key, store=store, penalties=(1.0,), epochs=1)
    assert len(results.open(store).policies("s")) == 1
