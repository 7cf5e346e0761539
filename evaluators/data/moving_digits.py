"""Videos of moving digits: scikit-learn's 8×8 digits, bouncing over a larger black frame.

The class is the digit and the axis that it moves along. A digit starts anywhere, moves at one or two pixels a frame,
and turns round at the edges; across its axis it stays where it is. Phases of this to and fro are drawn evenly for both
axes, moving or not, so that a single frame is distributed alike for both and tells the digit alone.

Shape suffixes: N videos, C channels, T frames, H height, W width.

References
----------
Srivastava, Mansimov & Salakhutdinov, Unsupervised Learning of Video Representations using LSTMs, ICML 2015 (moving
digits; there two of them, in any direction).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nas.errors import DataError

MOVING_DIGITS = {"n": 2000, "digits": 5, "frames": 8, "size": 16, "seed": 0}
"""Options, with their defaults."""

AXES = ("sideways", "up and down")
SIDE = 8
"""Of a digit, in pixels."""
SPEEDS = (1, 2)
"""Pixels a frame."""
HELD_OUT = 0.2


def moving_digits(*, n: int, digits: int, frames: int, size: int, seed: int) -> dict[str, Any]:
    """The arguments of :func:`evaluators.data.datasets.from_arrays`, the same on every call: videos 1×frames×size×size,
    uint8.

    n: videos, a fifth of them for testing, of the last fifth of scikit-learn's images, which are not trained on.
    digits: how many, from 0 on; class 2 · digit + axis. Raises DataError for options out of range.
    """
    if not (2 <= digits <= 10 and frames >= 3 and size >= 12 and n >= 20 * digits and n * frames * size**2 <= 2**30):
        raise DataError(
            "moving_digits needs 2 ≤ digits ≤ 10, frames ≥ 3, size ≥ 12, n ≥ 20·digits and n·frames·size² ≤ 2³⁰. "
            f"Got {digits=}, {frames=}, {size=}, {n=}."
        )
    from sklearn.datasets import load_digits

    images_NHW, y_N = load_digits(return_X_y=True)
    images_NHW = np.rint(images_NHW.reshape(-1, SIDE, SIDE) * (255 / 16)).astype(np.uint8)
    rng = np.random.default_rng(seed)
    first_test, testing = len(y_N) - round(HELD_OUT * len(y_N)), round(HELD_OUT * n)
    arrays = {}
    for part, rows, count in (
        ("train", slice(first_test), n - testing),
        ("test", slice(first_test, None), testing),
    ):
        labels_N = rng.permutation(np.arange(count) % (2 * digits))
        arrays[f"x_{part}"] = _videos(images_NHW[rows], y_N[rows], labels_N, frames, size, rng)
        arrays[f"y_{part}"] = labels_N
    return arrays | {"class_names": tuple(f"{digit} {axis}" for digit in range(digits) for axis in AXES)}


def _videos(
    images_NHW: np.ndarray, y_N: np.ndarray, labels_N: np.ndarray, frames: int, size: int, rng: np.random.Generator
) -> np.ndarray:
    """A video (1, T, H, W) for each label, of random images of its digit."""
    room = size - SIDE
    x_NCTHW = np.zeros((len(labels_N), 1, frames, size, size), dtype=np.uint8)
    for video, label in zip(x_NCTHW[:, 0], labels_N):
        image = images_NHW[rng.choice(np.flatnonzero(y_N == label // 2))]
        phases, direction = rng.integers(2 * room, size=2), rng.choice((-1, 1)) * rng.choice(SPEEDS)
        velocities = (direction, 0) if AXES[label % 2] == "up and down" else (0, direction)
        steps_T2 = phases + np.arange(frames)[:, None] * velocities
        for frame, (top, left) in zip(video, room - np.abs(steps_T2 % (2 * room) - room)):
            frame[top : top + SIDE, left : left + SIDE] = image
    return x_NCTHW
