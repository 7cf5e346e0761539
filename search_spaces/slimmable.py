"""Slimmable networks, the baseline: one fixed residual network whose operating points are widths.

From the papers: every layer runs at a fraction of its width, from shared weights; a slimmable network has a norm for
every width and sums the losses of all; a universally slimmable one (US-Net) trains the largest, the smallest and random
widths (the sandwich rule) and estimates the statistics of its norms again for every width after training. Ours: the
small backbone.

References
----------
Yu, Yang, Xu, Yang & Huang, Slimmable Neural Networks, ICLR 2019, arXiv 1812.08928.
Yu & Huang, Universally Slimmable Networks and Improved Training Techniques, ICCV 2019, arXiv 1903.05134.
He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, CVPR 2016 (the backbone's blocks).
"""

from __future__ import annotations

from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.spaces.choices import Choose
from nas.spaces.references import Design, Reference, sizes_within
from search_spaces.images import SMALLEST, check_task, fractions, link, num_stages, prefixes, stem, stem_strides

WIDTHS = (8, 12, 16, 20, 24, 28, 32, 40, 48)
RULES = {"per_point": "joint", "recalibrated": "sandwich"}
"""Training rule of each norm policy: a slimmable network, and a universally slimmable one."""


class Slimmable:
    """A fixed ResNet-8 at several widths (slimmable and US-Net baseline): width, stem stride and norm policy vary.

    A stem and up to three stages of one basic block, each stage of half the size and twice the width.
    """

    def architecture(self, choose: Choose, task: Task, *, points: int = 4) -> Architecture:
        """See :class:`nas.spaces.contract.SearchSpace`."""
        check_task("slimmable", task, points)
        shares = fractions(choose("smallest fraction", SMALLEST) if points > 1 else 1.0, "linear", points)
        width, norm = choose("width", WIDTHS), choose("norm", tuple(RULES))
        builder = Builder(task)
        x = stem(builder, choose, prefixes(width, shares), activation="relu")
        for stage in range(num_stages(builder.size(x))):
            slices, stride = prefixes(width * 2**stage, shares), 2 if stage else 1
            inner = builder.conv(x, slices, kernel=3, stride=stride, after=("norm", "relu"))
            out = builder.conv(inner, slices, kernel=3, after=("norm",), activation="relu")
            link(builder, x, out, "project" if stage else "identity", stride)
            x = out
        builder.head(x)
        return builder.architecture(points, norm=norm, rule=RULES[norm])

    def references(self, task: Task, max_macs: float, *, points: int = 4) -> list[Reference]:
        """See :class:`nas.spaces.references.ReferringSpace`."""
        sizes = [{"width": width, "stem stride": stem_strides(task)[-1]} for width in WIDTHS]
        design = Design(
            name="US-Net of a ResNet-8",
            size="width {width}",
            origin="Yu & Huang (2019), arXiv 1903.05134: sandwich rule; ResNet of He et al. (2016)",
            answers={"smallest fraction": 0.25, "norm": "recalibrated"},
            sizes=sizes,
        )
        return sizes_within(self, [design], task, max_macs, points=points)
