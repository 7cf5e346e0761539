"""`--files URL`: a study whose checkpoints, trained networks and log lie in an object store."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import fsspec
import pytest
import torch

import nas
import results
from nas.evaluation.faults import Owner, fault_of
from nas.evaluation.jobs import Job
from nas.execution.network import AnytimeNetwork
from nas.files import MANIFEST, local_folder
from nas.plugins import load_plugin
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.workers import job_folder as module
from nas.workers.job_folder import discard, job_folder
from nas.workers.session import run_job
from results.files.places import RemotePath, place

from .searching import TINY, arguments, assert_same, content, search, start, state_of, toy

BUILDER = Builder(Task(input_shape=(1, 8, 8), num_classes=3))
BUILDER.head(BUILDER.conv(BUILDER.input, (4, 8)))
ARCHITECTURE = BUILDER.architecture(2)


@pytest.fixture
def files(s3):
    """A URL for the folders of studies."""
    return f"{s3.bucket()}/runs"


def names(url):
    return place(url).names()


def random_network(seed):
    network = AnytimeNetwork(ARCHITECTURE, generator=torch.Generator().manual_seed(seed)).eval()
    network.calibrated.fill_(True)
    return network


def test_a_search_writes_there_and_nothing_elsewhere(files, store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))  # of the workers
    (tmp_path / "scratch").mkdir()
    study = search(store, files=files, workers=2)
    search(store.with_name("local.db"))
    assert_same(content(store), content(store.with_name("local.db")), settings=False)
    written = names(f"{files}/toy")
    assert "study.json" in written
    assert not [name for name in written if name.endswith("checkpoint.json") and "/search-" in name]
    networks = [name for name in written if name.endswith("/full-0/network.json")]
    assert networks
    assert not (store.parent / "nas.db.files" / "toy").exists()
    assert str(study.store.files("toy")) == f"{files}/toy"
    assert list((tmp_path / "scratch").glob("anytime-nas-*")) == []


def test_the_log_of_the_workers_is_there(files, store):
    search(store, files=files, evaluator=toy("Prints"), train=2, finalists=1)
    assert "what a nice day" in (place(files) / "toy" / "log.txt").read_text()


def test_a_killed_search_is_resumed_elsewhere_without_naming_the_url(files, store, tmp_path, monkeypatch):
    driver = start(*arguments(store, files=files, workers=2), TOY_SLEEP="0.05")
    while not any(name.startswith("candidates/") for name in names(f"{files}/toy")):
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / "moved.db"
    for path in store.parent.glob("nas.db*"):  # with the log of changes
        if path.is_file():
            shutil.copy(path, str(moved) + path.name.removeprefix("nas.db"))
    nas.resume("toy", store=str(moved))
    search(store.with_name("whole.db"))
    assert_same(content(moved), content(store.with_name("whole.db")), settings=False)


def test_a_killed_worker_continues_from_the_checkpoint(s3, files, tmp_path):
    """The last checkpoint that was sent, and not the beginning."""
    evaluator = load_plugin("nas.evaluators", toy())("nothing")
    architecture = ARCHITECTURE.to_json()
    job = Job(candidate=1, architecture=architecture, seed=1, epochs=6, until=6, images=None, folder=f"{files}/a")
    with job_folder(job, evaluator.checkpoint) as folder:
        folder._due = 0.0
        reported = []

        def report(epoch):
            folder.reported()
            folder._due = 0.0
            reported.append(epoch)
            if epoch == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            evaluator.evaluate(folder.job, report)
    assert json.loads((place(files) / "a/checkpoint.json").read_text())["epoch"] == 3
    messages = []
    run_job(evaluator, job, messages.append)
    assert [message["epoch"] for message in messages[:-1]] == [4, 5, 6]
    assert names(f"{files}/a") == ["checkpoint.json", "network.json"]


def test_checkpoints_are_not_sent_more_often_than_every_ten_seconds(files, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    job = Job(candidate=1, architecture={}, seed=1, epochs=6, until=6, images=None, folder=f"{files}/a")
    sent = []

    def transfer(folder):
        sent.append(now[0])
        now[0] += 2

    monkeypatch.setattr(module.CopiedFolder, "_send", transfer)
    with job_folder(job, "checkpoint") as folder:
        while now[0] < 100:
            now[0] += 1
            folder.reported()
    assert sent == [10.0, 52.0, 94.0]  # 2 s for one transfer: a twentieth


@pytest.fixture
def trained(files, s3):
    """A network in a folder of a job with a URL, as a worker sends it."""
    network = random_network(1)
    job = Job(candidate=1, architecture={}, seed=1, epochs=1, until=1, images=None, folder=f"{files}/a")
    with job_folder(job, "checkpoint") as folder:
        network.save(folder.job.folder)
        Path(folder.job.folder, "checkpoint").write_text("done")
        folder.finish()
    return network, job


def same_weights(first, second):
    return all((value == second.state_dict()[name]).all() for name, value in first.state_dict().items())


def test_a_network_is_loaded_from_its_url(trained):
    network, job = trained
    assert same_weights(network, nas.load(job.folder))
    assert same_weights(network, AnytimeNetwork.load(RemotePath(job.folder)))


def test_a_network_is_sent_before_its_manifest_and_its_checkpoint(trained, monkeypatch):
    network, job = trained
    order = []
    replace = RemotePath._replace
    monkeypatch.setattr(RemotePath, "_replace", lambda self, write: (order.append(self.name), replace(self, write)))
    with job_folder(job, "checkpoint") as folder:
        network.save(folder.job.folder)
        Path(folder.job.folder, "checkpoint").write_text("again")
        folder.finish()
    assert order == [MANIFEST, "network.json", "weights.safetensors", MANIFEST, "checkpoint"]


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_reader_never_sees_half_a_network(trained, monkeypatch, kept):
    """The worker is killed between the files of a network that replaces another one; then it runs again."""
    network, job = trained
    other = random_network(2)
    assert not same_weights(network, other)
    replace, left = RemotePath._replace, [kept]

    def killed(self, write):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        replace(self, write)

    def train():
        with job_folder(job, "checkpoint") as folder:
            other.save(folder.job.folder)
            folder.finish()

    with monkeypatch.context() as patch:
        patch.setattr(RemotePath, "_replace", killed)
        with pytest.raises(KeyboardInterrupt):
            train()
    monkeypatch.setattr("nas.files.time.sleep", lambda seconds: None)
    with pytest.raises(nas.UserError, match=r"must be complete.*resume"):
        nas.load(job.folder)
    train()
    assert same_weights(other, nas.load(job.folder))


def test_a_reader_copies_again_while_a_network_is_replaced(trained, monkeypatch):
    network, job = trained
    weights = place(job.folder) / "weights.safetensors"
    whole = fsspec.filesystem("s3").cat_file(weights.url)
    weights.write_text("half")
    monkeypatch.setattr("nas.files.time.sleep", lambda seconds: fsspec.filesystem("s3").pipe_file(weights.url, whole))
    assert same_weights(network, nas.load(job.folder))


def test_a_saved_network_may_be_copied_to_a_url(files, tmp_path):
    network = random_network(1)
    network.save(tmp_path / "net")
    fsspec.filesystem("s3").put(str(tmp_path / "net"), f"{files}/net", recursive=True)
    assert same_weights(network, nas.load(f"{files}/net"))
    with pytest.raises(nas.UserError, match=r"has no manifest\.json"):
        nas.load(f"{files}/other")


def test_a_local_folder_is_not_copied(tmp_path):
    with local_folder(tmp_path) as folder:
        assert folder == tmp_path


def test_checkpoints_are_discarded_by_the_evaluator(trained, tmp_path):
    class Own:
        def discard(self, folder):
            Path(folder, "checkpoint").unlink(missing_ok=True)

    _, job = trained
    discard(Own(), job.folder)
    discard(Own(), job.folder)
    discard(Own(), f"{job.folder}-missing")
    assert names(job.folder) == ["manifest.json", "network.json", "weights.safetensors"]


def test_files_that_a_job_removes_are_removed(files):
    job = Job(candidate=1, architecture={}, seed=1, epochs=1, until=1, images=None, folder=f"{files}/a")
    for number in range(2):
        with job_folder(job, "checkpoint") as folder:
            Path(folder.job.folder, str(number)).write_text("")
            Path(folder.job.folder, str(number - 1)).unlink(missing_ok=True)
            folder.finish()
    assert names(f"{files}/a") == ["1"]


REAL = TINY | {"data": "digits", "space": "residual", "images": 300, "max_macs": 2e5, "study": "real"}


@pytest.mark.slow
def test_trained_networks_are_loaded_from_other_folders(files, store, tmp_path, monkeypatch, cli):
    study = nas.search(**REAL, files=files, store=str(store))
    network = study.network()
    key = str(study.best().key)
    for path in store.parent.glob("nas.db.files/*"):
        assert path.name.startswith(".")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert same_weights(network, nas.load(key, study="real", store=str(store)))
    found = study.store.find_network(key)
    assert str(found.weights) == f"{files}/real/candidates/{key}/full-0"
    assert nas.load(str(found.weights)).macs == network.macs
    assert cli("status", "--store", str(store))[0] == 0
    assert cli("delete", "real", "--yes", "--store", str(store))[0] == 0
    assert names(files) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", ["select", "throttle"])
def test_networks_at_a_url_are_selected_from_and_throttled(files, store, cli, command):
    study = nas.search(**REAL, files=files, store=str(store))
    key = str(study.best().key)
    assert study.network().architecture.norm == "recalibrated"  # others may have no other operating points
    status, _, err = cli(command, key, "net", "--study", "real", "--store", store, "--device", "cpu", "--quiet")
    assert (status, err) == (0, "")
    assert len(nas.load("net").macs) >= 1


def test_a_study_keeps_the_place_of_its_files(files, store, in_process):
    search(store, train=4)
    with pytest.raises(results.StoreError, match=r"The files of study 'toy' are in .*copy them there first"):
        search(store, files=files, train=8)
    folder = store.parent / "nas.db.files" / "toy"
    fsspec.filesystem("s3").put(str(folder), f"{files}/toy", recursive=True)
    shutil.rmtree(folder)
    study = search(store, files=files, train=8)
    assert str(study.store.files("toy")) == f"{files}/toy"
    nas.resume("toy", store=str(store), train=12)
    assert not folder.exists()


def test_a_folder_belongs_to_one_study(files, store, in_process):
    search(store, files=files)
    with pytest.raises(results.StoreError, match=f"A study has a folder of its own. {files}/toy belongs to"):
        search(store.with_name("other.db"), files=files)
    assert not store.with_name("other.db").exists()


def test_a_study_at_a_url_is_merged_into_a_local_folder(files, store, in_process):
    study = search(store, files=files)
    other = results.open(str(store.with_name("all.db")))
    other.merge(str(store))
    assert other.files("toy") == store.parent / "all.db.files" / "toy"
    networks = {name for name in names(f"{files}/toy") if name.endswith("network.json")}
    assert networks
    assert {name for name in networks if (other.files("toy") / name).is_file()} == networks
    nas.resume("toy", store=other.url, train=12)
    study.store.delete("toy")
    assert (names(files), other.files("toy").is_dir()) == ([], True)


def test_a_shared_folder_is_a_place(store, tmp_path, in_process, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = search(store, files="shared")
    assert study.store.files("toy") == tmp_path / "shared" / "toy"
    assert list((tmp_path / "shared" / "toy" / "candidates").rglob("network.json"))
    nas.resume("toy", store=str(store), train=12, files=f"file://{tmp_path}/shared")
    study.store.delete("toy")
    assert not (tmp_path / "shared" / "toy").exists()


def test_mistakes_are_one_line_before_anything_is_written(s3, mistake, store):
    for url, message in {
        "foo://bucket/x": "needs a protocol that fsspec knows",
        "gs://bucket/x": "Please install gcsfs",
        "memory://x": "must be a place that other processes reach",
        "s3://no-such-bucket/x": "create it, or correct the URL",
        "": "must be text",
    }.items():
        for more in ([], ["--dry-run"]):
            assert message in mistake(*arguments(store, *more, files=url))
    assert not store.exists()


def test_a_preview_writes_nothing_there(files, cli, store):
    status, out, err = cli(*arguments(store, "--dry-run", files=f"{files}/"))
    assert (status, err) == (0, "")
    assert f"Files in {files}/toy." in out
    assert names(files) == []


def test_a_lost_connection_is_a_fault_of_the_environment(files, s3, monkeypatch):
    monkeypatch.setattr(module, "PAUSES", ())
    job = Job(candidate=1, architecture={}, seed=1, epochs=1, until=1, images=None, folder=f"{files}/a")
    s3.stop()
    try:
        with pytest.raises(results.StoreError) as raised, job_folder(job, "checkpoint"):
            pass
    finally:
        s3.start()
    fault = fault_of(raised.value)
    assert (fault.owner, fault.repeated) == (Owner.ENVIRONMENT, False)
    assert fault.reason.startswith(f"The files in {files}/a cannot be reached: check the network")


def test_a_transfer_that_fails_for_a_moment_is_repeated(files, monkeypatch, capfd):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    job = Job(candidate=1, architecture={}, seed=1, epochs=1, until=1, images=None, folder=f"{files}/a")
    send, failures = RemotePath.send, [TimeoutError(), TimeoutError()]

    def sometimes(self, source):
        with self._clear_errors(writing=True):
            if failures:
                raise failures.pop()
        send(self, source)

    monkeypatch.setattr(RemotePath, "send", sometimes)
    with job_folder(job, "checkpoint") as folder:
        Path(folder.job.folder, "checkpoint").write_text("")
        folder._due = 0.0
        folder.reported()
        folder.finish()
    assert names(f"{files}/a") == ["checkpoint"]
    assert "waits for the next transfer" in (err := capfd.readouterr().err)
    assert "is tried again in 2 s" in err


@pytest.mark.slow
def test_a_search_survives_the_loss_of_its_files(files, s3, store):
    driver = start(*arguments(store, files=files), TOY_SLEEP="0.05")
    while not any(name.startswith("candidates/") for name in names(f"{files}/toy")):
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.1)
    s3.stop()
    try:
        _, err = driver.communicate(timeout=300)
    finally:
        s3.start()
    assert driver.returncode == 2
    assert "cannot be reached: check the network and the endpoint, and resume." in err
    assert "Traceback" not in err
    assert state_of(store)[0] == "interrupted"
    nas.resume("toy", store=str(store))
    search(store.with_name("whole.db"))
    assert_same(content(store), content(store.with_name("whole.db")))
