"""Two searches in process groups of their own write to one store at once, while others read it."""

import os
import signal
import threading
import traceback
from contextlib import contextmanager

import pandas as pd
import pytest

import results

from ..searching import arguments, search, start

SEEDS = {"first": 1, "second": 2}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A store in which each of the studies was searched alone."""
    path = tmp_path_factory.mktemp("alone") / "nas.db"
    for study, seed in SEEDS.items():
        search(path, study=study, seed=seed)
    return results.open(path)


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.slow), "postgresql"])
def shared(request, tmp_path, monkeypatch):
    """A store that does not exist yet, and a function that restarts its server, if it has one."""
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        return results.open(tmp_path / "nas.db"), lambda: None
    server = request.getfixturevalue("postgresql")

    def restart():
        server.kill()
        server.start()

    return results.open(server.new_database()), restart


@contextmanager
def both_searches(store):
    """The two searches, as leaders of process groups; on exit they have ended."""
    running = [
        start(*arguments(store.url, "--quiet", study=study, seed=seed), start_new_session=True, TOY_SLEEP="0.05")
        for study, seed in SEEDS.items()
    ]
    try:
        yield running
    finally:
        for each in running:
            if each.poll() is None:
                os.killpg(each.pid, signal.SIGKILL)
            each.communicate()


class Reader(threading.Thread):
    """Reads everything again and again; the trained candidates never become fewer."""

    def __init__(self, store):
        super().__init__()
        self.store, self.trained, self.refused, self.errors = store, dict.fromkeys(SEEDS, 0), [], []
        self.ended, self.advanced = threading.Event(), threading.Event()

    def run(self):
        while not self.ended.wait(0.05):
            try:
                self.read()
            except results.StoreError as error:
                self.refused.append(str(error))
            except Exception as error:
                self.errors.append("".join(traceback.format_exception(error)))
                self.ended.set()
            if min(self.trained.values()) >= 2:
                self.advanced.set()
        self.advanced.set()

    def read(self):
        for study in self.store.studies().itertuples():
            assert study.trained >= self.trained[study.study]
            self.trained[study.study] = study.trained
            front, points = self.store.front(study.study), self.store.points(study.study)
            assert len(front) <= len(points) or points.empty
            assert self.store.summary(study.study).scored >= study.trained


def test_two_searches_and_a_reader(shared, alone):
    """PostgreSQL is restarted in the middle of both."""
    store, restart = shared
    reader = Reader(store)
    with both_searches(store) as running:
        while not store.url.startswith("postgresql") and not all(map(store.holds, SEEDS)):
            assert all(each.poll() is None for each in running), [each.communicate() for each in running]
        reader.start()
        try:
            reader.advanced.wait()
            restart()
            outputs = [each.communicate() for each in running]
        finally:
            reader.ended.set()
            reader.join()
    assert [each.returncode for each in running] == [0, 0], outputs
    assert not reader.errors
    assert not [text for text in reader.refused if "did not answer" not in text and "must be" not in text]
    for study in SEEDS:
        for table in ("candidates", "evaluations", "points", "front"):
            frames = (
                getattr(each, table)(study).drop(columns="evaluated_at", errors="ignore") for each in (store, alone)
            )
            pd.testing.assert_frame_equal(*frames)
        folders = {path.name for path in store.files(study).joinpath("candidates").iterdir()}
        assert folders <= set(store.candidates(study)["key"])
