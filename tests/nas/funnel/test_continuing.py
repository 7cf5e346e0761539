"""Finalists that continue their partial training: measured and saved at marks, and fitted to the time."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress

import pytest

from nas import launch
from nas.funnel import halving
from nas.funnel.full import finals
from nas.funnel.training import CandidateTrainer
from nas.launch import resume
from nas.plugins import load_plugin

from ..killing import Fate, Killed, SimulatedTime
from ..searching import InProcess, assert_same, content, search, state_of, toy

CONTINUES = toy("Continues")
SHORT = {"evaluator": CONTINUES, "generation": 3, "train": 6, "pool": 5, "epochs": 3, "final_epochs": 5, "finalists": 1}
SECONDS = 0.2
"""Of a study in simulated time."""


@pytest.fixture
def trained(monkeypatch):
    """The epochs that were trained, as pairs of folder and epoch."""
    seen = []
    evaluator = load_plugin("nas.evaluators", toy())
    monkeypatch.setattr(evaluator, "epoch", lambda toy, job, epoch: seen.append((job.folder, epoch)))
    return seen


def test_a_finalist_continues_after_its_partial_training(store, in_process, trained):
    study = search(store, **SHORT)
    assert [epoch for folder, epoch in trained if folder.endswith("full-0")] == [3, 4, 5, 6, 7]
    evaluations = study.store.evaluations("toy")
    full = evaluations[evaluations.fidelity > 1.5]  # partial training: 3 epochs over half of the images
    assert full.candidate.nunique() == 1
    assert list(full.fidelity) == [3.5, 4.5, 6.5]
    assert list(full.epochs) == [5, 6, 8]
    assert set(study.front().fidelity) == {6.5}


def test_a_finalist_is_measured_and_saved_at_each_mark_and_tested_at_the_end(store, in_process):
    study = search(store, **SHORT)
    points = study.points()
    assert points[points.fidelity > 1.5].groupby("fidelity").test_accuracy.count().to_dict() == {3.5: 0, 4.5: 0, 6.5: 4}
    evaluations = study.store.evaluations("toy")
    marks = evaluations[evaluations.fidelity > 1.5]
    assert marks.weights.str.endswith("full-0").all()
    files = study.store.files("toy")
    assert (files / marks.weights.iloc[0] / "network.json").exists()
    assert not list(files.rglob("checkpoint*"))


def test_repeats_begin_with_other_weights_and_not_with_the_partial_training(store, in_process, trained):
    study = search(store, **SHORT, seeds=2)
    for repeat in (0, 1):
        assert [epoch for folder, epoch in trained if folder.endswith(f"full-{repeat}")] == [0, 1, 2, 3, 4]
    full = study.points().query("fidelity == 5")
    assert sorted(full.repeat.unique()) == [0, 1]


def test_several_finalists_go_from_mark_to_mark_together(store, in_process, trained, monkeypatch):
    monkeypatch.setattr(finals, "LEAST_GAIN", -1.0)  # another finalist always joins
    study = search(store, **SHORT | {"finalists": 2})
    epochs = [epoch for folder, epoch in trained if folder.endswith("full-0")]
    assert epochs == [3, 4, 3, 4, 5, 5, 6, 7, 6, 7]
    assert study.points().query("fidelity == 6.5").candidate.nunique() == 2


def test_networks_are_saved_at_every_rung_until_a_candidate_has_finished(store, in_process):
    study = search(store, **SHORT)
    candidates = study.candidates().dropna(subset="position").set_index("key")
    evaluations = study.store.evaluations("toy").query("fidelity <= 1.5")
    saved = evaluations.assign(generation=evaluations.candidate.map(candidates.generation)).groupby("generation")
    assert saved.weights.count().to_dict() == {0: 4, 1: 1}  # 3 and 1 at two rungs; then only the end of training


@pytest.mark.parametrize("finalists", [1, 2])
def test_death_at_any_instant_changes_nothing(tmp_path, in_process, monkeypatch, finalists):
    monkeypatch.setattr(finals, "LEAST_GAIN", -1.0)
    settings = SHORT | {"finalists": finalists, "train": 3}
    fate = Fate(monkeypatch)
    search(tmp_path / "whole.db", **settings)
    whole, events = content(tmp_path / "whole.db"), fate.events
    for deadly in range(2, events + 1, 9 if finalists == 1 else 23):
        store = tmp_path / f"{deadly}.db"
        fate.after(deadly)
        with pytest.raises(Killed):
            search(store, **settings)
        fate.after(deadly // 3 + 1)
        with suppress(Killed):
            search(store, **settings)
        fate.after(math.inf)
        search(store, **settings)
        assert_same(whole, content(store))


def test_a_finalist_whose_checkpoints_are_lost_is_trained_anew_with_equal_results(tmp_path, in_process, monkeypatch):
    search(tmp_path / "whole.db", **SHORT)
    store = tmp_path / "nas.db"
    monkeypatch.setattr(CandidateTrainer, "train", _killed_in_full_training(CandidateTrainer.train))
    with pytest.raises(Killed):
        search(store, **SHORT)
    monkeypatch.undo()
    for checkpoint in store.parent.rglob("checkpoint*"):
        checkpoint.unlink()
    monkeypatch.setattr(launch, "LocalRunner", InProcess)
    resume("toy", store=str(store))
    assert_same(content(tmp_path / "whole.db"), content(store))


def _killed_in_full_training(train):
    def killed(trainer, repeats, stretch, **settings):
        if stretch.part == "full" and stretch.until > 5:
            raise Killed
        train(trainer, repeats, stretch, **settings)

    return killed


def test_a_candidate_that_is_left_alone_goes_on_in_full_training_if_the_time_is_limited(
    store, in_process, trained, monkeypatch
):
    """In later generations there is one to compare with, so their partial training goes on to the last rung."""
    SimulatedTime(monkeypatch)
    monkeypatch.setattr(halving, "FINAL_CANDIDATES", 1)
    limits = {"train": None, "hours": SECONDS / 3600, "final_epochs": None}
    candidates = search(store, **SHORT | limits).candidates().dropna(subset="position")
    finished = candidates[candidates.status == "finished"].groupby("generation").reason.first()
    assert finished[0].startswith("Place 1 of 3 at epoch 1,")
    assert finished[1].startswith("Place 1 of 1 at epoch 3,")


def test_if_the_time_is_limited_three_candidates_of_the_first_generation_are_compared_at_the_last_rung(
    store, in_process, monkeypatch
):
    SimulatedTime(monkeypatch)
    limits = {"train": None, "hours": SECONDS / 3600, "final_epochs": None, "generation": 5}
    candidates = search(store, **SHORT | limits).candidates().dropna(subset="position")
    first = candidates[candidates.generation == 0].reason
    assert first[first.str.contains("at epoch 1,")].str.extract(r"Place (\d)")[0].astype(int).min() == 4
    assert sorted(first[first.str.contains("at epoch 3,")].str[:12]) == [f"Place {place} of 3" for place in (1, 2, 3)]


@pytest.mark.parametrize("pace", [0.5, 1.0, 1.6])
@pytest.mark.parametrize("finalists", [1, 2])
def test_full_training_fills_the_time_also_if_its_pace_differs(store, in_process, monkeypatch, pace, finalists):
    """Full training is slower or faster than partial training, because other trainings run beside it."""
    monkeypatch.setattr(finals, "_value", lambda curves, score: len(curves))  # another finalist always joins
    time, spent = SimulatedTime(monkeypatch), Counter()

    def epoch(toy, job, epoch):
        before = time.now
        time.advance(job, epoch)
        if job.folder.endswith("full-0"):
            time.now = before + pace * (time.now - before)
        spent[job.candidate] += time.now - before

    monkeypatch.setattr(load_plugin("nas.evaluators", toy()), "epoch", epoch)
    monkeypatch.setattr(load_plugin("nas.evaluators", CONTINUES), "duration", lambda toy, job: spent[job.candidate])
    limits = {"train": None, "hours": SECONDS / 3600, "final_epochs": None}
    study = search(store, evaluator=CONTINUES, finalists=finalists, **limits)
    assert state_of(store)[0] == "finished"
    assert study.store.memo("toy")["seconds"] == pytest.approx(SECONDS, rel=0.05)
    front = study.front()
    assert front.test_accuracy.notna().all()
    tested = study.points().dropna(subset="test_accuracy")
    assert tested.candidate.nunique() == finalists
    assert (tested.fidelity > 15).all()
