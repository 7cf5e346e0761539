"""WebDataset shards: tar archives in which the files of an example follow each other and share a name.

An example is ``NAME.jpg`` (or .jpeg, .png) and ``NAME.cls``, the class as a number or as text. Archives are read as
streams; nothing is extracted.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluators.data.datasets import Dataset
from evaluators.data.encoded import FORMATS, EncodedImage, EncodedImages, decoded, image_options, state_of
from evaluators.data.tables import numbered_classes, parts_of_folder
from nas.errors import DataError, one_line
from nas.files import expanded

ENDINGS = (".tar", ".tar.gz", ".tgz")
LABEL = ".cls"
_MOST_DIGITS = 9


def load_shards(argument: str) -> Dataset:
    """The data of ``webdataset:DIR[:size=S,channels=C]``; argument: after the colon, see :func:`.encoded.decoded`."""
    name, options = image_options(argument, "webdataset", "webdataset:DIR:size=128,channels=3")
    path = expanded(name).absolute()
    shards = parts_of_folder(path, *ENDINGS)

    def read(part: str) -> Iterator[EncodedImage]:
        return (EncodedImage(name=place, content=content) for place, _, content in _examples(shards[part]))

    def scan() -> EncodedImages:
        texts = {part: [label for _, label, _ in _examples(files)] for part, files in shards.items()}
        numbers = all(text.isdecimal() and len(text) <= _MOST_DIGITS for each in texts.values() for text in each)
        values = {part: np.array(each, np.int64 if numbers else np.str_) for part, each in texts.items()}
        class_names, labels = numbered_classes(values, (), LABEL)
        return EncodedImages(class_names=class_names, labels=labels, read=read)

    return decoded(f"webdataset:{path}", state_of(str(path), shards), options, scan)


def _examples(shards: Sequence[Path]) -> Iterator[tuple[str, str, bytes]]:
    """Place, label and encoded image of each example."""
    for shard in shards:
        try:
            with tarfile.open(shard, "r|*") as archive:
                yield from _of_archive(archive, shard)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(f"{shard} must be a whole tar archive. Got {one_line(error)}. Replace it.") from error


def _of_archive(archive: tarfile.TarFile, shard: Path) -> Iterator[tuple[str, str, bytes]]:
    key, files = "", dict[str, bytes]()
    for member in archive:
        folder, _, name = member.name.rpartition("/")
        stem, dot, ending = name.partition(".")
        if not member.isfile() or not stem:
            continue
        if (own := f"{folder}/{stem}") != key:
            if files:
                yield _example(files, f"{shard}: {key.lstrip('/')}")
            key, files = own, {}
        opened = archive.extractfile(member)
        assert opened is not None, "it is a file"
        files[dot + ending.lower()] = opened.read()
    if files:
        yield _example(files, f"{shard}: {key.lstrip('/')}")


def _example(files: Mapping[str, bytes], place: str) -> tuple[str, str, bytes]:
    image = next((files[ending] for ending in FORMATS if ending in files), None)
    if image is None or LABEL not in files:
        raise DataError(
            f"Every example of a shard must have an image ({', '.join(FORMATS)}) and its class ({LABEL}). "
            f"Got {', '.join(files)} in {place}."
        )
    try:
        return place, files[LABEL].decode("utf-8").strip(), image
    except UnicodeDecodeError as error:
        raise DataError(f"A class must be a number or text in UTF-8. Got {files[LABEL]!r:.60} in {place}.") from error
