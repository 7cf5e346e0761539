"""SteppingNet: networks whose larger subnets build on the results of smaller ones, within budgets of MACs.

From the paper: a series of subnets whose accuracy rises as more MACs become available, each reusing the results of the
smaller ones; experiments on LeNet-3C1L, LeNet-5 and VGG-16 with four subnets. Our reconstruction, because the full text
was not available: budgets of 10, 30, 50 and 85 % of the original network's MACs; the operating points of the proposal,
which split the filters evenly within these budgets, and whose MACs are the budgets of the construction
(:mod:`evaluators.rules.stepping`); batch norms; a strided first convolution for images above 64 pixels; padding for
small images.

References
----------
Sun et al., SteppingNet: A Stepping Neural Network with Incremental Accuracy Enhancement, DATE 2023, arXiv 2211.14926.
LeCun, Bottou, Bengio & Haffner, Gradient-Based Learning Applied to Document Recognition, 1998 (LeNet-5).
Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015 (VGG-16).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from nas.errors import InvalidArchitecture, UserError, unknown_name
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Size, Task, TrainingSpec
from nas.representation.ownership import OwnershipMacs, owned_groups, with_slices
from nas.spaces.choices import Choose
from nas.spaces.references import Design, Reference, sizes_within
from search_spaces.images import check_task, stem_strides

LEAST_USE = 0.97
"""Share of a budget that a proposal uses, if layers with few filters more or less than an even share reach it."""
LARGEST_DIFFERENCE = 3
"""Filters by which a layer differs from its even share, at most."""
BUDGETS = (0.1, 0.3, 0.5, 0.85)
"""MACs of the operating points, relative to the original network."""
EXPANSION = 1.8
CIFAR = Task(input_shape=(3, 32, 32), num_classes=10)
SMALLEST_UNPADDED = 16
"""Smallest side, in pixels, of images on which the LeNets need no padding."""

WIDTHS = {"lenet_3c1l": (12, 16, 24, 32, 48), "lenet5": (12, 18, 24), "vgg16": (12, 16, 24, 32)}
TITLES = {"lenet_3c1l": "LeNet-3C1L", "lenet5": "LeNet-5", "vgg16": "VGG-16"}
EXPANSIONS = (1.4, 1.8, 2.2)
SMALLEST = (0.05, 0.1, 0.2)
LARGEST = (0.7, 0.85, 1.0)


def lenet_3c1l(
    width: int = 32,
    *,
    task: Task = CIFAR,
    expansion: float = EXPANSION,
    budgets: Sequence[float] = BUDGETS,
    padded: bool = False,
    norm: bool = True,
) -> Architecture:
    """Three convolutions and a linear classifier: 3×3, 3×3 and 5×5 without padding, a pooling after the last two.

    Parameters
    ----------
    width : int
        Filters of every convolution of the original network.
    task : Task
    expansion : float
        Number of filters to choose from, relative to the original network; at least 1.
    budgets : sequence of float
        MACs of the operating points, ascending, relative to the original network.
    padded : bool
        Convolutions keep the size, and sides of one pixel are not pooled.
    norm : bool
        Batch norms; the original has none.

    Returns
    -------
    Architecture

    Raises
    ------
    InvalidArchitecture
        If the image is too small, or if the budgets leave an operating point without filters.
    UserError
        If the expansion or the budgets are out of range.
    """
    return _stepping(_lenet_3c1l(width, task, padded=padded, norm=norm), expansion, budgets)


def lenet5(
    width: int = 6,
    *,
    task: Task = CIFAR,
    expansion: float = EXPANSION,
    budgets: Sequence[float] = BUDGETS,
    padded: bool = False,
    norm: bool = True,
) -> Architecture:
    """LeNet-5: two 5×5 convolutions with a pooling each, two hidden linear layers, a linear classifier.

    Parameters
    ----------
    width : int
        Filters of the first convolution; the other layers scale with it (16, 120 and 84 filters for 6).
    task, expansion, budgets, padded, norm
        As in :func:`lenet_3c1l`.

    Returns
    -------
    Architecture

    Raises
    ------
    InvalidArchitecture, UserError
        As in :func:`lenet_3c1l`.
    """
    return _stepping(_lenet5(width, task, padded=padded, norm=norm), expansion, budgets)


def vgg16(
    width: int = 64,
    *,
    task: Task = CIFAR,
    expansion: float = EXPANSION,
    budgets: Sequence[float] = BUDGETS,
    norm: bool = True,
) -> Architecture:
    """VGG-16 as used on CIFAR: thirteen 3×3 convolutions in five stages, two hidden linear layers of 8 × width.

    A stage ends in a pooling; sides of one pixel are not pooled.

    Parameters
    ----------
    width : int
        Filters of the first stage.
    task, expansion, budgets, norm
        As in :func:`lenet_3c1l`.

    Returns
    -------
    Architecture

    Raises
    ------
    InvalidArchitecture, UserError
        As in :func:`lenet_3c1l`.
    """
    return _stepping(_vgg16(width, task, norm=norm), expansion, budgets)


def any_width(
    base: str = "lenet_3c1l",
    width: int = 32,
    *,
    task: Task = CIFAR,
    budgets: Sequence[float] = BUDGETS,
    padded: bool = False,
    norm: bool = True,
) -> Architecture:
    """An any-width network, the baseline: block-triangular weights and equal slices, trained by the sandwich rule.

    There is one slice per operating point; the original is triangular element by element, with many more widths than
    operating points.

    Parameters
    ----------
    base : {"lenet_3c1l", "lenet5", "vgg16"}
    width, task, padded, norm
        As in the function of the base.
    budgets : sequence of float
        One per operating point, as in the function of the base. The largest point is as wide as the last budget allows;
        the others follow from equal slices, and do not meet theirs.

    Returns
    -------
    Architecture

    Raises
    ------
    InvalidArchitecture
        If the image is too small, or if the budgets leave an operating point without filters.
    UserError
        If the base is unknown or the budgets are out of range.
    """
    _check_budgets(budgets)
    original, levels = _original(base, width, task, padded=padded, norm=norm), len(budgets)
    full, macs, limit = np.array(_widths(original)), OwnershipMacs(original), budgets[-1] * original.costs[-1]
    parts = np.arange(1, levels + 1) / levels

    def prefixes(share: float) -> np.ndarray:
        return np.rint(share * np.outer(full, parts)).astype(np.int64)

    chosen = prefixes(_largest(lambda share: bool(macs(_owned(prefixes(share)))[-1] <= limit), 2.0))
    if not (_owned(chosen) > 0).all():
        raise InvalidArchitecture(f"Every slice must have a filter. Got prefixes {chosen.tolist()}: widen the network.")
    causal = with_slices(original, [tuple(row) for row in chosen.tolist()])
    return replace(causal, training=TrainingSpec(rule="sandwich"))


class Stepping:
    """SteppingNet: LeNet-3C1L, LeNet-5 or VGG-16 whose filters move between subnets under MAC budgets.

    Choices: the original network, its width, its expansion, and the budgets. The rule `stepping` constructs the
    subnets; with a different rule the operating points split the filters evenly.
    """

    def architecture(self, choose: Choose, task: Task, *, points: int = 4) -> Architecture:
        """See :class:`nas.spaces.contract.SearchSpace`."""
        check_task("stepping", task, points)
        base = choose("base", tuple(WIDTHS))
        width = choose(f"{base} width", WIDTHS[base])
        expansion = choose("expansion", EXPANSIONS)
        smallest = choose("smallest budget", SMALLEST) if points > 1 else 0.0
        budgets = spread_budgets(points, smallest, choose("largest budget", LARGEST))
        padded = min(task.input_shape[1:]) // stem_strides(task)[0] < SMALLEST_UNPADDED
        return _stepping(_original(base, width, task, padded=padded, norm=True), expansion, budgets)

    def references(self, task: Task, max_macs: float, *, points: int = 4) -> list[Reference]:
        """See :class:`nas.spaces.references.ReferringSpace`."""
        plain = {"expansion": EXPANSION, "smallest budget": BUDGETS[0], "largest budget": BUDGETS[-1]}
        designs = [
            Design(
                name=f"SteppingNet of {title}",
                size="width {" + base + " width}",
                origin="Sun et al. (2023), arXiv 2211.14926, with fewer filters",
                answers={**plain, "base": base},
                sizes=[{f"{base} width": width} for width in WIDTHS[base]],
            )
            for base, title in TITLES.items()
        ]
        return sizes_within(self, designs, task, max_macs, points=points)


def spread_budgets(points: int, smallest: float, largest: float) -> tuple[float, ...]:
    """Budgets for any number of points, evenly from the smallest to the largest.

    Parameters
    ----------
    points : int
        Number of operating points.
    smallest, largest : float
        MACs relative to the original network.

    Returns
    -------
    tuple of float
        One per point, ascending.

    Examples
    --------
    >>> spread_budgets(4, 0.1, 0.85), spread_budgets(1, 0.1, 0.85)
    ((0.1, 0.35, 0.6, 0.85), (0.85,))
    """
    if points == 1:
        return (largest,)
    return tuple(smallest + (largest - smallest) * level / (points - 1) for level in range(points))


class _Chain:
    """An original network under construction: a chain of layers of one slice each."""

    def __init__(self, task: Task, *, padded: bool, norm: bool):
        self.builder, self.padded = Builder(task), padded
        self.at, self.stride = self.builder.input, stem_strides(task)[0]
        self.after, self.bias = ("norm", "relu") if norm else ("relu",), not norm

    def conv(self, width: int, kernel: int) -> None:
        padding = None if self.padded else 0
        self._conv(width, kernel, padding=padding, stride=self.stride)
        self.stride = 1

    def pool(self) -> None:
        size = self.builder.size(self.at)
        kernel = tuple(2 if n > 1 or not self.padded else 1 for n in size)
        if max(kernel) > 1:
            target = self.builder.map(self.builder.slices(self.at))
            self.at = self.builder.add(
                "max_pool", self.at, target, kernel=kernel, stride=kernel, padding=0, wiring="causal"
            )

    def hidden(self, width: int) -> None:
        """Add a hidden linear layer; on a map it is a convolution over all positions."""
        size = self.builder.size(self.at)
        if max(size, default=1) > 1:
            self._conv(width, size, padding=0)
        else:
            target = self.builder.map(width)
            self.at = self.builder.add("linear", self.at, target, wiring="causal", after=self.after, bias=self.bias)

    def average(self) -> None:
        """Add the mean over all positions."""
        target = self.builder.map(self.builder.slices(self.at))
        self.at = self.builder.add("global_avg_pool", self.at, target, wiring="causal")

    def classified(self) -> Architecture:
        """The finished network, with a linear classifier over all positions of the last map."""
        size, classes = self.builder.size(self.at), self.builder.map(self.builder.task.num_classes)
        if max(size, default=1) > 1:
            self.builder.add("conv", self.at, classes, kernel=size, padding=0, bias=True)
        else:
            self.builder.add("linear", self.at, classes, bias=True)
        return self.builder.architecture(1, norm="shared")

    def _conv(self, width: int, kernel: int | Size, *, padding: int | None, stride: int = 1) -> None:
        self.at = self.builder.conv(
            self.at,
            width,
            kernel=kernel,
            padding=padding,
            stride=stride,
            wiring="causal",
            after=self.after,
            bias=self.bias,
        )


def _original(base: str, width: int, task: Task, *, padded: bool, norm: bool) -> Architecture:
    """The original network of a base by its name."""
    if base not in WIDTHS:
        raise UserError(unknown_name("base network", base, WIDTHS))
    if base == "vgg16":
        return _vgg16(width, task, norm=norm)
    return (_lenet_3c1l if base == "lenet_3c1l" else _lenet5)(width, task, padded=padded, norm=norm)


def _lenet_3c1l(width: int, task: Task, *, padded: bool, norm: bool) -> Architecture:
    chain = _Chain(task, padded=padded, norm=norm)
    chain.conv(width, 3)
    chain.conv(width, 3)
    chain.pool()
    chain.conv(width, 5)
    chain.pool()
    return chain.classified()


def _lenet5(width: int, task: Task, *, padded: bool, norm: bool) -> Architecture:
    chain = _Chain(task, padded=padded, norm=norm)
    chain.conv(width, 5)
    chain.pool()
    chain.conv(round(16 * width / 6), 5)
    chain.pool()
    chain.hidden(20 * width)
    chain.hidden(14 * width)
    return chain.classified()


def _vgg16(width: int, task: Task, *, norm: bool) -> Architecture:
    chain = _Chain(task, padded=True, norm=norm)
    for multiple, depth in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
        for _ in range(depth):
            chain.conv(multiple * width, 3)
        chain.pool()
    chain.average()
    chain.hidden(8 * width)
    chain.hidden(8 * width)
    return chain.classified()


def _check_budgets(budgets: Sequence[float]) -> None:
    ascending = all(a < b for a, b in pairwise(budgets))  # False for NaN
    if not (len(budgets) > 0 and budgets[0] > 0 and ascending):
        raise UserError(f"budgets must be positive shares of the original network's MACs, ascending. Got {budgets=}.")


def _stepping(original: Architecture, expansion: float, budgets: Sequence[float]) -> Architecture:
    """The proposal: filters split evenly within the budgets; the rule ``stepping`` constructs the subnets."""
    if not (1 <= expansion < math.inf):
        raise UserError(f"expansion must be finite and at least 1. Got {expansion=}.")
    _check_budgets(budgets)
    full = _widths(original)
    slices = _even_split(original, [round(expansion * n) for n in full], budgets)
    settings = (("expansion", float(expansion)), ("original", "-".join(map(str, full))))
    return replace(with_slices(original, slices), training=TrainingSpec(rule="stepping", settings=settings))


def _even_split(original: Architecture, widened: Sequence[int], budgets: Sequence[float]) -> list[tuple[int, ...]]:
    """Prefix lengths of every owned group, so that every level is within its budget and close to it."""
    macs, columns = OwnershipMacs(original), np.zeros((len(widened), 0), dtype=np.int64)
    for budget in budgets:
        column = _even_level(columns, np.array(widened), macs, budget * original.costs[-1])
        columns = np.column_stack([columns, column])
    return [tuple(row) for row in columns.tolist()]


def _even_level(columns: np.ndarray, widened: np.ndarray, macs: OwnershipMacs, limit: float) -> np.ndarray:
    """The prefix of every group at the next level.

    It is the largest common share of the filters within the limit of MACs, and then one more filter in each layer,
    first to last, if it still fits; while too little of the limit is used, layers change by a filter more or less.

    columns: prefixes at the levels before, (groups, levels). widened: number of filters of each group, (groups,).

    Raises InvalidArchitecture if one more filter of each group does not fit.
    """
    least = columns[:, -1] + 1 if columns.size else np.ones_like(widened)

    def column(share: float) -> np.ndarray:
        return np.maximum(least, (share * widened).astype(np.int64))

    def cost(column: np.ndarray) -> int:
        return int(macs(_owned(np.column_stack([columns, column])))[-1])

    def fits(column: np.ndarray) -> bool:
        return bool((column <= widened).all()) and cost(column) <= limit

    best = column(_largest(lambda share: fits(column(share)), 1.0))
    if not fits(best):
        raise InvalidArchitecture(
            "Within its budget, every operating point must have more filters in every layer than the one before. "
            f"Point {columns.shape[1]}, of {limit:,.0f} MACs, has no room for {best.tolist()} filters: widen the "
            "network, or ask for fewer points."
        )
    even, steps = best, np.eye(len(widened), dtype=np.int64)
    for step in steps:
        best = best + step if fits(best + step) else best
    changes = [*steps, *(up - down for up in steps for down in steps if up is not down)]
    for most in range(1, LARGEST_DIFFERENCE + 1):
        while cost(best) < LEAST_USE * limit:
            near = [best + change for change in changes]
            near = [each for each in near if (each >= least).all() and (abs(each - even) <= most).all() and fits(each)]
            closer = max(near, key=cost, default=best)
            if cost(closer) <= cost(best):
                break
            best = closer
    return best


def _owned(prefixes: np.ndarray) -> np.ndarray:
    return np.diff(prefixes, axis=1, prepend=0)


def _widths(original: Architecture) -> list[int]:
    return [original.topology.maps[maps[0]].channels for maps in owned_groups(original)]


def _largest(fits: Callable[[float], bool], most: float) -> float:
    """The largest number up to ``most`` that fits, by 24 bisections; 0 if none does."""
    if fits(most):
        return most
    low, high = 0.0, most
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
