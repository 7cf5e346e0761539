"""Data to learn from: what users have, turned into one checked form, `Dataset`.

`from_arrays` takes arrays, `load` takes a data spec; both end in a `Dataset`, which is the only place where data is
judged. `split` and `subset` choose examples by seed. torch is not imported here.
Shape suffixes: N examples, C channels, T frames, H height, W width.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.data.arrays import (
    as_array,
    check_classes,
    check_lengths,
    chunks,
    guess_layout,
    images,
    labels,
    one_line,
    some,
)
from evaluators.data.hierarchy import Hierarchy, check_coarse_labels, from_coarse_labels, read_mapping
from evaluators.data.moving_digits import MOVING_DIGITS, moving_digits
from nas.errors import DataError, InvalidArchitecture, unknown_name

if TYPE_CHECKING:
    from nas.representation.elements import Task

SYNTHETIC = {"n": 2000, "classes": 10, "size": 16, "channels": 3, "seed": 0}
"""Options of `synthetic`, with their defaults."""

GENERATED = {"synthetic": SYNTHETIC, "moving_digits": MOVING_DIGITS}
"""Data that are generated, with their options."""

FORMS = {
    "npz:FILE": "x_train, y_train, and x_test, y_test (or a part of train is held out); labels 0 to K-1. "
    "y_train_coarse for a label hierarchy.",
    "npy:FOLDER": "The same arrays as .npy files, read from disk as they are needed: for data larger than memory.",
    "torchvision:NAME[:ROOT]": "MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100 or SVHN, where it is installed.",
    f"synthetic[:{','.join(f'{option}={value}' for option, value in SYNTHETIC.items())}]": "Images, with options.",
    f"moving_digits[:{','.join(f'{option}={value}' for option, value in MOVING_DIGITS.items())}]": "Videos of digits "
    "that move sideways or up and down, which are classes of their own.",
    "file.py:NAME": "Your own: a Dataset, arrays, or a function without arguments that returns them.",
}
"""Data specs that `load` takes, beside the names of installed plug-ins, with what they are."""

PARTS = ("x_train", "y_train", "x_test", "y_test")
"""Names of the arrays in a file or folder."""

EXTRAS = ("y_train_coarse", "y_test_coarse", "class_names")
"""Names of arrays that may be beside them."""

TORCHVISION = ("MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100", "SVHN")
"""Data sets that `load` takes from torchvision."""

_HASHED_BYTES = 2**30
_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Labelled images or videos, channels first, with a test set of their own.

    name: for people; it does not enter the fingerprint.
    x_train, x_test: (N, C, H, W) or (N, C, T, H, W), both uint8 or both float32 and finite; any strides; on disk where
        they are `np.memmap`.
    y_train, y_test: (N,) int64. The training set has at least two examples of every class 0..num_classes-1.
    hierarchy: coarser labellings of the classes, see :class:`nas.representation.elements.Task`. class_names: of all
    classes, or none.

    Raises DataError where one of this does not hold. The arrays are not copied: leave them as they are.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    num_classes: int
    hierarchy: Hierarchy = ()
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_part(self.x_train, self.y_train, "train")
        _check_part(self.x_test, self.y_test, "test")
        for what, train, test in (
            ("shape", self.x_train.shape[1:], self.x_test.shape[1:]),
            ("dtype", self.x_train.dtype, self.x_test.dtype),
        ):
            if train != test:
                raise DataError(
                    f"Test images must have the {what} of training images. Got {train} in x_train, {test} in x_test. "
                    "Prepare both in the same way."
                )
        classes = check_classes(self.y_train, at_least=2)
        if classes != self.num_classes:
            raise DataError(f"num_classes must count the classes of y_train, {classes}. Got {self.num_classes=}.")
        unseen = np.setdiff1d(self.y_test, np.arange(classes))
        if unseen.size:
            raise DataError(
                f"Test labels must occur in training, where they are 0..{classes - 1}. Got {some(unseen)} in y_test. "
                "Drop these examples, or train on some of their kind."
            )
        names = self.class_names
        if names and not (len(names) == classes == len(set(names)) and all(isinstance(name, str) for name in names)):
            raise DataError(f"class_names must be {classes} different names, one for each class. Got {names!r:.200}.")
        try:
            _ = self.task
        except InvalidArchitecture as error:
            raise DataError(str(error)) from error

    @property
    def task(self) -> Task:
        """What is to be learned from these data."""
        from nas.representation.elements import Task

        shape = tuple(int(size) for size in self.x_train.shape[1:])
        return Task(input_shape=shape, num_classes=self.num_classes, hierarchy=self.hierarchy)

    @property
    def in_memory(self) -> bool:
        """False where images stay on disk (`np.memmap`) and are read batch by batch."""
        return not (isinstance(self.x_train, np.memmap) or isinstance(self.x_test, np.memmap))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shapes, dtypes, content and hierarchy: equal in memory and on disk, and for any strides.

        Covers every byte of arrays up to 1 GiB (0.1 s for Fashion-MNIST), evenly spaced examples of larger ones.
        """
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            for chunk in chunks(array[:: 1 + array.nbytes // _HASHED_BYTES]):
                digest.update(np.ascontiguousarray(chunk).data.cast("B"))
        if self.hierarchy:
            digest.update(repr(self.hierarchy).encode())
        return digest.hexdigest()


def _check_part(x: np.ndarray, y: np.ndarray, part: str) -> None:
    for name, array, dtypes in ((f"x_{part}", x, ("uint8", "float32")), (f"y_{part}", y, ("int64",))):
        if not isinstance(array, np.ndarray) or array.dtype.name not in dtypes or not array.dtype.isnative:
            got = getattr(array, "dtype", type(array).__name__)
            raise DataError(f"{name} must be a {' or '.join(dtypes)} array. Got {got}. from_arrays converts it.")
    if x.ndim not in (4, 5) or not x.size:
        raise DataError(f"x_{part} must be (N, C, H, W) or (N, C, T, H, W). Got shape {x.shape}. See from_arrays.")
    check_lengths(x, y, part)
    if x.dtype == np.float32 and not all(np.isfinite(chunk).all() for chunk in chunks(x)):
        raise DataError(f"x_{part} must be finite in float32. Got NaN or infinity. numpy.nan_to_num mends it.")


def from_arrays(
    x_train: Any,
    y_train: Any,
    x_test: Any = None,
    y_test: Any = None,
    *,
    y_train_coarse: Any = None,
    y_test_coarse: Any = None,
    class_names: Any = (),
    name: str = "arrays",
    layout: str | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """A Dataset from numpy arrays, torch tensors or nested lists; copied only where a dtype has to change.

    x_train, x_test: N×H×W, N×H×W×C or N×C×H×W, or videos N×C×T×H×W or N×T×H×W×C. bool, uint8 and integers within
        0..255 become uint8, floats become float32. A memmap stays on disk and must already be uint8 or float32.
    y_train, y_test: integers, or floats with integral values, of shape (N,) or (N, 1).
    y_train_coarse: coarse labels (N,) of the training images, 0..n-1, or (N, H) for H coarser labellings, finest first:
        a label hierarchy. y_test_coarse: checked against these. class_names: (K,) texts.
    layout: one of `arrays.LAYOUTS`; needed unless exactly one axis, the second or the last, has 1 to 4 entries.
    test_fraction, seed: which stratified part of the training data becomes the test set where none is given.

    Raises DataError.
    """
    if (x_test is None) != (y_test is None):
        raise DataError("x_test and y_test come together. Got only one: give both, or none to hold out a part.")
    x = as_array(x_train, "x_train")
    layout = layout or guess_layout(x.shape, "x_train")
    x, y = images(x, "x_train", layout), labels(y_train, "y_train")
    check_lengths(x, y, "train")
    hierarchy = () if y_train_coarse is None else from_coarse_labels(y, y_train_coarse, "y_train_coarse")
    if x_test is None:
        if isinstance(x, np.memmap):
            raise DataError("Images on disk need a test set of their own. Got none: save x_test and y_test too.")
        check_classes(y, at_least=3)
        kept, held_out = _split(y, fraction=test_fraction, seed=seed, keep=2)
        x, y, x_test, y_test = x[kept], y[kept], x[held_out], y[held_out]
    else:
        x_test, y_test = images(as_array(x_test, "x_test"), "x_test", layout), labels(y_test, "y_test")
    made = Dataset(
        name=name,
        x_train=x,
        y_train=y,
        x_test=x_test,
        y_test=y_test,
        num_classes=int(y.max()) + 1,
        hierarchy=hierarchy,
        class_names=tuple(str(text) for text in class_names),
    )
    if y_test_coarse is not None:
        check_coarse_labels(hierarchy, made.y_test, y_test_coarse, "y_test_coarse")
    return made


# Choosing examples -----------------------------------------------------------------------------------------------


def split(labels_N: np.ndarray, *, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and of validation examples, each sorted, stratified: every class is on both sides.

    fraction: part of each class that validates, in (0, 1), rounded and at least one example.

    Raises DataError where a class has one example only.

    >>> split(np.array([0, 0, 0, 0, 1, 1]), fraction=0.25, seed=0)[1].size
    2
    """
    return _split(labels_N, fraction=fraction, seed=seed, keep=1)


def _split(labels_N: np.ndarray, *, fraction: float, seed: int, keep: int) -> tuple[np.ndarray, np.ndarray]:
    if not 0 < fraction < 1:
        raise DataError(f"The part that is held out must lie between 0 and 1. Got {fraction=}.")
    class_N, rank_N, counts = _shuffled_ranks(labels_N, seed)
    if counts.min() <= keep:
        raise DataError(f"Every class needs at least {keep + 1} examples to be split. Got one with {counts.min()}.")
    held_out = np.clip(np.rint(counts * fraction), 1, counts - keep)
    chosen_N = rank_N < held_out[class_N]
    return np.flatnonzero(~chosen_N), np.flatnonzero(chosen_N)


def subset(labels_N: np.ndarray, *, size: int, seed: int) -> np.ndarray:
    """Sorted indices (size,) of a stratified subset with every class; nested: of one seed, the larger has the smaller.

    Raises DataError where `size` is below the number of classes or above the number of examples.
    """
    class_N, rank_N, counts = _shuffled_ranks(labels_N, seed)
    if not len(counts) <= size <= len(class_N):
        raise DataError(f"A subset must have {len(counts)} (one a class) to {len(class_N)} examples. Got {size=}.")
    # Any prefix of this order has each class in proportion; the first example of every class comes before all others.
    position_N = np.where(rank_N == 0, -1.0, (rank_N + 0.5) / counts[class_N])
    return np.sort(np.lexsort((class_N, position_N))[:size])


def _shuffled_ranks(labels_N: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each example its class index and its place in a random order of its class; for each class its size."""
    if not len(labels_N):
        raise DataError("Choosing examples needs at least one. Got none.")
    _, class_N, counts = np.unique(np.asarray(labels_N), return_inverse=True, return_counts=True)
    order = np.lexsort((np.random.default_rng(seed).random(len(class_N)), class_N))
    rank_N = np.empty(len(class_N), dtype=np.int64)
    rank_N[order] = np.arange(len(class_N)) - np.repeat(np.cumsum(counts) - counts, counts)
    return class_N, rank_N, counts


# Sources ---------------------------------------------------------------------------------------------------------


def load(spec: str, *, layout: str | None = None, hierarchy: str | None = None) -> Dataset:
    """The data that `spec` names, in one of `FORMS` or by the name of a plug-in of the group `nas.data`.

    A plug-in is a Dataset, a tuple (x_train, y_train) or (x_train, y_train, x_test, y_test) of arrays, or a callable
    without arguments that returns one of these.
    layout: order of the axes where shapes leave it open, for npz, npy and plug-ins that give arrays.
    hierarchy: a file for :func:`evaluators.data.hierarchy.read_mapping`, in place of a label hierarchy of the data's
    own.

    Raises DataError; PluginError where a plug-in cannot be found or imported.
    """
    found = _loaded(spec, layout)
    if hierarchy is None:
        return found
    return replace(found, hierarchy=(read_mapping(hierarchy, found.num_classes, found.class_names),))


def _loaded(spec: str, layout: str | None) -> Dataset:
    kind, _, argument = spec.partition(":")
    if kind in ("npz", "npy"):
        return from_arrays(**_read(kind, Path(argument).expanduser()), name=spec, layout=layout)
    if kind not in ("digits", "torchvision", *GENERATED):
        return _plugin(spec, layout)
    _refuse(layout, spec)
    if kind == "torchvision":
        return _torchvision(spec, *argument.split(":", 1))
    if kind == "digits" and argument:
        raise DataError(f"digits has no options. Got {spec!r}. Write digits.")
    if kind == "digits":
        return digits()
    options = GENERATED[kind] | _options(kind, argument)
    if kind == "synthetic":
        return synthetic(**options)
    name = f"{kind}:{','.join(f'{option}={value}' for option, value in options.items())}"
    return from_arrays(**moving_digits(**options), name=name, layout="NCTHW")


def _options(kind: str, text: str) -> dict[str, int]:
    """What a spec says of the options of generated data."""
    options, defaults = {}, GENERATED[kind]
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in defaults:
            raise DataError(unknown_name(f"option of {kind}", name, defaults))
        if not (value.isascii() and value.isdigit()):
            raise DataError(f"Options of {kind} are whole numbers. Got {item!r}. Write {name}={defaults[name]}.")
        options[name] = int(value)
    return options


def digits() -> Dataset:
    """Handwritten digits: 1,797 images 1×8×8 in ten classes, a quarter held out (scikit-learn's copy of UCI's)."""
    from sklearn.datasets import load_digits

    x_NHW, y_N = load_digits(return_X_y=True)
    x_NHW = np.rint(x_NHW.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return from_arrays(x_NHW, y_N, name="digits", layout="NHW", test_fraction=0.25)


def synthetic(
    *,
    n: int = SYNTHETIC["n"],
    classes: int = SYNTHETIC["classes"],
    size: int = SYNTHETIC["size"],
    channels: int = SYNTHETIC["channels"],
    seed: int = SYNTHETIC["seed"],
) -> Dataset:
    """Artificial images, in memory and the same on every call: blurred patterns, shifted, in clutter and noise.

    n images channels×size×size, a fifth held out; every class has two patterns. With the defaults, a linear model gets
    two thirds right, and a small convolutional network nine in ten. Raises DataError for options out of range.
    """
    if classes < 2 or size < 4 or channels < 1 or n < 3 * classes or n * channels * size**2 > 2**30:
        raise DataError(
            "synthetic needs classes ≥ 2, size ≥ 4, channels ≥ 1, n ≥ 3·classes and n·channels·size² ≤ 2³⁰. "
            f"Got {classes=}, {size=}, {channels=}, {n=}."
        )
    rng = np.random.default_rng(seed)
    patterns = _blurred(rng, (classes, 2, size, size, channels))
    y_N = rng.permutation(np.arange(n) % classes)
    most = size // 4
    down, right = ((np.arange(size) + rng.integers(-most, most + 1, size=(n, 1))) % size for _ in range(2))
    chosen = (y_N[:, None, None], rng.integers(2, size=(n, 1, 1)), down[:, :, None], right[:, None, :])
    x_NHWC = rng.uniform(0.5, 1.5, size=(n, 1, 1, 1)) * patterns[chosen]
    x_NHWC += 0.6 * _blurred(rng, x_NHWC.shape) + rng.standard_normal(x_NHWC.shape)
    x_NHWC = np.clip(np.rint(128 + 32 * x_NHWC), 0, 255).astype(np.uint8)
    name = f"synthetic:{n=},{classes=},{size=},{channels=},{seed=}"
    return from_arrays(x_NHWC, y_N, name=name, layout="NHWC")


def _blurred(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random images (..., H, W, C) without sharp edges, of standard deviation 1."""
    from scipy.ndimage import gaussian_filter

    sigma = (0,) * (len(shape) - 3) + (shape[-2] / 10, shape[-2] / 10, 0)
    x = gaussian_filter(rng.standard_normal(shape), sigma=sigma, mode="wrap")
    return x / x.std(axis=(-3, -2, -1), keepdims=True)


def _read(kind: str, path: Path) -> dict[str, Any]:
    """The arrays of an npz file, or of a folder of npy files where images stay on disk; nothing is ever unpickled."""
    if not (path.is_file() if kind == "npz" else path.is_dir()):
        got = "a folder" if path.is_dir() else "a file" if path.exists() else "nothing there"
        form = {"npz": "a file, npz:FILE", "npy": "a folder, npy:FOLDER"}[kind]
        raise DataError(f"{kind} data must be {form}. Got {str(path)!r}, {got}. Check the path.")
    try:
        if kind == "npy":
            names = _present({file.stem for file in path.glob("*.npy")}, path)
            modes: dict[str, Any] = {"x": "r"}
            return {
                name: np.load(path / f"{name}.npy", mmap_mode=modes.get(name[0]), allow_pickle=False) for name in names
            }
        with path.open("rb") as file:  # numpy itself leaves a broken file open
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("a single array")
            return {name: archive[name] for name in _present(set(archive.files), path)}
    except DataError:
        raise
    except _UNREADABLE as error:
        got = f"{type(error).__name__}: {one_line(error)}"
        if "pickle" in got:  # numpy would advise to unpickle, which runs whatever the file says
            got = "objects or another format, which is never unpickled"
        save = f"Save {', '.join(PARTS)} again by numpy.sav{'ez' if kind == 'npz' else 'e'}"
        raise DataError(f"{path} must hold whole arrays of numbers. Got {got}. {save}.") from error


def _present(found: set[str], path: Path) -> tuple[str, ...]:
    """The names of the arrays to read: all four, or the training set alone, and what is there of the extras."""
    names = PARTS if found & set(PARTS[2:]) else PARTS[:2]
    if not found.issuperset(names):
        missing = ", ".join(name for name in names if name not in found)
        raise DataError(
            f"{path} must hold {', '.join(PARTS)}, or the first two alone. "
            f"Got {', '.join(sorted(found)) or 'nothing'}, without {missing}. Save what is missing."
        )
    return (*names, *(name for name in EXTRAS if name in found))


def _torchvision(spec: str, name: str, root: str = "") -> Dataset:
    if name not in TORCHVISION:
        raise DataError(unknown_name("torchvision data set", name, TORCHVISION))
    try:
        from torchvision import datasets
    except ImportError as error:
        raise DataError(f"{spec} needs torchvision. Got none: pip install torchvision, or use npz:FILE.") from error
    folder = Path(root or "~/.cache/nas").expanduser()
    arrays = []
    for train in (True, False):
        which = {"split": "train" if train else "test"} if name == "SVHN" else {"train": train}
        try:
            try:
                part = getattr(datasets, name)(folder, download=False, **which)
            except RuntimeError:  # torchvision's answer where the files are absent
                part = getattr(datasets, name)(folder, download=True, **which)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{spec} must be in {folder} or within reach of a download. Got {type(error).__name__}: "
                f"{one_line(error)}. Put it there, or name its folder: torchvision:{name}:ROOT."
            ) from error
        arrays += [part.data, part.labels if name == "SVHN" else part.targets]
    return from_arrays(*arrays, name=spec, class_names=getattr(part, "classes", ()))


def _plugin(spec: str, layout: str | None) -> Dataset:
    from nas.plugins import installed, load_plugin

    names = installed("nas.data")
    if spec not in names and ".py" not in spec:
        hint = f" A file needs its kind: npz:{spec}." if spec.endswith(".npz") else ""
        raise DataError(unknown_name("data", spec, {*FORMS, *names}) + hint)
    plugin = load_plugin("nas.data", spec)
    try:
        data = plugin() if callable(plugin) else plugin
        if isinstance(data, tuple) and len(data) in (2, 4):
            return from_arrays(*data, name=spec, layout=layout)
    except Exception as error:  # whatever a plug-in raises
        raise DataError(f"Data plug-in {spec!r} failed. Got {type(error).__name__}: {one_line(error)}.") from error
    if not isinstance(data, Dataset):
        got = f"a tuple of {len(data)}" if isinstance(data, tuple) else type(data).__name__
        wanted = "a Dataset or arrays (x_train, y_train[, x_test, y_test])"
        raise DataError(f"Data plug-in {spec!r} must give {wanted}. Got {got}.")
    _refuse(layout, spec)
    return data


def _refuse(layout: str | None, spec: str) -> None:
    if layout is not None:
        raise DataError(f"The layout of {spec} is known. Got {layout=}. Leave --layout out.")
