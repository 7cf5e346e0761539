"""Refinement from one operating point to the next against recomputation, on causal networks.

CPU time of one thread (machines are shared) for several networks and batches of 1 and 64: of all refine steps; of one
full pass of the anytime network, and of the extracted static module; and of a new pass at every level, the cost of a
network without reuse at an unknown deadline. For each step: refinement to the next level against a new pass at that
level, with the ratio of their MACs. Methods take turns; each time is the minimum of several runs. Prints tables and
writes rows/refine.csv and rows/refine_steps.csv.

    python benchmarks/refine.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from timing import best_times
from torch import Tensor

from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.heads import own_heads
from search_spaces.slicing import sparse_resnext
from search_spaces.stepping import vgg16

NETWORKS: dict[str, Callable[[], Architecture]] = {
    "small": lambda: sparse_resnext(1, 32, levels=4),
    "medium": lambda: sparse_resnext(2, 64, levels=4),
    "large": lambda: sparse_resnext(2, 128, 8, levels=4),
    "deep": lambda: sparse_resnext(7, 64, levels=4),
    "deep, own heads": lambda: own_heads(sparse_resnext(7, 64, levels=4)),
    "eight slices": lambda: sparse_resnext(7, 64, levels=8),
    "stepping VGG-16": lambda: vgg16(32),
}
BATCHES = (1, 64)


def ways(network: AnytimeNetwork, x: Tensor) -> dict[str, Callable[[], object]]:
    """The timed functions, by the names of their columns."""
    modules = [network.extract(level).to(memory_format=torch.channels_last) for level in range(network.levels)]
    return {
        "refine_ms": lambda: list(network.refine(x)),
        "forward_ms": lambda: network(x),
        "static_ms": lambda: modules[-1](x),
        **{f"forward {level}": partial(network, x, level) for level in range(network.levels)},
        **{f"static {level}": partial(one, x) for level, one in enumerate(modules)},
    }


def step_times(network: AnytimeNetwork, x: Tensor, seconds: float) -> list[float]:
    """The minimum CPU time of every refine step, in ms."""
    times: list[list[float]] = [[] for _ in range(network.levels)]
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times[0]) < 3:
        steps = network.refine(x)
        for level in range(network.levels):
            start = time.process_time()
            next(steps)
            times[level].append(1e3 * (time.process_time() - start))
    return [min(times_of_level) for times_of_level in times]


@torch.no_grad()
def rows(name: str, seconds: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One row per batch size, and one per batch size and step; ratios to the times of a full pass or a new pass."""
    network = AnytimeNetwork(NETWORKS[name]()).eval().to(memory_format=torch.channels_last)
    totals, steps = [], []
    for batch in BATCHES:
        x = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
        times = best_times(ways(network, x), seconds)
        fresh = [min(times[f"{way} {level}"] for way in ("forward", "static")) for level in range(network.levels)]
        times = {key: value for key, value in times.items() if key.endswith("_ms")} | {"fresh_each_ms": sum(fresh)}
        ratios = {
            "refine/forward": times["refine_ms"] / times["forward_ms"],
            "refine/static": times["refine_ms"] / times["static_ms"],
            "again/refine": times["fresh_each_ms"] / times["refine_ms"],
            "again/refine_macs": sum(network.macs) / sum(network.refine_macs()),
        }
        network_columns = {"network": name, "levels": network.levels, "macs": network.macs[-1], "batch": batch}
        totals.append(network_columns | {k: round(v, 3) for k, v in (times | ratios).items()})
        for level, taken in enumerate(step_times(network, x, seconds)):
            step = {"level": level, "step_ms": taken, "fresh_ms": fresh[level], "step/fresh": taken / fresh[level]}
            step["step/fresh_macs"] = network.refine_macs()[level] / network.macs[level]
            steps.append(network_columns | {k: round(v, 3) for k, v in step.items()})
    return totals, steps


def main() -> None:
    """Measure all sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds per network and batch")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="only these, without writing rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    totals: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    for name in options.network or NETWORKS:
        for table, more in zip((totals, steps), rows(name, options.seconds)):
            table += more
    for table, file in ((totals, "refine.csv"), (steps, "refine_steps.csv")):
        frame = pd.DataFrame(table)
        print(frame.to_string(index=False), end="\n\n")
        if not options.network:
            frame.to_csv(Path(__file__).parent / "rows" / file, index=False)


if __name__ == "__main__":
    main()
