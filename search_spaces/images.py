"""Shared parts of the image spaces: stems, number of stages, widths of operating points, and skips."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from nas.errors import InvalidArchitecture, UserError
from nas.representation.builder import Builder, widths
from nas.representation.elements import Task
from nas.spaces.choices import Choose

SMALLEST = (0.25, 0.375, 0.5)
SPACINGS = ("geometric", "linear")
LARGEST_FULL_SIZE = 64
"""Images above this many pixels in a side are shrunk to it by the stem."""
SMALLEST_STRIDED_SIZE = 24


def check_task(space: str, task: Task, points: int, *, video: bool = False) -> None:
    """Raise UserError unless the task has images (or videos, if ``video``), and ``points`` is positive."""
    if len(task.input_shape) != 3 and not (video and len(task.input_shape) == 4):
        raise UserError(
            f"The space {space!r} takes images: channels, height and width. Got input_shape={task.input_shape}."
            + (" Video needs a space of its own." if len(task.input_shape) == 4 else "")
        )
    if points < 1:
        raise UserError(f"A network must have at least one operating point. Got {points=}.")


@lru_cache
def stem_strides(task: Task) -> tuple[int, ...]:
    """The strides that a stem may have: 1 for small images, 1 or 2 from 24 pixels on, more for large images.

    >>> [stem_strides(Task(input_shape=(3, n, n), num_classes=10)) for n in (8, 32, 224)]
    [(1,), (1, 2), (4, 8)]
    """
    side = max(task.input_shape[1:])
    if side < SMALLEST_STRIDED_SIZE:
        return (1,)
    stride = 1
    while -(-side // stride) > LARGEST_FULL_SIZE:
        stride *= 2
    return (stride, 2 * stride)


def num_stages(size: Sequence[int]) -> int:
    """Number of stages, each of half the size of the one before: 3 for maps of at least 8 pixels, fewer for smaller.

    >>> num_stages((8, 8)), num_stages((4, 4)), num_stages((1, 1))
    (3, 2, 1)
    """
    side = max(size)
    return 3 if side >= 8 else 2 if side >= 4 else 1


def choose_fractions(choose: Choose, points: int) -> tuple[float, ...]:
    """Choose the widths of the operating points relative to the full width: the smallest one and the spacing."""
    smallest = choose("smallest fraction", SMALLEST) if points > 1 else 1.0
    return fractions(smallest, choose("spacing", SPACINGS) if points > 2 else "linear", points)


@lru_cache
def fractions(smallest: float, spacing: str, points: int) -> tuple[float, ...]:
    """Ascending fractions from the smallest to 1.

    >>> fractions(0.25, "linear", 4), fractions(0.25, "geometric", 3), fractions(0.25, "linear", 1)
    ((0.25, 0.5, 0.75, 1.0), (0.25, 0.5, 1.0), (1.0,))
    """
    steps = [level / (points - 1) for level in range(points)] if points > 1 else [1.0]
    if spacing == "geometric":
        return tuple(smallest ** (1 - step) for step in steps)
    return tuple(smallest + (1 - smallest) * step for step in steps)


@lru_cache(maxsize=4096)
def prefixes(full: int, shares: tuple[float, ...]) -> tuple[int, ...]:
    """Prefix lengths of a map at these fractions: multiples of 4 channels if they differ, else of 2 or of 1.

    Raises InvalidArchitecture if the map is too narrow for this number of points.

    >>> prefixes(32, (0.25, 0.5, 0.75, 1.0)), prefixes(12, (0.25, 0.5, 0.75, 1.0))
    ((8, 16, 24, 32), (4, 6, 8, 12))
    """
    for divisor in (4, 2):
        try:
            if full % divisor == 0:
                return widths(full, shares, divisor=divisor)
        except InvalidArchitecture:
            continue
    return widths(full, shares, divisor=1)


def stem(builder: Builder, choose: Choose, slices: tuple[int, ...], *, activation: str) -> int:
    """Add the first convolution, with norm and activation; its stride is a choice if there are several."""
    strides = stem_strides(builder.task)
    stride = choose("stem stride", strides) if len(strides) > 1 else strides[0]
    kernel = max(3, stride + 1)
    return builder.conv(builder.input, slices, kernel=kernel, stride=stride, after=("norm",), activation=activation)


def link(builder: Builder, source: int, target: int, style: str, stride: int, *, optional: bool = False) -> None:
    """Add a connection beside the main path into an existing map.

    style: "identity", for maps of the same size and widths; "pool", an average over windows with aligned channels, and
        zeros for additional channels of the target; "project", a 1×1 convolution with a norm.
    stride: a power of two; the size shrinks as under log2(stride) strided 3×3 convolutions.
    """
    if style == "project":
        builder.add("conv", source, target, kernel=1, stride=stride, after=("norm",), optional=optional)
    elif style == "pool":
        builder.add("avg_pool", source, target, kernel=max(3, stride + 1), stride=stride, optional=optional)
    else:
        builder.identity(source, target, optional=optional)
