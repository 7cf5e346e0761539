"""Tables with a column of encoded images and one of labels: parquet files, and data sets of Hugging Face.

Shape suffix: N examples.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from evaluators.data.arrays import some
from evaluators.data.datasets import Dataset
from evaluators.data.encoded import PARTS, EncodedImage, EncodedImages, decoded, image_options, state_of
from nas.errors import DataError, one_line
from nas.files import expanded

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "pixel_values")
LABEL_COLUMNS = ("label", "labels", "cls", "class", "fine_label", "target")
"""Usual names of the columns, the first of which are taken by default."""

_PART_NAMES = {"train": "train", "training": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
_BATCH_ROWS = 256
_LARGEST_LABEL = 2**31


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of one part.

    types: the Arrow types of its columns by name. classes: names of the classes by column, where the table has them.
    read: batches of the values of a column.
    """

    types: Mapping[str, Any]
    classes: Mapping[str, Sequence[str]]
    read: Callable[[str], Iterator[Any]]


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
        files = parts_of_folder(path, ".parquet")
        tables = {part: _parquet_table(of_part) for part, of_part in files.items()}
        return _decoded(f"parquet:{path}", tables, files, options)
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
    saved = folder.is_dir() and any((folder / file).exists() for file in ("dataset_dict.json", "state.json"))
    if saved and "config" in options:
        raise DataError(f"A folder of save_to_disk has no configurations. Got config={options['config']}.")
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        if saved:
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
    named: dict[str, Any] = {}
    for split, rows in splits.items():
        if (part := _PART_NAMES.get(split, split)) in named:
            raise DataError(
                f"hf:{name} must have one split for each part. Got several for {part}: {', '.join(splits)}."
            )
        named[part] = rows
    parts = _checked_parts(named, f"hf:{name}")
    tables = {part: _hugging_face_table(rows) for part, rows in parts.items()}
    files = {part: [Path(file["filename"]) for file in rows.cache_files] for part, rows in parts.items()}
    return _decoded(f"hf:{folder if folder.is_dir() else name}", tables, files, options)


def parts_of_folder(path: Path, *suffixes: str) -> dict[str, list[Path]]:
    """Files by part: by the first word of their names, or by the nearest folder that names a part. A file: all.

    Raises DataError if there are no files, or no training and test part.
    """
    if path.is_file():
        return {"all": [path]}
    if not path.is_dir():
        raise DataError(f"The data must be a file or a folder. Got {str(path)!r}, nothing there. Check the path.")
    files = [file for file in sorted(path.rglob("*")) if file.name.lower().endswith(suffixes) and file.is_file()]
    if not files:
        raise DataError(f"{path} must hold {' or '.join(suffixes)} files. Got none.")
    named: dict[str, list[Path]] = {}
    for file in files:
        folders = [each.lower() for each in reversed(file.relative_to(path).parts[:-1])]
        words = re.split(r"[^a-z]+", file.name.lower())[0], *folders
        named.setdefault(next((_PART_NAMES[word] for word in words if word in _PART_NAMES), "other"), []).append(file)
    return _checked_parts(named, str(path))


def _checked_parts(named: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The parts of a data set. Without a test part, validation images test; of a single part, some are held out.

    >>> _checked_parts({"train": 1, "val": 2}, ""), _checked_parts({"train": 1}, "")
    ({'train': 1, 'test': 2}, {'all': 1})
    """
    if len(named) == 1:
        return {"all": next(iter(named.values()))}
    if set(named) == {"train", "val"}:
        return {"train": named["train"], "test": named["val"]}
    if not {"train", "test"} <= set(named) <= set(PARTS):
        raise DataError(
            f"{place} must have the parts train and test, and perhaps validation. Got {', '.join(sorted(named))}: "
            "leave the others out, for example in a copy."
        )
    return {part: named[part] for part in PARTS if part in named}


def _parquet_table(files: Sequence[Path]) -> Table:
    import pyarrow.parquet as pq

    schemas = [pq.read_schema(file) for file in files]
    for file, schema in zip(files, schemas):
        if not schema.equals(schemas[0]) or _class_names(schema) != _class_names(schemas[0]):
            raise DataError(f"The files of a part must have equal columns and classes. Got others in {file}.")

    def read(column: str) -> Iterator[Any]:
        for file in files:
            with pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(_BATCH_ROWS, columns=[column]):
                    yield batch.column(0)

    types = {field.name: field.type for field in schemas[0]}
    return Table(types=types, classes=_class_names(schemas[0]), read=read)


def _class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """Names of the classes by column, as Hugging Face notes them in a parquet file."""
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {
        name: tuple(feature["names"])
        for name, feature in features.items()
        if isinstance(feature, dict) and "names" in feature
    }


def _hugging_face_table(split: Any) -> Table:
    import datasets

    for name, feature in split.features.items():
        if isinstance(feature, datasets.Image):
            split = split.cast_column(name, datasets.Image(decode=False))

    def read(column: str) -> Iterator[Any]:
        for batch in split.select_columns([column]).with_format("arrow").iter(_BATCH_ROWS):
            yield batch.column(0).combine_chunks()

    return Table(
        types={field.name: field.type for field in split.features.arrow_schema},
        classes={name: tuple(each.names) for name, each in split.features.items() if hasattr(each, "names")},
        read=read,
    )


def _decoded(
    name: str, tables: Mapping[str, Table], files: Mapping[str, Sequence[Path]], options: Mapping[str, Any]
) -> Dataset:
    """The data of tables. files: on which the parts lie."""
    first = next(iter(tables.values()))
    image = _column(first, options.get("image"), "image", IMAGE_COLUMNS, name)
    label = _column(first, options.get("label"), "label", LABEL_COLUMNS, name)
    for part, table in tables.items():
        for column in (image, label):
            if column not in table.types:
                raise DataError(f"Every part of {name} must have the column {column}. Got {part} without it.")
        if table.classes.get(label, ()) != first.classes.get(label, ()):
            raise DataError(f"All parts of {name} must have the same classes in one order. Got others in {part}.")
    _check_image_type(first.types[image], image, name)

    def read(part: str) -> Iterator[EncodedImage]:
        contents = (each for batch in tables[part].read(image) for each in batch.to_pylist())
        for row, value in enumerate(contents):
            content = value["bytes"] if isinstance(value, dict) else value
            if content is None:
                raise DataError(
                    f"Every row of {name} must have the bytes of an image. Got none in row {row} of {part}: embed the "
                    "images, or use folder:DIR."
                )
            yield EncodedImage(name=f"Row {row} of {part} in {name}", content=content)

    def scan() -> EncodedImages:
        values = {part: _values(table, label, name) for part, table in tables.items()}
        names, labels = numbered_classes(values, first.classes.get(label, ()), label)
        return EncodedImages(class_names=names, labels=labels, read=read)

    return decoded(name, state_of(f"{name} {image} {label}", files), options, scan)


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


def _values(table: Table, column: str, place: str) -> np.ndarray:
    import pyarrow.types as types

    type_ = table.types[column]
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        raise DataError(
            f"Every image must have one class; several labels of an image are not supported. "
            f"Got lists in the column {column} of {place}."
        )
    read = [cast(Any, batch) for batch in table.read(column)]
    if types.is_dictionary(type_):
        read, type_ = [batch.dictionary_decode() for batch in read], type_.value_type
    if not (types.is_integer(type_) or types.is_boolean(type_) or _is_text(type_)):
        raise DataError(f"Labels must be whole numbers or text. Got {type_} in the column {column} of {place}.")
    if any(batch.null_count for batch in read):
        raise DataError(f"Every image must have a class. Got rows without one in the column {column} of {place}.")
    dtype: Any = np.str_ if _is_text(type_) else None
    return np.concatenate([np.empty(0, dtype or np.int8), *(np.asarray(batch.to_pylist(), dtype) for batch in read)])


def _is_text(type_: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_string(type_) or types.is_large_string(type_))


def numbered_classes(
    values: Mapping[str, np.ndarray], names: Sequence[str], column: str
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Names of the classes, and labels by part. Text is numbered in its order; names without images are left out.

    Parameters
    ----------
    values
        Numbers or text by part, the training part first.
    names
        Of the classes with these numbers; empty: none are known.
    column
        Of the labels, for messages.

    Raises
    ------
    DataError
        If a part is empty, parts have labels of different kinds, or a class has no training images.
    """
    if empty := [part for part, each in values.items() if not len(each)]:
        raise DataError(f"Every part must have examples. Got none in {empty[0]}.")
    first = next(iter(values.values()))
    if len({each.dtype.kind == "U" for each in values.values()}) > 1:
        raise DataError(f"Labels must be numbers in all parts, or text in all. Got both in the column {column}.")
    is_text = first.dtype.kind == "U"
    if not is_text and any(each.min() < 0 or each.max() >= _LARGEST_LABEL for each in values.values()):
        raise DataError(f"Labels must be 0..K-1. Got {some(first)} in the column {column}: number the classes.")
    if not is_text and not names:
        return (), {part: each.astype(np.int64) for part, each in values.items()}
    known = np.unique(first)
    for part, each in values.items():
        if (unknown := np.setdiff1d(each, known)).size:
            raise DataError(
                f"Every class must have training images. Got the class {unknown[0].item()!r} only in {part}."
            )
    if not is_text and known[-1] >= len(names):
        raise DataError(f"Labels must be 0..{len(names) - 1}, as there are {len(names)} names. Got {some(known)}.")
    labels = {part: np.searchsorted(known, each).astype(np.int64) for part, each in values.items()}
    return tuple(str(each) if is_text else names[each] for each in known.tolist()), labels
