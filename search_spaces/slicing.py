"""Networks sliced vertically: I-ResNeXt as released, and the block-triangular network whose points share all results.

From the paper: many inclusive thin sub-networks of the same depth from one multi-branch network; a sparsity pattern on
its parameters with which they train together efficiently. From the authors' code, I-ResNeXt: pre-activation bottlenecks
whose number of branches grows with the sub-network, beside a residual stream at full width; a norm and a head for every
sub-network; the losses of all are summed. The values of the stream differ between sub-networks, so nothing is reused.

Ours, because the full text was not available: the sparse network, in which every map consists of slices, 1×1
convolutions read their own and earlier slices, 3×3 convolutions stay within a slice, and one norm serves all; the
transitions between stages; the ranges of the choices; one head for all points as an option.

References
----------
Lee & Shin, Anytime Neural Prediction via Slicing Networks Vertically, 2018, arXiv 1807.02609.
Xie, Girshick, Dollár, Tu & He, Aggregated Residual Transformations for Deep Neural Networks, CVPR 2017 (ResNeXt).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nas.errors import UserError
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder, Widths, labellings
from nas.representation.elements import SettingValue, Task
from nas.representation.heads import own_heads
from nas.spaces.choices import Choose
from nas.spaces.references import Design, Reference, sizes_within
from search_spaces.images import check_task, choose_fractions, fractions, num_stages, prefixes, stem_strides

KINDS = ("sparse", "i_resnext")
TRANSITIONS = ("pad", "project")
HEADS = ("own", "shared")
"""A classifier for every operating point, or a shared one whose logits accumulate."""
WIDTHS = (16, 20, 24, 28, 32, 36, 48, 64)
CARDINALITIES = (8, 12, 16, 24, 32, 40, 48, 64)
FEWEST_BRANCHES = (0.0625, 0.125, 0.25, 0.375, 0.5)
"""Branches of the smallest operating point of a sparse network, as a share of all branches.

Apart from the stream's share, because a narrow first slice of the stream, which all points read, costs accuracy, while
the MACs of the smallest point are spent on few branches.
"""
DISTILL = (0.0, 1.0)
"""Weights of the causal rule's distillation loss."""
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

    Three stages of ``num_blocks`` blocks. Between stages, a 2×2 average pool and zeros up to twice the channels. Only
    the heads have biases.

    Parameters
    ----------
    num_blocks : int
        Blocks of each stage.
    width : int
        Channels of the stream in the first stage; stage i has width · 2^i.
    bottleneck : int
        Channels of a branch in the first stage; stage i has bottleneck · 2^i.
    cardinality : int
        Number of branches; a multiple of ``levels``.
    levels : int
        Number of sub-networks.
    stride : int
        Stride of the stem; 1 in the released code.
    task : Task

    Returns
    -------
    Architecture

    Raises
    ------
    UserError
        Unless levels divides cardinality.
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
    """The block-triangular ResNeXt: y_j ← y_j + F_j(y_1 … y_j) for every slice j, also of the residual stream.

    Parameters
    ----------
    num_blocks, bottleneck, stride, task
        As in :func:`i_resnext`.
    width, cardinality : int or tuple of int
        Channels of the stream and number of branches: a number, divided into ``levels`` equal slices, or the ascending
        numbers of each operating point.
    levels : int
        Number of operating points, if width and cardinality are numbers.
    transition : {"pad", "project"}
        Between stages, after a 2×2 average pool: "pad" fills every slice with zeros at its own end; "project" is a
        triangular 1×1 convolution.

    Returns
    -------
    Architecture

    Raises
    ------
    UserError
        If levels does not divide a number, or if the transition is unknown.
    """
    if transition not in TRANSITIONS:
        raise UserError(f"transition must be one of {TRANSITIONS}. Got {transition=}.")
    streams, branches = (tuple(n) if isinstance(n, Sequence) else _equal(n, levels) for n in (width, cardinality))
    return _sparse(Builder(task), (num_blocks,) * 3, streams, bottleneck, branches, transition, stride)


class Slicing:
    """Vertically sliced ResNeXts: block-triangular ones, which reuse all results, and I-ResNeXt, which cannot.

    Choices: the kind, the slices, the width, the number of branches and their width, the depth of every stage; of the
    sparse kind also the branches of the smallest point, the transitions between stages, whether every point has its own
    classifier, and whether small points learn from the largest (causal training with distillation).
    """

    def architecture(self, choose: Choose, task: Task, *, points: int = 4) -> Architecture:
        """See :class:`nas.spaces.contract.SearchSpace`."""
        check_task("slicing", task, points)
        kind, shares = choose("kind", KINDS), choose_fractions(choose, points)
        width, bottleneck = choose("width", WIDTHS), choose("bottleneck", BOTTLENECKS)
        cardinality = choose("cardinality", CARDINALITIES if points <= 4 else CARDINALITIES[2:])
        strides = stem_strides(task)
        stride = choose("stem stride", strides) if len(strides) > 1 else strides[0]
        side = -(-max(task.input_shape[1:]) // stride)
        depths = tuple(choose(f"{stage} depth", DEPTHS) for stage in range(num_stages((side,))))
        builder = Builder(task)
        if kind == "i_resnext":
            return _i_resnext(builder, depths, width, bottleneck, prefixes(cardinality, shares), stride)
        transition = choose("transition", TRANSITIONS) if len(depths) > 1 else "pad"
        settings = {}
        if points > 1:
            shares_of_branches = fractions(choose("fewest branches", FEWEST_BRANCHES), "linear", points)
            branches = prefixes(cardinality, shares_of_branches)
            if weight := choose("distill", DISTILL):
                settings["distill"] = weight
        else:
            branches = (cardinality,)
        streams = prefixes(width, shares)
        sparse = _sparse(builder, depths, streams, bottleneck, branches, transition, stride, **settings)
        return own_heads(sparse) if points > 1 and choose("heads", HEADS) == "own" else sparse

    def references(self, task: Task, max_macs: float, *, points: int = 4) -> list[Reference]:
        """See :class:`nas.spaces.references.ReferringSpace`."""
        stride = {"stem stride": stem_strides(task)[-1]}
        designs = [replace(design, answers={**design.answers, **stride}) for design in (SPARSE, RELEASED)]
        return sizes_within(self, designs, task, max_macs, points=points)


SPARSE = Design(
    name="block-triangular ResNeXt",
    size="width {width}, {cardinality} branches",
    origin="ours, after vertical slicing (Lee & Shin, 2018); causal training with distillation",
    answers={
        "kind": "sparse",
        "smallest fraction": 0.375,
        "spacing": "linear",
        "bottleneck": 2,
        "depth": 1,
        "transition": "pad",
        "fewest branches": 0.0625,
        "distill": 1.0,
        "heads": "own",
    },
    sizes=tuple(
        {"width": width, "cardinality": cardinality}
        for width, cardinality in ((16, 12), (20, 16), (24, 24), (28, 32), (36, 40), (48, 48), (64, 64))
    ),
)
RELEASED = Design(
    name="I-ResNeXt",
    size="width {width}, {depth} blocks per stage",
    origin="released code of Lee & Shin (2018), arXiv 1807.02609, with fewer blocks and channels in its proportions",
    answers={"kind": "i_resnext", "smallest fraction": 0.25, "spacing": "linear"},
    sizes=tuple(
        {"width": width, "bottleneck": width // 16, "cardinality": 8, "depth": depth}
        for width, depth in ((16, 1), (16, 2), (32, 1), (32, 2), (64, 2), (64, 4))
    ),
)


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
    """I-ResNeXt; branches: their number in each sub-network."""
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
    **settings: SettingValue,
) -> Architecture:
    """The sparse network; streams, branches: channels of the stream in the first stage, and branches, per point.

    settings: of the rule ``causal``.
    """
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
    return builder.architecture(len(streams), norm="shared", rule="causal", **settings)


def _halving(builder: Builder, x: int) -> dict[str, tuple[int, ...]]:
    """The window of a 2×2 average pool; a side of one pixel is not pooled."""
    window = tuple(min(2, n) for n in builder.size(x))
    return {"kernel": window, "stride": window, "padding": (0,) * len(window)}
