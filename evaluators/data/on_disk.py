"""Images on disk: files that are written while they are mapped would change the images of a running training."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np

from evaluators.data.datasets import Dataset
from nas.errors import EnvironmentFault


class MappedFiles:
    """The files of a data set's memmaps, in the state in which they were hashed.

    Parameters
    ----------
    dataset
        With images in memory or on disk; hashed here.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._states = self._present_states()
        self._fingerprint = dataset.fingerprint

    def check(self) -> None:
        """Compare the files with their earlier state; after a change, hash the images again.

        Raises
        ------
        EnvironmentFault
            The images have changed.
        """
        states = self._present_states()
        if states == self._states:
            return
        shorter = any(states[path][0] < size for path, (size, _, _) in self._states.items())  # reading would crash
        if shorter or self._dataset.hash_content()[0] != self._fingerprint:
            raise EnvironmentFault(
                f"The data of a study must stay the same. The files of {self._dataset.name} were written while they "
                "were in use. Restore the data, and resume."
            )
        self._states = states

    def _present_states(self) -> dict[str, tuple[float, int, int]]:
        """Size, inode and time of the last change by path; of a removed file, whose content stays mapped, none."""
        states = {}
        for path in _paths(x for x, _ in self._dataset.parts.values()):
            try:
                found = os.stat(path)
                states[path] = (float(found.st_size), found.st_ino, found.st_mtime_ns)
            except FileNotFoundError:
                states[path] = (float("inf"), 0, 0)
        return states


def _paths(arrays: Iterable[np.ndarray]) -> list[str]:
    return [os.fspath(array.filename) for array in arrays if isinstance(array, np.memmap) and array.filename]
