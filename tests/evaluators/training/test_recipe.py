"""Training by a recipe: optimisers continue exactly, the best epoch is kept, averages are saved beside the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evaluators.training import Training
from nas.errors import UserError
from nas.evaluation.jobs import Job, Outcome
from nas.execution.loading import load
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task

TASK = Task(input_shape=(1, 8, 8), num_classes=10)
TIPS = {"sampled": 1, "soft": True, "ema": 0.9, "ensemble": True, "smoothing": 0.1, "zero_init": True}


def _residual(widths: tuple[int, ...] = (2, 4, 6), **settings) -> Architecture:
    builder = Builder(TASK)
    x = builder.conv(builder.input, widths, stride=2, after=("norm", "relu"))
    y = builder.conv(x, widths, after=("norm",), activation="relu")
    builder.identity(x, y)
    builder.head(y)
    return builder.architecture(3, **settings)


def _run(folder: Path, recipe: str, architecture: Architecture, *, until: int = 4, **changes) -> Outcome:
    job = Job(
        candidate=1,
        architecture=architecture.to_json(),
        seed=3,
        epochs=4,
        until=until,
        images=200,
        folder=str(folder),
        **changes,
    )
    return Training("digits", device="cpu", recipe=recipe).evaluate(job, lambda epoch: None)


@pytest.mark.parametrize("recipe", ["default", "default:optimiser=adamw", "default:best=true", "tips", "us_net"])
@pytest.mark.parametrize("rule", ["sandwich", "tips", "stepping"])
def test_a_training_continues_exactly(recipe: str, rule: str, tmp_path: Path) -> None:
    if rule == "stepping":
        builder = Builder(TASK)
        builder.head(builder.conv(builder.input, (2, 4, 6), wiring="causal", after=("norm", "relu")))
        architecture = builder.architecture(3, norm="shared", rule="stepping", rounds=2)
    else:
        architecture = _residual(rule="sandwich", **(TIPS if rule == "tips" else {}))
    whole = _run(tmp_path / "whole", recipe, architecture, test=True)
    for until in (1, 3):
        _run(tmp_path / "parts", recipe, architecture, until=until)
    assert _run(tmp_path / "parts", recipe, architecture, test=True).points == whole.points
    _assert_equal(tmp_path / "whole", tmp_path / "parts")


def _assert_equal(one: Path, two: Path) -> None:
    """Check that two folders have the same network."""
    networks = [AnytimeNetwork.load(folder) for folder in (one, two)]
    states = [network.state_dict() for network in networks]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert networks[0].preprocess is not None
    assert networks[0].preprocess == networks[1].preprocess
    assert networks[0].augmented == networks[1].augmented


def test_the_average_is_saved_calibrated_and_measured(tmp_path: Path) -> None:
    outcome = _run(tmp_path / "one", "default", _residual(rule="sandwich", **TIPS), test=True)
    average, network = load(tmp_path / "one", average=True), load(tmp_path / "one")
    x = torch.randn(64, *TASK.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.equal(average(x), network(x))
    trainer = Training("digits", device="cpu")
    images, labels = trainer.dataset.x_test, torch.as_tensor(trainer.dataset.y_test)
    for level, point in enumerate(outcome.points):
        for measured, key in ((average, "test_average_accuracy"), (network, "test_accuracy")):
            with torch.no_grad():
                right = measured(measured.preprocess(images), level).argmax(1) == labels
            assert float(right.float().mean()) == pytest.approx(point[key])
        assert 0 <= point["average_accuracy"] <= 1
    partial = _run(tmp_path / "two", "default", _residual(rule="sandwich", **TIPS), until=1)
    assert "average_accuracy" not in partial.points[0]
    _run(tmp_path / "three", "default", _residual(rule="sandwich"))
    with pytest.raises(UserError, match="no moving average of its weights: train it with a rule that keeps one"):
        load(tmp_path / "three", average=True)


def test_the_average_has_the_points_of_a_final_search(tmp_path: Path) -> None:
    architecture = _residual(rule="uniform_sampling", ema=0.5)
    _run(tmp_path, "default", architecture, test=True, selection={"evaluations": 6, "points": 2})
    average, network = load(tmp_path, average=True), load(tmp_path)
    assert average.levels == network.levels == 2
    assert average.architecture == network.architecture


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    """With a rate that destroys the network after a good start: the last epoch is worse than the best."""
    architecture = _residual(rule="joint")
    recipe = "default:schedule=constant,clip=0,warm_up=0.6,learning_rate=3.0"
    epochs = [_run(tmp_path / str(until), recipe, architecture, until=until).points for until in (1, 2, 3, 4)]
    means = [sum(point["accuracy"] for point in points) / 3 for points in epochs]
    kept = _run(tmp_path / "best", recipe + ",best=true", architecture).points
    best = max(range(4), key=means.__getitem__)
    assert best < 3, means
    assert [point["accuracy"] for point in kept] == [point["accuracy"] for point in epochs[best]]
    for until in (1, 2, 3, 4):  # a rung measures on few images, which does not decide
        images = None if until == 4 else 20
        parts = _run(tmp_path / "parts", recipe + ",best=true", architecture, until=until, measured_images=images)
    assert parts.points == kept
    _assert_equal(tmp_path / "best", tmp_path / "parts")


def test_all_parameters_decay_on_request(tmp_path: Path) -> None:
    job = Job(
        candidate=1, architecture=_residual().to_json(), seed=0, epochs=1, until=1, images=64, folder=str(tmp_path)
    )
    for decay_all, expected in (("false", [1e-3, 0.0]), ("true", [1e-3, 1e-3])):
        run = Training("digits", recipe=f"default:weight_decay=1e-3,decay_all={decay_all}").start(job)
        assert [group["weight_decay"] for group in run.optimiser.param_groups] == expected


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_default_rate_learns(optimiser: str, tmp_path: Path) -> None:
    job = Job(
        candidate=1,
        architecture=_residual((4, 8, 16)).to_json(),
        seed=0,
        epochs=16,
        until=16,
        images=None,
        folder=str(tmp_path),
    )
    outcome = Training("digits", recipe=f"default:optimiser={optimiser}").evaluate(job, lambda epoch: None)
    assert outcome.points[-1]["accuracy"] > 0.7
