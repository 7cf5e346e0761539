"""Common code of the benchmarks that train: rows that are appended after each training, their scores, differences."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from results.front import anytime_accuracy

DECADE = 10.0
"""Range of anytime accuracy: the largest MACs over the smallest."""


class Rows:
    """A CSV file that grows with each training, so that an interrupted benchmark resumes.

    columns: columns of the file; missing values of a row stay empty.
    """

    def __init__(self, path: str | Path, columns: Sequence[str]):
        self.path, self.columns = Path(path), tuple(columns)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self.path.write_text(",".join(self.columns) + "\n")

    def of(self, values: Mapping[str, Any]) -> pd.DataFrame:
        """The rows with these values of columns."""
        text = {name: str for name, value in values.items() if isinstance(value, str)}
        frame = pd.read_csv(self.path, dtype=text)
        return frame[np.logical_and.reduce([frame[name] == value for name, value in values.items()])]

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write all rows of a training at once; values without a column are left out."""
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="", extrasaction="ignore").writerows(rows)


def parser_of(doc: str, name: str, *, epochs: int, width: int, width_of: str) -> argparse.ArgumentParser:
    """Common options of the trainings. doc: of the script, its first line is shown. name: file of its rows."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="training images used at most")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=int, default=width, help=width_of)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", default=f"runs/{name}", help="checkpoints and trained networks")
    parser.add_argument("--csv", default=str(Path(__file__).parent / "rows" / f"{name}.csv"))
    return parser


def name_of(data: str) -> str:
    """The name of the data in the rows: of a file, its name without folder and ending."""
    kind, _, path = data.partition(":")
    return Path(path).stem if kind == "npz" else data


def scored(rows: pd.DataFrame, by: Sequence[str], max_macs: float | None = None) -> pd.DataFrame:
    """One row for each training: that of its first operating point, whose accuracy is the anytime accuracy, in [0, 1].

    rows: with macs and accuracy, on validation images. by: columns that identify a training. max_macs: upper end of the
    range of budgets, a decade; None: the column of this name.
    """
    lines = []
    for _, points in rows.groupby(list(by), sort=False):
        high = float(points.max_macs.iloc[0]) if max_macs is None else max_macs
        accuracy = anytime_accuracy(
            points.macs.to_numpy(), points.accuracy.to_numpy(), low=high / DECADE, high=high, floor=0.0
        )
        lines.append(points.iloc[0].to_dict() | {"accuracy": accuracy})
    return pd.DataFrame(lines)


def in_points(differences: pd.Series) -> str:
    """Mean of differences of accuracies, in points, with the half width of its 95 % t-interval; NaN is left out."""
    found = 100 * differences.dropna()
    count = len(found)
    half = student.ppf(0.975, count - 1) * found.std() / np.sqrt(count) if count > 1 else float("nan")
    return f"{found.mean():+.2f} ± {half:.2f}" if count else ""


def paired_difference(rows: pd.DataFrame, by: str, ours: str, control: str, *, value: str = "test_accuracy") -> str:
    """Difference of mean accuracies over the common seeds, in points, with a 95 % t-interval.

    rows: with ``seed`` and the column ``value``; rows of equal seed are averaged. by: column with the values ``ours``
    and ``control``.
    """
    mean = rows.groupby(["seed", by])[value].mean().unstack() * 100
    if not {ours, control} <= set(mean.columns):
        return "no rows"
    paired = (mean[ours] - mean[control]).dropna()
    if len(paired) < 2:
        return f"{paired.mean():+.2f} (one seed)" if len(paired) else "no pairs"
    half = student.ppf(0.975, len(paired) - 1) * paired.std(ddof=1) / np.sqrt(len(paired))
    return f"{paired.mean():+.2f} [{paired.mean() - half:+.2f}, {paired.mean() + half:+.2f}], {len(paired)} seeds"
