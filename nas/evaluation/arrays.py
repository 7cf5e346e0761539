"""Arrays as the data of a study: written beside its store, so that workers and a resumed search can load them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import DataError, UserError
from results.connection import check_folder


def stored_data(data: Any, files: Path) -> str:
    """The data specification of a study; arrays are written to a file once.

    Parameters
    ----------
    data
        A data specification, arrays (x_train, y_train[, x_test, y_test]), or an object with these attributes and
        optionally ``hierarchy`` and ``class_names``, such as a Dataset.
    files
        Folder of the study, beside the store; created if necessary.

    Returns
    -------
    str
        ``data`` itself, or "npz:FILE"; the file is named by the hash of its content.

    Raises
    ------
    UserError
        If ``data`` is of another type.
    results.StoreError
        If the folder of the store does not exist.
    DataError
        If a value is no array of numbers.
    """
    if isinstance(data, str):
        return data
    arrays = _arrays(data)
    check_folder(files.resolve().parent.parent)
    digest = hashlib.sha256()
    for name, values in arrays.items():
        array = arrays[name] = _numbers(name, values)
        digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    path = files.resolve() / f"data-{digest.hexdigest()[:16]}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with open(partial, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        os.replace(partial, path)
    return f"npz:{path}"


def _arrays(data: Any) -> dict[str, Any]:
    """The values of data by name, in the order of the content hash."""
    extras: dict[str, Any] = {}
    if hasattr(data, "x_train"):
        if getattr(data, "hierarchy", ()):
            extras["y_train_coarse"] = np.array(data.hierarchy).T[data.y_train]
        if getattr(data, "class_names", ()):
            extras["class_names"] = np.array(data.class_names)
        data = (data.x_train, data.y_train, data.x_test, data.y_test)
    if not isinstance(data, tuple | list) or len(data) not in (2, 4):
        raise UserError(f"data must be a specification, a Dataset, or 2 or 4 arrays. Got {type(data).__name__}.")
    return dict(zip(("x_train", "y_train", "x_test", "y_test"), data)) | extras


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name} must be one array of numbers. Got {type(values).__name__}: {error}") from error
    if array.dtype.hasobject:
        raise DataError(f"{name} must be one array of numbers. Got dtype {array.dtype}.")
    return array
