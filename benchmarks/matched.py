"""Anytime networks of every style whose operating points cost the same: what anytime_accuracy.py compares.

The reference is a small ResNet whose points are a quarter, a half, three quarters and all of its width: a stem, of
stride 2 where images are not tiny, and three stages of one basic block, each of half the size and twice the width. The
others take sizes by which each of their points has the reference's MACs, as closely as whole channels allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Setting, Subnetwork, Task, TrainingSpec
from nas.representation.heads import own_heads
from nas.representation.ownership import OwnershipMacs, owned_groups, with_slices
from search_spaces.images import prefixes, stem_strides
from search_spaces.slicing import i_resnext, sparse_resnext

FRACTIONS = (0.25, 0.5, 0.75, 1.0)
STAGES = 3
STREAM = (0.75, 1.25, 1.75, 2.25)
"""Of the width. Chosen on CIFAR-10's validation images, one seed: 58.3 % on average over the points, against 57.6 %
with a first share of 0.5, where all points go without what they would read of it, and 56.4 % with 1.0, where branches
are few."""
NR = ("norm", "relu")


def trained_by(architecture: Architecture, rule: str, **settings: Setting) -> Architecture:
    """The network under another training rule."""
    return replace(architecture, training=TrainingSpec(rule=rule, settings=tuple(sorted(settings.items()))))


# Dense networks --------------------------------------------------------------------------------------------------


def dense(task: Task, width: int) -> Architecture:
    """The reference: every operating point a width of one network, each trained on the labels in every step."""
    slices = prefixes(width, FRACTIONS)
    return trained_by(_resnet(task, slices, "dense"), "sandwich", sampled=len(slices) - 2)


def norm_per_width(task: Task, width: int) -> Architecture:
    """A slimmable network: the reference with norms of its own for every point, which are trained."""
    return trained_by(replace(dense(task, width), norm="per_point"), "joint")


def independent(anytime: Architecture) -> list[Architecture]:
    """A network of its own for every operating point of a dense one, of the same shape."""
    alone = (anytime.with_points([point]).canonical for point in anytime.points)
    return [trained_by(replace(one, norm="shared"), "joint") for one in alone]


def narrow_i_resnext(task: Task, width: int) -> Architecture:
    """I-ResNeXt with one block a stage: points are numbers of branches, each of two channels in the first stage.

    The residual stream, which all points pay for, is as wide as the smallest leaves room for beside one branch.
    """
    costs, stride = dense(task, width).costs, stem_strides(task)[-1]

    def whole(stream: int, branches: int) -> Architecture:
        return i_resnext(1, stream, 2, branches, branches, stride=stride, task=task)

    stream = min(range(4, 4 * width), key=lambda n: abs(whole(n, 1).costs[0] - costs[0]))
    one, two = whole(stream, 2).costs
    wide = whole(stream, 1 + round((costs[-1] - one) / (two - one)))
    return wide.with_points(_nearest(wide, costs)).canonical


def _resnet(task: Task, slices: Sequence[int], wiring: str) -> Architecture:
    """The reference's layers. slices: prefix lengths in the first stage, an operating point each."""
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


# Networks whose points build on each other -----------------------------------------------------------------------


def sliced(task: Task, width: int) -> Architecture:
    """The reference's layers, block-triangular: what slices 1 … k of every map are does not depend on the others."""
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
    """The block-triangular counterpart of I-ResNeXt: in each slice as many branches as its MACs leave room for.

    STREAM gives the width of its residual stream at every point, give or take a channel by which MACs match.
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
    """The slices with a classifier for every point."""
    return own_heads(sliced(task, width))


def stepping(task: Task, width: int) -> Architecture:
    """SteppingNet: the slices are what its construction starts from and replaces, within the same budgets of MACs.

    Its original network, the teacher too, is the reference's largest point.
    """
    original = "-".join(map(str, _widths(_resnet(task, (width,), "causal"))))
    return trained_by(sliced(task, width), "stepping", original=original)


def any_width(task: Task, width: int) -> Architecture:
    """An any-width network: weights triangular channel by channel, so that any width is a point, at half the MACs of a
    dense layer.
    """
    wide = _resnet(task, range(1, round(1.6 * width)), "causal")
    nearest = _nearest(wide, dense(task, width).costs)
    return trained_by(wide.with_points(nearest).canonical, "sandwich", sampled=1)


def early_exits(task: Task, width: int) -> Architecture:
    """A chain with a classifier at four depths, whose widths are what each has to spend beyond the one before.

    The first exit follows the stem and a convolution of stride 2, each other one a further basic block; the second
    block shrinks the image once more.
    """
    found: list[int] = []
    for cost in dense(task, width).costs:
        options = [_exits(task, [*found, n]) for n in range(4, 6 * width)]
        nearest = min(range(len(options)), key=lambda i, c=cost: abs(options[i].costs[-1] - c))
        found.append(4 + nearest)
    return trained_by(_exits(task, found), "causal")


def _exits(task: Task, channels: Sequence[int]) -> Architecture:
    """channels: of the map that each exit reads."""
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
    """Channels of every coupling group."""
    return [architecture.topology.maps[maps[0]].channels for maps in owned_groups(architecture)]


def _nearest(architecture: Architecture, costs: Sequence[int]) -> list[Subnetwork]:
    """For each cost the operating point whose MACs are closest to it."""
    return [architecture.points[int(np.argmin(np.abs(np.array(architecture.costs) - cost)))] for cost in costs]
