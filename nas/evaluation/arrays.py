"""Arrays that users pass: NumPy arrays, tensors, nested lists. Nothing of them may vanish on the way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nas.errors import DataError, one_line, unknown_name

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


def texts(values: Any, name: str) -> tuple[str, ...]:
    """Names as text, from text, bytes in UTF-8 or whole numbers, in a list, tuple or array. Raises DataError."""
    array = np.asarray(values) if hasattr(values, "__array__") else values
    listed = array.tolist() if isinstance(array, np.ndarray) and array.ndim == 1 else array
    if not isinstance(listed, list | tuple) or isinstance(values, np.ma.MaskedArray):
        raise DataError(f"{name} must be a list of names, in the order of the classes. Got {type(values).__name__}.")
    for value in listed:
        if not isinstance(value, str | bytes | int) or isinstance(value, bool):
            raise DataError(f"{name} must hold text. Got {value!r:.100}.")
    try:
        return tuple(value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in listed)
    except UnicodeDecodeError as error:
        raise DataError(f"{name} must be UTF-8. Got {error.object!r:.100}. Decode the names.") from error


def truth(value: Any, name: str) -> bool:
    """A truth value, also as an array with one entry. Raises DataError."""
    array = np.asarray(value)
    if array.dtype != bool or array.size != 1:
        raise DataError(f"{name} must be True or False. Got {value!r:.200}.")
    return bool(array.item())


def reject_unknown(names: Iterable[str], place: str) -> None:
    """Raise DataError for the name of an array that would be ignored. place: where it was found, for the message."""
    known = (*PARTS, *EXTRAS, *VALIDATION)
    for name in sorted(set(names).difference(known)):
        raise DataError(
            f"{place}: {unknown_name('array', name, known)} It would be ignored: rename it, or leave it out."
        )
