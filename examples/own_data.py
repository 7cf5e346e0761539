"""Data of your own: nas search --data examples/own_data.py:gratings

Return arrays from a function without arguments: images N×H×W, N×H×W×C or N×C×H×W, and labels 0 to K-1; a test set is
optional. Check yours with `nas.testing.check_data(gratings)`.
"""

import numpy as np

ANGLES = 4


def gratings():
    """Striped images in noise; the class is the angle of the stripes."""
    rng = np.random.default_rng(0)  # equal images on every call
    labels = np.arange(400) % ANGLES
    angle = np.pi * (labels / ANGLES)[:, None, None]
    rows, columns = np.mgrid[:12, :12]
    phase = rng.uniform(0, 2 * np.pi, size=(400, 1, 1))
    stripes = np.sin(rows * np.cos(angle) + columns * np.sin(angle) + phase)
    images = stripes + 0.5 * rng.standard_normal(stripes.shape)
    return np.clip(128 + 60 * images, 0, 255).astype(np.uint8), labels
