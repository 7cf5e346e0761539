"""The evaluator that trains candidates in torch, partially or completely, and measures every operating point."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from evaluators.controllers.training import train_controllers
from evaluators.data.augmentation import check_augmentation
from evaluators.data.datasets import Dataset
from evaluators.data.loading import load
from evaluators.data.on_disk import MappedFiles
from evaluators.data.source import ImageSource
from evaluators.training.accuracy import certainty, constant_accuracy
from evaluators.training.checkpoint import read_checkpoint, write_checkpoint
from evaluators.training.latency import latency_ms
from evaluators.training.measurement import measure_points
from evaluators.training.run import AVERAGE_MEASURES, TrainingRun
from evaluators.training.schedule import autocast
from evaluators.training.selection import select_points
from nas.config import SAMPLING
from nas.config.recipes import DEFAULT_RECIPE, parse_recipe
from nas.errors import UserError, unknown_name
from nas.evaluation.controllers import ControllerResult, ControllerSettings
from nas.evaluation.evaluator import DataInfo, Evaluator
from nas.evaluation.jobs import Job, Outcome
from nas.evaluation.loading import check_device
from nas.evaluation.operating_points import SelectionResult, SelectionSettings
from nas.evaluation.training_rules import ConstructingRule, load_rule
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from results.measures import METRICS, Measure, built_in


class Training(Evaluator):
    """Trains with an optimiser and measures accuracy on validation images.

    Parameters
    ----------
    data
        Data specification, see ``nas data``, or a Dataset.
    device
        "auto", "cpu", "cuda", …
    threads
        torch threads on the CPU.
    layout
        Order of the images' axes, if their shape does not determine it.
    hierarchy
        File with the coarse label of every class, see :func:`nas.load_data`. Accuracy is then measured
        as in :mod:`evaluators.training.accuracy`.
    validation
        Share of the training images that is kept for choosing candidates; None: the data's own validation images, or
        a share, see :class:`evaluators.data.source.ImageSource`.
    metric
        The metric that is measured as accuracy, one of ``results.measures.METRICS``; None: accuracy.
    sampling
        See :class:`evaluators.data.source.ImageSource`; None: all.
    recipe
        Optimiser and schedule, see :func:`nas.config.recipes.parse_recipe`; None: the default.
    batch_size, learning_rate
        In place of the recipe's, see :class:`nas.config.recipes.Recipe`.
    precision
        One of :data:`evaluators.training.schedule.PRECISIONS`.
    augment
        See :mod:`evaluators.data.augmentation`.

    Raises
    ------
    UserError
        A setting is out of range. Data are loaded, and their errors raised, on first use.
    """

    measures = built_in(
        *("accuracy", "loss", "test_accuracy", "test_loss", "fine_accuracy", "coarse_accuracy"),
        *("test_fine_accuracy", "test_coarse_accuracy", "nonzero_macs", "latency_ms"),
    ) + tuple(
        Measure(
            name=name,
            unit="fraction",
            maximise=True,
            meaning=f"{key.replace('_', ' ')} of the moving average of the weights",
            required=False,
        )
        for name, key in AVERAGE_MEASURES.items()
    )
    selects: ClassVar = True

    def __init__(
        self,
        data: str | Dataset,
        *,
        device: str = "auto",
        threads: int = 1,
        layout: str | None = None,
        hierarchy: str | None = None,
        validation: float | None = None,
        metric: str | None = None,
        sampling: str | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        recipe: str | None = None,
        augment: str = "auto",
        precision: str = "auto",
    ) -> None:
        if validation is not None and not 0 < validation < 1:
            raise UserError(f"validation must be a share of the training images between 0 and 1. Got {validation}.")
        if threads < 1:
            raise UserError(f"threads must be at least 1. Got {threads}.")
        if metric not in (None, *METRICS):
            raise UserError(unknown_name("metric", metric, METRICS))
        if sampling not in (None, *SAMPLING):
            raise UserError(unknown_name("sampling", sampling, SAMPLING))
        check_augmentation(augment)
        given = {"batch_size": batch_size, "learning_rate": learning_rate}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        self.recipe, self.precision = replace(parse_recipe(recipe or DEFAULT_RECIPE), **changes), precision
        autocast(precision, torch.device("cpu"))  # raises UserError for an unknown precision
        self.data, self.layout, self.hierarchy = data, layout, hierarchy
        self.validation, self.augment = validation, augment
        self.metric, self.sampling = metric or "accuracy", sampling or "all"
        self.threads, self.device_name = threads, device

    @cached_property
    def dataset(self) -> Dataset:
        """The data, loaded once."""
        return load(self.data, layout=self.layout, hierarchy=self.hierarchy)

    @cached_property
    def files(self) -> MappedFiles:
        """The files of images on disk."""
        return MappedFiles(self.dataset)

    @cached_property
    def device(self) -> torch.device:
        """Device of the training. Raises UserError if this machine has no such device."""
        name = self.device_name
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        check_device(name)
        return torch.device(name)

    @cached_property
    def source(self) -> ImageSource:
        """The images in batches on the device."""
        return ImageSource(
            self.dataset,
            device=self.device,
            validation=self.validation,
            metric=self.metric,
            sampling=self.sampling,
            augment=self.augment,
        )

    def info(self) -> DataInfo:
        data, source, _ = self.dataset, self.source, self.files
        return DataInfo(
            name=data.name,
            task=source.task,
            floor=constant_accuracy(source.task, source.validation_labels),
            train_images=len(source.training_rows),
            validation_images=len(source.validation_rows),
            test_images=len(data.y_test),
            fingerprint=data.fingerprint,
            parts=data.fingerprint_parts,
            augmentation=str(source.augmentation),
            sampling=source.sampling,
            certainty=certainty(source.task, source.validation_labels),
        )

    def data_in_memory(self) -> Dataset | None:
        on_disk = any(isinstance(x, np.memmap) for x, _ in self.dataset.parts.values())
        return None if on_disk else self.dataset

    def start(self, job: Job) -> TrainingRun:
        """The training of a job, before its first step."""
        self.files.check()
        data_settings = {
            "fingerprint": self.dataset.fingerprint,
            "validation": self.validation,
            "augmentation": str(self.source.augmentation),
        } | ({} if self.sampling == "all" else {"sampling": self.sampling})
        return TrainingRun(self.source, self.recipe, self.precision, job, data_settings)

    def evaluate(self, job: Job, report: Callable[[int], None]) -> Outcome:
        started = time.monotonic()
        path = Path(job.folder, self.checkpoint)
        with _torch_threads(job.threads or self.threads):
            run = self.start(job)
            saved = read_checkpoint(path, self.device)
            if saved is not None and not run.resume(saved):
                saved = None
            first, before = (saved.epoch, saved.seconds) if saved else (0, 0.0)
            if saved and (outcome := saved.measured_for(job)):
                return outcome

            def seconds() -> float:
                return before + time.monotonic() - started

            for epoch in range(first, job.until):
                run.train_epoch(epoch)
                run.keep_best(epoch)
                if epoch + 1 < job.until or job.selection:  # the final search is long: save its starting point
                    write_checkpoint(path, run.checkpoint(epoch + 1, seconds(), None))
                if epoch + 1 < job.until:
                    report(epoch + 1)
            outcome = run.outcome(seconds, alive=lambda: report(job.until))
            write_checkpoint(path, run.checkpoint(job.until, outcome.seconds, outcome))
        if first < job.until:
            report(job.until)
        return outcome

    def select(
        self,
        network: AnytimeNetwork,
        selection: SelectionSettings,
        *,
        seed: int = 0,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> SelectionResult:
        source = self.source
        with _torch_threads(self.threads):
            selected, measured, search = select_points(
                source, network.to(self.device), selection, images=None, seed=seed, report=report
            )
            calibration = source.calibration(source.training_rows, seed, share=network.augmented)
            rows = measure_points(selected, source, calibration, test=True)
            shape = selected.architecture.task.input_shape
            for level, row in enumerate(rows):
                latency = measured[level].latency_ms
                row["latency_ms"] = latency if latency is not None else latency_ms(selected.extract(level), shape)
        return SelectionResult(network=selected, points=rows, search=search)

    def train_controllers(
        self,
        network: AnytimeNetwork,
        settings: ControllerSettings,
        *,
        seed: int = 0,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> ControllerResult:
        with _torch_threads(self.threads):
            return train_controllers(self.source, network, settings, seed=seed, report=report)

    def continues(self, architecture: Architecture) -> bool:
        return not isinstance(load_rule(architecture.training), ConstructingRule)  # its schedule depends on all steps

    def starts_from_weights(self, architecture: Architecture) -> bool:
        return not isinstance(load_rule(architecture.training), ConstructingRule)

    def samples_subnetworks(self, architecture: Architecture) -> bool:
        return getattr(load_rule(architecture.training), "samples_subnetworks", False)


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Use this number of torch threads inside the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
