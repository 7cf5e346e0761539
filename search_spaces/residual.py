"""Residual supernets: networks of skip-connected stages in which topology varies, not only size. The TIPS family.

From the paper: the supernet is a graph whose edges are operations and whose nodes are their outputs; removing edges
gives the subnetworks of an anytime network, and which operations lie on important paths matters for how well it trains.
Our reconstruction, because the full text was not available: the blocks, the patterns of skips and parallel branches,
and operating points by width.

References
----------
Li, Bhardwaj, Yang & Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks,
ICML 2023, arXiv 2305.08021.
He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, CVPR 2016 (basic and bottleneck blocks).
"""

from __future__ import annotations

from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.spaces.choices import Choose, Primitive
from nas.spaces.references import Design, Reference, sizes_within
from search_spaces.images import check_task, choose_fractions, link, num_stages, prefixes, stem, stem_strides

WIDTHS = (16, 20, 24, 32, 40)
GROWTHS = (1.0, 1.5, 2.0)
DEPTHS = ((1, 2), (1, 2, 3), (1, 2, 3))
"""Number of blocks of each stage; the first stage has the largest maps."""
BODIES = ("basic", "bottleneck", "separable")
KERNELS = (3, 5)
EXPANSIONS = (0.25, 0.5)
BRANCHES = ("none", "project", "pool")
REACHES = (0, 2, 3)
WITHIN = ("identity", "project")
ACROSS = ("project", "pool")
LONG = ("none", "project", "pool")
NARROWEST = 16
"""Smallest full width of a map, so that eight operating points have different prefixes."""


class Residual:
    """Skip-connected supernets (TIPS): block types, extra skips and parallel branches vary; widths throttle.

    A strided or plain stem, then up to three stages of blocks, each stage of half the size. A block is a body (two
    convolutions; a bottleneck; or a separable convolution) beside a shortcut, and maybe a parallel branch. A skip may
    start two or three blocks back, also in an earlier stage, and a long skip may lead from the stem to the last block.
    All are summed, normalised before and activated after the sum. Branches and additional skips are optional
    operations.
    """

    def architecture(self, choose: Choose, task: Task, *, points: int = 4) -> Architecture:
        """See :class:`nas.spaces.contract.SearchSpace`."""
        check_task("residual", task, points)
        shares = choose_fractions(choose, points)
        width = choose("width", WIDTHS)
        net = _Supernet(task, choose, shares, prefixes(width, shares))
        for stage in range(num_stages(net.builder.size(net.nodes[0]))):
            if stage:
                width = int(width * choose(f"{stage} growth", GROWTHS)) // 4 * 4
            slices = prefixes(width, shares)
            for block in range(choose(f"{stage} depth", DEPTHS[stage])):
                net.block(f"{stage}.{block}", stage, slices)
        long = choose("long skip", LONG)
        if long != "none":
            net.skip(0, net.nodes[-1], net.stages[-1], long)
        net.builder.head(net.nodes[-1])
        return net.builder.architecture(points)

    def references(self, task: Task, max_macs: float, *, points: int = 4) -> list[Reference]:
        """See :class:`nas.spaces.references.ReferringSpace`."""
        plain: dict[str, Primitive] = {
            "spacing": "linear",
            "smallest fraction": 0.25,
            "growth": 2.0,
            "long skip": "none",
        }
        plain |= {"body": "basic", "kernel": 3, "shortcut": "project", "branch": "none", "skip": 0}
        plain["stem stride"] = stem_strides(task)[-1]
        designs = [
            Design(
                name=f"ResNet-{2 + 6 * depth}",
                size="width {width}",
                origin="He, Zhang, Ren & Sun (2016), CVPR; widths throttle",
                answers={**plain, "depth": depth},
                sizes=[{"width": width} for width in WIDTHS],
            )
            for depth in DEPTHS[0]
        ]
        return sizes_within(self, designs, task, max_macs, points=points)


class _Supernet:
    """A network under construction.

    nodes: the output maps of the stem and of every block.
    stages: the stage of each node.
    links: the connections into the latest block's output beside its body, as (position of the source node, style).
    """

    def __init__(self, task: Task, choose: Choose, shares: tuple[float, ...], slices: tuple[int, ...]):
        self.builder, self.choose, self.shares = Builder(task), choose, shares
        self.nodes = [stem(self.builder, choose, slices, activation="relu")]
        self.stages = [0]
        self.links: set[tuple[int, str]] = set()

    def block(self, name: str, stage: int, slices: tuple[int, ...]) -> None:
        """Append a block: a body, a shortcut, and maybe a parallel branch and a skip from an earlier node."""
        choose, last = self.choose, len(self.nodes) - 1
        target = self._body(name, slices, 2 ** (stage - self.stages[-1]))
        self.links.clear()
        across = stage > self.stages[-1]
        self.skip(last, target, stage, choose(f"{name} shortcut", ACROSS) if across else "identity", optional=False)
        branch = choose(f"{name} branch", BRANCHES)
        if branch != "none":
            self.skip(last, target, stage, branch)
        if last > 0:
            start = last + 1 - choose(f"{name} skip", REACHES)
            if 0 <= start < last:
                across = stage > self.stages[start]
                style = choose(f"{name} skip across", ACROSS) if across else choose(f"{name} skip within", WITHIN)
                self.skip(start, target, stage, style)
        self.nodes.append(target)
        self.stages.append(stage)

    def skip(self, start: int, target: int, stage: int, style: str, *, optional: bool = True) -> None:
        """Add a link from the node at position ``start``, unless there is one of this style already."""
        if (start, style) not in self.links:
            self.links.add((start, style))
            link(self.builder, self.nodes[start], target, style, 2 ** (stage - self.stages[start]), optional=optional)

    def _body(self, name: str, slices: tuple[int, ...], stride: int) -> int:
        """Add the convolutions of a block; their output map is activated after the sum."""
        builder, choose, source, after = self.builder, self.choose, self.nodes[-1], ("norm", "relu")
        body, kernel = choose(f"{name} body", BODIES), choose(f"{name} kernel", KERNELS)
        if body == "separable":
            inner = builder.depthwise(source, kernel=kernel, stride=stride, after=after)
        elif body == "basic":
            inner = builder.conv(source, slices, kernel=kernel, stride=stride, after=after)
        else:
            full = max(NARROWEST, int(slices[-1] * choose(f"{name} expansion", EXPANSIONS)) // 4 * 4)
            middle = prefixes(full, self.shares)
            inner = builder.conv(source, middle, kernel=1, after=after)
            inner = builder.conv(inner, middle, kernel=kernel, stride=stride, after=after)
        last = 3 if body == "basic" else 1
        return builder.conv(inner, slices, kernel=last, after=("norm",), activation="relu")
