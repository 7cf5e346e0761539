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

import numpy as np
import torch
from torch import Tensor

from evaluators.data.source import TOP
from nas.execution.labels import join_labels
from nas.representation.elements import Task


@dataclass(eq=False)
class _Counts:
    """Numbers of examples by class K: right_K, that were predicted rightly; label_K; predicted_K."""

    right_K: np.ndarray
    label_K: np.ndarray
    predicted_K: np.ndarray

    @staticmethod
    def zero(classes: int) -> _Counts:
        return _Counts(*np.zeros((3, classes), dtype=np.int64))

    def value(self, metric: str) -> float:
        """The metric of all examples so far."""
        if metric == "balanced_accuracy":
            occur_K = self.label_K > 0
            return float(np.mean(self.right_K[occur_K] / self.label_K[occur_K]))
        if metric == "macro_f1":
            both_K = self.label_K + self.predicted_K
            return float(np.mean(2 * self.right_K[both_K > 0] / both_K[both_K > 0]))
        return int(self.right_K.sum()) / int(self.label_K.sum())


class AccuracyCounter:
    """Measures the metric of a task for one operating point over batches."""

    def __init__(self, task: Task):
        self.task = task
        self._counts: dict[int, _Counts] = {}
        """By labelling; none for those finer than the predictions."""

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
            classes = task.label_counts[labelling]
            counts = self._counts.setdefault(labelling, _Counts.zero(classes))
            counts.right_K += _by_class(label_N[right_N], classes)
            counts.label_K += _by_class(label_N, classes)
            counts.predicted_K += _by_class(predicted_N, classes)

    def accuracies(self) -> dict[str, float]:
        """``accuracy``; with a hierarchy ``coarse_accuracy``, and ``fine_accuracy`` if fine labels are predicted.

        Values of the task's metric.
        """
        values = {labelling: counts.value(self.task.metric) for labelling, counts in self._counts.items()}
        labellings = len(self.task.label_counts)
        accuracies = {"accuracy": sum(values.values()) / labellings}
        if labellings > 1:
            by_name = {"fine_accuracy": values.get(0), "coarse_accuracy": values.get(labellings - 1)}
            accuracies |= {name: value for name, value in by_name.items() if value is not None}
        return accuracies


def _by_class(labels_N: Tensor, classes: int) -> np.ndarray:
    return torch.bincount(labels_N, minlength=classes).cpu().numpy()


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
