"""Rates, batch sizes and decay."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.training.evaluator import Training
from evaluators.training.schedule import default_batch_size, default_learning_rate, split_by_decay
from nas.config.recipes import Recipe
from nas.evaluation.jobs import Stage, images_seen
from nas.execution.network import AnytimeNetwork
from nas.representation.elements import Task

from .jobs import DATA, job, run, small


def test_only_the_weights_of_operations_decay() -> None:
    """Also where a weight has as few rows as there are points, and not where a bias has as many."""
    task = Task(input_shape=(1, 8, 8), num_classes=2)
    for norm in ("recalibrated", "per_point"):
        network = AnytimeNetwork(small(norm, task=task, points=4))
        decayed, kept = ({id(p) for p in group} for group in split_by_decay(network))
        names = {name for name, p in network.named_parameters() if id(p) in decayed}
        assert names == {"layers.0.weight", "layers.1.weight", "layers.4.weight"}
        assert len(decayed) + len(kept) == len(list(network.parameters()))


def test_decay_shrinks_weights_and_nothing_else(tmp_path: Path) -> None:
    runs = [Training(DATA, recipe=f"default:weight_decay={d}").start(job(tmp_path)) for d in (0.0, 0.5)]
    for one in runs:
        one.train_epoch(0)
    norms = [
        [sum(float(p.detach().square().sum()) for p in group) for group in split_by_decay(r.network)] for r in runs
    ]
    assert norms[1][0] < 0.9 * norms[0][0]
    assert [group["weight_decay"] for group in runs[1].optimiser.param_groups] == [0.5, 0.0]


def test_the_schedule_warms_up_and_falls_as_half_a_cosine() -> None:
    steps = np.linspace(0, 1, 1001)
    got = np.array([Recipe().factor(p) for p in steps])
    warm = steps < 0.05
    np.testing.assert_allclose(got[warm], steps[warm] / 0.05)
    np.testing.assert_allclose(got[~warm], np.cos(np.pi / 2 * (steps[~warm] - 0.05) / 0.95) ** 2, atol=1e-12)
    assert got.max() == 1
    assert np.all(np.diff(got[~warm]) < 0)


def test_the_schedule_is_over_the_whole_training_and_not_a_rung(
    settings: Training, tmp_path: Path, monkeypatch
) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), step(self))[1])
    for until in (1, 2, 3):
        run(settings, job(tmp_path, until=until))
    (stage,) = settings.start(job(tmp_path / "other")).stages
    total = 3 * stage.steps
    assert rates == [stage.learning_rate * Recipe().factor(n / total) for n in range(total)]


def test_each_stage_has_its_part_of_the_schedule_and_images(settings: Training, tmp_path: Path, monkeypatch) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), step(self))[1])
    stages = [[1, 64, 0.0, 1.0], [3, 96, 0.0, 0.5], [4, 64, 0.5, 1.0]]
    outcome = run(settings, job(tmp_path, epochs=4, until=4, images=64, stages=stages))
    peak = settings.start(job(tmp_path / "other", stages=stages)).stages[0].learning_rate
    passed = [[0, 0.5], np.arange(6) / 12, [0.5, 0.75]]
    assert rates == pytest.approx([peak * Recipe().factor(p) for p in np.concatenate(passed)])
    assert (outcome.epochs, outcome.images) == (4, 64)
    assert images_seen([Stage(*stage) for stage in stages], 4, 1000) == 64 + 192 + 64


def test_a_training_goes_on_with_other_stages_than_it_began_with(settings: Training, tmp_path: Path) -> None:
    """The checkpoint of partial training is that of the longer training, whose later stages were not known before."""
    partial = [[1, 64, 0.0, 1.0], [2, 64, 0.0, 1.0]]
    longer = [*partial, [4, 96, 0.0, 1.0]]
    at_once = run(settings, job(tmp_path / "at once", epochs=4, until=4, stages=longer))
    run(settings, job(tmp_path / "parts", epochs=2, until=2, stages=partial))
    reported: list[int] = []
    continued = settings.evaluate(job(tmp_path / "parts", epochs=4, until=4, stages=longer), reported.append)
    assert reported == [3, 4]
    assert continued.points == at_once.points
    other = [[2, 64, 0.0, 1.0], [4, 96, 0.0, 1.0]]  # another beginning: not continued
    run(settings, job(tmp_path / "other", epochs=2, until=2, stages=partial))
    reported.clear()
    settings.evaluate(job(tmp_path / "other", epochs=4, until=4, stages=other), reported.append)
    assert reported == [1, 2, 3, 4]


def test_fewer_images_are_measured_on_request(settings: Training, tmp_path: Path) -> None:
    every, few = (run(settings, job(tmp_path / str(n), until=1, measured_images=n)).points for n in (None, 40))
    assert {point["accuracy"] * 40 % 1 for point in few} == {0.0}
    assert [point["macs"] for point in few] == [point["macs"] for point in every]
    assert [point["accuracy"] for point in few] != [point["accuracy"] for point in every]


@pytest.mark.parametrize(("images", "batch"), [(100, 32), (1999, 32), (2000, 64), (19_999, 64), (20_000, 128)])
def test_the_number_of_images_decides_batch_and_rate(images: int, batch: int) -> None:
    assert default_batch_size(images) == batch
    assert default_learning_rate(batch, small()) == pytest.approx(0.2 * math.sqrt(batch / 64))


def test_every_level_gets_gradients_of_its_own(settings: Training, tmp_path: Path) -> None:
    run_ = settings.start(job(tmp_path, architecture=small("per_point", "joint")))
    first = run_.network.operation_layers[0].after
    old = first.weight.detach().clone()
    run_.train_epoch(0)
    assert all(not torch.equal(old[level], first.weight[level]) for level in range(3))
