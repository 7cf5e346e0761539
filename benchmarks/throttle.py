"""Time against utilization, beside multiply-accumulates against utilization, of throttleable networks.

VGG at full and half width, ResNet, ResNeXt and DenseNet, at every distinct utilization of eight, batches of 1 and 64:
the CPU time of one thread (machines are shared) for `network(x)` as throttled, and for the extracted static module.
Utilizations and ways take turns, each time is the least of several. Prints a table and writes rows/throttle.csv.

    python benchmarks/throttle.py
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from nas.network import AnytimeNetwork
from nas.topology import Architecture
from search_spaces.throttleable import densenet, resnet, resnext, vgg

UTILIZATIONS = tuple(level / 7 for level in range(8))
NETWORKS: dict[str, Callable[..., Architecture]] = {
    "vgg, width 64": partial(vgg, 64),
    "vgg, width 32": partial(vgg, 32),
    "resnet, 9 blocks": resnet,
    "resnext, 8 paths": resnext,
    "densenet, growth 12": partial(densenet, 12, (8, 8, 8)),
}
BATCHES = (1, 64)


def least_times(ways: dict[Any, Callable[[], object]], seconds: float) -> dict[Any, float]:
    """The least CPU time of each way, in ms: they take turns for so many seconds, three times at least."""
    times: dict[Any, list[float]] = {name: [] for name in ways}
    for run in ways.values():
        run()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times[next(iter(ways))]) < 3:
        for name, run in ways.items():
            start = time.process_time()
            run()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: min(found) for name, found in times.items()}


@torch.no_grad()
def rows(name: str, seconds: float) -> list[dict[str, Any]]:
    """One row for each batch size and utilization. Shares: of what utilization 1 takes."""
    network = AnytimeNetwork(NETWORKS[name](utilizations=UTILIZATIONS)).eval().to(memory_format=torch.channels_last)
    alone = [network.extract(level).to(memory_format=torch.channels_last) for level in range(network.levels)]
    found = []
    for batch in BATCHES:
        x = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)

        def throttled(utilization: float, x: torch.Tensor = x) -> torch.Tensor:
            network.throttle(utilization)
            return network(x)

        ways = {("throttled", level): partial(throttled, u) for level, u in enumerate(UTILIZATIONS)}
        ways |= {("static", level): partial(one, x) for level, one in enumerate(alone)}
        times = least_times(ways, seconds)
        for level, utilization in enumerate(UTILIZATIONS):
            row = {"network": name, "batch": batch, "utilization": round(utilization, 4), "macs": network.macs[level]}
            row["macs_share"] = round(network.macs[level] / network.macs[-1], 4)
            for way in ("throttled", "static"):
                row[f"{way}_ms"] = round(times[way, level], 3)
                row[f"{way}_share"] = round(times[way, level] / times[way, network.levels - 1], 4)
            found.append(row)
    return found


def main() -> None:
    """Measure all networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each network and batch")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="these alone, without writing rows")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = [row for name in given.network or NETWORKS for row in rows(name, given.seconds)]
    print(pd.DataFrame(found).to_string(index=False))
    if not given.network:
        path = Path(__file__).parent / "rows" / "throttle.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(found[0]))
            writer.writeheader()
            writer.writerows(found)


if __name__ == "__main__":
    main()
