"""Tables of trained networks: from the choices of a proposal to the measures of its operating points.

A row holds the measures of one operating point after one number of epochs of one training. Columns with a meaning:

- ``accuracy`` and ``test_accuracy``, and the other built-in measures except MACs and parameters,
- ``level``: number of the operating point, from 0, the smallest; without the column, networks have one point,
- ``epochs``: epochs after which the row was measured; without the column, 1,
- ``seed``: number of the training of these choices; without the column, there is one,
- ``macs``, ``params``: must be those of the architecture,
- ``seconds``: duration of the training so far,
- ``failed``: why there is no result; then all other columns but the choices and the seed are empty,
- ``space``: name of the search space, if the table has several.

All other columns are choices, under the names that the space gives them. A cell is empty for a choice that is not made,
and for None. Values are compared as text, numbers as numbers: ``8``, ``8.0`` and the text "8" are equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from nas.errors import DataError
from results.measures import built_in

MEASURES = built_in(
    *("accuracy", "loss", "test_accuracy", "test_loss", "fine_accuracy", "coarse_accuracy"),
    *("test_fine_accuracy", "test_coarse_accuracy", "nonzero_macs", "latency_ms"),
)
SIZES = ("macs", "params")
REQUIRED = ("accuracy", "test_accuracy")
WHOLE = ("seed", "epochs", "level")
UNITS = {measure.name: measure.unit for measure in MEASURES}
MEANING = ("space", *WHOLE, *SIZES, *UNITS, "seconds", "failed")
"""Columns that are no choices."""
Key = tuple[str, ...]
"""The space, and the value of every choice column, as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTraining:
    """A training in a table.

    points: by epochs, the measures of every level. seconds: by epochs. failed: why there is no result; empty if there
    is one.
    """

    points: Mapping[int, Sequence[Mapping[str, Any]]]
    seconds: Mapping[int, float]
    failed: str = ""


class ResultsTable:
    """A table of trained networks in memory.

    Parameters
    ----------
    path
        File in CSV (``.csv``) or Parquet (``.parquet``), see :mod:`evaluators.tabular.table`.

    Attributes
    ----------
    choices : tuple of str
        Names of the choices.
    epochs : tuple of int
        Numbers of epochs after which every training was measured, ascending.
    fingerprint : str
        Hash of the file's content.

    Raises
    ------
    DataError
        The file cannot be read, or a column, a row or a value is missing, repeated or invalid.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        frame = _read(self.path)
        self.fingerprint = sha256(self.path.read_bytes()).hexdigest()
        if missing := [name for name in REQUIRED if name not in frame]:
            raise self._error(f"must have the columns {' and '.join(REQUIRED)}", f"no {', '.join(missing)}")
        self.choices = tuple(name for name in frame if name not in MEANING)
        if not self.choices:
            raise self._error("must have a column for each choice", f"the columns {', '.join(frame)}")
        if frame.empty:
            raise self._error("must have rows", "none")
        self._has_space = "space" in frame
        self._trainings = self._grouped(frame)
        measured = {tuple(sorted(t.points)) for seeds in self._trainings.values() for t in seeds.values() if t.points}
        if len(measured) != 1:
            got = " and ".join(str(list(epochs)) for epochs in sorted(measured)[:2]) or "no training with a result"
            raise self._error("must have equal epochs for all trainings", got)
        (self.epochs,) = measured

    def __len__(self) -> int:
        """Number of different choices."""
        return len(self._trainings)

    def trainings(self, space: str, choices: Mapping[str, Any]) -> list[KnownTraining]:
        """The trainings of some choices, ordered by seed.

        Parameters
        ----------
        space
            Name of the search space.
        choices
            By the names that the space gave them.

        Returns
        -------
        list of KnownTraining
            Empty if the table does not have these choices.

        Raises
        ------
        DataError
            If the table has no column for a choice.
        """
        if unknown := [name for name in choices if name not in self.choices]:
            raise self._error(
                f"must have a column for each choice of the space {space!r}",
                f"none for {', '.join(map(repr, unknown))}; choices of the table: {', '.join(self.choices)}",
            )
        key = (space if self._has_space else "", *(as_text(choices.get(name)) for name in self.choices))
        seeds = self._trainings.get(key, {})
        return [seeds[seed] for seed in sorted(seeds)]

    def _grouped(self, frame: pd.DataFrame) -> dict[Key, dict[int, KnownTraining]]:
        """The trainings by choices and seed."""
        points: dict[tuple[Key, int], dict[int, dict[int, dict[str, Any]]]] = {}
        seconds: dict[tuple[Key, int], dict[int, float]] = {}
        failures: dict[tuple[Key, int], str] = {}
        for number, key, row in self._rows(frame):
            training = key, 0 if row["seed"] is None else int(row["seed"])
            if row["failed"]:
                if training in failures or training in points:
                    raise self._error("must have one row for a training that failed", f"several; one is row {number}")
                failures[training] = row["failed"]
                continue
            epochs, level = (default if row[n] is None else int(row[n]) for n, default in (("epochs", 1), ("level", 0)))
            levels = points.setdefault(training, {}).setdefault(epochs, {})
            if level in levels or training in failures:
                raise self._error(
                    "must have one row for each level, number of epochs and seed of the same choices",
                    f"a second one in row {number}: {self._shown(key)}",
                )
            levels[level] = {name: row[name] for name in row if name not in (*WHOLE, "failed", "seconds")}
            seconds.setdefault(training, {})[epochs] = row["seconds"] or 0.0
        trainings: dict[Key, dict[int, KnownTraining]] = {}
        for (key, seed), of_epochs in points.items():
            trainings.setdefault(key, {})[seed] = KnownTraining(
                points={epochs: self._in_order(key, epochs, levels) for epochs, levels in of_epochs.items()},
                seconds=seconds[key, seed],
            )
        for (key, seed), reason in failures.items():
            trainings.setdefault(key, {})[seed] = KnownTraining(points={}, seconds={}, failed=reason)
        return trainings

    def _in_order(self, key: Key, epochs: int, levels: Mapping[int, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        if sorted(levels) != list(range(len(levels))):
            got = f"{sorted(levels)} after {epochs} epochs: {self._shown(key)}"
            raise self._error("must have the levels of a network from 0 on", got)
        return [levels[level] for level in range(len(levels))]

    def _rows(self, frame: pd.DataFrame) -> Iterator[tuple[int, Key, dict[str, Any]]]:
        """The rows with their number in the file and key, after a check of every value."""
        chosen = [frame[name].tolist() for name in self.choices]
        spaces = frame["space"].tolist() if self._has_space else [""] * len(frame)
        valued = [name for name in MEANING if name in frame and name not in ("space", "failed")]
        columns = {name: frame[name].tolist() for name in valued}
        failed = [as_text(value) for value in frame["failed"]] if "failed" in frame else [""] * len(frame)
        for index, answers in enumerate(zip(spaces, *chosen)):
            number = index + 2  # the first line of a CSV file has the names
            row: dict[str, Any] = dict.fromkeys((*WHOLE, "seconds"))
            for name, values in columns.items():
                value = self._number(name, values[index], number)
                if value is not None or name in WHOLE:
                    row[name] = value
            row["failed"] = failed[index]
            if not failed[index]:
                required = (*REQUIRED, *(name for name in WHOLE if name in columns))
                if absent := [name for name in required if row.get(name) is None]:
                    needed = f"must have {' and '.join(required)} in every row"
                    raise self._error(needed, f"no {absent[0]} in row {number}")
            yield number, (as_text(answers[0]) if self._has_space else "", *map(as_text, answers[1:])), row

    def _number(self, name: str, value: Any, row: int) -> float | int | None:
        """A value of a column with numbers; None if the cell is empty."""
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            return None
        whole = name in (*WHOLE, *SIZES, "nonzero_macs")
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            raise self._error(f"must have finite numbers as {name}", f"{value!r} in row {row}")
        if whole and not (number.is_integer() and number >= 0):
            raise self._error(f"must have whole numbers of at least 0 as {name}", f"{value} in row {row}")
        if UNITS.get(name) == "fraction" and not 0 <= number <= 1:
            raise self._error(f"must have fractions between 0 and 1 as {name}", f"{value} in row {row}")
        if name in ("epochs", "seconds") and number < (name == "epochs"):
            raise self._error(f"must have positive {name}", f"{value} in row {row}")
        return int(number) if whole else number

    def _shown(self, key: Key) -> str:
        """The choices of a key for a message."""
        return ", ".join(f"{name}={value or 'none'}" for name, value in zip(self.choices, key[1:]))

    def _error(self, requirement: str, got: str) -> DataError:
        return DataError(f"The table {self.path} {requirement}. Got {got}.")


def as_text(value: Any) -> str:
    """A choice as text, so that a table in CSV and the options of a space can be compared.

    Examples
    --------
    >>> as_text(8), as_text("8"), as_text(0.5), as_text(True), as_text("3x3"), as_text(None)
    ('8', '8', '0.5', 'true', '3x3', '')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(value)
    if text.lower() in ("true", "false"):
        return text.lower()
    try:
        number = float(text)
    except ValueError:
        return text
    return f"{number:.17g}" if math.isfinite(number) else text


def _read(path: Path) -> pd.DataFrame:
    """The cells of a file: text in CSV, values in Parquet."""
    if path.suffix not in (".csv", ".parquet"):
        raise DataError(f"A table must be a file in CSV (.csv) or Parquet (.parquet). Got {path}.")
    if not path.is_file():
        raise DataError(f"A table must exist. Got {path}: nothing there.")
    is_csv = path.suffix == ".csv"
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False) if is_csv else pd.read_parquet(path)
    except ImportError as error:
        raise DataError(
            f"Parquet needs pyarrow: pip install 'anytime-nas[parquet]', or use CSV. Got {path}."
        ) from error
    except (OSError, ValueError) as error:  # of pandas and pyarrow
        reason = " ".join(str(error).split())
        raise DataError(f"A table must be valid {path.suffix[1:]}. Got {path}: {reason}") from error
