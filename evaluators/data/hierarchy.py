"""A label hierarchy: the coarse label of every class, told by coarse labels of examples or by a mapping file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.data.arrays import labels, one_line, some
from nas.errors import DataError, unknown_name

Hierarchy = tuple[tuple[int, ...], ...]
"""The coarse label of every class, once for every coarser labelling, finest first: see
:class:`nas.representation.elements.Task`.
"""

EXAMPLE = '{"0": "even", "1": "odd"}'


def from_coarse_labels(y_N: np.ndarray, coarse: Any, name: str) -> Hierarchy:
    """The hierarchy that coarse labels of examples tell.

    y_N: labels (N,) of classes 0..K-1, each at least once. coarse: whole numbers (N,), or (N, H) for H coarser
    labellings, finest first. name: of the array, for messages.

    Raises DataError, also where examples of one class have different coarse labels.
    """
    columns = np.asarray(coarse)
    columns = columns[:, None] if columns.ndim == 1 else columns
    if columns.ndim != 2 or not columns.shape[1]:
        raise DataError(f"{name} must have shape (N,), or (N, H) for H coarser labellings. Got {columns.shape}.")
    return tuple(_of_classes(y_N, labels(column, name), name) for column in columns.T)


def _of_classes(y_N: np.ndarray, coarse_N: np.ndarray, name: str) -> tuple[int, ...]:
    if len(coarse_N) != len(y_N):
        raise DataError(f"{name} must have a label for each of the {len(y_N)} examples. Got {len(coarse_N)}.")
    classes, first = np.unique(y_N, return_index=True)
    found = coarse_N[first]
    odd = coarse_N != found[np.searchsorted(classes, y_N)]
    if odd.any():
        label = int(y_N[odd][0])
        raise DataError(
            f"{name} must give all examples of a class one coarse label. "
            f"Got {some(coarse_N[y_N == label])} for class {label}. Check that the labels belong together."
        )
    return tuple(found.tolist())


def check_coarse_labels(hierarchy: Hierarchy, y_N: np.ndarray, coarse: Any, name: str) -> None:
    """Raises DataError unless coarse labels of other examples are those of the hierarchy."""
    given = np.asarray(coarse)
    expected = np.array([np.array(labelling)[y_N] for labelling in hierarchy]).T
    if not np.array_equal(given[:, None] if given.ndim == 1 else given, expected):
        raise DataError(
            f"{name} must give every class the coarse label that it has in training. It does not. Save both alike, or "
            f"leave {name} out."
        )


def read_mapping(path: str | Path, num_classes: int, class_names: Sequence[str] = ()) -> tuple[int, ...]:
    """The coarse label 0..n-1 of every class from a JSON file that maps classes, by number or name, to coarse labels.

    Coarse labels in the file are names or whole numbers; they are numbered in their order. Raises DataError.
    """
    wanted = f"{path} must hold a JSON object with the coarse label of every class, such as {EXAMPLE}"
    try:
        pairs = json.loads(Path(path).expanduser().read_text(encoding="utf-8-sig"), object_pairs_hook=_Pairs)
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{wanted}. It cannot be read: {one_line(error)}.") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{wanted}. Got no JSON: {one_line(error)}.") from error
    if not isinstance(pairs, _Pairs):
        raise DataError(f"{wanted}. Got a {type(pairs).__name__}.")
    found: dict[int, str | int] = {}
    for name, coarse in pairs:
        if type(coarse) not in (str, int):
            raise DataError(f"{wanted}: a name or a whole number. Got {json.dumps(coarse, default=list)} for {name!r}.")
        label = _class(path, name, num_classes, class_names)
        if label in found:
            raise DataError(f"{path} must name each class once. Got class {label} twice, the second time as {name!r}.")
        found[label] = coarse
    if missing := [_told(label, class_names) for label in range(num_classes) if label not in found]:
        left = f", and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise DataError(f"{wanted}. Missing: {', '.join(missing[:5])}{left}.")
    groups = sorted(set(found.values()), key=lambda coarse: (isinstance(coarse, str), coarse))
    if not 2 <= len(groups) < num_classes:
        raise DataError(
            f"{path} must tell at least 2 coarse labels, and fewer than the {num_classes} classes. Got {len(groups)}. "
            "Join some classes, not all."
        )
    return tuple(groups.index(found[label]) for label in range(num_classes))


class _Pairs(list):
    """A JSON object as its pairs: of a name that comes twice, a dict would keep the last."""


def _class(path: str | Path, name: str, num_classes: int, class_names: Sequence[str]) -> int:
    if name in class_names:
        return class_names.index(name)
    if name.isascii() and name.isdigit() and len(name) < 20 and int(name) < num_classes:
        return int(name)
    known = class_names or [str(label) for label in range(num_classes)]
    raise DataError(f"{path}: {unknown_name('class', name, known)}")


def _told(label: int, class_names: Sequence[str]) -> str:
    return class_names[label] if class_names else str(label)
