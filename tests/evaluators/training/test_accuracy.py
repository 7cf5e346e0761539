"""Accuracy with a label hierarchy, against counting one example after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluators.training.accuracy import AccuracyCounter, constant_accuracy
from nas.representation.elements import Task

FLAT = Task(input_shape=(1, 8, 8), num_classes=6)
DEEP = Task(input_shape=(1, 8, 8), num_classes=6, hierarchy=((0, 1, 2, 3, 3, 0), (0, 1, 1, 1, 1, 0)))
LABELS = torch.arange(60) % 6


def _counted(task: Task, answers: list[int], labelling: int) -> list[float]:
    """Shares of right answers in every labelling, from labels of one of them, 0 where they are not told."""
    every = [list(range(task.num_classes)), *map(list, task.hierarchy)]
    shares = []
    for wanted, joined in enumerate(every):
        right = 0
        for answer, label in zip(answers, LABELS.tolist()):
            members = {joined[fine] for fine in range(task.num_classes) if every[labelling][fine] == answer}
            right += wanted >= labelling and members == {joined[label]}
        shares.append(right / len(answers))
    return shares


@pytest.mark.parametrize("labelling", [0, 1, 2])
def test_an_answer_counts_in_every_labelling_that_it_tells(labelling: int) -> None:
    logits = torch.randn(60, DEEP.label_counts[labelling], generator=torch.Generator().manual_seed(labelling))
    right = AccuracyCounter(DEEP)
    for part in range(3):
        right.add(logits[part::3], LABELS[part::3])
    shares = _counted(DEEP, logits.argmax(1).tolist(), labelling)
    assert shares[-1] > 0
    expected = {"accuracy": sum(shares) / 3, "coarse_accuracy": shares[2]}
    assert right.accuracies() == pytest.approx(expected | ({"fine_accuracy": shares[0]} if labelling == 0 else {}))


def test_without_a_hierarchy_it_is_the_accuracy() -> None:
    logits = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    right = AccuracyCounter(FLAT)
    right.add(logits, LABELS)
    assert right.accuracies() == {"accuracy": float((logits.argmax(1) == LABELS).double().mean())}


@pytest.mark.parametrize("task", [FLAT, DEEP])
def test_the_best_constant_answer(task: Task) -> None:
    labels = np.array([0, 1, 2, 3, 4, 5, 5, 2, 4, 4, 1])
    found = []
    for label in range(6):
        right = AccuracyCounter(task)
        right.add(torch.eye(6)[[label] * len(labels)], torch.from_numpy(labels))
        found.append(right.accuracies()["accuracy"])
    assert constant_accuracy(task, labels) == pytest.approx(max(found))
