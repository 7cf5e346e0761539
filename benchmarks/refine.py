"""Continuing from one operating point to the next against starting again, on causal networks.

For several networks, batches of 1 and 64, the CPU time of one thread (machines are shared): for all refine steps
together; for one full pass, as the anytime network runs it and as the extracted static module does; and for a fresh
pass at every level, which is what a network without reuse needs when its deadline is unknown. And step by step: going
on from a level to the next against a fresh pass at that one, beside the ratio of their MACs. Ways take turns, each time
is the least of several. Prints tables and writes rows/refine.csv and rows/refine_steps.csv.

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
    """What is compared, by the name of its column."""
    alone = [network.extract(level).to(memory_format=torch.channels_last) for level in range(network.levels)]
    return {
        "refine_ms": lambda: list(network.refine(x)),
        "forward_ms": lambda: network(x),
        "static_ms": lambda: alone[-1](x),
        **{f"forward {level}": partial(network, x, level) for level in range(network.levels)},
        **{f"static {level}": partial(one, x) for level, one in enumerate(alone)},
    }


def step_times(network: AnytimeNetwork, x: Tensor, seconds: float) -> list[float]:
    """The least CPU time of every refine step, in ms."""
    times: list[list[float]] = [[] for _ in range(network.levels)]
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times[0]) < 3:
        steps = network.refine(x)
        for level in range(network.levels):
            start = time.process_time()
            next(steps)
            times[level].append(1e3 * (time.process_time() - start))
    return [min(found) for found in times]


@torch.no_grad()
def rows(name: str, seconds: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One row for each batch size, and one for each batch size and step. Ratios are to the times of a full pass, or of
    starting again.
    """
    network = AnytimeNetwork(NETWORKS[name]()).eval().to(memory_format=torch.channels_last)
    found, steps = [], []
    for batch in BATCHES:
        x = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
        times = best_times(ways(network, x), seconds)
        fresh = [min(times[f"{way} {level}"] for way in ("forward", "static")) for level in range(network.levels)]
        times = {key: value for key, value in times.items() if key.endswith("_ms")} | {"fresh_each_ms": sum(fresh)}
        ratios = {
            "refine/forward": times["refine_ms"] / times["forward_ms"],
            "refine/static": times["refine_ms"] / times["static_ms"],
            "again/refine": times["fresh_each_ms"] / times["refine_ms"],
            "again/refine_macs": sum(network.macs) / sum(network.refine_macs),
        }
        about = {"network": name, "levels": network.levels, "macs": network.macs[-1], "batch": batch}
        found.append(about | {k: round(v, 3) for k, v in (times | ratios).items()})
        for level, taken in enumerate(step_times(network, x, seconds)):
            step = {"level": level, "step_ms": taken, "fresh_ms": fresh[level], "step/fresh": taken / fresh[level]}
            step["step/fresh_macs"] = network.refine_macs[level] / network.macs[level]
            steps.append(about | {k: round(v, 3) for k, v in step.items()})
    return found, steps


def main() -> None:
    """Measure all sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each size and batch")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="these alone, without writing rows")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    for name in given.network or NETWORKS:
        for table, more in zip((found, steps), rows(name, given.seconds)):
            table += more
    for table, file in ((found, "refine.csv"), (steps, "refine_steps.csv")):
        frame = pd.DataFrame(table)
        print(frame.to_string(index=False), end="\n\n")
        if not given.network:
            frame.to_csv(Path(__file__).parent / "rows" / file, index=False)


if __name__ == "__main__":
    main()
