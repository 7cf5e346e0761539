"""Datasets from arrays, splits and subsets: what comes in, what it becomes, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluators.data import fingerprint
from evaluators.data.arrays import labels
from evaluators.data.datasets import from_arrays
from evaluators.data.generated import synthetic
from evaluators.data.loading import digits
from evaluators.data.splitting import split, subset
from nas.errors import DataError
from nas.execution.preprocessing import Preprocessing

RNG = np.random.default_rng(0)
Y = np.arange(30) % 3
X = RNG.integers(0, 256, size=(30, 12, 10), dtype=np.uint8)


def part(x=X, y=Y, **settings):
    return from_arrays(x, y, x, y, **settings)


# Layouts and dtypes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((30, 12, 10), None, (1, 12, 10)),
        ((30, 12, 10, 3), None, (3, 12, 10)),
        ((30, 3, 12, 10), None, (3, 12, 10)),
        ((30, 1, 12, 10), None, (1, 12, 10)),
        ((30, 3, 8, 12, 10), None, (3, 8, 12, 10)),
        ((30, 8, 12, 10, 3), None, (3, 8, 12, 10)),
        ((30, 3, 12, 3), "NCHW", (3, 12, 3)),
        ((30, 3, 12, 3), "NHWC", (3, 3, 12)),
        ((30, 16, 12, 10), "NCHW", (16, 12, 10)),
        ((30, 3, 4, 5, 2), "NTHWC", (2, 3, 4, 5)),
        ((30, 3, 4, 5, 2), "NCTHW", (3, 4, 5, 2)),
    ],
)
def test_layouts(shape, layout, expected):
    assert part(np.zeros(shape, np.uint8), layout=layout).x_train.shape == (30, *expected)


def test_channels_last_becomes_channels_first_without_a_copy():
    x = RNG.integers(0, 256, size=(30, 12, 10, 3), dtype=np.uint8)
    data = part(x)
    assert np.shares_memory(data.x_train, x)
    np.testing.assert_array_equal(data.x_train[:, 2], x[..., 2])


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (X, np.uint8),
        (X.astype(np.int64), np.uint8),
        (X.astype(np.uint16), np.uint8),
        (X > 100, np.uint8),
        (X.astype(np.float32), np.float32),
        (X.astype(np.float64), np.float32),
        (X.astype(np.float16), np.float32),
        (X.astype(">f4"), np.float32),
        (torch.from_numpy(X), np.uint8),
        (torch.from_numpy(X).bfloat16().requires_grad_(), np.float32),
        (X.tolist(), np.uint8),
        (X[::-1], np.uint8),
    ],
)
def test_dtypes(x, dtype):
    data = part(x)
    assert data.x_train.dtype == dtype
    assert data.x_train.dtype.isnative
    if not isinstance(x, torch.Tensor):
        np.testing.assert_array_equal(data.x_train[:, 0], np.asarray(x))


@pytest.mark.parametrize("y", [Y, Y[:, None], Y.astype(np.uint8), Y.astype(float), torch.from_numpy(Y), Y.tolist()])
def test_labels(y):
    data = part(y=y)
    assert data.y_train.dtype == np.int64
    np.testing.assert_array_equal(data.y_train, Y)
    assert data.num_classes == 3


def test_two_classes_may_be_bools():
    np.testing.assert_array_equal(labels(Y > 0, "y"), (Y > 0).astype(int))


def test_held_out_test_set_is_stratified_and_seeded():
    data, again, other = (from_arrays(X, Y, test_fraction=0.3, seed=seed) for seed in (0, 0, 1))
    assert np.bincount(data.y_test).tolist() == [3, 3, 3]
    assert len(data.x_train) + len(data.x_test) == 30
    assert data.fingerprint == again.fingerprint != other.fingerprint


def test_held_out_test_set_leaves_two_of_every_class():
    data = from_arrays(X[:9], Y[:9], test_fraction=0.9)
    assert np.bincount(data.y_train).tolist() == [2, 2, 2]


def test_task():
    task = part(np.zeros((30, 12, 10, 3), np.uint8)).task
    assert (task.input_shape, task.num_classes) == ((3, 12, 10), 3)
    assert all(type(size) is int for size in task.input_shape)


# Fingerprint -----------------------------------------------------------------------------------------------------


def test_fingerprint_sees_content_not_form():
    x = RNG.integers(0, 256, size=(30, 12, 10, 3), dtype=np.uint8)
    first_last = part(x).fingerprint
    assert first_last == part(np.ascontiguousarray(np.moveaxis(x, -1, 1)), name="other").fingerprint
    changed = x.copy()
    changed[17, 5, 5, 1] ^= 1
    assert part(changed).fingerprint != first_last
    assert part(x, np.roll(Y, 1)).fingerprint != first_last
    assert part(x.astype(np.float32)).fingerprint != first_last


def test_fingerprint_of_large_arrays_reads_a_part(monkeypatch):
    monkeypatch.setattr(fingerprint, "HASHED_BYTES", 500)
    data, other = part(), part(np.where(np.arange(30)[:, None, None] == 1, 0, X))
    assert data.fingerprint == other.fingerprint  # example 1 is not among those looked at
    assert data.fingerprint != part(np.where(np.arange(30)[:, None, None] == 0, 0, X)).fingerprint


# What is refused -------------------------------------------------------------------------------------------------

NAN = np.where(X > 250, np.nan, 1.0)

REFUSED = {
    "ambiguous layout": ((np.zeros((30, 8, 9, 10)), Y), "--layout NCHW|NHWC|NHW settles it"),
    "two channel axes": ((np.zeros((30, 3, 9, 3)), Y), "--layout NCHW|NHWC|NHW settles it"),
    "ambiguous video": ((np.zeros((30, 3, 5, 9, 3)), Y), "--layout NCTHW|NTHWC settles it"),
    "not images": ((np.zeros((30, 9)), Y), "Got shape (30, 9)"),
    "no array": ((None, Y), "x_train must hold numbers. Got dtype object"),
    "ragged": (([[1], [2, 3]], Y), "x_train must be one array"),
    "sparse": ((torch.zeros(30, 9, 9).to_sparse(), Y), "x_train must be one array"),
    "objects": ((X.astype(object), Y), "Got dtype object"),
    "strings": ((X.astype(str), Y), "x_train must hold numbers"),
    "complex": ((X.astype(complex), Y), "x_train must hold numbers"),
    "string labels": ((X, Y.astype(str)), "y_train must hold numbers"),
    "object labels": ((X, Y.astype(object)), "numpy.unique"),
    "empty": ((X[:0], Y[:0]), "at least one example. Got shape (0, 12, 10)"),
    "no labels": ((X, Y[:0]), "y_train must hold at least one"),
    "no pixels": ((X[:, :0], Y), "Got shape (30, 0, 10)"),
    "lengths": ((X, Y[:29]), "30 images and labels of shape (29,)"),
    "test lengths": ((X, Y, X, Y[:29]), "y_test must have one label"),
    "NaN": ((NAN, Y), "x_train must be finite"),
    "NaN in test": ((X.astype(float), Y, NAN, Y), "x_test must be finite"),
    "infinity": ((np.where(X > 250, np.inf, 1.0), Y), "x_train must be finite"),
    "beyond float32": ((np.where(X > 250, 1e200, 1.0), Y), "x_train must be finite"),
    "16 bits": ((X.astype(int) * 16, Y), "Integers in x_train must lie in 0..255"),
    "negative pixels": ((X.astype(int) - 1, Y), "from -1 to"),
    "negative labels": ((X, Y - 1), "Labels must not be negative. Got -1"),
    "from 1": ((X, Y + 1), "Labels must be 0..2 without gaps, for 3 classes. Got 1..3 without 0 in y_train"),
    "gap": ((X, Y * 2), "Got 0..4 without 1 in"),
    "huge gap": ((X, np.where(Y == 2, 2**30, Y)), "Got 0..1073741824 without 2 in"),
    "huge label": ((X, np.where(Y == 2, 2**60, Y)), "y_train must hold classes 0..K-1"),
    "huge unsigned label": ((X, np.full(30, 2**64 - 1, np.uint64)), "y_train must hold classes 0..K-1"),
    "fractional labels": ((X, Y + 0.5), "whole numbers. Got 0.5, 1.5, 2.5."),
    "NaN label": ((X, np.where(Y == 2, np.nan, Y)), "whole numbers. Got nan."),
    "infinite label": ((X, np.where(Y == 2, np.inf, Y)), "whole numbers. Got inf."),
    "one-hot": ((X, np.eye(3)[Y]), "y_train.argmax(1)"),
    "one-hot of 255": ((X, 255 * np.eye(3, dtype=np.uint8)[Y]), "y_train.argmax(1)"),
    "several labels": ((X, np.eye(3)[Y] + np.eye(3)[0]), "several labels of an image, and boxes, are not supported"),
    "masks": ((X, np.zeros_like(X)), "segmentation is not supported"),
    "sequences": ((np.zeros((len(Y), 6, 128), np.float32), Y), "looks like sequences, which are not supported"),
    "scalar label": ((X, 3), "y_train must have shape (N,)"),
    "one class": ((X, Y * 0), "at least two classes"),
    "rare class": ((X, np.append(Y[:28] % 2, [2, 2])), "at least 3 examples, to train, validate and test. Got 2 of"),
    "rare class, test given": (
        (X, np.append(Y[:29] % 2, 2), X, Y),
        "at least 2 examples, to train and validate. Got 1",
    ),
    "unseen class": ((X, Y % 2, X, Y), "must be classes of the training set, 0..1. Got 2 in y_test"),
    "negative test label": ((X, Y, X, Y - 1), "Got -1 in y_test"),
    "half a test set": ((X, Y, X), "x_test and y_test come together"),
    "test shape": ((X, Y, X[:, 1:], Y), "must have the shape of training images"),
    "test axes": ((X, Y, X[:, None], Y), "x_test must have the 3 axes of --layout NHW"),
    "test dtype": ((X, Y, X / 255, Y), "must have the dtype of training images"),
}


@pytest.mark.parametrize(("arrays", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(arrays, message):
    with pytest.raises(DataError) as caught:
        from_arrays(*arrays)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layout": "HWC"}, "Unknown layout 'HWC'"),
        ({"layout": "NHWC"}, "x_train must have the 4 axes of --layout NHWC. Got shape (30, 12, 10)"),
        ({"test_fraction": 0.0}, "between 0 and 1"),
        ({"test_fraction": 1.0}, "between 0 and 1"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(DataError) as caught:
        from_arrays(X, Y, **settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 4}, "num_classes must count the classes of y_train, 3"),
        ({"x_train": X}, "x_train must be (N, C, H, W)"),
        ({"x_train": X[:, None].astype(float)}, "x_train must be a uint8 or float32 array. Got float64"),
        ({"x_test": X[:, None].astype(">f4")}, "x_test must be a uint8 or float32 array. Got >f4"),
        ({"x_test": [[1]]}, "x_test must be a uint8 or float32 array. Got list"),
        ({"y_train": Y.astype(np.int32)}, "y_train must be a int64 array"),
        ({"y_test": Y[:, None]}, "y_test must have one label for every image"),
    ],
)
def test_a_dataset_checks_itself(change, message):
    data = part()
    with pytest.raises(DataError) as caught:
        dataclasses.replace(data, **change)
    assert message in str(caught.value)


# Splits ----------------------------------------------------------------------------------------------------------

counts = st.lists(st.integers(2, 30), min_size=1, max_size=6)


@given(counts, st.floats(0.01, 0.99), st.integers(0, 2**63))
def test_split_is_a_stratified_partition(counts, fraction, seed):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    train, validation = split(y, fraction=fraction, seed=seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(len(y)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()
    here = np.bincount(y[validation], minlength=len(counts))
    assert ((here >= 1) & (here < counts)).all()
    wanted = np.array(counts) * fraction
    assert (np.abs(here - np.clip(wanted, 1, np.array(counts) - 1)) <= 0.5).all()
    np.testing.assert_array_equal(split(y, fraction=fraction, seed=seed)[1], validation)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.data())
def test_subsets_are_nested_and_stratified(counts, data):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    small, large = sorted(data.draw(st.integers(len(counts), len(y))) for _ in range(2))
    chosen, more = (subset(y, size=size, seed=3) for size in (small, large))
    assert len(chosen) == small
    assert set(chosen) <= set(more)
    assert (np.diff(chosen) > 0).all()
    here = np.bincount(y[chosen], minlength=len(counts))
    assert here.min() >= 1
    assert (np.abs(here - small / len(y) * np.array(counts)) <= len(counts) + 1).all()


def test_seeds_matter():
    assert not np.array_equal(split(Y, fraction=0.3, seed=0)[1], split(Y, fraction=0.3, seed=1)[1])
    assert not np.array_equal(subset(Y, size=9, seed=0), subset(Y, size=9, seed=1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split(np.array([0, 0, 1]), fraction=0.5, seed=0), "at least 2 examples to be split"),
        (lambda: split(Y, fraction=1.5, seed=0), "between 0 and 1"),
        (lambda: split(Y[:0], fraction=0.5, seed=0), "needs at least one"),
        (lambda: subset(Y, size=2, seed=0), "3 (one a class) to 30 examples. Got size=2"),
        (lambda: subset(Y, size=31, seed=0), "Got size=31"),
    ],
)
def test_choices_that_are_refused(call, message):
    with pytest.raises(DataError) as caught:
        call()
    assert message in str(caught.value)


# Built-in data ---------------------------------------------------------------------------------------------------


def test_digits():
    data = digits()
    assert data.x_train.shape[1:] == (1, 8, 8)
    assert (data.x_train.dtype, data.x_train.max(), data.num_classes) == (np.uint8, 255, 10)
    assert len(data.x_test) / (len(data.x_test) + len(data.x_train)) == pytest.approx(0.25, abs=0.01)
    assert data.fingerprint == digits().fingerprint


def test_synthetic_is_learnable_but_not_trivial():
    from sklearn.neighbors import NearestCentroid

    data = synthetic()
    flat_train, flat_test = (x.reshape(len(x), -1).astype(float) for x in (data.x_train, data.x_test))
    accuracy = NearestCentroid().fit(flat_train, data.y_train).score(flat_test, data.y_test)
    assert 0.4 < accuracy < 0.85
    assert data.fingerprint == synthetic().fingerprint != synthetic(seed=1).fingerprint


def test_nothing_global_is_random():
    before_torch, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    part().fingerprint  # noqa: B018
    split(synthetic(n=100, classes=3, size=8).y_train, fraction=0.2, seed=0)
    assert torch.equal(before_torch, torch.get_rng_state())
    np.testing.assert_array_equal(before_numpy, np.random.get_state()[1])  # noqa: NPY002


def test_videos_pass_through_everything():
    x = RNG.integers(0, 256, size=(30, 3, 4, 6, 5), dtype=np.uint8)
    data = part(x)
    assert len(Preprocessing.fit(data.x_train).mean) == 3
    assert data.task.input_shape == (3, 4, 6, 5)
