"""Batches of images for training and evaluation: standardised, from memory or from disk, with equal bits.

torch is imported on use.
Shape suffixes: N examples, B examples of a batch, C channels, T frames, H height, W width, S all axes after C.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas.errors import DataError
from nas.execution.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch

AHEAD = 2
"""Batches that are read ahead from the disk."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batches:
    """Examples in batches: moved to the device as raw pixels, standardised there. Made by :func:`batches`.

    Notes
    -----
    `train` draws from its generator in this order: the permutation of the epoch, then the augmentation of each batch.
    A CPU generator gives equal batches on every device. A checkpoint between epochs needs only the generator's state.
    Do not iterate from several threads with one generator.
    """

    source: _Resident | _Streamed
    rows: torch.Tensor
    size: int
    device: torch.device
    preprocessing: Preprocessing
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None
    mix: Callable[[torch.Tensor, torch.Tensor, torch.Generator], tuple[torch.Tensor, torch.Tensor]] | None

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.rows)

    @property
    def waited(self) -> float:
        """Seconds spent waiting for the disk so far; 0 for images in memory."""
        return self.source.waited

    @property
    def steps(self) -> int:
        """Number of batches in one epoch of `train`."""
        return len(training_sizes(len(self), self.size))

    def train(self, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One epoch in random order, augmented.

        Parameters
        ----------
        generator
            Source of the order and of the augmentation.

        Yields
        ------
        x, y
            Images (B, C, *S) float32 and labels (B,) int64 on the device; of mixed images the probabilities of the
            classes, (B, K) float32. An incomplete last batch is left out if it
            is smaller than half a batch or has one example, on which batch norm cannot be trained. If all examples
            fit into one batch, all are used.

        Raises
        ------
        DataError
            Fewer than two examples in a batch.
        """
        import torch

        sizes = training_sizes(len(self), self.size)
        order = torch.randperm(len(self.rows), generator=generator, device=generator.device).to(self.rows.device)
        for x, y in self._read(self.rows[order[: sum(sizes)]].split(sizes)):
            x = self.preprocessing(x if self.augment is None else self.augment(x, generator))
            yield (x, y) if self.mix is None else self.mix(x, y, generator)

    def evaluate(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every example once, in the order of `rows`, not augmented; yields the same types as `train`."""
        for x, y in self._read(self.rows.split(self.size)):
            yield self.preprocessing(x), y

    def _read(self, order: tuple[torch.Tensor, ...]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for x, y in self.source.read(order):
            yield x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)


def training_sizes(examples: int, size: int) -> list[int]:
    """The number of examples in each training batch of an epoch, see :meth:`Batches.train`."""
    smaller = min(size, examples)
    if smaller < 2:
        raise DataError(f"Training batches need 2 examples or more, for batch norm. Got {size=}, {examples=}.")
    full, rest = divmod(examples, smaller)
    return [smaller] * full + [rest] * (rest >= max(2, smaller / 2))


def channels_last(module: torch.nn.Module, input_shape: tuple[int, ...]) -> None:
    """Give the weights the memory layout of batches of images, so that convolutions need not reorder them at each step.

    input_shape: of one example, channels first. Modules for vectors and videos are not changed.
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
    mix: Callable[[torch.Tensor, torch.Tensor, torch.Generator], tuple[torch.Tensor, torch.Tensor]] | None = None,
    device: str | torch.device = "cpu",
) -> Batches:
    """Examples in batches, from one raw tensor on the device, or read batch by batch if the images are a memmap.

    Parameters
    ----------
    x_NCS, y_N
        Images (N, C, *S) uint8 or float32, and labels (N,) int64. In memory on the CPU they are not copied.
    size
        Examples per batch.
    preprocessing
        Standardisation of raw batches.
    rows
        Indices (n,) of the examples to use; None: all.
    augment
        Transformation of raw training batches, see :mod:`evaluators.data.augmentation`; None: none.
    mix
        Transformation of standardised training batches and their labels, see
        :class:`evaluators.data.photographs.Mix`; None: none.
    device
        Device of the batches.

    Raises
    ------
    DataError
        Numbers of images and labels differ, or a size below 1.
    """
    import torch

    if size < 1 or len(x_NCS) != len(y_N):
        raise DataError(f"Batches need size ≥ 1 and a label for every image. Got {size=}, {len(x_NCS)=}, {len(y_N)=}.")
    device = torch.device(device)
    used = torch.arange(len(y_N)) if rows is None else torch.from_numpy(np.array(rows, dtype=np.int64))
    source: _Resident | _Streamed
    if isinstance(x_NCS, np.memmap):
        source = _Streamed(x_NCS, _tensor(y_N), device)
    elif device.type == "cpu":
        source = _Resident(_tensor(x_NCS), _tensor(y_N))
    else:  # only used examples are copied to the device
        source = _Resident(_tensor(x_NCS)[used].to(device), _tensor(y_N)[used].to(device))
        used = torch.arange(len(used), device=device)
    return Batches(
        source=source, rows=used, size=size, device=device, preprocessing=preprocessing, augment=augment, mix=mix
    )


class _Resident:
    """Images and labels in one tensor each, on the device."""

    waited = 0.0

    def __init__(self, x_NCS: torch.Tensor, y_N: torch.Tensor) -> None:
        self.x_NCS, self.y_N = x_NCS, y_N

    def read(self, order: tuple[torch.Tensor, ...]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for rows_B in order:
            yield self.x_NCS[rows_B], self.y_N[rows_B]


class _Streamed:
    """Images on disk and labels in memory.

    A thread reads ahead: it works without Python's lock, and starts at once, unlike processes, which would start anew
    in every epoch.
    """

    def __init__(self, x_NCS: np.ndarray, y_N: torch.Tensor, device: torch.device) -> None:
        self.x_NCS, self.y_N, self.pinned = _tensor(x_NCS), y_N, device.type == "cuda"
        self.waited = 0.0

    def batch(self, rows_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x_BCS, y_B = self.x_NCS[rows_B], self.y_N[rows_B]
        return (x_BCS.pin_memory(), y_B.pin_memory()) if self.pinned else (x_BCS, y_B)

    def read(self, order: tuple[torch.Tensor, ...]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        with ThreadPoolExecutor(1) as reader:
            ahead = deque(reader.submit(self.batch, rows_B) for rows_B in order[:AHEAD])
            for rows_B in (*order[AHEAD:], *[None] * len(ahead)):
                started = time.monotonic()
                batch = ahead.popleft().result()
                self.waited += time.monotonic() - started
                if rows_B is not None:
                    ahead.append(reader.submit(self.batch, rows_B))
                yield batch


def _tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor that shares the array's memory, to be read only; a copy if the array has negative strides."""
    import torch

    if any(stride < 0 for stride in array.strides):
        return torch.from_numpy(np.array(array))
    return torch.from_numpy(np.asarray(array if array.flags.writeable else _Readable(array)))


class _Readable:
    """The memory of a read-only array, for torch, whose tensors have no such mark: it warns of arrays that have it."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array  # keeps the memory
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}
