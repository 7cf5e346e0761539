"""Stores of older versions: each is upgraded in place, once, and holds the same as before."""

import io
import json
import logging
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

import results
from results import connection, migrations, schema

STORES = Path(__file__).parent / "stores"
VERSIONS = range(migrations.OLDEST, migrations.VERSION)


@pytest.fixture
def old(tmp_path):
    """Copies the stored file of an older version and returns its path."""

    def copy(version):
        path = tmp_path / f"v{version}.db"
        shutil.copy(STORES / path.name, path)
        return path

    return copy


def rows(path):
    """All rows of all tables but the version, by table."""
    with closing(sqlite3.connect(path)) as opened:
        tables = [name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: pd.read_sql(f"SELECT * FROM {name}", opened) for name in tables if name != "meta"}


@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_store_is_upgraded_in_place(old, caplog, version):
    path = old(version)
    before = rows(path)
    with caplog.at_level(logging.WARNING, logger="results"):
        front = results.open(path).front("fashion")
    assert front["macs"].tolist() == [10**6, 4 * 10**6, 8 * 10**6]
    assert front["accuracy"].tolist() == pytest.approx([0.5, 0.7, 0.9])
    assert caplog.messages == [f"The store {path} is upgraded from schema {version} to {migrations.VERSION}."]
    after = rows(path)
    for name, frame in before.items():
        pd.testing.assert_frame_equal(after[name][frame.columns], frame)
    caplog.clear()
    assert len(results.open(path).policies("fashion")) == 1
    assert caplog.messages == []


AUGMENTED = {
    "grey": ("auto", [1, 28, 28], "crop", "shifts of at most 3×3 pixels, not mirrored"),
    "colour": ("auto", [3, 32, 32], "crop+flip", "shifts of at most 4×4 pixels, mirrored at random"),
    "signals": ("auto", [1, 1, 64], "crop", "shifts of at most 1×8 pixels, not mirrored"),
    "video": ("crop", [3, 8, 16, 24], "crop", "shifts of at most 2×3 pixels, not mirrored"),
    "mirrored": ("flip", [1, 28, 28], "flip", "no shifts, mirrored at random"),
    "plain": ("none", [3, 32, 32], "none", "none"),
}
"""Study → augment and shape of its images in schema 4; augment, and the augmentation in words, in schema 7."""


def test_studies_keep_the_augmentation_that_they_were_started_with(old):
    path = old(4)
    with closing(sqlite3.connect(path)) as opened, opened:
        for number, (name, (augment, shape, _, _)) in enumerate(AUGMENTED.items(), start=100):
            settings, architecture = json.dumps({"augment": augment}), json.dumps({"task": {"input_shape": shape}})
            opened.execute(
                "INSERT INTO studies (id, name, settings, state, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)",
                (number, name, settings, "finished", "2026-01-01T00:00:00", "2026-01-01T00:00:00"),
            )
            opened.execute(
                "INSERT INTO candidates (study_id, space, generation, control, status, architecture, attempts) "
                "VALUES (?, 'residual', 0, 0, 'queued', ?, 0)",
                (number, architecture),
            )
    store = results.open(path)
    for name, (_, _, augment, words) in AUGMENTED.items():
        assert store.settings(name) == {"augment": augment, "_augmentation": words}


@pytest.mark.parametrize("version", VERSIONS)
def test_an_upgraded_store_has_the_tables_of_a_new_one(old, version):
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    path = old(version)
    results.open(path).studies()
    with connection.engine(connection.locate(str(path)), writing=False).connect() as opened:
        assert compare_metadata(MigrationContext.configure(opened), schema.metadata) == []


def test_postgresql_has_the_statements_of_each_upgrade():
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    for upgrade in migrations.UPGRADES.values():
        written = io.StringIO()
        offline = {"as_sql": True, "output_buffer": written}
        upgrade(Operations(MigrationContext.configure(dialect_name="postgresql", opts=offline)))
        assert "ALTER TABLE" in written.getvalue()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_writer_upgrades_and_continues_a_study(old, version):
    store = results.open(old(version))
    store.files("fashion").mkdir(parents=True)
    with store.writer("fashion", {"epochs": 10}) as writer:
        assert writer.memo() == {"generations": 1, "seconds": 12.5}
        writer.finish()
    assert store.studies()["state"].tolist() == ["finished"]
    store.delete("fashion")
    assert store.studies().empty


def test_several_processes_may_open_an_older_store_at_once(old):
    path = old(migrations.OLDEST)
    code = "import sys, results; print(len(results.open(sys.argv[1]).points('fashion')))"
    readers = [
        subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = [reader.communicate() for reader in readers]
    assert [out for out, _ in answers] == ["7\n"] * 3
    assert "".join(errors for _, errors in answers).count("is upgraded from schema") == 1


def test_an_upgrade_that_fails_changes_nothing(old, monkeypatch):
    path = old(migrations.OLDEST)
    before = rows(path)

    def fails(operations):
        migrations.to_4.upgrade(operations)
        raise sa.exc.OperationalError("ALTER", {}, Exception("database or disk is full"))

    with monkeypatch.context() as patched:
        patched.setitem(migrations.UPGRADES, migrations.OLDEST + 1, fails)
        with pytest.raises(results.StoreError, match=r"must be upgraded to schema 8 .*its disk is full"):
            results.open(path).studies()
    assert rows(path).keys() == before.keys()
    assert results.open(path).holds("fashion")


def test_a_read_only_store_that_needs_an_upgrade_is_refused(old, monkeypatch):
    path = old(migrations.OLDEST)

    def refused(operations):
        raise sa.exc.OperationalError("ALTER", {}, Exception("attempt to write a readonly database"))

    monkeypatch.setitem(migrations.UPGRADES, migrations.OLDEST + 1, refused)
    with pytest.raises(results.StoreError, match=r"which needs write access\. .*must be writable, file and folder"):
        results.open(path).studies()


@pytest.mark.parametrize(
    ("version", "message"),
    [("99", r"newer version.*schema 99; .*reads 3 to 8\. Update"), ("2", r"older version.*schema 2; .*another store")],
)
def test_other_versions_are_refused(sqlite_store, tmp_path, version, message):
    sqlite_store.writer("s", {}).close()
    with closing(sqlite3.connect(tmp_path / "nas.db")) as opened:
        opened.execute("UPDATE meta SET value = ?", (version,))
        opened.commit()
    for call in (sqlite_store.studies, lambda: sqlite_store.writer("s", {})):
        with pytest.raises(results.StoreError, match=message):
            call()
