"""Files and folders at URLs: in an object store, and where folders exist; every error is one clear line."""

import importlib
import logging
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import fsspec
import pytest

import results
from results.files.places import FilesUnreachable, RemotePath, place, replace_text
from results.files.scratch import remove_abandoned, scratch_folder
from results.files.study_log import appended_log

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["s3", "memory"])
def folder(request):
    """A new folder in an object store, and in a file system that renames."""
    if request.param == "s3":
        return place(f"{request.getfixturevalue('s3').bucket()}/runs") / "toy"
    return place(f"memory://{uuid.uuid4().hex}") / "toy"


def test_files_are_written_read_and_deleted(folder):
    assert (folder.exists(), folder.is_dir(), folder.names()) == (False, False, [])
    folder.mkdir()
    (folder / "study.json").write_text("one")
    (folder / "study.json").write_text("é")
    (folder / "candidates" / "a.txt").write_text("")
    assert (folder / "study.json").read_text() == "é"
    assert folder.names() == ["candidates/a.txt", "study.json"]
    assert [each.name for each in folder.iterdir()] == ["candidates", "study.json"]
    assert (folder.is_dir(), (folder / "study.json").is_dir(), (folder / "study.json").exists()) == (True, False, True)
    (folder / "study.json").unlink()
    (folder / "study.json").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (folder / "study.json").read_text()
    folder.remove_all()
    folder.remove_all()
    assert not folder.exists()


def test_a_folder_is_not_confused_with_one_whose_name_is_longer(folder):
    longer = RemotePath(f"{folder.url}-2")
    (longer / "a").write_text("")
    assert folder.names() == []
    assert not folder.exists()
    folder.remove_all()
    assert longer.names() == ["a"]


def test_files_are_copied(folder, tmp_path):
    (tmp_path / "here").write_bytes(b"\0" * 1000)
    (folder / "there").send(tmp_path / "here")
    (folder / "there").fetch(tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"\0" * 1000
    assert folder.names() == ["there"]


def test_one_process_creates_a_file(folder):
    (folder / "study.json").create_text("first")
    (folder / "study.json").create_text("second")
    assert (folder / "study.json").read_text() == "first"


def test_creation_is_exclusive_in_an_object_store(s3, monkeypatch):
    file = place(f"{s3.bucket()}/study.json")
    file.write_text("other process")
    monkeypatch.setattr(RemotePath, "exists", lambda self: False)  # it looked before
    file.create_text("late")
    assert file.read_text() == "other process"


def test_the_check_leaves_nothing(folder):
    folder.check_writable()
    assert not folder.exists()
    (folder / "a").write_text("")
    folder.check_writable()
    assert folder.names() == ["a"]


def test_changes_by_other_processes_are_seen(folder):
    fs, path = fsspec.core.url_to_fs(folder.url)
    assert folder.names() == []
    type(fs)(skip_instance_cache=True).pipe_file(f"{path}/a", b"") if "s3" in folder.url else fs.pipe(f"{path}/a", b"")
    assert folder.names() == ["a"]
    assert folder.exists()


def test_paths_and_file_urls_are_local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert place("runs") == place(f"file://{tmp_path}/runs") == place(tmp_path / "runs") == tmp_path / "runs"
    assert place("~/runs") == Path.home() / "runs"
    replace_text(tmp_path / "a", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("foo://bucket/x", "protocol that fsspec knows. Got foo://bucket/x, with 'foo'"),
        ("gs://bucket/x", "The package of the protocol 'gs' is missing. Got gs://bucket/x: Please install gcsfs"),
        ("s3://", "must name a folder, such as s3://bucket/folder. Got s3://"),
        ("s3:///", "must name a folder"),
        ("s3://key:secret@bucket/x", r"must not hold a password, .* Got s3://key:\*\*\*@bucket/x"),
        ("s3://bucket/*", "wildcards"),
        ("s3://bucket/../x", r"'\.\.'"),
        ("simplecache::s3://bucket/x", "must be a path or a URL"),
        ("a\0b", "must be a path or a URL"),
    ],
)
def test_unusable_places_are_refused(url, message):
    with pytest.raises(results.StoreError, match=message) as raised:
        place(url)
    assert "secret" not in str(raised.value)


def test_a_missing_package_has_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, "s3", raising=False)
    with pytest.raises(results.StoreError, match=r"pip install 'anytime-nas\[s3\]'"):
        place("s3://bucket/x")


def test_a_missing_bucket_is_reported_and_not_created(s3):
    folder = place("s3://no-such-bucket/runs")
    assert (folder.exists(), folder.names()) == (False, [])
    folder.mkdir()
    folder.remove_all()
    for write in (folder.check_writable, lambda: (folder / "a").write_text("")):
        with pytest.raises(results.StoreError, match="need an existing bucket or folder: create it, or correct"):
            write()
    assert not fsspec.filesystem("s3").exists("no-such-bucket")


def test_missing_credentials_are_reported(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(results.StoreError, match=r"need credentials .* AWS_PROFILE"):
        place("s3://bucket-x/runs").exists()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.mark.parametrize(
    ("error", "message", "passes"),
    [
        (PermissionError("Access Denied"), "need credentials", False),
        (OSError(122, "Disk quota exceeded"), "need space", False),
        (OSError("XMinioStorageFull: Storage backend has reached its minimum free drive threshold"), "space", False),
        (TimeoutError(), "cannot be reached", True),
        (ConnectionResetError("Connection reset by peer"), "cannot be reached", True),
        (ConnectionError("http://quota/permission"), "cannot be reached", True),
        (NotImplementedError(), "a protocol that writes", False),
        (ZeroDivisionError("odd"), "cannot be used: ZeroDivisionError: odd", False),
    ],
)
def test_errors_name_the_place_and_the_remedy(error, message, passes, monkeypatch):
    folder = place(f"memory://{uuid.uuid4().hex}")
    fs, _ = fsspec.core.url_to_fs(folder.url)

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(fs, "pipe_file", fail)
    with pytest.raises(results.StoreError, match=message) as raised:
        (folder / "a").write_text("")
    assert str(raised.value).startswith(f"The files in {folder}/a ")
    assert isinstance(raised.value, FilesUnreachable) == passes
    assert "\n" not in str(raised.value)


def test_a_server_that_does_not_answer_is_unreachable():
    with pytest.raises(FilesUnreachable, match="check the network and the endpoint"):
        place("http://127.0.0.1:9/x").check_writable()


def test_a_killed_process_leaves_a_folder_that_the_next_one_removes(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed = "import os; from results.files.scratch import scratch_folder; s = scratch_folder(); s.__enter__()"
    killed += "; os.kill(os.getpid(), 9)"
    with scratch_folder() as first:
        subprocess.run([sys.executable, "-c", killed], env={"TMPDIR": str(tmp_path)}, cwd=ROOT, check=False)
        assert len(list(tmp_path.iterdir())) == 2
        with scratch_folder() as second:
            assert sorted(tmp_path.iterdir()) == sorted([first.parent, second.parent])
        (first / "a").write_text("")
    assert list(tmp_path.iterdir()) == []


def test_folders_of_others_and_of_live_processes_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "anytime-nas-files-other").mkdir()  # without a lock: it is being made
    with scratch_folder() as folder:
        threading.Thread(target=remove_abandoned).run()
        assert folder.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["anytime-nas-files-other"]


def test_the_log_at_a_url_is_continued(s3, monkeypatch):
    folder = place(f"{s3.bucket()}/toy")
    for text in ("one\n", "two\n"):
        with appended_log(folder) as path, open(path, "a") as log:
            log.write(text)
    assert (folder / "log.txt").read_text() == "one\ntwo\n"


def test_the_log_is_sent_while_a_study_runs(s3, monkeypatch):
    monkeypatch.setattr("results.files.study_log.SECONDS", 0.01)
    monkeypatch.setattr("results.files.study_log.SHARE", 0)
    folder = place(f"{s3.bucket()}/toy")
    with appended_log(folder) as path:
        path.write_text("one\n")
        while not (folder / "log.txt").exists():
            pass
        assert (folder / "log.txt").read_text() == "one\n"


def test_a_log_that_cannot_be_sent_is_a_warning(s3, caplog):
    with caplog.at_level(logging.WARNING, "results"), appended_log(place("s3://no-such-bucket/toy")) as path:
        path.write_text("one\n")
    assert (
        "The end of the log was not sent: The files in s3://no-such-bucket/toy/log.txt need an existing" in caplog.text
    )


def test_a_local_log_is_the_file_itself(tmp_path):
    with appended_log(tmp_path) as path:
        assert path == tmp_path / "log.txt"
    assert list(tmp_path.iterdir()) == []
