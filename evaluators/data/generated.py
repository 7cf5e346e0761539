"""Generated data: blurred patterns in clutter and noise.

Shape suffixes: N examples, H height, W width, C channels.
"""

from __future__ import annotations

import numpy as np

from evaluators.data.datasets import Dataset, from_arrays
from nas.errors import DataError


def synthetic(*, n: int = 2000, classes: int = 10, size: int = 16, channels: int = 3, seed: int = 0) -> Dataset:
    """Artificial images, equal on every call: blurred patterns, shifted, in clutter and noise.

    Parameters
    ----------
    n
        Images, a fifth of them for testing.
    classes
        Number of classes; each has two patterns.
    size, channels
        Shape of the images, channels×size×size.
    seed
        Of the patterns and the images.

    Raises
    ------
    DataError
        An option is out of range.

    Notes
    -----
    With the defaults, a linear model classifies two thirds correctly, a small convolutional network nine in ten.
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
    pixels = (y_N[:, None, None], rng.integers(2, size=(n, 1, 1)), down[:, :, None], right[:, None, :])
    x_NHWC = rng.uniform(0.5, 1.5, size=(n, 1, 1, 1)) * patterns[pixels]
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
