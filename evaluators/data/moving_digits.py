"""Videos of moving digits: scikit-learn's 8×8 digits, bouncing over a larger black frame.

The class is the pair of digit and axis of motion. A digit starts at a random place, moves one or two pixels per frame
along its axis, and turns back at the edges. The phases of this motion are drawn uniformly for both axes, also for the
axis without motion, so that a single frame has the same distribution for both classes and shows only the digit.

Shape suffixes: N videos, C channels, T frames, H height, W width.

References
----------
Srivastava, Mansimov & Salakhutdinov, Unsupervised Learning of Video Representations using LSTMs, ICML 2015 (moving
digits; there two of them, in any direction).
"""

from __future__ import annotations

import numpy as np

from evaluators.data.datasets import Dataset, from_arrays
from nas.errors import DataError

AXES = ("sideways", "up and down")
SIDE = 8
"""Height and width of a digit, in pixels."""
SPEEDS = (1, 2)
"""Pixels per frame."""
HELD_OUT = 0.2
"""Share of the test videos."""


def moving_digits(*, n: int = 2000, digits: int = 5, frames: int = 8, size: int = 16, seed: int = 0) -> Dataset:
    """Videos of digits that move sideways or up and down, two classes per digit; equal on every call.

    Parameters
    ----------
    n
        Videos, a fifth of them for testing. Test videos use the last fifth of scikit-learn's images, training videos
        only the others.
    digits
        Number of digits, from 0 on; the class is 2 · digit + axis.
    frames, size
        Shape of the videos, 1×frames×size×size, uint8.
    seed
        Of labels and motions.

    Raises
    ------
    DataError
        An option is out of range.
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
    arrays = []
    for rows, count in ((slice(first_test), n - testing), (slice(first_test, None), testing)):
        labels_N = rng.permutation(np.arange(count) % (2 * digits))
        arrays += [_videos(images_NHW[rows], y_N[rows], labels_N, frames, size, rng), labels_N]
    class_names = tuple(f"{digit} {axis}" for digit in range(digits) for axis in AXES)
    name = f"moving_digits:{n=},{digits=},{frames=},{size=},{seed=}"
    return from_arrays(*arrays, class_names=class_names, name=name, layout="NCTHW")


def _videos(
    images_NHW: np.ndarray, y_N: np.ndarray, labels_N: np.ndarray, frames: int, size: int, rng: np.random.Generator
) -> np.ndarray:
    """One video (1, T, H, W) per label, of a random image of its digit."""
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
