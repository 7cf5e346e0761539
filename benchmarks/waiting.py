"""Trainings that only wait, with tenfold differences in time, for benchmarks of the search on busy machines."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from nas.evaluation.evaluator import DataInfo, Evaluator
from nas.evaluation.jobs import Job, Outcome
from nas.representation.architecture import Architecture, macs, params
from nas.representation.builder import Builder, widths
from nas.representation.elements import Task
from nas.spaces.contract import Choose
from results.measures import built_in

TASK = Task(input_shape=(1, 8, 8), num_classes=10)
SHORTEST = 0.5  # seconds of an epoch; the longest takes ten times as long
LEAST, MOST = 3e4, 6e6  # MACs of networks with the shortest and the longest epochs


class Chains:
    """Chains of convolutions: 8,000 networks with a hundredfold range of MACs."""

    def architecture(self, choose: Choose, task: Task, *, points: int = 4) -> Architecture:
        """A network of one to four convolutions."""
        builder = Builder(task)
        x = builder.input
        for block in range(choose("depth", (1, 2, 3, 4))):
            width = choose(f"width {block}", (8, 12, 16, 24, 32, 48, 64, 96))
            slices = widths(width, [(k + 1) / points for k in range(points)], divisor=1)
            kernel = choose(f"kernel {block}", (1, 3, 5))
            x = builder.conv(x, slices, kernel=kernel, after=("norm", "relu"))
        builder.head(x)
        return builder.architecture(points)


class Waiting(Evaluator):
    """Waits in place of training; accuracies grow with epochs and MACs, and differ at random between networks."""

    measures = built_in("accuracy", "loss", "test_accuracy")

    def __init__(self, data: str, *, device: str = "auto", threads: int = 1, **settings: Any) -> None:
        self.data = data

    def info(self) -> DataInfo:
        """Data of 1,000 images that do not exist."""
        return DataInfo(
            name="nothing",
            task=TASK,
            floor=0.1,
            train_images=1000,
            validation_images=200,
            test_images=100,
            fingerprint="nothing",
        )

    def evaluate(self, job: Job, report: Callable[[int], None]) -> Outcome:
        """Wait for the epochs since the rung before."""
        costs, sizes = macs(job.parsed_architecture), params(job.parsed_architecture)
        before = max((epochs for epochs in rungs(job.epochs) if epochs < job.until), default=0)
        for epoch in range(before, job.until):
            time.sleep(epoch_seconds(costs[-1]))
            report(epoch + 1)
        luck = int(sha256(str(job.seed).encode()).hexdigest()[:8], 16) / 2**32
        points = []
        for level, (cost, size) in enumerate(zip(costs, sizes)):
            learned = 1 - math.exp(-job.until / 4)
            accuracy = 0.1 + 0.85 * learned * (0.6 + 0.4 * luck) * (1 - (cost / 1e3) ** -0.25)
            point = {"level": level, "macs": cost, "params": size, "accuracy": accuracy, "loss": 1 - accuracy}
            points.append(point | ({"test_accuracy": accuracy} if job.test else {}))
        seconds = job.until * epoch_seconds(costs[-1])
        return Outcome(points=points, epochs=job.until, images=job.images or 1000, seconds=seconds)


def epoch_seconds(cost: float) -> float:
    """Seconds of an epoch of a network with this number of MACs: within a factor of ten."""
    place = math.log(cost / LEAST) / math.log(MOST / LEAST)
    return SHORTEST * 10 ** min(1.0, max(0.0, place))


def rungs(epochs: int) -> tuple[int, ...]:
    """The rungs of :meth:`nas.config.Config.rungs`."""
    return tuple(sorted({math.ceil(epochs / 9), math.ceil(epochs / 3), epochs}))
