"""A network is a training of one study, and a folder belongs to one study: neither is found by its name only."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

import results
from results import connection
from results.files import study_folder
from results.schema import studies

KEY, REALISED = "abcd0001", "abcd9999"


def add(store, study, candidates, files=True):
    """Train candidates of a new study: (key, key after training or None if untrained, repeats)."""
    with store.writer(study, {}) as writer:
        for key, realised, repeats in candidates:
            row = {"key": key, "space": "s", "generation": 0, "status": "finished", "architecture": {"proposed": key}}
            (number,) = writer.add_candidates([row])
            for repeat in range(repeats):
                name = f"{key}-{repeat}"
                writer.record(
                    number,
                    fidelity=1,
                    repeat=repeat,
                    realised_key=realised,
                    architecture=None if realised == key else {"realised": realised},
                    weights=name,
                    points=[{"level": 0, "macs": 10, "params": 5, "accuracy": 0.5, "loss": 1.0}],
                )
                (writer.files / name).write_text(f"{study} {name}")
        writer.finish()


def as_of_an_older_version(store):
    """Take its identity from the study 's' of a SQLite store."""
    (store.files("s") / "study.json").unlink()
    with closing(sqlite3.connect(store.url)) as opened:
        opened.execute("UPDATE studies SET identity = NULL")
        opened.commit()


def weights(store, *arguments):
    return store.find_network(*arguments).weights.read_text()


def test_a_key_in_several_studies_needs_the_study(store):
    add(store, "first", [(KEY, KEY, 1)])
    assert weights(store, KEY[:4]) == "first abcd0001-0"
    add(store, "second", [(KEY, KEY, 1)])
    for find in (store.find_network, store.find_candidate):
        with pytest.raises(results.StoreError, match=r"abcd0001 is in several studies: first, second\. Name the study"):
            find(KEY)
    assert [weights(store, KEY, study) for study in ("first", "second")] == ["first abcd0001-0", "second abcd0001-0"]
    with pytest.raises(results.StoreError, match=r"Got 'third'\. Studies there: first, second"):
        store.find_network(KEY, "third")


def test_a_realised_key_in_several_studies_needs_the_study(store):
    add(store, "first", [(KEY, REALISED, 1)])
    add(store, "second", [("abcd0002", REALISED, 1)])
    with pytest.raises(results.StoreError, match="in several studies: first, second"):
        store.find_network(REALISED)
    assert store.find_network(REALISED, "second").candidate == "abcd0002"
    assert store.find_candidate(REALISED, "first").candidate == KEY
    with pytest.raises(results.StoreError, match="none begins so"):
        store.find_network(KEY, "second")


def test_a_study_that_only_proposed_a_key_has_no_network_of_it(store):
    add(store, "trained", [(KEY, KEY, 1)])
    add(store, "proposed", [(KEY, KEY, 0)])
    assert store.find_network(KEY).study == "trained"
    with pytest.raises(results.StoreError, match=r"No weights of abcd0001 were kept"):
        store.find_network(KEY, "proposed")
    with pytest.raises(results.StoreError, match="in several studies: trained, proposed"):
        store.find_candidate(KEY)


def test_a_trained_candidate_precedes_another_one_that_became_it(store):
    add(store, "s", [(KEY, KEY, 1), ("abcd0002", KEY, 1), ("abcd0003", REALISED, 2), ("abcd0004", REALISED, 1)])
    assert weights(store, KEY) == "s abcd0001-0"
    assert weights(store, "abcd0002") == "s abcd0002-0"
    assert weights(store, "abcd0003", "s", 1) == "s abcd0003-1"
    with pytest.raises(results.StoreError, match=r"abcd9999 of several candidates: abcd0003, abcd0004\. Name one"):
        store.find_network(REALISED)


def test_a_prefix_is_looked_up_in_the_study(store):
    add(store, "first", [("abcd0001", "abcd0001", 1)])
    add(store, "second", [("abcd0002", "abcd0002", 1)])
    with pytest.raises(results.StoreError, match="enough digits"):
        store.key("abcd")
    assert store.key("abcd", "second") == store.find_network("abcd", "second").candidate == "abcd0002"


def test_rows_of_a_front_name_a_training(store):
    add(store, "s", [(KEY, KEY, 2)])
    with store.writer("s", {}) as writer:
        (number,) = (row["id"] for row in writer.rows())
        point = {"level": 0, "macs": 9, "params": 5, "accuracy": 0.4, "loss": 1.0}
        writer.record(number, fidelity=1, repeat=1, realised_key=REALISED, weights="other", points=[point])
        (writer.files / "other").write_text("moved")
        writer.finish()
    front = store.front("s").set_index("realised_key")
    assert front.repeat.to_dict() == {REALISED: 1, KEY: 0}
    assert weights(store, KEY, "s", 1) == weights(store, REALISED) == "moved"


def test_folders_are_claimed_by_one_study(store, tmp_path):
    """Two databases over one folder of files."""
    add(store, "s", [(KEY, KEY, 1)])
    folder = store.files("s")
    owner = json.loads((folder / "study.json").read_text())
    assert owner["study"] == "s"
    other = results.open(tmp_path / "other.db")
    other.files("s").parent.mkdir()
    other.files("s").symlink_to(folder)
    with pytest.raises(
        results.StoreError, match=re.escape(f"belongs to study 's' of {owner['store']}, not to 's' of this")
    ):
        other.writer("s", {})
    with pytest.raises(results.StoreError, match="has a folder of its own"):
        other.files("s")
    assert other.studies().empty
    assert weights(store, KEY) == "s abcd0001-0"


def test_of_two_processes_one_claims_a_folder(tmp_path, monkeypatch):
    """Both have found it empty."""
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.name != "study.json" and exists(path))
    study_folder.claim(tmp_path / "s", connection.locate("first.db"), "s", "1")
    with pytest.raises(results.StoreError, match=r"belongs to study 's' of .*first\.db"):
        study_folder.claim(tmp_path / "s", connection.locate("second.db"), "s", "2")
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["study.json"]


@pytest.fixture
def clash(tmp_path):
    """Two stores with a study 's' each; the folder of the second has been replaced by that of the first."""
    stores = [results.open(tmp_path / name / "nas.db") for name in ("one", "two")]
    for opened in stores:
        Path(opened.url).parent.mkdir()
        add(opened, "s", [(KEY, KEY, 1)])
    first, second = stores
    shutil.rmtree(second.files("s"))
    (tmp_path / "two" / "nas.db.files" / "s").symlink_to(first.files("s"), target_is_directory=True)
    return first, second


def test_files_of_another_study_are_neither_written_nor_read(clash):
    first, second = clash
    before = sorted(path.name for path in first.files("s").iterdir())
    for call in (lambda: second.writer("s", {}), lambda: second.files("s"), lambda: second.find_network(KEY)):
        with pytest.raises(results.StoreError, match=r"belongs to study 's' of .*one/nas\.db"):
            call()
    assert sorted(path.name for path in first.files("s").iterdir()) == before
    assert second.studies().state.tolist() == ["finished"]


def test_deleting_a_study_keeps_files_of_another(clash, caplog):
    first, second = clash
    with caplog.at_level(logging.WARNING, logger="results"):
        second.delete("s")
    assert "belongs to another study. It is kept" in caplog.text
    assert second.studies().empty
    assert weights(first, KEY) == "s abcd0001-0"
    first.delete("s")
    assert not first.files("s").exists()


def test_a_new_study_does_not_adopt_files_of_a_lost_database(sqlite_store):
    add(sqlite_store, "s", [(KEY, KEY, 1)])
    Path(sqlite_store.url).unlink()
    with pytest.raises(results.StoreError, match=r"belongs to study 's' of .*Move or delete the folder, or choose"):
        sqlite_store.writer("s", {})
    (sqlite_store._location.files / "s" / "study.json").unlink()
    with pytest.raises(results.StoreError, match="belongs to an unknown study"):
        sqlite_store.writer("s", {})


def test_a_study_without_its_networks_is_not_continued_unless_its_user_makes_an_empty_folder(store):
    add(store, "s", [(KEY, KEY, 1)])
    folder = store.files("s")
    shutil.rmtree(folder)
    with pytest.raises(results.StoreError, match=r"needs its folder of trained networks\. .* is missing: continue"):
        store.writer("s", {})
    assert not folder.exists()
    folder.mkdir()
    store.writer("s", {}).close()
    assert (folder / "study.json").is_file()


def test_a_study_killed_before_its_folder_was_made_goes_on(sqlite_store):
    with sqlite_store.writer("s", {}) as writer:
        files = writer.files
        identity = json.loads((files / "study.json").read_text())["identity"]
        writer.finish()
    shutil.rmtree(files)
    sqlite_store.writer("s", {}).close()
    assert json.loads((files / "study.json").read_text())["identity"] == identity


def test_a_study_of_an_older_version_takes_its_folder_once(sqlite_store):
    add(sqlite_store, "s", [(KEY, KEY, 1)])
    as_of_an_older_version(sqlite_store)
    assert weights(sqlite_store, KEY) == "s abcd0001-0"
    sqlite_store.writer("s", {}).close()
    owner = sqlite_store.files("s") / "study.json"
    assert owner.is_file()
    owner.write_text(owner.read_text().replace('"identity": "', '"identity": "x'))
    with pytest.raises(results.StoreError, match="belongs to study 's' of"):
        sqlite_store.find_network(KEY)
    owner.write_text("{")
    with pytest.raises(results.StoreError, match=r"must name the study of its folder\. It cannot be read"):
        sqlite_store.find_network(KEY)


def test_a_study_keeps_its_folder_in_another_working_directory(store, tmp_path, monkeypatch):
    add(store, "s", [(KEY, KEY, 1)])
    folder = store.files("s")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    again = results.open(store.url)
    assert again.files("s") == folder
    with again.writer("s", {}) as writer:
        assert writer.files == folder
        writer.finish()
    assert weights(again, KEY) == "s abcd0001-0"
    assert list(elsewhere.iterdir()) == []


def test_a_store_and_its_files_may_be_moved_together(sqlite_store, tmp_path):
    add(sqlite_store, "s", [(KEY, KEY, 1)])
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("nas.db", "nas.db.files"):
        shutil.move(tmp_path / name, moved / name)
    store = results.open(moved / "nas.db")
    assert weights(store, KEY) == "s abcd0001-0"
    store.writer("s", {}).close()


def test_a_link_to_a_store_names_the_same_files(sqlite_store, tmp_path):
    add(sqlite_store, "s", [(KEY, KEY, 1)])
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "copy.db").symlink_to(tmp_path / "nas.db")
    assert weights(results.open(tmp_path / "linked" / "copy.db"), KEY) == "s abcd0001-0"


def full_disk(*arguments):
    raise OSError(28, "No space left on device")


def killed(*arguments):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("fault", "error"), [(full_disk, results.StoreError), (killed, KeyboardInterrupt)])
@pytest.mark.parametrize("older", [False, True])
def test_a_study_whose_folder_could_not_be_named_goes_on(sqlite_store, monkeypatch, older, fault, error):
    if older:
        add(sqlite_store, "s", [(KEY, KEY, 1)])
        as_of_an_older_version(sqlite_store)
    with monkeypatch.context() as patch:
        for step in ("link", "replace"):
            patch.setattr(study_folder.os, step, fault)
        with pytest.raises(error):
            sqlite_store.writer("s", {})
    sqlite_store.check_writer("s", {})
    with sqlite_store.writer("s", {}) as writer:
        writer.finish()
    assert json.loads((sqlite_store.files("s") / "study.json").read_text())["identity"] == sqlite_store.identity("s")


def test_a_study_of_an_older_version_killed_before_the_store_names_its_identity_goes_on(sqlite_store):
    add(sqlite_store, "s", [(KEY, KEY, 1)])
    as_of_an_older_version(sqlite_store)
    identity = study_folder.claim(sqlite_store.files("s"), sqlite_store._location, "s", None)
    assert weights(sqlite_store, KEY) == "s abcd0001-0"
    sqlite_store.writer("s", {}).close()
    assert sqlite_store.identity("s") == identity


def test_deleting_an_older_study_of_a_server_keeps_the_folder_of_another_project(
    postgresql, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    store = results.open(postgresql.new_database())
    add(store, "s", [(KEY, KEY, 1)])
    (store.files("s") / "study.json").unlink()
    with connection.engine(store._location, writing=True).begin() as opened:
        opened.execute(sa.update(studies).values(identity=None, folder=None))
    other = tmp_path / "other" / "nas.files" / "s"
    other.mkdir(parents=True)
    (other / "weights").write_text("of another study")
    monkeypatch.chdir(tmp_path / "other")
    with caplog.at_level(logging.WARNING, logger="results"):
        results.open(store.url).delete("s")
    assert "does not say where its folder is. It is kept: delete nas.files/s in the working" in caplog.text
    assert (other / "weights").read_text() == "of another study"
