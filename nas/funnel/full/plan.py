"""The plan of full training: how many images each finalist sees, in which stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas.evaluation.jobs import Stage

LEAST_IMAGES = 256
"""Images of an epoch, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalsPlan:
    """The plan of full training.

    Attributes
    ----------
    generations : int
        Generations that had been trained when the plan was made.
    candidates : tuple of int
        Ids of the finalists, in order of choice.
    stages : tuple of Stage
        One or two, which pass through the learning rate's schedule; epochs count from the end of partial training.
    fitted : bool
        Whether the second half was fitted to the time left after the first.
    continues : bool
        Whether finalists continue their partial training; those of earlier versions were trained anew.
    reason : str
        Why there are so many finalists and images.
    """

    generations: int
    candidates: tuple[int, ...]
    stages: tuple[Stage, ...]
    fitted: bool = False
    continues: bool = True
    reason: str = ""

    @property
    def epochs(self) -> int:
        """Epochs of full training."""
        return self.stages[-1].end

    def marks(self) -> tuple[int, ...]:
        """Epochs after which a network is measured and saved, the last being the end."""
        half, end = self.stages[0].end, self.epochs
        return tuple(sorted({half, half + (end - half) // 2, end}))

    def after(self, partial: Sequence[Stage]) -> tuple[Stage, ...]:
        """The stages of a training that continues partial training. partial: its stages, none for a new training."""
        begin = partial[-1].end if partial else 0
        return (*partial, *(stage._replace(end=begin + stage.end) for stage in self.stages))

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> FinalsPlan:
        """The plan from the data of ``dataclasses.asdict`` after a passage through JSON."""
        values = {name: value for name, value in data.items() if name != "epochs"}
        if "epochs" in data:  # of an earlier version
            values |= {"stages": whole(data["epochs"]), "fitted": True, "continues": False}
        values["stages"] = tuple(Stage(*stage) for stage in values["stages"])
        return FinalsPlan(**{**values, "candidates": tuple(data["candidates"])})


def whole(epochs: int) -> tuple[Stage, ...]:
    """The stages of this number of epochs over all training images.

    Examples
    --------
    >>> whole(4)
    (Stage(end=2, images=None, start=0.0, stop=0.5), Stage(end=4, images=None, start=0.5, stop=1.0))
    >>> whole(1)
    (Stage(end=1, images=None, start=0.0, stop=1.0),)
    """
    half = epochs // 2
    if not half:
        return (Stage(epochs, None),)
    return Stage(half, None, 0.0, half / epochs), Stage(epochs, None, half / epochs, 1.0)


def halves(images: float, train_images: int, *, least: int = LEAST_IMAGES) -> tuple[Stage, Stage]:
    """Two stages that see about this number of images in all, in epochs over equal parts of all training images.

    least: images of an epoch.

    Examples
    --------
    >>> halves(50_000, 10_000)
    (Stage(end=3, images=8333, start=0.0, stop=0.5), Stage(end=6, images=8333, start=0.5, stop=1.0))
    >>> halves(60_000, 10_000)[1]
    Stage(end=6, images=None, start=0.5, stop=1.0)
    """
    half = _stage(0, images / 2, train_images, least)
    return half._replace(stop=0.5), half._replace(end=2 * half.end, start=0.5)


def second_half(first: Stage, images: float, train_images: int, *, least: int = LEAST_IMAGES) -> Stage:
    """The stage that follows the first half, and sees about this number of images."""
    return _stage(first.end, images, train_images, least)._replace(start=0.5)


def _stage(begin: int, images: float, train_images: int, least: int) -> Stage:
    epochs = max(1, min(math.ceil(round(images / train_images, 6)), int(images / least)))
    of_epoch = max(least, int(images / epochs))
    return Stage(begin + epochs, None if of_epoch >= train_images else of_epoch)


def images_within(
    seconds_per_image: Sequence[float], *, seconds: float, workers: int, repeats: int, extra: float = 0.0
) -> float:
    """Images that each training can see within a time limit.

    Parameters
    ----------
    seconds_per_image
        Of each finalist; NaN if unknown: then there is no answer, and the result is infinite.
    seconds
        Wall-clock time for all.
    workers, repeats
        Trainings side by side, and trainings of each finalist.
    extra
        Time after training, in seconds of training on one image.

    Returns
    -------
    float
        At least 0.

    Examples
    --------
    >>> images_within([0.1, 0.2], seconds=10, workers=2, repeats=1)
    50.0
    >>> images_within([0.1], seconds=10, workers=2, repeats=3)
    50.0
    """
    if not all(map(math.isfinite, seconds_per_image)):
        return math.inf
    loads = [0.0] * workers
    for load in sorted((each for each in seconds_per_image for _ in range(repeats)), reverse=True):
        loads[loads.index(min(loads))] += load
    return max(0.0, seconds / max(*loads, 1e-12) - extra)
