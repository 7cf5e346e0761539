"""Texts of the command line from plain frames."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

import results
from nas.config import store_option
from nas.errors import UserError
from nas.reporting.console import MEAN_OF_LABELS, front_table, load_code, write_frame
from nas.reporting.formats import reference_text
from results.reading.best import AgainstReference, BestCandidate

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
    "reference": None,
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
    marked = front({"reference": "ResNet-8, width 16"}, {})
    assert header(front_table(marked))[-1] == "reference"
    assert front_table(marked).splitlines()[1].endswith("ResNet-8, width 16")
    assert "–" in front_table(measured)


REFERENCE = BestCandidate(
    key="aaaa0001",
    space="mobile",
    reference="MobileNetV2, width 24",
    fidelity=9.0,
    anytime_accuracy=0.8,
    saved=True,
)
BEST = replace(REFERENCE, key="bbbb0002", reference=None)
COMPARISON = AgainstReference(
    best=BEST,
    reference=REFERENCE,
    fidelity=9.0,
    repeats=1,
    difference=0.0181,
    low=math.nan,
    high=math.nan,
    test_difference=math.nan,
    macs_ratio=2.1,
)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {},
            "This search against its reference MobileNetV2, width 24: +1.8 points of anytime accuracy, 2.1 × fewer "
            "MACs at equal accuracy. Both were trained for 9 passes over the training images.",
        ),
        (
            {"repeats": 3, "low": 0.009, "high": 0.027, "test_difference": 0.012, "macs_ratio": math.nan},
            "This search against its reference MobileNetV2, width 24: +1.8 [0.9, 2.7] points of anytime accuracy (mean "
            "of 3 repeats), +1.2 on test images. Both were trained for 9 passes over the training images.",
        ),
        (
            {"repeats": 2, "difference": -0.02, "low": -0.05, "high": 0.01, "macs_ratio": 0.5, "fidelity": 1.0},
            "This search is behind its reference MobileNetV2, width 24: -2.0 [-5.0, 1.0] points of anytime accuracy "
            "(mean of 2 repeats, no clear difference), 2.0 × more MACs at equal accuracy. Both were trained for 1 pass "
            "over the training images.",
        ),
        ({"macs_ratio": 0.97}, "equal MACs at equal accuracy"),
        ({"best": REFERENCE}, "The best network is the reference MobileNetV2, width 24."),
    ],
)
def test_the_comparison_with_a_reference_is_a_sentence(changes, sentence):
    assert sentence in reference_text(replace(COMPARISON, **changes))


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
