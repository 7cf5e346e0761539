"""The default augmentation keeps what distinguishes the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nas
from evaluators.data import augmentation
from evaluators.data.augmentation import Augmentation
from evaluators.data.source import ImageSource
from evaluators.training.evaluator import Training
from nas.evaluation.operating_points import SelectionSettings
from nas.execution.network import AnytimeNetwork
from nas.representation.elements import Task

from .jobs import DATA, job, run, small

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


@pytest.mark.parametrize(
    ("augment", "epochs", "share"), [("auto", 6, 0.0), ("auto", 12, 0.5), ("auto", 24, 1.0), ("crop", 1, 1.0)]
)
def test_long_trainings_change_more_images(tmp_path, monkeypatch, augment, epochs, share):
    """The network is calibrated on such images, too, and keeps the share for other operating points."""
    shares = []
    monkeypatch.setattr(augmentation, "IMAGES", len(Training(DATA).dataset.x_train))
    change = Augmentation.__call__

    def spy(self, images, generator, *, share=1.0):
        shares.append(share)
        return change(self, images, generator, share=share)

    monkeypatch.setattr(Augmentation, "__call__", spy)
    run(Training(DATA, augment=augment), job(tmp_path, epochs=epochs, until=epochs))
    assert bool(shares) == (share > 0)
    assert shares == pytest.approx([share] * len(shares))
    network = nas.load(tmp_path)
    assert network.augmented == network.with_points(network.architecture.points[1:]).augmented == pytest.approx(share)


def test_norms_of_other_points_are_estimated_on_images_as_in_training(monkeypatch):
    """The share is that of the network, which the present evaluator may not have trained."""
    shares = []
    share_of = ImageSource.calibration

    def spy(self, rows, seed, *, share, **settings):
        shares.append(share)
        return share_of(self, rows, seed, share=share, **settings)

    monkeypatch.setattr(ImageSource, "calibration", spy)
    network = AnytimeNetwork(small())
    network.augmented = 0.25
    Training(DATA).select(network, SelectionSettings(evaluations=4))
    assert shares == [0.25] * 3  # of the search, its exact measurement, and the result


def test_each_stage_changes_images_by_the_passes_until_its_end(tmp_path):
    stages = [[6, 70], [28, None]]
    training = Training(DATA)
    count = len(training.source.training_rows)
    planned = training.start(job(tmp_path, stages=stages, epochs=28, until=28)).stages
    assert [stage.passes for stage in planned] == pytest.approx([6 * 70 / count, 6 * 70 / count + 22])
