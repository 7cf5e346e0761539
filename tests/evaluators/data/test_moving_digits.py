"""Moving digits: they keep within the frame, move along the axis that their class says, and only motion tells which."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from evaluators.data.loading import forms, load
from nas.errors import DataError

SPEC = "moving_digits:n=400,digits=3,frames=10,size=14,seed=3"


@pytest.fixture(scope="module")
def data():
    return load(SPEC)


def test_form_and_determinism(data):
    assert (data.name, data.task.input_shape, data.num_classes) == (SPEC, (1, 10, 14, 14), 6)
    assert (data.x_train.dtype, len(data.x_train), len(data.x_test)) == (np.uint8, 320, 80)
    assert set(np.bincount(data.y_train)) <= {53, 54}
    assert data.class_names[:2] == ("0 sideways", "0 up and down")
    assert load(SPEC).fingerprint == data.fingerprint != load(SPEC.replace("seed=3", "seed=4")).fingerprint
    assert (
        load(next(form for form in forms() if form.startswith("moving")).replace("[", "").rstrip("]")).num_classes == 10
    )


def test_a_digit_keeps_its_place_across_the_axis_that_its_class_says(data):
    across = {0: 2, 1: 3}  # sideways: rows stay; up and down: columns stay
    for axis, kept in across.items():
        x_NTHW = data.x_train[data.y_train % 2 == axis, 0].astype(int)
        stays, moves = x_NTHW.sum(axis=5 - kept), x_NTHW.sum(axis=kept)
        assert (stays == stays[:, :1]).all()
        assert (moves != moves[:, :1]).any(axis=(1, 2)).all()


def test_speed_is_constant_between_bounces(data):
    x_NTHW = data.x_train[:, 0].astype(float)
    places = np.stack([np.tensordot(x_NTHW.sum(axis=axis), np.arange(14.0), 1) for axis in (2, 3)], axis=-1)
    steps = np.abs(np.diff(places, axis=1)).sum(axis=2) / x_NTHW.sum(axis=(2, 3))[:, 1:]
    speed = steps.max(axis=1, keepdims=True)
    assert set(speed.round(6).ravel()) == {1, 2}
    turns = np.diff(np.sign(np.diff(places, axis=1).sum(axis=2)), axis=1) != 0
    assert turns.any()  # it bounces
    slower = steps.round(6) < speed  # only where it turns within a frame
    assert not (slower[:, 1:] & ~turns & ~slower[:, :-1]).any()
    assert slower.mean() < 0.2


def test_a_frame_does_not_tell_the_axis_and_motion_does():
    data = load("moving_digits:n=3000,digits=2,frames=4")

    def accuracy(train, test):
        flat = [np.asarray(part, np.float32).reshape(len(part), -1) / 255 for part in (train, test)]
        model = LogisticRegression(max_iter=300, C=0.01).fit(flat[0], data.y_train % 2)
        return model.score(flat[1], data.y_test % 2)

    change = [
        np.abs(np.diff(x[:, 0].sum(axis=3, dtype=float), axis=1)).sum(axis=2) for x in (data.x_train, data.x_test)
    ]
    assert accuracy(data.x_train[:, 0, 0], data.x_test[:, 0, 0]) < 0.58
    assert accuracy(*change) > 0.95


def test_test_digits_are_of_images_that_are_not_trained_on(data):
    def images(x):
        return {np.trim_zeros(video[0, 0].ravel()).tobytes() for video in x}

    assert not images(data.x_train) & images(data.x_test)


@pytest.mark.parametrize("wrong", ["digits=1", "digits=11", "frames=2", "size=11", "n=90", "n=99999999"])
def test_options_out_of_range(wrong):
    with pytest.raises(DataError, match="moving_digits needs 2 ≤ digits"):
        load(f"moving_digits:{wrong}")


@pytest.mark.parametrize(
    ("spec", "told"), [("classes=3", "option of moving_digits 'classes'"), ("frames=many", "Write frames=8")]
)
def test_options_that_there_are_not(spec, told):
    with pytest.raises(DataError, match=told):
        load(f"moving_digits:{spec}")
