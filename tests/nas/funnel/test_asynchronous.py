"""The asynchronous search: results in any order, limits, failures, and death at any instant."""

from __future__ import annotations

import math
import re
from contextlib import suppress

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.errors import EnvironmentFault, PluginError, UserError
from nas.funnel.asynchronous import MOST_REPEATS, AsynchronousFunnel
from nas.launch import resume
from nas.plugins import installed, load_plugin

from ..killing import Fate, Killed, SimulatedTime
from ..searching import content, search, space, state_of, toy
from ..slots import Slots, train_on

TINY = {"pool": 5, "generation": 3, "train": 6, "epochs": 3, "finalists": 1, "final_epochs": 2}


@pytest.fixture
def slots(in_process, monkeypatch):
    """Searches are asynchronous, on three slots."""
    return train_on(Slots(), monkeypatch)


def in_training(study):
    """Candidates that were chosen for training, in order of proposal."""
    candidates = study.candidates()
    return candidates[candidates.position.notna()].sort_values(["generation", "position"], ignore_index=True)


# Proposals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", installed("nas.strategies"))
def test_all_candidates_are_trained_and_the_best_in_full(store, slots, strategy):
    study = search(store, train=25, generation=5, pool=30, strategy=strategy)
    trained = in_training(study)
    assert len(trained) == 25
    assert set(trained.status) == {"stopped", "finished"}
    assert not trained.key.duplicated().any()
    assert trained.anytime_accuracy.notna().all()
    assert trained.reason.str.fullmatch(
        r"(Stopped by slots at epoch [13]|Trained to the end at epoch 9), with anytime accuracy 0\.\d{4}\."
    ).all()
    assert [place for place, control in enumerate(trained.control) if control] == [9, 19]
    assert set(study.front().fidelity) == {5}
    assert study.front().test_accuracy.notna().all()
    state, reason = state_of(store)
    assert state == "finished"
    assert reason.startswith("The search ended because 25 candidates were trained.")


def test_only_trainings_that_run_are_shown(store, slots, monkeypatch):
    report, shown = AsynchronousFunnel.report, []

    def look(self, candidate, epochs, outcome):
        accuracy = report(self, candidate, epochs, outcome)
        in_flight = self.trainer.activity.source()
        assert [(job.candidate, job.node) for job in in_flight.running] == [(number, "") for number in self.in_flight]
        with monkeypatch.context() as patch:
            patch.setattr(self, "places", lambda: {candidate: "a", -1: "b"})
            shown.extend((candidate, epochs, job) for job in self.trainer.activity.source().running)
        return accuracy

    monkeypatch.setattr(AsynchronousFunnel, "report", look)
    search(store, **TINY)
    assert shown
    for candidate, epochs, job in shown:
        assert (job.candidate, job.node, job.epoch) == (candidate, "a", epochs)


def test_no_slot_is_idle_before_the_limit(store, in_process, monkeypatch):
    slots, idle = train_on(Slots(slots=4), monkeypatch), []
    advance = Slots._advance

    def noting(self, training, epochs, **last):
        if self.funnel.records.ledger.chosen() < 20 or self.funnel._queued:
            idle.append(4 - len(self.funnel.in_flight))
        return advance(self, training, epochs, **last)

    monkeypatch.setattr(Slots, "_advance", noting)
    search(store, train=20, generation=3)
    assert set(idle) == {0}
    assert slots.most == 4


def test_a_pool_learns_from_the_results_before_it(store, slots, monkeypatch):
    histories, random = [], load_plugin("nas.strategies", "random")
    init = random.__init__

    def noting(self, *, seed, history=()):
        histories.append(len(history))
        init(self, seed=seed, history=history)

    monkeypatch.setattr(random, "__init__", noting)
    search(store, train=18, generation=3)
    pools = [count for count in histories if count]
    assert len(pools) == 5  # not the first one
    assert all(3 * place - 3 <= count <= 3 * place for place, count in enumerate(pools, 1))


def test_the_proxy_ranks_a_pool_or_not(store, slots):
    study = search(store, train=30, generation=5, pool=40, evaluator=toy("Known"), proxy=toy("misleads"))
    reliance = study.store.memo("toy")["reliance"]
    assert list(reliance) == [str(number) for number in range(6)]
    assert reliance["5"]["share"] < 0.2


def test_an_exhausted_space_ends_the_search(store, slots):
    study = search(store, spaces=(space("Six"),), train=20, generation=2)
    assert 4 <= len(in_training(study)) <= 6
    assert "no feasible candidate was found that the study has not seen" in state_of(store)[1]


# Limits ------------------------------------------------------------------------------------------------------------


def test_generations_limit_the_number_of_pools(store, slots):
    study = search(store, train=None, generations=3)
    assert set(in_training(study).generation) == {0, 1, 2}
    assert "3 generations were trained" in state_of(store)[1]


def test_more_candidates_after_the_end(store, slots):
    search(store, train=5, generation=3)
    finals = content(store)["points"].query("fidelity == 5").candidate_id
    study = resume("toy", store=str(store), train=30)
    assert len(in_training(study)) == 30
    again = content(store)["points"].query("fidelity == 5").candidate_id
    assert set(again) > set(finals)  # they are chosen among all


def test_a_finished_study_stays_as_it_is(store, slots):
    search(store)
    before, trained = content(store), len(slots.trained)
    search(store)
    assert len(slots.trained) == trained
    for name, rows in content(store).items():
        pd.testing.assert_frame_equal(rows, before[name], check_exact=True)


def test_hours_leave_time_for_full_training(store, slots, monkeypatch):
    SimulatedTime(monkeypatch)
    study = search(store, train=None, hours=0.2 / 3600)
    state, reason = state_of(store)
    assert state == "finished"
    assert "share of" in reason
    assert study.front().test_accuracy.notna().all()
    assert study.store.memo("toy")["seconds"] == pytest.approx(0.2, rel=0.1)
    queued = in_training(study).status.eq("queued").sum()
    assert queued <= 3
    study = resume("toy", store=str(store), hours=1.0, train=1)
    assert not in_training(study).status.eq("queued").any()


def test_training_beyond_the_time_limit_is_stopped_and_resumed(store, slots, monkeypatch):
    SimulatedTime(monkeypatch, seconds=0.02)
    study = search(store, train=None, hours=0.3 / 3600, epochs=60, final_epochs=60)
    state, reason = state_of(store)
    assert state == "interrupted"
    assert "hours passed" in reason
    assert in_training(study).status.eq("training").any()
    study = resume("toy", store=str(store), hours=1.0, train=4)
    assert state_of(store)[0] == "finished"
    assert not in_training(study).status.eq("training").any()


# Failures ----------------------------------------------------------------------------------------------------------


def test_failed_candidates_do_not_count_as_trained(store, slots):
    study = search(store, evaluator=toy("Raises"), train=12)
    counts = in_training(study).status.value_counts()
    assert counts["failed"] >= 2
    assert counts.drop("failed").sum() == 12
    assert "12 candidates were trained and" in state_of(store)[1]


def test_failed_candidates_are_tried_again_on_request(store, slots, tmp_path):
    file = tmp_path / "mended"
    search(store, evaluator=toy("RaisesForSomeUntilMended"), data=str(file), train=12)
    file.touch()
    study = resume("toy", store=str(store), retry_failed=True)
    assert not in_training(study).status.eq("failed").any()


@pytest.mark.parametrize("lose", [0.0, 0.3])
def test_a_failure_without_an_owner_is_repeated_once_and_alone(store, in_process, monkeypatch, lose):
    slots = train_on(Slots(slots=3, lose=lose), monkeypatch)
    outcome, alone = Slots._outcome, []

    def noting(self, training, epochs):
        if training.candidate in failed:
            alone.append(len(self.funnel.in_flight))
        result = outcome(self, training, epochs)
        if result is None:
            failed.add(training.candidate)
        return result

    failed: set[int] = set()
    monkeypatch.setattr(Slots, "_outcome", noting)
    study = search(store, evaluator=toy("Crowded"), train=10)
    assert set(in_training(study).status) == {"finished", "stopped"}
    assert set(alone) == {1}
    assert len(failed) == 10
    assert slots.most == 3
    assert "is repeated once, alone" in (study.store.files("toy") / "log.txt").read_text()


def test_few_failures_without_an_owner_wait_at_once(store, in_process, monkeypatch):
    train_on(Slots(slots=2), monkeypatch)
    waiting, propose = [], AsynchronousFunnel.propose

    def noting(funnel):
        waiting.append(funnel._repeats.repeats)
        return propose(funnel)

    monkeypatch.setattr(AsynchronousFunnel, "propose", noting)
    search(store, evaluator=toy("Crowded"), train=20)
    assert max(waiting) <= MOST_REPEATS + 1  # those in flight may fail too


def test_twice_without_an_owner_is_the_candidates_failure(store, slots):
    study = search(store, evaluator=toy("OutOfMemory"), train=9)
    failed = in_training(study).query("status == 'failed'")
    assert len(failed) >= 2
    assert set(failed.attempts) == {2}


def test_a_fault_of_the_environment_stops_the_search_and_is_recorded_nowhere(store, slots, tmp_path):
    file = tmp_path / "fault"
    file.write_text("disk")
    with pytest.raises(EnvironmentFault, match="No candidate is to blame"):
        search(store, evaluator=toy("Faulty"), data=str(file), train=12)
    assert not content(store)["candidates"].status.eq("failed").any()
    assert state_of(store)[0] == "interrupted"
    file.unlink()
    study = resume("toy", store=str(store))
    assert set(in_training(study).status) == {"finished", "stopped"}


def test_failures_in_a_row_end_the_search(store, slots):
    with pytest.raises(UserError, match="The last 3 failed"):
        search(store, evaluator=toy("RaisesAlways"), train=50)
    assert content(store)["candidates"].status.eq("failed").sum() == 3


def test_a_broken_strategy_ends_the_search(store, slots, monkeypatch):
    monkeypatch.setattr(load_plugin("nas.strategies", "random"), "ask", lambda self: 1 / 0)
    with pytest.raises(PluginError, match="strategy"):
        search(store)


def test_a_lost_training_is_proposed_again_and_nobody_is_charged(store, in_process, monkeypatch):
    slots = train_on(Slots(slots=3, lose=0.4), monkeypatch)
    study = search(store, train=15)
    assert set(in_training(study).status) == {"finished", "stopped"}
    assert len(slots.trained) == len(set(slots.trained))


# Death -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_death_at_any_instant_repeats_nothing(tmp_path, in_process, monkeypatch):
    _survive(tmp_path, monkeypatch, stride=23)


@pytest.mark.slow
def test_death_at_every_instant_repeats_nothing(tmp_path, in_process, monkeypatch):
    _survive(tmp_path, monkeypatch, stride=1)


def _survive(folder, monkeypatch, *, stride):
    slots, fate = train_on(Slots(), monkeypatch), Fate(monkeypatch)
    search(folder / "whole.db", **TINY)
    events = fate.events
    assert events > 60
    for deadly in range(1, events + 1, stride):
        store = folder / f"{deadly}.db"
        slots.seed, slots.trained = deadly, []
        for after in (deadly, deadly // 3 + 1, math.inf):
            fate.after(after)
            with suppress(Killed):
                search(store, **TINY)
        check_whole(store, slots, train=6)


def check_whole(store, slots, *, train):
    """A study is complete: every candidate ended as its results say, and no measured rung was trained again."""
    study = search(store, **TINY | {"train": train})
    trained = in_training(study)
    assert len(trained) == train
    assert set(trained.status) <= {"stopped", "finished"}
    assert not trained.key.duplicated().any()
    assert list(trained.groupby("generation").position.apply(list)) == [[0, 1, 2]] * (train // 3)
    assert state_of(store)[0] == "finished"
    points, results = content(store)["points"], study.store.evaluations("toy")
    for row in trained.itertuples():
        epochs, accuracy = re.search(r"at epoch (\d), with anytime accuracy (.*)\.", row.reason).groups()
        last = results[(results.candidate == row.key) & (results.fidelity == int(epochs) / 2)]
        assert float(accuracy) == pytest.approx(last.score.item(), abs=1e-4)
        rungs = [epochs for key, epochs in slots.trained if key == row.key]
        assert len(rungs) - len(set(rungs)) <= 2  # once per death: trained, and not yet recorded
    assert points.groupby(["candidate_id", "fidelity", "repeat"]).size().eq(4).all()
    full = points[points.fidelity == 2]
    assert full.test_accuracy.notna().all()
    assert full.candidate_id.nunique() >= 1


def test_results_do_not_depend_on_deaths_or_on_the_order_of_completion(tmp_path, in_process, monkeypatch):
    """A candidate has the same accuracy at a rung in all studies, and as in a search by generations."""
    search(tmp_path / "generations.db", **TINY)
    slots, fate = train_on(Slots(), monkeypatch), Fate(monkeypatch)
    known = {}
    for number in range(4):
        slots.seed = number
        store = tmp_path / f"{number}.db"
        for after in (20 + 5 * number, math.inf):
            fate.after(after)
            with suppress(Killed):
                search(store, **TINY)
        rows = content(store)
        keys = rows["candidates"].set_index("id").key
        for row in rows["points"].itertuples():
            place = keys[row.candidate_id], row.fidelity, row.level
            assert known.setdefault(place, row.accuracy) == row.accuracy


def test_candidates_in_training_continue_with_known_results(store, in_process, monkeypatch):
    slots = train_on(Slots(slots=4), monkeypatch)
    report, seen = AsynchronousFunnel.report, []

    def deadly(funnel, candidate, *arguments):
        again = candidate in seen  # so it has a result that the next run knows
        seen.append(candidate)
        if again and len(funnel.in_flight) >= 3:
            raise Killed
        return report(funnel, candidate, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(AsynchronousFunnel, "report", deadly)
        with pytest.raises(Killed):
            search(store, train=12)
    trainings, propose = [], AsynchronousFunnel.propose
    interrupted = content(store)["candidates"].query("status == 'training'").key.tolist()
    assert len(interrupted) >= 3

    def noting(funnel):
        training = propose(funnel)
        trainings.append(training)
        return training

    monkeypatch.setattr(AsynchronousFunnel, "propose", noting)
    search(store, train=12)
    first = trainings[: len(interrupted)]
    assert [training.key for training in first] == interrupted
    assert any(training.known for training in first)
    assert all(not training.known for training in trainings[len(interrupted) :] if training)
    assert len(slots.trained) - len(set(slots.trained)) <= 1


def test_a_candidate_with_its_last_result_is_finished_by_the_next_run(store, slots, monkeypatch):
    def deadly(funnel, candidate):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(AsynchronousFunnel, "finished", deadly)
        with pytest.raises(Killed):
            search(store, train=9)
    assert not content(store)["candidates"].status.eq("finished").any()
    study = search(store, train=9)
    assert in_training(study).status.eq("finished").any()
    assert len(set(slots.trained)) == len(slots.trained)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    number=st.integers(1, 6),
    seed=st.integers(0, 1000),
    lose=st.sampled_from([0.0, 0.3]),
    generation=st.integers(1, 7),
    deaths=st.lists(st.integers(1, 150), max_size=3),
    evaluator=st.sampled_from(["Toy", "Raises", "OutOfMemory"]),
)
def test_every_history_ends_in_a_whole_study(
    tmp_path_factory, in_process, monkeypatch, number, seed, lose, generation, deaths, evaluator
):
    store = tmp_path_factory.mktemp("study") / "nas.db"
    wanted = {**TINY, "generation": generation, "train": 8, "evaluator": toy(evaluator)}
    with monkeypatch.context() as patch:
        slots, fate = train_on(Slots(slots=number, seed=seed, lose=lose), patch), Fate(patch)
        for after in [*deaths, math.inf]:
            fate.after(after)
            with suppress(Killed):
                search(store, **wanted)
    trained = in_training(search(store, **wanted))
    assert not trained.key.duplicated().any()
    assert set(trained.status) <= {"stopped", "finished", "failed"}
    assert trained.status.ne("failed").sum() == 8
    assert slots.most <= number
    assert state_of(store)[0] == "finished"
