"""A search that starts from an earlier study learns from its candidates, and counts none of them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

import results
from nas import launch
from nas.errors import UserError
from nas.funnel import driver
from nas.launch import preview, resume, run
from nas.plugins import load_plugin
from nas.reporting.console import study_status
from nas.reporting.html_report import write_report

from ..searching import InProcess, assert_same, config, content, nas, search, space, toy

FIRST = {"study": "first", "evaluator": toy("Known"), "train": 12}
SECOND = {"study": "second", "evaluator": toy("Known"), "train": 8, "seed": 5, "warm_start": "first"}


@pytest.fixture(autouse=True)
def _in_process(monkeypatch):
    monkeypatch.setattr(launch, "LocalRunner", InProcess)


@pytest.fixture
def store(tmp_path):
    """A store with the study ``first``."""
    search(tmp_path / "nas.db", **FIRST)
    return tmp_path / "nas.db"


@pytest.fixture
def histories(monkeypatch):
    """The histories that strategies receive."""
    received = []

    class Watched(load_plugin("nas.strategies", "random")):
        """Random search that keeps its history."""

        reads_architectures = True

        def __init__(self, *, seed, history=()):
            received.append(list(history))
            super().__init__(seed=seed, history=history)

    monkeypatch.setattr("nas.funnel.preparing.preparation.load_plugin", lambda group, spec: Watched)
    return received


def test_the_strategy_learns_from_the_earlier_study_and_nothing_counts_it(store, histories):
    study = search(store, **SECOND)
    first = results.open(store).candidates("first").dropna(subset="position")
    trained = first[first.status.isin(["stopped", "finished"])]
    assert [trial.architecture.key for trial in histories[0]] == trained.key.tolist()
    assert [trial.complete for trial in histories[0]] == (trained.status == "finished").tolist()
    assert all(trial.value == max(trial.intermediate.items())[1] for trial in histories[0])
    assert all(trial.proxy is not None for trial in histories[0])
    assert {trial.generation for trial in histories[0]} == {0, 1, 2}
    assert {trial.generation for trial in histories[-1]} == {0, 1, 2, 3}  # the study's own come after them

    own = study.candidates().dropna(subset="position")
    assert len(own) == 8
    assert not set(own.key) & set(first.key)
    assert set(study.front().candidate) <= set(own.key)
    assert set(study.first_rung().key) == set(own.key)
    transferred = study.store.transferred("second")
    assert transferred.key.tolist() == trained.key.tolist()
    assert set(transferred.origin) == {"first"}
    assert study.score() == results.open(store).score("first")


def test_status_preview_and_report_name_the_earlier_study(store, tmp_path):
    assert "Warm start from first: 12 trained candidates." in preview(config(**SECOND), store=str(store))
    assert not results.open(store).holds("second")
    study = search(store, **SECOND)
    assert "Warm start from first, 12 trained candidates" in study_status(study)
    page = write_report([study], tmp_path / "report.html", proxies=()).read_text(encoding="utf-8")
    assert "warm start from first, 12 trained candidates" in page
    assert "arm start" not in study_status(launch.Study("first", store=str(store)))


def test_a_resumed_study_does_not_depend_on_the_earlier_one(store, tmp_path):
    whole = tmp_path / "whole.db"
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(whole)) as target:
        source.backup(target)
    search(whole, **SECOND)
    search(store, **SECOND | {"generations": 1})
    resume("first", store=str(store), train=16)
    results.open(store).delete("first")
    resume("second", store=str(store), generations=100)
    one, other = content(whole, "second"), content(store, "second")
    for rows in (one, other):
        first_id = rows["candidates"].id.min()
        for name, column in (("candidates", "id"), ("points", "candidate_id"), ("evaluations", "candidate_id")):
            rows[name][column] -= first_id
    assert_same(one, other, settings=False)
    results.open(store).delete("second")
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("SELECT count(*) FROM transferred").fetchone() == (0,)


def test_a_start_that_was_killed_before_its_copy_makes_it_again(store, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(driver.Driver, "_start_from", killed)
        with pytest.raises(KeyboardInterrupt):
            search(store, **SECOND)
    assert resume("second", store=str(store)).store.transferred_count("second") == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warm_start": "second"}, "must name another study. Got 'second' for both"),
        ({"warm_start": "none"}, r"A study must be in the store. Got 'none'. Studies there: first\."),
        ({"data": "else"}, "'first' has other data than else. Search the same data, or leave out --from"),
        ({"epochs": 3, "images": 400}, r"has --epochs 9 \(now 3\), --images 500 \(now 400\). Use its settings"),
        ({"max_macs": 5e6}, r"has --max-macs \d.* \(now 5e\+06\). Leave these limits out to take over its own"),
        ({"low": 3e4}, r"has --low \d.* \(now 30000\)"),
        ({"spaces": (space("Six"),)}, "12 trained candidates, of the spaces: .*Small. Name another study"),
    ],
)
def test_a_study_that_cannot_be_compared_is_refused(store, settings, message):
    with pytest.raises((UserError, results.StoreError), match=message):
        run(config(**SECOND | settings), store=str(store))
    assert not results.open(store).holds("second")


def test_candidates_that_the_spaces_do_not_build_are_left_out(store):
    with closing(sqlite3.connect(store)) as connection:
        (number, choices) = connection.execute(
            "SELECT id, choices FROM candidates WHERE position IS NOT NULL ORDER BY id LIMIT 1"
        ).fetchone()
        (width,) = (name for name in json.loads(choices) if name.endswith("/width"))
        changed = json.dumps(json.loads(choices) | {width: 20})
        connection.execute("UPDATE candidates SET choices = ? WHERE id = ?", (changed, number))
        connection.commit()
    assert search(store, **SECOND).store.transferred_count("second") == 11


def test_the_images_of_partial_training_are_those_of_the_study_that_began(store):
    """By default, short searches have fewer; other hours, and a warm start, change nothing."""
    timed = FIRST | {"study": "timed", "images": None, "final_epochs": None, "hours": 0.01, "train": 4}
    search(store, **timed)
    search(store, **timed | {"hours": 1.0, "train": 6})
    resume("timed", store=str(store), hours=2.0, train=8)
    search(store, **SECOND | {"warm_start": "timed", "images": None, "final_epochs": None, "train": 4})
    opened = results.open(store)
    assert [opened.settings(study)["images"] for study in ("timed", "second")] == [2_000, 2_000]


def test_the_command_line_starts_from_a_study(store):
    done = nas("search", "second", "--store", str(store), "--from", "none", "--evaluator", toy(), "--space", space())
    assert (done.returncode, done.stdout) == (2, "")
    assert "Got 'none'. Studies there: first." in done.stderr


def test_a_warm_start_finds_better_candidates_earlier(tmp_path):
    """The first candidates of guided searches, over seeds: without the earlier study, they are random."""
    warm, cold = [], []
    for seed in range(3):
        path = tmp_path / f"{seed}.db"
        common = {"strategy": "guided", "evaluator": toy("Learnable"), "pool": 60, "generation": 8}
        search(path, **common | {"study": "first", "train": 16, "seed": seed})
        for study, found, more in (("warm", warm, {"warm_start": "first"}), ("cold", cold, {})):
            rung = search(path, **common | {"study": study, "train": 8, "seed": 100 + seed} | more).first_rung()
            found.append(rung[~rung.control].accuracy.mean())
    assert all(one > other for one, other in zip(warm, cold))
    assert sum(warm) - sum(cold) > 3 * 0.02
