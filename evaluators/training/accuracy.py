"""Accuracy of answers: one number without a label hierarchy; with one, at every labelling, and their mean.

With a hierarchy, points of one network answer in different labellings, and a coarse answer is right more often than a
fine one, which tells more. What compares them, ``accuracy``, is the mean over the labellings; labels that an answer
does not tell count as wrong. It is how much of the whole answer is right. Beside it, ``fine_accuracy`` is that of the
fine labels, where they are told, and ``coarse_accuracy`` that of the coarsest, which every answer tells.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from nas.execution.labels import right_answers
from nas.representation.elements import Task


class RightAnswers:
    """Counts right answers over batches, all in the same labelling."""

    def __init__(self, task: Task):
        self.task, self.examples = task, 0
        self._right: list[int | None] = [0] * len(task.label_counts)

    def add(self, logits_NK: Tensor, labels_N: Tensor) -> None:
        """Count a batch. logits_NK: of the labels of any labelling. labels_N: fine labels."""
        self.examples += len(labels_N)
        found = right_answers(self.task, logits_NK, labels_N)
        self._right = [None if new is None else (old or 0) + new for old, new in zip(self._right, found)]

    def accuracies(self) -> dict[str, float]:
        """``accuracy``; with a hierarchy ``coarse_accuracy`` too, and ``fine_accuracy`` where fine labels are told."""
        shares = [None if right is None else right / self.examples for right in self._right]
        found = {"accuracy": sum(share or 0.0 for share in shares) / len(shares)}
        if len(shares) > 1:
            named = {"fine_accuracy": shares[0], "coarse_accuracy": shares[-1]}
            found |= {name: share for name, share in named.items() if share is not None}
        return found


def constant_accuracy(task: Task, labels_N: np.ndarray) -> float:
    """The accuracy of the best of all constant answers in fine labels. labels_N: fine labels of the examples."""
    total = np.zeros(task.num_classes)
    for labelling in range(len(task.label_counts)):
        joined = np.array(task.joined(0, labelling))
        share = np.bincount(joined[labels_N], minlength=task.label_counts[labelling]) / len(labels_N)
        total += share[joined]
    return float(total.max() / len(task.label_counts))
