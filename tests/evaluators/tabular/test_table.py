"""Tables of results: both formats, all columns, every mistake in one line."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.tabular.table import ResultsTable, as_text
from nas.errors import DataError

SIX = Path(__file__).parent / "six.csv"
ROW = {"width": 8, "accuracy": 0.5, "test_accuracy": 0.4}


def written(tmp_path: Path, rows: list[dict], name: str = "table.csv") -> Path:
    """A table with these rows."""
    frame = pd.DataFrame(rows)
    if name.endswith(".csv"):
        frame.to_csv(tmp_path / name, index=False)
    else:
        frame.to_parquet(tmp_path / name)
    return tmp_path / name


def test_a_table_has_seeds_epochs_levels_and_failures():
    table = ResultsTable(SIX)
    assert (table.choices, table.epochs, len(table)) == (("width", "kernel"), (1, 3), 5)
    first, second = table.trainings("any", {"width": 32, "kernel": 3})
    assert [point["accuracy"] for point in first.points[3]] == [0.452, 0.552, 0.652, 0.752]
    assert second.points[1][0] == {"accuracy": 0.362, "loss": 0.838, "test_accuracy": 0.342}
    assert first.seconds == {1: 2.5, 3: 6.5}
    (failed,) = table.trainings("any", {"width": 32, "kernel": 1})
    assert (failed.failed, failed.points) == ("The loss became nan in epoch 1.", {})
    assert table.trainings("any", {"width": 24, "kernel": 1}) == []


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_types_of_choices_survive_both_formats(tmp_path, name):
    rows = [
        {"n": 3, "x": 0.1, "b": True, "s": "3x3", "t": "NA", "accuracy": 0.1, "test_accuracy": 0.1},
        {"n": 4, "x": 1e-7, "b": False, "s": None, "t": "none", "accuracy": 0.2, "test_accuracy": 0.1},
    ]
    table = ResultsTable(written(tmp_path, rows, name))
    first = {"n": 3, "x": 0.1, "b": True, "s": "3x3", "t": "NA"}
    second = {"n": 4, "x": 1e-7, "b": False, "s": None, "t": "none"}
    assert [t.points[1][0]["accuracy"] for c in (first, second) for t in table.trainings("", c)] == [0.1, 0.2]
    assert [t.points[1][0]["accuracy"] for t in table.trainings("", {k: second[k] for k in "nxbt"})] == [0.2]
    assert table.trainings("", first | {"b": False}) == []


def test_a_table_of_several_spaces_names_them(tmp_path):
    rows = [ROW | {"space": "a"}, ROW | {"space": "b", "accuracy": 0.6}]
    table = ResultsTable(written(tmp_path, rows))
    found = [table.trainings(space, {"width": 8}) for space in "abc"]
    assert [[t.points[1][0]["accuracy"] for t in each] for each in found] == [[0.5], [0.6], []]


def test_a_choice_without_a_column_is_a_mistake(tmp_path):
    table = ResultsTable(written(tmp_path, [ROW]))
    with pytest.raises(DataError, match=r"a column for each choice of the space 'a'. Got none for 'kernel'; .*: width"):
        table.trainings("a", {"width": 8, "kernel": 3})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"width": 8, "accuracy": 0.5}], "columns accuracy and test_accuracy. Got no test_accuracy"),
        (
            [{"accuracy": 0.5, "test_accuracy": 0.5}],
            "a column for each choice. Got the columns accuracy, test_accuracy",
        ),
        ([ROW, ROW | {"accuracy": 0.6}], "one row for each level.* Got a second one in row 3: width=8"),
        (
            [ROW | {"level": 0}, ROW | {"level": 2}],
            r"levels of a network from 0 on. Got \[0, 2\] after 1 epochs: width=8",
        ),
        ([ROW | {"level": 0}, ROW | {"level": "top"}], "finite numbers as level. Got 'top' in row 3"),
        ([ROW | {"level": 0.5}], "whole numbers of at least 0 as level. Got 0.5 in row 2"),
        ([ROW | {"accuracy": "high"}], "finite numbers as accuracy. Got 'high' in row 2"),
        ([ROW | {"accuracy": float("inf")}], "finite numbers as accuracy. Got 'inf' in row 2"),
        ([ROW | {"accuracy": 93.1}], "fractions between 0 and 1 as accuracy. Got 93.1 in row 2"),
        ([ROW, ROW | {"width": 9, "accuracy": None}], "in every row. Got no accuracy in row 3"),
        ([ROW | {"epochs": 0}], "positive epochs. Got 0 in row 2"),
        ([ROW | {"seconds": -1}], "positive seconds. Got -1 in row 2"),
        ([ROW | {"macs": 10.5}], "whole numbers of at least 0 as macs. Got 10.5 in row 2"),
        (
            [ROW | {"epochs": 1}, ROW | {"epochs": 3, "width": 9}],
            r"equal epochs for all trainings. Got \[1\] and \[3\]",
        ),
        ([ROW | {"failed": "Broken."}], "equal epochs for all trainings. Got no training with a result"),
        (
            [ROW | {"failed": "a"}, ROW | {"failed": "b"}],
            "one row for a training that failed. Got several; one is row 3",
        ),
        ([ROW | {"failed": "a"}, ROW | {"failed": ""}], "Got a second one in row 3"),
        (
            [ROW | {"failed": ""}, ROW | {"failed": "a"}],
            "one row for a training that failed. Got several; one is row 3",
        ),
    ],
)
def test_every_mistake_of_a_table_is_one_line(tmp_path, rows, message):
    with pytest.raises(DataError, match=message) as caught:
        ResultsTable(written(tmp_path, rows))
    assert "\n" not in str(caught.value)
    assert "table.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("table.csv", None, "must exist. Got .*nothing there"),
        ("table.txt", b"a,b\n1,2\n", r"in CSV \(.csv\) or Parquet \(.parquet\)"),
        ("table.csv", b"", "must be valid csv"),
        ("table.csv", b"width,accuracy,test_accuracy\n", "must have rows. Got none"),
        ("table.csv", b'a,b\n"1,2\n3,4', "must be valid csv"),
        ("table.csv", b"a,b\n1,2,3\n4,5,6,7\n", "must be valid csv|must have the columns"),
        ("table.csv", b"\xff\xfe\x00a", "must be valid csv"),
        ("table.parquet", b"PAR1 and no more", "must be valid parquet"),
    ],
)
def test_files_that_are_no_table_are_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        ResultsTable(tmp_path / name)
    assert "\n" not in str(caught.value)


@given(st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_numbers_are_equal_to_their_text(value):
    assert as_text(value) == as_text(str(value)) == as_text(repr(value))


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_different_numbers_stay_different(one, two):
    assert (as_text(one) == as_text(two)) == (one == two or {one, two} == {0.0, -0.0})
