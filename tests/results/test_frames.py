"""Frames that other libraries accept: JSON text, one type per column, missing numbers; and reading parts of a frame."""

import io
import json
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import results
from results.columns import FRAMES, dtypes
from results.reading.candidates import _ABSENT, _options

MIXED = (None, "16", 1)


@pytest.fixture
def mixed(store, rows, points):
    """Candidates with one option of MIXED each, a numeric choice with None, and one without choices."""
    with store.writer("s", {}) as writer:
        ids = writer.add_candidates(
            [
                *(
                    rows(f"aaaa000{n}", choices={"a/mixed": option, "a/depth": depth, "a/flag": True})
                    for n, (option, depth) in enumerate(zip(MIXED, (2, None, 3)))
                ),
                rows("bbbb0000", choices={"a/text": "pool", "a/size": 2**70, "a/rate": 1}),
                rows("bbbb0001", choices={"a/text": None, "a/size": 1, "a/rate": 0.5}),
                rows(None, status="infeasible", proxies={"dtmc": None}),
            ]
        )
        writer.record(ids[0], fidelity=1, repeat=0, realised_key="aaaa0000", points=[points(0, 10, 0.5)])
        writer.finish()
    return store


def frames_of(store):
    listed = {name: getattr(store, name)("s") for name in FRAMES if name != "studies"}
    return listed | {"studies": store.studies(), "columns": store.candidates("s", choices=True)}


def test_frames_are_written_to_sql_and_parquet_and_compared(mixed):
    for name, frame in frames_of(mixed).items():
        assert len(frame.drop_duplicates()) == len(frame), name
        with closing(sqlite3.connect(":memory:")) as connection:
            assert frame.to_sql("t", connection) == len(frame) or frame.empty, name
        parquet = io.BytesIO()
        frame.to_parquet(parquet)
        pd.testing.assert_frame_equal(pd.read_parquet(parquet), frame, obj=name)


def test_choices_are_json_text_or_columns(mixed):
    text = mixed.candidates("s")["choices"]
    assert [json.loads(choices).get("a/mixed", "absent") for choices in text.dropna()] == [*MIXED, "absent", "absent"]
    columns = mixed.candidates("s", choices=True)
    assert "choices" not in columns
    assert columns["choice_a/mixed"].tolist()[:3] == ["null", '"16"', "1"]
    assert columns["choice_a/mixed"].isna().tolist() == [False] * 3 + [True] * 3
    assert columns["choice_a/depth"].dtype == "Int64"
    assert columns["choice_a/depth"].dropna().tolist() == [2, 3]
    assert columns["choice_a/flag"].dtype == "boolean"
    assert columns["choice_a/text"].dropna().tolist() == ["pool"]
    assert columns["choice_a/size"].dropna().tolist() == [str(2**70), "1"]
    assert columns["choice_a/rate"].tolist()[3:5] == [1.0, 0.5]


def test_numbers_are_numbers_if_all_are_missing(mixed):
    for name, frame in frames_of(mixed).items():
        for column, kind in dtypes(name if name != "columns" else "candidates").items():
            if column in frame:
                assert frame[column].dtype == kind, (name, column)
    assert mixed.candidates("s")["proxy_dtmc"].dtype == "float64"
    assert mixed.points("s")["nonzero_macs"].dtype == "Int64"


def test_requested_columns_only(mixed):
    frame = mixed.candidates("s", columns=["status", "key", "choice_a/depth", "fidelity"])
    assert list(frame) == ["status", "key", "choice_a/depth", "fidelity"]
    assert frame["fidelity"].tolist()[0] == 1
    assert list(mixed.candidates("s", columns=["key"], choices=True))[:2] == ["key", "choice_a/mixed"]
    for wrong, message in (
        ("keys", r"must be one of key, anytime_accuracy.*choice_NAME. Got 'keys'"),
        ("choice_x", "Got 'x'"),
    ):
        with pytest.raises(results.StoreError, match=message):
            mixed.candidates("s", columns=["key", wrong])


def test_json_is_parsed_for_requested_columns_only(mixed, monkeypatch):
    parsed = []
    reading = SimpleNamespace(loads=lambda text: parsed.append(text) or json.loads(text))
    monkeypatch.setattr("results.reading.candidates.json", reading)
    mixed.candidates("s", columns=["key", "status", "choices", "anytime_accuracy"])
    assert not parsed
    mixed.candidates("s", columns=["proxy_dtmc"])
    assert len(parsed) == 1  # one candidate has proxies


def test_rows_of_one_key(filled):
    assert filled.candidates("fashion", key="bbbb9999")["key"].tolist() == ["bbbb0002"]
    assert set(filled.points("fashion", key="aaaa")["candidate"]) == {"aaaa0001"}
    pd.testing.assert_frame_equal(
        filled.points("fashion", key="bbbb0002"),
        filled.points("fashion").query("candidate == 'bbbb0002'").reset_index(drop=True),
        check_dtype=False,
    )


OPTIONS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.just(_ABSENT))


@given(st.lists(OPTIONS))
def test_any_options_form_a_column_of_parquet(options):
    column = pd.DataFrame({"choice": pd.Series(_options(options))})
    parquet = io.BytesIO()
    column.to_parquet(parquet)
    assert len(pd.read_parquet(parquet)) == len(options)
    if len({type(option) for option in options if option is not None and option is not _ABSENT}) == 1:
        missing = [option is None or option is _ABSENT for option in options]
        assert column["choice"].isna().tolist() == missing
