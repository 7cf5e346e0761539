"""Which images a training uses: training images for weights and norms, no others."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import nas
from evaluators.data.batches import AHEAD, _Streamed
from evaluators.training.evaluator import Training
from evaluators.training.measurement import calibrate
from nas.errors import EnvironmentFault
from nas.execution.network import AnytimeNetwork

from .jobs import job, on_disk, run, same_weights, small, stored_arrays


def test_what_is_not_for_training_cannot_change_it(settings: Training, tmp_path: Path) -> None:
    arrays, source = stored_arrays(), settings.source
    train, validation = source.training_rows, source.validation_rows
    assert not set(train) & set(validation)
    poisoned = arrays["x_train"].copy()
    poisoned[validation] = 255 - poisoned[validation] // 2
    plain = on_disk(tmp_path / "plain")
    other = on_disk(
        tmp_path / "poisoned",
        x_train=poisoned,
        x_test=255 - arrays["x_test"] // 3,
        y_test=(arrays["y_test"] + 1) % 3,
    )
    assert other.source.preprocessing == plain.source.preprocessing
    first, second = (run(s, job(tmp_path / n, test=True)) for s, n in ((plain, "a"), (other, "b")))
    assert same_weights(tmp_path / "a", tmp_path / "b")
    for one, two in zip(first.points, second.points):
        assert one["loss"] != two["loss"]
        assert one["test_loss"] != two["test_loss"]


def test_test_labels_change_the_test_measures_alone(tmp_path: Path) -> None:
    arrays = stored_arrays()
    plain, other = on_disk(tmp_path / "1"), on_disk(tmp_path / "2", y_test=(arrays["y_test"] + 1) % 3)
    first, second = (run(s, job(tmp_path / n, test=True)) for s, n in ((plain, "a"), (other, "b")))
    for one, two in zip(first.points, second.points):
        assert {k: v for k, v in one.items() if "test" not in k} == {k: v for k, v in two.items() if "test" not in k}
        assert one["test_loss"] != two["test_loss"]


def test_training_images_do_change_it(tmp_path: Path, settings: Training) -> None:
    arrays = stored_arrays()
    arrays["x_train"][settings.source.training_rows[0]] ^= 255
    other = on_disk(tmp_path / "other", **arrays)
    run(settings, job(tmp_path / "a")), run(other, job(tmp_path / "b"))
    assert not same_weights(tmp_path / "a", tmp_path / "b")


def test_standardisation_is_of_the_training_images(settings: Training) -> None:
    x = settings.dataset.x_train[settings.source.training_rows] / 255
    np.testing.assert_allclose(settings.source.preprocessing.mean, x.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(settings.source.preprocessing.std, x.std((0, 2, 3)), rtol=1e-6)


def test_subsets_are_nested_and_of_the_training_images(settings: Training, tmp_path: Path) -> None:
    source = settings.source
    train = set(source.training_rows.tolist())
    sets = [set(source.training_subset(n).tolist()) for n in (10, 50, 100, len(train))]
    assert [len(s) for s in sets] == [10, 50, 100, len(train)]
    assert sets[0] < sets[1] < sets[2] < sets[3] == train
    assert (
        set(settings.source.training_subset(None).tolist())
        == set(settings.source.training_subset(10**6).tolist())
        == train
    )
    assert run(settings, job(tmp_path, images=50, until=1)).images == 50
    assert np.bincount(settings.dataset.y_train[source.training_subset(50)]).min() >= 15


def test_images_on_disk_train_as_those_in_memory(tmp_path: Path) -> None:
    memory, disk = on_disk(tmp_path / "1"), on_disk(tmp_path / "2", "npy")
    assert [isinstance(one.dataset.x_train, np.memmap) for one in (memory, disk)] == [False, True]
    first, second = (run(s, job(tmp_path / n, test=True)) for s, n in ((memory, "a"), (disk, "b")))
    assert first.points == second.points
    assert same_weights(tmp_path / "a", tmp_path / "b")


def test_a_training_says_how_long_it_waited_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, slow = on_disk(tmp_path / "1"), on_disk(tmp_path / "2", "npy")
    first, read = run(plain, job(tmp_path / "a")), _Streamed.batch

    def late(self: _Streamed, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        time.sleep(0.1)
        return read(self, rows)

    monkeypatch.setattr(_Streamed, "batch", late)
    second = run(slow, job(tmp_path / "b"))
    assert first.waiting == 0.0
    assert 0.1 < second.waiting < 1
    assert second.points == first.points


def test_batches_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(_Streamed, "batch", lambda self, rows: (asked.append(int(rows[0])), rows))
    source = _Streamed(np.zeros((9, 1, 2, 2), np.uint8), torch.zeros(9), torch.device("cpu"))
    batches = source.read(torch.arange(9).split(1))
    next(batches)
    while len(asked) < 1 + AHEAD:  # the thread reads on
        time.sleep(0.001)
    assert [int(rows) for _, rows in batches] == list(range(1, 9))
    assert asked == list(range(9))
    assert list(source.read(())) == []


def test_the_norms_of_data_sorted_by_class_are_calibrated_on_all_classes() -> None:
    trainer = Training("synthetic:n=5000,classes=3,size=8,channels=1", device="cpu")
    rows = np.sort(trainer.source.training_rows)
    chosen = trainer.source.calibration(rows, 3, share=1.0).rows.numpy()
    assert len(chosen) == len(set(chosen.tolist())) == 2048
    assert set(chosen.tolist()) <= set(rows.tolist())
    for batch in np.split(chosen, 8):
        assert abs(np.mean(batch) - rows.mean()) < 300
    assert np.array_equal(chosen, trainer.source.calibration(rows, 3, share=1.0).rows)
    assert not np.array_equal(chosen, trainer.source.calibration(rows, 4, share=1.0).rows)


def test_norms_are_calibrated_on_images_changed_as_in_training() -> None:
    """Always the same ones: to calibrate again changes nothing."""
    data = "synthetic:n=400,classes=3,size=8,channels=1"
    plain, changed = (Training(data, device="cpu", augment=augment) for augment in ("none", "crop+flip"))
    networks = []
    for trainer in (plain, changed, changed):
        network = AnytimeNetwork(small()).train()
        calibrate(network, trainer.source.calibration(trainer.source.training_rows, 0, share=1.0))
        networks.append(network.state_dict())
    means = [name for name in networks[0] if name.endswith("mean")]
    assert any(not torch.allclose(networks[0][name], networks[1][name], atol=1e-3) for name in means)
    assert all(torch.equal(networks[1][name], networks[2][name]) for name in means)


def test_calibrated_statistics_are_near_those_of_all_training_images(settings: Training, tmp_path: Path) -> None:
    """Sorted by class, the first images would give others."""
    arrays = stored_arrays()
    order = np.argsort(arrays["y_train"], kind="stable")
    sorted_data = on_disk(tmp_path / "d", x_train=arrays["x_train"][order], y_train=arrays["y_train"][order])
    sorted_data.augment = "none"
    run(sorted_data, job(tmp_path / "n"))
    network = nas.load(tmp_path / "n")
    first = network.operation_layers[0]
    x = network.preprocess(torch.from_numpy(sorted_data.dataset.x_train[sorted_data.source.training_rows]))
    with torch.no_grad():
        y = F.conv2d(x, first.weight, stride=2, padding=1)
    torch.testing.assert_close(first.after.mean[2], y.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(first.after.var[2], y.var((0, 2, 3)), rtol=1e-2, atol=1e-4)


def _touch(file: Path) -> None:
    os.utime(file, ns=(1, 1))


def _overwrite(file: Path) -> None:
    np.lib.format.open_memmap(file, mode="r+")[-1] ^= 255
    os.utime(file, ns=(1, 1))  # the clock of a file system may be too coarse to show the change


def _shorten(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _replace(file: Path) -> None:
    np.save(file.with_name("other.npy"), 255 - np.load(file))
    os.replace(file.with_name("other.npy"), file)


@pytest.mark.parametrize(
    ("disturb", "harmful"),
    [(_touch, False), (Path.unlink, False), (_replace, False), (_overwrite, True), (_shorten, True)],
)
@pytest.mark.parametrize("name", ["x_train", "x_test"])
def test_images_on_disk_that_are_written_while_they_are_in_use_stop_the_study(
    tmp_path: Path, disturb: Callable[[Path], None], harmful: bool, name: str
) -> None:
    """A removed or replaced file keeps its content as long as it is mapped."""
    training = on_disk(tmp_path / "data", "npy")
    first = run(training, job(tmp_path / "a", until=1))
    disturb(tmp_path / "data" / f"{name}.npy")
    if harmful:
        with pytest.raises(EnvironmentFault, match="were written while they were in use"):
            run(training, job(tmp_path / "b", until=1))
    else:
        assert run(training, job(tmp_path / "b", until=1)).points == first.points


def test_a_dataset_trains_as_its_specification_does(tmp_path: Path, settings: Training) -> None:
    data = settings.data_in_memory()
    assert data is settings.dataset
    shared: list[pickle.PickleBuffer] = []
    copied = pickle.dumps(data, protocol=5, buffer_callback=shared.append)
    read_only = [memoryview(bytes(buffer.raw())).toreadonly() for buffer in shared]
    copy = Training(pickle.loads(copied, buffers=read_only))
    assert copy.info() == settings.info()
    run(settings, job(tmp_path / "a")), run(copy, job(tmp_path / "b"))
    assert same_weights(tmp_path / "a", tmp_path / "b")


def test_a_training_continues_with_the_dataset_of_its_specification(tmp_path: Path, settings: Training) -> None:
    run(settings, job(tmp_path, until=1))
    reported: list[int] = []
    run(Training(settings.dataset), job(tmp_path), reported.append)
    assert reported == [2, 3]


def test_images_on_disk_are_opened_by_their_specification(tmp_path: Path) -> None:
    assert on_disk(tmp_path / "a").data_in_memory() is not None
    assert on_disk(tmp_path / "b", "npy").data_in_memory() is None
