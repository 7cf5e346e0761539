"""Installed data and the example pass the shipped checks, and every check catches its fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas import testing
from nas.plugins import installed

from .failing import fails

EXAMPLE = f"{Path(__file__).resolve().parents[3]}/examples/own_data.py:gratings"


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name.rpartition('/')[2]}-{check_name}")
        for name in (*installed("nas.data"), EXAMPLE)
        for check_name, check in testing.data_checks(name)
    ],
)
def test_installed_data_and_the_example(check):
    check()


def images(count=60, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 6), dtype=np.uint8)


LABELS = np.arange(60) % 3


def good():
    """Images of noise."""
    return images(), LABELS, images(seed=1), LABELS


def undocumented():
    return good()


def nonsense():
    """A text."""
    return "images"


def gap():
    """Labels with a gap."""
    return images(), LABELS * 2


def unseeded():
    """Other images on every call."""
    return images(seed=None), LABELS


def global_state():
    """Images from NumPy's global generator."""
    np.random.seed(0)  # noqa: NPY002
    return np.random.randint(0, 256, (60, 6, 6)).astype(np.uint8), LABELS  # noqa: NPY002


def constant():
    """The same image again and again."""
    return np.repeat(images(1), 60, axis=0), LABELS


def leaking():
    """Test images from the training set."""
    return images(), LABELS, images()[:30], LABELS[:30]


def untested():
    """No test image of the last class."""
    return images(), LABELS, images(seed=1), LABELS % 2


BROKEN = [
    ("docstring", undocumented, "docstring"),
    ("loads", nonsense, "must return a Dataset or arrays"),
    ("loads", gap, "Labels must be 0..2"),
    ("equal_on_every_call", unseeded, "use a seed"),
    ("global_randomness", global_state, "Global random state"),
    ("images_differ", constant, "More than half"),
    ("test_images_are_new", leaking, r"Got 100.0% repeated"),
    ("every_class_is_tested", untested, r"Got none of \[2\]"),
]


def test_all_checks_at_once():
    testing.check_data(good)
    testing.check_data(good())


@pytest.mark.parametrize(
    ("name", "plugin", "message"), BROKEN, ids=[f"{name}-{plugin.__name__}" for name, plugin, _ in BROKEN]
)
def test_every_check_of_data_catches_its_fault(name, plugin, message):
    fails(testing.data_checks(plugin), name, message)


def test_every_check_of_data_has_a_fault_that_it_catches():
    assert {name for name, _, _ in BROKEN} == {name for name, _ in testing.data_checks(good)}
