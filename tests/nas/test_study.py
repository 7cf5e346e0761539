"""One real search, trained on real digits, and everything a user then does with it."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
import torch

import nas
import results
from evaluators.training.evaluator import Training
from nas.audit import study_audit
from nas.audit.wording import audit_summary
from nas.config import Config
from nas.errors import UserError
from nas.evaluation.jobs import Job
from nas.representation.architecture import Architecture
from nas.seeds import seed
from results.front import Score

from .searching import assert_same, content, start, workers_of
from .searching import nas as program

SETTINGS = {
    "max_macs": 1e6,
    "low": 1e5,
    "pool": 40,
    "generation": 3,
    "train": 6,
    "epochs": 2,
    "final_epochs": 3,
    "finalists": 2,
    "images": 400,
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('real')}/nas.db"


@pytest.fixture(scope="module")
def study(url):
    """Six candidates of `residual` and `mobile` trained for two epochs, two of them in full for three."""
    return nas.search("digits", space=["residual", "mobile"], store=url, study="real", **SETTINGS)


def in_full(study):
    """Passes of the finalists over all training images, those of partial training among them."""
    return study.points().fidelity.max()


def test_a_notebook_shows_how_it_ended_and_the_front(study):
    html = study._repr_html_()
    table = [re.findall("<td>(.*?)</td>", row) for row in html.split("<tr>")[1:]]
    front = study.front()
    assert [row[:2] for row in table] == [[f"{row.macs:,}", f"{row.params:,}"] for row in front.itertuples()]
    assert all(key in row for key, row in zip(front.candidate, table))
    assert html.startswith("Study &#x27;real&#x27;: finished. The search ended because")
    assert f"Best anytime accuracy {study.best().anytime_accuracy:.4f}: {study.best().key}" in html


def test_a_notebook_shows_a_study_without_results(tmp_path):
    with results.open(tmp_path / "nas.db").writer("s", Config(study="s").stored()):
        pass
    assert nas.Study("s", store=str(tmp_path / "nas.db"))._repr_html_().startswith("Study &#x27;s&#x27;: ")


def test_the_front_is_of_trained_and_tested_points(study):
    front = study.front()
    assert len(front) >= 2  # training differs a little between CPUs
    assert set(front.fidelity) == {in_full(study)}
    assert front.macs.is_monotonic_increasing
    assert front.accuracy.is_monotonic_increasing
    assert front.test_accuracy.between(0.11, 1).all()
    assert front.accuracy.max() > 0.3  # something was learned
    assert front.macs.max() <= 1e6
    assert set(front.space) <= {"residual", "mobile"}


def test_loaded_networks_have_exactly_the_stored_accuracies(study, url):
    """Validation and test accuracy and loss of all points of all that is kept, by the evaluator's own measure."""
    evaluator = Training("digits", device="cpu")
    x, y = evaluator.dataset.x_train, evaluator.dataset.y_train
    rows = evaluator.source.validation_rows
    for key, points in study.points().query("fidelity == @in_full(@study)").groupby("candidate"):
        network = nas.load(key, store=url)
        assert not network.training
        for images, labels, name in (
            (x[rows], y[rows], ""),
            (evaluator.dataset.x_test, evaluator.dataset.y_test, "test_"),
        ):
            raw = network.preprocess(torch.from_numpy(np.ascontiguousarray(images)))
            for point in points.itertuples():
                with torch.no_grad():
                    logits = network(raw, level=point.level)
                hits = (logits.argmax(1).numpy() == labels).mean()
                loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item()
                assert hits == pytest.approx(getattr(point, f"{name}accuracy"), abs=1e-12)
                assert loss == pytest.approx(getattr(point, f"{name}loss"), rel=1e-4)
        assert network.macs == tuple(points.macs)
        assert network.params == tuple(points.params)


def test_costs_in_the_store_are_those_of_the_architecture(study):
    for key, points in study.points().query("fidelity == @in_full(@study)").groupby("candidate"):
        architecture = Architecture.from_json(study.store.architecture(key))
        assert architecture.key == key
        assert nas.macs(architecture) == tuple(points.macs)
        assert nas.params(architecture) == tuple(points.params)


def test_a_job_that_is_trained_again_gives_the_same_numbers(study, tmp_path):
    """The seed of a training is a function of the study's seed, the network and the repeat; nothing else enters."""
    best = study.best()
    architecture = study.store.architecture(best.key)
    job = Job(
        candidate=0,
        architecture=architecture,
        seed=seed(0, Architecture.from_json(architecture).network_key, 0),
        epochs=5,
        until=5,
        images=None,
        folder=str(tmp_path),
        test=True,
        stages=[[1, 400], [2, 400], [3, None, 0.0, 1 / 3], [5, None, 1 / 3, 1.0]],
    )
    outcome = Training("digits", device="cpu", threads=1).evaluate(job, lambda epoch: None)
    stored = study.points().query("fidelity == @in_full(@study) and candidate == @best.key")
    for point, row in zip(outcome.points, stored.to_dict("records")):
        assert point == {name: row[name] for name in point}


def test_the_best_candidate_and_its_network(study, url):
    best = study.best()
    found = study.candidates()
    assert best.anytime_accuracy == found[found.fidelity == in_full(study)].anytime_accuracy.max()
    network = study.network()
    assert network.architecture.key == best.key
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    assert network(network.preprocess(images)).shape == (2, 10)
    assert network.at_budget(network.macs[1])(network.preprocess(images)).shape == (2, 10)
    with pytest.raises(results.StoreError, match="repeat=3"):
        study.network(repeat=3)


def test_networks_need_no_store(study, url, tmp_path):
    network = nas.load(study.best().key[:8], store=url)
    network.save(tmp_path / "folder")
    again = nas.load(tmp_path / "folder")
    x = torch.randint(0, 255, (5, 1, 8, 8), dtype=torch.uint8)
    for level in range(4):
        assert torch.equal(network(network.preprocess(x), level=level), again(again.preprocess(x), level=level))


def test_anytime_accuracy_is_that_of_the_front(study):
    front, score = study.front(), study.score()
    assert study.anytime_accuracy() == score(front.macs, front.accuracy)
    assert study.anytime_accuracy() >= study.best().anytime_accuracy - 1e-12
    assert score.floor == pytest.approx(0.1, abs=0.01)
    assert study.anytime_accuracy("test") == score(front.macs, front.test_accuracy, chosen_by=front.accuracy)
    assert isinstance(score, Score)


def test_the_audit(study, monkeypatch):
    monkeypatch.setattr(study_audit, "REFERENCE_SAMPLE", 100)
    found = study.audit()
    assert list(found.proxy) == ["dtmc", "macs", "params", "depth", "count"]
    assert set(found.n) == {6}
    assert set(found.references) == {100}
    assert set(found.verdict) == {"undecided"}
    audit = study.proxy_audit()
    result = audit.result()
    assert result.problems == {}
    first, second, third = study.audit_lines().splitlines()
    assert audit_summary(result.rows, *audit.comparison(), proxy="dtmc") == f"{first}\n{second}"
    assert third.startswith("dtmc chose ")


def test_calling_again_continues(study, url):
    again = nas.search("digits", space=["residual", "mobile"], store=url, study="real", **SETTINGS)
    assert again.front().equals(study.front())


def test_settings_that_differ_are_refused_and_harm_nothing(study, url):
    before = study.front()
    with pytest.raises(results.SettingsDiffer, match=r"--epochs 2 \(now 1\)\. Continue it .*: nas resume real --store"):
        nas.search("digits", space=["residual", "mobile"], store=url, study="real", **SETTINGS | {"epochs": 1})
    pd.testing.assert_frame_equal(study.front(), before)


def test_a_study_that_is_not_there(url, study):
    with pytest.raises(results.StoreError, match="Studies there: real"):
        nas.Study("other", store=url)


def test_a_study_without_results(tmp_path):
    with results.open(tmp_path / "nas.db").writer("empty", Config(study="empty").stored()):
        pass
    empty = nas.Study("empty", store=str(tmp_path / "nas.db"))
    assert empty.front().empty
    assert empty.candidates().empty
    for what in (empty.best, empty.audit, empty.anytime_accuracy, empty.score, empty.network):
        with pytest.raises(UserError, match="Resume it"):
            what()


def test_architectures_are_plain_data(study):
    for key in study.front().candidate.unique():
        data = study.store.architecture(key)
        assert Architecture.from_json(json.loads(json.dumps(data))).key == key


@pytest.mark.slow
def test_kill_9_of_real_training_loses_nothing(tmp_path, study, url):
    """Killed after one, three and five evaluations, the study equals the one of this module bit for bit."""
    store = tmp_path / "nas.db"
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    words = ["search", "real", "--data=digits", "--space=residual", "--space=mobile", "--store", str(store), *options]
    for count in (1, 3, 5):
        process = start(*words)
        while _num_evaluations(store) < count:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.kill()
        process.communicate()
    ended = program(*words)
    assert ended.returncode == 0, ended.stderr
    assert not workers_of(tmp_path)
    assert_same(content(url.removeprefix("sqlite:///"), "real"), content(store, "real"), settings=False)


def _num_evaluations(store):
    """The number of results in a store; 0 before it has tables."""
    if not store.exists():
        return 0
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        try:
            return connection.execute("SELECT COUNT(*) FROM evaluations").fetchone()[0]
        except sqlite3.OperationalError:
            return 0
