"""The default augmentation keeps what distinguishes the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluators.training.evaluator import Training
from nas.representation.elements import Task

from .jobs import job, run, small

COUNT = 240


def saved(folder: Path, x: np.ndarray, y: np.ndarray) -> str:
    np.savez(folder / "data.npz", x_train=x, y_train=y)
    return f"npz:{folder / 'data.npz'}"


def arrows(folder: Path) -> str:
    """Colour images of arrows that point to the left or to the right."""
    rng = np.random.default_rng(0)
    y = np.arange(COUNT) % 2
    arrow = np.abs(np.arange(8)[:, None] - 3.5) < np.arange(8)[None] / 2
    x = rng.integers(60, size=(COUNT, 8, 8, 3), dtype=np.uint8)
    x += (190 * np.where(y[:, None, None] == 0, arrow, arrow[:, ::-1])[..., None]).astype(np.uint8)
    return saved(folder, x, y)


def signals(folder: Path) -> str:
    """Waves 1×32 of three frequencies."""
    rng = np.random.default_rng(0)
    y = np.arange(COUNT) % 3
    phase = rng.uniform(0, 6.3, size=(COUNT, 1))
    x = np.sin(np.arange(32) * np.array([0.4, 0.9, 1.8])[y][:, None] + phase) + 0.3 * rng.standard_normal((COUNT, 32))
    return saved(folder, x[:, None, None].astype(np.float32), y)


@pytest.mark.parametrize(
    ("data", "task", "harmful"),
    [
        (arrows, Task(input_shape=(3, 8, 8), num_classes=2), "crop+flip"),
        (signals, Task(input_shape=(1, 1, 32), num_classes=3), None),
    ],
)
def test_the_default_changes_no_class(tmp_path, data, task, harmful):
    spec = data(tmp_path)
    accuracy = {}
    for augment in filter(None, ("auto", harmful)):
        wanted = job(tmp_path / augment, architecture=small(task=task), epochs=8, until=8, test=True)
        accuracy[augment] = run(Training(spec, augment=augment), wanted).points[-1]["test_accuracy"]
    assert accuracy["auto"] > 0.95
    assert accuracy.get(harmful, 0) < 0.8
