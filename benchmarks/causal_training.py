"""Cost of a training step that trains all operating points of a block-triangular network in one pass.

Compared with a step of only the largest point: of a dense network of the same depth and equal MACs, the alternative for
independent training, and of the same network. Also with the sandwich rule on the same network, which runs one pass per
point. CPU time of one thread (machines are shared), batch 64, 32×32 images; a step is forward, backward and SGD.
Methods take turns; each time is the minimum of several runs. Prints a table and writes rows/causal_training.csv.

    python benchmarks/causal_training.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from timing import best_times

from evaluators.rules.causal import Causal
from evaluators.rules.sandwich import Sandwich
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from search_spaces.slicing import CIFAR, sparse_resnext

BATCH = 64
Make = Callable[[int, int], Architecture]
"""Makes a network from a width and a number of levels."""


def resnext(width: int, levels: int) -> Architecture:
    """One block per stage of the space ``slicing``: triangular 1×1 convolutions, 3×3 convolutions within slices."""
    return sparse_resnext(1, width, 4, 8, levels, task=CIFAR)


def resnet(width: int, levels: int) -> Architecture:
    """ResNet-8 with triangular 3×3 convolutions: the largest kernels, with the most zeros."""
    builder, norm, wired = Builder(CIFAR), ("norm",), {"wiring": "causal"}
    slices = tuple(width * level // levels for level in range(1, levels + 1))
    x = builder.conv(builder.input, slices, after=(*norm, "relu"))
    for stage in range(3):
        wide, stride = tuple(n * 2**stage for n in slices), 2 if stage else 1
        inner = builder.conv(x, wide, stride=stride, after=(*norm, "relu"), **wired)
        out = builder.conv(inner, wide, after=norm, activation="relu", **wired)
        if stage:
            builder.add("conv", x, out, kernel=1, stride=stride, after=norm, **wired)
        else:
            builder.identity(x, out, **wired)
        x = out
    builder.head(x)
    return builder.architecture(levels, norm="shared", rule="causal")


SIZES: dict[str, tuple[Make, int]] = {
    "resnet 32": (resnet, 32),
    "resnet 64": (resnet, 64),
    "resnext 64": (resnext, 64),
    "resnext 128": (resnext, 128),
}


def dense_of(make: Make, width: int, cost: int) -> Architecture:
    """The dense network of the same family with the MACs closest to a cost."""
    architectures = [make(narrower, 1) for narrower in range(width // 2, width + 1)]
    return min(architectures, key=lambda architecture: abs(architecture.costs[-1] - cost))


def step_of(architecture: Architecture, rule: Any) -> Callable[[], None]:
    """A training step on random images."""
    network = AnytimeNetwork(architecture).train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 3, 32, 32, generator=generator).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH,), generator=generator)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        for loss in rule.losses(network, x, labels, generator):
            loss.backward()
        optimiser.step()

    return step


def row(name: str, levels: int, seconds: float) -> dict[str, Any]:
    """Times of a step in ms, and their ratios to the time of the dense network. "alone": only the largest point."""
    make, width = SIZES[name]
    causal = make(width, levels)
    dense = dense_of(make, width, causal.costs[-1])
    steps = {
        "dense_ms": step_of(dense, Causal()),
        "alone_ms": step_of(causal.with_points(causal.points[-1:]), Causal()),
        "causal_ms": step_of(causal, Causal()),
        "sandwich_ms": step_of(causal, Sandwich(sampled=levels)),
    }
    times = best_times(steps, seconds)
    ratios = {f"{way}/dense": times[f"{way}_ms"] / times["dense_ms"] for way in ("alone", "causal", "sandwich")}
    ratios["causal/alone"] = times["causal_ms"] / times["alone_ms"]
    network = {"network": name, "levels": levels, "macs": causal.costs[-1], "dense_macs": dense.costs[-1]}
    return network | {k: round(v, 3) for k, v in (times | ratios).items()}


def main() -> None:
    """Measure all sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds per network")
    parser.add_argument("--size", action="append", choices=SIZES, help="only these, without writing rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row(name, 4, options.seconds) for name in options.size or SIZES]
    frame = pd.DataFrame(rows)
    print(frame.to_string(index=False))
    if not options.size:
        frame.to_csv(Path(__file__).parent / "rows" / "causal_training.csv", index=False)


if __name__ == "__main__":
    main()
