"""Checks and conversions of the arrays that users pass: images to channels-first uint8 or float32, labels to int64.

Shape suffixes: N examples, C channels, T frames, H height, W width, S all axes after C.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nas.errors import DataError, unknown_name
from nas.evaluation.arrays import as_array

LAYOUTS = {"NHW": 3, "NCHW": 4, "NHWC": 4, "NCTHW": 5, "NTHWC": 5}
"""Orders of the axes of images, with the number of axes."""

CHUNK_BYTES = 2**22
"""Size of the slices in which large arrays are read."""

LEAST_LEVELS = 256
"""Least number of values that float32 must distinguish between the smallest and the largest pixel."""

LONGEST_SIDE_RATIO = 8
"""Arrays N×H×W with a larger ratio of their sides count as images only if their layout is named."""

_LIKELY_CHANNELS = range(1, 5)
_LARGEST_LABEL = 2**31


def chunks(array_N: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive slices of about 4 MiB and at least one example, as views, so that a memmap never fills the memory."""
    rows = max(1, CHUNK_BYTES * len(array_N) // max(1, array_N.nbytes))
    for start in range(0, len(array_N), rows):
        yield array_N[start : start + rows]


def evenly_spaced(array_N: np.ndarray, count: int = 100) -> np.ndarray:
    """At most ``count`` examples from the whole array, as a view."""
    return array_N[:: -(-len(array_N) // count)]


def guess_layout(shape: tuple[int, ...], name: str) -> str:
    """The layout that follows from the shape of images: exactly one axis, the second or the last, has 1 to 4 entries.

    Raises DataError if both or neither of these axes can hold the channels, or if arrays N×H×W look like sequences.

    >>> guess_layout((100, 28, 28), "x"), guess_layout((100, 32, 32, 3), "x"), guess_layout((9, 3, 8, 32, 32), "x")
    ('NHW', 'NHWC', 'NCTHW')
    """
    if len(shape) not in LAYOUTS.values():
        raise DataError(f"{name} must be N×H×W, N×H×W×C, N×C×H×W or N×C×T×H×W. Got shape {shape}. Reshape it.")
    if len(shape) == 3:
        if max(shape[1:]) > LONGEST_SIDE_RATIO * min(shape[1:]):
            raise DataError(
                f"{name} of shape {shape} looks like sequences, which are not supported. If these are grey images, say "
                "so: --layout NHW (layout= in Python)."
            )
        return "NHW"
    first, last = shape[1] in _LIKELY_CHANNELS, shape[-1] in _LIKELY_CHANNELS
    if first == last:
        options = "NCHW|NHWC|NHW" if len(shape) == 4 else "NCTHW|NTHWC"
        raise DataError(
            f"Exactly one axis, the second or the last, must look like channels (1 to 4). Got {name} of shape {shape}: "
            f"--layout {options} settles it (layout= in Python)."
        )
    spatial = "HW" if len(shape) == 4 else "THW"
    return f"NC{spatial}" if first else f"N{spatial}C"


def images(array: np.ndarray, name: str, layout: str) -> np.ndarray:
    """Images of any layout as (N, C, *S) uint8 or float32: a view if the dtype is one of these.

    bool and integers in 0..255 become uint8, floats become float32. Raises DataError.
    """
    if layout not in LAYOUTS:
        raise DataError(unknown_name("layout", layout, LAYOUTS))
    if array.ndim != LAYOUTS[layout]:
        raise DataError(
            f"{name} must have the {LAYOUTS[layout]} axes of --layout {layout}. Got shape {array.shape}. "
            "Name another layout, or reshape it."
        )
    array = _pixels(array, name)
    if layout == "NHW":
        return array[:, None]
    return np.moveaxis(array, -1, 1) if layout.endswith("C") else array


def _pixels(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype in (np.uint8, np.float32):
        return array
    if isinstance(array, np.memmap):
        raise DataError(
            f"{name} on disk must be uint8 or float32. Got {array.dtype}. "
            f"Convert it: numpy.save(file, {name}.astype('float32'))."
        )
    if array.dtype.kind == "f":
        return _single_precision(array, name)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 255:
        raise DataError(
            f"Integers in {name} must lie in 0..255. Got {array.dtype} from {low} to {high}. "
            f"Convert them: {name}.astype('float32')."
        )
    return array.astype(np.uint8)


def _single_precision(array: np.ndarray, name: str) -> np.ndarray:
    """Images as float32. Raises DataError if their differences would vanish."""
    low, high = array.min(), array.max()
    with np.errstate(over="ignore", invalid="ignore"):  # overflow gives inf, which the Dataset rejects
        if low < high and high - low < LEAST_LEVELS * np.spacing(np.float32(max(abs(low), abs(high)))):
            raise DataError(
                f"{name} must have {LEAST_LEVELS} levels or more in float32. Got {low} to {high}, which float32 does "
                f"not distinguish. Subtract the mean: {name} - {name}.mean()."
            )
        return array.astype(np.float32)


def labels(value: Any, name: str) -> np.ndarray:
    """Labels (N,) int64, from integers or integral floats of shape (N,) or (N, 1). Raises DataError."""
    array = np.asarray(as_array(value, name))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"{name} must have shape (N,) or (N, 1): one class for each image. Got {_other_task(array, name)}"
        )
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        fractional = some(array[~np.isfinite(array) | (array != np.rint(array))])
        raise DataError(
            f"{name} must hold whole numbers. Got {fractional}. Number the classes; regression, of numbers to predict, "
            "is not supported."
        )
    if array.max() >= _LARGEST_LABEL or array.min() <= -_LARGEST_LABEL:
        raise DataError(f"{name} must hold classes 0..K-1. Got {some(array)}. Number the classes without gaps.")
    return array.astype(np.int64, copy=False)


def _other_task(array: np.ndarray, name: str) -> str:
    """The meaning of labels with several axes, and a remedy."""
    if array.ndim < 1:
        return "one number."
    if array.ndim > 2:
        return f"{array.shape}, as of masks: segmentation is not supported."
    if ((array == array.max()).sum(axis=1) == 1).all() and np.isin(array, (0, array.max())).all():
        return f"{array.shape}. Convert one-hot labels: {name}.argmax(1)."
    return f"{array.shape}, which is not one-hot: several labels of an image, and boxes, are not supported."


def check_lengths(x: np.ndarray, y: np.ndarray, part: str) -> None:
    """Raise DataError unless every image has one label."""
    if y.shape != x.shape[:1]:
        raise DataError(
            f"y_{part} must have one label for every image. Got {len(x)} images and labels of shape {y.shape}."
        )


def check_classes(y_N: np.ndarray, *, at_least: int) -> int:
    """The number K of classes. Raises DataError unless they are 0..K-1, K ≥ 2, with `at_least` examples each."""
    classes, counts = np.unique(y_N, return_counts=True)
    remedy = "numpy.unique(y, return_inverse=True)[1] numbers classes."
    if classes[0] < 0:
        raise DataError(f"Labels must not be negative. Got {classes[0]} in y_train. Drop unlabelled examples; {remedy}")
    if len(classes) == 1:
        raise DataError(f"There must be at least two classes. Got {classes[0]} only in y_train. Add another class.")
    if classes[-1] != len(classes) - 1:
        missing = np.setdiff1d(np.arange(min(classes[-1], len(classes))), classes)
        raise DataError(
            f"Labels must be 0..{len(classes) - 1} without gaps, for {len(classes)} classes. "
            f"Got {classes[0]}..{classes[-1]} without {some(missing)} in y_train. {remedy}"
        )
    if counts.min() < at_least:
        purpose = "train and validate" if at_least == 2 else "train, validate and test"
        raise DataError(
            f"Every class needs at least {at_least} examples, to {purpose}. "
            f"Got {counts.min()} of class {counts.argmin()} in y_train. Add examples, or drop the class."
        )
    return len(classes)


def some(values: np.ndarray) -> str:
    """Up to three of the smallest different values, for a message."""
    distinct = np.unique(values)
    return ", ".join(f"{value}" for value in distinct[:3]) + (", …" if len(distinct) > 3 else "")
