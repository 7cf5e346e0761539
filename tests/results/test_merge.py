"""Merging stores: all rows and files, between SQLite and PostgreSQL, atomic for each study and resumable."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

import results
from results.merging import files

from .conftest import SCORE, candidate, point

TABLES = ("candidates", "points", "evaluations", "policies", "front", "transferred")
TRANSFERRED = {
    "origin": "earlier",
    "key": "ee",
    "space": "residual",
    "status": "finished",
    "generation": 0,
    "anytime_accuracy": 0.5,
    "rungs": [[1, 0.25]],
    "proxies": {"p": float("inf")},
    "choices": {"depth": 1},
    "architecture": {"n": 1},
}


@pytest.fixture
def other(tmp_path):
    """Another SQLite store."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return results.open(folder / "other.db")


def fill(store, study="fashion", *, trained=2, settings=None, **columns):
    """Write a study, or continue it; every training has a network, and the first candidate of a store is not ours."""
    with store.writer(study, settings or {"epochs": 10}) as writer:
        writer.set_score(SCORE)
        known = {row["key"] for row in writer.rows()}
        if not known:
            writer.add_transferred([TRANSFERRED, TRANSFERRED | {"key": "ff"}])
        for number in range(trained):
            key = f"{number:04x}{study.encode().hex():0<8.8}"
            if key not in known:
                add(writer, key, number, **columns)
        ids = [row["id"] for row in writer.rows("finished")]
        writer.set_memo({"finals": {"candidates": ids, "epochs": 3}, "domains": {"candidates": [1, 2]}})
        writer.finish()
    return store


def add(writer, key, number, seconds=1.0):
    """A trained candidate with a network, an own measure, an infinite proxy and a rejected proposal."""
    chosen = candidate(key, status="finished", architecture={"n": number}, proxies={"p": float("inf")})
    (new, _) = writer.add_candidates([chosen, candidate(status="infeasible", reason="näh", generation=number)])
    weights = f"candidates/{key}/full-0"
    writer.record(
        new,
        fidelity=1.0,
        repeat=0,
        realised_key=f"{key}ff",
        seconds=seconds + number,
        weights=weights,
        points=[point(0, 10**6, 0.5 + number / 100), point(1, 10**7, float("nan"))],
    )
    policy = {"learner": "dqn", "sees": "input", "penalty": 0.1, "utilization": 0.5}
    writer.record_policies(key, [policy | {"controller_macs": 3, "macs": 4.0, "accuracy": 0.5}])
    (writer.files / weights).mkdir(parents=True)
    (writer.files / weights / "network.json").write_text(f"network {key}")
    (writer.files / "log.txt").write_text(f"{number}\n")


def assert_same(one, two, study="fashion", name=None):
    for table in TABLES:
        first, second = getattr(one, table)(study), getattr(two, table)(name or study)
        pd.testing.assert_frame_equal(first, second.replace({"study": {name: study}}) if name else second)
    names = {path.relative_to(one.files(study)) for path in one.files(study).rglob("*") if path.is_file()}
    assert names == {
        path.relative_to(two.files(name or study)) for path in two.files(name or study).rglob("*") if path.is_file()
    }
    for key in one.candidates(study)["key"].dropna():
        network = two.find_network(key, name or study).weights
        assert (network / "network.json").read_text() == f"network {key}"


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def outcomes(merged):
    return [(each.study, each.outcome) for each in merged]


def test_a_study_is_copied_with_everything(store, other):
    fill(store, "mine")
    fill(other, "first")
    fill(other, trained=3)
    before = content(Path(other.url).parent)
    merged = store.merge(other.url)
    assert content(Path(other.url).parent) == before
    assert outcomes(merged) == [("first", "new"), ("fashion", "new")]
    assert (merged[1].candidates, merged[1].networks, merged[1].store) == (6, 3, other.label)
    for study in ("first", "fashion"):
        assert_same(other, store, study)
    assert store.identity("fashion") == other.identity("fashion")
    ids = {row["id"]: row["key"] for row in rows_of(store)}
    memo = store.memo("fashion")
    assert [ids[number] for number in memo["finals"]["candidates"]] == [key for key in ids.values() if key]
    assert memo["domains"] == {"candidates": [1, 2]}
    assert not store.files("fashion").parent.joinpath(files.STAGING).exists()
    store.delete("first")
    assert_same(other, store)


def rows_of(store, study="fashion"):
    with store.writer(study, {"epochs": 10}) as writer:
        return writer.rows()


def test_from_the_database_of_a_server(store, other):
    fill(store, trained=2)
    other.merge(store)
    assert_same(store, other)


def test_again_continued_and_behind(store, other, tmp_path):
    fill(other)
    assert outcomes(store.merge(other)) == [("fashion", "new")]
    number = rows_of(store)[0]["id"]
    assert outcomes(store.merge(other)) == [("fashion", "present")]
    fill(other, trained=3)
    (merged,) = store.merge(other)
    assert (merged.outcome, merged.candidates) == ("continued", 6)
    assert_same(other, store)
    fill(store, trained=4)
    assert outcomes(store.merge(other)) == [("fashion", "present")]
    assert len(store.evaluations("fashion")) == 4
    assert outcomes(other.merge(store)) == [("fashion", "continued")]  # back to where it came from
    assert_same(store, other)
    assert number


def test_studies_that_were_continued_in_both_stores(store, other):
    fill(other)
    store.merge(other)
    fill(store, trained=3, seconds=7.0)
    fill(other, trained=3, seconds=8.0)
    with pytest.raises(results.StoreError, match=r"each has results that the other one has not.*--rename fashion=NEW"):
        store.merge(other)
    (merged,) = store.merge(other, rename={"fashion": "theirs"})
    assert (merged.study, merged.origin, merged.outcome) == ("theirs", "fashion", "new")
    assert store.identity("theirs") != store.identity("fashion")
    assert_same(other, store, name="theirs")
    assert outcomes(store.merge(other, rename={"fashion": "theirs"})) == [("theirs", "present")]
    fill(other, trained=4)
    assert outcomes(store.merge(other, rename={"fashion": "theirs"})) == [("theirs", "continued")]


def test_another_study_of_the_name(store, other):
    fill(store)
    fill(other)
    fill(other, "second")
    with pytest.raises(results.StoreError, match=r"'fashion' is another study here than in .*--rename fashion=NEW"):
        store.merge(other)
    assert store.studies().study.tolist() == ["fashion"]  # nothing was merged before the error
    with pytest.raises(results.StoreError, match="another study here"):
        store.merge(other, rename={"second": "fashion", "fashion": "third"})
    merged = store.merge(other, rename={"fashion": "third"})
    assert outcomes(merged) == [("third", "new"), ("second", "new")]
    assert_same(other, store, name="third")
    assert outcomes(store.merge(other)) == [("third", "present"), ("second", "present")]  # known by its identity


def test_several_stores_at_once(store, other, tmp_path):
    third = fill(results.open(tmp_path / "third.db"), "tour")
    fill(other)
    done = []
    assert outcomes(store.merge(other, third, done=done.append)) == [("fashion", "new"), ("tour", "new")]
    assert len(done) == 2
    fill(third)
    with pytest.raises(results.StoreError, match=r"'fashion' is another study"):
        store.merge(other, third)
    new = results.open(tmp_path / "new.db")
    with pytest.raises(results.StoreError, match=r"'fashion' is another study in .*third\.db than in .*other\.db"):
        new.merge(other, third)
    assert not Path(new.url).exists()
    assert outcomes(new.merge(third, study=["fashion"])) == [("fashion", "new")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"study": "absent"}, r"A study must be in .*other\.db\. Got 'absent'\. Studies there: fashion"),
        ({"rename": {"absent": "new"}}, "A study that is renamed must be merged. Got absent"),
        ({"rename": {"fashion": "a/b"}}, "A study's name must be"),
        ({"rename": {"fashion": "x", "second": "x"}}, "renamed to different names"),
    ],
)
def test_mistakes(other, tmp_path, arguments, message):
    fill(other)
    new = results.open(tmp_path / "new.db")
    with pytest.raises(results.StoreError, match=message):
        new.merge(other, **arguments)
    assert not Path(new.url).exists()


def test_a_store_with_itself_and_a_missing_store(store, tmp_path):
    fill(store)
    with pytest.raises(results.StoreError, match="merged into another one"):
        store.merge(store.url)
    with pytest.raises(results.StoreError, match="There is no results store at"):
        store.merge(tmp_path / "absent.db")


def test_studies_that_are_being_written(store, other):
    fill(other)
    with other.writer("fashion", {"epochs": 10}), pytest.raises(results.StoreError, match="is being written by"):
        store.merge(other)
    with store.writer("fashion", {"epochs": 10}) as writer:
        writer.add_candidates([candidate("abcd")])
    with pytest.raises(results.StoreError, match="another study here"):
        store.merge(other)
    store.delete("fashion")
    store.merge(other)
    fill(other, trained=3)
    with store.writer("fashion", {"epochs": 10}), pytest.raises(results.StoreError, match="is being written by"):
        store.merge(other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "staged", lambda *arguments: fill(other, trained=4) and None)
        with pytest.raises(results.StoreError, match="has been continued"):
            store.merge(other)
    store.merge(other)
    assert_same(other, store)


def test_an_interruption_leaves_the_former_state_and_the_next_call_continues(store, other, monkeypatch):
    fill(other, trained=3)
    rename, copied = os.replace, []

    def stopping(source, target):
        rename(source, target)
        copied.append(target)
        if len(copied) == 2:
            raise KeyboardInterrupt

    fill(store, "mine")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopping)
        with pytest.raises(KeyboardInterrupt):
            store.merge(other)
    assert store.studies().study.tolist() == ["mine"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda source, target: (rename(source, target), copied.append(target)))
        store.merge(other)
    assert len(copied) == len(set(copied)) == 4  # three networks and the log, none of them twice
    assert_same(other, store)


@pytest.mark.parametrize("place", ["before", "after"])
def test_an_error_while_the_copy_is_put_into_place(store, other, monkeypatch, place):
    """Files and rows change together: both or none."""
    fill(other)
    store.merge(other)
    before = store.evaluations("fashion")
    fill(other, trained=3)
    rename, renamed = os.rename, []

    def failing(source, target):
        renamed.append(target)
        if len(renamed) == 2 and place == "before":
            raise OSError("broken")
        rename(source, target)
        if len(renamed) == 2 and place == "after":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing)
        with pytest.raises((results.StoreError, KeyboardInterrupt)):
            store.merge(other)
    pd.testing.assert_frame_equal(store.evaluations("fashion"), before)
    assert store.files("fashion").is_dir()
    store.merge(other)
    assert_same(other, store)


def test_copies_of_data_are_copied(store, other):
    with other.data_copy("data-0123456789abcdef", lambda path: path.write_bytes(b"arrays")) as copy:
        fill(other, settings={"data": f"npz:{copy}", "epochs": 10})
    store.merge(other)
    shutil.rmtree(Path(other.url).parent)
    path = Path(store.settings("fashion")["data"].removeprefix("npz:"))
    assert path.read_bytes() == b"arrays"
    store.delete("fashion")
    assert not path.exists()


def test_two_databases_over_one_folder(postgresql, tmp_path, monkeypatch):
    """Deleting the study of one would delete the networks of the other."""
    monkeypatch.chdir(tmp_path)
    one, two = (results.open(postgresql.new_database()) for _ in range(2))
    fill(one)
    with pytest.raises(results.StoreError, match=r"would have its files in .* in both stores.*--rename fashion=NEW"):
        two.merge(one)
    two.merge(one, rename={"fashion": "copy"})
    one.delete("fashion")
    assert two.find_network(two.candidates("copy")["key"][0], "copy").weights.is_dir()


def test_folders_behind_links_are_copied(sqlite_store, other, tmp_path):
    fill(other)
    folder = other.files("fashion") / "candidates"
    folder.rename(tmp_path / "large disk")
    folder.symlink_to(tmp_path / "large disk")
    sqlite_store.merge(other)
    shutil.rmtree(tmp_path / "large disk")
    assert sqlite_store.find_network(sqlite_store.candidates("fashion")["key"][0]).weights.is_dir()


def test_networks_on_another_machine(store, other, tmp_path):
    fill(other)
    other.files("fashion").rename(tmp_path / "moved")
    with pytest.raises(results.StoreError, match="'fashion' needs its folder of trained networks"):
        store.merge(other)
    assert not store.holds("fashion")


def test_large_studies_are_copied_in_batches(sqlite_store, other):
    with other.writer("s", {}) as writer:
        ids = writer.add_candidates(candidate(f"{n:08x}", status="stopped") for n in range(2_500))
        for number in ids[::10]:
            writer.record(
                number, fidelity=1, repeat=0, realised_key="aa", points=[point(n, 10 + n, 0.5) for n in range(5)]
            )
    sqlite_store.merge(other)
    pd.testing.assert_frame_equal(sqlite_store.points("s"), other.points("s"))
    assert sqlite_store.candidates("s")["key"].equals(other.candidates("s")["key"])
