"""Checks of data plug-ins; the contract is in the documentation of :func:`nas.load_data`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nas.plugins import installed
from nas.testing.checks import Check, Subject, global_randomness_untouched, has_docstring, named, require, run_all

REPEATED = 0.01
"""Largest share of test images that may occur among the training images."""


def data_checks(data: Any) -> list[Check]:
    """The checks of a data plug-in, for use as test parameters.

    Parameters
    ----------
    data : object, callable or str
        A Dataset, a tuple of arrays, a function without arguments that returns one of these, or the name or
        ``file.py:Name`` of one; any other data specification, too.

    Returns
    -------
    list of (str, callable)
        Name and function of each check. The function takes no arguments and raises PluginError if the check fails.
    """
    return named(_CHECKS, _Tested(Subject(data, "nas.data")))


def check_data(data: Any) -> None:
    """Run all checks of a data plug-in.

    Parameters
    ----------
    data
        As in :func:`data_checks`.

    Raises
    ------
    PluginError
        At the first check that fails.
    """
    run_all(data_checks(data))


@dataclass(frozen=True)
class _Tested:
    """Data under test."""

    subject: Subject

    def load(self) -> Any:
        """The data, loaded anew, as a Dataset."""
        from evaluators.data import as_dataset, load_data  # here: nas imports evaluators only on demand

        plugin = self.subject.plugin
        return load_data(plugin) if isinstance(plugin, str) else as_dataset(plugin, str(self.subject))

    @cached_property
    def dataset(self) -> Any:
        return self.load()

    def __str__(self) -> str:
        return str(self.subject)


def _docstring(tested: _Tested) -> None:
    plugin = tested.subject.plugin
    if isinstance(plugin, str) and plugin not in installed("nas.data") and ".py" not in plugin:
        return  # a file, or generated data with options
    loaded = tested.subject.load()
    if callable(loaded):
        has_docstring(loaded)


def _loads(tested: _Tested) -> None:
    require(tested.dataset.num_classes >= 2, "There must be at least two classes.")


def _equal_on_every_call(tested: _Tested) -> None:
    first, second = tested.dataset.fingerprint, tested.load().fingerprint
    require(first == second, "Data must be equal on every call: use a seed. The fingerprints of two calls differ.")


def _global_randomness(tested: _Tested) -> None:
    with global_randomness_untouched():
        tested.load()


def _images_differ(tested: _Tested) -> None:
    images = _hashes(tested.dataset.x_train)
    require(len(set(images)) > len(images) / 2, "Most training images must differ. More than half are repeated.")


def _test_images_are_new(tested: _Tested) -> None:
    training, test = set(_hashes(tested.dataset.x_train)), _hashes(tested.dataset.x_test)
    share = sum(image in training for image in test) / len(test)
    require(share <= REPEATED, f"Test images must not occur among the training images. Got {share:.1%} repeated.")


def _every_class_is_tested(tested: _Tested) -> None:
    missing = np.setdiff1d(tested.dataset.y_train, tested.dataset.y_test).tolist()
    require(not missing, f"Every class must have test images. Got none of {missing[:5]}.")


def _hashes(x_NCS: np.ndarray) -> list[int]:
    return [hash(np.ascontiguousarray(x).tobytes()) for x in x_NCS]


_CHECKS = (
    _docstring,
    _loads,
    _equal_on_every_call,
    _global_randomness,
    _images_differ,
    _test_images_are_new,
    _every_class_is_tested,
)
