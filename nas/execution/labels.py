"""Labels of a task with a hierarchy, from fine to coarse.

Shape suffixes: N examples, K labels of a labelling. Each labelling has a different number of labels.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from nas.representation.elements import Task


def join_labels(task: Task, labels_N: Tensor, labelling: int, *, finer: int = 0) -> Tensor:
    """Labels of a labelling, (N,), from the labels of a finer labelling, (N,), by default the fine labels."""
    return labels_N if labelling == finer else _joined(task, finer, labelling, labels_N.device)[labels_N]


def join_probabilities(task: Task, log_p_NK: Tensor, labelling: int) -> Tensor:
    """Log-probabilities in a labelling from log-probabilities in a finer one: probabilities of joined labels add up."""
    finer = task.label_counts.index(log_p_NK.shape[1])
    if labelling == finer:
        return log_p_NK
    joined = _joined(task, finer, labelling, log_p_NK.device)
    count = task.label_counts[labelling]
    return torch.stack([log_p_NK[:, joined == label].logsumexp(1) for label in range(count)], dim=1)


def right_answers(task: Task, logits_NK: Tensor, labels_N: Tensor) -> list[int | None]:
    """Number of correct answers in each labelling of the task, finest first; None if finer than the logits.

    A fine answer also counts as the coarse answer that contains its label. labels_N: fine labels.
    """
    own, answers_N = task.label_counts.index(logits_NK.shape[1]), logits_NK.argmax(1)
    return [
        None
        if labelling < own
        else int((join_labels(task, answers_N, labelling, finer=own) == join_labels(task, labels_N, labelling)).sum())
        for labelling in range(len(task.label_counts))
    ]


@lru_cache(maxsize=64)
def _joined(task: Task, finer: int, coarser: int, device: torch.device) -> Tensor:
    return torch.tensor(task.joined(finer, coarser), device=device)
