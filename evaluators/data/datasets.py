"""Labelled images in one checked form, :class:`Dataset`, and their conversion from arrays.

All rules about data are checked in `Dataset`. torch is not imported here.
Shape suffixes: N examples, C channels, T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.data.arrays import (
    check_classes,
    check_lengths,
    chunks,
    evenly_spaced,
    guess_layout,
    images,
    labels,
    some,
)
from evaluators.data.fingerprint import ContentHashes
from evaluators.data.hierarchy import Hierarchy, check_coarse_labels, from_coarse_labels
from evaluators.data.splitting import split_keeping
from nas.errors import DataError, InvalidArchitecture
from nas.evaluation.arrays import as_array, reject_masked, texts, truth

if TYPE_CHECKING:
    from nas.representation.elements import Task

LARGEST_SCALE_RATIO = 50
"""Largest ratio of the mean absolute pixels of two parts: 0..1 and 0..255 are further apart."""


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
        (N,) int64. The training set has at least two examples of every class 0..num_classes-1, one with x_val.
    num_classes
        Number of classes.
    x_val, y_val
        Validation images and labels, as the test images; None: a part of the training images validates.
    hierarchy
        Coarser labellings of the classes, see :class:`nas.representation.elements.Task`.
    class_names
        Names of all classes, or none.
    mirror_invariant
        Whether images keep their class when mirrored left to right; they are then mirrored in training by default.

    Raises
    ------
    DataError
        One of these requirements does not hold.

    Notes
    -----
    The arrays are not copied: do not change them afterwards. They may be read-only.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    num_classes: int
    x_val: np.ndarray | None = None
    y_val: np.ndarray | None = None
    hierarchy: Hierarchy = ()
    class_names: tuple[str, ...] = ()
    mirror_invariant: bool = False

    def __post_init__(self) -> None:
        check_pair(self.x_val, self.y_val, "val")
        truth(self.mirror_invariant, "mirror_invariant")
        for part, (x, y) in self.parts.items():
            _check_part(x, y, part)
        classes = check_classes(self.y_train, at_least=2 if self.x_val is None else 1)
        if classes != self.num_classes:
            raise DataError(f"num_classes must count the classes of y_train, {classes}. Got {self.num_classes=}.")
        for part, (x, y) in self.parts.items():
            if part != "train":
                _check_as_training(self.x_train, x, part)
                _check_labels(classes, y, part)
        names = self.class_names
        if names and not (len(names) == classes == len(set(names)) and all(isinstance(name, str) for name in names)):
            raise DataError(f"class_names must be {classes} different names, one for each class. Got {names!r:.200}.")
        try:
            _ = self.task
        except InvalidArchitecture as error:
            raise DataError(str(error)) from error

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: with the hashes, and with arrays that can be passed on uncopied, see :class:`_Ordered`."""
        return {
            name: _Ordered.of(value) if isinstance(value, np.ndarray) else value
            for name, value in (self.__dict__ | {"_hashes": self._hashes}).items()
        }

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """From pickle: the data were checked when they were made."""
        for name, value in state.items():
            self.__dict__[name] = value.array() if isinstance(value, _Ordered) else value

    @property
    def parts(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Images and labels by part: train, test, and val if it is given."""
        parts = {"train": (self.x_train, self.y_train), "test": (self.x_test, self.y_test)}
        if self.x_val is not None and self.y_val is not None:
            parts["val"] = (self.x_val, self.y_val)
        return parts

    @property
    def task(self) -> Task:
        """Input shape, number of classes and label hierarchy."""
        from nas.representation.elements import Task

        shape = tuple(int(size) for size in self.x_train.shape[1:])
        return Task(input_shape=shape, num_classes=self.num_classes, hierarchy=self.hierarchy)

    @cached_property
    def _hashes(self) -> tuple[str, dict[str, str]]:
        return self.hash_content()

    def hash_content(self) -> tuple[str, dict[str, str]]:
        """Read all arrays and hash them.

        Returns
        -------
        fingerprint, parts
            Of the present content. The properties have those of their first use.
        """
        hashes = ContentHashes()
        for part, (x, y) in self.parts.items():
            hashes.add({"train": "training", "val": "validation"}.get(part, part), x, y)
        if self.hierarchy:
            hashes.whole.update(repr(self.hierarchy).encode())
        return hashes.result(classes=f"{self.num_classes} {self.hierarchy!r}")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of shapes, dtypes, content and hierarchy; the same in memory and on disk, and for any strides.

        Covers every byte of arrays up to 1 GiB (0.3 s for Fashion-MNIST), and evenly spaced examples of larger arrays.
        """
        return self._hashes[0]

    @property
    def fingerprint_parts(self) -> dict[str, str]:
        """Hashes of the parts of the data, see :class:`nas.evaluation.evaluator.DataInfo`."""
        return self._hashes[1]


@dataclass(frozen=True, slots=True)
class _Ordered:
    """An array with its axes in the order of the memory, which pickle (protocol 5) passes on without a copy.

    Images N×H×W×C, for example, are viewed as N×C×H×W, which pickle would copy. The strides stay the same, because
    sums in another order would round differently. axes: the permutation that restores the order of the axes.
    """

    memory: np.ndarray
    axes: tuple[int, ...]

    @staticmethod
    def of(array: np.ndarray) -> _Ordered:
        order = sorted(range(array.ndim), key=lambda axis: (-array.strides[axis], -array.shape[axis]))
        memory = np.ascontiguousarray(np.asarray(array).transpose(order))
        return _Ordered(memory, tuple(int(axis) for axis in np.argsort(order)))

    def array(self) -> np.ndarray:
        return self.memory.transpose(self.axes)


def check_pair(x: Any, y: Any, part: str) -> None:
    """Raise DataError if only one of images and labels is given."""
    if (x is None) != (y is None):
        raise DataError(f"x_{part} and y_{part} come together. Got only one: pass both, or neither.")


def _check_part(x: np.ndarray, y: np.ndarray, part: str) -> None:
    for name, array, dtypes in ((f"x_{part}", x, ("uint8", "float32")), (f"y_{part}", y, ("int64",))):
        if not isinstance(array, np.ndarray) or array.dtype.name not in dtypes or not array.dtype.isnative:
            got = getattr(array, "dtype", type(array).__name__)
            raise DataError(f"{name} must be a {' or '.join(dtypes)} array. Got {got}. from_arrays converts it.")
        reject_masked(array, name)
    if x.ndim not in (4, 5) or not x.size:
        raise DataError(f"x_{part} must be (N, C, H, W) or (N, C, T, H, W). Got shape {x.shape}. See from_arrays.")
    check_lengths(x, y, part)
    if x.dtype == np.float32 and not all(np.isfinite(chunk).all() for chunk in chunks(x)):
        raise DataError(f"x_{part} must be finite in float32. Got NaN or infinity. numpy.nan_to_num mends it.")


def _check_as_training(x_train: np.ndarray, x: np.ndarray, part: str) -> None:
    """Raise DataError unless images have shape, dtype and scale of the training images."""
    for property_, expected, got in (
        ("shape", x_train.shape[1:], x.shape[1:]),
        ("dtype", x_train.dtype, x.dtype),
    ):
        if expected != got:
            raise DataError(
                f"All images must have the {property_} of training images. "
                f"Got {expected} in x_train, {got} in x_{part}. Prepare both in the same way."
            )
    usual, scale = (float(np.abs(evenly_spaced(array), dtype=np.float64).mean()) for array in (x_train, x))
    if min(usual, scale) > 0 and max(usual / scale, scale / usual) > LARGEST_SCALE_RATIO:
        raise DataError(
            f"x_{part} must have the scale of x_train. Got {scale:.3g} as mean absolute value, and {usual:.3g} in "
            "x_train. Prepare both in the same way, such as 0..1 or 0..255."
        )


def _check_labels(classes: int, y_N: np.ndarray, part: str) -> None:
    """Raise DataError for classes that are not in the training set."""
    unseen = np.setdiff1d(y_N, np.arange(classes))
    if unseen.size:
        raise DataError(
            f"All labels must be classes of the training set, 0..{classes - 1}. Got {some(unseen)} in y_{part}. "
            "Drop these examples, or add training examples of these classes."
        )


def from_arrays(
    x_train: Any,
    y_train: Any,
    x_test: Any = None,
    y_test: Any = None,
    *,
    x_val: Any = None,
    y_val: Any = None,
    y_train_coarse: Any = None,
    y_test_coarse: Any = None,
    y_val_coarse: Any = None,
    class_names: Any = (),
    mirror_invariant: Any = False,
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
    x_val, y_val
        Validation images and labels. By default a part of the training images validates.
    y_train_coarse
        A label hierarchy: coarse labels (N,) of the training images, 0..n-1, or (N, H) for H coarser labellings,
        finest first.
    y_test_coarse, y_val_coarse
        Coarse labels of the test and the validation images; checked against the hierarchy.
    class_names
        Names (K,) of the classes, in their order: text, or bytes in UTF-8.
    mirror_invariant
        See :class:`Dataset`.
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
    for part, pair in {"test": (x_test, y_test), "val": (x_val, y_val)}.items():
        check_pair(*pair, part)
    x = as_array(x_train, "x_train")
    layout = layout or guess_layout(x.shape, "x_train")
    x, y = images(x, "x_train", layout), labels(y_train, "y_train")
    check_lengths(x, y, "train")
    hierarchy = () if y_train_coarse is None else from_coarse_labels(y, y_train_coarse, "y_train_coarse")
    if x_val is not None:
        x_val, y_val = images(as_array(x_val, "x_val"), "x_val", layout), labels(y_val, "y_val")
    if x_test is None:
        x, y, x_test, y_test = _held_out(x, y, test_fraction, seed, keep=2 if x_val is None else 1)
    else:
        x_test, y_test = images(as_array(x_test, "x_test"), "x_test", layout), labels(y_test, "y_test")
    data = Dataset(
        name=name,
        x_train=x,
        y_train=y,
        x_test=x_test,
        y_test=y_test,
        num_classes=int(y.max()) + 1,
        x_val=x_val,
        y_val=y_val,
        hierarchy=hierarchy,
        class_names=texts(class_names, "class_names"),
        mirror_invariant=truth(mirror_invariant, "mirror_invariant"),
    )
    for part, coarse in {"test": y_test_coarse, "val": y_val_coarse}.items():
        if coarse is not None:
            check_coarse_labels(hierarchy, getattr(data, f"y_{part}"), coarse, f"y_{part}_coarse")
    return data


def _held_out(x: np.ndarray, y: np.ndarray, fraction: float, seed: int, *, keep: int) -> tuple[np.ndarray, ...]:
    """Images and labels without a stratified part, and this part, which becomes the test set."""
    if isinstance(x, np.memmap):
        raise DataError("Images on disk need a test set of their own. Got none: save x_test and y_test too.")
    check_classes(y, at_least=keep + 1)
    train, test = split_keeping(y, fraction=fraction, seed=seed, keep=keep)
    return x[train], y[train], x[test], y[test]
