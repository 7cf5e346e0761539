"""Data that are passed in memory as the data of a study: kept beside its store, for its workers and for resuming."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.config import UNNAMED
from nas.errors import DataError, UserError
from nas.evaluation.arrays import EXTRAS, PARTS, VALIDATION, as_array, reject_unknown, texts, truth
from nas.evaluation.torch_datasets import is_torch_dataset, torch_arrays

if TYPE_CHECKING:
    from results.store import Store


@dataclass(frozen=True, slots=True)
class DataInMemory:
    """Arrays by name, in the order of their content hash, and its first digits."""

    arrays: Mapping[str, np.ndarray]
    digest: str

    @staticmethod
    def of(data: Any) -> DataInMemory:
        """The arrays of data.

        Parameters
        ----------
        data
            Arrays (x_train, y_train[, x_test, y_test]); a mapping or an object with arrays of these names and of the
            further names of a file npz, such as a Dataset; or a ``torch.utils.data.Dataset``, or a pair of them, for
            training and testing.

        Raises
        ------
        UserError
            If ``data`` is of another type.
        DataError
            If a value is no array of numbers.
        """
        arrays = _arrays(data)
        return DataInMemory(arrays, _digest(arrays))

    def study_name(self, name: str) -> str:
        """A default name of a study. Data without a name are told apart by their content.

        name: of the data.
        """
        return f"{name}-{self.digest[:8]}" if name == UNNAMED else name


@contextmanager
def stored_data(data: str | DataInMemory, store: Store, study: str) -> Iterator[str]:
    """The data specification of a study. Arrays are copied to a file beside the store, once for each content.

    Inside the context the copy is not removed; afterwards, only if no study names it.

    Parameters
    ----------
    data
        A data specification, or data in memory.
    store
        The store of the study.
    study
        Name of the study.

    Yields
    ------
    str
        ``data`` itself, or "npz:FILE".

    Raises
    ------
    results.StoreError
        If the folder of the store does not exist.
    """
    if isinstance(data, str):
        yield data
        return
    name = f"data-{data.digest}"

    def write(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **data.arrays)

    if (earlier := _earlier_copy(store, study, name)) is not None:
        yield earlier
        return
    with store.data_copy(name, write) as path:
        yield f"npz:{path}"


def _earlier_copy(store: Store, study: str, name: str) -> str | None:
    """The data specification of a study that exists, if it names the same content in a file."""
    data = store.settings(study).get("data", "") if store.holds(study) else ""
    path = Path(data.removeprefix("npz:"))
    return data if path.stem == name and path.exists() else None


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()[:16]


def _arrays(data: Any) -> dict[str, np.ndarray]:
    """The arrays of data by name, in the order of the content hash."""
    names = (*PARTS, *EXTRAS, *VALIDATION)
    if is_torch_dataset(data):
        data = torch_arrays(data)
    elif isinstance(data, tuple | list) and data and all(map(is_torch_dataset, data)):
        if len(data) > 2:
            raise UserError(f"There are at most two Datasets, for training and testing. Got {len(data)}.")
        data = torch_arrays(*data)
    if isinstance(data, Mapping):
        reject_unknown(data, "data")
        found = {name: data.get(name) for name in names}
    elif hasattr(data, "x_train"):
        found = {name: getattr(data, name, None) for name in names}
        hierarchy = getattr(data, "hierarchy", None)
        if hierarchy is not None and len(hierarchy):
            found["y_train_coarse"] = np.array(hierarchy).T[as_array(data.y_train, "y_train").astype(int).ravel()]
    elif isinstance(data, tuple | list) and len(data) in (2, 4):
        found = dict(zip(PARTS, data))
    else:
        hint = " Name data of Hugging Face as hf:NAME, or save them by save_to_disk."
        raise UserError(
            "data must be a specification, one or two Datasets, or 2 or 4 arrays. "
            f"Got {type(data).__name__}.{hint if hasattr(data, 'save_to_disk') else ''}"
        )
    present = {name: value for name, value in found.items() if value is not None}
    if not present.keys() >= set(PARTS[:2]):
        raise DataError(f"data must hold x_train and y_train. Got {', '.join(present) or 'nothing'}.")
    return {name: array for name, value in present.items() if (array := _array(name, value)) is not None}


def _array(name: str, value: Any) -> np.ndarray | None:
    """The array of a name; None if it says as much as no array, so that it does not change the hash of the content."""
    if name == "class_names":
        names = texts(value, name)
        return np.array(names) if names else None
    if name == "mirror_invariant":
        return np.array(True) if truth(value, name) else None
    return as_array(value, name)
