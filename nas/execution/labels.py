"""Labels of a task with a hierarchy, from fine to coarse.

Shape suffixes: N examples, K labels of a labelling. Each labelling has a different number of labels.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.representation.elements import Task


def join_labels(task: Task, labels_N: Tensor, labelling: int, *, finer: int = 0) -> Tensor:
    """Labels of a labelling, (N,), from the labels of a finer labelling, (N,), by default the fine labels.

    From probabilities, (N, labels of the finer labelling), probabilities: those of joined labels add up.
    """
    if labelling == finer:
        return labels_N
    joined = _joined(task, finer, labelling, labels_N.device)
    if not labels_N.is_floating_point():
        return joined[labels_N]
    return labels_N @ F.one_hot(joined, task.label_counts[labelling]).to(labels_N.dtype)


def join_probabilities(task: Task, log_p_NK: Tensor, labelling: int) -> Tensor:
    """Log-probabilities in a labelling from log-probabilities in a finer one: probabilities of joined labels add up."""
    finer = task.label_counts.index(log_p_NK.shape[1])
    if labelling == finer:
        return log_p_NK
    joined = _joined(task, finer, labelling, log_p_NK.device)
    count = task.label_counts[labelling]
    return torch.stack([log_p_NK[:, joined == label].logsumexp(1) for label in range(count)], dim=1)


@lru_cache(maxsize=64)
def _joined(task: Task, finer: int, coarser: int, device: torch.device) -> Tensor:
    return torch.tensor(task.joined(finer, coarser), device=device)
