"""A dry run makes all checks of a search and leaves nothing behind; the search makes them before it writes anything."""

from __future__ import annotations

import errno
import json
import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import optuna
import pytest

import nas
import results
from nas.config.settings import MOST_PASSES
from nas.evaluation.loading import load_evaluator
from nas.funnel.limits import FIRST_SHARE, SEARCH_SHARE
from nas.funnel.preparing import outlook
from nas.plugins import trust
from nas.strategies.optuna_copy import check_target
from results import preflight

from ..searching import arguments, search, space, toy

STORES = Path(__file__).resolve().parents[2] / "results" / "stores"
pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture(params=[True, False], ids=["dry run", "search"])
def refused(request, mistake):
    """The message to a search, with and without --dry-run, that must leave nothing behind."""

    def run(store="nas.db", *, writes=False, **settings):
        return mistake(*arguments(store, **settings), *(["--dry-run"] if request.param else []), writes=writes)

    return run


@pytest.mark.parametrize("name", ["a b", "..", "x" * 101])
def test_names_of_studies(refused, name):
    assert "study's name" in refused(study=name)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("missing/nas.db", "existing folder"),
        ("mysql://localhost/x", "sqlite:///FILE"),
        ("text", "must be a SQLite database"),
        ("other.db", "must be a results store"),
        ("folder", "A store is a file"),
    ],
)
def test_stores(refused, tmp_path, url, words):
    (tmp_path / "text").write_text("no database" * 100)
    (tmp_path / "folder").mkdir()
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE studies (id)")
    connection.close()
    assert words in refused(url)


def test_a_file_in_place_of_the_folder_of_files(refused, tmp_path):
    (tmp_path / "nas.db.files").touch()
    assert "nas.db.files" in refused()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_folders_that_cannot_be_written(refused, monkeypatch, code):
    def fails(dir):
        raise OSError(code, {errno.EROFS: "Read-only file system", errno.EACCES: "Permission denied"}[code], str(dir))

    monkeypatch.setattr(preflight, "TemporaryFile", fails)
    assert "must be writable" in refused()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"epochs": 4}, "--epochs 9 (now 4)"),
        ({"points": 3}, "--points 4 (now 3)"),
        ({"rule": "joint"}, "--rule not set"),
    ],
)
def test_other_settings_of_a_study(refused, other, words):
    search("nas.db", train=3, generation=3)
    assert f"was started with {words}" in refused(train=3, generation=3, **other)


def test_a_study_that_another_process_writes(refused):
    search("nas.db", train=3, generation=3)
    opened = results.open("nas.db")
    with opened.writer("toy", opened.settings("toy")) as writer:
        assert "one writer at a time" in refused(train=3, generation=3, writes=True)  # an index beside the log
        writer.finish()


def test_plugins_that_have_changed(refused, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from tests.plugins.spaces import Small as Mine")
    trust(file)
    search("nas.db", train=3, generation=3, spaces=(f"{file}:Mine",))
    file.write_text("from tests.plugins.spaces import Other as Mine")
    assert "plug-ins of a study stay the same" in refused(train=3, generation=3, space=f"{file}:Mine")


OPTUNA = "sqlite:///optuna.db"


@pytest.mark.parametrize(
    ("studies", "words"),
    [
        ([{"study_name": "toy", "direction": "minimize"}], "does not maximise one value"),
        ([{"study_name": "toy", "directions": ["maximize", "minimize"]}], "does not maximise one value"),
        ([{"study_name": "toy", "direction": "maximize"}], "another program made it"),
    ],
)
def test_an_optuna_study_of_other_origin(refused, studies, words):
    for settings in studies:
        optuna.create_study(storage=OPTUNA, **settings)
    line = refused(optuna=OPTUNA)
    assert words in line
    assert "optuna delete-study --study-name toy --storage sqlite:///optuna.db" in line
    assert optuna.load_study(study_name="toy", storage=OPTUNA).trials == []


@pytest.mark.parametrize(("attributes", "accepted"), [(("id", "generation"), True), (("id",), False)])
def test_an_optuna_study_of_an_older_version_has_no_mark_but_marked_trials(tmp_path, attributes, accepted):
    url = f"sqlite:///{tmp_path}/optuna.db"
    study = optuna.create_study(storage=url, study_name="toy", direction="maximize")
    study.add_trial(optuna.create_trial(value=0.5, user_attrs=dict.fromkeys(attributes, 0)))
    if accepted:
        assert check_target(url, "toy", "3f2a9c01") is None
    else:
        with pytest.raises(nas.UserError, match="another program made it"):
            check_target(url, "toy", "3f2a9c01")


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite:///missing/optuna.db", "sqlite:///nas.db", "sqlite://", "flux://x"]
)
def test_optuna_storages(refused, url):
    assert "--optuna" in refused(optuna=url)


def test_a_store_in_place_of_an_optuna_storage(refused):
    search("other.db", train=3, generation=3)
    assert "tables of another program" in refused(optuna="sqlite:///other.db")


@pytest.mark.parametrize("settings", [{}, {"optuna": OPTUNA}])
def test_a_dry_run_leaves_nothing_behind(cli, tmp_path, settings):
    status, out, err = cli(*arguments("nas.db", train=3, generation=3, **settings), "--dry-run")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == f"Store {tmp_path}/nas.db: study 'toy' is new."
    assert list(tmp_path.iterdir()) == []
    search("nas.db", train=3, generation=3, **settings)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    status, out, err = cli(*arguments("nas.db", train=6, generation=3, **settings), "--dry-run")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == f"Store {tmp_path}/nas.db: study 'toy' is continued."
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_dry_run_does_not_upgrade_a_store(cli, tmp_path):
    shutil.copyfile(STORES / "v4.db", tmp_path / "nas.db")
    before = (tmp_path / "nas.db").read_bytes()
    status, out, _ = cli(*arguments("nas.db", space=space()), "--dry-run")
    assert status == 0
    assert "it has schema 4, and the search upgrades it before it looks for study 'toy'" in out
    assert (tmp_path / "nas.db").read_bytes() == before


@pytest.mark.parametrize(("rare", "remark"), [(3, True), (20, True), (35, False)])
def test_imbalanced_classes_are_named(tmp_path, cli, rare, remark):
    labels = np.repeat([0, 1], [100 - rare, rare])
    images = np.random.default_rng(0).integers(0, 256, (100, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "rare.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    status, out, err = cli("search", "--data", f"npz:{tmp_path}/rare.npz", "--space", "slimmable", "--dry-run")
    assert status == 0, err
    assert ("The classes are imbalanced: always the same answer scores" in out) is remark


def test_frequent_coarse_labels_are_no_imbalance(tmp_path, cli):
    (tmp_path / "parity.json").write_text(json.dumps({str(digit): digit % 2 for digit in range(10)}))
    status, out, err = cli("search", "--space", "slimmable", "--hierarchy", "parity.json", "--dry-run")
    assert status == 0, err
    assert "imbalanced" not in out


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"train": 8},
            "It will train 8 candidates in 2 generations, and at most 2 finalists for 5 epochs on all images:",
        ),
        ({"train": None, "generations": 3, "seeds": 2}, "train 12 candidates in 3 generations"),
        ({"train": None}, "train 36 candidates in 9 generations"),
    ],
)
def test_a_dry_run_says_what_limits_in_candidates_buy(cli, settings, words):
    status, out, _ = cli(*arguments("nas.db", **settings), "--dry-run")
    assert status == 0
    assert words in out


def test_what_a_search_trains_is_what_its_dry_run_says(cli):
    (words,) = [line for line in cli(*arguments("nas.db"), "--dry-run")[1].splitlines() if line.startswith("It will")]
    study = search("nas.db")
    found = re.fullmatch(r"It will train (\d+) candidates in (\d+) generations?, and at most (\d+) finalists .*", words)
    trained = study.candidates().dropna(subset="position")
    assert len(trained) == int(found[1])
    assert trained.generation.nunique() == int(found[2])
    full = study.store.evaluations("toy").groupby("candidate").fidelity.max()
    assert 1 <= (full == full.max()).sum() <= int(found[3])


def test_a_dry_run_of_a_started_study_says_what_is_done(cli):
    study = search("nas.db")
    out = cli(*arguments("nas.db", train=12), "--dry-run")[1]
    assert "It will train 12 candidates" in out
    assert f"Candidates of the study that are trained already: {study.store.summary('toy').scored}." in out


@pytest.mark.parametrize("hours", [0.5, 5.0])
def test_a_dry_run_estimates_what_hours_buy(cli, hours, monkeypatch):
    monkeypatch.setattr(outlook, "_seconds_per_image", lambda parts, proposal, threads: 1e-3 / threads)
    monkeypatch.setattr(outlook, "usable_cores", lambda: 2)
    status, out, _ = cli(*arguments("nas.db", train=None, final_epochs=None, hours=hours), "--dry-run")
    assert status == 0
    found = re.search(r"about ([\d,]+) candidates will be compared .* about (\S+) passes .*: 1,000 images per", out)
    images = load_evaluator(toy(), "nothing", {}).info().train_images
    candidates = FIRST_SHARE * hours * 3600 / (1e-3 * min(500, images))
    assert int(found[1].replace(",", "")) == round(candidates)
    passes = min(MOST_PASSES, (1 - SEARCH_SHARE) * hours * 3600 / (0.5e-3 * images))
    assert float(found[2]) == pytest.approx(passes, rel=0.01)


def test_a_typical_training_is_timed_and_leaves_nothing(cli, tmp_path):
    options = ("--hours", "0.01", "--space", "slimmable", "--images", "200", "--workers", "1", "--threads", "1")
    status, out, err = cli("search", "--store", "nas.db", *options, "--dry-run")
    assert (status, err) == (0, "")
    assert re.search(r"In 0\.01 hours about [\d,]+ candidates will be compared", out)
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_cannot_be_timed_is_named(cli):
    settings = {"train": None, "final_epochs": None, "hours": 1, "evaluator": toy("RaisesAlways")}
    status, out, _ = cli(*arguments("nas.db", **settings), "--dry-run")
    assert status == 0
    assert "How many candidates the time allows is unknown: an epoch failed with " in out
