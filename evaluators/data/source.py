"""The images of a study, ready for training: split in parts, standardised, in batches on a device."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from evaluators.data.augmentation import augmentation
from evaluators.data.batches import Batches, batches
from evaluators.data.datasets import Dataset
from evaluators.data.photographs import Mix
from evaluators.data.splitting import balanced, split, subset
from nas.errors import DataError
from nas.execution.preprocessing import Preprocessing
from nas.seeds import seed as derived_seed

if TYPE_CHECKING:
    import torch

EVALUATION_BATCH = 256
"""On one CPU core, 512 images need more time per image: their feature maps do not fit into its cache."""
CALIBRATION_IMAGES = 2048
CALIBRATION_BATCH = 256
SPLIT_SEED = 0
TOP = 5
"""Answers of which one must be right, for top-5 accuracy."""


class ImageSource:
    """Training, validation and test images of a data set, in batches on a device.

    Parameters
    ----------
    dataset
        The images.
    device
        Device of the batches.
    validation
        Share of the training images that is kept for validation. None: the validation images of the data set, if it
        has any; otherwise 15 %, and up to 30 % of small data, for 500 images, with which accuracies can be
        distinguished.
    metric
        The metric that is measured as accuracy, one of ``results.measures.METRICS``.
    sampling
        "all": every training image once in an epoch. "balanced": equally many of each class, in as many images as
        before; those of rare classes repeatedly, and a different part of frequent classes in each epoch.
    augment
        Augmentation of training images, see :func:`evaluators.data.augmentation.augmentation`.

    Raises
    ------
    DataError
        A share is given for data with validation images of their own, or top-5 accuracy for five classes or fewer.

    Notes
    -----
    The split depends only on the labels and on the share, so it is the same in every study of these data.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        device: torch.device | str = "cpu",
        validation: float | None = None,
        metric: str = "accuracy",
        sampling: str = "all",
        augment: str = "auto",
    ) -> None:
        if validation is not None and dataset.x_val is not None:
            raise DataError(
                f"The data have {len(dataset.x_val)} validation images of their own, x_val. "
                f"Got --validation {validation:g} too: leave it out."
            )
        if metric == "top5" and (dataset.num_classes <= TOP or dataset.hierarchy):
            raise DataError(
                f"--metric top5 needs more than {TOP} classes, without a hierarchy. Got {dataset.num_classes} classes"
                f"{' and a hierarchy' if dataset.hierarchy else ''}: use another metric."
            )
        self.dataset, self.device, self._validation, self.sampling = dataset, device, validation, sampling
        self.task = replace(dataset.task, metric=metric)
        """The task of the data, with the metric."""
        self.augmentation = augmentation(augment, dataset)

    @cached_property
    def _parts(self) -> tuple[np.ndarray, np.ndarray]:
        labels, own = self.dataset.y_train, self.dataset.y_val
        if own is not None:
            return np.arange(len(labels)), np.arange(len(own))
        return split(labels, fraction=self._validation or max(0.15, min(0.3, 500 / len(labels))), seed=SPLIT_SEED)

    @property
    def training_rows(self) -> np.ndarray:
        """Indices of the training images."""
        return self._parts[0]

    @property
    def validation_rows(self) -> np.ndarray:
        """Indices of the validation images, among the images of :attr:`validation_data`."""
        return self._parts[1]

    @property
    def validation_data(self) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels that contain the validation part: the data set's own, or its training images."""
        parts = self.dataset.parts
        return parts.get("val", parts["train"])

    @property
    def validation_labels(self) -> np.ndarray:
        """Labels of the validation images."""
        return self.validation_data[1][self.validation_rows]

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Standardisation by the statistics of the training images, without the validation images."""
        return Preprocessing.fit(self.dataset.x_train, rows=self.training_rows)

    def training_subset(self, images: int | None, part: int = 0) -> np.ndarray:
        """Indices of a stratified subset of the training images; None: all.

        The first part is contained in larger first parts; each part has the images that follow those of the one before.
        With balanced sampling, equally many images of each class, drawn from all training images anew for each part.
        """
        if self.sampling == "balanced":
            return self._balanced(self.training_rows, images, part)
        return _subset(self.training_rows, self.dataset.y_train, images, part)

    def validation_subset(self, images: int | None) -> np.ndarray:
        """Indices of a stratified subset of the validation images, contained in larger subsets; None: all."""
        return _subset(self.validation_rows, self.validation_data[1], images)

    def training(self, rows: np.ndarray, size: int, *, share: float = 1.0) -> Batches:
        """Batches of these images, of which ``train`` augments a share; mixed ones if the augmentation says so."""
        data, mixes = self.dataset, self.augmentation.mixes
        mix = Mix(kinds=mixes, classes=data.num_classes) if mixes and share else None
        return self.batches(data.x_train, data.y_train, rows=rows, size=size, share=share, mix=mix)

    def validation(self, rows: np.ndarray | None = None) -> Batches:
        """Batches of the validation images, or of these rows of :attr:`validation_data`, for evaluation."""
        rows = self.validation_rows if rows is None else rows
        return self.batches(*self.validation_data, rows=rows, size=EVALUATION_BATCH, share=0.0)

    def test(self, rows: np.ndarray | None = None) -> Batches:
        """Batches of the test images, or of some of them, for evaluation."""
        data = self.dataset
        return self.batches(data.x_test, data.y_test, rows=rows, size=EVALUATION_BATCH, share=0.0)

    def calibration(self, rows: np.ndarray, seed: int, *, share: float, images: int = CALIBRATION_IMAGES) -> Batches:
        """Random training images of these rows, on which the statistics of norms are estimated.

        share: of the images that were augmented in training. The weights are adapted to the statistics of such images.
        """
        if self.sampling == "balanced":
            rows = self._balanced(rows, None, 0)
        drawn = np.random.default_rng(derived_seed(seed, "calibration")).permutation(len(rows))[:images]
        return self.training(rows[drawn], CALIBRATION_BATCH, share=share)

    def _balanced(self, rows: np.ndarray, images: int | None, part: int) -> np.ndarray:
        """Equally many rows of each class: so many, or as many as there are."""
        size = min(images or len(rows), len(rows))
        seed = derived_seed(SPLIT_SEED, "balanced", part)
        return rows[balanced(self.dataset.y_train[rows], size=size, seed=seed)]

    def batches(
        self,
        x_NCS: np.ndarray,
        y_N: np.ndarray,
        *,
        size: int,
        share: float,
        rows: np.ndarray | None = None,
        mix: Mix | None = None,
    ) -> Batches:
        """Batches of raw images with any labels, standardised as the training images. share: that is augmented."""
        change = partial(self.augmentation, share=share) if share else None
        return batches(
            x_NCS,
            y_N,
            size=size,
            rows=rows,
            preprocessing=self.preprocessing,
            augment=change,
            mix=mix,
            device=self.device,
        )


def _subset(rows: np.ndarray, labels: np.ndarray, images: int | None, part: int = 0) -> np.ndarray:
    """Some of these rows of the labelled images; None, or too many: all."""
    if images is None or images >= len(rows):
        return rows
    return rows[subset(labels[rows], size=images, seed=SPLIT_SEED, part=part)]
