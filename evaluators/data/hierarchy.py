"""Label hierarchies: the coarse label of every class, from coarse labels of examples or from a mapping file."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.data.arrays import labels, some
from nas.errors import DataError, one_line, unknown_name
from nas.evaluation.arrays import as_array
from nas.files import expanded

Hierarchy = tuple[tuple[int, ...], ...]
"""The coarse label of every class, for every coarser labelling, finest first: see
:class:`nas.representation.elements.Task`.
"""

_EXAMPLE = '{"0": "even", "1": "odd"}'


def from_coarse_labels(y_N: np.ndarray, coarse: Any, name: str) -> Hierarchy:
    """The hierarchy that follows from coarse labels of examples.

    Parameters
    ----------
    y_N
        Labels (N,) of classes 0..K-1, each at least once.
    coarse
        Whole numbers (N,), or (N, H) for H coarser labellings, finest first.
    name
        Name of the array, for messages.

    Raises
    ------
    DataError
        The shape is wrong, or examples of one class have different coarse labels.
    """
    columns = as_array(coarse, name)
    columns = columns[:, None] if columns.ndim == 1 else columns
    if columns.ndim != 2 or not columns.shape[1]:
        raise DataError(f"{name} must have shape (N,), or (N, H) for H coarser labellings. Got {columns.shape}.")
    return tuple(_of_classes(y_N, labels(column, name), name) for column in columns.T)


def _of_classes(y_N: np.ndarray, coarse_N: np.ndarray, name: str) -> tuple[int, ...]:
    if len(coarse_N) != len(y_N):
        raise DataError(f"{name} must have a label for each of the {len(y_N)} examples. Got {len(coarse_N)}.")
    classes, first = np.unique(y_N, return_index=True)
    coarse_of_class = coarse_N[first]
    differs_N = coarse_N != coarse_of_class[np.searchsorted(classes, y_N)]
    if differs_N.any():
        label = int(y_N[differs_N][0])
        raise DataError(
            f"{name} must give all examples of a class one coarse label. "
            f"Got {some(coarse_N[y_N == label])} for class {label}. Check that the labels belong together."
        )
    return tuple(coarse_of_class.tolist())


def check_coarse_labels(hierarchy: Hierarchy, y_N: np.ndarray, coarse: Any, name: str) -> None:
    """Raise DataError unless the coarse labels of examples agree with the hierarchy."""
    if not hierarchy:
        raise DataError(f"{name} needs coarse labels of the training examples too. Got none: add y_train_coarse.")
    actual = as_array(coarse, name)
    expected = np.array([np.array(labelling)[y_N] for labelling in hierarchy]).T
    if not np.array_equal(actual[:, None] if actual.ndim == 1 else actual, expected):
        raise DataError(f"{name} must give every class the coarse label of its training examples. Correct or omit it.")


def read_mapping(path: str | Path, num_classes: int, class_names: Sequence[str] = ()) -> tuple[int, ...]:
    """Read the coarse label of every class from a JSON file.

    Parameters
    ----------
    path
        File with a JSON object from classes, by number or name, to coarse labels: names or whole numbers. A number and
        its text, such as 0 and "0", are one label.
    num_classes, class_names
        Number of classes, and their names if they have any.

    Returns
    -------
    tuple of int
        Coarse label 0..n-1 of every class; numbered in sorted order.

    Raises
    ------
    DataError
        The file cannot be read, a class is missing, unknown or repeated, or the labels are not coarser.
    """
    form = f"{path} must hold a JSON object with the coarse label of every class, such as {_EXAMPLE}"
    try:
        pairs = json.loads(expanded(path).read_text(encoding="utf-8-sig"), object_pairs_hook=_Pairs)
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{form}. It cannot be read: {one_line(error)}.") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{form}. Got no JSON: {one_line(error)}.") from error
    if not isinstance(pairs, _Pairs):
        raise DataError(f"{form}. Got a {type(pairs).__name__}.")
    coarse_of_class: dict[int, str | int] = {}
    numbered = any(type(coarse) is int for _, coarse in pairs)
    for name, coarse in pairs:
        if type(coarse) not in (str, int):
            raise DataError(f"{form}: a name or a whole number. Got {json.dumps(coarse, default=list)} for {name!r}.")
        label = _class(path, name, num_classes, class_names)
        if label in coarse_of_class:
            raise DataError(f"{path} must name each class once. Got class {label} twice, the second time as {name!r}.")
        coarse_of_class[label] = _coarse_label(coarse, numbered)
    if missing := [_display_name(label, class_names) for label in range(num_classes) if label not in coarse_of_class]:
        rest = f", and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise DataError(f"{form}. Missing: {', '.join(missing[:5])}{rest}.")
    groups = sorted(set(coarse_of_class.values()), key=lambda coarse: (isinstance(coarse, str), coarse))
    if not 2 <= len(groups) < num_classes:
        raise DataError(
            f"{path} must have at least 2 coarse labels, and fewer than the {num_classes} classes. Got {len(groups)}. "
            "Join some classes, not all."
        )
    return tuple(groups.index(coarse_of_class[label]) for label in range(num_classes))


def _coarse_label(value: str | int, numbered: bool) -> str | int:
    """The label that a value means. numbered: the file has numbers, so that text such as "0" is one of them."""
    if isinstance(value, int):
        return value
    text = unicodedata.normalize("NFC", value).strip()
    return int(text) if numbered and _is_number(text.removeprefix("-")) else text


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


class _Pairs(list):
    """The pairs of a JSON object, so that repeated names are seen."""


def _class(path: str | Path, name: str, num_classes: int, class_names: Sequence[str]) -> int:
    by_text = {unicodedata.normalize("NFC", each): label for label, each in enumerate(class_names)}
    if (text := unicodedata.normalize("NFC", name)) in by_text:
        return by_text[text]
    if _is_number(name) and int(name) < num_classes:
        return int(name)
    valid = class_names or [str(label) for label in range(num_classes)]
    raise DataError(f"{path}: {unknown_name('class', name, valid)}")


def _display_name(label: int, class_names: Sequence[str]) -> str:
    return class_names[label] if class_names else str(label)
