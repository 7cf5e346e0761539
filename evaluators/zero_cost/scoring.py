"""What the reference proxies share: fresh networks and batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor

from evaluators.data.arrays import batches, channels_last
from evaluators.data.datasets import Dataset, load
from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.execution.preprocessing import Preprocessing
from nas.representation.architecture import Architecture
from nas.representation.elements import Task
from nas.seeds import seed as seed_of

Levels = Literal["largest", "mean"]


Batch = tuple[Tensor, Tensor]


def fresh_network(architecture: Architecture, seed: int = 0) -> AnytimeNetwork:
    """The untrained network of an architecture's canonical form, in training mode; weights follow from its key."""
    generator = torch.Generator().manual_seed(seed_of(architecture.network_key, "zero-cost weights", seed))
    network = AnytimeNetwork(architecture.canonical, generator=generator)
    channels_last(network, architecture.task.input_shape)
    return network


def draw_batches(
    architecture: Architecture, count: int, size: int, data: str | Dataset | None = None, seed: int = 0
) -> list[Batch]:
    """Batches (x of shape (N, \\*input_shape), labels (N,)) that follow from the architecture's key.

    Without data, x is random normal and labels are uniform; else they are distinct training images, standardised. Of
    few images, batches are smaller than ``size``.

    Raises UserError when the data are for another task, or too few for batches of two.
    """
    task, generator = architecture.task, torch.Generator()
    generator.manual_seed(seed_of(architecture.network_key, "zero-cost batch", seed))
    if data is not None:
        return _draw_images(task, generator, count, size, data)
    drawn = []
    for _ in range(count):
        x = torch.randn(size, *task.input_shape, generator=generator)
        labels = torch.randint(task.num_classes, (size,), generator=generator)
        drawn.append((x.contiguous(memory_format=torch.channels_last) if _is_flat(task) else x, labels))
    return drawn


def _over(levels: Levels, network: AnytimeNetwork, score: Callable[[int], float]) -> float:
    return fmean(map(score, range(network.levels))) if levels == "mean" else score(network.levels - 1)


def _check(levels: str, **at_least_two: int) -> None:
    if levels not in ("largest", "mean"):
        raise UserError(f"levels must be 'largest' or 'mean'. Got {levels!r}.")
    for name, number in at_least_two.items():
        if not (type(number) is int and number >= 2):
            raise UserError(f"{name} must be a whole number of at least 2. Got {number!r}.")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_flat(task: Task) -> bool:
    """Whether inputs are images, of which convolutions are faster when channels come last in memory."""
    return len(task.input_shape) == 3


@lru_cache(maxsize=4)
def _images(data: str | Dataset) -> tuple[Dataset, Preprocessing]:
    dataset = load(data) if isinstance(data, str) else data
    return dataset, Preprocessing.fit(dataset.x_train)


def _draw_images(task: Task, generator: torch.Generator, count: int, size: int, data: str | Dataset) -> list[Batch]:
    dataset, preprocessing = _images(data)
    if (dataset.task.input_shape, dataset.num_classes) != (task.input_shape, task.num_classes):
        raise UserError(
            f"The proxy's data must be those of the task, {task.input_shape} and {task.num_classes} classes. "
            f"Got {dataset.task.input_shape} and {dataset.num_classes} from {dataset.name!r}."
        )
    size = min(size, len(dataset.y_train) // count)
    if size < 2:
        raise UserError(f"The proxy's data must fill {count} batches of two. Got {len(dataset.y_train)} images.")
    rows = torch.randperm(len(dataset.y_train), generator=generator)[: count * size].numpy()
    drawn = batches(dataset.x_train, dataset.y_train, size=size, preprocessing=preprocessing, rows=rows)
    return list(drawn.evaluate())
