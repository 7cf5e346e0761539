"""Faults of the environment stop a study and leave no trace; candidates that fail do not count as trained."""

from __future__ import annotations

import errno

import pytest

from nas.errors import EnvironmentFault, UserError
from nas.launch import resume
from nas.plugins import load_plugin
from results.errors import StoreError
from results.writer import StudyWriter

from ..searching import PLUGINS, assert_same, content, search, space, state_of, statuses, toy

FAULTS = load_plugin("nas.evaluators", toy("FAULTS"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_environment_is_recorded_nowhere_and_resuming_continues(store, tmp_path, in_process, fault):
    """The fault occurs after the first generation."""
    file = tmp_path / "fault"
    settings = {"evaluator": toy("Faulty"), "data": str(file), "train": 12}
    search(tmp_path / "whole.db", **settings)
    file.write_text(fault)
    with pytest.raises(EnvironmentFault, match="No candidate is to blame: mend the cause and resume"):
        search(store, **settings)
    candidates = content(store)["candidates"]
    assert (candidates.status == "queued").sum() == 4
    assert not (candidates.status == "failed").any()
    state, reason = state_of(store)
    assert state == "interrupted"
    assert str(FAULTS[fault]).splitlines()[0][:20] in reason
    file.unlink()
    resume("toy", store=str(store))
    assert_same(content(tmp_path / "whole.db"), content(store))


def test_a_lost_store_stops_the_study(store, tmp_path, in_process, monkeypatch):
    record, calls = StudyWriter.record, []

    def lost(writer, *arguments, **settings):
        calls.append(arguments)
        if len(calls) == 6:
            raise StoreError("The store did not answer: connection closed")
        record(writer, *arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(StudyWriter, "record", lost)
        with pytest.raises(StoreError, match="connection closed"):
            search(store)
    assert not (content(store)["candidates"].status == "failed").any()
    resume("toy", store=str(store))
    search(tmp_path / "whole.db")
    assert_same(content(tmp_path / "whole.db"), content(store))


def test_a_full_disk_for_the_log_of_the_driver_interrupts(store, in_process, monkeypatch):
    def full(evaluator, folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(load_plugin("nas.evaluators", toy()), "discard", full)
    with pytest.raises(OSError, match="No space left"):
        search(store)
    assert state_of(store)[0] == "interrupted"


def test_a_space_without_its_file_stops_the_study(store, in_process):
    with pytest.raises(EnvironmentFault, match=r"space .*no proposal is to blame: FileNotFoundError"):
        search(store, spaces=(space("LosesItsFile"),))
    assert not store.exists()


def test_a_proxy_without_its_file_stops_the_study(store, in_process):
    with pytest.raises(EnvironmentFault, match="no proposal is to blame"):
        search(store, proxy=f"{PLUGINS}/parts.py:loses_its_file")


def test_failed_candidates_do_not_count_as_trained(store, in_process):
    study = search(store, evaluator=toy("Raises"), train=8)
    counted = statuses(study)
    assert counted["finished"] + counted["stopped"] == 8
    assert counted["failed"] > 0
    trained = study.candidates().dropna(subset="position")
    assert trained[trained.status == "failed"].reason.eq("RuntimeError: out of luck in two lines").all()
    assert state_of(store)[1] == f"The search ended because 8 candidates were trained and {counted['failed']} failed."


def test_failed_candidates_are_tried_again_on_request(store, tmp_path, in_process):
    """The study then equals one in which none failed, apart from the order in which candidates were stopped."""
    settings = {"evaluator": toy("RaisesUntilMended"), "data": str(tmp_path / "mended"), "train": 4}
    with pytest.raises(UserError, match=r"The last 4 failed, the last with RuntimeError: out of order\."):
        search(store, **settings)
    assert (content(store)["candidates"].status == "failed").sum() == 4
    with pytest.raises(UserError, match="The last 4 failed"):
        resume("toy", store=str(store), retry_failed=True)
    (tmp_path / "mended").touch()
    resume("toy", store=str(store), retry_failed=True)
    search(tmp_path / "whole.db", **settings)
    assert_same(content(tmp_path / "whole.db"), content(store))


def test_candidates_that_are_tried_again_compete_at_every_rung(store, tmp_path, in_process):
    settings = {"evaluator": toy("RaisesForSomeUntilMended"), "data": str(tmp_path / "mended")}
    study = search(store, **settings)
    failed = set(study.candidates().query("status == 'failed'").key)
    assert failed
    (tmp_path / "mended").touch()
    study = resume("toy", store=str(store), retry_failed=True)
    candidates = study.candidates().dropna(subset="position")
    assert set(candidates.status) == {"stopped", "finished"}
    assert candidates.set_index("key").loc[list(failed)].anytime_accuracy.notna().all()
    assert candidates.reason.str.startswith("Place ").all()
    assert state_of(store)[0] == "finished"
    before = content(store)
    resume("toy", store=str(store), retry_failed=True)  # nothing is left to try
    assert_same(before, content(store))


@pytest.mark.parametrize("limits", [{"generation": 1, "train": 9}, {"generation": 4, "train": 9}])
def test_a_study_in_which_all_candidates_diverge_ends_with_the_reason(store, in_process, limits):
    with pytest.raises(UserError, match=r"failed, the last with Diverged: The loss became nan\.") as raised:
        search(store, evaluator=toy("DivergesAlways"), **limits)
    assert "--retry-failed" in str(raised.value)
    assert "log.txt" in str(raised.value)
    assert state_of(store)[0] == "failed"
    assert 3 <= (content(store)["candidates"].status == "failed").sum() <= 4


def test_a_study_whose_only_candidates_diverged_is_not_finished(store, in_process):
    with pytest.raises(UserError, match=r"The last 2 failed, the last with Diverged"):
        search(store, evaluator=toy("DivergesAlways"), generation=2, generations=1, train=None)
    assert state_of(store)[0] == "failed"


def test_ten_failures_in_a_row_end_a_search_that_worked_before(store, tmp_path, in_process):
    (tmp_path / "mended").touch()
    settings = {"evaluator": toy("RaisesUntilMended"), "data": str(tmp_path / "mended")}
    search(store, **settings, train=4)
    (tmp_path / "mended").unlink()
    with pytest.raises(UserError, match="The last 12 failed"):
        resume("toy", store=str(store), train=40)
    assert len(content(store)["candidates"].query("status == 'finished'")) == 1
