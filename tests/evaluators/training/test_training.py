"""Trainings are deterministic, and the measured network is the saved network."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import nas
from evaluators.data.datasets import from_arrays
from evaluators.training.evaluator import Training
from evaluators.training.measurement import measure_points
from nas.errors import UserError
from nas.evaluation.jobs import Diverged, Job, Outcome
from nas.representation.elements import Task

from .jobs import DATA, KINDS, TASK, job, run, same_weights, small, stored_arrays


def test_equal_jobs_give_equal_outcomes_and_other_seeds_others(settings: Training, tmp_path: Path) -> None:
    first, again, other = (run(settings, job(tmp_path / str(i), seed=seed)) for i, seed in enumerate((5, 5, 6)))
    assert first.points == again.points
    assert same_weights(tmp_path / "0", tmp_path / "1")
    assert first.points != other.points
    assert not same_weights(tmp_path / "0", tmp_path / "2")


def test_two_rules_start_from_the_same_weights(settings: Training, tmp_path: Path) -> None:
    runs = [settings.start(job(tmp_path, architecture=small(rule=rule))) for rule in ("joint", "sandwich")]
    joint, sandwich = ([*run_.network.state_dict().values()] for run_ in runs)
    assert all(torch.equal(a, b) for a, b in zip(joint, sandwich))


def test_another_process_gives_the_same_bits(settings: Training, tmp_path: Path) -> None:
    expected = run(settings, job(tmp_path / "here"))
    code = (
        "import json, sys; from evaluators.training import Training; from nas.evaluation.evaluator import Job;"
        f"outcome = Training({DATA!r}).evaluate(Job(**json.load(sys.stdin)), lambda epoch: None);"
        "print(json.dumps(outcome.to_json()))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(job(tmp_path / "there").to_json()),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "3", "OMP_NUM_THREADS": "1"},
    )
    assert json.loads(found.stdout)["points"] == expected.points
    assert same_weights(tmp_path / "here", tmp_path / "there")


def test_global_random_state_and_threads_stay_as_they_are(settings: Training, tmp_path: Path) -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    torch.set_num_threads(2)
    before = random.getstate(), repr(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    try:
        first = run(settings, job(tmp_path / "a"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    after = random.getstate(), repr(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])
    random.seed(2), np.random.seed(2), torch.manual_seed(2)  # noqa: NPY002
    assert run(settings, job(tmp_path / "b")).points == first.points


@pytest.mark.parametrize("rate", [1e6, 1e30])
def test_a_training_that_leaves_the_numbers_has_diverged(tmp_path: Path, rate: float) -> None:
    with pytest.raises(Diverged, match=r"The loss became (nan|inf) in epoch \d of 4"):
        run(Training(DATA, learning_rate=rate), job(tmp_path, epochs=4, until=4))
    assert not (tmp_path / "network.json").exists()


def test_weights_that_are_no_numbers_are_not_measured(settings: Training, tmp_path: Path) -> None:
    run_ = settings.start(job(tmp_path))
    with torch.no_grad():
        run_.network.operation_layers[0].weight.fill_(math.nan)
    with pytest.raises(Diverged, match="The loss of level 0 is nan after training"):
        measure_points(run_.network, settings.source, run_.calibration, test=False)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_measured_is_what_is_saved(settings: Training, tmp_path: Path, kind: str) -> None:
    outcome = run(settings, job(tmp_path, architecture=KINDS[kind], test=True))
    network, data = nas.load(tmp_path), settings.dataset
    validation = settings.source.validation_rows
    for prefix, x, y in (
        ("", data.x_train[validation], data.y_train[validation]),
        ("test_", data.x_test, data.y_test),
    ):
        labels = torch.from_numpy(y)
        with torch.no_grad():
            for level, point in enumerate(outcome.points):
                logits = torch.cat([network(network.preprocess(torch.from_numpy(i[None])), level) for i in x])
                assert point[f"{prefix}accuracy"] == float((logits.argmax(1) == labels).float().double().mean())
                assert math.isclose(point[f"{prefix}loss"], float(F.cross_entropy(logits, labels)), rel_tol=1e-4)
                assert (point["level"], point["macs"]) == (level, network.macs[level])
                assert point["params"] == network.params[level]
    assert outcome.images == len(settings.source.training_rows)


def test_training_learns(tmp_path: Path) -> None:
    outcome = run(Training(DATA, augment="none"), job(tmp_path, epochs=12, until=12, test=True))
    assert outcome.points[-1]["test_accuracy"] > 0.6
    assert outcome.points[-1]["loss"] < math.log(3)


def test_info_is_about_the_split(settings: Training) -> None:
    info = settings.info()
    assert (info.train_images, info.validation_images, info.test_images) == (168, 72, 60)
    assert info.floor == pytest.approx(1 / 3)
    assert info.task == TASK
    assert info.fingerprint == settings.dataset.fingerprint


def test_measures_are_declared(settings: Training, tmp_path: Path) -> None:
    declared = {measure.name for measure in Training.measures} - {"latency_ms"}  # measured where it is limited
    hierarchy = {f"{part}{which}_accuracy" for part in ("", "test_") for which in ("fine", "coarse")}
    measured = run(settings, job(tmp_path, until=1, test=True)).points[0].keys()
    average = {"average_accuracy", "test_average_accuracy"}  # of rules that have a moving average
    assert measured == declared - hierarchy - average | {"level", "macs", "params"}


def test_labels_with_a_hierarchy_are_measured_at_every_labelling(tmp_path: Path) -> None:
    (tmp_path / "hierarchy.json").write_text('{"0": "this", "1": "that", "2": "this"}')
    settings = Training(DATA, hierarchy=str(tmp_path / "hierarchy.json"), augment="none")
    task = settings.dataset.task
    assert task.hierarchy == ((1, 0, 1),)
    counts = np.bincount(settings.dataset.y_train[settings.source.validation_rows])
    assert settings.info().floor == pytest.approx(
        max(counts[0] + counts[0] + counts[2], 2 * counts[1]) / counts.sum() / 2
    )
    outcome = run(settings, job(tmp_path, architecture=small(task=task, points=4), test=True))
    network, data, joined = nas.load(tmp_path), settings.dataset, np.array(task.hierarchy[0])
    x = network.preprocess(torch.from_numpy(data.x_test))
    for level, point in enumerate(outcome.points):
        answers = network(x, level).argmax(1).numpy()
        coarse = np.mean((answers if level < 2 else joined[answers]) == joined[data.y_test])
        fine = np.mean(answers == data.y_test) if level >= 2 else 0.0
        assert ("test_fine_accuracy" in point) == ("fine_accuracy" in point) == (level >= 2)
        assert point.get("test_fine_accuracy", 0.0) == pytest.approx(fine)
        assert point["test_coarse_accuracy"] == pytest.approx(coarse)
        assert point["test_accuracy"] == pytest.approx((fine + coarse) / 2)
        told = torch.from_numpy(joined[data.y_test] if level < 2 else data.y_test)
        assert point["test_loss"] == pytest.approx(float(F.cross_entropy(network(x, level), told).detach()), rel=1e-4)


def _own(tmp_path: Path, x: np.ndarray, y: np.ndarray, layout: str, **settings: Any) -> Training:
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return Training(f"npz:{tmp_path / 'own.npz'}", layout=layout, **settings)


def test_two_classes_one_point_and_a_batch_larger_than_the_data(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    settings = _own(tmp_path, x, np.arange(20) % 2, "NHW", batch_size=512)
    architecture = small(task=settings.dataset.task, points=1)
    outcome = run(settings, job(tmp_path / "n", architecture=architecture, test=True))
    assert len(outcome.points) == 1
    assert outcome.images == 14
    assert nas.load(tmp_path / "n")(torch.zeros(1, 1, 8, 8)).shape == (1, 2)


@pytest.mark.parametrize("norm", ["recalibrated", "shared"])
def test_video_from_end_to_end(tmp_path: Path, norm: str) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 2, 3, 6, 5), dtype=np.uint8)
    settings = _own(tmp_path, x, np.arange(40) % 4, "NCTHW")
    assert settings.dataset.task == Task(input_shape=(2, 3, 6, 5), num_classes=4)
    outcome = run(settings, job(tmp_path / "n", architecture=small(norm, task=settings.dataset.task), test=True))
    network = nas.load(tmp_path / "n")
    logits = network(network.preprocess(torch.from_numpy(x)))
    assert outcome.points[-1]["test_accuracy"] == float((logits.argmax(1) == torch.arange(40) % 4).double().mean())


def test_images_of_floats(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(3, 2, (40, 1, 8, 8)).astype(np.float32)
    settings = _own(tmp_path, x, np.arange(40) % 3, "NCHW")
    assert run(settings, job(tmp_path / "n")).points[0]["loss"] > 0
    assert nas.load(tmp_path / "n").preprocess.scale == 1.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="it has such a device")
def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--device must be available to torch here, or 'auto'. Got 'cuda': .*CUDA"):
        run(Training(DATA, device="cuda"), job(tmp_path))


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "meta"])
def test_a_device_that_is_none(tmp_path: Path, device: str) -> None:
    with pytest.raises(UserError, match=f"--device must be .* torch.* Got '{device}'"):
        run(Training(DATA, device=device), job(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 0.0}, "validation must be a share"),
        ({"validation": 1.0}, "between 0 and 1. Got 1.0"),
        ({"validation": math.nan}, "Got nan"),
        ({"batch_size": 1}, "batch_size must be at least 2, for batch norm"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": math.inf}, "Got inf"),
        ({"recipe": "default:weight_decay=-1e-4"}, "weight_decay must be at least 0"),
        ({"recipe": "default:weight_decay=NaN"}, "Got nan"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"precision": "half"}, "Unknown precision 'half'. Valid: auto, bfloat16, float32"),
        ({"augment": "cutout"}, "Unknown augmentation 'cutout'.* Valid: auto"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Training(DATA, **changes)


def test_making_an_evaluator_reads_nothing() -> None:
    Training("npz:/nowhere/at/all.npz")


def test_jobs_and_outcomes_are_plain_json(settings: Training, tmp_path: Path) -> None:
    wanted = job(tmp_path, architecture=json.loads(json.dumps(small().to_json())))
    assert Job(**json.loads(json.dumps(wanted.to_json()))) == wanted
    outcome = run(settings, wanted)
    assert Outcome(**json.loads(json.dumps(outcome.to_json(), allow_nan=False))) == outcome


def test_arrays_of_ones_own_make_the_same_task() -> None:
    arrays = stored_arrays()
    assert from_arrays(*arrays.values(), layout="NCHW").task == TASK
