"""Labels with a hierarchy as a user meets them: a mapping file, a search, and both accuracies wherever it is shown."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import nas
from evaluators.data.datasets import from_arrays
from evaluators.data.loading import load
from nas.launch import search
from results.plots import front_figure

from ..searching import TINY

DATA = "synthetic:n=300,classes=3,size=8,channels=1"
MAPPING = {"0": "rest", "1": "one", "2": "rest"}
COARSE = np.array([1, 0, 1])


@pytest.fixture(scope="module")
def mapping(tmp_path_factory):
    path = tmp_path_factory.mktemp("taxonomy") / "hierarchy.json"
    path.write_text(json.dumps(MAPPING))
    return str(path)


@pytest.fixture(scope="module")
def study(tmp_path_factory, mapping):
    """A finished search; not to be changed."""
    store = str(tmp_path_factory.mktemp("taxonomy") / "nas.db")
    return nas.search(DATA, study="s", space="slimmable", store=store, hierarchy=mapping, **TINY)


def test_both_accuracies_are_stored_and_agree_with_the_network(study):
    points = study.points()
    assert points.coarse_accuracy.notna().all()
    assert list(points.level[points.fine_accuracy.isna()].unique()) == [0, 1]
    np.testing.assert_allclose(points.accuracy, (points.fine_accuracy.fillna(0) + points.coarse_accuracy) / 2)
    full = points[points.fidelity == points.fidelity.max()]
    network, data = nas.load(full.candidate.iloc[0], store=study.url), load(DATA)
    x, truth = network.preprocess(torch.from_numpy(data.x_test)), COARSE[data.y_test]
    for point in full.itertuples():
        answers = network(x, point.level).argmax(1).numpy()
        assert np.mean((answers if point.level < 2 else COARSE[answers]) == truth) == pytest.approx(
            point.test_coarse_accuracy
        )
    assert study.score().floor == pytest.approx((1 / 3 + 2 / 3) / 2, abs=0.02)


def test_both_accuracies_are_shown(study, cli, tmp_path):
    key = str(study.best().key)
    for arguments in (("front", "s"), ("show", key)):
        status, out, err = cli(*arguments, "--store", study.url)
        assert (status, err) == (0, "")
        assert "test_fine_accuracy" in out
        assert "test_coarse_accuracy" in out
        assert "Accuracy: mean over fine and coarse labels" in out
    status, out, err = cli("report", "s", "--store", study.url, "--out", str(tmp_path / "s.html"), "-q", "--proxy=macs")
    assert (status, err) == (0, "")
    page = (tmp_path / "s.html").read_text()
    assert "test coarse accuracy" in page
    assert "Accuracy: mean over fine and coarse labels" in page
    axes = front_figure(study.store.curves("s"), study.front()).axes[0]
    assert axes.get_ylabel() == "accuracy, mean of fine and coarse labels"
    assert "answers in 2/2/3/3 labels" in cli("show", key, "--store", study.url)[1]


def test_a_preview_tells_the_numbers_of_labels(mapping, cli, tmp_path):
    options = ("--space", "slimmable", "--store", str(tmp_path / "nas.db"))
    status, out, _ = cli("search", "--data", DATA, "--hierarchy", mapping, "--dry-run", *options)
    assert status == 0
    assert "3 classes in 2 groups" in out


@pytest.mark.parametrize(
    ("content", "said"), [({"0": "a", "1": "a", "2": "a"}, "at least 2 coarse labels"), ({"0": "a"}, "Missing: 1, 2.")]
)
def test_a_mistake_in_the_mapping_is_one_line_and_leaves_no_study(cli, tmp_path, content, said):
    (tmp_path / "h.json").write_text(json.dumps(content))
    store = tmp_path / "nas.db"
    status, out, err = cli(
        "search", "--data", DATA, "--hierarchy", str(tmp_path / "h.json"), "--space", "slimmable", "--store", str(store)
    )
    assert (status, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not store.exists()


def test_a_hierarchy_of_arrays_in_memory_reaches_the_workers(tmp_path, in_process):
    dataset = load(DATA)
    arrays = dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test
    data = from_arrays(*arrays, y_train_coarse=COARSE[dataset.y_train], class_names=("a", "b", "c"))
    study = search(data, space="slimmable", store=str(tmp_path / "nas.db"), **(TINY | {"train": 1, "generation": 1}))
    assert study.points().coarse_accuracy.notna().all()
    assert load(study.config.data).class_names == ("a", "b", "c")
