"""Loading of data by their specification: files, torchvision, and plug-ins, of which some take options.

Shape suffixes: N examples, H height, W width.
"""

from __future__ import annotations

import inspect
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.data.datasets import Dataset, from_arrays
from evaluators.data.folders import load_folder
from evaluators.data.hierarchy import read_mapping
from evaluators.data.shards import load_shards
from evaluators.data.tables import load_hugging_face, load_parquet
from nas.errors import DataError, PluginError, one_line, unknown_name
from nas.evaluation.arrays import EXTRAS, PARTS, VALIDATION, reject_unknown
from nas.files import expanded
from nas.plugins import describe, installed, load_plugin, trust_named

FORMS = {
    "npz:FILE": "x_train, y_train, and x_test, y_test (or a part of train is held out); labels 0 to K-1. "
    "x_val, y_val for validation, y_train_coarse for a label hierarchy.",
    "npy:FOLDER": "The same arrays as .npy files, read from disk as needed: for data larger than memory.",
    "folder:DIR[:size=S]": "JPEG and PNG files of any size in a folder per class, below train/ and test/, or with a "
    "part held out; decoded once, to squares of S pixels.",
    "parquet:PATH[:image=COLUMN,label=COLUMN,size=S]": "A parquet file with encoded images and labels, or a folder of "
    "them whose names begin with train, test or validation.",
    "webdataset:DIR[:size=S]": "Tar archives with NAME.jpg and NAME.cls, whose names begin with train or test.",
    "hf:NAME[:config=C,image=COLUMN,label=COLUMN,size=S]": "Images of Hugging Face: on the Hub, in its cache, or a "
    "folder written by save_to_disk.",
    "torchvision:NAME[:ROOT]": "MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100 or SVHN, if torchvision is installed.",
    "file.py:NAME": "Your own: a Dataset, arrays, or a function without arguments that returns them, seeded.",
}
"""Data specifications beside installed plug-ins, with descriptions."""

ENCODED: dict[str, Callable[[str], Dataset]] = {
    "folder": load_folder,
    "parquet": load_parquet,
    "webdataset": load_shards,
    "hf": load_hugging_face,
}
"""Kinds of data with encoded images, and the functions that load them by the rest of their specification."""

MIRROR_INVARIANT = ("CIFAR10", "CIFAR100")
"""Data sets of torchvision whose images keep their class when mirrored, as in the recipes of the field."""

TORCHVISION = ("MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100", "SVHN")
"""Supported data sets of torchvision."""

_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


def load(spec: str | Dataset, *, layout: str | None = None, hierarchy: str | None = None) -> Dataset:
    """Load data by their specification, which may be stored: a file that it names needs the user's consent.

    Parameters
    ----------
    spec
        One of :data:`FORMS`, or the name of a plug-in of the group ``nas.data``. A plug-in is a Dataset, a tuple
        (x_train, y_train) or (x_train, y_train, x_test, y_test) of arrays, a mapping with arrays of the names in a file
        npz, or a callable that needs no arguments and returns one of these. Arguments with whole numbers as defaults
        are options: ``NAME:OPTION=VALUE,…``. A Dataset takes the place of its specification.
    layout
        Order of the axes, if the shape does not determine it; for npz, npy and plug-ins that return arrays.
    hierarchy
        A JSON file that maps classes to coarse labels, see :func:`evaluators.data.hierarchy.read_mapping`; replaces
        the data's own label hierarchy.

    Returns
    -------
    Dataset
        The checked data.

    Raises
    ------
    DataError
        The specification is unknown, or the data break the rules of :class:`evaluators.data.datasets.Dataset`.
    PluginError
        A plug-in cannot be found or imported.

    Examples
    --------
    >>> load("synthetic:n=60,classes=3,size=8,channels=1").x_train.shape
    (48, 1, 8, 8)
    """
    data = _load(spec, layout)
    if hierarchy is None:
        return data
    return replace(data, hierarchy=(read_mapping(hierarchy, data.num_classes, data.class_names),))


def load_data(spec: str | Dataset, *, layout: str | None = None, hierarchy: str | None = None) -> Dataset:
    """Load data by their specification. A file that it names may run.

    Parameters
    ----------
    spec
        Such as ``npz:FILE`` or ``folder:DIR``, see ``nas data`` for all forms; the name of a plug-in, ``file.py:NAME``,
        or a Dataset.
    layout
        Order of the axes, if the shape does not determine it.
    hierarchy
        A JSON file that maps classes to coarse labels; replaces the data's own label hierarchy.

    Returns
    -------
    Dataset
        The checked data.

    Raises
    ------
    DataError
        The specification is unknown, or the data cannot be used for training.
    PluginError
        A plug-in cannot be found or imported.

    Examples
    --------
    >>> load_data("synthetic:n=60,classes=3,size=8,channels=1").x_train.shape
    (48, 1, 8, 8)
    """
    if isinstance(spec, str) and spec.partition(":")[0].endswith(".py"):
        trust_named(spec)
    return load(spec, layout=layout, hierarchy=hierarchy)


def _load(spec: str | Dataset, layout: str | None) -> Dataset:
    if isinstance(spec, Dataset):
        _reject_layout(layout, spec.name)
        return spec
    kind, _, argument = spec.partition(":")
    if kind in ("npz", "npy"):
        return from_arrays(**_read_arrays(kind, expanded(argument)), name=spec, layout=layout)
    if kind in ENCODED:
        _reject_layout(layout, spec)
        return ENCODED[kind](argument)
    if kind == "torchvision":
        _reject_layout(layout, spec)
        return _torchvision(spec, *argument.split(":", 1))
    return _load_plugin(spec, layout)


def forms() -> dict[str, str]:
    """The data specifications with descriptions: installed plug-ins with their options, and :data:`FORMS`."""
    plugins = {}
    for name, text in describe("nas.data").items():
        try:
            defaults = _defaults(load_plugin("nas.data", name))
        except PluginError:  # the description gives the error
            defaults = {}
        options = ",".join(f"{option}={value}" for option, value in defaults.items())
        plugins[f"{name}[:{options}]" if options else name] = text
    return plugins | FORMS


def _defaults(plugin: Any) -> dict[str, int]:
    """The options of a plug-in: arguments whose defaults are whole numbers."""
    if not inspect.isroutine(plugin):
        return {}
    parameters = inspect.signature(plugin).parameters.values()
    return {each.name: each.default for each in parameters if type(each.default) is int}


def _options(kind: str, text: str, defaults: Mapping[str, int]) -> dict[str, int]:
    """The options in the specification of a plug-in."""
    if text and not defaults:
        raise DataError(f"{kind} has no options. Got {text!r}. Write {kind}.")
    options: dict[str, int] = {}
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in defaults:
            raise DataError(unknown_name(f"option of {kind}", name, defaults))
        if not (value.isascii() and value.isdigit()):
            raise DataError(f"Options of {kind} are whole numbers. Got {item!r}. Write {name}={defaults[name]}.")
        if name in options:
            raise DataError(f"Each option of {kind} may be given once. Got {name} twice.")
        options[name] = int(value)
    return options


def digits() -> Dataset:
    """Handwritten digits: 1,797 images 1×8×8 in ten classes, a quarter for testing (UCI's, from scikit-learn)."""
    from sklearn.datasets import load_digits

    x_NHW, y_N = load_digits(return_X_y=True)
    x_NHW = np.rint(x_NHW.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return from_arrays(x_NHW, y_N, name="digits", layout="NHW", test_fraction=0.25)


def _read_arrays(kind: str, path: Path) -> dict[str, Any]:
    """The arrays of an npz file, or of a folder of npy files, whose images stay on disk. Nothing is unpickled."""
    if not (path.is_file() if kind == "npz" else path.is_dir()):
        present = "a folder" if path.is_dir() else "a file" if path.exists() else "nothing there"
        form = {"npz": "a file, npz:FILE", "npy": "a folder, npy:FOLDER"}[kind]
        raise DataError(f"{kind} data must be {form}. Got {str(path)!r}, {present}. Check the path.")
    try:
        if kind == "npy":
            names = _names_to_read({file.stem for file in path.glob("*.npy")}, path)
            modes: dict[str, Any] = {"x": "r"}
            return {
                name: np.load(path / f"{name}.npy", mmap_mode=modes.get(name[0]), allow_pickle=False) for name in names
            }
        with path.open("rb") as file:  # NumPy itself does not close a broken file
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("a single array")
            return {name: archive[name] for name in _names_to_read(set(archive.files), path)}
    except DataError:
        raise
    except _UNREADABLE as error:
        cause = f"{type(error).__name__}: {one_line(error)}"
        if "pickle" in cause:  # NumPy's message advises to unpickle, which would run code from the file
            cause = "objects or another format, which is never unpickled"
        remedy = f"Save {', '.join(PARTS)} again by numpy.sav{'ez' if kind == 'npz' else 'e'}"
        raise DataError(f"{path} must hold whole arrays of numbers. Got {cause}. {remedy}.") from error


def _names_to_read(present: set[str], path: Path) -> tuple[str, ...]:
    """All four arrays, or only the training set, and the extras that are present. No other arrays may be there."""
    names = PARTS if present & set(PARTS[2:]) else PARTS[:2]
    if not present.issuperset(names):
        missing = ", ".join(name for name in names if name not in present)
        raise DataError(
            f"{path} must hold {', '.join(PARTS)}, or only the first two. "
            f"Got {', '.join(sorted(present)) or 'nothing'}, without {missing}. Save the missing arrays."
        )
    reject_unknown(present, str(path))
    return tuple(name for name in (*PARTS, *EXTRAS, *VALIDATION) if name in present)


def _torchvision(spec: str, name: str, root: str = "") -> Dataset:
    if name not in TORCHVISION:
        raise DataError(unknown_name("torchvision data set", name, TORCHVISION))
    try:
        from torchvision import datasets
    except ImportError as error:
        raise DataError(f"{spec} needs torchvision: pip install torchvision, or use npz:FILE.") from error
    folder = expanded(root or "~/.cache/nas")
    arrays = []
    for train in (True, False):
        which = {"split": "train" if train else "test"} if name == "SVHN" else {"train": train}
        try:
            try:
                part = getattr(datasets, name)(folder, download=False, **which)
            except RuntimeError:  # torchvision's error if the files are absent
                part = getattr(datasets, name)(folder, download=True, **which)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{spec} must be in {folder}, or its download must succeed. Got {type(error).__name__}: "
                f"{one_line(error)}. Put it there, or name its folder: torchvision:{name}:ROOT."
            ) from error
        arrays += [part.data, part.labels if name == "SVHN" else part.targets]
    invariant = name in MIRROR_INVARIANT
    return from_arrays(*arrays, name=spec, class_names=getattr(part, "classes", ()), mirror_invariant=invariant)


def as_dataset(plugin: Any, name: str, *, layout: str | None = None) -> Dataset:
    """The Dataset of a data plug-in: a Dataset, arrays in a tuple or by name, or a callable that returns one of these.

    name, layout: as in :func:`evaluators.data.datasets.from_arrays`. Raises DataError.
    """
    try:
        data = plugin() if callable(plugin) else plugin
        if isinstance(data, tuple) and len(data) in (2, 4):
            return from_arrays(*data, name=name, layout=layout)
        if isinstance(data, Mapping):
            reject_unknown(data, name)
            return from_arrays(**data, name=name, layout=layout)
    except Exception as error:  # a plug-in may raise anything
        raise DataError(f"Data plug-in {name!r} failed. Got {type(error).__name__}: {one_line(error)}.") from error
    if not isinstance(data, Dataset):
        kind = f"a tuple of {len(data)}" if isinstance(data, tuple) else type(data).__name__
        raise DataError(
            f"Data plug-in {name!r} must return a Dataset or arrays (x_train, y_train[, x_test, y_test]). Got {kind}."
        )
    _reject_layout(layout, name)
    return data


def _load_plugin(spec: str, layout: str | None) -> Dataset:
    names = installed("nas.data")
    name, _, text = spec.partition(":")
    if name in names:
        plugin = load_plugin("nas.data", name)
        options = _options(name, text, _defaults(plugin))
        return as_dataset(partial(plugin, **options) if options else plugin, spec, layout=layout)
    if ".py" not in spec:
        hint = f" A file needs its kind: npz:{spec}." if spec.endswith(".npz") else ""
        raise DataError(unknown_name("data", spec, {*FORMS, *names}) + hint)
    return as_dataset(load_plugin("nas.data", spec), spec, layout=layout)


def _reject_layout(layout: str | None, spec: str) -> None:
    if layout is not None:
        raise DataError(f"The layout of {spec} is fixed. Got {layout=}. Leave --layout out.")
