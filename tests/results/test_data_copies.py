"""Copies of data: one for each content, kept as long as a study names it or a process holds it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import ExitStack

import pytest

import results
from results.connection import locate
from results.data_copies import folder_of

A, B = "data-" + 16 * "a", "data-" + 16 * "b"

HOLD = """
import sys, results
with results.open(sys.argv[1]).data_copy("data-aaaaaaaaaaaaaaaa", lambda path: path.write_text("held")) as path:
    print(path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def opened(tmp_path):
    return results.open(tmp_path / "nas.db")


def write(path):
    path.write_text("content")


def forbidden(path):
    raise AssertionError("the content is there")


def copies(opened):
    return sorted(path.name for path in folder_of(locate(opened.url)).glob("*") if path.name != ".lock")


def add_study(opened, name, path):
    with opened.writer(name, {"data": f"npz:{path}"}) as writer:
        writer.finish()


def test_a_copy_without_a_study_is_removed(opened):
    with opened.data_copy(A, write) as path:
        assert path.read_text() == "content"
        assert copies(opened) == [f"{A}.npz"]
    assert copies(opened) == []
    with pytest.raises(ZeroDivisionError), opened.data_copy(A, write):
        raise ZeroDivisionError
    assert copies(opened) == []


def test_studies_share_a_copy_until_the_last_is_deleted(opened):
    for name in ("first", "second"):
        with opened.data_copy(A, write if name == "first" else forbidden) as path:
            add_study(opened, name, path)
    opened.delete("first")
    assert copies(opened) == [f"{A}.npz"]
    opened.delete("second")
    assert copies(opened) == []


def test_copies_of_different_content_do_not_keep_each_other(opened):
    with ExitStack() as stack:
        for name in (A, B):
            add_study(opened, name, stack.enter_context(opened.data_copy(name, write)))
    opened.delete(A)
    assert copies(opened) == [f"{B}.npz"]


def test_a_copy_that_another_process_holds_stays(opened):
    command = [sys.executable, "-c", HOLD, opened.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        holder.stdout.readline()
        with opened.data_copy(A, forbidden) as path:
            assert path.read_text() == "held"
        assert copies(opened) == [f"{A}.npz"]
        holder.kill()
    with opened.data_copy(B, write):
        pass
    assert copies(opened) == []  # the lock of a process ends with it


def test_what_a_killed_writer_left_is_removed(opened):
    def killed(path):
        write(path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), opened.data_copy(A, killed):
        pass
    assert copies(opened) == []


def test_databases_that_share_a_folder_have_copies_of_their_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    urls = ["postgresql://host/one", "postgresql://host/two", "postgresql://elsewhere/one", "nas"]
    assert len({folder_of(locate(url)) for url in urls}) == 4
    assert folder_of(locate("postgresql://host/one")) == folder_of(locate("postgresql://me:secret@host:5432/one"))


def test_a_store_needs_a_folder(tmp_path):
    with (
        pytest.raises(results.StoreError, match="existing folder"),
        results.open(tmp_path / "no" / "nas.db").data_copy(A, write),
    ):
        pass


@pytest.mark.parametrize("folder", ["home/.data/sets", "nas.db.files/.data"])
def test_files_of_the_user_are_never_removed(opened, tmp_path, folder):
    mine = tmp_path / folder
    mine.mkdir(parents=True)
    for name in ("cifar.npz", "mnist.npz", "download.partial", "data-old.npz"):
        (mine / name).write_text("mine")
    add_study(opened, "one", mine / "cifar.npz")
    opened.delete("one")
    assert {path.name for path in mine.iterdir()} >= {"cifar.npz", "mnist.npz", "download.partial", "data-old.npz"}


@pytest.fixture
def project(tmp_path):
    """A folder with a store, whose study 'one' names a copy of data."""
    folder = tmp_path / "project"
    folder.mkdir()
    opened = results.open(folder / "nas.db")
    with opened.data_copy(A, write) as path:
        add_study(opened, "one", path)
    return folder


def test_deleting_a_study_of_a_copied_store_keeps_the_data_of_the_original(project, tmp_path):
    again = results.open(shutil.copytree(project, tmp_path / "again") / "nas.db")
    again.delete("one")
    assert copies(again) == []
    assert copies(results.open(project / "nas.db")) == [f"{A}.npz"]


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree])
def test_studies_of_a_store_that_was_moved_or_copied_have_their_data(project, tmp_path, move):
    opened = results.open(move(project, tmp_path / "moved") / "nas.db")
    present = f"npz:{tmp_path}/moved/nas.db.files/.data/{A}.npz"
    assert opened.settings("one")["data"] == present
    with opened.data_copy(B, write) as path:
        add_study(opened, "two", path)
    assert copies(opened) == [f"{A}.npz", f"{B}.npz"]
    opened.check_writer("one", {"data": present})
    with opened.writer("one", {"data": present}) as writer:
        writer.finish()
    opened.delete("one")
    assert copies(opened) == [f"{B}.npz"]


def test_a_file_of_the_user_is_not_taken_for_a_copy_of_equal_name(project):
    opened = results.open(project / "nas.db")
    add_study(opened, "mine", f"/elsewhere/{A}.npz")
    assert opened.settings("mine")["data"] == f"npz:/elsewhere/{A}.npz"
