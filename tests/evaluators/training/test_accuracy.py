"""Accuracy with a label hierarchy, against counting one example after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, top_k_accuracy_score

from evaluators.training.accuracy import AccuracyCounter, constant_accuracy
from nas.representation.elements import Task
from results.measures import METRICS

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


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_metrics_against_scikit_learn(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(7), rng.choice(7, count, p=np.array([9, 5, 1, 1, 1, 1, 1]) / 19)])
    logits = rng.normal(size=(len(labels), 7)) + 2 * np.eye(7)[labels]
    answers = logits.argmax(1)
    expected = {
        "accuracy": accuracy_score(labels, answers),
        "balanced_accuracy": balanced_accuracy_score(labels, answers),
        "macro_f1": f1_score(labels, answers, average="macro"),
        "top5": top_k_accuracy_score(labels, logits, k=5),
    }
    assert expected.keys() == METRICS.keys()
    for metric, value in expected.items():
        counter = AccuracyCounter(Task(input_shape=(1, 8, 8), num_classes=7, metric=metric))
        for part in range(2):
            counter.add(torch.from_numpy(logits[part::2]), torch.from_numpy(labels[part::2]))
        assert counter.accuracies() == {"accuracy": pytest.approx(value)}


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
def test_classes_that_do_not_occur_are_left_out(metric: str) -> None:
    counter = AccuracyCounter(replace(FLAT, metric=metric))
    counter.add(torch.eye(6)[[0, 0, 2, 2]], torch.tensor([0, 1, 2, 2]))
    assert counter.accuracies()["accuracy"] == pytest.approx(2 / 3 if metric == "balanced_accuracy" else 5 / 9)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
@pytest.mark.parametrize("task", [FLAT, DEEP])
def test_the_best_constant_answer(task: Task, metric: str) -> None:
    task = replace(task, metric=metric)
    labels = np.array([0, 1, 2, 3, 4, 5, 5, 2, 4, 4, 1])
    found = []
    for label in range(6):
        right = AccuracyCounter(task)
        right.add(torch.eye(6)[[label] * len(labels)], torch.from_numpy(labels))
        found.append(right.accuracies()["accuracy"])
    assert constant_accuracy(task, labels) == pytest.approx(max(found))


def test_the_best_five_constant_answers() -> None:
    labels = np.repeat(np.arange(7), [1, 2, 3, 4, 5, 6, 7])
    assert constant_accuracy(Task(input_shape=(1, 8, 8), num_classes=7, metric="top5"), labels) == 25 / 28
