"""Anytime networks of all styles with operating points of equal MACs, which anytime_accuracy.py compares.

The reference is a small ResNet with points at 25, 50, 75 and 100 % of its width: a stem, of stride 2 unless images are
tiny, and three stages of one basic block, each with half the image size and twice the width of the stage before. The
sizes of the other networks are chosen so that each point has the MACs of the reference's point, as closely as whole
channels allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import SettingValue, Subnetwork, Task, TrainingSpec
from nas.representation.heads import own_heads
from nas.representation.ownership import OwnershipMacs, owned_groups, with_slices
from search_spaces.images import prefixes, stem_strides
from search_spaces.slicing import i_resnext, sparse_resnext

FRACTIONS = (0.25, 0.5, 0.75, 1.0)
STAGES = 3
STREAM = (0.75, 1.25, 1.75, 2.25)
"""Width of the residual stream at each point, as a share of the reference's width.

Chosen on CIFAR-10's validation images with one seed, by mean accuracy over the points: 58.3 %. A first share of 0.5
gives 57.6 % (the first slice of the stream, which all points read, is narrow), 1.0 gives 56.4 % (few branches).
"""
NR = ("norm", "relu")


def trained_by(architecture: Architecture, rule: str, **settings: SettingValue) -> Architecture:
    """The network with a different training rule."""
    return replace(architecture, training=TrainingSpec(rule=rule, settings=tuple(sorted(settings.items()))))


# Dense networks --------------------------------------------------------------------------------------------------


def dense(task: Task, width: int) -> Architecture:
    """The reference: the operating points are widths of one network; every step trains all of them on the labels."""
    slices = prefixes(width, FRACTIONS)
    return trained_by(_resnet(task, slices, "dense"), "sandwich", sampled=len(slices) - 2)


def norm_per_width(task: Task, width: int) -> Architecture:
    """A slimmable network: the reference with trained norms of its own for every point."""
    return trained_by(replace(dense(task, width), norm="per_point"), "joint")


def independent(anytime: Architecture) -> list[Architecture]:
    """A separate network for every operating point of a dense network, of the same shape."""
    networks = (anytime.with_points([point]).canonical for point in anytime.points)
    return [trained_by(replace(one, norm="shared"), "joint") for one in networks]


def narrow_i_resnext(task: Task, width: int) -> Architecture:
    """I-ResNeXt with one block per stage: a point is a number of branches, each of two channels in the first stage.

    All points compute the whole residual stream. It is as wide as the MACs of the smallest point, with one branch,
    allow.
    """
    costs, stride = dense(task, width).costs, stem_strides(task)[-1]

    def whole(stream: int, branches: int) -> Architecture:
        return i_resnext(1, stream, 2, branches, branches, stride=stride, task=task)

    stream = min(range(4, 4 * width), key=lambda n: abs(whole(n, 1).costs[0] - costs[0]))
    one, two = whole(stream, 2).costs
    wide = whole(stream, 1 + round((costs[-1] - one) / (two - one)))
    return wide.with_points(_nearest(wide, costs)).canonical


def _resnet(task: Task, slices: Sequence[int], wiring: str) -> Architecture:
    """The reference's layers. slices: prefix lengths in the first stage, one per operating point."""
    b, slices, wired = Builder(task), tuple(slices), {"wiring": wiring}
    x = b.conv(b.input, slices, stride=stem_strides(task)[-1], after=NR)
    for stage in range(STAGES):
        wide, stride = tuple(n * 2**stage for n in slices), 2 if stage else 1
        inner = b.conv(x, wide, stride=stride, after=NR, **wired)
        y = b.conv(inner, wide, after=("norm",), activation="relu", **wired)
        if stage:
            b.add("conv", x, y, kernel=1, stride=stride, after=("norm",), **wired)
        else:
            b.identity(x, y, **wired)
        x = y
    b.head(x)
    return b.architecture(len(slices), norm="shared" if wiring == "causal" else "recalibrated")


# Networks whose points reuse the results of smaller points ---------------------------------------------------------


def sliced(task: Task, width: int) -> Architecture:
    """The reference's layers, block-triangular: slices 1 … k of every map do not depend on later slices."""
    original = _resnet(task, (width,), "causal")
    full, macs = np.array(_widths(original)), OwnershipMacs(original)
    shares = np.linspace(0, 2, 64 * full.max())[:, None]
    columns = np.zeros((len(full), 0), dtype=np.int64)
    for cost in dense(task, width).costs:
        least = columns[:, -1] + 1 if columns.size else np.ones_like(full)
        wider = np.unique(np.maximum(least, np.rint(shares * full).astype(np.int64)), axis=0)
        tried = [np.column_stack([columns, column]) for column in wider]
        columns = min(tried, key=lambda t, c=cost: abs(macs(np.diff(t, axis=1, prepend=0))[-1] - c))
    return trained_by(with_slices(original, [tuple(row) for row in columns.tolist()]), "causal")


def sparse(task: Task, width: int) -> Architecture:
    """The block-triangular counterpart of I-ResNeXt: each slice has the branches that its MACs allow.

    STREAM gives the width of the residual stream at every point, up to one channel that is adjusted to match the MACs.
    """
    stride = stem_strides(task)[-1]

    def whole(slices: Sequence[tuple[int, int]]) -> Architecture:
        streams, branches = zip(*slices)
        return sparse_resnext(1, streams, 2, branches, stride=stride, task=task)

    slices: list[tuple[int, int]] = []
    for cost, share in zip(dense(task, width).costs, STREAM):
        stream, branches = round(share * width), slices[-1][1] if slices else 0
        near = product(range(stream - 1, stream + 2), range(branches + 1, branches + 2 * width))
        tried = [[*slices, one] for one in near]
        slices = min(tried, key=lambda t, c=cost: abs(whole(t).costs[-1] - c))
    return own_heads(whole(slices))


def sliced_own_heads(task: Task, width: int) -> Architecture:
    """The network of :func:`sliced` with a classifier for every point."""
    return own_heads(sliced(task, width))


def stepping(task: Task, width: int) -> Architecture:
    """SteppingNet: its construction starts from the slices of :func:`sliced` and replaces them within equal MACs.

    Its original network, which is also the teacher, is the reference's largest point.
    """
    original = "-".join(map(str, _widths(_resnet(task, (width,), "causal"))))
    return trained_by(sliced(task, width), "stepping", original=original)


def any_width(task: Task, width: int) -> Architecture:
    """An any-width network: weights are triangular by channel, at half the MACs of a dense layer.

    Any width is a possible operating point.
    """
    wide = _resnet(task, range(1, round(1.6 * width)), "causal")
    nearest = _nearest(wide, dense(task, width).costs)
    return trained_by(wide.with_points(nearest).canonical, "sandwich", sampled=1)


def early_exits(task: Task, width: int) -> Architecture:
    """A chain with a classifier at four depths; the width of each part uses the MACs between two points.

    The first exit follows the stem and a convolution of stride 2, each later exit one more basic block. The second
    block halves the image size again.
    """
    channels: list[int] = []
    for cost in dense(task, width).costs:
        options = [_exits(task, [*channels, n]) for n in range(4, 6 * width)]
        nearest = min(range(len(options)), key=lambda i, c=cost: abs(options[i].costs[-1] - c))
        channels.append(4 + nearest)
    return trained_by(_exits(task, channels), "causal")


def _exits(task: Task, channels: Sequence[int]) -> Architecture:
    """channels: number of channels of the map that each exit reads."""
    b, stride = Builder(task), stem_strides(task)[-1]
    x = b.conv(b.input, max(1, channels[0] // 2), stride=stride, after=NR)
    x = b.conv(x, channels[0], stride=2, after=NR)
    outputs = [b.head(x)]
    for depth, wide in enumerate(channels[1:], start=1):
        stride = 2 if depth == 2 else 1
        inner = b.conv(x, wide, stride=stride, after=NR)
        y = b.conv(inner, wide, after=("norm",), activation="relu")
        b.add("conv", x, y, kernel=1, stride=stride, after=("norm",))
        outputs.append(b.head(y))
        x = y
    return b.architecture([b.point(0, output=output) for output in outputs], norm="shared")


# Sizes -----------------------------------------------------------------------------------------------------------


def _widths(architecture: Architecture) -> list[int]:
    """Number of channels of every coupling group."""
    return [architecture.topology.maps[maps[0]].channels for maps in owned_groups(architecture)]


def _nearest(architecture: Architecture, costs: Sequence[int]) -> list[Subnetwork]:
    """The operating point with the MACs closest to each cost."""
    return [architecture.points[int(np.argmin(np.abs(np.array(architecture.costs) - cost)))] for cost in costs]
