"""Texts of the command line from plain frames."""

from __future__ import annotations

import math
import shlex
from types import SimpleNamespace

import pandas as pd
import pytest

import results
from nas.config import store_option
from nas.errors import UserError
from nas.reporting.console import MEAN_OF_LABELS, front_table, load_code, write_frame

POINT = {
    "study": "toy",
    "candidate": "14a18eb561a3a544",
    "realised_key": "14a18eb561a3a544",
    "macs": 12345,
    "params": 678,
    "latency_ms": math.nan,
    "accuracy": 0.5,
    "accuracy_sd": math.nan,
    "test_accuracy": 0.25,
    "level": 0,
    "repeats": 1,
}
HIERARCHY = {
    "fine_accuracy": 0.4,
    "coarse_accuracy": 0.6,
    "test_fine_accuracy": math.nan,
    "test_coarse_accuracy": math.nan,
}


def front(*rows):
    return pd.DataFrame([POINT | row for row in rows])


def header(text):
    return text.splitlines()[0].split()


def test_a_front_has_the_columns_that_hold_values():
    assert header(front_table(front({}))) == ["macs", "params", "accuracy", "test_accuracy", "candidate", "level"]
    assert front_table(front({})).splitlines()[1].split()[:4] == ["12,345", "678", "0.5000", "0.2500"]
    measured = front({"latency_ms": 1.5, "repeats": 2, "accuracy_sd": 0.01}, {"study": "other", "realised_key": "b"})
    assert header(front_table(measured)) == [
        "macs", "params", "latency_ms", "accuracy", "test_accuracy", "candidate", "level",
        "accuracy_sd", "repeats", "realised_key", "study",
    ]  # fmt: skip
    assert "1.500" in front_table(measured)
    assert "–" in front_table(measured)


def test_accuracies_of_a_hierarchy_are_on_test_images_if_all_points_have_them():
    text = front_table(front(HIERARCHY))
    assert header(text)[4:6] == ["fine_accuracy", "coarse_accuracy"]
    assert text.endswith(MEAN_OF_LABELS)
    tested = front(HIERARCHY | {"test_fine_accuracy": 0.3, "test_coarse_accuracy": 0.5})
    assert header(front_table(tested))[4:6] == ["test_fine_accuracy", "test_coarse_accuracy"]


def test_an_empty_front():
    assert "no operating point" in front_table(front({}).iloc[:0])


def test_commands_name_the_store_as_it_is_found_from_where_they_are_read(tmp_path, monkeypatch):
    store = str(tmp_path / "it's.db")
    assert store_option("postgresql://me:***@host/nas") == " --store 'postgresql://me:***@host/nas'"
    assert store_option(store, absolute=True) == f" --store {shlex.quote(store)}"
    monkeypatch.chdir(tmp_path)
    assert store_option(store) == """ --store 'it'"'"'s.db'"""
    monkeypatch.chdir("/")
    assert store_option(store) == f" --store {shlex.quote(store[1:])}"


def test_code_that_loads_a_network_names_study_and_store(tmp_path, monkeypatch):
    study = SimpleNamespace(name="digits", store=results.open(tmp_path / "nas.db"))
    monkeypatch.chdir(tmp_path)
    assert load_code(study, "2f9c", 0) == 'nas.load("2f9c", study="digits", store="nas.db")'
    assert load_code(study, "2f9c", 1) == 'nas.load("2f9c", study="digits", store="nas.db", repeat=1)'
    assert str(tmp_path) in load_code(study, "2f9c", 0, absolute=True)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_frame_is_written_or_refused(kind, tmp_path):
    write_frame(front({}), tmp_path / "front", kind)
    read = pd.read_csv if kind == "csv" else pd.read_parquet
    assert read(tmp_path / "front").macs.tolist() == [12345]
    with pytest.raises(UserError, match=r"existing folder\. Got .*: make .*missing first"):
        write_frame(front({}), tmp_path / "missing" / "front", kind)
