"""A search on your own data as a benchmark: runs (or continues) a study, checks targets, stores front and points.

Prints the front and whether the test images meet each target, an accuracy within a budget of MACs; writes the front,
all points and a plot to rows/. A finished study is not trained again.

    python benchmarks/search.py --data npz:fashion_mnist.npz --study fashion --store runs/fashion.db \\
        --space residual --space mobile --max-macs 10e6 --hours 1 --target 0.90@8e6 --target 0.84@1e6
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nas
from nas.progress import Live
from nas.reporting.console import summary
from results.plots import plot_front


def main() -> None:
    """Search, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--study", required=True)
    parser.add_argument("--store", default="sqlite:///nas.db")
    parser.add_argument("--space", action="append", default=[])
    parser.add_argument("--max-macs", type=float)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument(
        "--target", action="append", default=[], help="least accuracy within a budget, as accuracy@macs"
    )
    options = parser.parse_args()
    with Live() as progress:
        study = nas.search(
            options.data,
            space=options.space or "residual",
            study=options.study,
            store=options.store,
            max_macs=options.max_macs,
            hours=options.hours,
            progress=progress,
        )
    print(summary(study))
    front, points = study.front(), study.points()
    for target in options.target:
        accuracy, macs = map(float, target.split("@"))
        best = front[front.macs <= macs].test_accuracy.max()
        print(
            f"Target {accuracy:.0%} at {macs:,.0f} MACs: {'met' if best >= accuracy else 'missed'}, {best:.4f} on test."
        )
    folder = Path(__file__).parent / "rows"
    folder.mkdir(exist_ok=True)
    front.to_csv(folder / f"{options.study}_front.csv", index=False)
    points.drop(columns=["realised_key"]).to_csv(folder / f"{options.study}_points.csv", index=False)
    plot_front(study.store.curves(options.study), front, folder / f"{options.study}_front.png", score=study.score())


if __name__ == "__main__":
    main()
