"""CPU time and multiply-accumulates of throttleable networks by utilization.

VGG of full and half width (also with the settings of throttle_accuracy.py), ResNet, ResNeXt, DenseNet and C3D, at seven
utilizations and batches of 1 and 64: CPU time of one thread (machines are shared) for `network.set_utilization(u)` and
`network(x)`. Utilizations take turns; each time is the minimum of several runs. Prints a table and writes
rows/throttle.csv.

    python benchmarks/throttle.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from timing import best_times

from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.elements import Task
from search_spaces.throttleable import c3d, densenet, resnet, resnext, vgg

UTILIZATIONS = tuple(level / 6 for level in range(7))
NETWORKS: dict[str, Callable[..., Architecture]] = {
    "vgg, width 64": partial(vgg, 64),
    "vgg, width 32": partial(vgg, 32),
    "vgg, width 32, 2 of 8 always on": partial(vgg, 32, always=2),
    "resnet, 9 blocks": resnet,
    "resnext, 8 paths": resnext,
    "densenet, growth 12": partial(densenet, 12, (8, 8, 8)),
    "c3d, width 16, 8 frames": partial(c3d, 16, task=Task(input_shape=(3, 8, 32, 32), num_classes=10)),
}
BATCHES = (1, 64)


@torch.no_grad()
def rows(name: str, seconds: float) -> list[dict[str, Any]]:
    """One row per batch size and utilization. Shares are relative to utilization 1."""
    network = AnytimeNetwork(NETWORKS[name](utilizations=UTILIZATIONS)).eval()
    measured = []
    for batch in BATCHES:
        x = torch.randn(batch, *network.architecture.task.input_shape)
        if x.dim() == 4:
            x = x.to(memory_format=torch.channels_last)

        def throttled(utilization: float, x: torch.Tensor = x) -> torch.Tensor:
            network.set_utilization(utilization)
            return network(x)

        times = best_times({str(u): partial(throttled, u) for u in UTILIZATIONS}, seconds)
        for utilization, macs in zip(UTILIZATIONS, network.macs):
            latency = times[str(utilization)]
            row = {"network": name, "batch": batch, "utilization": round(utilization, 4), "macs": macs}
            row |= {"latency_ms": round(latency, 3), "macs_share": round(macs / network.macs[-1], 4)}
            measured.append(row | {"latency_share": round(latency / times["1.0"], 4)})
    return measured


def main() -> None:
    """Measure all networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds per network and batch")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="only these, without writing rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured = [row for name in options.network or NETWORKS for row in rows(name, options.seconds)]
    frame = pd.DataFrame(measured)
    print(frame.to_string(index=False))
    if not options.network:
        frame.to_csv(Path(__file__).parent / "rows" / "throttle.csv", index=False)


if __name__ == "__main__":
    main()
