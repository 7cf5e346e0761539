"""Searches with a PostgreSQL server that dies, and with text that no database can hold."""

import json
import threading
from types import SimpleNamespace

import pandas as pd
import pytest

import results
from nas.funnel.records import Records
from results import waiting
from results.writer import StudyWriter

from ..searching import arguments, search, toy


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The store of either database, which does not exist yet."""
    return (
        str(tmp_path / "nas.db") if request.param == "sqlite" else request.getfixturevalue("postgresql").new_database()
    )


def assert_same(first, second, study="toy"):
    """Two stores hold the same rows of a study."""
    for table in ("candidates", "evaluations", "points", "front"):
        frames = (getattr(results.open(url), table)(study) for url in (first, second))
        pd.testing.assert_frame_equal(*(frame.drop(columns="evaluated_at", errors="ignore") for frame in frames))


@pytest.mark.parametrize("call", [2, 6])
def test_a_server_that_stays_away_stops_the_search_with_one_line(
    postgresql, tmp_path, cli, in_process, monkeypatch, call
):
    """In the middle of a generation and in full training; after its restart, resuming gives the same study."""
    record, recorded = StudyWriter.record, []

    def killing(writer, *positional, **named):
        recorded.append(positional)
        if len(recorded) == call:
            postgresql.kill()
        record(writer, *positional, **named)

    url = postgresql.new_database()
    with monkeypatch.context() as patch:
        patch.setattr(StudyWriter, "record", killing)
        patch.setattr(waiting, "PATIENCE_SECONDS", 0.5)
        status, _, err = cli(*arguments(url, "--quiet"))
    assert status == 2
    assert err.startswith("nas: The store postgresql://nas@/")
    assert "did not answer for 0.5 s" in err
    assert err.count("\n") == 1
    status, _, err = cli("status", "--store", url)  # while the server is down
    assert (status, err.count("\n")) == (2, 1)
    postgresql.start()
    status, _, err = cli("resume", "toy", "--store", url, "--quiet")
    assert (status, err) == (0, "")
    search(tmp_path / "whole.db")
    assert_same(url, tmp_path / "whole.db")


def test_a_search_goes_on_when_the_server_is_back(postgresql, tmp_path, cli, in_process, monkeypatch):
    """It restarts in both generations and in full training."""
    record, recorded, url = StudyWriter.record, [], postgresql.new_database()

    def restarting(writer, *positional, **named):
        recorded.append(positional)
        if len(recorded) in (1, 5, 9):
            postgresql.kill()
            threading.Timer(0.3, postgresql.start).start()
        record(writer, *positional, **named)

    with monkeypatch.context() as patch:
        patch.setattr(StudyWriter, "record", restarting)
        status, _, err = cli(*arguments(url, "--quiet"))
    assert len(recorded) > 9
    assert status == 0, err
    search(tmp_path / "whole.db")
    assert_same(url, tmp_path / "whole.db")


def test_a_server_that_restarts_after_the_search_delays_the_summary(postgresql, cli, in_process, monkeypatch, caplog):
    finish, url = StudyWriter.finish, postgresql.new_database()

    def restarting(writer, *positional):
        finish(writer, *positional)
        postgresql.kill()
        threading.Timer(0.3, postgresql.start).start()

    monkeypatch.setattr(StudyWriter, "finish", restarting)
    status, out, err = cli(*arguments(url, "--quiet"))
    assert status == 0, err
    assert "Anytime accuracy" in out
    assert "Waiting for it, 600 s at most" in caplog.text


@pytest.mark.parametrize("evaluator", ["RaisesNul", "RaisesSurrogate"])
def test_reasons_with_odd_characters_are_stored_and_shown(url, cli, in_process, evaluator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = cli(*arguments(url, evaluator=toy(evaluator)))
    assert (status, "Traceback" in err) == (0, False)
    candidates = results.open(url).candidates("toy")
    (reason,) = set(candidates[candidates.status == "failed"].reason)
    assert (
        reason == {"RaisesNul": r"ValueError: bad\x00name", "RaisesSurrogate": r"ValueError: bad\udcffname"}[evaluator]
    )
    for command in (("status", "toy"), ("status",), ("front", "toy")):
        assert cli(*command, "--store", url)[0] == 0


def test_odd_characters_are_cleaned_everywhere(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = "a\x00b\udc80c"
    store = results.open(url)
    with store.writer("s", {"path": odd}) as writer:
        row = {
            "space": odd,
            "generation": 0,
            "status": "failed",
            "reason": odd,
            "traceback": odd,
            "choices": {odd: odd},
        }
        (number,) = writer.add_candidates([row | {"key": "abcd0123"}])
        writer.update_candidates({number: {"reason": odd + odd}})
        with pytest.raises(results.StoreError, match=r"must be valid UTF-8. Got a\\x00b\\udc80c: rename it"):
            writer.record(number, fidelity=1, repeat=0, realised_key="abcd0123", points=[], weights=odd)
        writer.finish("failed", odd)
    clean = r"a\x00b\udc80c"
    frame = store.candidates("s")
    assert frame.loc[0, ["space", "reason"]].tolist() == [clean, clean + clean]
    assert json.loads(frame.choices[0]) == {odd: odd}  # JSON escapes them: an option stays as it is
    assert store.studies().reason[0] == clean
    assert store.settings("s") == {"path": odd}


def test_the_log_takes_any_text(tmp_path):
    records = Records.__new__(Records)
    records.files, records._writer = tmp_path, SimpleNamespace(log=tmp_path / "log.txt")
    assert records.log("bad\udcff").read_text() == "bad\\udcff\n"
