"""Stratified choices of examples by seed: a split in two parts, and nested subsets.

Shape suffix: N examples.
"""

from __future__ import annotations

import numpy as np

from nas.errors import DataError


def split(labels_N: np.ndarray, *, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stratified split into training and validation examples: every class is in both parts.

    Parameters
    ----------
    labels_N
        Labels (N,).
    fraction
        Validation part of each class, in (0, 1); rounded, at least one example.
    seed
        Equal seeds give equal splits.

    Returns
    -------
    training, validation
        Sorted indices.

    Raises
    ------
    DataError
        A class has only one example.

    Examples
    --------
    >>> split(np.array([0, 0, 0, 0, 1, 1]), fraction=0.25, seed=0)[1].size
    2
    """
    return split_keeping(labels_N, fraction=fraction, seed=seed, keep=1)


def split_keeping(labels_N: np.ndarray, *, fraction: float, seed: int, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`split`, with at least ``keep`` examples of every class in the first part."""
    if not 0 < fraction < 1:
        raise DataError(f"The part that is held out must lie between 0 and 1. Got {fraction=}.")
    class_N, rank_N, counts = _shuffled_ranks(labels_N, seed)
    if counts.min() <= keep:
        raise DataError(f"Every class needs at least {keep + 1} examples to be split. Got one with {counts.min()}.")
    held_out = np.clip(np.rint(counts * fraction), 1, counts - keep)
    held_out_N = rank_N < held_out[class_N]
    return np.flatnonzero(~held_out_N), np.flatnonzero(held_out_N)


def subset(labels_N: np.ndarray, *, size: int, seed: int, part: int = 0) -> np.ndarray:
    """Stratified subset. The first part contains every class; first parts of equal seed are nested.

    Parameters
    ----------
    labels_N
        Labels (N,).
    size
        Number of examples, from the number of classes to N.
    seed
        Equal seeds give nested subsets.
    part
        Which subset, counted from 0: each begins where the one before it ended, and the first example follows the last.

    Returns
    -------
    numpy.ndarray
        Sorted indices, (size,).

    Raises
    ------
    DataError
        ``size`` is out of range.
    """
    class_N, rank_N, counts = _shuffled_ranks(labels_N, seed)
    if not len(counts) <= size <= len(class_N):
        raise DataError(f"A subset must have {len(counts)} (one a class) to {len(class_N)} examples. Got {size=}.")
    # Every prefix of this order has the classes in proportion; one example of each class comes first.
    position_N = np.where(rank_N == 0, -1.0, (rank_N + 0.5) / counts[class_N])
    order_N = np.lexsort((class_N, position_N))
    return np.sort(order_N[np.arange(part * size, (part + 1) * size) % len(order_N)])


def _shuffled_ranks(labels_N: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The class index of each example, its rank in a random order of its class, and the size of each class."""
    if not len(labels_N):
        raise DataError("Choosing examples needs at least one. Got none.")
    _, class_N, counts = np.unique(np.asarray(labels_N), return_inverse=True, return_counts=True)
    order = np.lexsort((np.random.default_rng(seed).random(len(class_N)), class_N))
    rank_N = np.empty(len(class_N), dtype=np.int64)
    rank_N[order] = np.arange(len(class_N)) - np.repeat(np.cumsum(counts) - counts, counts)
    return class_N, rank_N, counts


def balanced(labels_N: np.ndarray, *, size: int, seed: int) -> np.ndarray:
    """Indices of ``size`` examples, equally many of each class up to one; all of a class as equally often as possible.

    labels_N: of all examples. Classes that do not occur are left out.
    """
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.unique(labels_N))  # the first ones have one more
    chosen = []
    for place, label in enumerate(classes):
        members = np.flatnonzero(labels_N == label)
        count = size // len(classes) + (place < size % len(classes))
        whole, rest = divmod(count, len(members))
        chosen += [np.tile(members, whole), rng.permutation(members)[:rest]]
    return np.concatenate(chosen)
