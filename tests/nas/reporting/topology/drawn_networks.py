"""Networks whose drawings the tests check: deep, wide, with exits, and sampled from the spaces."""

from __future__ import annotations

import numpy as np

from nas.representation.builder import Builder
from nas.representation.elements import Task
from search_spaces.mobile import Mobile
from search_spaces.residual import Residual

from ... import hand_built

TASK = Task(input_shape=(3, 32, 32), num_classes=10)


def sampled(space, seed, points=4):
    rng = np.random.default_rng(seed)
    return space.architecture(lambda name, options: options[int(rng.integers(len(options)))], TASK, points=points)


def large():
    """A residual supernet with at least 40 operations."""
    architecture = max((sampled(Residual(), seed) for seed in range(150)), key=lambda a: len(a.topology.operations))
    assert len(architecture.topology.operations) >= 40
    return architecture


def sixty():
    """61 operations: eleven blocks with shortcuts, poolings beside them and skips over two blocks, in three sizes."""
    builder, widths = Builder(TASK), (8, 16, 24, 32)
    nodes, stages = [builder.conv(0, widths)], [0]
    for block in range(11):
        stride = 2 if block in (4, 8) else 1
        hidden = builder.depthwise(builder.conv(nodes[-1], widths, kernel=1), kernel=5, stride=stride)
        end = builder.conv(hidden, widths, kernel=1, activation="relu")
        stages.append(stages[-1] + stride // 2)
        if stride == 1:
            builder.identity(nodes[-1], end)
        else:
            builder.add("conv", nodes[-1], end, kernel=1, stride=2)
        builder.add("avg_pool", nodes[-1], end, kernel=3, stride=stride, optional=True)
        if block % 4 == 2:
            builder.add("conv", nodes[-2], end, kernel=1, stride=2 ** (stages[-1] - stages[-3]), optional=True)
        nodes.append(end)
    builder.add("conv", nodes[0], nodes[-1], kernel=1, stride=4, optional=True)
    builder.head(nodes[-1])
    return builder.architecture(4)


def multi_scale():
    """Three sizes side by side, an exit after each step: several columns, and operations that pass one."""
    builder = Builder(TASK)
    fine = builder.conv(0, 8)
    middle = builder.conv(fine, 8, stride=2)
    coarse = builder.conv(middle, 8, stride=2)
    exits = []
    for step in range(3):
        lower, lowest = builder.map(8), builder.map(8)
        builder.add("conv", middle, lower, kernel=3)
        builder.add("conv", fine, lower, kernel=3, stride=2)
        builder.add("conv", coarse, lowest, kernel=3)
        builder.add("conv", middle, lowest, kernel=3, stride=2)
        if step == 2:
            builder.add("conv", fine, lowest, kernel=1, stride=4)
        # maps are in topological order, so the finest one of this step is a new map read in the next
        fine, middle, coarse = builder.conv(fine, 8), lower, lowest
        exits.append(builder.head(coarse))
    return builder.architecture([builder.point(0, output=out) for out in exits], norm="per_point")


MORE = {"large": large, "sixty": sixty, "multi_scale": multi_scale}
MORE |= {f"residual {seed}": lambda seed=seed: sampled(Residual(), seed) for seed in range(6)}
MORE |= {f"mobile {seed}": lambda seed=seed: sampled(Mobile(), seed, points=8) for seed in range(3)}
EVERY = hand_built.ALL | MORE
