"""The search as a whole: its decisions, its reproducibility, and that killing it changes nothing."""

from __future__ import annotations

import json
import math
from contextlib import suppress

import numpy as np
import pytest

import nas
import results
from nas import launch
from nas.audit.reliance import WINS
from nas.errors import UserError
from nas.funnel import generation
from nas.funnel.full import finals
from nas.funnel.training import CandidateTrainer
from nas.launch import resume
from nas.plugins import installed, load_plugin
from results.front import Score

from ..killing import Fate, Killed, SimulatedTime
from ..searching import PLUGINS, InProcess, assert_same, content, search, space, state_of, statuses, toy

TINY = {"pool": 5, "generation": 3, "train": 6, "epochs": 3, "finalists": 1, "final_epochs": 2, "seeds": 2}
STRATEGIES = tuple(installed("nas.strategies"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study of 40 candidates in eight generations, four of them random controls; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "LocalRunner", InProcess)
        return search(tmp_path_factory.mktemp("study") / "nas.db", train=40, generation=5, pool=30, finalists=3)


# Decisions -----------------------------------------------------------------------------------------------------------


def test_every_candidate_has_a_status_and_a_reason(study):
    candidates = study.candidates()
    assert set(candidates.status) <= {"outranked", "stopped", "finished", "infeasible"}
    assert candidates.reason.notna().all()
    assert candidates.choices.map(json.loads).map(bool).all()
    trained = candidates[candidates.position.notna()]
    assert len(trained) == 40
    assert set(trained.status) == {"stopped", "finished"}
    assert trained.anytime_accuracy.notna().all()
    assert candidates[candidates.position.isna()].anytime_accuracy.isna().all()


def test_one_trained_candidate_in_ten_is_a_random_control(study):
    trained = study.candidates().dropna(subset="position").sort_values(["generation", "position"])
    assert [place for place, control in enumerate(trained.control) if control] == [9, 19, 29, 39]


def test_controls_are_different_networks(store, in_process, monkeypatch):
    same = load_plugin("nas.strategies", f"{PLUGINS}/parts.py:Constant")
    monkeypatch.setattr(generation, "Random", same)
    candidates = search(store, train=25, generation=25, pool=60).candidates()
    trained = candidates.dropna(subset="position")
    assert not trained.key.duplicated().any()
    assert trained.control.sum() == 2  # a proposal that repeats itself is changed


def test_no_network_is_trained_twice(study):
    assert not study.candidates().dropna(subset="position").key.duplicated().any()


def test_each_rung_keeps_the_best_third(study):
    score, points = study.score(), study.points()
    points = points[points.repeat == 0]
    for _, members in study.candidates().dropna(subset="position").groupby("generation"):
        alive = set(members.key)
        for fidelity, least in ((0.5, 5), (1.5, 2), (4.5, 1)):
            at = points[(points.fidelity == fidelity) & points.candidate.isin(members.key)]
            reached = {key: score(curve.macs, curve.accuracy) for key, curve in at.groupby("candidate")}
            assert set(reached) == alive
            assert len(alive) == least
            alive = set(sorted(alive, key=lambda key: (-reached[key], key))[: math.ceil(len(alive) / 3)])
        assert set(members[members.status == "finished"].key) == alive


def test_ties_at_a_rung_go_by_key(store, in_process, monkeypatch):
    monkeypatch.setattr(load_plugin("nas.evaluators", toy()), "points", _equal_points)
    candidates = search(store, train=6, generation=6).candidates().dropna(subset="position").sort_values("key")
    assert list(candidates.status) == ["finished", *["stopped"] * 5]
    assert [reason.split(",")[0] for reason in candidates.reason[2:]] == [
        f"Place {place} of 6 at epoch 1" for place in range(3, 7)
    ]


def _equal_points(self, job, state):
    costs = enumerate((100, 200, 300, 400))
    return [{"level": k, "macs": m, "params": m, "accuracy": 0.5, "loss": 1, "test_accuracy": 0.4} for k, m in costs]


def test_finalists_are_trained_in_full_on_all_images_and_measured_on_the_test_images(study):
    evaluations = study.store.evaluations("toy")
    full = evaluations[evaluations.fidelity == 5]
    assert 1 <= len(full) <= 3  # each adds to the front of those before it
    assert set(full.images) == {1000}
    points = study.points()
    assert points[points.fidelity == 5].test_accuracy.notna().all()
    assert points[points.fidelity < 5].test_accuracy.isna().all()
    front = study.front()
    assert set(front.fidelity) == {5}
    assert set(front.candidate) <= set(full.candidate)


def test_finalists_are_repeated_with_other_seeds(store, in_process):
    study = search(store, train=4, seeds=3, finalists=1)
    full = study.points()
    full = full[full.fidelity == 5]
    assert sorted(full.repeat.unique()) == [0, 1, 2]
    assert full[full.level == 3].accuracy.nunique() == 3
    front = study.front()
    assert (front.repeats == 3).all()
    assert front.accuracy_sd.notna().all()
    best = full[full.level == 3].accuracy
    assert front.accuracy.iloc[-1] == pytest.approx(best.mean())
    assert front.accuracy_sd.iloc[-1] == pytest.approx(best.std())


def test_checkpoints_are_gone_and_networks_are_kept(study):
    files = study.store.files("toy")
    assert not list(files.rglob("checkpoint*"))
    evaluations = study.store.evaluations("toy")
    saved = evaluations[evaluations.weights.notna()]
    assert all((files / folder / "network.json").exists() for folder in saved.weights)
    assert set(evaluations.candidate[evaluations.fidelity >= 4.5]) <= set(saved.candidate)  # finished, and finalists


def test_the_range_of_budgets_bounds_every_trained_candidate(study):
    trained = study.candidates().dropna(subset="position")
    assert (trained.macs_min <= study.score().low).all()
    assert study.score().floor == 0.1


@pytest.mark.parametrize(
    ("limits", "generations", "trained"),
    [
        ({"train": 7}, 2, 7),
        ({"train": 1}, 1, 1),
        ({"train": None, "generations": 2}, 2, 8),
        ({"train": 5, "generations": 2}, 2, 5),
        ({"train": 50, "generations": 1}, 1, 4),
        ({"train": None}, 9, 36),  # the default
    ],
)
def test_limits(store, in_process, limits, generations, trained):
    candidates = search(store, **limits).candidates().dropna(subset="position")
    assert (candidates.generation.nunique(), len(candidates)) == (generations, trained)


def test_an_exhausted_space_ends_the_study_with_a_message(store, in_process):
    study = search(store, spaces=(space("One"),))
    assert statuses(study)["finished"] == 1
    assert state_of(store) == (
        "finished",
        "The search ended because no feasible candidate was found that the study has not seen.",
    )
    assert len(study.front()) == 4
    search(store, spaces=(space("One"),))  # comes to the same end
    assert statuses(study)["finished"] == 1


def test_several_spaces_share_a_study(store, in_process):
    study = search(store, spaces=(space("Small"), space("Other")), train=12)
    assert set(study.candidates().dropna(subset="position").space) == {"Small", "Other"}
    assert all(set(choices) == {"space"} or len(choices) > 1 for choices in study.candidates().choices.map(json.loads))


def test_a_space_that_is_seldom_feasible_is_searched_on(store, in_process):
    study = search(store, pool=1, generation=1, train=2, max_macs=30_000)  # about one proposal in fifty
    assert statuses(study)["finished"] == 2
    assert statuses(study)["infeasible"] > 10


# Time as the limit ---------------------------------------------------------------------------------------------------


def test_hours_leave_time_for_full_training(store, in_process, monkeypatch):
    SimulatedTime(monkeypatch)
    study = search(store, train=None, hours=0.2 / 3600)
    state, reason = state_of(store)
    assert state == "finished"
    assert "share of" in reason
    assert study.front().test_accuracy.notna().all()
    assert study.store.memo("toy")["seconds"] == pytest.approx(0.2, rel=0.1)


def test_a_study_without_time_has_an_empty_front(store, in_process):
    study = search(store, train=None, hours=1e-6)
    assert study.front().empty
    assert state_of(store)[0] == "finished"


def test_without_time_for_full_training_there_is_none(store, in_process, monkeypatch):
    monkeypatch.setattr(finals, "images_within", lambda *_, **__: 1000.0)  # partial training has 4,500
    study = search(store, train=4, hours=1.0)
    assert set(study.front().fidelity) == {4.5}


def test_a_plan_of_full_training_outlives_its_driver(store, in_process, monkeypatch):
    monkeypatch.setattr(finals, "images_within", lambda *_, **__: 6000.0)
    monkeypatch.setattr(CandidateTrainer, "train", _until_full_training(CandidateTrainer.train))
    with pytest.raises(Killed):
        search(store, train=4, hours=1.0, final_epochs=20)
    monkeypatch.undo()
    monkeypatch.setattr(finals, "images_within", lambda *_, **__: 9000.0)
    monkeypatch.setattr(launch, "LocalRunner", InProcess)
    study = resume("toy", store=str(store))
    assert study.points().fidelity.max() == 6


def _until_full_training(train):
    def killed(trainer, repeats, stretch, **settings):
        if stretch.part == "full":
            raise Killed
        train(trainer, repeats, stretch, **settings)

    return killed


def test_training_that_exceeds_the_time_limit_is_stopped_and_can_be_resumed(store, in_process, monkeypatch):
    time = SimulatedTime(monkeypatch, seconds=0.02)
    study = search(store, train=None, hours=0.3 / 3600, epochs=60, final_epochs=60)
    assert 1.05 * 0.3 < time.now < 1.05 * 0.3 + 0.02
    state, reason = state_of(store)
    assert state == "interrupted"
    assert "hours passed" in reason
    resume("toy", store=str(store), hours=1.0, train=4)
    assert state_of(store)[0] == "finished"
    assert study.front().test_accuracy.notna().all()


# The same settings give the same study -------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_seeds_give_equal_studies_and_different_seeds_do_not(tmp_path, in_process, strategy):
    settings = {"strategy": strategy, "train": 16}
    first, second, other = (content(_run(tmp_path / f"{n}.db", settings, seed)) for n, seed in enumerate((5, 5, 6)))
    assert_same(first, second)
    proposed = [rows["candidates"].query("position.isna()").choices for rows in (first, other)]
    alike = [a == b for a, b in zip(*proposed)]
    assert sum(alike) < 0.2 * len(alike)  # the space is small: one may be the same by chance


def _run(store, settings, seed=0):
    search(store, **settings, seed=seed)
    return store


def test_any_number_of_workers_gives_the_same_study(tmp_path):
    for workers in (1, 2, 3):
        search(tmp_path / f"{workers}.db", workers=workers, strategy="tpe", train=12, generation=6)
    one = content(tmp_path / "1.db")
    for workers in (2, 3):
        assert_same(one, content(tmp_path / f"{workers}.db"), settings=False)


def test_a_finished_study_does_not_change(store, in_process):
    search(store)
    before = content(store)
    search(store)
    resume("toy", store=str(store))
    assert_same(before, content(store))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_extended_study_searches_as_one_that_was_long_from_the_start(tmp_path, in_process, strategy):
    long, extended = tmp_path / "long.db", tmp_path / "extended.db"
    search(long, strategy=strategy, train=16)
    search(extended, strategy=strategy, train=8)
    resume("toy", store=str(extended), train=16)
    first, second = content(long), content(extended)
    assert_same({"candidates": first["candidates"]}, {"candidates": second["candidates"]})
    partial = [rows["points"][rows["points"].fidelity < 5].reset_index(drop=True) for rows in (first, second)]
    assert_same({"points": partial[0]}, {"points": partial[1]})
    final = {(row.candidate_id, row.fidelity) for row in first["evaluations"].itertuples()}
    assert final <= {(row.candidate_id, row.fidelity) for row in second["evaluations"].itertuples()}


# Killed at any instant -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_death_at_any_instant_changes_nothing(tmp_path, in_process, monkeypatch, strategy):
    _survive(tmp_path, monkeypatch, strategy, stride=11 if strategy == "random" else 37)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_death_at_every_instant_changes_nothing(tmp_path, in_process, monkeypatch, strategy):
    _survive(tmp_path, monkeypatch, strategy, stride=1)


def _survive(folder, monkeypatch, strategy, *, stride):
    strategy_class, fate = load_plugin("nas.strategies", strategy), Fate(monkeypatch)
    if hasattr(strategy_class, "startup"):
        monkeypatch.setattr(strategy_class, "startup", 2)  # its model proposes from the second generation on
    search(folder / "whole.db", strategy=strategy, **TINY)
    whole, events = content(folder / "whole.db"), fate.events
    assert events > 80
    for deadly in range(1, events + 1, stride):
        store = folder / f"{deadly}.db"
        fate.after(deadly)
        with pytest.raises(Killed):
            search(store, strategy=strategy, **TINY)
        fate.after(deadly // 3 + 1)  # again, as far as it comes, and then no more
        with suppress(Killed):
            search(store, strategy=strategy, **TINY)
        fate.after(math.inf)
        search(store, strategy=strategy, **TINY)
        assert_same(whole, content(store))
        assert state_of(store)[0] == "finished"


def test_death_changes_no_decision_on_the_proxy(tmp_path, in_process, monkeypatch):
    settings = TINY | {"train": 30, "generation": 5, "evaluator": toy("Known"), "proxy": toy("misleads")}
    fate = Fate(monkeypatch)
    search(tmp_path / "whole.db", **settings)
    whole, decisions = content(tmp_path / "whole.db"), _decisions(tmp_path / "whole.db")
    assert decisions["5"]["share"] < decisions["0"]["share"] == 1 - WINS
    for deadly in np.linspace(fate.events // 2, fate.events, 12, dtype=int).tolist():
        store = tmp_path / f"{deadly}.db"
        fate.after(deadly)
        with pytest.raises(Killed):
            search(store, **settings)
        fate.after(math.inf)
        search(store, **settings)
        assert _decisions(store) == decisions
        assert_same(whole, content(store))
    fate.after(math.inf)


def _decisions(store):
    return results.open(str(store)).memo("toy")["reliance"]


def test_finished_epochs_are_not_repeated(store, in_process, monkeypatch):
    """Killed ten times, a study trains an epoch more each time at most: the one that it was in."""
    fate, epochs = Fate(monkeypatch), []
    monkeypatch.setattr(load_plugin("nas.evaluators", toy()), "epoch", lambda toy, job, epoch: epochs.append(epoch))
    search(store.with_name("whole.db"), **TINY)
    whole, trained = fate.events, len(epochs)
    for _ in range(10):
        fate.after(whole // 8)
        with suppress(Killed):
            search(store, **TINY)
    fate.after(math.inf)
    search(store, **TINY)
    assert trained <= len(epochs) - trained <= trained + 10


# Plug-ins that fail --------------------------------------------------------------------------------------------------


def test_options_that_change_end_the_study_with_the_reason_in_the_store(store, in_process):
    later = load_plugin("nas.search_spaces", space("ChangesOptionsLater"))
    later.calls = iter(range(500, 10_000))
    with pytest.raises(UserError, match="same options"):
        search(store, spaces=(space("ChangesOptionsLater"),), pool=60)
    state, reason = state_of(store)
    assert state == "failed"
    assert "same options" in reason


def test_a_space_that_raises_sometimes_is_searched_around(store, in_process):
    study = search(store, spaces=(space("RaisesSometimes"),), train=12)
    candidates = study.candidates()
    failed = candidates[candidates.status == "failed"]
    assert len(failed) > 2
    assert set(failed.reason) == {"KeyError: 'kernel 3'"}
    assert failed.position.isna().all()
    assert len(candidates.dropna(subset="position")) == 12
    assert all(row["traceback"].startswith("Traceback") for row in _rows(store) if row["status"] == "failed")


def _rows(store):
    with results.open(str(store)).writer("toy", results.open(str(store)).settings("toy")) as writer:
        return writer.rows()


def test_a_proxy_that_raises_sometimes_is_searched_around(store, in_process):
    study = search(store, proxy=space("").replace("spaces.py:", "parts.py:raises_sometimes"), train=12)
    candidates = study.candidates()
    assert len(candidates.dropna(subset="position")) == 12
    assert candidates[candidates.status == "failed"].reason.str.contains("no score").all()
    assert (candidates.status == "failed").any()


def test_nan_counts_as_the_floor(store, in_process):
    study = search(store, evaluator=toy("Nan"), train=12)
    candidates = study.candidates().dropna(subset="position")
    assert set(candidates.status) == {"stopped", "finished"}
    assert np.isclose(candidates.anytime_accuracy, 0.1).any()
    assert not study.front().accuracy.isna().any()


def test_a_failure_in_full_training_leaves_the_partial_results(store, in_process):
    study = search(store, evaluator=toy("RaisesInFull"))
    candidates = study.candidates()
    assert not (candidates.status == "failed").any()
    assert candidates.reason.str.contains("too long").sum() >= 1
    assert not study.front().empty


def test_optuna_gets_a_copy(store, in_process, tmp_path):
    import optuna

    url = f"sqlite:///{tmp_path}/optuna.db"
    study = search(store, optuna=url, train=8)
    copied = optuna.load_study(study_name="toy", storage=url).trials_dataframe()
    assert copied.user_attrs_key.nunique() == 8
    assert copied[copied.state == "COMPLETE"].user_attrs_key.nunique() == statuses(study)["finished"]


def test_different_settings_are_refused(store, in_process):
    search(store)
    with pytest.raises(results.SettingsDiffer, match=rf"--epochs 9 \(now 3\)\..* nas resume toy --store {store}\."):
        search(store, epochs=3)
    with pytest.raises(results.SettingsDiffer, match=r"--data nothing \(now something else\)"):
        search(store, data="something else")
    assert state_of(store)[0] == "finished"


def test_the_score_follows_the_settings(store, in_process):
    study = search(store, low=20_000, max_macs=400_000)
    assert study.score() == Score(low=20_000, high=400_000, floor=0.1)
    assert nas.Study("toy", store=str(store)).score() == study.score()


def test_optuna_gets_no_copy_of_another_study_of_this_name(store, in_process, tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    search(store, optuna=url, train=4)
    search(store, optuna=url, train=8)
    with pytest.raises(UserError, match="it is the copy of another study"):
        search(store.with_name("other.db"), optuna=url, train=4)
    assert not store.with_name("other.db").exists()
