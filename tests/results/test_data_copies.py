"""Copies of data: one for each content, kept as long as a study names it or a process holds it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack

import pytest

import results
from results.connection import locate
from results.data_copies import folder_of

HOLD = """
import sys, results
with results.open(sys.argv[1]).data_copy("a", lambda path: path.write_text("held")) as path:
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
    with opened.data_copy("a", write) as path:
        assert path.read_text() == "content"
        assert copies(opened) == ["a.npz"]
    assert copies(opened) == []
    with pytest.raises(ZeroDivisionError), opened.data_copy("a", write):
        raise ZeroDivisionError
    assert copies(opened) == []


def test_studies_share_a_copy_until_the_last_is_deleted(opened):
    for name in ("first", "second"):
        with opened.data_copy("a", write if name == "first" else forbidden) as path:
            add_study(opened, name, path)
    opened.delete("first")
    assert copies(opened) == ["a.npz"]
    opened.delete("second")
    assert copies(opened) == []


def test_copies_of_different_content_do_not_keep_each_other(opened):
    with ExitStack() as stack:
        for name in ("a", "b"):
            add_study(opened, name, stack.enter_context(opened.data_copy(name, write)))
    opened.delete("a")
    assert copies(opened) == ["b.npz"]


def test_a_copy_that_another_process_holds_stays(opened):
    command = [sys.executable, "-c", HOLD, opened.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        holder.stdout.readline()
        with opened.data_copy("a", forbidden) as path:
            assert path.read_text() == "held"
        assert copies(opened) == ["a.npz"]
        holder.kill()
    with opened.data_copy("b", write):
        pass
    assert copies(opened) == []  # the lock of a process ends with it


def test_what_a_killed_writer_left_is_removed(opened):
    def killed(path):
        write(path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), opened.data_copy("a", killed):
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
        results.open(tmp_path / "no" / "nas.db").data_copy("a", write),
    ):
        pass
