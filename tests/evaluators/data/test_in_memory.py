"""A Dataset in place of its specification, and copies of it that share memory which nobody may write."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import nas
from evaluators.data import datasets
from evaluators.data.batches import batches
from evaluators.data.datasets import Dataset, from_arrays
from evaluators.data.loading import load
from nas.errors import DataError
from nas.execution.preprocessing import Preprocessing

RNG = np.random.default_rng(0)
Y = np.arange(40) % 4
IMAGES = {
    "NHW": RNG.integers(0, 255, (40, 6, 5), np.uint8),
    "NHWC": RNG.integers(0, 255, (40, 6, 5, 3), np.uint8),
    "NCTHW": RNG.random((40, 3, 2, 6, 5)).astype(np.float32),
    "NTHWC": RNG.random((40, 2, 6, 5, 3)).astype(np.float32),
}
EVERY_OTHER = np.ascontiguousarray(np.repeat(IMAGES["NHWC"], 2, axis=1))[:, ::2]


def passed_on(data: Dataset) -> tuple[Dataset, int]:
    """The data as another process maps them, read-only, and the number of bytes that were copied for it."""
    buffers: list[pickle.PickleBuffer] = []
    copied = pickle.dumps(data, protocol=5, buffer_callback=buffers.append)
    shared = [memoryview(bytes(buffer.raw())).toreadonly() for buffer in buffers]
    return pickle.loads(copied, buffers=shared), len(copied)


@pytest.mark.parametrize("layout", IMAGES)
def test_arrays_are_passed_on_without_a_copy_in_the_order_of_their_memory(layout: str) -> None:
    data = from_arrays(IMAGES[layout], Y, IMAGES[layout], Y, layout=layout, x_val=IMAGES[layout], y_val=Y)
    got, copied = passed_on(data)
    assert copied < 1500
    for (x, y), (same_x, same_y) in zip(data.parts.values(), got.parts.values(), strict=True):
        np.testing.assert_array_equal(x, same_x)
        np.testing.assert_array_equal(y, same_y)
        assert np.squeeze(x).strides == np.squeeze(same_x).strides
        assert not same_x.flags.writeable


def test_what_is_no_array_is_passed_on_too() -> None:
    names = ("a", "b", "c", "d")
    more = {"y_train_coarse": Y // 2, "class_names": names, "mirror_invariant": True}
    data = from_arrays(IMAGES["NHWC"], Y, name="mine", layout="NHWC", **more)
    got, _ = passed_on(data)
    assert (got.name, got.task, got.class_names, got.mirror_invariant) == ("mine", data.task, names, True)


def test_a_view_of_every_other_row_is_passed_on() -> None:
    got, _ = passed_on(from_arrays(EVERY_OTHER, Y, EVERY_OTHER[::-1], Y[::-1]))
    np.testing.assert_array_equal(np.moveaxis(got.x_train, 1, -1), IMAGES["NHWC"])
    np.testing.assert_array_equal(np.moveaxis(got.x_test, 1, -1), IMAGES["NHWC"][::-1])


def test_a_copy_is_neither_hashed_nor_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("digits")
    got, _ = passed_on(data)
    monkeypatch.setattr(datasets, "ContentHashes", None)
    monkeypatch.setattr(datasets, "check_classes", None)
    again, _ = passed_on(got)
    assert again.fingerprint == data.fingerprint
    assert again.fingerprint_parts == data.fingerprint_parts


@pytest.mark.parametrize("layout", IMAGES)
def test_batches_share_read_only_memory(layout: str) -> None:
    """torch warns of read-only arrays, and warnings are errors here."""
    data, _ = passed_on(from_arrays(IMAGES[layout], Y, IMAGES[layout], Y, layout=layout))
    made = batches(data.x_train, data.y_train, size=10, preprocessing=Preprocessing.fit(data.x_train))
    assert made.source.x_NCS.data_ptr() == data.x_train.ctypes.data
    assert made.source.y_N.data_ptr() == data.y_train.ctypes.data
    np.testing.assert_array_equal(made.source.x_NCS.numpy(), data.x_train)
    for x, _ in made.train(torch.Generator().manual_seed(0)):
        x.zero_()
    np.testing.assert_array_equal(made.source.x_NCS.numpy(), data.x_train)
    assert data.hash_content()[0] == data.fingerprint


def test_memory_outlives_the_array_that_it_is_read_from() -> None:
    x = np.arange(4 * 3 * 5 * 5, dtype=np.float32).reshape(4, 3, 5, 5)
    expected, y = x.copy(), np.arange(4)
    x.flags.writeable = False
    made = batches(x, y, size=2, preprocessing=Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, scale=1.0))
    del x
    [np.ones((4, 3, 5, 5), np.float32) for _ in range(50)]  # would reuse the memory
    np.testing.assert_array_equal(torch.cat([x for x, _ in made.evaluate()]).numpy(), expected)


def test_a_dataset_takes_the_place_of_its_specification(tmp_path: Path) -> None:
    data = load("digits")
    assert nas.load_data(data) is data
    with pytest.raises(DataError, match="The layout of digits is fixed"):
        load(data, layout="NHW")
    mapping = tmp_path / "coarse.json"
    mapping.write_text(json.dumps({str(digit): str(digit % 2) for digit in range(10)}))
    coarse = load(data, hierarchy=str(mapping))
    assert coarse.task.label_counts == (10, 2)
    assert coarse.x_train is data.x_train
