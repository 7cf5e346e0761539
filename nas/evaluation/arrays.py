"""Arrays that users pass: NumPy arrays, tensors, nested lists. Nothing of them may vanish on the way."""

from __future__ import annotations

from typing import Any

import numpy as np

from nas.errors import DataError, one_line

PARTS = ("x_train", "y_train", "x_test", "y_test")
"""Names of the arrays of a data set: in a file npz, a folder npy, a mapping or an object."""
EXTRAS = ("y_train_coarse", "class_names", "y_test_coarse")
"""Names of optional arrays."""
VALIDATION = ("x_val", "y_val", "y_val_coarse", "mirror_invariant")
"""Names of further optional arrays."""


def as_array(value: Any, name: str) -> np.ndarray:
    """A non-empty array of numbers, from a NumPy array, a tensor of any device and dtype, or nested lists.

    Memmaps and native arrays are not copied.

    Parameters
    ----------
    value
        The array.
    name
        Its name, for messages.

    Raises
    ------
    DataError
        If it is no array of numbers, or if some of its entries are masked.
    """
    reject_masked(value, name)
    try:
        if hasattr(value, "detach"):  # a tensor: NumPy has no bfloat16, and floats become float32 in any case
            value = value.detach().cpu()
            value = value.float() if value.is_floating_point() else value
        array = value if isinstance(value, np.memmap) else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f"{type(value).__name__}: {one_line(error)}"
        raise DataError(
            f"{name} must be one array of numbers. Got {got}. Stack equal shapes by numpy.stack."
        ) from error
    if array.dtype.kind not in "buif":
        raise DataError(
            f"{name} must hold numbers. Got dtype {array.dtype}. "
            "Stack images by numpy.stack; number labels by numpy.unique(y, return_inverse=True)[1]."
        )
    if not array.size:
        raise DataError(f"{name} must hold at least one example. Got shape {array.shape}.")
    return array


def reject_masked(value: Any, name: str) -> None:
    """Raise DataError if some entries of an array, or of arrays in nested lists, are masked."""
    if masked := _masked_entries(value):
        raise DataError(
            f"{name} must have no masked entries: masks would be lost. Got {masked:,}. Fill them, {name}.filled(0), "
            "or drop these examples."
        )


def _masked_entries(value: Any) -> int:
    """Number of masked entries of an array, or of the arrays in nested lists."""
    if isinstance(value, np.ma.MaskedArray):
        return int(np.ma.count_masked(value))
    if isinstance(value, list | tuple):
        return sum(_masked_entries(item) for item in value if isinstance(item, list | tuple | np.ma.MaskedArray))
    return 0
