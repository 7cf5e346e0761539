"""What the benchmarks that train share: rows that are appended as they come, and paired differences over seeds."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student


class Rows:
    """A CSV file that grows as trainings end: what is there is not trained again after a crash.

    columns: of the file; what a row leaves out stays empty.
    """

    def __init__(self, path: str | Path, columns: Sequence[str]):
        self.path, self.columns = Path(path), tuple(columns)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self.path.write_text(",".join(self.columns) + "\n")

    def of(self, about: Mapping[str, Any]) -> pd.DataFrame:
        """The rows with these values."""
        text = {name: str for name, value in about.items() if isinstance(value, str)}
        frame = pd.read_csv(self.path, dtype=text)
        return frame[np.logical_and.reduce([frame[name] == value for name, value in about.items()])]

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the rows of a training, in one piece; what the file has no column for is left out."""
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self.columns, restval="", extrasaction="ignore").writerows(rows)


def parser_of(doc: str, name: str, *, epochs: int, width: int, width_of: str) -> argparse.ArgumentParser:
    """The options that trainings share, with defaults. doc: of the script, its first line tells. name: of its rows."""
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


def paired_difference(rows: pd.DataFrame, by: str, ours: str, control: str) -> str:
    """Mean test accuracy of one less that of another, over the seeds of both, in points with a 95 % t-interval.

    rows: with ``seed`` and ``test_accuracy``; several of a seed are averaged. by: the column that tells who is who.
    """
    mean = rows.groupby(["seed", by]).test_accuracy.mean().unstack() * 100
    if not {ours, control} <= set(mean.columns):
        return "no rows"
    paired = (mean[ours] - mean[control]).dropna()
    if len(paired) < 2:
        return f"{paired.mean():+.2f} (one seed)" if len(paired) else "no pairs"
    half = student.ppf(0.975, len(paired) - 1) * paired.std(ddof=1) / np.sqrt(len(paired))
    return f"{paired.mean():+.2f} [{paired.mean() - half:+.2f}, {paired.mean() + half:+.2f}], {len(paired)} seeds"
