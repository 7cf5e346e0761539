"""Searches on classes of unequal frequency: metrics from the task to the front, and balanced sampling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nas
import results
from evaluators.data import from_arrays
from evaluators.data.source import ImageSource
from evaluators.data.splitting import balanced
from evaluators.training.accuracy import certainty
from evaluators.training.evaluator import Training
from nas.errors import DataError, UserError
from results.front import Score

from ...nas.searching import TINY

SETTINGS = TINY | {"space": "slimmable", "max_macs": 1e6, "rule": "joint", "points": 2}


def arrays():
    """Images of two classes, of which one in twelve is rare and has a brighter half."""
    rng = np.random.default_rng(0)
    labels = (np.arange(600) % 12 == 0).astype(int)
    images = rng.normal(100, 40, (600, 1, 8, 8)) + 30 * labels[:, None, None, None] * (np.arange(8) < 4)
    images = images.clip(0, 255).astype(np.uint8)
    return images[:480], labels[:480], images[480:], labels[480:]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    store = str(tmp_path_factory.mktemp("metric") / "nas.db")
    return nas.search(arrays(), study="rare", store=store, metric="balanced_accuracy", sampling="balanced", **SETTINGS)


def recalls(network, images, labels, level):
    """The share of each class that is predicted."""
    with torch.no_grad():
        answers = network(network.preprocess(torch.from_numpy(images)), level).argmax(1).numpy()
    return [float((answers[labels == label] == label).mean()) for label in np.unique(labels)]


def test_a_metric_is_used_from_the_task_to_the_front(study, tmp_path):
    *_, x_test, y_test = arrays()
    score = study.score()
    assert (score.metric, score.floor) == ("balanced_accuracy", 0.5)
    best = study.best()
    network = nas.load(str(best.key), study="rare", store=study.url)
    assert network.architecture.task.metric == "balanced_accuracy"
    points = study.store.points("rare", key=best.key)
    points = points[(points.candidate == best.key) & (points.fidelity == points.fidelity.max())]
    for point in points.itertuples():
        expected = np.mean(recalls(network, x_test, y_test, point.level))
        assert point.test_accuracy == pytest.approx(expected)
    (axes,) = study.plot_front(tmp_path / "front.png").axes
    assert axes.get_ylabel() == "balanced accuracy"
    (axes,) = study.store.plot_history("rare").axes
    assert axes.get_ylabel() == "anytime balanced accuracy"
    report = study.report(tmp_path / "report.html").read_text()
    assert "anytime balanced accuracy of the front, validation images" in report


def test_the_metric_stays_with_the_network(study, tmp_path):
    network = nas.load(str(study.best().key), study="rare", store=study.url)
    x_train, y_train, x_test, y_test = arrays()
    np.savez(tmp_path / "rare.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    selected = nas.select(network, data=f"npz:{tmp_path}/rare.npz", points=1, evaluations=4)
    assert selected.points.test_accuracy.iloc[0] == pytest.approx(np.mean(recalls(selected.network, x_test, y_test, 0)))
    with pytest.raises(UserError, match="Got the metric balanced_accuracy"):
        Training(from_arrays(*arrays()), metric="balanced_accuracy").train_controllers(network, None)


def test_training_measures_the_metric_that_is_asked_for(study):
    network = nas.load(str(study.best().key), study="rare", store=study.url)
    trained = nas.train(network, arrays(), epochs=1, threads=1, metric="macro_f1").network
    assert trained.architecture.task == replace(network.architecture.task, metric="macro_f1")
    kept = nas.train(network, arrays(), epochs=1, threads=1).network
    assert kept.architecture.task.metric == "balanced_accuracy"


def test_other_metrics_are_not_compared(study):
    nas.search(arrays(), study="plain", store=study.url, metric="accuracy", **SETTINGS)
    assert study.store.settings("plain")["metric"] is None
    with pytest.raises(results.NotComparable, match="validation split and metric"):
        study.store.front(["rare", "plain"])
    with pytest.raises(results.SettingsDiffer, match="--metric not set"):
        nas.search(arrays(), study="plain", store=study.url, metric="macro_f1", **SETTINGS)


def test_metrics_that_cannot_be_measured_are_refused(study, monkeypatch):
    with pytest.raises(DataError, match=r"top5 needs more than 5 classes, without a hierarchy. Got 2 classes"):
        nas.search(arrays(), study="top", store=study.url, metric="top5", **SETTINGS)
    with pytest.raises(UserError, match="accuracy"):
        nas.search(arrays(), study="f2", store=study.url, metric="f2", **SETTINGS)
    with pytest.raises(UserError, match="sampling"):
        Training("digits", sampling="rare")
    plain = Training.info
    monkeypatch.setattr(Training, "info", lambda self: replace(plain(self), task=from_arrays(*arrays()).task))
    with pytest.raises(UserError, match=r"--metric must be what the evaluator offers, here accuracy. Got macro_f1"):
        nas.search(arrays(), study="other", store=study.url, metric="macro_f1", **SETTINGS)


def test_an_evaluator_without_balanced_sampling_is_told(study, monkeypatch):
    plain = Training.info
    monkeypatch.setattr(Training, "info", lambda self: replace(plain(self), sampling="all"))
    with pytest.raises(UserError, match=r"--sampling must be what the evaluator offers, here all. Got balanced"):
        nas.search(arrays(), study="other", store=study.url, sampling="balanced", **SETTINGS)


def test_the_certainty_is_that_of_simulated_measurements():
    labels = np.repeat([0, 1, 2], [900, 70, 30])
    rng = np.random.default_rng(0)
    right = rng.random((4000, 1000)) < 0.5
    spread = np.mean([right[:, labels == label].mean(1) for label in range(3)], axis=0).std()
    task = replace(from_arrays(*arrays()).task, num_classes=3, metric="balanced_accuracy")
    assert 0.5 / np.sqrt(certainty(task, labels) * 1000) == pytest.approx(spread, rel=0.05)
    assert certainty(replace(task, metric="accuracy"), labels) == 1.0


def test_scores_of_other_metrics_have_other_names():
    plain = Score(low=1, high=2, floor=0.1)
    assert replace(plain, metric="macro_f1").name == plain.name.replace("accuracy", "macro F1 score")
    assert replace(plain, metric="top-1").quantity == "top-1"


@given(st.lists(st.integers(0, 3), min_size=4, max_size=50), st.integers(4, 60), st.integers(0, 9))
def test_balanced_choices_have_equally_many_of_each_class_and_example(labels, size, seed):
    labels = np.array(labels)
    chosen = balanced(labels, size=size, seed=seed)
    assert len(chosen) == size
    counts = np.bincount(labels[chosen])[np.unique(labels)]
    assert counts.max() - counts.min() <= 1
    for label in np.unique(labels):
        often = np.bincount(chosen, minlength=len(labels))[labels == label]
        assert often.max() - often.min() <= 1


def test_epochs_of_balanced_sampling_have_other_images_of_frequent_classes():
    source = ImageSource(from_arrays(*arrays()), sampling="balanced")
    labels, rare = source.dataset.y_train, np.flatnonzero(source.dataset.y_train == 1)
    first, second = (source.training_subset(None, epoch) for epoch in (0, 1))
    for rows in (first, second, *(source.training_subset(60, part) for part in range(4))):
        assert abs(int(labels[rows].sum()) - len(rows) / 2) <= 0.5
    assert set(rare) & set(source.training_rows) <= set(first) & set(second)
    assert set(first) != set(second)
    few = source.training_subset(40, 2)
    assert len(set(few)) == 40  # no image twice: there are 28 of the rare class
    assert len(first) == len(source.training_rows)
    seen = [y for _, y in source.calibration(source.training_rows, 0, share=0.0).evaluate()]
    assert float(torch.cat(seen).double().mean()) == pytest.approx(0.5, abs=0.01)
