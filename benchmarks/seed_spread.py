"""How much do results of short trainings differ between seeds? From the stores of searches by pays.py.

Searches of several seeds train equal references on equal numbers of images, about. The table gives the standard
deviation between seeds of the logarithm of the error (1 − anytime accuracy on validation images), pooled over
references. Forecasts use it: TRAINING_SD in nas/funnel/forecast.py.

Adds the partial trainings of references in the stores of --folder to rows/seed_spread.csv, without those that it has,
and prints the table of all rows.

    python benchmarks/seed_spread.py [--folder runs/pays]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from resumable import Rows

import results

RUN = ("data", "minutes", "seed", "images")
COLUMNS = (*RUN, "reference", "accuracy")
PARTIAL = "search-"
"""Folder of a partial training in the store."""


def partial_trainings(path: Path) -> pd.DataFrame:
    """Results of references in a store of pays.py, whose folder names data, minutes and seed. images: seen in all."""
    data, minutes, *_, seed = path.parent.name.split("-")
    store = results.open(str(path))
    (study,) = store.studies().study
    references = store.candidates(study).set_index("key").reference.dropna()
    found = store.evaluations(study)
    found = found[found.candidate.isin(references.index) & found.weights.str.contains(PARTIAL)]
    of_study = {"data": data, "minutes": float(minutes), "seed": int(seed)}
    images = (found.epochs * found.images).round(-2)  # searches of equal length differ by single images
    return pd.DataFrame(
        {**of_study, "images": images, "reference": found.candidate.map(references), "accuracy": found.score}
    )


def main() -> None:
    """Add the rows that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="runs/pays", help="of pays.py")
    parser.add_argument("--csv", default=str(Path(__file__).parent / "rows" / "seed_spread.csv"))
    options = parser.parse_args()
    rows = Rows(options.csv, COLUMNS)
    for path in sorted(Path(options.folder).glob("*-search-*/store.db")):
        for row in partial_trainings(path).to_dict("records"):
            if rows.of({name: row[name] for name in (*RUN, "reference")}).empty:
                rows.append([row])
    show(pd.read_csv(options.csv))


def show(rows: pd.DataFrame) -> None:
    """Print the spread for each data set and number of images."""
    error = rows.assign(error=np.log(1 - rows.accuracy))
    by = error.groupby(["data", "images", "reference"]).error.agg(["var", "count"]).dropna().reset_index()
    by["squares"] = by["var"] * (by["count"] - 1)
    table = by.groupby(["data", "images"]).agg(
        references=("reference", "size"), squares=("squares", "sum"), free=("count", lambda n: (n - 1).sum())
    )
    table["sd of the log error"] = np.sqrt(table.squares / table.free)
    print(table.drop(columns=["squares", "free"]).round(3).to_string())


if __name__ == "__main__":
    main()
