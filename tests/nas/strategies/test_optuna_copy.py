"""Copies of studies in Optuna: trials of candidates and points, while the search runs and afterwards."""

from __future__ import annotations

import json

import optuna
import pytest

import results
from nas.strategies.optuna_copy import PAUSE, OptunaCopy, copy_study, optuna_studies
from results.front import Score

from ..searching import search, statuses

DOMAINS = {"depth": [1, 2, 3], "mixed": [1, True, "1"]}


def candidate(key, depth, status, **columns):
    choices = {"depth": depth, "mixed": True}
    return {"key": key, "space": "residual", "generation": 0, "status": status, "choices": choices} | columns


def point(level, macs, accuracy, **measures):
    return {"level": level, "macs": macs, "params": 10 * (level + 1), "accuracy": accuracy, "loss": 0.5} | measures


@pytest.fixture
def filled(tmp_path):
    """A running study: one candidate stopped, one finished, one failed, one in training, one rejected."""
    store = results.open(tmp_path / "nas.db")
    with store.writer("s", {}) as writer:
        writer.set_score(Score(low=10, high=100, floor=0.1))
        writer.set_memo({"seconds": 1.0, "domains": DOMAINS})
        a, b, _, d, _ = writer.add_candidates(
            [
                candidate("aaaa0001", 1, "stopped", reason="Place 2 of 2", reference="ResNet-8, width 16"),
                candidate("bbbb0002", 2, "finished"),
                candidate("cccc0003", 3, "failed", reason="OutOfMemory"),
                candidate("dddd0004", 1, "training"),
                candidate("eeee0005", 1, "infeasible"),
            ]
        )
        for number, fidelities in ((a, (0.5,)), (b, (0.5, 1.5)), (d, (0.5,))):
            for fidelity in fidelities:
                measured = [point(0, 10, 0.4), point(1, 20, 0.4 + fidelity / 10)]
                settings = {"epochs": 2 * fidelity, "seconds": 4 * fidelity, "realised_key": "k"}
                writer.record(number, fidelity=fidelity, repeat=0, points=measured, **settings)
        yield store, writer, b


def trials(study):
    return {trial.user_attrs["id"]: trial for trial in study.get_trials()}


def test_trials_have_choices_values_times_and_attributes(filled):
    store, _, _ = filled
    of_candidates, of_points = optuna_studies(store, "s")
    assert of_candidates.direction.name == "MAXIMIZE"
    assert [each.name for each in of_points.directions] == ["MINIMIZE", "MAXIMIZE"]
    found = trials(of_candidates)
    assert {name: trial.state.name for name, trial in found.items()} == {
        "aaaa0001/0/0.5": "PRUNED",
        "bbbb0002/0/1.5": "COMPLETE",
        "cccc0003/0/nan": "FAIL",
    }
    stopped, finished, failed = (found[name] for name in sorted(found))
    evaluations = store.evaluations("s").set_index(["candidate", "fidelity"])
    assert stopped.value == pytest.approx(evaluations.score["aaaa0001", 0.5])
    assert finished.intermediate_values == {
        1: pytest.approx(evaluations.score["bbbb0002", 0.5]),
        3: pytest.approx(evaluations.score["bbbb0002", 1.5]),
    }
    ends = [evaluations.evaluated_at["bbbb0002", fidelity].to_pydatetime() for fidelity in (0.5, 1.5)]
    between = (ends[1] - ends[0]).total_seconds()
    assert finished.duration.total_seconds() == pytest.approx(2.0 + between, abs=1e-3)
    assert finished.datetime_complete.astimezone() == evaluations.evaluated_at["bbbb0002", 1.5].to_pydatetime()
    assert (finished.params, stopped.params["depth"]) == ({"depth": 2, "mixed": "True"}, 1)
    assert failed.user_attrs["reason"] == "OutOfMemory"
    assert stopped.user_attrs["reference"] == "ResNet-8, width 16"
    expected = {"key": "bbbb0002", "macs_min": 10, "macs_max": 20, "params": 20, "accuracy": 0.55, "fidelity": 1.5}
    assert {name: finished.user_attrs[name] for name in expected} == expected


def test_points_are_trials_of_two_objectives(filled):
    store, _, _ = filled
    study = optuna_studies(store, "s")[1]
    found = {(t.user_attrs["key"], t.user_attrs["level"]): t.values for t in study.get_trials()}
    points = store.points("s")
    points = points[(points.candidate == "aaaa0001") | (points.fidelity == 1.5)]
    assert found == {(p.candidate, p.level): [p.macs, p.accuracy] for p in points.itertuples()}
    assert study.metric_names == ["MACs", "accuracy"]
    best = {(trial.user_attrs["key"], trial.user_attrs["level"]) for trial in study.best_trials}
    front = {(row.candidate, row.level) for row in points.itertuples() if row.accuracy in (0.4, 0.55)}
    assert best <= front


def test_a_finalist_has_another_trial_when_full_training_has_ended(filled, tmp_path):
    store, writer, b = filled
    url = f"sqlite:///{tmp_path}/optuna.db"
    copy = OptunaCopy(store, "s", url)
    assert copy.update() == 3
    assert copy.update() == 0
    measured = [point(0, 10, 0.9), point(1, 20, 0.95)]
    writer.record(b, fidelity=9.0, repeat=0, realised_key="k", epochs=20, points=measured)
    assert copy.update() == 0, "full training may go on"
    assert OptunaCopy(store, "s", url).update(ended=True) == 1
    assert OptunaCopy(store, "s", url).update(ended=True) == 0
    loaded = optuna.load_study(study_name="s", storage=url)
    assert sorted(trials(loaded)) == ["aaaa0001/0/0.5", "bbbb0002/0/1.5", "bbbb0002/0/9", "cccc0003/0/nan"]
    assert len(optuna.load_study(study_name="s-points", storage=url).get_trials()) == 6


def test_an_interrupted_copy_is_completed(filled, monkeypatch):
    store, _, _ = filled
    storage = optuna.storages.InMemoryStorage()
    add, added = optuna.Study.add_trial, []

    def fails(study, trial):
        added.append(trial)
        if len(added) == 3:
            raise OSError("disk full")
        add(study, trial)

    with monkeypatch.context() as patched:
        patched.setattr(optuna.Study, "add_trial", fails)
        with pytest.raises(OSError, match="disk full"):
            copy_study(store, "s", storage, ended=True)
    copy_study(store, "s", storage, ended=True)
    for copied, name in zip(optuna_studies(store, "s"), ("s", "s-points")):
        again = trials(optuna.load_study(study_name=name, storage=storage))
        assert sorted(again) == sorted(trials(copied))


def test_between_two_copies_is_a_pause(filled, tmp_path, monkeypatch):
    store, writer, _ = filled
    now = [100.0]
    monkeypatch.setattr("nas.strategies.optuna_copy.time.monotonic", lambda: now[0])
    copy = OptunaCopy(store, "s", f"sqlite:///{tmp_path}/optuna.db")
    assert copy.update(at_once=False) == 3
    (number,) = writer.add_candidates([candidate("ffff0006", 1, "stopped")])
    writer.record(number, fidelity=0.5, repeat=0, realised_key="k", points=[point(0, 10, 0.5)])
    assert copy.update(at_once=False) == 0
    now[0] += PAUSE
    assert copy.update(at_once=False) == 1


def test_a_search_is_copied_and_converted(tmp_path, in_process):
    url = f"sqlite:///{tmp_path}/optuna.db"
    study = search(tmp_path / "nas.db", optuna=url, train=8)
    copied = optuna.load_study(study_name="toy", storage=url).trials_dataframe()
    counts = statuses(study)
    assert (copied.state == "PRUNED").sum() == counts["stopped"]
    assert (copied.state == "COMPLETE").sum() >= counts["finished"]
    whole = study.optuna()
    assert {trial.user_attrs["key"] for trial in whole.get_trials()} == set(copied["user_attrs_key"])
    front = study.front()
    best = {(t.user_attrs["key"], t.user_attrs["level"]) for t in study.optuna(points=True).best_trials}
    assert set(zip(front.candidate, front.level)) & best
    for trial in whole.get_trials():
        row = study.candidates().set_index("key").loc[trial.user_attrs["key"]]
        assert trial.params.keys() == json.loads(row.choices).keys()
