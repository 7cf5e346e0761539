"""Labels of a task with a hierarchy, from fine to coarse.

Shape suffixes: N examples, K labels of a labelling. A labelling is told from others by its number of labels.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from nas.representation.elements import Task


def join_labels(task: Task, labels_N: Tensor, labelling: int, *, finer: int = 0) -> Tensor:
    """Labels of a labelling, (N,), from those of a finer one, the fine labels by default."""
    return labels_N if labelling == finer else _joined(task, finer, labelling, labels_N.device)[labels_N]


def join_probabilities(task: Task, log_p_NK: Tensor, labelling: int) -> Tensor:
    """Log-probabilities of a labelling's labels from those of a finer one: probabilities of joined labels add up."""
    finer = task.label_counts.index(log_p_NK.shape[1])
    if labelling == finer:
        return log_p_NK
    joined = _joined(task, finer, labelling, log_p_NK.device)
    count = task.label_counts[labelling]
    return torch.stack([log_p_NK[:, joined == label].logsumexp(1) for label in range(count)], dim=1)


def right_answers(task: Task, logits_NK: Tensor, labels_N: Tensor) -> list[int | None]:
    """How many answers are right in each of the task's labellings, finest first; None for finer ones than they tell.

    An answer in fine labels is one in coarse labels too: those that its label belongs to. labels_N: fine labels.
    """
    told, answers_N = task.label_counts.index(logits_NK.shape[1]), logits_NK.argmax(1)
    return [
        None
        if labelling < told
        else int((join_labels(task, answers_N, labelling, finer=told) == join_labels(task, labels_N, labelling)).sum())
        for labelling in range(len(task.label_counts))
    ]


@lru_cache(maxsize=64)
def _joined(task: Task, finer: int, coarser: int, device: torch.device) -> Tensor:
    return torch.tensor(task.joined(finer, coarser), device=device)
