"""Folders of image files, one folder per class.

The images lie in ``DIR/train/CLASS`` and ``DIR/test/CLASS`` (and perhaps ``DIR/val/CLASS``), or in ``DIR/CLASS``:
then a part of them is held out for testing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from evaluators.data.datasets import Dataset
from evaluators.data.encoded import FORMATS, PARTS, EncodedImage, EncodedImages, decoded, image_options
from nas.errors import DataError
from nas.files import expanded


def load_folder(argument: str) -> Dataset:
    """The data of ``folder:DIR[:size=S,channels=C]``; argument: after "folder:", see :func:`.encoded.decoded`."""
    name, options = image_options(argument, "folder", "folder:DIR:size=128,channels=3")
    return decoded(scan(expanded(name).absolute()), options)


def scan(path: Path) -> EncodedImages:
    """The image files below a folder, sorted by path. Raises DataError unless there are folders of classes."""
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

    def read(part: str) -> Iterator[EncodedImage]:
        return (EncodedImage(name=str(file), content=file) for file, _ in files[part])

    labels = {part: np.array([label for _, label in found]) for part, found in files.items()}
    return EncodedImages(
        name=f"folder:{path}", class_names=tuple(classes), labels=labels, read=read, state=_state(path, files)
    )


def _state(path: Path, files: Mapping[str, Sequence[tuple[Path, int]]]) -> str:
    """A hash of names, sizes and times of all files."""
    digest = sha256(str(path).encode())
    for part, found in files.items():
        for file, label in found:
            try:
                stat = file.stat()
            except OSError as error:  # such as a broken link
                raise EncodedImage(name=str(file), content=file).unreadable(error) from error
            digest.update(f"{part} {file} {label} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _folders(root: Path) -> list[str]:
    return sorted(each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))


def _files(root: Path, classes: Sequence[str]) -> Iterator[tuple[Path, int]]:
    for label, name in enumerate(classes):
        for file in sorted((root / name).rglob("*")):
            if file.suffix.lower() in FORMATS and not file.name.startswith("."):
                yield file, label
