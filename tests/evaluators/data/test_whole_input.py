"""No part of the input vanishes: masks, validation images, class names and units are used or refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import nas
from evaluators.data.datasets import Dataset, from_arrays
from evaluators.data.loading import load
from evaluators.data.source import ImageSource
from nas.errors import DataError

Y = np.arange(60) % 3
X = np.random.default_rng(0).integers(0, 256, size=(60, 8, 8), dtype=np.uint8)
MASKED = np.ma.masked_greater(X, 250)
NAMES = ("cat", "dog", "élan")


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ((MASKED, Y), "x_train must have no masked entries"),
        ((X, Y, np.ma.masked_less(X / 255, 0.1), Y), "x_test must have no masked entries"),
        ((X, np.ma.masked_equal(Y, 2)), "y_train must have no masked entries: masks would be lost. Got 20"),
        ((list(MASKED), Y), "x_train must have no masked entries"),
        (([[image] for image in MASKED], Y), "x_train must have no masked entries"),
        ((X, pd.array([None, *Y[1:]], dtype="Int64")), "whole numbers. Got nan"),
        ((X, pd.Series(np.where(Y == 2, np.nan, Y))), "whole numbers. Got nan"),
        ((X.view([("grey", "u1")]), Y), "x_train must hold numbers"),
        ((X.astype(complex), Y), "x_train must hold numbers"),
        ((X.astype("m8[s]"), Y), "x_train must hold numbers"),
        ((X.astype("f2").astype(object), Y), "x_train must hold numbers"),
        ((np.where(X > 250, np.nan, X), Y), "x_train must be finite"),
        ((1e9 + X, Y), "256 levels or more in float32"),
        ((X / 255, Y, X / 1.0, Y), "x_test must have the scale of x_train"),
        ((X, Y, X // 255, Y), "x_test must have the scale of x_train"),
    ],
)
def test_what_cannot_be_used_is_refused(arrays, word):
    with pytest.raises(DataError) as caught:
        from_arrays(*arrays)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("array", [np.ma.masked_array(X), torch.from_numpy(X), X.tolist(), X.astype("f8")])
def test_arrays_without_masked_entries_are_used(array):
    np.testing.assert_array_equal(from_arrays(array, Y, X.astype(np.asarray(array).dtype), Y).x_train[:, 0], X)


def test_a_dataset_may_not_be_masked_either():
    data = from_arrays(X, Y)
    with pytest.raises(DataError, match="x_train must have no masked entries"):
        Dataset(
            name="masked",
            x_train=np.ma.masked_equal(data.x_train, 7),
            y_train=data.y_train,
            x_test=data.x_test,
            y_test=data.y_test,
            num_classes=3,
        )


# Class names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        np.array(NAMES),
        [name.encode() for name in NAMES],
        np.array([name.encode() for name in NAMES]),
        pd.Series(NAMES),
        pd.Index(NAMES),
    ],
)
def test_class_names_are_text(names):
    assert from_arrays(X, Y, class_names=names).class_names == NAMES


def test_numbers_may_name_classes():
    assert from_arrays(X, Y, class_names=np.array([7, 8, 9])).class_names == ("7", "8", "9")


@pytest.mark.parametrize(
    ("names", "word"),
    [
        ("abc", "must be a list of names, in the order of the classes. Got str"),
        (dict(enumerate(NAMES)), "Got dict"),
        (set(NAMES), "Got set"),
        (np.array("cat"), "Got ndarray"),
        (np.array([NAMES]), "Got ndarray"),
        ([*NAMES[:2], None], "class_names must hold text. Got None"),
        ([*NAMES[:2], np.nan], "class_names must hold text. Got nan"),
        (np.array([1.5, 2.0, 3.0]), "class_names must hold text. Got 1.5"),
        ([b"cat", b"dog", b"\xff"], "class_names must be UTF-8"),
    ],
)
def test_class_names_that_are_refused(names, word):
    with pytest.raises(DataError) as caught:
        from_arrays(X, Y, class_names=names)
    assert word in str(caught.value)


# Validation images ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=["npz", "npy"])
def with_validation(request, tmp_path):
    """The specification of data with validation images of their own: 60 training, 15 validation, 30 test images."""
    arrays = {"x_train": X, "y_train": Y, "x_val": 255 - X[:15], "y_val": Y[:15], "x_test": X[:30], "y_test": Y[:30]}
    np.savez(tmp_path / "data.npz", **arrays)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    return f"npz:{tmp_path / 'data.npz'}" if request.param == "npz" else f"npy:{tmp_path}"


def test_validation_images_of_the_data_validate(with_validation):
    data = load(with_validation)
    source = ImageSource(data)
    assert len(source.training_rows) == 60
    images, labels = next(source.validation().evaluate())
    np.testing.assert_array_equal(labels, Y[:15])
    expected = source.preprocessing(torch.from_numpy(255 - X[:15, None]))
    torch.testing.assert_close(images, expected)
    assert source.preprocessing == ImageSource(from_arrays(X, Y, X, Y)).preprocessing.fit(X[:, None])


def test_validation_images_belong_to_the_fingerprint(with_validation):
    data = load(with_validation)
    without = from_arrays(X, Y, X[:30], Y[:30])
    changed = from_arrays(X, Y, X[:30], Y[:30], x_val=X[:15], y_val=Y[:15])
    assert len({data.fingerprint, without.fingerprint, changed.fingerprint}) == 3
    differing = {name for name, digest in data.fingerprint_parts.items() if changed.fingerprint_parts[name] != digest}
    assert differing == {"validation images", "examples"}


def test_a_share_for_validation_contradicts_validation_images(with_validation):
    with pytest.raises(DataError, match=r"15 validation images of their own, x_val. Got --validation 0.2 too"):
        ImageSource(load(with_validation), validation=0.2)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"x_val": X}, "x_val and y_val come together"),
        ({"y_val": Y}, "x_val and y_val come together"),
        ({"x_val": X[:, 1:], "y_val": Y}, "All images must have the shape"),
        ({"x_val": X / 255, "y_val": Y}, "All images must have the dtype"),
        ({"x_val": X, "y_val": Y + 1}, "All labels must be classes of the training set, 0..2. Got 3 in y_val"),
        ({"x_val": X, "y_val": Y[:9]}, "y_val must have one label for every image"),
        ({"x_val": X, "y_val": Y, "y_val_coarse": Y}, "y_val_coarse needs coarse labels of the training"),
    ],
)
def test_validation_images_that_are_refused(changes, word):
    with pytest.raises(DataError) as caught:
        from_arrays(X, Y, X, Y, **changes)
    assert word in str(caught.value)


def test_a_test_set_is_held_out_beside_validation_images():
    data = nas.load_data("digits")
    own = from_arrays(data.x_train, data.y_train, x_val=data.x_test, y_val=data.y_test, layout="NCHW")
    assert len(own.x_train) + len(own.x_test) == len(data.x_train)
    assert len(ImageSource(own).training_rows) == len(own.x_train)
