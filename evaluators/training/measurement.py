"""Measurement of operating points: calibrated norms, then accuracy and loss on validation and test images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from evaluators.data.batches import Batches, channels_last
from evaluators.data.source import ImageSource
from evaluators.training.accuracy import AccuracyCounter
from nas.evaluation.jobs import Diverged
from nas.execution.network import AnytimeNetwork
from nas.representation.elements import Task


def calibrate(network: AnytimeNetwork, images: Batches) -> None:
    """Estimate the norm statistics of every operating point; repeated calls give equal statistics."""
    network.calibrate(x for x, _ in images.train(torch.Generator().manual_seed(0)))


@torch.no_grad()
def measure_points(
    network: AnytimeNetwork,
    source: ImageSource,
    calibration: Batches,
    *,
    test: bool,
    images: int | None = None,
) -> list[dict[str, Any]]:
    """Recalibrate the norms if the architecture's policy requires it, and measure every operating point.

    Parameters
    ----------
    network
        The trained network. It is left in evaluation mode.
    source
        The validation and test images.
    calibration
        Training images for the norms, see :meth:`evaluators.data.source.ImageSource.calibration`.
    test
        Measure on the test images, too.
    images
        Validation images to measure on, at most; None: all.

    Returns
    -------
    list of dict
        For each level: level, macs, params, nonzero_macs, accuracies as in :mod:`evaluators.training.accuracy`, and
        loss in nats; with the prefix ``test_`` for the test images.

    Raises
    ------
    Diverged
        A loss is infinite or NaN.
    """
    channels_last(network, network.architecture.task.input_shape)
    if network.architecture.norm == "recalibrated":
        calibrate(network, calibration)
    network.eval()
    points: list[dict[str, Any]] = [
        {"level": k, "macs": network.macs[k], "params": network.params[k], "nonzero_macs": nonzero}
        for k, nonzero in enumerate(network.nonzero_macs)
    ]
    parts = {"": source.validation(source.validation_subset(images))}
    if test:
        parts["test_"] = source.test()
    for prefix, part in parts.items():
        for point, (accuracies, loss) in zip(points, _accuracies_and_losses(network, source.task, part)):
            if not math.isfinite(loss):
                raise Diverged(f"The {prefix}loss of level {point['level']} is {loss} after training.")
            point |= {f"{prefix}{name}": value for name, value in accuracies.items()} | {f"{prefix}loss": loss}
    return points


def _accuracies_and_losses(
    network: AnytimeNetwork, task: Task, images: Batches
) -> list[tuple[dict[str, float], float]]:
    """For every level, accuracies by name, and the mean cross-entropy in nats at the level's labelling."""
    counters = [AccuracyCounter(task) for _ in range(network.levels)]
    loss = np.zeros(network.levels)
    for x, y in images.evaluate():
        for level, logits in enumerate(network.forward_all(x)):
            counters[level].add(logits, y)
            loss[level] += float(F.cross_entropy(logits.float(), network.labels(y, level), reduction="sum"))
    return [(counter.accuracies(), mean) for counter, mean in zip(counters, (loss / len(images)).tolist())]
