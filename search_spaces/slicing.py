"""Networks sliced vertically: I-ResNeXt as released, and the block-triangular network whose points share all results.

From the paper: many inclusive thin sub-networks of the same depth from one multi-branch network; a sparsity pattern on
its parameters by which they train together efficiently. From the authors' code, I-ResNeXt: pre-activation bottlenecks
whose number of branches grows with the sub-network, beside a residual stream that stays whole; a norm and a head for
every sub-network; the losses of all are summed. Its stream goes with the sub-network: nothing can be reused.

Ours, as the full text was not at hand: the sparse network, in which every map lies in slices, 1×1 convolutions read
their own and earlier slices, 3×3 convolutions stay within a slice, one norm serves all; the transitions between stages;
what the space offers, one head for all points among it.

References
----------
Lee & Shin, Anytime Neural Prediction via Slicing Networks Vertically, 2018, arXiv 1807.02609.
Xie, Girshick, Dollár, Tu & He, Aggregated Residual Transformations for Deep Neural Networks, CVPR 2017 (ResNeXt).
"""

from __future__ import annotations

from collections.abc import Sequence

from nas.errors import UserError
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder, Widths, labellings
from nas.representation.elements import Task
from nas.representation.heads import own_heads
from nas.spaces.choices import Choose
from search_spaces.images import check_task, choose_fractions, num_stages, prefixes, stem_strides

KINDS = ("sparse", "i_resnext")
TRANSITIONS = ("pad", "project")
HEADS = ("own", "shared")
"""A classifier for every operating point, or one whose logits add up."""
WIDTHS = (16, 24, 32, 48, 64)
BOTTLENECKS = (1, 2, 4)
"""Channels of a branch in the first stage."""
DEPTHS = (1, 2, 3, 4)
CIFAR = Task(input_shape=(3, 32, 32), num_classes=10)
NR = ("norm", "relu")


def i_resnext(
    num_blocks: int = 7,
    width: int = 64,
    bottleneck: int = 4,
    cardinality: int = 8,
    levels: int = 8,
    *,
    stride: int = 1,
    task: Task = CIFAR,
) -> Architecture:
    """I-ResNeXt as released: sub-network k of A has (k + 1) / A of the branches, on the whole residual stream.

    Three stages of ``num_blocks`` blocks; in stage i the stream has width·2^i channels, the ``cardinality`` branches
    bottleneck·2^i each. Between stages a 2×2 average pool, then zeros up to twice the channels. No biases but the
    heads'. stride: of the stem, 1 as released. Raises UserError unless levels divides cardinality.
    """
    return _i_resnext(Builder(task), (num_blocks,) * 3, width, bottleneck, _equal(cardinality, levels), stride)


def sparse_resnext(
    num_blocks: int = 7,
    width: Widths = 64,
    bottleneck: int = 4,
    cardinality: Widths = 8,
    levels: int = 8,
    *,
    transition: str = "pad",
    stride: int = 1,
    task: Task = CIFAR,
) -> Architecture:
    """The block-triangular ResNeXt: y_j ← y_j + F_j(y_1 … y_j) for every slice j, the residual stream's too.

    Sizes as in :func:`i_resnext`. width, cardinality: numbers, for ``levels`` slices of equal size; or what each point
    has of them, ascending. transition: between stages, after a 2×2 average pool: "pad" fills every slice up with zeros
    at its own end, "project" is a triangular 1×1 convolution. Raises UserError unless levels divides the numbers.
    """
    if transition not in TRANSITIONS:
        raise UserError(f"transition must be one of {TRANSITIONS}. Got {transition=}.")
    streams, branches = (tuple(n) if isinstance(n, Sequence) else _equal(n, levels) for n in (width, cardinality))
    return _sparse(Builder(task), (num_blocks,) * 3, streams, bottleneck, branches, transition, stride)


class Slicing:
    """Vertically sliced ResNeXts: block-triangular ones, which reuse all results, and I-ResNeXt, which cannot.

    Kind, slices, width, branches and their width, depth of every stage, the transitions between stages, and whether
    points have classifiers of their own are choices.
    """

    def architecture(self, choose: Choose, task: Task, *, points: int = 4) -> Architecture:
        """See :class:`nas.spaces.contract.SearchSpace`."""
        check_task("slicing", task, points)
        found, shares = choose("kind", KINDS), choose_fractions(choose, points)
        width, bottleneck = choose("width", WIDTHS), choose("bottleneck", BOTTLENECKS)
        cardinality = choose("cardinality", (8, 16, 32) if points <= 4 else (16, 32))
        strides = stem_strides(task)
        stride = choose("stem stride", strides) if len(strides) > 1 else strides[0]
        side = -(-max(task.input_shape[1:]) // stride)
        depths = tuple(choose(f"{stage} depth", DEPTHS) for stage in range(num_stages((side,))))
        builder, branches = Builder(task), prefixes(cardinality, shares)
        if found == "i_resnext":
            return _i_resnext(builder, depths, width, bottleneck, branches, stride)
        transition = choose("transition", TRANSITIONS) if len(depths) > 1 else "pad"
        sparse = _sparse(builder, depths, prefixes(width, shares), bottleneck, branches, transition, stride)
        return own_heads(sparse) if points > 1 and choose("heads", HEADS) == "own" else sparse


def _equal(full: int, levels: int) -> tuple[int, ...]:
    if type(full) is not int or levels < 1 or full % levels:
        raise UserError(f"Slices must be of equal size: levels must divide a whole number. Got {full}, {levels=}.")
    return tuple(full * level // levels for level in range(1, levels + 1))


def _i_resnext(
    builder: Builder,
    depths: Sequence[int],
    width: int,
    bottleneck: int,
    branches: tuple[int, ...],
    stride: int = 1,
) -> Architecture:
    """branches: their number in each sub-network."""
    x = builder.conv(builder.input, width, kernel=max(3, stride + 1), stride=stride)
    for stage, depth in enumerate(depths):
        if stage:
            x = builder.add("avg_pool", x, builder.map(width * 2**stage), **_halving(builder, x))
        middle = tuple(n * bottleneck * 2**stage for n in branches)
        for _ in range(depth):
            inner = builder.conv(x, middle, kernel=1, before=NR)
            inner = builder.conv(inner, middle, kernel=3, groups=branches[-1], before=NR)
            out = builder.conv(inner, width * 2**stage, kernel=1, before=NR)
            x = builder.identity(x, out)
    heads = [builder.head(x, before=NR) for _ in branches]
    answers = labellings(builder.task, len(heads))
    points = [builder.point(k, output=head, labelling=answers[k]) for k, head in enumerate(heads)]
    return builder.architecture(points, norm="per_point", rule="joint")


def _sparse(
    builder: Builder,
    depths: Sequence[int],
    streams: tuple[int, ...],
    bottleneck: int,
    branches: tuple[int, ...],
    transition: str,
    stride: int = 1,
) -> Architecture:
    """streams, branches: channels of the residual stream in the first stage, and branches, up to each slice."""
    x = builder.conv(builder.input, streams, kernel=max(3, stride + 1), stride=stride)
    for stage, depth in enumerate(depths):
        slices = tuple(n * 2**stage for n in streams)
        if stage:
            pooled = builder.map(slices if transition == "pad" else builder.slices(x))
            x = builder.add("avg_pool", x, pooled, wiring="causal", **_halving(builder, x))
            if transition == "project":
                x = builder.conv(x, slices, kernel=1, wiring="causal")
        middle = tuple(n * bottleneck * 2**stage for n in branches)
        for _ in range(depth):
            inner = builder.conv(x, middle, kernel=1, before=NR, wiring="causal")
            inner = builder.conv(inner, middle, kernel=3, groups=branches[-1], before=NR, wiring="causal")
            out = builder.conv(inner, slices, kernel=1, before=NR, wiring="causal")
            x = builder.identity(x, out, wiring="causal")
    builder.head(x, before=NR)
    return builder.architecture(len(streams), norm="shared", rule="causal")


def _halving(builder: Builder, x: int) -> dict[str, tuple[int, ...]]:
    """The window of a 2×2 average pool; a side of a single pixel stays."""
    window = tuple(min(2, n) for n in builder.size(x))
    return {"kernel": window, "stride": window, "padding": (0,) * len(window)}
