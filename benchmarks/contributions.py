"""What does each part of a search contribute? Searches without one of them, in equal CPU time.

- `new weights`: finalists do not continue their partial training, they are trained anew;
- `no references`: the first generation consists of proposals;
- `no forecasts`: candidates are compared by their last accuracies instead of forecasts for an equal time;
- `one space`: proposals and references of `residual` only, the only space of a search before;
- `shifted images`: all images are shifted, whatever the length of the training.

Data, range of budgets, scores and the time are those of pays.py, whose rows of the complete search the table compares
with. Appends a row per operating point to rows/contributions.csv and skips the runs in that file.

    python benchmarks/contributions.py --data npz:fashion_mnist.npz --minutes 5
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
from pays import COLUMNS, MAX_MACS, Run, execute, search
from pays_report import scores
from resumable import Rows, name_of, paired_difference

from evaluators.training.evaluator import Training

ROWS = Path(__file__).parent / "rows"


def new_weights(run: Run) -> list[dict[str, Any]]:
    """A search without this part, as the following ones."""
    return search(run, evaluator="TrainingAnew")


def no_references(run: Run) -> list[dict[str, Any]]:
    return search(run, references=False)


def no_forecasts(run: Run) -> list[dict[str, Any]]:
    with mock.patch("nas.funnel.limits.Limits.seconds_of_winner", return_value=None):
        return search(run)


def one_space(run: Run) -> list[dict[str, Any]]:
    return search(run, space=("residual",))


def shifted_images(run: Run) -> list[dict[str, Any]]:
    return search(run, augment="crop")


WITHOUT: dict[str, Callable[[Run], list[dict[str, Any]]]] = {
    "new weights": new_weights,
    "no references": no_references,
    "no forecasts": no_forecasts,
    "one space": one_space,
    "shifted images": shifted_images,
}


def main() -> None:
    """Make the missing runs, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="data as for nas search")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", nargs="+", default=list(WITHOUT), choices=WITHOUT)
    parser.add_argument("--max-macs", type=float, help="default: 3e6, for coloured images 4.5e6")
    parser.add_argument("--folder", default="runs/contributions", help="stores, checkpoints and trained networks")
    parser.add_argument("--csv", default=str(ROWS / "contributions.csv"))
    parser.add_argument("--complete", default=str(ROWS / "pays.csv"), help="rows of pays.py")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows, task = Rows(options.csv, COLUMNS), Training(options.data).dataset.task
    settings = {
        "data": name_of(options.data),
        "minutes": options.minutes,
        "threads": 1,
        "max_macs": options.max_macs or MAX_MACS[task.input_shape[0]],
    }
    for number in range(options.seeds):
        for part in options.part:
            key = settings | {"method": part, "seed": number}
            if not rows.of(key).empty:
                continue
            run = Run(
                data=options.data,
                method=part,
                seed=number,
                seconds=60 * options.minutes,
                threads=1,
                max_macs=settings["max_macs"],
                folder=str(Path(options.folder, f"{part} {number}").resolve()),
            )
            got = execute(run, WITHOUT[part])
            rows.append(row | key for row in got)
            print(f"{part}, seed {number}: {got[0]['cpu_seconds']} s", flush=True)
    complete = Rows(options.complete, COLUMNS).of(settings | {"method": "search"})
    show(pd.concat([complete, rows.of(settings)]), settings["max_macs"], 1 / task.num_classes)


def show(frame: pd.DataFrame, max_macs: float, floor: float) -> None:
    """Print the scores of the searches, and their differences to the complete one, in points."""
    by_run = scores(frame, max_macs, floor)
    table = by_run.groupby("method", sort=False)[["best", "front", "hypervolume", "seconds"]].mean()
    print(table.round(2).to_string())
    as_share = by_run.assign(best=by_run.best / 100)
    for method in table.index.drop("search", errors="ignore"):
        print(f"{method} − search: {paired_difference(as_share, 'method', method, 'search', value='best')}")


if __name__ == "__main__":
    main()
