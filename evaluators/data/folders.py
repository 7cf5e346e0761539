"""Folders of image files, one folder per class: decoded and resized once, then read from a cache on disk.

The images lie in ``DIR/train/CLASS`` and ``DIR/test/CLASS`` (and perhaps ``DIR/val/CLASS``), or in ``DIR/CLASS``:
then a part of them is held out for testing. Pillow decodes them in threads, because it works without Python's lock; the
arrays are written to the user's cache and mapped into memory, so that all processes of a machine share them, and images
need not fit into its memory.

Shape suffixes: N examples, C channels, H height, W width.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.data.datasets import Dataset, from_arrays
from evaluators.data.splitting import split_keeping
from nas.config.named import parse_named
from nas.errors import DataError, EnvironmentFault, one_line, unknown_name
from nas.files import expanded

FORMATS = (".jpg", ".jpeg", ".png")
PARTS = ("train", "test", "val")
OPTIONS = ("size", "channels")
LARGEST_AS_IS = 64
"""Images of one size up to this side stay as they are by default; other images become squares of this side."""
TEST_FRACTION = 0.2
VERSION = 1
"""Of the conversion; another one makes other caches."""

_SCANNED_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFolder:
    """The image files of a folder. files: paths and numbers of their classes by part; "all" without parts."""

    path: Path
    class_names: tuple[str, ...]
    files: Mapping[str, Sequence[tuple[Path, int]]]

    @staticmethod
    def scan(path: Path) -> ImageFolder:
        """The files, sorted by path. Raises DataError unless there are folders of classes with images."""
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
        files = {part: tuple(_images(root, classes)) for part, root in roots.items()}
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
        return ImageFolder(path=path, class_names=tuple(classes), files=files)

    def state(self) -> str:
        """A hash of names, sizes and times of all files."""
        digest = sha256(str(self.path).encode())
        for part, files in self.files.items():
            for file, label in files:
                try:
                    stat = file.stat()
                except OSError as error:  # such as a broken link
                    raise _unreadable(file, error) from error
                digest.update(f"{part} {file} {label} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the data."""
        return PARTS[:2] if "all" in self.files else tuple(self.files)

    def split(self) -> dict[str, Sequence[tuple[Path, int]]]:
        """The files by part, with a part for testing."""
        if "all" not in self.files:
            return dict(self.files)
        files = self.files["all"]
        labels = np.array([label for _, label in files])
        rows = split_keeping(labels, fraction=TEST_FRACTION, seed=0, keep=2)
        return {part: [files[row] for row in rows_of_part] for part, rows_of_part in zip(PARTS, rows)}


def load_folder(argument: str) -> Dataset:
    """The data of ``folder:DIR[:size=S,channels=C]``.

    Parameters
    ----------
    argument
        After "folder:". size: side of the square images; by default, images of one size up to 64 pixels stay as they
        are, and others get 64. channels: 1 or 3; by default 1 if all images are grey.

    Returns
    -------
    Dataset
        Images on disk, uint8. Their shorter side is scaled to the size, and the middle is cut out.

    Raises
    ------
    DataError
        If the folder has no images in folders of classes, an image cannot be read, or an option is unknown.
    EnvironmentFault
        If the cache cannot be written.
    """
    name, options = parse_named(argument, "folder", "folder:DIR:size=128,channels=3")
    for key, value in options.items():
        if key not in OPTIONS:
            raise DataError(unknown_name("option of folder", key, OPTIONS))
        if type(value) is not int or value < 1 or (key == "channels" and value not in (1, 3)):
            valid = "1 or 3" if key == "channels" else "a whole number of pixels"
            raise DataError(f"{key} must be {valid}. Got {key}={value}.")
    folder = ImageFolder.scan(expanded(name).absolute())
    identity = json.dumps([VERSION, folder.state(), options], sort_keys=True)
    cache = cache_root() / f"{folder.path.name}-{sha256(identity.encode()).hexdigest()[:16]}"
    arrays = _read(cache, folder) if cache.is_dir() else None
    if arrays is None:
        _make(cache, folder, options)
        arrays = _read(cache, folder)
    assert arrays is not None, "the cache was just made"
    return from_arrays(**arrays, layout="NCHW", class_names=folder.class_names, name=f"folder:{folder.path}")


def _read(cache: Path, folder: ImageFolder) -> dict[str, Any] | None:
    """The arrays of a cache; None, without the cache, if a file is missing or damaged, as after a cleaning."""
    arrays = {}
    try:
        for part in folder.parts:
            arrays[f"x_{part}"] = np.load(cache / f"x_{part}.npy", mmap_mode="r")
            arrays[f"y_{part}"] = np.load(cache / f"y_{part}.npy")
    except (OSError, ValueError, EOFError):
        shutil.rmtree(cache, ignore_errors=True)
        return None
    return arrays


def cache_root() -> Path:
    """The folder of all caches: ``nas/folders`` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas" / "folders"


def _folders(root: Path) -> list[str]:
    return sorted(each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))


def _images(root: Path, classes: Sequence[str]) -> Iterator[tuple[Path, int]]:
    for label, name in enumerate(classes):
        for file in sorted((root / name).rglob("*")):
            if file.suffix.lower() in FORMATS and not file.name.startswith("."):
                yield file, label


def _make(cache: Path, folder: ImageFolder, options: Mapping[str, int]) -> None:
    """Decode all images into a new cache; if another process does so, wait for it."""
    from filelock import FileLock

    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{cache}.lock"):
            if cache.is_dir():
                return
            partial = Path(tempfile.mkdtemp(prefix=f".{cache.name}-", dir=cache.parent))
            try:
                with ThreadPoolExecutor(os.cpu_count()) as threads:
                    _write(partial, folder, options, threads)
                os.replace(partial, cache)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise EnvironmentFault(
            f"The decoded images of {folder.path} must be written to {cache.parent}. Got {one_line(error)}: make room, "
            "or name another folder by the environment variable XDG_CACHE_HOME."
        ) from error


def _write(into: Path, folder: ImageFolder, options: Mapping[str, int], threads: ThreadPoolExecutor) -> None:
    parts = folder.split()
    channels, size = _form([file for files in parts.values() for file, _ in files], options, threads)
    needed = sum(len(files) for files in parts.values()) * channels * size[0] * size[1]
    if needed > (free := shutil.disk_usage(into).free):
        raise OSError(f"{free / 2**30:.1f} GiB of free space instead of {needed / 2**30:.1f}")
    for part, files in parts.items():
        x_NCHW = np.lib.format.open_memmap(
            into / f"x_{part}.npy", mode="w+", dtype=np.uint8, shape=(len(files), channels, *size)
        )
        paths = [file for file, _ in files]
        for start in range(0, len(paths), _SCANNED_AT_ONCE):
            block = paths[start : start + _SCANNED_AT_ONCE]
            decoded = threads.map(lambda path: _decoded(path, channels, size), block)
            for row, image_CHW in enumerate(decoded, start=start):
                x_NCHW[row] = image_CHW
        x_NCHW.flush()
        np.save(into / f"y_{part}.npy", np.array([label for _, label in files]))


def _form(
    files: Sequence[Path], options: Mapping[str, int], threads: ThreadPoolExecutor
) -> tuple[int, tuple[int, int]]:
    """The number of channels, and height and width, of all images."""
    sizes, grey = set[tuple[int, int]](), True
    for width, height, mode in threads.map(_header, files):
        sizes.add((height, width))
        grey = grey and mode in ("1", "L", "LA", "I", "I;16")
    channels = options.get("channels") or (1 if grey else 3)
    if side := options.get("size"):
        return channels, (side, side)
    as_is = len(sizes) == 1 and max(*next(iter(sizes))) <= LARGEST_AS_IS
    return channels, next(iter(sizes)) if as_is else (LARGEST_AS_IS, LARGEST_AS_IS)


def _header(path: Path) -> tuple[int, int, str]:
    """Width, height and mode of an image, which is not decoded."""
    with _opened(path) as image:
        return *image.size, image.mode


def _decoded(path: Path, channels: int, size: tuple[int, int]) -> np.ndarray:
    """An image as (C, H, W), upright."""
    from PIL import Image, ImageOps

    height, width = size
    mode = "L" if channels == 1 else "RGB"
    with _opened(path) as image:
        try:
            image.draft(mode, (width, height))  # JPEG: decode at a fraction of the size, which is not below this one
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16 bits; Pillow would clip them
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            upright = upright.convert("RGBA" if upright.mode == "P" else mode).convert(mode)
        except (OSError, ValueError, SyntaxError) as error:
            raise _unreadable(path, error) from error
    if upright.size != (width, height):
        upright = ImageOps.fit(upright, (width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(upright)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _opened(path: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    cause = f"{type(error).__name__}: {one_line(error)}"
    return DataError(f"{path} must be a whole image. Got {cause}. Remove or replace it.")
