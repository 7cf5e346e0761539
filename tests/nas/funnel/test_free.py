"""Trainings that are free: every candidate is trained in full at once, and is on the front."""

from __future__ import annotations

import pytest

from nas.errors import UserError
from nas.tune import Searcher

from ..killing import SimulatedTime
from ..searching import assert_same, content, search, space, state_of, statuses, toy

FREE = {"evaluator": toy("Free"), "epochs": None, "final_epochs": None, "finalists": None, "images": 10_000}


def test_every_candidate_is_trained_in_full_and_measured_on_the_test_images(store, in_process):
    study = search(store, **FREE, train=12, seeds=3)
    evaluations = study.store.evaluations("toy")
    assert statuses(study)["finished"] == 12
    assert set(evaluations.groupby("candidate").repeat.apply(tuple)) == {(0, 1, 2)}
    assert set(evaluations.epochs) == {7}
    assert set(evaluations.images) == {1000}
    points = study.points()
    assert points.test_accuracy.notna().all()
    front = study.front()
    mean = points.groupby(["candidate", "level"])[["macs", "accuracy"]].mean()
    assert front.accuracy.max() == pytest.approx(mean.accuracy.max())
    assert front.macs.min() == mean.macs.min()


def test_an_interrupted_search_is_as_one_without_interruption(tmp_path, in_process):
    search(tmp_path / "whole.db", **FREE, train=12, seeds=2)
    for train in (4, 8, 12):
        search(tmp_path / "parts.db", **FREE, train=train, seeds=2)
    assert_same(content(tmp_path / "whole.db"), content(tmp_path / "parts.db"))


def test_all_of_the_time_is_for_the_search(store, in_process, monkeypatch):
    SimulatedTime(monkeypatch)
    study = search(store, **FREE, train=None, hours=1 / 3600)
    assert "share of" in state_of(store)[1]
    assert study.store.memo("toy")["seconds"] > 0.8


def test_trials_of_ray_tune_train_epoch_by_epoch():
    with pytest.raises(UserError, match=r"whose trainings are free: use nas\.search"):
        Searcher(data="nothing", space=space(), evaluator=toy("Free"))


@pytest.mark.parametrize("spaces", [("Small",), ("Small", "Other")])
def test_a_job_has_the_choices_of_its_proposal(store, in_process, spaces):
    study = search(store, evaluator=toy("Rebuilds"), spaces=tuple(map(space, spaces)))
    assert "failed" not in statuses(study)
