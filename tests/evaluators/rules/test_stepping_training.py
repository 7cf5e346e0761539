"""SteppingNet in the trainer: realised networks, rungs, checkpoints and learning rates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import nas
from evaluators.rules.stepping import Stepping
from evaluators.training import Training as Trainer
from evaluators.training.schedule import default_learning_rate
from nas.evaluation.jobs import Job
from nas.evaluation.training_rules import ConstructingRule, Construction
from nas.representation.architecture import Architecture, macs
from nas.representation.elements import Task
from nas.workers.outcome_checks import checked_outcome
from search_spaces.stepping import lenet_3c1l, vgg16

from .steppings import construction, proposal

DATA = "synthetic:n=300,classes=3,size=8,channels=1"


def job(folder: Path, architecture: Architecture, **changes: Any) -> Job:
    standard: dict[str, Any] = {"candidate": 1, "seed": 5, "epochs": 4, "until": 4, "images": None}
    return Job(**(standard | {"architecture": architecture.to_json(), "folder": str(folder)} | changes))


@pytest.fixture(scope="module")
def settings() -> Trainer:
    return Trainer(DATA)


def test_it_is_a_constructing_rule():
    assert isinstance(Stepping(), ConstructingRule)
    made: Construction = construction()
    assert made.network.levels == 3


def test_what_is_saved_is_the_realised_network_with_the_accuracies_that_are_told(settings, tmp_path):
    wanted = job(tmp_path, proposal(), test=True)
    outcome = checked_outcome(wanted, settings.evaluate(wanted, lambda epoch: None), settings.measures)
    network = nas.load(tmp_path)
    assert network.architecture.to_json() == outcome.realised != wanted.architecture
    assert [p["macs"] for p in outcome.points] == list(network.macs)
    assert all(cost <= budget for cost, budget in zip(network.macs, macs(proposal())))
    x = network.preprocess(torch.from_numpy(settings.dataset.x_test))
    for point in outcome.points:
        answers = network(x, point["level"]).argmax(1).numpy()
        assert np.mean(answers == settings.dataset.y_test) == pytest.approx(point["test_accuracy"])
    assert [p["nonzero_macs"] for p in outcome.points] == list(network.nonzero_macs)
    assert Architecture.from_json(json.loads(json.dumps(outcome.realised))) == network.architecture


@pytest.mark.parametrize(("prune", "pruned"), [(0.05, True), (0.0, False)])
def test_what_is_pruned_is_told_in_macs(settings, tmp_path, prune, pruned):
    outcome = settings.evaluate(job(tmp_path, proposal(prune=prune)), lambda epoch: None)
    for point in outcome.points:
        assert (point["nonzero_macs"] < point["macs"]) == pruned
    assert pruned or [p["nonzero_macs"] for p in outcome.points] == [p["macs"] for p in outcome.points]


def test_a_classifier_that_reads_positions_one_by_one_learns_at_a_lower_rate():
    """At the full rate, LeNet-3C1L on CIFAR-10 pushes its last features below zero in an epoch, and guesses."""
    assert default_learning_rate(64, vgg16()) == pytest.approx(0.2)
    assert default_learning_rate(64, lenet_3c1l()) == pytest.approx(0.2 / 5)  # 5x5 positions
    assert default_learning_rate(64, lenet_3c1l(norm=False)) == pytest.approx(0.2 / 5 / 4)


def test_a_network_without_norms_learns_by_default_settings(tmp_path):
    """At the rate of networks with norms most activations would be zero for good: the smallest point guesses."""
    digits = Task(input_shape=(1, 8, 8), num_classes=10)
    made = lenet_3c1l(12, task=digits, padded=True, norm=False)
    outcome = Trainer("digits").evaluate(job(tmp_path, made, epochs=4, until=4, test=True), lambda epoch: None)
    assert min(point["test_accuracy"] for point in outcome.points) > 0.6


@pytest.mark.parametrize("until", [1, 2, 3])
def test_a_rung_in_the_midst_of_construction_is_within_the_budgets(settings, tmp_path, until):
    architecture = proposal(construction=0.9)
    outcome = settings.evaluate(job(tmp_path, architecture, until=until), lambda epoch: None)
    realised = Architecture.from_json(outcome.realised)
    assert realised != architecture
    assert all(cost <= budget for cost, budget in zip(macs(realised), macs(architecture)))
    assert [p["macs"] for p in outcome.points] == list(macs(realised))


def test_measuring_a_rung_changes_nothing(settings, tmp_path):
    one = settings.start(job(tmp_path / "1", proposal(construction=0.9)))
    one.train_epoch(0)
    state = {name: tensor.clone() for name, tensor in one.state.state_dict().items()}
    architecture = one.network.architecture
    one.current_network(one.job.until)
    assert one.network.architecture is architecture
    assert all(torch.equal(state[name], tensor) for name, tensor in one.state.state_dict().items())


def test_a_checkpoint_without_a_tensor_is_not_used(settings, tmp_path):
    wanted = job(tmp_path / "damaged", proposal(), until=2)
    settings.evaluate(replace(wanted, until=1), lambda epoch: None)
    path = tmp_path / "damaged" / settings.checkpoint
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors["network.importance_1"]
    save_file(tensors, path, metadata=metadata)
    told: list[int] = []
    outcome = settings.evaluate(wanted, told.append)
    assert told == [1, 2]
    assert outcome.points == settings.evaluate(job(tmp_path / "fresh", proposal(), until=2), told.append).points
