"""The rungs of partial training: its stages, the images of a measurement, and the threads of a training."""

from __future__ import annotations

from nas.config import Config
from nas.evaluation.jobs import Stage
from nas.workers.machines import usable_cores

MEASURED_IMAGES = 4_000
"""Validation images of a measurement before the end of a training, at most."""
MEASURED_SHARE = 0.3
"""And at most this share of the training images since the last one, so that measurements take little of the time."""
LEAST_MEASURED = 1_000


def partial_stages(config: Config) -> tuple[Stage, ...]:
    """The stages of partial training: the learning rate falls to zero before each rung, and restarts after it.

    Results at a rung are then those of a finished training, and a training can end, or continue, after each.
    """
    return tuple(Stage(epochs, config.images) for epochs in config.rungs())


def measured_images(images: int, epochs: int, classes: int) -> int:
    """Validation images of the measurement after some epochs over so many images each, at least one of each class."""
    return max(LEAST_MEASURED, classes, min(MEASURED_IMAGES, int(MEASURED_SHARE * images * epochs)))


def threads_for(config: Config, trainings: int) -> int | None:
    """Threads of each of several trainings side by side, such that they occupy the cores; None: as the settings say.

    They depend on the number of trainings of a rung and not on the number of workers, so that results do not either.
    """
    if config.threads is not None or config.ray:  # on Ray, a training has the cores that it reserves
        return None
    return max(1, usable_cores() // trainings)
