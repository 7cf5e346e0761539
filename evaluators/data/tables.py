"""Tables with a column of encoded images and one of labels: parquet files, and data sets of Hugging Face.

Shape suffix: N examples.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np

from evaluators.data.datasets import Dataset
from evaluators.data.encoded import PARTS, EncodedImage, EncodedImages, decoded, image_options
from nas.errors import DataError, one_line
from nas.files import expanded

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "pixel_values")
LABEL_COLUMNS = ("label", "labels", "cls", "class", "fine_label", "target")
"""Usual names of the columns, the first of which are taken by default."""

_PART_NAMES = {"train": "train", "training": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
_BATCH_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of one part.

    types: the Arrow types of its columns by name. classes: names of the classes by column, where the table has them.
    read: batches of the values of a column. files: on which it lies.
    """

    types: Mapping[str, Any]
    classes: Mapping[str, Sequence[str]]
    read: Callable[[str], Iterator[Any]]
    files: Sequence[Path]


def load_parquet(argument: str) -> Dataset:
    """The data of ``parquet:FILE`` or ``parquet:DIR``.

    Parameters
    ----------
    argument
        After "parquet:", with options: image and label, the names of the columns; size and channels, see
        :func:`evaluators.data.encoded.decoded`.

    Returns
    -------
    Dataset
        Images on disk.

    Raises
    ------
    DataError
        If there is no such table, a column is missing or of another type, or pyarrow is not installed.
    """
    name, options = image_options(argument, "parquet", "parquet:FILE:image=image,label=label", "image", "label")
    path = expanded(name).absolute()
    try:
        import pyarrow as pa
    except ImportError as error:
        raise DataError("parquet data need pyarrow: pip install 'anytime-nas[parquet]'.") from error
    try:
        tables = {part: _parquet_table(files) for part, files in parts_of_folder(path, ".parquet").items()}
        return decoded(_images(f"parquet:{path}", tables, options), options)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} must be a whole parquet file, or a folder of them. Got {one_line(error)}.") from error


def load_hugging_face(argument: str) -> Dataset:
    """The data of ``hf:NAME``, from the cache of the library datasets or the Hub, or of a folder that it has written.

    Parameters
    ----------
    argument
        After "hf:", with options: config, the configuration of the data set; those of :func:`load_parquet`.

    Returns
    -------
    Dataset
        Images on disk.

    Raises
    ------
    DataError
        If the data set is neither in the cache nor on the Hub, or unsuitable, or if datasets is not installed.
    """
    example = "hf:ylecun/mnist:image=image,label=label"
    name, options = image_options(argument, "hf", example, "image", "label", "config")
    try:
        import datasets
    except ImportError as error:
        raise DataError("hf data need the library datasets: pip install 'anytime-nas[hf]'.") from error
    folder = expanded(name).absolute()
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        if folder.is_dir() and {"dataset_dict.json", "state.json"} & {file.name for file in folder.iterdir()}:
            found = datasets.load_from_disk(str(folder))
        else:
            found = datasets.load_dataset(str(folder) if folder.is_dir() else name, options.get("config"))
    except Exception as error:  # the library has many errors, of which some only hold a traceback
        raise DataError(
            f"hf:{name} must be in the cache of Hugging Face, or its download must succeed. "
            f"Got {type(error).__name__}: {one_line(error):.300}. Check the name, or name a folder of save_to_disk."
        ) from error
    finally:
        if shown:
            datasets.enable_progress_bars()
    splits = dict(found) if isinstance(found, dict) else {"all": found}
    parts = _named_parts({name: split for name, split in splits.items() if "unsupervised" not in name}, f"hf:{name}")
    tables = {part: _hugging_face_table(split) for part, split in parts.items()}
    return decoded(_images(f"hf:{folder if folder.is_dir() else name}", tables, options), options)


def parts_of_folder(path: Path, *suffixes: str) -> dict[str, list[Path]]:
    """Files of a folder by part: by the first word of their names, or by the name of their folder. A file: all."""
    if path.is_file():
        return {"all": [path]}
    if not path.is_dir():
        raise DataError(f"The data must be a file or a folder. Got {str(path)!r}, nothing there. Check the path.")
    files = [file for file in sorted(path.rglob("*")) if file.name.endswith(suffixes) and file.is_file()]
    if not files:
        raise DataError(f"{path} must hold {' or '.join(suffixes)} files. Got none.")
    named: dict[str, list[Path]] = {}
    for file in files:
        words = re.split(r"[^a-z]+", file.name.lower())[0], file.parent.name.lower()
        part = next((word for word in words if word in _PART_NAMES), "all")
        named.setdefault(part, []).append(file)
    return _named_parts(named, str(path))


def _named_parts(named: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Parts by our names. Without a test part, validation images test; with one part, a part is held out.

    >>> _named_parts({"train": 1, "validation": 2}, ""), _named_parts({"train": 1}, "")
    ({'train': 1, 'test': 2}, {'all': 1})
    """
    parts = {_PART_NAMES.get(name, name): value for name, value in named.items()}
    if len(parts) == 1:
        return {"all": next(iter(parts.values()))}
    if set(parts) == {"train", "val"}:
        return {"train": parts["train"], "test": parts["val"]}
    if not {"train", "test"} <= set(parts) <= set(PARTS):
        raise DataError(
            f"{place} must have the parts train and test, and perhaps validation. Got {', '.join(sorted(named))}."
        )
    return {part: parts[part] for part in PARTS if part in parts}


def _parquet_table(files: Sequence[Path]) -> Table:
    import pyarrow.parquet as pq

    schema = pq.read_schema(files[0])
    for file in files[1:]:
        if not pq.read_schema(file).equals(schema):
            raise DataError(f"The files of a part must have equal columns. Got others in {file}.")

    def read(column: str) -> Iterator[Any]:
        for file in files:
            with pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(_BATCH_ROWS, columns=[column]):
                    yield batch.column(0)

    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    classes = {
        name: feature["names"] for name, feature in features.items() if isinstance(feature, dict) and "names" in feature
    }
    types = {field.name: field.type for field in schema}
    return Table(types=types, classes=classes, read=read, files=files)


def _hugging_face_table(split: Any) -> Table:
    import datasets

    for name, feature in split.features.items():
        if isinstance(feature, datasets.Image):
            split = split.cast_column(name, datasets.Image(decode=False))

    def read(column: str) -> Iterator[Any]:
        for batch in split.select_columns([column]).with_format("arrow").iter(_BATCH_ROWS):
            yield batch.column(0).combine_chunks()

    schema = split.features.arrow_schema
    return Table(
        types={field.name: field.type for field in schema},
        classes={name: feature.names for name, feature in split.features.items() if hasattr(feature, "names")},
        read=read,
        files=[Path(file["filename"]) for file in split.cache_files],
    )


def _images(name: str, tables: Mapping[str, Table], options: Mapping[str, Any]) -> EncodedImages:
    first = next(iter(tables.values()))
    image = _column(first, options.get("image"), "image", IMAGE_COLUMNS, name)
    label = _column(first, options.get("label"), "label", LABEL_COLUMNS, name)
    for part, table in tables.items():
        for column in (image, label):
            if column not in table.types:
                raise DataError(f"Every part of {name} must have the column {column}. Got {part} without it.")
    _check_image_type(first.types[image], image, name)
    values = {part: _values(table, label, name) for part, table in tables.items()}
    names, labels = numbered_classes(values, first.classes.get(label, ()), label)

    def read(part: str) -> Iterator[EncodedImage]:
        row = 0
        for batch in tables[part].read(image):
            for content in _contents(batch, tables[part].files):
                if content is None:
                    raise DataError(f"Every row of {name} must have an image. Got none in row {row} of {part}.")
                yield EncodedImage(name=f"Row {row} of {part} in {name}", content=content)
                row += 1

    state = sha256(f"{name} {image} {label}".encode())
    for part, table in tables.items():
        state.update(part.encode() + labels[part].tobytes())
        for file in table.files:
            stat = os.stat(file)
            state.update(f"{file} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return EncodedImages(name=name, class_names=names, labels=labels, read=read, state=state.hexdigest())


def _column(table: Table, named: str | None, what: str, usual: Sequence[str], place: str) -> str:
    """The column of images or labels."""
    if named is not None:
        if named not in table.types:
            raise DataError(f"{place} has no column {named!r}. Its columns are {', '.join(table.types)}.")
        return named
    for name in usual:
        if name in table.types:
            return name
    raise DataError(
        f"{place} must have a column of {what}s named {', '.join(usual)}. Got {', '.join(table.types)}. "
        f"Name it: {what}=COLUMN."
    )


def _check_image_type(type_: Any, column: str, place: str) -> None:
    import pyarrow.types as types

    if types.is_struct(type_) and type_.get_field_index("bytes") >= 0:
        return
    if not (types.is_binary(type_) or types.is_large_binary(type_)):
        raise DataError(
            f"The column {column} of {place} must hold encoded images: bytes, or bytes and path. Got {type_}."
        )


def _contents(batch: Any, files: Sequence[Path]) -> Iterator[bytes | Path | None]:
    """The encoded images of a batch. A path without bytes is relative to the table's folder."""
    for value in batch.to_pylist():
        if isinstance(value, dict):
            path = value.get("path")
            yield value["bytes"] if value["bytes"] or not path else files[0].parent / path
        else:
            yield value


def _values(table: Table, column: str, place: str) -> np.ndarray:
    import pyarrow.types as types

    type_ = table.types[column]
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        raise DataError(
            f"Every image must have one class; several labels of an image are not supported. "
            f"Got lists in the column {column} of {place}."
        )
    if not (types.is_integer(type_) or types.is_string(type_) or types.is_large_string(type_)):
        raise DataError(f"Labels must be whole numbers or text. Got {type_} in the column {column} of {place}.")
    read = [cast(Any, batch) for batch in table.read(column)]
    if any(batch.null_count for batch in read):
        raise DataError(f"Every image must have a class. Got rows without one in the column {column} of {place}.")
    return np.concatenate([batch.to_numpy(zero_copy_only=False) for batch in read])


def numbered_classes(
    values: Mapping[str, np.ndarray], names: Sequence[str], column: str
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Names of the classes, and labels by part. Text is numbered in its order."""
    first = next(iter(values.values()))
    if first.dtype.kind in "iu":
        labels = {part: each.astype(np.int64) for part, each in values.items()}
        if any((each < 0).any() for each in labels.values()):
            raise DataError(f"Every image must have a class. Got negative labels in the column {column}.")
        return tuple(names), labels
    texts = np.unique(first.astype(str))
    for part, each in values.items():
        if (unknown := np.setdiff1d(each.astype(str), texts)).size:
            raise DataError(f"Every class must have training images. Got the class {str(unknown[0])!r} only in {part}.")
    return tuple(map(str, texts)), {part: np.searchsorted(texts, each.astype(str)) for part, each in values.items()}
