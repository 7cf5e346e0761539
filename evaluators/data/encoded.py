"""Encoded images, such as JPEG files: decoded and resized once, then read from a cache on disk.

Pillow decodes them in threads, because it works without Python's lock; the arrays are written to the user's cache and
mapped into memory, so that all processes of a machine share them, and images need not fit into its memory.

Shape suffixes: N examples, C channels, H height, W width.
"""

from __future__ import annotations

import glob
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.data.datasets import Dataset, from_arrays
from evaluators.data.splitting import split_keeping
from nas.config.named import parse_named
from nas.config.naming import split_data
from nas.errors import DataError, EnvironmentFault, one_line, unknown_name

FORMATS = (".jpg", ".jpeg", ".png")
PARTS = ("train", "test", "val")
LARGEST_AS_IS = 64
"""Images of one size up to this side stay as they are by default; other images become squares of this side."""
TEST_FRACTION = 0.2
VERSION = 3
"""Of the conversion; another one makes other caches."""
ABOUT = "about.json"
"""The file of a cache with the names of classes and parts."""

_OPTIONS = ("size", "channels")
_READ_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedImage:
    """An image in the bytes of a file. name: for messages. content: the bytes, or the path of the file."""

    name: str
    content: Path | bytes

    def opened(self) -> Any:
        """Pillow's image, whose header is read. Raises DataError if it is none."""
        from PIL import Image

        try:
            return Image.open(self.content if isinstance(self.content, Path) else io.BytesIO(self.content))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: Exception) -> DataError:
        """The error of an image that is none, or damaged."""
        cause = f"{type(error).__name__}: {one_line(error)}"
        return DataError(f"{self.name} must be a whole image. Got {cause}. Remove or replace it.")


@dataclass(frozen=True, kw_only=True)
class EncodedImages:
    """Labelled images of one source.

    class_names: names of the classes, or none. labels: numbers of the classes by part: train and test, perhaps val; or
    "all", of which a part is held out for testing. read: the images of a part, in the order of its labels.
    """

    class_names: tuple[str, ...]
    labels: Mapping[str, np.ndarray]
    read: Callable[[str], Iterator[EncodedImage]]

    def rows(self) -> dict[str, dict[str, np.ndarray]]:
        """The rows of the images of a source's part in each part of the data set."""
        if "all" not in self.labels:
            return {part: {part: np.arange(len(labels))} for part, labels in self.labels.items()}
        split = split_keeping(self.labels["all"], fraction=TEST_FRACTION, seed=0, keep=2)
        return {"all": dict(zip(PARTS, split))}


def image_options(argument: str, kind: str, example: str, *more: str) -> tuple[str, dict[str, Any]]:
    """The place of images and the options of their conversion, and more options, whose values are text.

    Raises DataError for an unknown option or value.

    >>> image_options("pets:size=32", "folder", "folder:DIR:size=128,channels=3")
    ('pets', {'size': 32})
    """
    _, name, text = split_data(f"{kind}:{argument}")
    if not name:
        raise DataError(f"{kind} data need a name, such as {example}. Got none.")
    _, options = parse_named(kind + text, kind, example)
    for key, value in options.items():
        if key not in (*_OPTIONS, *more):
            raise DataError(unknown_name(f"option of {kind}", key, (*_OPTIONS, *more)))
        if key in more:
            options[key] = str(value)
        elif type(value) is not int or value < 1 or (key == "channels" and value not in (1, 3)):
            valid = "1 or 3" if key == "channels" else "a whole number of pixels"
            raise DataError(f"{key} must be {valid}. Got {key}={value}.")
    return name, options


def state_of(place: str, files: Mapping[str, Iterable[Path]]) -> str:
    """A hash of a place and of names, sizes and times of its files by part. Raises DataError for a missing file."""
    digest = sha256(place.encode())
    for part, found in files.items():
        for file in found:
            try:
                stat = file.stat()
            except OSError as error:  # such as a broken link
                raise EncodedImage(name=str(file), content=file).unreadable(error) from error
            digest.update(f"{part} {file} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def decoded(name: str, state: str, options: Mapping[str, Any], scan: Callable[[], EncodedImages]) -> Dataset:
    """Encoded images as arrays on disk.

    Parameters
    ----------
    name
        Of the data, as the user names them.
    state
        A text that changes when images or labels do.
    options
        size: side of the square images; by default, images of one size up to 64 pixels stay as they are, and others get
        64. channels: 1 or 3; by default 1 if all images are grey. Others are ignored here.
    scan
        Reads the labels; called if the images are not in the cache.

    Returns
    -------
    Dataset
        Images on disk, uint8. Their shorter side is scaled to the size, and the middle is cut out.

    Raises
    ------
    DataError
        If an image cannot be read, or the data are unsuitable.
    EnvironmentFault
        If the cache cannot be written.
    """
    form = {key: options[key] for key in _OPTIONS if key in options}
    identity = json.dumps([VERSION, state, form], sort_keys=True)
    stem = Path(name.partition(":")[2]).name
    cache = cache_root() / f"{stem}-{sha256(identity.encode()).hexdigest()[:16]}"
    arrays = _read(cache) if cache.is_dir() else None
    if arrays is None:
        _make(cache, name, scan(), form)
        arrays = _read(cache)
    assert arrays is not None, "the cache was just made"
    return from_arrays(**arrays, layout="NCHW", name=name)


def cache_root() -> Path:
    """The folder of all caches: ``nas/images`` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas" / "images"


def _read(cache: Path) -> dict[str, Any] | None:
    """The arrays of a cache; None, without the cache, if a file is missing or damaged, as after a cleaning."""
    try:
        about = json.loads((cache / ABOUT).read_text(encoding="utf-8"))
        arrays: dict[str, Any] = {"class_names": about["class_names"]}
        for part in about["parts"]:
            arrays[f"x_{part}"] = np.load(cache / f"x_{part}.npy", mmap_mode="r")
            arrays[f"y_{part}"] = np.load(cache / f"y_{part}.npy")
    except (OSError, ValueError, EOFError, KeyError):
        shutil.rmtree(cache, ignore_errors=True)
        return None
    return arrays


def _make(cache: Path, name: str, images: EncodedImages, form: Mapping[str, int]) -> None:
    """Decode all images into a new cache; if another process does so, wait for it."""
    from filelock import FileLock

    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{cache}.lock"):
            if cache.is_dir():
                return
            for left in cache.parent.glob(f".{glob.escape(cache.name)}-*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{cache.name}-", dir=cache.parent))
            try:
                with ThreadPoolExecutor(os.cpu_count()) as threads:
                    _write(partial, images, form, threads)
                os.replace(partial, cache)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise EnvironmentFault(
            f"The decoded images of {name} must be written to {cache.parent}. Got {one_line(error)}: make room, "
            "or name another folder by the environment variable XDG_CACHE_HOME."
        ) from error


def _write(into: Path, images: EncodedImages, form: Mapping[str, int], threads: ThreadPoolExecutor) -> None:
    channels, size = _form(images, form, threads)
    count = sum(map(len, images.labels.values()))
    needed = count * channels * size[0] * size[1]
    if needed > (free := shutil.disk_usage(into).free):
        raise OSError(f"{free / 2**30:.1f} GiB of free space instead of {needed / 2**30:.1f}")
    for source, rows_of in images.rows().items():
        places: list[tuple[np.ndarray, int]] = [(np.empty(0), 0)] * len(images.labels[source])
        arrays = []
        for part, rows in rows_of.items():
            x_NCHW = np.lib.format.open_memmap(
                into / f"x_{part}.npy", mode="w+", dtype=np.uint8, shape=(len(rows), channels, *size)
            )
            np.save(into / f"y_{part}.npy", images.labels[source][rows])
            arrays.append(x_NCHW)
            for row, place in enumerate(rows):
                places[place] = x_NCHW, row
        pixels = _in_blocks(images.read(source), lambda image: _pixels(image, channels, size), threads)
        for (array, row), image_CHW in zip(places, pixels, strict=True):
            array[row] = image_CHW
        for each in arrays:
            each.flush()
    about = {"class_names": images.class_names, "parts": [part for rows in images.rows().values() for part in rows]}
    (into / ABOUT).write_text(json.dumps(about), encoding="utf-8")


def _in_blocks(
    images: Iterator[EncodedImage], function: Callable[[EncodedImage], Any], threads: ThreadPoolExecutor
) -> Iterator[Any]:
    """The function of each image, in order, with few images in memory."""
    while block := list(islice(images, _READ_AT_ONCE)):
        yield from threads.map(function, block)


def _form(images: EncodedImages, form: Mapping[str, int], threads: ThreadPoolExecutor) -> tuple[int, tuple[int, int]]:
    """The number of channels, and height and width, of all images."""
    if len(form) == len(_OPTIONS):
        return form["channels"], (form["size"], form["size"])
    sizes, grey = set[tuple[int, int]](), True
    for part in images.labels:
        for width, height, mode in _in_blocks(images.read(part), _header, threads):
            sizes.add((height, width))
            grey = grey and mode in ("1", "L", "LA", "I", "I;16")
    channels = form.get("channels") or (1 if grey else 3)
    if side := form.get("size"):
        return channels, (side, side)
    as_is = len(sizes) == 1 and max(*next(iter(sizes))) <= LARGEST_AS_IS
    return channels, next(iter(sizes)) if as_is else (LARGEST_AS_IS, LARGEST_AS_IS)


def _header(encoded: EncodedImage) -> tuple[int, int, str]:
    """Width, height and mode of an image, which is not decoded."""
    with encoded.opened() as image:
        return *image.size, image.mode


def _pixels(encoded: EncodedImage, channels: int, size: tuple[int, int]) -> np.ndarray:
    """An image as (C, H, W), upright."""
    from PIL import Image, ImageOps

    height, width = size
    mode = "L" if channels == 1 else "RGB"
    with encoded.opened() as image:
        try:
            image.draft(mode, (width, height))  # JPEG: decode at a fraction of the size, which is not below this one
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16 bits; Pillow would clip them
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            upright = upright.convert("RGBA" if upright.mode == "P" else mode).convert(mode)
        except (OSError, ValueError, SyntaxError) as error:
            raise encoded.unreadable(error) from error
    if upright.size != (width, height):
        upright = ImageOps.fit(upright, (width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(upright)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
