"""Datasets of torch, whose items are an image and its class, as arrays."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from nas.errors import DataError, one_line

READ_TWICE = 8
"""Number of images that are read twice, to find random transforms."""
PILLOW_MODES = ("1", "L", "I", "I;16", "F", "RGB")
"""Modes of Pillow whose numbers are brightness or colours."""


def is_torch_dataset(value: Any) -> bool:
    """Whether a value is a ``torch.utils.data.Dataset``. torch is not imported: without it there are none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.utils.data.Dataset)


def torch_arrays(*parts: Any) -> dict[str, Any]:
    """The arrays of one Dataset, or of one for training and one for testing, by their names in a file npz.

    Parameters
    ----------
    *parts
        Datasets with a length. An item is (image, class): a tensor C×H×W, an array, or an image of Pillow.

    Raises
    ------
    DataError
        If a Dataset has no length, an item is of another form, images differ in shape, or an image is different when it
        is read again.
    """
    found: dict[str, Any] = {}
    for name, part in zip(("train", "test"), parts):
        found[f"x_{name}"], found[f"y_{name}"] = _read(part, "training Dataset" if name == "train" else "test Dataset")
    names = getattr(parts[0], "classes", None) or getattr(getattr(parts[0], "dataset", None), "classes", None)
    if isinstance(names, list | tuple) and len(names) == len(np.unique(found["y_train"])):
        found["class_names"] = [str(name) for name in names]
    return found


def _read(data: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    torch = sys.modules["torch"]
    if isinstance(data, torch.utils.data.IterableDataset) or not hasattr(data, "__len__"):
        raise DataError(
            f"The {name} must have a length and items by number. Got {type(data).__name__}: read its images into "
            "arrays."
        )
    count = len(data)
    if not count:
        raise DataError(f"The {name} must have examples. Got none.")
    first, _ = _item(data, 0, name)
    images = np.empty((count, *first.shape), first.dtype)
    labels = np.empty(count, np.int64)
    for row in range(count):
        image, labels[row] = _item(data, row, name)
        if (image.shape, image.dtype) != (first.shape, first.dtype):
            raise DataError(
                f"All images of the {name} must have one shape and type. Got {first.shape} {first.dtype} in item 0, "
                f"{image.shape} {image.dtype} in item {row}: give it a transform, such as Resize((64, 64))."
            )
        images[row] = image
    for row in range(0, count, -(-count // READ_TWICE)):
        if not np.array_equal(_item(data, row, name)[0], images[row]):
            raise DataError(
                f"An image of the {name} must be equal whenever it is read. Got another image in item {row}: leave out "
                "random transforms, and see the setting augment."
            )
    return images, labels


def _item(data: Any, row: int, name: str) -> tuple[np.ndarray, int]:
    item = data[row]
    if not (isinstance(item, tuple | list) and len(item) == 2):
        got = f"{len(item)} values" if isinstance(item, tuple | list) else type(item).__name__
        raise DataError(f"An item of the {name} must be an image and its class. Got {got} in item {row}.")
    image, label = item
    if hasattr(label, "item") and np.asarray(label).size == 1:
        label = label.item()
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        raise DataError(
            f"A class must be a whole number: several labels of an image, boxes, masks and numbers to predict are not "
            f"supported. Got {type(label).__name__} in item {row} of the {name}."
        )
    if hasattr(image, "getbands") and image.mode not in PILLOW_MODES:  # a palette's numbers are no colours
        raise DataError(
            f"An image of Pillow must have a mode of {', '.join(PILLOW_MODES)}. Got {image.mode} in item {row} of the "
            f'{name}: convert it in the transform, by image.convert("RGB").'
        )
    try:
        if hasattr(image, "detach"):
            image = image.detach().cpu()
            image = (image.float() if image.is_floating_point() else image).numpy()
        return np.asarray(image), int(label)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"An image must be a tensor, an array or an image of Pillow. Got {type(image).__name__} in item {row} of "
            f"the {name}: {one_line(error)}."
        ) from error
