"""The hardest inputs through the command line: one clear line, exit status 2, nothing written and nothing lost."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess

import numpy as np
import pytest

import results
from nas.config import Config, option, settings_of
from nas.funnel.preparing.preparation import prepared, stored_settings
from nas.screening import budgets
from nas.strategies.optuna_copy import OptunaCopy

from ..searching import (
    PLUGINS,
    TINY,
    arguments,
    assert_same,
    command,
    config,
    content,
    environment,
    nas,
    search,
    space,
    start,
    state_of,
    toy,
)

PARTS = f"{PLUGINS}/parts.py"


def of(**settings):
    """A search of toys as arguments, in the working directory."""
    return arguments("nas.db", **settings)


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"space": "residul"},
            ["Unknown space 'residul'", "Did you mean 'residual'", "mobile, residual, slicing, slimmable"],
        ),
        ({"strategy": "tpee"}, ["Unknown strategy 'tpee'", "Did you mean 'tpe'", "nsga2", "random"]),
        ({"proxy": "dmtc"}, ["Unknown proxy 'dmtc'", "Did you mean 'dtmc'", "macs", "count"]),
        ({"evaluator": "trainer"}, ["Unknown evaluator 'trainer'", "training"]),
        ({"rule": "sandwhich"}, ["Unknown training rule 'sandwhich'", "Did you mean 'sandwich'", "joint"]),
        ({"rule": "sandwich:soft"}, ["sandwich:soft"]),
        ({"rule": "sandwich:taste=5"}, ["taste"]),
        ({"rule": "sandwich:sampled=2,sampled=3"}, ["sampled twice"]),
        ({"evaluator": "training", "data": "digit"}, ["Unknown data 'digit'", "Did you mean 'digits'", "npz:FILE"]),
        ({"evaluator": "training", "data": "x.npz"}, ["npz:x.npz"]),
        ({"evaluator": "training", "data": "npz:missing.npz"}, ["missing.npz", "nothing there"]),
        ({"evaluator": "training", "data": "synthetic:size=2"}, ["size"]),
        ({"evaluator": "training", "data": "torchvision:MNISTT"}, ["torchvision", "MNIST"]),
        ({"device": "cuda:99"}, ["--device", "cuda:99"]),
        ({"device": "meta"}, ["--device", "meta"]),
        ({"device": "abacus"}, ["--device", "abacus"]),
        ({"study": "a/b"}, ["study's name", "a/b"]),
        ({"study": "-"}, ["study's name"]),
        ({"study": ".."}, ["study's name"]),
        ({"study": "x" * 101}, ["study's name", "100"]),
        ({"study": ""}, ["--study"]),
        ({"data": ""}, ["--data"]),
        ({"space": ""}, ["space"]),
        ({"store": "mysql://localhost/x"}, ["sqlite:///FILE"]),
        ({"store": ":memory:"}, ["outlive"]),
        ({"store": ""}, ["store"]),
        ({"layout": "HWN", "evaluator": "training", "data": "npz:good.npz"}, ["layout", "NHWC"]),
        ({"layout": "NHWC", "evaluator": "training", "data": "digits"}, ["layout"]),
        ({"augment": "flop", "evaluator": "training", "data": "digits"}, ["augment", "flip", "crop"]),
    ],
)
def test_unknown_names(mistake, good_npz, settings, words):
    settings = dict(settings)
    store = settings.pop("store", "nas.db")
    line = mistake(*arguments(store, **settings))
    for word in words:
        assert word in line


def test_no_cuda_is_told_before_anything_is_written(mistake, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    line = mistake("search", "--device", "cuda")
    assert "--device must be available to torch here" in line


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("data", "npz:~$d.npz"),
        ("data", "npz:~nobody/d.npz"),
        ("data", "npy:~no-such-user/d"),
        ("data", "npz:circle"),
        ("data", "~$d.py:images"),
        ("hierarchy", "~$h.json"),
        ("space", "~$s.py:Space"),
        ("space", "circle.py:Space"),
        ("store", "~$d/nas.db"),
        ("store", "circle/nas.db"),
    ],
)
def test_paths_that_are_no_files(mistake, tmp_path, option, value):
    for name in ("circle", "circle.py"):
        (tmp_path / name).symlink_to(name)
    mistake("search", f"--{option}={value}")


@pytest.mark.parametrize(
    "words",
    [
        ("frobnicate",),
        ("search", "--frobnicate"),
        ("search", "a", "b"),
        ("front",),
        ("show",),
        ("resume",),
        ("delete",),
    ],
)
def test_wrong_usage(mistake, words):
    mistake(*words)


def test_a_dry_run_says_which_reason_rejects_most(cli, monkeypatch):
    monkeypatch.setattr(budgets, "SAMPLE", 40)
    status, out, _ = cli(*of(max_params=2000), "--dry-run")
    assert status == 0
    assert "proposals were rejected for one reason, the last: The largest point has" in out


# Plug-ins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"space": f"{PLUGINS}/missing.py:Space"}, ["must exist", "missing.py"]),
        ({"space": f"{PLUGINS}/spaces.py:Missing"}, ["Unknown name", "Small"]),
        ({"space": f"{PLUGINS}/spaces.py"}, [":Name"]),
        ({"space": f"{PLUGINS}/broken.py:Space"}, ["does not import", "in two lines"]),
        ({"space": space("Raises")}, ["'Raises' failed on 20 proposals", "ZeroDivisionError: no network today"]),
        ({"space": space("Invalid")}, ["must offer networks", "No way"]),
        ({"space": space("Refuses")}, ["Only sounds are served"]),
        ({"space": space("Nonsense")}, ["must return an Architecture. Got dict"]),
        ({"space": space("ChangesOptions")}, ["same options every time", "width"]),
        ({"space": space("WrongPoints")}, ["must have 4 operating points. Got 3"]),
        ({"space": space("WrongTask")}, ["for the requested task"]),
        ({"space": space("NoOptions")}, ["must not be empty"]),
        ({"space": space("Unmakeable")}, ["made without arguments", "width"]),
        ({"space": space("NoMethod")}, ["method architecture"]),
        ({"space": space("UnknownRule")}, ["hypnosis", "sandwich"]),
        ({"evaluator": toy("not_an_evaluator")}, ["subclass of nas.evaluation.evaluator.Evaluator"]),
        ({"evaluator": toy("NoInfo")}, ["must describe its data", "RuntimeError: no idea"]),
        ({"evaluator": f"{PLUGINS}/broken.py:Evaluator"}, ["does not import"]),
        ({"strategy": f"{PARTS}:not_a_strategy"}, ["subclass of nas.strategies.contract.Strategy"]),
        ({"strategy": f"{PLUGINS}/broken.py:Strategy"}, ["does not import"]),
        ({"proxy": f"{PARTS}:raises"}, ["'", "failed on 20 proposals", "no score"]),
        ({"proxy": f"{PARTS}:nan"}, ["finite number. Got nan"]),
        ({"proxy": f"{PARTS}:undeclared"}, ["declare needs"]),
        ({"evaluator": "training", "data": f"{PARTS}:data_raises"}, ["no data"]),
        ({"evaluator": "training", "data": f"{PARTS}:data_nonsense"}, ["Got str"]),
        ({"evaluator": "training", "data": f"{PARTS}:missing"}, ["Unknown name"]),
    ],
)
def test_plugins_that_break_their_contract(mistake, settings, words):
    line = mistake(*of(**settings))
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("AskRaises", ["AskRaises must propose something", "nothing to propose"]),
        ("MakeRaises", ["MakeRaises must propose something", "never made"]),
        ("DecideRaises", ["DecideRaises must propose something", "undecided"]),
        ("OutOfRange", ["index of an option"]),
    ],
)
def test_strategies_that_break_their_contract_leave_a_study_with_the_reason(mistake, in_process, strategy, words):
    line = mistake(*of(strategy=f"{PARTS}:{strategy}"), writes=True)
    state, reason = state_of("nas.db")
    assert state == "failed"
    for word in words:
        assert word in line
        assert word in reason


def test_a_strategy_without_ideas_is_helped_by_mutation(cli, in_process):
    status, _, err = cli(*of(strategy=f"{PARTS}:Constant"))
    assert (status, err) == (0, "")
    assert results.open("nas.db").candidates("toy").position.notna().sum() == 8


def test_options_that_change_later_lose_nothing(mistake, cli, in_process, tmp_path, monkeypatch):
    file = tmp_path / "plugin" / "changing.py"
    file.parent.mkdir()
    source = (PLUGINS / "spaces.py").read_text()
    file.write_text(source)
    settings = of(space=f"{file}:Small")
    assert cli(*settings)[0] == 0
    before = content("nas.db")
    file.write_text(source.replace("(16, 24, 32, 48)", "(16, 24, 32, 64)"))
    assert "The plug-ins of a study stay the same" in mistake("resume", "toy", "--train", "16", writes=True)
    line = mistake("resume", "toy", "--train", "16", "--accept-plugin-change", writes=True)
    assert "same options every time" in line
    after = content("nas.db")
    for name in ("points", "evaluations"):
        assert_same({name: before[name]}, {name: after[name]})
    file.write_text(source)
    assert cli("resume", "toy", "--train", "16", "--accept-plugin-change")[0] == 0


# Data ----------------------------------------------------------------------------------------------------------------


def digits(count=60):
    """Arrays that can be learned from."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 255, (count, 8, 8)).astype(np.uint8),
        "y_train": np.arange(count) % 3,
        "x_test": rng.integers(0, 255, (12, 8, 8)).astype(np.uint8),
        "y_test": np.arange(12) % 3,
    }


@pytest.fixture
def good_npz(tmp_path):
    np.savez(tmp_path / "good.npz", **digits())


def without(*names):
    return {name: array for name, array in digits().items() if name not in names}


def nan():
    x = digits()["x_train"].astype(np.float32)
    x[3, 2, 1] = np.nan
    return x


BAD_DATA = {
    "without labels": (without("y_train"), ["y_train"]),
    "without test labels": (without("y_test"), ["y_test"]),
    "without anything": ({"images": np.zeros(3)}, ["x_train", "images"]),
    "of other length": (digits() | {"y_train": np.arange(7)}, ["one label for every image", "60"]),
    "of a wrong shape": (digits() | {"x_train": np.zeros((60, 8), np.uint8)}, ["x_train", "(60, 8)"]),
    "of an ambiguous shape": (
        digits() | {"x_train": np.zeros((60, 3, 9, 3), np.uint8), "x_test": np.zeros((12, 3, 9, 3), np.uint8)},
        ["--layout"],
    ),
    "with other test images": (
        digits() | {"x_test": np.zeros((12, 9, 9), np.uint8)},
        ["All images must have the shape"],
    ),
    "of objects": (digits() | {"x_train": np.array([{"a": 1}] * 60, dtype=object)}, ["never unpickled"]),
    "with object labels": (digits() | {"y_train": np.array(["a", None] * 30, dtype=object)}, ["never unpickled"]),
    "of text": (digits() | {"y_train": np.array(["cat", "dog", "cow"] * 20)}, ["y_train", "numbers"]),
    "with NaN": (digits() | {"x_train": nan(), "x_test": nan()[:12]}, ["finite"]),
    "with large integers": (digits() | {"x_train": np.full((60, 8, 8), 70_000)}, ["0..255", "70000"]),
    "with negative labels": (digits() | {"y_train": np.arange(60) % 3 - 1}, ["negative"]),
    "with gaps in the labels": (digits() | {"y_train": np.arange(60) % 3 * 2}, ["without gaps"]),
    "with unseen test labels": (
        digits() | {"y_test": np.arange(12) % 4},
        ["All labels must be classes of the training set"],
    ),
    "with fractional labels": (digits() | {"y_train": np.arange(60) / 7}, ["whole numbers"]),
    "with one-hot labels": (digits() | {"y_train": np.eye(3)[np.arange(60) % 3]}, ["argmax"]),
    "of one class": (digits() | {"y_train": np.zeros(60, int), "y_test": np.zeros(12, int)}, ["two classes"]),
    "with a class of one image": (digits() | {"y_train": np.array([2] + [0, 1] * 29 + [0])}, ["class 2"]),
    "empty": (digits() | {"x_train": np.zeros((0, 8, 8), np.uint8), "y_train": np.zeros(0, int)}, ["x_train"]),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_data_that_cannot_be_learned_from(mistake, tmp_path, name):
    arrays, words = BAD_DATA[name]
    np.savez(tmp_path / "bad.npz", **arrays)
    line = mistake(*of(evaluator="training", data="npz:bad.npz"))
    for word in words:
        assert word in line


@pytest.mark.parametrize("what", ["truncated", "empty", "text", "folder", "npy"])
def test_files_that_are_no_npz(mistake, tmp_path, good_npz, what):
    bad = tmp_path / "bad.npz"
    if what == "truncated":
        whole = (tmp_path / "good.npz").read_bytes()
        bad.write_bytes(whole[: len(whole) // 2])
    elif what == "folder":
        bad.mkdir()
    elif what == "npy":
        with bad.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        bad.write_text("hello" if what == "text" else "")
    assert "bad.npz" in mistake(*of(evaluator="training", data="npz:bad.npz"))


@pytest.mark.usefixtures("good_npz")
def test_data_that_changed_are_another_study(mistake, tmp_path):
    settings = {"evaluator": "training", "data": f"npz:{tmp_path}/good.npz", "validation": 0.3, "images": 20}
    parts, _ = prepared(config(**settings), {})
    with results.open("nas.db").writer("toy", stored_settings(parts.config, parts.info)):
        pass
    np.savez(tmp_path / "good.npz", **digits() | {"y_test": np.zeros(12, int)})
    assert "other test labels of --data. Restore the data" in mistake(*of(**settings), writes=True)


# Constraints ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("constraint", ["max_macs", "max_params", "low"])
def test_constraints_that_nothing_satisfies_name_the_nearest(mistake, monkeypatch, constraint):
    monkeypatch.setattr(budgets, "ATTEMPTS", 1000)
    line = mistake(*of(**{constraint: 5}))
    assert "The space 'Small' must have networks within the constraints" in line
    nearest = [int(word.replace(",", "")) for word in line.split() if word.replace(",", "").isdigit()]
    assert len(nearest) == 3
    assert min(nearest) > 5
    assert f"--{constraint.replace('_', '-')}" in line


def test_a_range_of_budgets_that_is_empty(mistake, in_process):
    assert "--low must be below --max-macs" in mistake(*of(low=5000, max_macs=4000))
    assert "range of budgets must not be empty" in mistake(*of(low=10_000_000_000))


# Numbers -------------------------------------------------------------------------------------------------------------

NUMBERS = [option(each.name) for each in settings_of(Config) if not each.type.startswith(("str", "tuple"))]


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1.5", "x", "", str(10**30)])
def test_whole_numbers(mistake, value):
    assert "--points" in mistake("search", "--data=digits", f"--points={value}")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "-inf", "1e999", "x", ""])
def test_real_numbers(mistake, value):
    assert "--max-macs" in mistake("search", "--data=digits", f"--max-macs={value}")


def test_every_number_is_checked(mistake):
    for name in NUMBERS:
        assert name in mistake("search", "--data=digits", f"{name}=-1")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("seed", value) for value in ("-1", "nan", str(2**63))),
        ("points", "33"),
        ("workers", "100000"),
        ("threads", "100000"),
        ("pool", "1000000000"),
        ("generation", "1000000"),
        ("epochs", "1000000"),
        ("validation", "1"),
        ("validation", "1e300"),
        ("batch-size", "1"),
        ("images", "9"),  # ten classes
        ("final-epochs", "3"),  # less than partial training
    ],
)
def test_absurd_numbers(mistake, option, value):
    line = mistake("search", "--data=digits", f"--{option}={value}")
    assert option.replace("-", "_") in line.replace("-", "_")


# Settings in a file --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs = ", ["readable TOML file"]),
        ("epochz = 3", ["Unknown setting 'epochz'", "Did you mean 'epochs'"]),
        ('epochs = "x"', ["--epochs", "whole number", "'x'"]),
        ("epochs = true", ["--epochs", "True"]),
        ("epochs = 9.0", ["--epochs"]),
        ("spaces = 3", ["Spaces"]),
        ("spaces = [3]", ["Spaces"]),
        ('spaces = ["residual", "residual"]', ["named once"]),
        ("strategy = 3", ["--strategy", "text"]),
        ("data = 3", ["--data", "text"]),
        ("data = [1]", ["--data", "text"]),
        ("device = 0", ["--device", "text"]),
        ("augment = 1", ["--augment", "text"]),
        ("study = 5", ["--study"]),
        ('max-macs = "many"', ["--max-macs", "'many'"]),
        ("max-macs = nan", ["--max-macs", "nan"]),
        ("hours = inf", ["--hours"]),
        ("validation = false", ["--validation"]),
        ("async = true", ["--async needs --ray"]),
        ('async = "yes"', ["--async", "true or false", "'yes'"]),
        ('scheduler = "asha"', ["--scheduler needs --async"]),
        ("[search]\nepochs = 3", ["Unknown setting 'search'"]),
        ("store = 'x.db'", ["Unknown setting 'store'", " space,"]),
    ],
)
def test_settings_in_a_file(mistake, tmp_path, text, words):
    (tmp_path / "search.toml").write_text(text)
    line = mistake("search", "--config", "search.toml")
    for word in words:
        assert word in line


@pytest.mark.parametrize("path", ["missing.toml", "."])
def test_a_file_of_settings_that_cannot_be_read(mistake, path):
    assert "readable TOML file" in mistake("search", "--config", path)


def test_a_file_of_settings_that_is_no_text(mistake, tmp_path):
    (tmp_path / "search.toml").write_bytes(b"\xff\xfe\x00")
    assert "readable TOML file" in mistake("search", "--config", "search.toml")


# The store -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path, in_process):
    """A store with a finished study ``toy``, nas.db in the working directory."""
    return search(tmp_path / "nas.db")


@pytest.mark.parametrize("what", ["text", "picture", "foreign", "newer", "folder"])
def test_stores_that_are_none(mistake, tmp_path, what):
    file = tmp_path / "nas.db"
    if what == "text":
        file.write_text("SQLite is a nice database, but this is a letter about it. " * 20)
    elif what == "picture":
        file.write_bytes(bytes(range(256)) * 40)
    elif what == "folder":
        file.mkdir()
    else:
        connection = sqlite3.connect(file)
        if what == "foreign":
            connection.execute("CREATE TABLE studies (trial INTEGER)")
        else:
            connection.execute("CREATE TABLE meta (key TEXT, value TEXT)")
            connection.execute("INSERT INTO meta VALUES ('schema_version', '99')")
        connection.commit()
        connection.close()
    line = mistake(*of())
    assert str(file) in line
    if what == "newer":
        assert "newer version" in line
        assert "schema 99" in line
    for words in (("status",), ("front", "toy"), ("resume", "toy"), ("show", "abcd"), ("delete", "toy", "--yes")):
        mistake(*words)


def test_a_folder_that_does_not_exist(mistake):
    assert "existing folder" in mistake(*arguments("missing/nas.db"))
    assert "no results store" in mistake("status", "--store", "missing/nas.db")


def test_a_store_that_is_not_there(mistake):
    for words in (("status",), ("front", "toy"), ("resume", "toy"), ("show", "abcd"), ("delete", "toy", "--yes")):
        assert "no results store" in mistake(*words)


def test_an_empty_file_becomes_a_store(cli, in_process, tmp_path):
    (tmp_path / "nas.db").touch()
    assert cli(*of())[0] == 0


def test_a_store_without_tables_becomes_one(cli, in_process, tmp_path):
    """What a kill -9 between making the file and its tables leaves."""
    connection = sqlite3.connect(tmp_path / "nas.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    assert cli(*of())[0] == 0


@pytest.mark.usefixtures("finished")
def test_settings_that_differ(mistake):
    line = mistake(*of(epochs=3, max_macs=2e6, final_epochs=6))
    for word in ("--epochs 9 (now 3)", "--max-macs not set (now 2000000)", "nas resume toy", "another name"):
        assert word in line


@pytest.mark.usefixtures("finished")
def test_studies_and_keys_that_are_not_there(mistake, tmp_path):
    for words in (("front", "fashion"), ("resume", "fashion"), ("status", "fashion"), ("delete", "fashion", "-y")):
        assert "Got 'fashion'. Studies there: toy." in mistake(*words, writes=True)
    assert "none begins so" in mistake("show", "0000000", writes=True)
    assert "at least 4" in mistake("show", "ab", writes=True)
    assert "at least 4" in mistake("show", "hello", writes=True)
    assert "folder" not in mistake("front", "toy", "--cost", "beauty", writes=True)
    assert "latency_ms" in mistake("front", "toy", "--cost", "latency_ms", writes=True)


@pytest.mark.usefixtures("finished")
def test_an_ambiguous_key_lists_what_it_may_be(mistake, tmp_path):
    with sqlite3.connect("nas.db") as connection:
        (key,) = connection.execute("SELECT key FROM candidates WHERE status = 'finished' LIMIT 1").fetchone()
        twin = key[:-1] + ("0" if key[-1] != "0" else "1")
        connection.execute("UPDATE candidates SET key = ? WHERE status = 'outranked' AND generation = 0", (twin,))
    connection.close()
    line = mistake("show", key[:6], writes=True)
    assert key in line
    assert twin in line


def test_a_candidate_that_was_not_trained_has_no_network(mistake, finished):
    key = finished.candidates().query("status == 'outranked'").key.iloc[0]
    assert "chosen for training" in mistake("show", key, writes=True)


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize(
    "words",
    [
        ("--csv", "missing/front.csv"),
        ("--csv", "."),
        ("--parquet", "missing/front.parquet"),
        ("--plot", "front.gif"),
        ("--plot", "missing/front.png"),
    ],
)
def test_output_that_cannot_be_written(mistake, words):
    assert words[1] in mistake("front", "toy", *words, writes=True)


@pytest.mark.parametrize("path", ["network.gif", "missing/network.png"])
def test_drawings_that_cannot_be_written(mistake, finished, path):
    assert path in mistake("show", finished.front().candidate.iloc[0], "--plot", path, writes=True)


def test_only_one_process_writes_a_study(mistake, tmp_path):
    first = start(*arguments(tmp_path / "nas.db", train=4), TOY_SLEEP="0.2")
    try:
        while not (tmp_path / "nas.db.files" / "toy" / "log.txt").exists():
            assert first.poll() is None
        line = mistake(*of(train=4), writes=True)
        assert "one writer at a time" in line
        assert f"process {first.pid}" in line
        mistake("delete", "toy", "--yes", writes=True)
    finally:
        _, err = first.communicate()
    assert first.returncode == 0, err
    assert state_of(tmp_path / "nas.db")[0] == "finished"


@pytest.mark.slow
def test_two_studies_may_be_written_at_once(tmp_path):
    both = [start(*arguments(tmp_path / "nas.db", study=name, train=4)) for name in ("one", "two")]
    for process in both:
        assert process.communicate()[1] == ""
        assert process.returncode == 0
    for name in ("one", "two"):
        search(tmp_path / f"{name}.db", study=name, train=4)
        mixed, alone = content(tmp_path / "nas.db", name), content(tmp_path / f"{name}.db", name)
        for table, rows in (*mixed.items(), *alone.items()):
            for column in ("id", "candidate_id"):
                if column in rows and table != "study":  # numbers are shared between studies, their order is kept
                    rows[column] = rows[column].rank(method="dense")
        assert_same(mixed, alone, settings=False)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a file system can be mounted by root alone")
@pytest.mark.parametrize("what", ["read-only", "full"])
def test_a_store_on_a_bad_disk(tmp_path, what):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.decode()}")
    try:
        if what == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        ended = nas(*arguments(disk / "nas.db", pool=200, train=16))
        _assert_mistake(ended, "must be writable" if what == "read-only" else "disk is full")
        if what == "full":
            subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
            assert nas(*arguments(disk / "nas.db", pool=200, train=16)).returncode == 0
            search(tmp_path / "whole.db", pool=200, train=16)
            assert_same(content(tmp_path / "whole.db"), content(disk / "nas.db"))
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a file system can be mounted by root alone")
@pytest.mark.parametrize("what", ["read-only", "full"])
def test_a_bad_disk_below_the_weights_is_no_failure_of_a_candidate(tmp_path, what):
    """The store is on another disk, as if it were a PostgreSQL database."""
    chosen = TINY | {"evaluator": "training", "data": "digits", "generation": 2, "images": 200}
    settings = arguments(tmp_path / "nas.db", **chosen)
    disk = tmp_path / "nas.db.files"
    disk.mkdir()
    size = "40k" if what == "full" else "20m"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.decode()}")
    try:
        if what == "read-only":
            assert nas(*settings, "--train=2").returncode == 0
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        _assert_mistake(nas(*settings), "Read-only file system" if what == "read-only" else "No space left on device")
        assert not (content(tmp_path / "nas.db")["candidates"].status == "failed").any()
        subprocess.run(["mount", "-o", "remount,rw,size=20m", disk], check=True)
        assert nas(*settings).returncode == 0
        assert state_of(tmp_path / "nas.db")[0] == "finished"
    finally:
        subprocess.run(["umount", disk], check=True)


def _assert_mistake(ended, words):
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    assert ended.stderr.startswith("nas: ")
    assert ended.stderr.count("\n") == 1
    assert words in ended.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.usefixtures("finished")
def test_a_store_that_may_not_be_written(mistake, cli, tmp_path):
    tmp_path.chmod(0o500)
    (tmp_path / "nas.db").chmod(0o400)
    try:
        assert "must be writable" in mistake(*of(train=12), writes=True)
        assert cli("front", "toy")[0] == 0
    finally:
        tmp_path.chmod(0o700)


def test_a_limit_on_the_size_of_files(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    settings = arguments(tmp_path / "nas.db", pool=200, train=16)
    ended = subprocess.run(
        command(*settings), capture_output=True, text=True, env=environment(), preexec_fn=limit, check=False
    )
    _assert_mistake(ended, "free space")
    search(tmp_path / "nas.db", pool=200, train=16)
    search(tmp_path / "whole.db", pool=200, train=16)
    assert_same(content(tmp_path / "whole.db"), content(tmp_path / "nas.db"))


# Optuna --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["nonsense", "sqlite:///missing/folder/optuna.db", "sqlite:///nas.db", "flux://x"])
def test_an_optuna_storage_that_is_none(mistake, url):
    assert "--optuna" in mistake(*of(optuna=url))


def test_an_optuna_storage_that_breaks_ends_no_study(cli, in_process, tmp_path, monkeypatch):
    update = OptunaCopy.update

    def breaks(copy, **settings):
        if settings:
            raise OSError("no more\nspace")
        return update(copy)

    monkeypatch.setattr(OptunaCopy, "update", breaks)
    status, _, err = cli(*of(optuna=f"sqlite:///{tmp_path}/optuna.db"))
    assert status == 0
    assert "Optuna's copy failed: OSError: no more space" in err
    assert state_of("nas.db")[0] == "finished"


# All candidates fail -------------------------------------------------------------------------------------------------


def test_a_search_whose_candidates_all_fail_ends_and_is_mended(cli, in_process, tmp_path):
    settings = {"evaluator": toy("RaisesUntilMended"), "data": str(tmp_path / "mended")}
    status, out, err = cli(*of(**settings))
    assert (status, out) == (2, "")
    assert err.count("failed: RuntimeError: out of order") == 4
    assert "nas: Training must succeed for some candidate. The last 4 failed, the last with RuntimeError: out of" in err
    assert "out of order" in (tmp_path / "nas.db.files" / "toy" / "log.txt").read_text()
    assert state_of("nas.db")[0] == "failed"
    (tmp_path / "mended").touch()
    status, _, err = cli("resume", "toy", "--retry-failed")
    assert (status, err) == (0, "4 failed candidates are tried again.\n")
    search(tmp_path / "whole.db", **settings)
    assert_same(content("whole.db"), content("nas.db"))


def test_a_fault_of_the_environment_is_one_line(mistake, cli, in_process, tmp_path):
    (tmp_path / "fault").write_text("disk")
    settings = {"evaluator": toy("Faulty"), "data": str(tmp_path / "fault"), "train": 12}
    line = mistake(*of(**settings), writes=True)
    assert "No space left on device. No candidate is to blame: mend the cause and resume." in line
    (tmp_path / "fault").unlink()
    assert cli("resume", "toy")[0] == 0
