"""Accuracy: one number without a label hierarchy; with one, an accuracy per labelling and their mean.

With a hierarchy, the operating points of a network predict at different labellings, and a coarse prediction is correct
more often than a fine one, which is more informative. ``accuracy`` makes them comparable: the mean over all labellings,
in which a labelling finer than the prediction counts as wrong. ``fine_accuracy`` is the accuracy of fine labels, if the
point predicts them, and ``coarse_accuracy`` the accuracy at the coarsest labelling.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from nas.execution.labels import right_answers
from nas.representation.elements import Task


class AccuracyCounter:
    """Counts correct predictions of one operating point over batches."""

    def __init__(self, task: Task):
        self.task, self.examples = task, 0
        self._correct: list[int | None] = [0] * len(task.label_counts)

    def add(self, logits_NK: Tensor, labels_N: Tensor) -> None:
        """Count a batch. logits_NK: at any labelling, the same for all batches. labels_N: fine labels."""
        self.examples += len(labels_N)
        counts = right_answers(self.task, logits_NK, labels_N)
        self._correct = [None if new is None else (old or 0) + new for old, new in zip(self._correct, counts)]

    def accuracies(self) -> dict[str, float]:
        """``accuracy``; with a hierarchy ``coarse_accuracy``, and ``fine_accuracy`` if fine labels are predicted."""
        shares = [None if correct is None else correct / self.examples for correct in self._correct]
        accuracies = {"accuracy": sum(share or 0.0 for share in shares) / len(shares)}
        if len(shares) > 1:
            by_name = {"fine_accuracy": shares[0], "coarse_accuracy": shares[-1]}
            accuracies |= {name: share for name, share in by_name.items() if share is not None}
        return accuracies


def constant_accuracy(task: Task, labels_N: np.ndarray) -> float:
    """The accuracy of the best constant prediction. labels_N: fine labels of the examples."""
    total = np.zeros(task.num_classes)
    for labelling in range(len(task.label_counts)):
        joined = np.array(task.joined(0, labelling))
        share = np.bincount(joined[labels_N], minlength=task.label_counts[labelling]) / len(labels_N)
        total += share[joined]
    return float(total.max() / len(task.label_counts))
