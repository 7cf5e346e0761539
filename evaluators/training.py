"""Partial and full training of anytime networks in torch, and the accuracy of every operating point."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.arrays import Batches, batches
from evaluators.augment import augmentation
from evaluators.data import Dataset, load, split, subset
from nas.errors import UserError
from nas.evaluation import DataInfo, Diverged, Evaluator, Job, Measure, Outcome, TrainingRule, architecture_of
from nas.network import AnytimeNetwork
from nas.plugins import load_plugin
from nas.preprocessing import Preprocessing
from nas.seeds import seed

EVALUATION_BATCH = 512
CALIBRATION_IMAGES = 2048
CALIBRATION_BATCH = 256
WARM_UP = 0.05  # of the schedule
SPLIT_SEED = 0


class Training(Evaluator):
    """Trains with SGD under a cosine schedule and measures accuracy on validation images.

    data: see ``nas data``. device: "auto", "cpu", "cuda", … threads: torch threads on the CPU.
    layout: order of the images' axes where their shape leaves it open. validation: share of the training images kept
    for choosing; None: 15 %, of small data up to 30 %, for 500 images to tell accuracies apart. batch_size,
    learning_rate: None lets the number of training images decide the batch, and the batch the rate. augment: see
    :mod:`evaluators.augment`.
    """

    measures: ClassVar = (
        Measure(name="accuracy", unit="fraction", maximise=True),
        Measure(name="loss", unit="nats", maximise=False),
        Measure(name="test_accuracy", unit="fraction", maximise=True),
        Measure(name="test_loss", unit="nats", maximise=False),
    )

    def __init__(
        self,
        data: str,
        *,
        device: str = "auto",
        threads: int = 1,
        layout: str | None = None,
        validation: float | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float = 5e-4,
        augment: str = "auto",
    ) -> None:
        if validation is not None and not 0 < validation < 1:
            raise UserError(f"validation must be a share of the training images between 0 and 1. Got {validation=}.")
        if batch_size is not None and batch_size < 2:
            raise UserError(f"batch_size must be at least 2, for batch norm. Got {batch_size=}.")
        if learning_rate is not None and not 0 < learning_rate < math.inf:
            raise UserError(f"learning_rate must be positive. Got {learning_rate=}.")
        self.data, self.layout, self.validation = data, layout, validation
        self.threads, self.device_name = threads, device
        self.batch_size, self.learning_rate, self.weight_decay = batch_size, learning_rate, weight_decay
        self.augment = augment

    @cached_property
    def dataset(self) -> Dataset:
        """The data, loaded once."""
        return load(self.data, layout=self.layout)

    @cached_property
    def device(self) -> torch.device:
        """Where training runs. Raises UserError when this machine has no such device."""
        name = self.device_name
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(1, device=name)
        except (RuntimeError, AssertionError) as error:
            raise UserError(
                f"device must be one that torch has here. Got {name!r}: {str(error).splitlines()[0]}"
            ) from error
        return torch.device(name)

    @cached_property
    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the images for training and for validation, the same in every study of these data."""
        labels = self.dataset.y_train
        share = self.validation or max(0.15, min(0.3, 500 / len(labels)))
        return split(labels, fraction=share, seed=SPLIT_SEED)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Standardisation by the training images alone."""
        return Preprocessing.fit(self.dataset.x_train, rows=self.parts[0])

    def info(self) -> DataInfo:
        data, (train, validation) = self.dataset, self.parts
        counts = np.bincount(data.y_train[validation], minlength=data.num_classes)
        return DataInfo(
            name=data.name,
            task=data.task,
            floor=float(counts.max() / counts.sum()),
            train_images=len(train),
            validation_images=len(validation),
            test_images=len(data.y_test),
            fingerprint=data.fingerprint,
        )

    def evaluate(self, job: Job, report: Callable[[int], None]) -> Outcome:
        started = time.monotonic()
        path = Path(job.folder, self.checkpoint)
        with _threads(self.threads):
            run = _Run(self, job)
            before = run.resume(path)
            if before.outcome is not None and before.epoch == job.until:
                return before.outcome
            for epoch in range(before.epoch, job.until):
                run.train_epoch(epoch)
                if epoch + 1 < job.until:
                    run.write(path, epoch + 1, before.seconds + time.monotonic() - started, None)
                report(epoch + 1)
            outcome = Outcome(
                points=run.measure(),
                epochs=job.until,
                images=run.images,
                seconds=before.seconds + time.monotonic() - started,
                saved=job.until == job.epochs,
            )
            if outcome.saved:
                run.network.save(job.folder)
            run.write(path, job.until, outcome.seconds, outcome)
        return outcome

    def loader(self, part: str, rows: np.ndarray, size: int, *, augment: str = "none") -> Batches:
        """Batches of some training or test images on the device."""
        data = self.dataset
        x, y = (data.x_test, data.y_test) if part == "test" else (data.x_train, data.y_train)
        change = None if augment == "none" else augmentation(augment, data.task)
        return batches(x, y, size=size, rows=rows, preprocessing=self.preprocessing, augment=change, device=self.device)

    def training_rows(self, images: int | None) -> np.ndarray:
        """The images of a training: all, or a stratified subset that larger ones contain."""
        train = self.parts[0]
        if images is None or images >= len(train):
            return train
        return train[subset(self.dataset.y_train[train], size=images, seed=SPLIT_SEED)]


class _Run:
    """The state of one training: network, optimiser, position in the schedule."""

    def __init__(self, settings: Training, job: Job):
        self.settings, self.job = settings, job
        architecture = architecture_of(job)
        generator = torch.Generator().manual_seed(seed(job.seed, "weights"))
        self.network = AnytimeNetwork(architecture, generator=generator)
        self.network.preprocess = settings.preprocessing
        self.network.to(settings.device)
        if len(architecture.task.input_shape) == 3:  # as the batches come: else every convolution reorders its weight
            self.network.to(memory_format=torch.channels_last)
        rule = load_plugin("nas.training_rules", architecture.training.rule)
        self.rule: TrainingRule = rule(**dict(architecture.training.settings))
        rows = settings.training_rows(job.images)
        self.images = len(rows)
        self.batch = settings.batch_size or _default_batch(len(rows))
        self.batches = settings.loader("train", rows, self.batch, augment=settings.augment)
        self.plain = settings.loader("train", rows[:CALIBRATION_IMAGES], CALIBRATION_BATCH)
        self.rate = settings.learning_rate or _default_rate(self.batch)
        decayed = [p for p in self.network.parameters() if p.dim() != 2 or p.shape[0] > len(architecture.points)]
        kept = {id(p) for p in decayed}
        self.optimiser = torch.optim.SGD(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": [p for p in self.network.parameters() if id(p) not in kept], "weight_decay": 0.0},
            ],
            lr=self.rate,
            momentum=0.9,
            nesterov=True,
        )
        self.autocast = settings.device.type == "cuda"

    def train_epoch(self, epoch: int) -> None:
        """One pass over the training images; everything random in it comes from the seed and the epoch's number."""
        generator = torch.Generator().manual_seed(seed(self.job.seed, "epoch", epoch))
        self.network.train()
        total = self.job.epochs * self.batches.steps
        for step, (x, y) in enumerate(self.batches.train(generator), start=epoch * self.batches.steps):
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate * schedule(step / total)
            self.optimiser.zero_grad(set_to_none=True)
            for loss in self._losses(x, y, generator):
                if not torch.isfinite(loss):
                    raise Diverged(f"The training loss became {loss.item()} in epoch {epoch + 1} of {self.job.epochs}.")
                loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimiser.step()

    def _losses(self, x: Tensor, y: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        """The rule's losses, each computed under autocast."""
        losses = self.rule.losses(self.network, x, y, generator)
        while True:
            with self._precision():
                loss = next(losses, None)
            if loss is None:
                return
            yield loss

    def _precision(self) -> contextlib.AbstractContextManager:
        return torch.autocast("cuda", torch.bfloat16) if self.autocast else contextlib.nullcontext()

    @torch.no_grad()
    def measure(self) -> list[dict[str, Any]]:
        """Recalibrate where the policy asks for it, then measure every level on the validation (and test) images."""
        network, settings = self.network, self.settings
        if network.architecture.norm == "recalibrated":
            network.calibrate(x for x, _ in self.plain.evaluate())
        network.eval()
        points: list[dict[str, Any]] = [
            {"level": k, "macs": network.macs[k], "params": network.params[k]} for k in range(network.levels)
        ]
        parts = {"": settings.loader("train", settings.parts[1], EVALUATION_BATCH)}
        if self.job.test:
            parts["test_"] = settings.loader("test", np.arange(len(settings.dataset.y_test)), EVALUATION_BATCH)
        for prefix, loader in parts.items():
            for point, (accuracy, loss) in zip(points, _accuracies(network, loader)):
                point |= {f"{prefix}accuracy": accuracy, f"{prefix}loss": loss}
        return points

    def write(self, path: Path, epoch: int, seconds: float, outcome: Outcome | None) -> None:
        """Write the checkpoint: whole or not at all, on disk before it counts."""
        from safetensors.torch import save_file

        tensors = {f"network.{name}": t.detach().cpu().contiguous() for name, t in self.network.state_dict().items()}
        for index, parameter in enumerate(self._parameters()):
            momentum = self.optimiser.state.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{index}"] = momentum.cpu().contiguous()
        about = {"epoch": epoch, "seconds": seconds, "outcome": outcome.to_json() if outcome else None}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, metadata={"about": json.dumps(about)})
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)

    def resume(self, path: Path) -> _Position:
        """Load the checkpoint where there is one that this job continues."""
        from safetensors import SafetensorError, safe_open

        if not path.exists():
            return _Position()
        try:
            with safe_open(path, framework="pt", device=str(self.settings.device)) as file:
                about = json.loads(file.metadata()["about"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        except (SafetensorError, OSError, KeyError, ValueError):
            return _Position()  # damaged: train from the start, which gives the same result
        if about["epoch"] > self.job.until:
            return _Position()
        self.network.load_state_dict({n[8:]: t for n, t in tensors.items() if n.startswith("network.")})
        for index, parameter in enumerate(self._parameters()):
            if f"momentum.{index}" in tensors:
                self.optimiser.state[parameter]["momentum_buffer"] = tensors[f"momentum.{index}"]
        outcome = Outcome(**about["outcome"]) if about["outcome"] else None
        return _Position(about["epoch"], about["seconds"], outcome)

    def _parameters(self) -> Iterator[torch.nn.Parameter]:
        for group in self.optimiser.param_groups:
            yield from group["params"]


class _Position:
    """How far a training has come: epochs done, seconds spent, and the outcome there if it was measured."""

    def __init__(self, epoch: int = 0, seconds: float = 0.0, outcome: Outcome | None = None):
        self.epoch, self.seconds, self.outcome = epoch, seconds, outcome


def schedule(progress: float) -> float:
    """Factor of the learning rate after a share of the training: short linear warm-up, then half a cosine to zero.

    >>> [round(schedule(p), 3) for p in (0.0, 0.025, 0.05, 0.525, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def _default_batch(images: int) -> int:
    return 32 if images < 2_000 else 64 if images < 20_000 else 128


def _default_rate(batch: int) -> float:
    """0.2 for batches of 64, growing with the square root: the sum of the levels' losses is what is minimised."""
    return 0.2 * math.sqrt(batch / 64)


@torch.no_grad()
def _accuracies(network: AnytimeNetwork, loader: Batches) -> list[tuple[float, float]]:
    """(accuracy, mean cross-entropy in nats) of every level over all examples."""
    correct, loss = np.zeros(network.levels), np.zeros(network.levels)
    for x, y in loader.evaluate():
        for level, logits in enumerate(network.forward_all(x)):
            correct[level] += int((logits.argmax(1) == y).sum())
            loss[level] += float(F.cross_entropy(logits.float(), y, reduction="sum"))
    return [(float(c), float(s)) for c, s in zip(correct / len(loader), loss / len(loader))]


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Run with this many torch threads, then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
