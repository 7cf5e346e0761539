"""Folders of image files, one folder per class.

The images lie in ``DIR/train/CLASS`` and ``DIR/test/CLASS`` (and perhaps ``DIR/val/CLASS``), or in ``DIR/CLASS``:
then a part of them is held out for testing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from evaluators.data.datasets import Dataset
from evaluators.data.encoded import FORMATS, PARTS, EncodedImage, EncodedImages, decoded, image_options, state_of
from nas.errors import DataError
from nas.files import expanded


def load_folder(argument: str) -> Dataset:
    """The data of ``folder:DIR[:size=S,channels=C]``; argument: after "folder:", see :func:`.encoded.decoded`."""
    name, options = image_options(argument, "folder", "folder:DIR:size=128,channels=3")
    path = expanded(name).absolute()
    classes, files = scan(path)
    labels = {part: np.array([label for _, label in found]) for part, found in files.items()}

    def read(part: str) -> Iterator[EncodedImage]:
        return (EncodedImage(name=str(file), content=file) for file, _ in files[part])

    state = state_of(f"{path} {classes}", {part: [file for file, _ in found] for part, found in files.items()})
    return decoded(
        f"folder:{path}", state, options, lambda: EncodedImages(class_names=classes, labels=labels, read=read)
    )


def scan(path: Path) -> tuple[tuple[str, ...], dict[str, tuple[tuple[Path, int], ...]]]:
    """Names of the classes, and by part the image files with the numbers of their classes, sorted by path.

    Raises DataError unless there are folders of classes.
    """
    if not path.is_dir():
        present = "a file" if path.exists() else "nothing there"
        raise DataError(f"folder data must be a folder, folder:DIR. Got {str(path)!r}, {present}. Check the path.")
    parts = [part for part in PARTS if (path / part).is_dir()]
    if parts and not {"train", "test"} <= set(parts):
        raise DataError(
            f"{path} must have the folders train and test, or one folder for each class. Got {', '.join(parts)}."
        )
    roots = {part: path / part for part in parts} or {"all": path}
    folders = {part: _folders(root) for part, root in roots.items()}
    classes = folders[next(iter(folders))]
    for part, names in folders.items():
        if unknown := sorted(set(names) - set(classes)):
            raise DataError(f"Every class must have training images. Got the class {unknown[0]!r} only in {part}.")
    files = {part: tuple(_files(root, classes)) for part, root in roots.items()}
    for part, found in files.items():
        if not found:
            raise DataError(
                f"{roots[part]} must have a folder with {', '.join(FORMATS)} files for each class, such as "
                f"{roots[part] / 'cat' / 'one.jpg'}. Got none."
            )
    first = next(iter(files))
    if missing := set(range(len(classes))) - {label for _, label in files[first]}:
        empty = roots[first] / classes[min(missing)]
        raise DataError(
            f"Every folder of a class must have {', '.join(FORMATS)} files. Got none in {empty}: remove the "
            "folder, or convert its images."
        )
    return tuple(classes), files


def _folders(root: Path) -> list[str]:
    return sorted(each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))


def _files(root: Path, classes: Sequence[str]) -> Iterator[tuple[Path, int]]:
    for label, name in enumerate(classes):
        for file in sorted((root / name).rglob("*")):
            if file.suffix.lower() in FORMATS and not file.name.startswith("."):
                yield file, label
