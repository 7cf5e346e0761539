"""The supernets of TIPS, and a space of residual networks whose important blocks stay wider in smaller points.

From the code that the first author released: two networks without projections, in which a block has a skip only if it
keeps size and width; their widths at fifteen operating points; blocks that every path must pass shrink at half the
pace. In that code the blocks of a stage share a list of widths, so that all of them shrink at half the pace; the early
stages have two widths, and the stem is full only at the largest point. The functions below reproduce its MACs exactly.
Ours: the small versions, the space and its ranges, and :func:`nas.chain.width_schedule`.

References
----------
Li, Bhardwaj, Yang & Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks,
ICML 2023, arXiv 2305.08021, and its released code.
He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, CVPR 2016.
Sandler, Howard, Zhu, Zhmoginov & Chen, MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nas.chain import width_schedule
from nas.errors import InvalidArchitecture
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder, labellings
from nas.representation.elements import Task
from nas.spaces.choices import Choose, Primitive
from nas.spaces.references import Design, Reference, sizes_within
from search_spaces.images import check_task, choose_fractions, num_stages, prefixes, stem, stem_strides

POINTS = 15
LATE = 14
"""Different widths of the late stages; the largest point differs from the one before in its stem."""
IMAGENET = Task(input_shape=(3, 224, 224), num_classes=1000)
SMALL_SIDE = 64
"""Images up to this size are not shrunk by the stem and the first strided stage."""

WIDTHS = (12, 16, 20, 24, 32, 40)
DEPTHS = (1, 2, 3, 4)
GROWTHS = (1.5, 2.0)
BLOCKS = ("basic", "inverted")
EXPANSION = 3
SCHEDULES = ("uniform", "path", "tas")
OPTIONAL = ("none", "bodies", "shortcuts", "both")


def resnet34(
    task: Task = IMAGENET, *, width: int = 64, depths: Sequence[int] = (3, 4, 6, 3), points: int = POINTS
) -> Architecture:
    """The ResNet-34 supernet of TIPS: 1,538 to 3,644 M MACs at fifteen operating points on ImageNet.

    Parameters
    ----------
    task : Task
        Images. Up to 64 pixels, the stem is a 3×3 convolution, and the first two strides are 1.
    width : int
        Channels of the first stage, at least 8; all others follow in proportion. The authors' is 64.
    depths : sequence of int
        Blocks of the four stages.
    points : int
        Operating points, evenly chosen from the fifteen.

    Returns
    -------
    Architecture

    Raises
    ------
    InvalidArchitecture
        If width, depths or points are out of range.
    """
    whole = [width, *depths] if isinstance(depths, list | tuple) else []
    if len(whole) != 5 or {*map(type, whole)} != {int} or width < 8 or min(depths) < 1:
        raise InvalidArchitecture(f"Width must be a whole number from 8 on, and depths four. Got {width=}, {depths=}.")
    net = _Net(task, points, width / 64)
    small = net.small
    x = net.conv(0, net.stem(24, 64), kernel=3 if small else 7, stride=1 if small else 2, activation="silu")
    stages = [net.early(46, 64), net.early(92, 128), net.late(256, 8), net.late(512, 15)]
    for stage, (widths, depth) in enumerate(zip(stages, depths)):
        for block in range(depth):
            stride = 2 if block == 0 and not (small and stage == 0) else 1
            inner = net.conv(x, widths, stride=stride, activation="silu")
            out = net.conv(inner, widths, activation="relu")
            if block:
                net.builder.identity(x, out)
            x = out
    return net.architecture(x)


def mobilenet_v2(task: Task = IMAGENET, *, width: float = 1.4, points: int = POINTS) -> Architecture:
    """The MobileNetV2 supernet of TIPS: 264 to 599 M MACs at fifteen operating points on ImageNet.

    Parameters
    ----------
    task : Task
        Images. Up to 64 pixels, the first two strides are 1.
    width : float
        Factor of the channels, at least 0.25. The authors' is 1.4.
    points : int
        Operating points, evenly chosen from the fifteen.

    Returns
    -------
    Architecture

    Raises
    ------
    InvalidArchitecture
        If width or points are out of range.
    """
    if not 0.25 <= width < 100:
        raise InvalidArchitecture(f"Width must be at least 0.25. Got {width=}.")
    net = _Net(task, points, width / 1.4)
    small, widths = net.small, (0,) * net.points
    x = net.conv(0, net.stem(16, 48), stride=1 if small else 2, activation="silu")
    stages = [
        (net.early(19, 24), 1, 1),
        (net.early(24, 32), 2, 1 if small else 2),
        (net.early(33, 48), 3, 2),
        (net.early(58, 88), 4, 2),
        (net.late(136, 4), 3, 1),
        (net.late(224, 7), 3, 2),
        (net.late(448, 14), 1, 1),
    ]
    for stage, (outer, depth, stride) in enumerate(stages):
        for block in range(depth):
            middle = tuple(_divisible(6 * n) for n in widths) if stage else net.early(16, 48)
            inner = net.conv(x, middle, kernel=1, activation="silu")
            across = stride if block == 0 else 1
            inner = net.conv(inner, middle, stride=across, activation="silu", groups=max(middle))
            out = net.conv(inner, outer, kernel=1)
            if block:
                net.builder.identity(x, out)
            x, widths = out, outer
    head = round(1280 * net.scale)
    x = net.conv(x, (head,) * net.points, kernel=1, activation="silu")
    return net.architecture(x)


class _Net:
    """A supernet under construction, with the widths of every map at the operating points.

    scale: of all channels. chosen: for each operating point, its place among the authors' fifteen.
    """

    def __init__(self, task: Task, points: int, scale: float):
        check_task("tips", task, points)
        if type(points) is not int or points > POINTS:
            raise InvalidArchitecture(f"The supernets of TIPS have up to {POINTS} operating points. Got {points}.")
        self.builder, self.points, self.scale = Builder(task), points, scale
        self.small = max(task.input_shape[1:]) <= SMALL_SIDE
        last = POINTS - 1
        self.chosen = [round(k * last / (points - 1)) for k in range(points)] if points > 1 else [last]
        self.widths = [task.input_shape[:1] * points]

    def stem(self, least: int, full: int) -> tuple[int, ...]:
        """The widths of the stem: full at the largest point."""
        return tuple(round(self.scale * (full if place == POINTS - 1 else least)) for place in self.chosen)

    def early(self, least: int, full: int) -> tuple[int, ...]:
        """The widths of an early stage: full at all points but the smallest."""
        return tuple(round(self.scale * (full if place else least)) for place in self.chosen)

    def late(self, full: int, step: int) -> tuple[int, ...]:
        """The widths of a late stage in equal steps."""
        return tuple(round(self.scale * (full - step * max(0, LATE - 1 - place))) for place in self.chosen)

    def conv(
        self,
        source: int,
        widths: tuple[int, ...],
        *,
        kernel: int = 3,
        stride: int = 1,
        activation: str = "none",
        groups: int = 1,
    ) -> int:
        """Add a convolution with a norm into a new map."""
        target = self.builder.map(tuple(sorted(set(widths))), activation=activation)
        self.widths.append(widths)
        return self.builder.add("conv", source, target, kernel=kernel, stride=stride, groups=groups, after=("norm",))

    def architecture(self, last: int) -> Architecture:
        """The network with a classifier on its last map."""
        builder, output = self.builder, self.builder.head(last)
        self.widths.append(self.widths[last])
        self.widths += [builder.slices(index) * self.points for index in range(len(self.widths), output + 1)]
        predicted = labellings(builder.task, self.points)
        return builder.architecture(
            [
                replace(builder.point(0, labelling=labelling), channels=channels)
                for channels, labelling in zip(zip(*self.widths), predicted)
            ]
        )


def _divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of a divisor, at most a tenth below: the rounding of MobileNetV2."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor * (nearest < 0.9 * channels)


class Tips:
    """Residual networks (TIPS) without projections: depth, widths, optional blocks and the schedule of widths vary.

    A stem, then up to three stages of blocks, each of half the size; the first block of a later stage has no skip. With
    optional bodies and shortcuts, each other block may run both, its convolutions alone, or its skip alone in a
    sampled subnetwork; such networks train by path sampling. With the schedules "path" and "tas", important maps are
    wider in smaller operating points, see :func:`nas.chain.width_schedule`.
    """

    by_name_only = True
    """`residual` has such networks too, and schedules of widths have no measured advantage yet."""

    def architecture(self, choose: Choose, task: Task, *, points: int = 4) -> Architecture:
        """See :class:`nas.spaces.contract.SearchSpace`."""
        check_task("tips", task, points)
        shares = choose_fractions(choose, points)
        width, block = choose("width", WIDTHS), choose("block", BLOCKS)
        optional = choose("optional", OPTIONAL)
        builder = Builder(task)
        x = stem(builder, choose, prefixes(width, shares), activation="relu")
        for stage in range(num_stages(builder.size(x))):
            if stage:
                width = int(width * choose(f"{stage} growth", GROWTHS)) // 4 * 4
            for number in range(choose(f"{stage} depth", DEPTHS)):
                across = stage > 0 and number == 0
                x = _block(builder, block, x, width, shares, across=across, optional="none" if across else optional)
        builder.head(x)
        rule = "sandwich" if optional == "none" else "path_sampling"
        network = builder.architecture(points, rule=rule)
        schedule = choose("schedule", SCHEDULES) if points > 1 else "uniform"
        return network if schedule == "uniform" else width_schedule(network, schedule)

    def references(self, task: Task, max_macs: float, *, points: int = 4) -> list[Reference]:
        """See :class:`nas.spaces.references.ReferringSpace`."""
        plain: dict[str, Primitive] = {"spacing": "linear", "smallest fraction": 0.25, "growth": 2.0}
        plain |= {"block": "basic", "optional": "none", "stem stride": stem_strides(task)[-1]}
        schedules = [("uniform", "uniform widths"), ("path", "important blocks shrink at half the pace")]
        designs = [
            Design(
                name=f"TIPS ResNet with the schedule {schedule}",
                size="width {width}, depth {depth}",
                origin=f"Li et al. (2023), ICML: no projections; {words}; fewer stages",
                answers={**plain, "schedule": schedule},
                sizes=[{"width": width, "depth": depth} for depth in DEPTHS[:2] for width in WIDTHS],
            )
            for schedule, words in schedules[: 1 + (points > 1)]
        ]
        return sizes_within(self, designs, task, max_macs, points=points)


def _block(
    builder: Builder, kind: str, x: int, width: int, shares: tuple[float, ...], *, across: bool, optional: str
) -> int:
    """Add a block; it has a skip unless it leads to the next stage.

    optional: the parts that a subnetwork may leave out, see OPTIONAL.
    """
    slices, stride, after = prefixes(width, shares), 1 + across, ("norm", "relu")
    body = optional in ("bodies", "both")
    if kind == "basic":
        inner = builder.conv(x, slices, kernel=3, stride=stride, after=after, optional=body)
        out = builder.conv(inner, slices, kernel=3, after=("norm",), activation="relu")
    else:
        middle = tuple(EXPANSION * n for n in builder.slices(x))
        inner = builder.conv(x, middle, kernel=1, after=after, optional=body)
        inner = builder.depthwise(inner, kernel=3, stride=stride, after=after)
        out = builder.conv(inner, slices, kernel=1, after=("norm",))
    if not across:
        builder.identity(x, out, optional=optional in ("shortcuts", "both"))
    return out
