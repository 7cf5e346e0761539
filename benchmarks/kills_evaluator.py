"""An evaluator without training that notes each epoch, for `kills.py`. An epoch depends on the one before it."""

from __future__ import annotations

import json
import os
import time
from hashlib import sha256
from pathlib import Path

from nas.evaluation.evaluator import DataInfo, Evaluator
from nas.evaluation.jobs import Outcome
from nas.representation.architecture import macs, params
from nas.representation.elements import Task
from results.measures import built_in


class Noted(Evaluator):
    """Results are a function of architecture, seed and epochs.

    data: a file to which each epoch is appended when it ends, and the begin of a training as epoch 0: process,
    candidate, images, epoch.
    """

    measures = built_in("accuracy", "loss", "test_accuracy", "test_loss")
    checkpoint = "checkpoint.json"

    def __init__(self, data, **settings):
        self.notes = Path(data)
        self.seconds = float(os.environ.get("EPOCH_SECONDS", "0.2"))

    def info(self):
        return DataInfo(
            name="none",
            task=Task(input_shape=(1, 8, 8), num_classes=10),
            floor=0.1,
            train_images=1_000,
            validation_images=200,
            test_images=100,
            fingerprint="none",
        )

    def evaluate(self, job, report):
        path = Path(job.folder, self.checkpoint)
        state = json.loads(path.read_text()) if path.exists() else {"epoch": 0, "digest": str(job.seed)}
        self.note(job, 0)
        for epoch in range(state["epoch"], job.until):
            time.sleep(self.seconds)
            digest = sha256(f"{state['digest']} {epoch}".encode()).hexdigest()
            state = {"epoch": epoch + 1, "digest": digest}
            write(path, state)
            self.note(job, epoch + 1)
            report(epoch + 1)
        saved = job.until == job.epochs
        if saved:
            write(Path(job.folder, "network.json"), state)
        return Outcome(
            points=self.points(job, state["digest"]),
            epochs=job.until,
            images=job.images or 1_000,
            seconds=self.seconds * job.until,
            saved=saved,
        )

    def note(self, job, epoch):
        """Append a line to the file."""
        with open(self.notes, "a") as file:
            file.write(f"{os.getpid()} {job.candidate} {job.images or 1_000} {epoch}\n")

    def points(self, job, digest):
        """Points whose accuracy depends on all epochs before."""
        architecture = job.parsed_architecture
        luck = int(digest[:8], 16) / 2**32
        points = []
        for level, (cost, size) in enumerate(zip(macs(architecture), params(architecture))):
            accuracy = 0.1 + 0.1 * level + 0.4 * luck
            point = {"level": level, "macs": cost, "params": size, "accuracy": accuracy, "loss": 1 - accuracy}
            points.append(point | ({"test_accuracy": accuracy, "test_loss": 1 - accuracy} if job.test else {}))
        return points


def write(path: Path, content: dict) -> None:
    """Write a file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(content))
    os.replace(partial, path)
