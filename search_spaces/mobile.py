"""Mobile networks: inverted residuals with depthwise convolutions, with long skips, at several widths.

From the paper: a block expands its input by a 1×1 convolution, filters it by a depthwise one, and projects it by a
linear 1×1 convolution to few channels, which are added to its input if shapes agree. Ours: the ranges of the choices,
the long skips, and operating points by width.

References
----------
Sandler, Howard, Zhu, Zhmoginov & Chen, MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR
2018, arXiv 1801.04381.
"""

from __future__ import annotations

from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.spaces.choices import Choose, Primitive
from nas.spaces.references import Design, Reference, sizes_within
from search_spaces.images import check_task, choose_fractions, link, num_stages, prefixes, stem, stem_strides

WIDTHS = (16, 20, 24, 32)
GROWTHS = (1.0, 1.25, 1.5, 2.0)
DEPTHS = (1, 2, 3)
EXPANSIONS = (1, 2, 3, 4, 6)
KERNELS = (3, 5)
LONG = ("none", "project", "pool")
LONG_WITHIN = ("none", "project", "identity")


class Mobile:
    """Inverted residuals with depthwise convolutions (MobileNetV2): expansion, kernel, depth and long skips vary.

    A stem, then up to three stages of blocks, each stage of half the size. Long skips may lead from a stage's input or
    its first output into its last output, and one from the stem into the last block. The outputs of blocks are linear.
    The skips that MobileNetV2 does not have are optional operations.
    """

    def architecture(self, choose: Choose, task: Task, *, points: int = 4) -> Architecture:
        """See :class:`nas.spaces.contract.SearchSpace`."""
        check_task("mobile", task, points)
        builder = Builder(task)
        shares = choose_fractions(choose, points)
        width = choose("width", WIDTHS)
        x = first = stem(builder, choose, prefixes(width, shares), activation="relu6")
        count = num_stages(builder.size(x))
        for stage in range(count):
            if stage:
                width = int(width * choose(f"{stage} growth", GROWTHS)) // 4 * 4
            x = _stage(builder, choose, stage, x, prefixes(width, shares))
        style = choose("long skip", LONG) if count > 1 else "none"
        if style != "none":
            link(builder, first, x, style, 2 ** (count - 1), optional=True)
        builder.head(x, before=("relu6",))
        return builder.architecture(points)

    def references(self, task: Task, max_macs: float, *, points: int = 4) -> list[Reference]:
        """See :class:`nas.spaces.references.ReferringSpace`."""
        plain: dict[str, Primitive] = {
            "spacing": "linear",
            "smallest fraction": 0.25,
            "kernel": 3,
            "0.0 expansion": 1,
            "growth": 1.5,
        }
        plain |= {"long skip": "none", "inner skip": "none", "stem stride": stem_strides(task)[-1]}
        design = Design(
            name="MobileNetV2",
            size="width {width}, expansion {expansion}",
            origin="Sandler et al. (2018), arXiv 1801.04381, with two blocks in each of fewer stages; widths throttle",
            answers={**plain, "depth": 2},
            sizes=[{"width": width, "expansion": expansion} for expansion in (3, 6) for width in WIDTHS],
        )
        return sizes_within(self, [design], task, max_macs, points=points)


def _stage(builder: Builder, choose: Choose, stage: int, x: int, slices: tuple[int, ...]) -> int:
    """Add a stage of blocks with its long skips; returns its last output."""
    source, stride, depth = x, 2 if stage else 1, choose(f"{stage} depth", DEPTHS)
    x = first = _block(builder, choose, f"{stage}.0", source, slices, stride)
    for block in range(1, depth):
        x = _block(builder, choose, f"{stage}.{block}", x, slices, 1)
    if depth > 1 and stride > 1:
        style = choose(f"{stage} long skip", LONG)
        if style != "none":
            link(builder, source, x, style, stride, optional=True)
    if depth > 2:
        style = choose(f"{stage} inner skip", LONG_WITHIN)
        if style != "none":
            link(builder, first, x, style, 1, optional=True)
    return x


def _block(builder: Builder, choose: Choose, name: str, x: int, slices: tuple[int, ...], stride: int) -> int:
    """Add a block: expand, filter, project; and the input, if shapes agree."""
    expansion, kernel = choose(f"{name} expansion", EXPANSIONS), choose(f"{name} kernel", KERNELS)
    after = ("norm", "relu6")
    inner = x
    if expansion > 1:
        inner = builder.conv(x, tuple(expansion * n for n in builder.slices(x)), kernel=1, after=after)
    inner = builder.depthwise(inner, kernel=kernel, stride=stride, after=after)
    out = builder.conv(inner, slices, kernel=1, after=("norm",))
    if stride == 1:
        builder.identity(x, out)
    return out
