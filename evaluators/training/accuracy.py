"""Accuracy, or another metric of a task: one number without a label hierarchy; with one, the mean over labellings.

With a hierarchy, the operating points of a network predict at different labellings, and a coarse prediction is correct
more often than a fine one, which is more informative. ``accuracy`` makes them comparable: the mean over all labellings,
in which a labelling finer than the prediction counts as wrong. ``fine_accuracy`` is the accuracy of fine labels, if the
point predicts them, and ``coarse_accuracy`` the accuracy at the coarsest labelling.

Metrics (``results.measures.METRICS``):

- accuracy: share of correct predictions;
- balanced accuracy: mean, over the classes that occur, of the share of their examples that are predicted;
- macro F1 score: mean of the F1 scores of the classes that occur or are predicted;
- top-5 accuracy: share of examples whose class is among the five most probable.

References
----------
Brodersen, Ong, Stephan & Buhmann, The Balanced Accuracy and Its Posterior Distribution, ICPR 2010.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluators.data.source import TOP
from nas.execution.labels import join_labels
from nas.representation.elements import Task

BY_CLASS = ("balanced_accuracy", "macro_f1")
"""Metrics for which examples are counted by class; for others, all are one class."""


@dataclass(eq=False)
class _Counts:
    """Numbers of examples by class K: right_K, that were predicted rightly; label_K; predicted_K."""

    right_K: Any
    label_K: Any
    predicted_K: Any

    def value(self, metric: str) -> float:
        """The metric of all examples so far."""
        right_K, label_K, predicted_K = map(np.asarray, (self.right_K, self.label_K, self.predicted_K))
        if metric == "balanced_accuracy":
            occur_K = label_K > 0
            return float(np.mean(right_K[occur_K] / label_K[occur_K]))
        if metric == "macro_f1":
            both_K = label_K + predicted_K
            return float(np.mean(2 * right_K[both_K > 0] / both_K[both_K > 0]))
        return int(right_K.sum()) / int(label_K.sum())


class AccuracyCounter:
    """Measures the metric of a task for one operating point over batches."""

    def __init__(self, task: Task):
        self.task = task
        self._counts: dict[int, Tensor] = {}
        """By labelling, those of `_Counts`, (3, K), on the device; none for labellings finer than the predictions."""

    def add(self, logits_NK: Tensor, labels_N: Tensor) -> None:
        """Count a batch. logits_NK: at any labelling, the same for all batches. labels_N: fine labels."""
        task = self.task
        own, answers_N = task.label_counts.index(logits_NK.shape[1]), logits_NK.argmax(1)
        for labelling in range(own, len(task.label_counts)):
            label_N = join_labels(task, labels_N, labelling)
            predicted_N = join_labels(task, answers_N, labelling, finer=own)
            if task.metric == "top5":
                right_N = (logits_NK.topk(TOP, dim=1).indices == label_N[:, None]).any(1)
            else:
                right_N = predicted_N == label_N
            if task.metric in BY_CLASS:
                classes = task.label_counts[labelling]
                parts = (label_N[right_N], label_N, predicted_N)
                counts = torch.stack([torch.bincount(part, minlength=classes) for part in parts])
            else:
                whole = torch.full((), len(label_N), device=label_N.device)
                counts = torch.stack([right_N.sum(), whole, whole])[:, None]
            self._counts[labelling] = self._counts[labelling] + counts if labelling in self._counts else counts

    def accuracies(self) -> dict[str, float]:
        """``accuracy``; with a hierarchy ``coarse_accuracy``, and ``fine_accuracy`` if fine labels are predicted.

        Values of the task's metric.
        """
        values = {
            labelling: _Counts(*counts.cpu().numpy()).value(self.task.metric)
            for labelling, counts in self._counts.items()
        }
        labellings = len(self.task.label_counts)
        accuracies = {"accuracy": sum(values.values()) / labellings}
        if labellings > 1:
            by_name = {"fine_accuracy": values.get(0), "coarse_accuracy": values.get(labellings - 1)}
            accuracies |= {name: value for name, value in by_name.items() if value is not None}
        return accuracies


def certainty(task: Task, labels_N: np.ndarray) -> float:
    """Number of images of which an accuracy is as certain as the metric, per validation image; see `DataInfo`.

    The mean of accuracies of K classes with n_k images has the variance Σ 1/n_k / 4K² where that of all is 1/4n.
    """
    if task.metric not in BY_CLASS:
        return 1.0
    counts = np.bincount(labels_N)
    occurring = counts[counts > 0]
    return float(len(occurring) ** 2 / (1 / occurring).sum() / len(labels_N))


def constant_accuracy(task: Task, labels_N: np.ndarray) -> float:
    """The accuracy of the best constant prediction, or its value of the task's metric. labels_N: fine labels."""
    total = np.zeros(task.num_classes)
    for labelling, classes in enumerate(task.label_counts):
        joined = np.array(task.joined(0, labelling))
        label_K = np.bincount(joined[labels_N], minlength=classes)
        total += np.array([_constant_value(task.metric, label_K, label) for label in range(classes)])[joined]
    return float(total.max() / len(task.label_counts))


def _constant_value(metric: str, label_K: np.ndarray, label: int) -> float:
    """The metric if the same label is always predicted; for top-5 accuracy, the five most frequent ones."""
    if metric == "top5":
        return float(np.sort(label_K)[-TOP:].sum() / label_K.sum())
    counts = _Counts(np.zeros_like(label_K), label_K, np.zeros_like(label_K))
    counts.right_K[label], counts.predicted_K[label] = label_K[label], label_K.sum()
    return counts.value(metric)
