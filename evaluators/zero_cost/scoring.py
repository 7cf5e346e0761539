"""Shared by the zero-cost proxies: settings, untrained networks, and batches that are random or of images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.data.batches import batches, channels_last
from evaluators.data.datasets import Dataset
from evaluators.data.loading import load
from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.execution.preprocessing import Preprocessing
from nas.representation.architecture import Architecture
from nas.representation.elements import ACTIVATIONS, Task
from nas.seeds import seed as seed_of

Levels = Literal["largest", "mean"]
"""Score of the largest operating point, or the mean of the scores of all points."""

Batch = tuple[Tensor, Tensor]
"""Inputs, shape (N, *input_shape), and labels, shape (N,)."""

ACTIVATION_FUNCTIONS = frozenset(getattr(F, name) for name in ACTIVATIONS if name != "none")


def check_settings(levels: str, **at_least_two: int) -> None:
    """Check the settings that proxies share.

    Raises
    ------
    UserError
        If ``levels`` is neither "largest" nor "mean", or if one of the numbers is no int of at least 2.
    """
    if levels not in ("largest", "mean"):
        raise UserError(f"levels must be 'largest' or 'mean'. Got {levels!r}.")
    for name, number in at_least_two.items():
        if type(number) is not int or number < 2:
            raise UserError(f"{name} must be a whole number of at least 2. Got {number!r}.")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, so that the order of its sums does not depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def over_levels(levels: Levels, network: AnytimeNetwork, score: Callable[[int], float]) -> float:
    """The score of the largest level of a network, or the mean of the scores of all levels."""
    return fmean(map(score, range(network.levels))) if levels == "mean" else score(network.levels - 1)


def fresh_network(architecture: Architecture, seed: int = 0) -> AnytimeNetwork:
    """The untrained network of an architecture's canonical form, in training mode.

    Its weights are a function of the architecture's key and the seed.
    """
    generator = torch.Generator().manual_seed(seed_of(architecture.network_key, "zero-cost weights", seed))
    network = AnytimeNetwork(architecture.canonical, generator=generator)
    channels_last(network, architecture.task.input_shape)
    return network


def draw_batches(
    architecture: Architecture, count: int, size: int, data: str | Dataset | None = None, seed: int = 0
) -> list[Batch]:
    """Batches that are a function of the architecture's key, the data and the seed.

    Parameters
    ----------
    architecture : Architecture
        Its task gives the shape of the inputs and the number of classes.
    count, size : int
        Number of batches, and of examples in each. Batches are smaller if there are fewer than count × size images.
    data : str or Dataset, optional
        A data spec (``nas data``) or a data set. Batches are distinct training images, standardised. Without data,
        inputs are drawn from a normal distribution and labels uniformly.

    Returns
    -------
    list of (Tensor, Tensor)
        Inputs, shape (N, *input_shape), and labels, shape (N,).

    Raises
    ------
    UserError
        If the data are for another task, or too few for batches of two.
    """
    task, generator = architecture.task, torch.Generator()
    generator.manual_seed(seed_of(architecture.network_key, "zero-cost batch", seed))
    if data is not None:
        return _draw_images(task, generator, count, size, data)
    drawn = []
    for _ in range(count):
        x = torch.randn(size, *task.input_shape, generator=generator)
        labels = torch.randint(task.num_classes, (size,), generator=generator)
        drawn.append((x.contiguous(memory_format=torch.channels_last) if _is_image(task) else x, labels))
    return drawn


def _is_image(task: Task) -> bool:
    """Whether inputs have two spatial sizes: convolutions of them are faster with channels last in memory."""
    return len(task.input_shape) == 3


@lru_cache(maxsize=4)
def _images(data: str | Dataset) -> tuple[Dataset, Preprocessing]:
    dataset = load(data) if isinstance(data, str) else data
    return dataset, Preprocessing.fit(dataset.x_train)


def _draw_images(task: Task, generator: torch.Generator, count: int, size: int, data: str | Dataset) -> list[Batch]:
    dataset, preprocessing = _images(data)
    if (dataset.task.input_shape, dataset.num_classes) != (task.input_shape, task.num_classes):
        raise UserError(
            f"The proxy's data must have the task's shape {task.input_shape} and {task.num_classes} classes. "
            f"Got {dataset.task.input_shape} and {dataset.num_classes} from {dataset.name!r}."
        )
    size = min(size, len(dataset.y_train) // count)
    if size < 2:
        raise UserError(f"The proxy's data must fill {count} batches of two. Got {len(dataset.y_train)} images.")
    rows = torch.randperm(len(dataset.y_train), generator=generator)[: count * size].numpy()
    drawn = batches(dataset.x_train, dataset.y_train, size=size, preprocessing=preprocessing, rows=rows)
    return list(drawn.evaluate())
