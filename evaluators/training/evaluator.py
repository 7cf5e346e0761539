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
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluators.controllers.training import control
from evaluators.data.arrays import Batches, batches, channels_last
from evaluators.data.augmentation import NAMES, augmentation
from evaluators.data.datasets import Dataset, load, split, subset
from evaluators.training.accuracy import RightAnswers, constant_accuracy
from evaluators.training.latency import latency_ms
from evaluators.training.selection import calibrate, select_points
from nas.errors import UserError, unknown_name
from nas.evaluation.controllers import ControllerResult, ControlSettings
from nas.evaluation.evaluator import DataInfo, Evaluator, Measure
from nas.evaluation.jobs import Diverged, Job, Outcome, architecture_of
from nas.evaluation.operating_points import Measured, Selection, SelectionResult
from nas.evaluation.training_rules import ConstructingRule, Construction, TrainingRule
from nas.execution.layers import Layer
from nas.execution.network import AnytimeNetwork
from nas.execution.preprocessing import Preprocessing
from nas.plugins import load_plugin
from nas.representation.architecture import Architecture
from nas.seeds import seed

EVALUATION_BATCH = 512
CALIBRATION_IMAGES = 2048
CALIBRATION_BATCH = 256
WARM_UP = 0.05  # of the schedule
PRECISIONS = ("auto", "float32", "bfloat16")
SPLIT_SEED = 0


class Training(Evaluator):
    """Trains with SGD under a cosine schedule and measures accuracy on validation images.

    data: see ``nas data``. device: "auto", "cpu", "cuda", … threads: torch threads on the CPU.
    layout: order of the images' axes where their shape leaves it open. hierarchy: a file with the coarse label of every
    class, see :func:`evaluators.data.datasets.load`; accuracy is then what :mod:`evaluators.training.accuracy` says.
    validation: share of the training images kept for choosing; None: 15 %, of small data up to 30 %, for 500 images to
    tell accuracies apart. batch_size, learning_rate: None lets the number of training images decide the batch, and the
    batch the rate; less for networks without norms, or with classifiers that read positions one by one.
    augment: see :mod:`evaluators.data.augmentation`. precision: of the passes in training, "float32" or "bfloat16",
    which recent CPUs have too; "auto": bfloat16 on a GPU.
    """

    measures: ClassVar = (
        Measure(name="accuracy", unit="fraction", maximise=True),
        Measure(name="loss", unit="nats", maximise=False),
        Measure(name="test_accuracy", unit="fraction", maximise=True),
        Measure(name="test_loss", unit="nats", maximise=False),
        Measure(name="fine_accuracy", unit="fraction", maximise=True),
        Measure(name="coarse_accuracy", unit="fraction", maximise=True),
        Measure(name="test_fine_accuracy", unit="fraction", maximise=True),
        Measure(name="test_coarse_accuracy", unit="fraction", maximise=True),
        Measure(name="nonzero_macs", unit="MACs", maximise=False),
        Measure(name="latency_ms", unit="ms", maximise=False),
    )
    selects: ClassVar = True

    def __init__(
        self,
        data: str,
        *,
        device: str = "auto",
        threads: int = 1,
        layout: str | None = None,
        hierarchy: str | None = None,
        validation: float | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float = 5e-4,
        augment: str = "auto",
        precision: str = "auto",
    ) -> None:
        if validation is not None and not 0 < validation < 1:
            raise UserError(f"validation must be a share of the training images between 0 and 1. Got {validation=}.")
        if batch_size is not None and batch_size < 2:
            raise UserError(f"batch_size must be at least 2, for batch norm. Got {batch_size=}.")
        if learning_rate is not None and not 0 < learning_rate < math.inf:
            raise UserError(f"learning_rate must be positive. Got {learning_rate=}.")
        if not 0 <= weight_decay < math.inf:
            raise UserError(f"weight_decay must be at least 0. Got {weight_decay=}.")
        if threads < 1:
            raise UserError(f"threads must be at least 1. Got {threads=}.")
        if augment not in NAMES:
            raise UserError(unknown_name("augmentation", augment, NAMES))
        if precision not in PRECISIONS:
            raise UserError(unknown_name("precision", precision, PRECISIONS))
        self.data, self.layout, self.hierarchy, self.validation = data, layout, hierarchy, validation
        self.threads, self.device_name = threads, device
        self.batch_size, self.learning_rate, self.weight_decay = batch_size, learning_rate, weight_decay
        self.augment, self.precision = augment, precision

    @cached_property
    def dataset(self) -> Dataset:
        """The data, loaded once."""
        return load(self.data, layout=self.layout, hierarchy=self.hierarchy)

    @cached_property
    def device(self) -> torch.device:
        """Where training runs. Raises UserError when this machine has no such device."""
        name = self.device_name
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.zeros(1, device=name).item()
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
        return DataInfo(
            name=data.name,
            task=data.task,
            floor=constant_accuracy(data.task, data.y_train[validation]),
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
            if before.outcome is not None:
                return before.outcome
            for epoch in range(before.epoch, job.until):
                run.train_epoch(epoch)
                if epoch + 1 < job.until or job.selection:  # the final search takes its time: what it starts from stays
                    run.write(path, epoch + 1, before.seconds + time.monotonic() - started, None)
                if epoch + 1 < job.until:
                    report(epoch + 1)
            outcome = run.outcome(lambda: before.seconds + time.monotonic() - started)
            run.write(path, job.until, outcome.seconds, outcome)
        if before.epoch < job.until:
            report(job.until)
        return outcome

    def select(
        self,
        network: AnytimeNetwork,
        selection: Selection,
        *,
        seed: int = 0,
        points: int | None = None,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> SelectionResult:
        with _threads(self.threads):
            made, chosen, found = select_points(
                self, network.to(self.device), selection, images=None, seed=seed, points=points, report=report
            )
            measured = self.measure(made, self.calibration(self.training_rows(None), seed), test=True)
            for level, point in enumerate(measured):
                known, shape = chosen[level].latency_ms, made.architecture.task.input_shape
                point["latency_ms"] = known if known is not None else latency_ms(made.extract(level), shape)
        return SelectionResult(network=made, points=measured, found=found)

    def control(
        self,
        network: AnytimeNetwork,
        settings: ControlSettings,
        *,
        seed: int = 0,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> ControllerResult:
        with _threads(self.threads):
            return control(self, network, settings, seed=seed, report=report)

    def samples_subnetworks(self, architecture: Architecture) -> bool:
        rule = load_plugin("nas.training_rules", architecture.training.rule)
        return getattr(rule(**dict(architecture.training.settings)), "samples_subnetworks", False)

    def loader(self, part: str, rows: np.ndarray, size: int, *, augment: str = "none") -> Batches:
        """Batches of some training or test images on the device."""
        data = self.dataset
        x, y = (data.x_test, data.y_test) if part == "test" else (data.x_train, data.y_train)
        change = None if augment == "none" else augmentation(augment, data.task)
        return batches(x, y, size=size, rows=rows, preprocessing=self.preprocessing, augment=change, device=self.device)

    @torch.no_grad()
    def measure(self, network: AnytimeNetwork, calibration: Batches, *, test: bool) -> list[dict[str, Any]]:
        """Recalibrate where the policy asks for it, then measure every level on the validation (and test) images.

        calibration: training images, see :meth:`calibration`.

        Raises Diverged where a loss is no number.
        """
        channels_last(network, network.architecture.task.input_shape)
        if network.architecture.norm == "recalibrated":
            calibrate(network, calibration)
        network.eval()
        points: list[dict[str, Any]] = [
            {"level": k, "macs": network.macs[k], "params": network.params[k], "nonzero_macs": nonzero}
            for k, nonzero in enumerate(network.nonzero_macs)
        ]
        parts = {"": self.loader("train", self.parts[1], EVALUATION_BATCH)}
        if test:
            parts["test_"] = self.loader("test", np.arange(len(self.dataset.y_test)), EVALUATION_BATCH)
        for prefix, loader in parts.items():
            for point, (accuracies, loss) in zip(points, _accuracies(network, loader)):
                if not math.isfinite(loss):
                    raise Diverged(f"The {prefix}loss of level {point['level']} is {loss} after training.")
                point |= {f"{prefix}{name}": value for name, value in accuracies.items()} | {f"{prefix}loss": loss}
        return points

    def calibration(self, rows: np.ndarray, job_seed: int, *, images: int = CALIBRATION_IMAGES) -> Batches:
        """Some of these training images to recalibrate norms on, changed as in training: of images as they are, the
        statistics are others than those that weights have come to fit.
        """
        drawn = np.random.default_rng(seed(job_seed, "calibration")).permutation(len(rows))[:images]
        return self.loader("train", rows[drawn], CALIBRATION_BATCH, augment=self.augment)

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
        rule = load_plugin("nas.training_rules", architecture.training.rule)
        self.rule: TrainingRule | ConstructingRule = rule(**dict(architecture.training.settings))
        rows = settings.training_rows(job.images)
        self.images = len(rows)
        self.batch = settings.batch_size or _default_batch(len(rows))
        self.batches = settings.loader("train", rows, self.batch, augment=settings.augment)
        self.calibration = settings.calibration(rows, job.seed)
        self.rate = settings.learning_rate or _default_rate(self.batch, architecture)
        self._start(architecture)
        fast = settings.device.type == "cuda" if settings.precision == "auto" else settings.precision == "bfloat16"
        self.autocast = settings.device.type if fast else None
        self.identity = {
            "architecture": architecture.key,
            **{name: getattr(job, name) for name in ("seed", "epochs")},
            **{name: getattr(settings, name) for name in ("data", "layout", "validation", "weight_decay", "augment")},
            "precision": settings.precision,
            "images": self.images,
            "batch": self.batch,
            "rate": self.rate,
        }

    def _start(self, architecture: Architecture) -> None:
        """The state before the first step."""
        generator = torch.Generator().manual_seed(seed(self.job.seed, "weights"))
        self.construction: Construction | None = None
        if isinstance(self.rule, ConstructingRule):
            steps = self.job.epochs * self.batches.steps
            self.construction = self.rule.construct(architecture, steps=steps, generator=generator)
        else:
            self.network = AnytimeNetwork(architecture, generator=generator)
        self._adopt()

    def _adopt(self) -> None:
        """Go on with the network of the construction as it is now, if there is one, and a new optimiser."""
        settings, groups = self.settings, []
        if self.construction is not None:
            self.network = self.construction.network
        self.state = cast(torch.nn.Module, self.construction or self.network)
        self.network.preprocess = settings.preprocessing
        self.state.to(settings.device)
        channels_last(self.state, self.network.architecture.task.input_shape)
        for module in self._trained():
            decayed, kept = _decayed(module)
            groups.append({"params": decayed, "weight_decay": settings.weight_decay})
            groups.append({"params": kept, "weight_decay": 0.0})
        self.optimiser = torch.optim.SGD(groups, lr=self.rate, momentum=0.9, nesterov=True)

    def _trained(self) -> list[torch.nn.Module]:
        """The modules that are trained, each with gradients clipped on their own."""
        return [self.network] if self.construction is None else self.construction.trained()

    def train_epoch(self, epoch: int) -> None:
        """One pass over the training images; everything random in it comes from the seed and the epoch's number."""
        generator = torch.Generator().manual_seed(seed(self.job.seed, "epoch", epoch))
        self.state.train()
        total = self.job.epochs * self.batches.steps
        for step, (x, y) in enumerate(self.batches.train(generator), start=epoch * self.batches.steps):
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate * schedule(step / total)
            self.optimiser.zero_grad(set_to_none=True)
            total_loss = torch.zeros((), device=x.device)
            if hasattr(self.rule, "progress"):
                self.rule.progress = step / total
            for loss in self._losses(step, x, y, generator):
                loss.backward()
                total_loss += loss.detach()
            if not torch.isfinite(total_loss):  # one wait for the device a step
                raise Diverged(f"The loss became {total_loss.item()} in epoch {epoch + 1} of {self.job.epochs}.")
            for module in self._trained():
                torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
            self.optimiser.step()
            if self.construction is not None:
                self._advance(self.construction, step, generator)

    def _advance(self, construction: Construction, step: int, generator: torch.Generator) -> None:
        """Let the construction go on after a step; where it has a new network, the momentum follows."""
        momentum = {name: self._momentum(parameter) for name, parameter in self.state.named_parameters()}
        carry = construction.advance(step, generator)
        if carry is None:
            return
        self._adopt()
        for name, parameter in self.state.named_parameters():
            if (old := momentum[name]) is not None:
                self.optimiser.state[parameter]["momentum_buffer"] = carry(name, old)

    def _momentum(self, parameter: torch.nn.Parameter) -> Tensor | None:
        return self.optimiser.state.get(parameter, {}).get("momentum_buffer")

    def _losses(self, step: int, x: Tensor, y: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        """The rule's losses, each computed under autocast."""
        if self.construction is not None:
            losses = self.construction.losses(step, x, y, generator)
        else:
            losses = cast(TrainingRule, self.rule).losses(self.network, x, y, generator)
        while True:
            with self._precision():
                loss = next(losses, None)
            if loss is None:
                return
            yield loss

    def _precision(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.autocast, torch.bfloat16) if self.autocast else contextlib.nullcontext()

    def outcome(self, seconds: Callable[[], float]) -> Outcome:
        """Choose operating points where the job asks for it, measure them, and save the network that they belong to."""
        job, network = self.job, self.network
        chosen: list[Measured] = []
        if self.construction is not None:
            network = self._finished(self.construction)
        if job.selection:
            network, chosen, _ = select_points(
                self.settings, network, Selection(**job.selection), images=job.images, seed=job.seed
            )
        points = self.settings.measure(network, self.calibration, test=job.test)
        for point, measured in zip(points, chosen):
            if measured.latency_ms is not None:  # what it was chosen by
                point["latency_ms"] = measured.latency_ms
        saved = job.until == job.epochs
        if saved:
            network.save(job.folder)
        return Outcome(
            points=points,
            epochs=job.until,
            images=self.images,
            seconds=seconds(),
            realised=network.architecture.to_json() if job.selection or self.construction is not None else None,
            saved=saved,
        )

    def _finished(self, construction: Construction) -> AnytimeNetwork:
        steps = self.job.until * self.batches.steps
        generator = torch.Generator().manual_seed(seed(self.job.seed, "finished", steps))
        images = (x for x, _ in self.calibration.train(torch.Generator().manual_seed(0)))
        return construction.finished(steps, images, generator)

    def write(self, path: Path, epoch: int, seconds: float, outcome: Outcome | None) -> None:
        """Write the checkpoint: whole or not at all, on disk before it counts."""
        from safetensors.torch import save_file

        tensors = {f"network.{name}": t.detach().cpu().contiguous() for name, t in self.state.state_dict().items()}
        for index, parameter in enumerate(self._parameters()):
            if (momentum := self._momentum(parameter)) is not None:
                tensors[f"momentum.{index}"] = momentum.cpu().contiguous()
        about = {
            "job": self.identity,
            "epoch": epoch,
            "seconds": seconds,
            "architecture": self.network.architecture.to_json(),
            "outcome": outcome.to_json() if outcome else None,
            "test": self.job.test,
            "selection": self.job.selection,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, metadata={"about": json.dumps(about)})
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)

    def resume(self, path: Path) -> _Position:
        """Load the checkpoint where there is one that this job continues; else leave everything as it is.

        One that is damaged, that goes further than this job, or that another job wrote counts as none: to train from
        the start gives the same result.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt", device=str(self.settings.device)) as file:
                about = json.loads((file.metadata() or {})["about"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            position = _Position(about["epoch"], about["seconds"])
            if (
                about["outcome"]
                and position.epoch == self.job.until
                and (about["test"] == self.job.test and about["selection"] == self.job.selection)
            ):
                position.outcome = Outcome(**about["outcome"])
            state = {name[8:]: tensor for name, tensor in tensors.items() if name.startswith("network.")}
            architecture = Architecture.from_json(about["architecture"])
            ours = about["job"] == self.identity and 0 < position.epoch <= self.job.until
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            return _Position()
        if not ours:
            return _Position()
        if self.construction is not None:
            self.construction.restore(architecture)
            self._adopt()
        if {n: t.shape for n, t in state.items()} != {n: t.shape for n, t in self.state.state_dict().items()}:
            self._start(architecture_of(self.job))
            return _Position()
        self.state.load_state_dict(state)
        for index, parameter in enumerate(self._parameters()):
            if f"momentum.{index}" in tensors:
                self.optimiser.state[parameter]["momentum_buffer"] = tensors[f"momentum.{index}"]
        return position

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


def _decayed(module: torch.nn.Module) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """The weights of operations, which decay, and the rest: biases, and the scales and shifts of norms."""
    weights = [part.weight for part in module.modules() if isinstance(part, Layer) and part.weight is not None]
    known = {id(weight) for weight in weights}
    return weights, [p for p in module.parameters() if id(p) not in known]


def _default_batch(images: int) -> int:
    return 32 if images < 2_000 else 64 if images < 20_000 else 128


def _default_rate(batch: int, architecture: Architecture) -> float:
    """0.2 for batches of 64, growing with the square root: the sum of the levels' losses is what is minimised.

    A quarter of it without norms: gradients of all levels add up in the weights that they share, and with nothing to
    keep activations in range, most of a layer's are zero for good after an epoch at the full rate. Less by the square
    root of the positions that a classifier reads one by one, without their mean: all of them move its logits at once.
    """
    topology, outputs = architecture.topology, {point.output for point in architecture.points}
    normed = any("norm" in (*operation.before, *operation.after) for operation in topology.operations)
    positions = max(math.prod(topology.maps[o.source].size) for o in topology.operations if o.target in outputs)
    return (0.2 if normed else 0.05) * math.sqrt(batch / 64 / positions)


@torch.no_grad()
def _accuracies(network: AnytimeNetwork, loader: Batches) -> list[tuple[dict[str, float], float]]:
    """Accuracies by name, and mean cross-entropy in nats with the labels that it tells, of every level over all
    examples.
    """
    counts = [RightAnswers(network.architecture.task) for _ in range(network.levels)]
    loss = np.zeros(network.levels)
    for x, y in loader.evaluate():
        for level, logits in enumerate(network.forward_all(x)):
            counts[level].add(logits, y)
            loss[level] += float(F.cross_entropy(logits.float(), network.labels(y, level), reduction="sum"))
    return [(count.accuracies(), total) for count, total in zip(counts, (loss / len(loader)).tolist())]


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Run with this many torch threads, then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
