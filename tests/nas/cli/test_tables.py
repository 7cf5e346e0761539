"""Commands that print tables: as text, as JSON and in files; studies side by side."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from ..searching import search

STUDY = "toy"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return search(tmp_path_factory.mktemp("tables") / "nas.db", train=12, generation=6)


@pytest.fixture
def tables(cli, study):
    """Runs the program on the store of the study."""
    return lambda *arguments: cli(*arguments, "--store", study.url)


def test_tables_as_text_and_json_and_in_files(study, tables, tmp_path):
    opened = study.store
    for name in ("candidates", "points", "evaluations", "history", "policies"):
        frame = getattr(opened, name)(STUDY)
        status, out, err = tables("table", name, STUDY, "--csv", "t.csv", "--parquet", "t.parquet", "--json")
        assert (status, err) == (0, ""), name
        rows = json.loads(out)
        assert [list(row) for row in rows] == [list(frame)] * len(frame)
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), frame)
        assert len(frame) == 0 or len(pd.read_csv(tmp_path / "t.csv")) == len(frame)
        status, out, _ = tables("table", name, STUDY)
        assert status == 0
        assert out.splitlines()[0] == "The table is empty." if frame.empty else str(frame.columns[0]) in out
    rows = json.loads(tables("table", "candidates", STUDY, "--json")[1])
    assert all(isinstance(row["choices"], dict | None) for row in rows)
    assert any(row["anytime_accuracy"] is None for row in rows)
    by_choice = json.loads(tables("table", "candidates", STUDY, "--choices", "--json")[1])
    assert any(name.startswith("choice_") for name in by_choice[0])


def test_tables_of_several_stores(study, tables, cli, tmp_path):
    other = search(tmp_path / "other.db", study="other", train=4)
    for command in (("table", "points"), ("table", "history"), ("compare",)):
        frame = json.loads(tables(*command, STUDY, "other", "--store", other.url, "--json")[1])
        assert {row["study"] for row in frame} == {STUDY, "other"}
        assert len({row["store"] for row in frame}) == 2
    status, _, err = tables("table", "candidates", STUDY, "--store", other.url)
    assert status == 2
    assert "one store" in err


def test_the_list_of_studies_is_written_to_files(study, tables, tmp_path):
    tables("status", "--csv", "studies.csv", "--parquet", "studies.parquet")
    assert pd.read_csv(tmp_path / "studies.csv")["study"].tolist() == [STUDY]
    status, _, err = tables("status", STUDY, "--csv", "study.csv")
    assert status == 2
    assert "for the list of studies" in err
    assert not (tmp_path / "study.csv").exists()


def test_studies_are_compared(study, tables, tmp_path):
    status, out, _ = tables("compare", STUDY, "--plot", "progress.png", "--over", "work", "--json")
    assert status == 0
    assert (tmp_path / "progress.png").stat().st_size > 5000
    (row,) = json.loads(out)
    assert row["anytime_accuracy"] == pytest.approx(study.anytime_accuracy())
    assert row["candidate"] == study.best().key
    text = tables("compare", STUDY)[1]
    assert "Anytime accuracy for budgets of " in text


def test_fronts_states_and_references_as_json(study, cli, tables):
    (listed,) = json.loads(tables("status", "--json")[1])
    assert listed["study"] == STUDY
    state = json.loads(tables("status", STUDY, "--json")[1])
    assert (state["study"], state["state"], state["best"]["key"]) == (STUDY, "finished", study.best().key)
    front = json.loads(tables("front", STUDY, "--json")[1])
    assert [row["macs"] for row in front] == study.front().macs.tolist()
    references = json.loads(cli("references", "slimmable", "--json")[1])
    assert {len(row["macs"]) for row in references} == {4}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table", "points", STUDY, "--choices"), "--choices is for the table candidates. Got the table points."),
        (("table", "candidates", STUDY, "other"), "The candidates of one study are printed at a time."),
        (("table", "weights", STUDY), "Invalid value for"),
        (("compare", STUDY, "--over", "hours"), "Invalid value for"),
        (("compare", STUDY, "--low", "1e12"), "give low and high"),
    ],
)
def test_mistakes_in_tables_are_one_clear_line(tables, arguments, message):
    status, out, err = tables(*arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert message in err
