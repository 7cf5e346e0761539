"""Continuing from one operating point to the next against starting again, on block-triangular ResNeXts.

For several sizes, batches of 1 and 64, the CPU time of one thread (machines are shared): for all refine steps together;
for one full pass, as the anytime network runs it and as the extracted static module does; and for a fresh pass at every
level, which is what a network without reuse needs when its deadline is unknown. Ways take turns, each time is the least
of several. Prints a table and writes rows/refine.csv.

    python benchmarks/refine.py
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from nas.network import AnytimeNetwork
from search_spaces.slicing import sparse_resnext

SIZES: dict[str, dict[str, Any]] = {
    "small": {"num_blocks": 1, "width": 32, "levels": 4},
    "medium": {"num_blocks": 2, "width": 64, "levels": 4},
    "large": {"num_blocks": 2, "width": 128, "bottleneck": 8, "levels": 4},
    "deep": {"num_blocks": 7, "width": 64, "levels": 4},
    "eight slices": {"num_blocks": 7, "width": 64, "levels": 8},
}
BATCHES = (1, 64)


def best_times(ways: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """The least CPU time of each way, in ms: they take turns for so many seconds, three times at least."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for run in ways.values():
        run()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times[next(iter(ways))]) < 3:
        for name, run in ways.items():
            start = time.process_time()
            run()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: min(found) for name, found in times.items()}


def ways(network: AnytimeNetwork, x: Tensor) -> dict[str, Callable[[], object]]:
    """What is compared, by the name of its column."""
    alone = [network.extract(level).to(memory_format=torch.channels_last) for level in range(network.levels)]
    return {
        "refine_ms": lambda: list(network.refine(x)),
        "forward_ms": lambda: network(x),
        "static_ms": lambda: alone[-1](x),
        "forward_each_ms": lambda: [network(x, level) for level in range(network.levels)],
        "static_each_ms": lambda: [one(x) for one in alone],
    }


@torch.no_grad()
def rows(name: str, seconds: float) -> list[dict[str, Any]]:
    """One row for each batch size. Ratios: of the times to those of the full pass, or of starting again."""
    network = AnytimeNetwork(sparse_resnext(**SIZES[name])).eval().to(memory_format=torch.channels_last)
    found = []
    for batch in BATCHES:
        x = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
        times = best_times(ways(network, x), seconds)
        full, again = (min(times[f"{way}{of}_ms"] for way in ("forward", "static")) for of in ("", "_each"))
        ratios = {
            "refine/forward": times["refine_ms"] / times["forward_ms"],
            "refine/static": times["refine_ms"] / times["static_ms"],
            "refine/full": times["refine_ms"] / full,
            "again/refine": again / times["refine_ms"],
            "again/refine_macs": sum(network.macs) / network.macs[-1],
        }
        about = {"network": name, "levels": network.levels, "macs": network.macs[-1], "batch": batch}
        found.append(about | {k: round(v, 3) for k, v in (times | ratios).items()})
    return found


def main() -> None:
    """Measure all sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each size and batch")
    parser.add_argument("--size", action="append", choices=SIZES, help="these alone, without writing rows")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = [row for name in given.size or SIZES for row in rows(name, given.seconds)]
    print(pd.DataFrame(found).to_string(index=False))
    if not given.size:
        path = Path(__file__).parent / "rows" / "refine.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(found[0]))
            writer.writeheader()
            writer.writerows(found)


if __name__ == "__main__":
    main()
