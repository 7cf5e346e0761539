"""Reading returns the written rows: frames, fronts, keys and files; and every error of a reading call."""

import math
import multiprocessing
import os
import pickle
import sqlite3

import pandas as pd
import pytest

import results
from results import StoreError
from results.front import Score
from results.reading import frames

SCORE = Score(low=1e6, high=16e6, floor=0.1)


def test_studies(filled):
    row = filled.studies().iloc[0]
    assert row[["study", "state", "candidates", "trained", "score"]].tolist() == [
        "fashion",
        "finished",
        4,
        3,
        SCORE.name,
    ]
    assert pd.isna(row["reason"])
    assert row["created_at"] <= row["updated_at"]
    assert str(row["created_at"].tz) == "UTC"


def test_candidates_are_summed_up_at_their_largest_fidelity(filled):
    frame = filled.candidates("fashion").set_index("key", drop=False)
    a, b, c = frame.loc["aaaa0001"], frame.loc["bbbb0002"], frame.loc["cccc0003"]
    assert a["anytime_accuracy"] == pytest.approx((0.5 + (0.6 + 0.8) / 2) / 2)
    assert a[["fidelity", "macs_min", "macs_max", "params_max", "seconds"]].tolist() == [1.0, 10**6, 4 * 10**6, 20, 10]
    assert a[["proxy_dtmc", "proxy_count"]].tolist() == [1.5, 3]
    assert math.isnan(b["proxy_dtmc"])
    assert b["position"] == 1
    assert b["control"]
    assert c["anytime_accuracy"] == pytest.approx(0.1)
    assert c["fidelity"] == 0.5
    assert frame["reference"].dropna().to_dict() == {"cccc0003": "MobileNetV2, width 24, expansion 3"}
    rejected = frame.iloc[3]
    assert rejected[["status", "reason", "generation", "choices"]].tolist() == [
        "infeasible",
        "too large",
        1,
        '{"depth":9}',
    ]
    assert pd.isna(rejected["key"])
    assert pd.isna(rejected["macs_max"])
    assert math.isnan(rejected["anytime_accuracy"])


def test_a_front_does_not_mix_accuracies_with_and_without_a_hierarchy(store, rows, points):
    for study, more in (("fine", {}), ("coarse", {"fine_accuracy": 0.0, "coarse_accuracy": 0.9})):
        with store.writer(study, {}) as writer:
            (number,) = writer.add_candidates([rows("abcd1234")])
            made = [points(0, 10**6, 0.5) | more]
            writer.record(number, fidelity=1, repeat=0, realised_key="abcd1234", points=made)
        assert len(store.front(study)) == 1
    with pytest.raises(results.NotComparable, match="labels in coarse, but not in fine: show their fronts"):
        store.front(["fine", "coarse"])


@pytest.mark.parametrize("settings", [{"data_fingerprint": "b"}, {"data_fingerprint": "a", "validation": 0.3}])
def test_a_front_of_different_data_or_validation_splits_is_mixed_on_request(store, rows, points, settings):
    of_studies = {"first": {"data_fingerprint": "a"}, "again": {"data_fingerprint": "a"}, "other": settings}
    for study, (of_study, macs) in zip(of_studies, zip(of_studies.values(), (10, 20, 30))):
        with store.writer(study, of_study) as writer:
            (number,) = writer.add_candidates([rows("abcd1234")])
            writer.record(number, fidelity=1, repeat=0, realised_key="abcd1234", points=[points(0, macs, macs / 100)])
    assert store.front(["first", "again"]).study.tolist() == ["first", "again"]
    message = r"same data, validation split and metric\. Different are those of first, again; other\. Show"
    with pytest.raises(results.NotComparable, match=message):
        store.front(["first", "again", "other"])
    with pytest.raises(results.NotComparable, match="those of first; other"):
        store.front(["first", "other"], max_macs=20)
    front = store.front(["first", "again", "other"], mixed=True)
    assert front.study.tolist() == ["first", "again", "other"]
    assert front.data[0] == front.data[1] != front.data[2]
    assert list(store.front(["first", "other"], mixed=True).columns) == [*store.front("first").columns, "data"]
    assert store.front("other", mixed=True).data.notna().all()


def test_a_score_that_was_not_measured_is_nan(store, rows, points):
    with store.writer("s", {}) as writer:
        (number,) = writer.add_candidates([rows("abcd1234")])
        writer.record(number, fidelity=1, repeat=0, realised_key="abcd1234", points=[points(0, 10**6, 0.5)])
        for score in (
            None,
            Score(low=1, high=2, floor=0, cost="latency_ms"),
            Score(low=1, high=2, floor=0, split="test"),
        ):
            if score:
                writer.set_score(score)
            assert math.isnan(store.candidates("s")["anytime_accuracy"].item())


def test_points_and_evaluations(filled):
    frame = filled.points("fashion")
    assert len(frame) == 8
    assert list(frame.columns) == [
        *("macs", "params", "accuracy", "test_accuracy", "candidate", "level", "fidelity", "repeat", "study", "space"),
        *("latency_ms", "loss", "test_loss", "fine_accuracy", "coarse_accuracy"),
        *("test_fine_accuracy", "test_coarse_accuracy", "nonzero_macs", "realised_key"),
    ]
    b = frame[frame["candidate"] == "bbbb0002"]
    assert set(b["realised_key"]) == {"bbbb9999"}
    assert b["latency_ms"].tolist() == [1.0, 2.0]
    assert frame[frame["candidate"] == "cccc0003"]["accuracy"].isna().all()
    evaluations = filled.evaluations("fashion")
    assert len(evaluations) == 5
    assert evaluations["weights"].dropna().tolist() == ["b.safetensors"]


def test_front_takes_means_at_full_fidelity(filled):
    front = filled.front("fashion")
    assert list(front.columns[:6]) == ["macs", "params", "accuracy", "test_accuracy", "candidate", "level"]
    assert front["macs"].tolist() == [10**6, 4 * 10**6, 8 * 10**6]
    assert front["accuracy"].tolist() == pytest.approx([0.5, 0.7, 0.9])
    assert front["repeats"].tolist() == [2, 2, 1]
    assert front["accuracy_sd"].tolist() == pytest.approx([0.0, math.sqrt(0.02), math.nan], nan_ok=True)
    assert front["macs"].dtype == "int64"
    assert filled.front("fashion", max_macs=4e6)["macs"].max() == 4 * 10**6
    assert filled.front("fashion", max_params=10)["level"].tolist() == [0]
    assert filled.front("fashion", fidelity=0.5)["accuracy"].tolist() == [0.99]
    assert filled.front("fashion", cost="latency_ms")["latency_ms"].tolist() == [1.0, 2.0]
    with pytest.raises(results.StoreError, match=r"fidelity=0.7; there are points at 0.5, 1"):
        filled.front("fashion", fidelity=0.7)
    with pytest.raises(results.StoreError, match=r"one of macs, params, latency_ms, nonzero_macs. Got 'flops'"):
        filled.front("fashion", cost="flops")


def test_front_of_several_studies(filled, rows, points):
    with filled.writer("other", {}) as writer:
        (number,) = writer.add_candidates([rows("dddd0004")])
        writer.record(number, fidelity=10, repeat=0, realised_key="dddd0004", points=[points(0, 10**6, 0.95)])
        writer.finish()
    assert filled.front(["fashion", "other"])["study"].tolist() == ["other"]
    assert len(filled.points(["fashion", "other"])) == 9
    with pytest.raises(results.StoreError, match=r"none\. Measured: macs, params"):
        filled.front("other", cost="latency_ms")


def test_an_empty_study_reads_as_empty_frames(store):
    store.writer("empty", {}).close()
    assert store.front("empty").empty
    assert store.points("empty").empty
    assert store.candidates("empty").empty
    assert store.evaluations("empty").empty
    assert store.front("empty")["macs"].dtype == "int64"
    assert store.score("empty") is None


def test_settings_and_score(filled):
    assert filled.settings("fashion") == {"epochs": 10, "_version": "1"}
    assert filled.score("fashion") == SCORE


def test_keys_by_prefix(filled, rows):
    assert filled.architecture("AAAA") == {"maps": [1]}
    assert filled.architecture("bbbb0") == {"maps": [2]}
    assert filled.architecture("bbbb9999") == {"maps": [9]}
    assert filled.key("cccc") == "cccc0003"
    with pytest.raises(results.StoreError, match="none begins so"):
        filled.architecture("dddd")
    with pytest.raises(results.StoreError, match=r"enough digits.*bbbb0002, bbbb9999"):
        filled.architecture("bbbb")
    for wrong in ("aaa", "nothex"):
        with pytest.raises(results.StoreError, match="at least 4"):
            filled.architecture(wrong)
    with filled.writer("fashion", {"epochs": 10}) as writer:
        writer.add_candidates([rows("eeee0005", status="outranked"), rows("eeee00056", status="outranked")])
    assert filled.key("eeee0005") == "eeee0005"  # a full key, though it also begins another
    with pytest.raises(results.StoreError, match="chosen for training"):
        filled.architecture("eeee0005")


def test_weights(filled):
    assert filled.find_network("bbbb0").weights.read_bytes() == b"weights"
    assert filled.find_network("bbbb9999").weights == filled.files("fashion") / "b.safetensors"
    with pytest.raises(results.StoreError, match=r"No weights of aaaa0001 were kept\. Train it again"):
        filled.find_network("aaaa")
    with pytest.raises(results.StoreError, match="repeat=1"):
        filled.find_network("bbbb0", repeat=1)
    filled.find_network("bbbb0").weights.unlink()
    with pytest.raises(results.StoreError, match="are missing: "):
        filled.find_network("bbbb0")


def test_delete(filled):
    with filled.writer("other", {}), pytest.raises(results.StoreError, match="being written by process"):
        filled.delete("other")
    folder = filled.files("fashion")
    filled.delete("fashion")
    assert filled.studies()["study"].tolist() == ["other"]
    assert not folder.exists()
    with pytest.raises(results.StoreError, match=r"Got 'fashion'. Studies there: other"):
        filled.points("fashion")
    filled.delete("other")
    with pytest.raises(results.StoreError, match="no studies in it"):
        filled.delete("other")


def test_urls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = results.open("sqlite:///nas.db")
    assert store.files("a.b-c_1") == tmp_path / "nas.db.files" / "a.b-c_1"
    monkeypatch.chdir("/")
    store.writer("s", {}).close()
    assert (tmp_path / "nas.db").is_file()
    assert pickle.loads(pickle.dumps(store)).studies()["study"].tolist() == ["s"]
    assert results.open(tmp_path / "nas.db").studies()["state"].tolist() == ["running"]
    hidden = repr(results.open("postgresql://user:secret@host/nas"))
    assert "host" in hidden
    assert "secret" not in hidden
    for wrong in (
        "",
        ":memory:",
        "sqlite://",
        "mysql://host/nas",
        "postgresql://host",
        "sqlite:///nas.db?mode=ro",
        "x://",
    ):
        with pytest.raises(results.StoreError, match="sqlite:///FILE"):
            results.open(wrong)


@pytest.mark.parametrize("name", ["", "..", ".hidden", "-x", "a/b", "a b", "ä", "x" * 101, "a\n"])
def test_study_names_that_are_no_folder_names(sqlite_store, name):
    with pytest.raises(results.StoreError, match="1 to 100 letters"):
        sqlite_store.writer(name, {})


def test_reading_a_missing_store_creates_nothing(sqlite_store, tmp_path):
    with pytest.raises(results.StoreError, match=r"no results store at .*nas.db"):
        sqlite_store.studies()
    assert list(tmp_path.iterdir()) == []


def test_reading_a_file_that_is_no_store(tmp_path):
    path = tmp_path / "nas.db"
    path.write_bytes(b"not a database, but long enough to be one" * 100)
    with pytest.raises(results.StoreError, match="must be a SQLite database") as caught:
        results.open(path).studies()
    assert caught.value.__cause__ is not None
    with pytest.raises(results.StoreError, match="must be a SQLite database"):
        results.open(path).writer("s", {})
    path.write_bytes(b"")
    with pytest.raises(results.StoreError, match="another database, or empty"):
        results.open(path).studies()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE studies (x)")
    connection.close()
    with pytest.raises(results.StoreError, match="tables of another program: studies"):
        results.open(path).writer("s", {})


def _as_nobody(folder, queue):
    """In a child without root's rights: read, then try to write."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    store = results.open(folder / "nas.db")
    try:
        queue.put(store.front("s")["macs"].tolist())
        store.writer("s", {})
    except results.StoreError as error:
        queue.put(str(error))


@pytest.fixture
def public_folder(tmp_path_factory):
    """A folder that other users can reach; pytest's own are private."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the child only reads, then exits
@pytest.mark.parametrize("log_left", [False, True])
def test_read_only_file_and_folder(public_folder, rows, points, log_left):
    store = results.open(public_folder / "nas.db")
    with store.writer("s", {}) as writer:
        (number,) = writer.add_candidates([rows("abcd1234")])
        writer.record(number, fidelity=1, repeat=0, realised_key="abcd1234", points=[points(0, 77, 0.5)])
        writer.finish()
    assert store.front("s")["macs"].tolist() == [77]  # also imports all that the child will need
    if log_left:
        (public_folder / "nas.db-wal").write_bytes(b"x" * 100)
    for path in (public_folder / "nas.db.files").rglob("*"):
        path.chmod(0o555)
    (public_folder / "nas.db").chmod(0o444)
    public_folder.chmod(0o555)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_as_nobody, args=(public_folder, queue))
    child.start()
    child.join(20)
    if log_left:
        assert "can only be read in a writable folder" in queue.get()
    else:
        assert queue.get() == [77]
        assert "must be writable, file and folder" in queue.get()
    queue.close()


def test_whether_a_store_holds_a_study(filled, tmp_path):
    assert filled.holds("fashion")
    assert not filled.holds("other")
    assert not results.open(tmp_path / "missing.db").holds("fashion")
    assert not (tmp_path / "missing.db").exists()
    with pytest.raises(results.StoreError, match="A study's name must be"):
        filled.holds("a/b")


def test_files_without_tables_hold_no_study_and_others_are_refused(tmp_path):
    """A process may be killed between making the file and making its tables."""
    (tmp_path / "empty.db").touch()
    with sqlite3.connect(tmp_path / "bare.db") as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    (tmp_path / "letter.db").write_text("Dear database, " * 100)
    assert not results.open(tmp_path / "empty.db").holds("fashion")
    assert not results.open(tmp_path / "bare.db").holds("fashion")
    with pytest.raises(results.StoreError, match="must be a SQLite database"):
        results.open(tmp_path / "letter.db").holds("fashion")


def test_a_frame_is_one_state_of_the_store(filled, monkeypatch):
    """A study that a writer adds between the queries of a frame is not in the frame."""
    before, counts = filled.studies(), frames._counts

    def slow_counts(*arguments):
        if not filled.holds("meanwhile"):
            filled.writer("meanwhile", {}).close()
        return counts(*arguments)

    monkeypatch.setattr(frames, "_counts", slow_counts)
    pd.testing.assert_frame_equal(filled.studies(), before)
    assert filled.studies().study.tolist() == [*before.study, "meanwhile"]


def test_policies_are_kept_apart_from_points(filled):
    before = filled.points("fashion"), filled.candidates("fashion")
    assert filled.policies("fashion").empty
    rows = [
        {"learner": "gates", "sees": "input", "penalty": p, "utilization": u}
        | {"controller_macs": 7, "macs": 3e6 - p, "accuracy": u - p}
        for p in (0.1, 0.3)
        for u in (0.5, 1.0)
    ]
    with filled.writer("fashion", filled.settings("fashion")) as writer:
        writer.record_policies("bbbb0002", rows)
        writer.record_policies("bbbb0002", [rows[3] | {"accuracy": 0.75, "test_accuracy": 0.7, "test_macs": 2.5e6}])
        writer.finish()
    found = filled.policies(["fashion"])
    assert found[["study", "candidate", "space"]].drop_duplicates().values.tolist() == [
        ["fashion", "bbbb0002", "residual"]
    ]
    assert found[["penalty", "utilization"]].values.tolist() == [[0.1, 0.5], [0.1, 1.0], [0.3, 0.5], [0.3, 1.0]]
    assert found.accuracy.tolist() == pytest.approx([0.4, 0.9, 0.2, 0.75])
    assert found.test_accuracy.isna().tolist() == [True, True, True, False]
    assert found.controller_macs.tolist() == [7] * 4
    pd.testing.assert_frame_equal(filled.points("fashion"), before[0])
    pd.testing.assert_frame_equal(filled.candidates("fashion"), before[1])
    filled.delete("fashion")


def test_a_new_record_deletes_the_results_of_controllers(filled):
    row = {"learner": "expected", "sees": "answer", "penalty": 0.1, "utilization": 1}
    row |= {"controller_macs": 7, "macs": 3e6, "accuracy": 0.8}
    with filled.writer("fashion", filled.settings("fashion")) as writer:
        writer.record_policies("bbbb0002", [row])
        (number,) = (found["id"] for found in writer.rows() if found["key"] == "bbbb0002")
        point = {"level": 0, "macs": 1e6, "params": 10, "accuracy": 0.5, "loss": 1.0}
        writer.record(number, fidelity=1.0, repeat=0, realised_key="cccc0003", points=[point])
    assert filled.policies("fashion").empty


def test_policies_without_stored_weights_are_refused(filled):
    row = {"learner": "expected", "sees": "answer", "penalty": 0.1, "utilization": 1}
    row |= {"controller_macs": 7, "macs": 3e6, "accuracy": 0.8}
    with filled.writer("fashion", filled.settings("fashion")) as writer:
        with pytest.raises(StoreError, match=r"with weights. Got 'aaaa0001'"):
            writer.record_policies("aaaa0001", [row])
        with pytest.raises(StoreError, match=r"A policy has learner.*Got .*'more'"):
            writer.record_policies("bbbb0002", [row | {"more": 1}])
        del row["macs"]
        with pytest.raises(StoreError, match="A policy has learner, sees, penalty"):
            writer.record_policies("bbbb0002", [row])
    assert filled.policies("fashion").empty
