"""Cells: every choice of a small cell, repeated at several widths and depths, so that all networks can be trained.

From the paper: a cell is a small graph whose edges are operations, one of no operation, identity, 1×1 convolution, 3×3
convolution and average pooling; a network repeats one cell in stages of half the size; a table of all trained networks
compares search methods in seconds. Ours: a cell of three nodes instead of four, a choice of width and depth, a pooling
and a 1×1 convolution between stages, and operating points by width.

References
----------
Dong & Yang, NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search, ICLR 2020, arXiv 2001.00326.
"""

from __future__ import annotations

from nas.errors import InvalidArchitecture
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.spaces.choices import Choose
from nas.spaces.references import Design, Reference, sizes_within
from search_spaces.images import check_task, fractions, num_stages, prefixes, stem_strides

OPERATIONS = ("none", "identity", "pool", "1x1", "3x3")
WIDTHS = (8, 16)
"""Channels of the first stage; each stage has twice the channels of the one before it."""
DEPTHS = (1, 2)
"""Cells of a stage."""
EDGES = ("input to middle", "middle to output", "input to output")
"""The edges of a cell, which are choices of an operation."""


class Cells:
    """Stacked small cells: 500 choices, which are 228 networks, so that all can be trained.

    A stem, then up to three stages of equal cells, each stage of half the size and twice the width. A cell sums, at its
    output, an operation on its input and one on its middle node, which is an operation on the input. Convolutions are
    preceded by a ReLU and followed by a norm. Choices that lead to the same network, such as those that differ in an
    operation after an unused middle node, have the same architecture.
    """

    by_name_only = True

    def architecture(self, choose: Choose, task: Task, *, points: int = 4) -> Architecture:
        """See :class:`nas.spaces.contract.SearchSpace`."""
        check_task("cells", task, points)
        width, depth = choose("width", WIDTHS), choose("depth", DEPTHS)
        cell = tuple(choose(edge, OPERATIONS) for edge in EDGES)
        builder, shares = Builder(task), fractions(1 / points, "linear", points)
        stride = stem_strides(task)[0]
        slices = prefixes(width, shares)
        x = builder.conv(builder.input, slices, kernel=max(3, stride + 1), stride=stride, after=("norm",))
        for stage in range(num_stages(builder.size(x))):
            if stage:
                pooled = builder.add("avg_pool", x, builder.map(slices), kernel=3, stride=2)
                slices = prefixes(width * 2**stage, shares)
                x = builder.conv(pooled, slices, kernel=1, before=("relu",), after=("norm",))
            for _ in range(depth):
                x = _add_cell(builder, x, cell, slices)
        builder.head(x, before=("norm", "relu"))
        return builder.architecture(points)

    def references(self, task: Task, max_macs: float, *, points: int = 4) -> list[Reference]:
        """See :class:`nas.spaces.references.ReferringSpace`."""
        design = Design(
            name="residual cells",
            size="width {width}, {depth} per stage",
            origin="He, Zhang, Ren & Sun (2016), arXiv 1603.05027: pre-activation blocks; widths throttle",
            answers=dict(zip(EDGES, ("3x3", "3x3", "identity"))),
            sizes=[{"width": width, "depth": depth} for width in WIDTHS for depth in DEPTHS],
        )
        return sizes_within(self, [design], task, max_macs, points=points)


def _add_cell(builder: Builder, x: int, cell: tuple[str, ...], slices: tuple[int, ...]) -> int:
    """Add a cell that reads map ``x``. Returns its output map, which is ``x`` if the cell is an identity.

    cell: the operations of its edges.
    """
    first, second, direct = cell
    from_input = [direct]
    if "identity" in (first, second) and "none" not in (first, second):
        # The middle node is the input, or it is only added to the output: one operation from input to output.
        from_input.append(second if first == "identity" else first)
        second = "none"
    from_input = sorted((kind for kind in from_input if kind != "none"), key=OPERATIONS.index)
    chained = "none" not in (first, second)
    if not (from_input or chained):
        raise InvalidArchitecture(f"A cell must lead from its input to its output. Got {', '.join(cell)}.")
    if from_input == ["identity"] and not chained:
        return x
    middle = _add_operation(builder, first, x, builder.map(slices)) if chained else x
    output = builder.map(slices)
    for kind in from_input:
        _add_operation(builder, kind, x, output)
    if chained:
        _add_operation(builder, second, middle, output)
    return output


def _add_operation(builder: Builder, kind: str, source: int, target: int) -> int:
    """Add an edge of a cell. Returns the target."""
    if kind == "identity":
        return builder.identity(source, target)
    if kind == "pool":
        return builder.add("avg_pool", source, target, kernel=3)
    return builder.add("conv", source, target, kernel=int(kind[0]), before=("relu",), after=("norm",))
