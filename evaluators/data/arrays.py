"""Arrays on their way into a network: checked, standardised, served in batches.

What users pass becomes channels-first uint8 or float32 images and int64 labels (`images`, `labels`); `Batches`
standardises and serves them, from memory or from disk, the same bits either way. torch is imported on use.
Shape suffixes: N examples, B examples of a batch, C channels, T frames, H height, W width, S all that follow C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import DataError, unknown_name
from nas.execution.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch

LAYOUTS = {"NHW": 3, "NCHW": 4, "NHWC": 4, "NCTHW": 5, "NTHWC": 5}
"""Orders of axes that images may come in, with their number of axes."""

_LIKELY_CHANNELS = range(1, 5)
_CHUNK_BYTES = 2**22
_LARGEST_LABEL = 2**31


# What users pass -------------------------------------------------------------------------------------------------


def chunks(array_N: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive slices of at least one example and about 4 MiB, as views: no pass over a memmap fills the memory."""
    rows = max(1, _CHUNK_BYTES * len(array_N) // max(1, array_N.nbytes))
    for start in range(0, len(array_N), rows):
        yield array_N[start : start + rows]


def as_array(value: Any, name: str) -> np.ndarray:
    """`value` as an array of numbers with at least one element; memmaps and native arrays are not copied.

    Takes numpy arrays, torch tensors of any device and dtype, nested lists. Raises DataError.
    """
    if hasattr(value, "detach"):  # a tensor; numpy has no bfloat16, and floats become float32 in any case
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    try:
        array = value if isinstance(value, np.memmap) else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f"{type(value).__name__}: {one_line(error)}"
        raise DataError(
            f"{name} must be one array of numbers. Got {got}. Stack equal shapes by numpy.stack."
        ) from error
    if array.dtype.kind not in "buif":
        way_out = "Stack images by numpy.stack; number labels by numpy.unique(y, return_inverse=True)[1]."
        raise DataError(f"{name} must hold numbers. Got dtype {array.dtype}. {way_out}")
    if not array.size:
        raise DataError(f"{name} must hold at least one example. Got shape {array.shape}.")
    return array


def guess_layout(shape: tuple[int, ...], name: str) -> str:
    """The layout of images by their shape: the channel axis is the only one of its candidates with 1 to 4 entries.

    >>> guess_layout((100, 28, 28), "x"), guess_layout((100, 32, 32, 3), "x"), guess_layout((9, 3, 8, 32, 32), "x")
    ('NHW', 'NHWC', 'NCTHW')
    """
    if len(shape) not in LAYOUTS.values():
        raise DataError(f"{name} must be N×H×W, N×H×W×C, N×C×H×W or N×C×T×H×W. Got shape {shape}. Reshape it.")
    if len(shape) == 3:
        return "NHW"
    first, last = shape[1] in _LIKELY_CHANNELS, shape[-1] in _LIKELY_CHANNELS
    if first == last:
        options = "NCHW|NHWC|NHW" if len(shape) == 4 else "NCTHW|NTHWC"
        raise DataError(
            f"Exactly one axis, the second or the last, must look like channels (1 to 4). Got {name} of shape {shape}: "
            f"--layout {options} settles it (layout= in Python)."
        )
    spatial = "HW" if len(shape) == 4 else "THW"
    return f"NC{spatial}" if first else f"N{spatial}C"


def images(array: np.ndarray, name: str, layout: str) -> np.ndarray:
    """Images of any layout as (N, C, *S) uint8 or float32, a view of what came wherever its dtype allows.

    bool and integers within 0..255 become uint8, floats become float32. Raises DataError.
    """
    if layout not in LAYOUTS:
        raise DataError(unknown_name("layout", layout, LAYOUTS))
    if array.ndim != LAYOUTS[layout]:
        raise DataError(
            f"{name} must have the {LAYOUTS[layout]} axes of --layout {layout}. Got shape {array.shape}. "
            "Name another layout, or reshape it."
        )
    array = _pixels(array, name)
    if layout == "NHW":
        return array[:, None]
    return np.moveaxis(array, -1, 1) if layout.endswith("C") else array


def _pixels(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype in (np.uint8, np.float32):
        return array
    if isinstance(array, np.memmap):
        raise DataError(
            f"{name} on disk must be uint8 or float32, which are used as they are. Got {array.dtype}. "
            f"Save it converted: numpy.save(file, {name}.astype('float32'))."
        )
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what overflows becomes inf, which is refused with all others
            return array.astype(np.float32)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 255:
        raise DataError(
            f"Integers in {name} must lie in 0..255. Got {array.dtype} from {low} to {high}. "
            f"Convert them: {name}.astype('float32')."
        )
    return array.astype(np.uint8)


def labels(value: Any, name: str) -> np.ndarray:
    """Labels as (N,) int64, from integers or integral floats of shape (N,) or (N, 1). Raises DataError."""
    array = np.asarray(as_array(value, name))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        got = f"{array.shape}. One-hot labels become numbers by {name}.argmax(1)"
        raise DataError(f"{name} must have shape (N,) or (N, 1). Got {got}.")
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        odd = some(array[~np.isfinite(array) | (array != np.rint(array))])
        raise DataError(f"{name} must hold whole numbers. Got {odd}. Number the classes.")
    if array.max() >= _LARGEST_LABEL or array.min() <= -_LARGEST_LABEL:
        raise DataError(f"{name} must hold classes 0..K-1. Got {some(array)}. Number the classes without gaps.")
    return array.astype(np.int64, copy=False)


def check_lengths(x: np.ndarray, y: np.ndarray, part: str) -> None:
    """Raises DataError unless there is one label for every image."""
    if y.shape != x.shape[:1]:
        got = f"{len(x)} images and labels of shape {y.shape}"
        raise DataError(f"y_{part} must have one label for every image. Got {got}. Check that they belong together.")


def check_classes(y_N: np.ndarray, *, at_least: int) -> int:
    """The number of classes, after checking that they are 0..K-1, K ≥ 2, with `at_least` examples each."""
    classes, counts = np.unique(y_N, return_counts=True)
    way_out = "numpy.unique(y, return_inverse=True)[1] numbers classes."
    if classes[0] < 0:
        raise DataError(f"Labels must not be negative. Got {classes[0]} in y_train. Drop what is unlabelled; {way_out}")
    if len(classes) == 1:
        raise DataError(f"There must be at least two classes. Got {classes[0]} only in y_train. Add another class.")
    if classes[-1] != len(classes) - 1:
        missing = np.setdiff1d(np.arange(min(classes[-1], len(classes))), classes)
        raise DataError(
            f"Labels must be 0..{len(classes) - 1} without gaps, for {len(classes)} classes. "
            f"Got {classes[0]}..{classes[-1]} without {some(missing)} in y_train. {way_out}"
        )
    if counts.min() < at_least:
        purpose = "train and validate" if at_least == 2 else "train, validate and test"
        raise DataError(
            f"Every class needs at least {at_least} examples, to {purpose}. "
            f"Got {counts.min()} of class {counts.argmin()} in y_train. Add examples, or drop the class."
        )
    return len(classes)


def some(values: np.ndarray) -> str:
    """The smallest of `values` for a message, up to three."""
    distinct = np.unique(values)
    return ", ".join(f"{value}" for value in distinct[:3]) + (", …" if len(distinct) > 3 else "")


def one_line(error: BaseException) -> str:
    """What an exception says, on one line and without its final stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


# Batches ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Batches:
    """Examples in batches, raw on their way, standardised on the device; made by `batches`, used epoch by epoch.

    `train` draws everything random from the one generator that it is given: first the order of the epoch, then the
    augmentation of each batch. With a CPU generator, batches are the same on every device. Its state between epochs
    is all that a checkpoint needs. Not safe to iterate from several threads with one generator.
    """

    source: _Resident | _Streamed
    rows: torch.Tensor
    size: int
    device: torch.device
    preprocessing: Preprocessing
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.rows)

    @property
    def steps(self) -> int:
        """Number of batches that one epoch of `train` yields."""
        return len(self._training_sizes())

    def train(self, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One epoch in random order, augmented: yields x (B, C, *S) float32 and y (B,) int64 on the device.

        An incomplete last batch is left out where it is smaller than half a batch or has one example, which batch
        norm cannot train on; where all examples make one batch, all of them are used.
        """
        import torch

        sizes = self._training_sizes()
        order = torch.randperm(len(self.rows), generator=generator, device=generator.device).to(self.rows.device)
        for x, y in self._read(self.rows[order[: sum(sizes)]].split(sizes)):
            yield self.preprocessing(x if self.augment is None else self.augment(x, generator)), y

    def evaluate(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every example once, in the order of `rows`, without augmentation: yields as `train` does."""
        for x, y in self._read(self.rows.split(self.size)):
            yield self.preprocessing(x), y

    def _training_sizes(self) -> list[int]:
        size = min(self.size, len(self.rows))
        if size < 2:
            raise DataError(
                f"Training batches need 2 examples or more, for batch norm. Got {self.size=}, {len(self)=}."
            )
        full, rest = divmod(len(self.rows), size)
        return [size] * full + [rest] * (rest >= max(2, size / 2))

    def _read(self, order: tuple[torch.Tensor, ...]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for x, y in self.source.read(order):
            yield x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)


def channels_last(module: torch.nn.Module, input_shape: tuple[int, ...]) -> None:
    """Lay the weights of a module out as batches of images come; else every convolution reorders its own at each step.

    input_shape: of one example, channels first. Only images have such a layout here: vectors and videos stay.
    """
    import torch

    if len(input_shape) == 3:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stub


def batches(
    x_NCS: np.ndarray,
    y_N: np.ndarray,
    *,
    size: int,
    preprocessing: Preprocessing,
    rows: np.ndarray | None = None,
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None,
    device: str | torch.device = "cpu",
    workers: int = 0,
) -> Batches:
    """Examples of a Dataset in batches: from one raw tensor on the device, or read as needed where x is a memmap.

    x_NCS, y_N: (N, C, *S) uint8 or float32 and (N,) int64. In memory on the CPU they are not copied.
    size: examples a batch. rows: (n,) the examples to use, all where None.
    augment: what `train` does to raw batches, see `evaluators.data.augmentation`.
    workers: processes that read ahead from a memmap; 0 reads in this one.
    """
    import torch

    if size < 1 or len(x_NCS) != len(y_N):
        raise DataError(f"Batches need size ≥ 1 and a label for every image. Got {size=}, {len(x_NCS)=}, {len(y_N)=}.")
    device = torch.device(device)
    chosen = torch.arange(len(y_N)) if rows is None else torch.from_numpy(np.array(rows, dtype=np.int64))
    source: _Resident | _Streamed
    if isinstance(x_NCS, np.memmap):
        source = _Streamed(x_NCS, _tensor(y_N), device, workers)
    elif device.type == "cpu":
        source = _Resident(_tensor(x_NCS), _tensor(y_N))
    else:  # only what is used travels
        source = _Resident(_tensor(x_NCS)[chosen].to(device), _tensor(y_N)[chosen].to(device))
        chosen = torch.arange(len(chosen), device=device)
    return Batches(source=source, rows=chosen, size=size, device=device, preprocessing=preprocessing, augment=augment)


class _Resident:
    """Images and labels as one tensor each, on the device."""

    def __init__(self, x_NCS: torch.Tensor, y_N: torch.Tensor) -> None:
        self.x_NCS, self.y_N = x_NCS, y_N

    def read(self, order: tuple[torch.Tensor, ...]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for rows_B in order:
            yield self.x_NCS[rows_B], self.y_N[rows_B]


class _Streamed:
    """Images on disk and labels in memory: a map-style data set whose index is a whole batch."""

    def __init__(self, x_NCS: np.ndarray, y_N: torch.Tensor, device: torch.device, workers: int) -> None:
        self.x_NCS, self.y_N, self.device, self.workers = x_NCS, y_N, device, workers

    def __getitem__(self, rows_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return _tensor(self.x_NCS[rows_B.numpy()]), self.y_N[rows_B]

    def read(self, order: tuple[torch.Tensor, ...]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        import torch

        yield from torch.utils.data.DataLoader(
            self,  # type: ignore[arg-type]  # it asks for nothing else of a data set
            sampler=order,
            batch_size=None,  # an index is a batch: one fancy-index read
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # without one, every epoch draws from the global state
        )


def _tensor(array: np.ndarray) -> torch.Tensor:
    """Shares the array's memory; copies what torch cannot share: read-only arrays and negative strides."""
    import torch

    shareable = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(np.asarray(array) if shareable else np.array(array))
