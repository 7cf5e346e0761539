"""Labelled images in one checked form, :class:`Dataset`, and their conversion from arrays.

All rules about data are checked in `Dataset`. torch is not imported here.
Shape suffixes: N examples, C channels, T frames, H height, W width.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.data.arrays import (
    as_array,
    check_classes,
    check_lengths,
    chunks,
    guess_layout,
    images,
    labels,
    some,
)
from evaluators.data.hierarchy import Hierarchy, check_coarse_labels, from_coarse_labels
from evaluators.data.splitting import split_keeping
from nas.errors import DataError, InvalidArchitecture

if TYPE_CHECKING:
    from nas.representation.elements import Task

HASHED_BYTES = 2**30
"""Bytes of each array that the fingerprint covers completely."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Labelled images or videos, channels first, with a test set.

    Parameters
    ----------
    name
        For display; not part of the fingerprint.
    x_train, x_test
        (N, C, H, W) or (N, C, T, H, W), both uint8 or both float32 and finite, with any strides. A `numpy.memmap`
        stays on disk.
    y_train, y_test
        (N,) int64. The training set has at least two examples of every class 0..num_classes-1.
    num_classes
        Number of classes.
    hierarchy
        Coarser labellings of the classes, see :class:`nas.representation.elements.Task`.
    class_names
        Names of all classes, or none.

    Raises
    ------
    DataError
        One of these requirements does not hold.

    Notes
    -----
    The arrays are not copied: do not change them afterwards.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    num_classes: int
    hierarchy: Hierarchy = ()
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_part(self.x_train, self.y_train, "train")
        _check_part(self.x_test, self.y_test, "test")
        for property_, train, test in (
            ("shape", self.x_train.shape[1:], self.x_test.shape[1:]),
            ("dtype", self.x_train.dtype, self.x_test.dtype),
        ):
            if train != test:
                raise DataError(
                    f"Test images must have the {property_} of training images. "
                    f"Got {train} in x_train, {test} in x_test. Prepare both in the same way."
                )
        classes = check_classes(self.y_train, at_least=2)
        if classes != self.num_classes:
            raise DataError(f"num_classes must count the classes of y_train, {classes}. Got {self.num_classes=}.")
        unseen = np.setdiff1d(self.y_test, np.arange(classes))
        if unseen.size:
            raise DataError(
                f"Test labels must be classes of the training set, 0..{classes - 1}. Got {some(unseen)} in y_test. "
                "Drop these examples, or add training examples of these classes."
            )
        names = self.class_names
        if names and not (len(names) == classes == len(set(names)) and all(isinstance(name, str) for name in names)):
            raise DataError(f"class_names must be {classes} different names, one for each class. Got {names!r:.200}.")
        try:
            _ = self.task
        except InvalidArchitecture as error:
            raise DataError(str(error)) from error

    @property
    def task(self) -> Task:
        """Input shape, number of classes and label hierarchy."""
        from nas.representation.elements import Task

        shape = tuple(int(size) for size in self.x_train.shape[1:])
        return Task(input_shape=shape, num_classes=self.num_classes, hierarchy=self.hierarchy)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shapes, dtypes, content and hierarchy; the same in memory and on disk, and for any strides.

        Covers every byte of arrays up to 1 GiB (0.1 s for Fashion-MNIST), and evenly spaced examples of larger arrays.
        """
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            for chunk in chunks(array[:: 1 + array.nbytes // HASHED_BYTES]):
                digest.update(np.ascontiguousarray(chunk).data.cast("B"))
        if self.hierarchy:
            digest.update(repr(self.hierarchy).encode())
        return digest.hexdigest()


def _check_part(x: np.ndarray, y: np.ndarray, part: str) -> None:
    for name, array, dtypes in ((f"x_{part}", x, ("uint8", "float32")), (f"y_{part}", y, ("int64",))):
        if not isinstance(array, np.ndarray) or array.dtype.name not in dtypes or not array.dtype.isnative:
            got = getattr(array, "dtype", type(array).__name__)
            raise DataError(f"{name} must be a {' or '.join(dtypes)} array. Got {got}. from_arrays converts it.")
    if x.ndim not in (4, 5) or not x.size:
        raise DataError(f"x_{part} must be (N, C, H, W) or (N, C, T, H, W). Got shape {x.shape}. See from_arrays.")
    check_lengths(x, y, part)
    if x.dtype == np.float32 and not all(np.isfinite(chunk).all() for chunk in chunks(x)):
        raise DataError(f"x_{part} must be finite in float32. Got NaN or infinity. numpy.nan_to_num mends it.")


def from_arrays(
    x_train: Any,
    y_train: Any,
    x_test: Any = None,
    y_test: Any = None,
    *,
    y_train_coarse: Any = None,
    y_test_coarse: Any = None,
    class_names: Any = (),
    name: str = "arrays",
    layout: str | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """A Dataset from NumPy arrays, torch tensors or nested lists. Arrays are copied only if their dtype must change.

    Parameters
    ----------
    x_train, x_test
        Images N×H×W, N×H×W×C or N×C×H×W, or videos N×C×T×H×W or N×T×H×W×C. bool, uint8 and integers in 0..255 become
        uint8, floats become float32. A memmap stays on disk and must be uint8 or float32.
    y_train, y_test
        Integers, or floats with integral values, of shape (N,) or (N, 1).
    y_train_coarse
        A label hierarchy: coarse labels (N,) of the training images, 0..n-1, or (N, H) for H coarser labellings,
        finest first.
    y_test_coarse
        Coarse labels of the test images; checked against the hierarchy.
    class_names
        Names (K,) of the classes.
    name
        For display.
    layout
        One of `evaluators.data.arrays.LAYOUTS`. Required unless exactly one axis, the second or the last, has 1 to 4
        entries.
    test_fraction, seed
        Without a test set, this stratified part of the training data becomes the test set.

    Returns
    -------
    Dataset
        The checked data.

    Raises
    ------
    DataError
        The arrays are not labelled images, see :class:`Dataset`.

    Examples
    --------
    >>> images, labels = np.zeros((30, 8, 8), np.uint8), np.arange(30) % 3
    >>> from_arrays(images, labels).task.input_shape
    (1, 8, 8)
    """
    if (x_test is None) != (y_test is None):
        raise DataError("x_test and y_test come together. Got only one: pass both, or neither to hold out a part.")
    x = as_array(x_train, "x_train")
    layout = layout or guess_layout(x.shape, "x_train")
    x, y = images(x, "x_train", layout), labels(y_train, "y_train")
    check_lengths(x, y, "train")
    hierarchy = () if y_train_coarse is None else from_coarse_labels(y, y_train_coarse, "y_train_coarse")
    if x_test is None:
        if isinstance(x, np.memmap):
            raise DataError("Images on disk need a test set of their own. Got none: save x_test and y_test too.")
        check_classes(y, at_least=3)
        train, test = split_keeping(y, fraction=test_fraction, seed=seed, keep=2)
        x, y, x_test, y_test = x[train], y[train], x[test], y[test]
    else:
        x_test, y_test = images(as_array(x_test, "x_test"), "x_test", layout), labels(y_test, "y_test")
    data = Dataset(
        name=name,
        x_train=x,
        y_train=y,
        x_test=x_test,
        y_test=y_test,
        num_classes=int(y.max()) + 1,
        hierarchy=hierarchy,
        class_names=tuple(str(text) for text in class_names),
    )
    if y_test_coarse is not None:
        check_coarse_labels(hierarchy, data.y_test, y_test_coarse, "y_test_coarse")
    return data
