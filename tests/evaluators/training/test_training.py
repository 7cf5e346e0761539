"""Training: the same bits however often it is interrupted, from training images alone, and what is measured is what is
saved.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import nas
from evaluators.data.datasets import from_arrays
from evaluators.training.evaluator import Training
from evaluators.training.measurement import calibrate, measure_points
from evaluators.training.run import TrainingRun
from evaluators.training.schedule import default_batch_size, default_learning_rate, schedule, split_by_decay
from nas.errors import UserError
from nas.evaluation.jobs import Diverged, Job, Outcome
from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.representation.elements import TrainingSpec as Rule

DATA = "synthetic:n=300,classes=3,size=8,channels=1"
TASK = Task(input_shape=(1, 8, 8), num_classes=3)
NR = ("norm", "relu")


def small(norm: str = "recalibrated", rule: str = "sandwich", *, task: Task = TASK, points: int = 3) -> Architecture:
    """A residual block, causal where points share their norms."""
    builder, wiring = Builder(task), "causal" if norm == "shared" else "dense"
    widths = tuple(range(2, 2 * points + 1, 2))
    x = builder.conv(builder.input, widths, after=NR, stride=2)
    y = builder.conv(x, widths, after=("norm",), bias=True, wiring=wiring)
    builder.identity(x, y, wiring=wiring)
    builder.head(y)
    return builder.architecture(points, norm=norm, rule=rule)


def job(folder: Path, **changes: Any) -> Job:
    standard: dict[str, Any] = {"candidate": 1, "seed": 5, "epochs": 3, "until": 3, "images": None}
    made = standard | {"architecture": small(), "folder": str(folder)} | changes
    if isinstance(made["architecture"], Architecture):
        made["architecture"] = made["architecture"].to_json()
    return Job(**made)


@pytest.fixture(scope="module")
def settings() -> Training:
    return Training(DATA)


def run(settings: Training, wanted: Job, report: Callable[[int], None] = lambda epoch: None) -> Outcome:
    return settings.evaluate(wanted, report)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def same_weights(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def checkpoint(folder: Path) -> Path:
    return folder / Training.checkpoint


def about(folder: Path) -> dict[str, Any]:
    with safe_open(checkpoint(folder), framework="pt") as file:
        return json.loads(file.metadata()["about"])


# Interrupted and resumed -----------------------------------------------------------------------------------------

KINDS = {
    "recalibrated, sandwich": small("recalibrated", "sandwich"),
    "per point, joint": small("per_point", "joint"),
    "shared and causal, joint": small("shared", "joint"),
    "shared and causal, constructed": replace(
        small("shared"), training=Rule(rule="stepping", settings=(("construction", 0.8), ("importance", "gradient")))
    ),
    "shared and causal, constructed at random": replace(
        small("shared"), training=Rule(rule="stepping", settings=(("gamma", 1), ("importance", "random")))
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_checkpoint_leads_to_the_same_bits(settings: Training, tmp_path: Path, kind: str) -> None:
    whole = tmp_path / "whole"

    def keep(epoch: int) -> None:
        assert about(whole)["epoch"] == epoch  # it is on disk before it is told
        shutil.copytree(whole, tmp_path / f"after {epoch}", ignore=shutil.ignore_patterns("network*", "weights*"))

    expected = run(settings, job(whole, architecture=KINDS[kind]), keep)
    for epoch in (1, 2):
        folder, told = tmp_path / f"after {epoch}", []
        seconds = about(folder)["seconds"]
        assert not (folder / "weights.safetensors").exists()
        outcome = run(settings, job(folder, architecture=KINDS[kind]), told.append)
        assert outcome.points == expected.points
        assert told == list(range(epoch + 1, 4))
        assert same_weights(folder, whole)
        assert outcome.seconds > seconds > 0


@pytest.mark.parametrize("kind", KINDS)
def test_rungs_end_where_one_go_ends(settings: Training, tmp_path: Path, kind: str) -> None:
    wanted = job(tmp_path / "rungs", architecture=KINDS[kind])
    seconds, told = 0.0, []
    for until in (1, 2, 3):
        outcome = run(settings, replace(wanted, until=until), told.append)
        assert (outcome.epochs, outcome.saved) == (until, until == 3)
        assert outcome.seconds > seconds
        seconds = outcome.seconds
        assert (tmp_path / "rungs" / "network.json").exists() == (until == 3)
    assert told == [1, 2, 3]
    assert outcome.points == run(settings, replace(wanted, folder=str(tmp_path / "one go"))).points
    assert same_weights(tmp_path / "rungs", tmp_path / "one go")


class _Stop(Exception):
    pass


def test_an_interruption_at_any_report_costs_at_most_an_epoch(settings: Training, tmp_path: Path) -> None:
    def stop(epoch: int) -> None:
        raise _Stop

    wanted, epochs = job(tmp_path / "stopped"), []
    for _ in range(3):
        with pytest.raises(_Stop):
            run(settings, wanted, stop)
        epochs.append(about(tmp_path / "stopped")["epoch"])
    assert epochs == [1, 2, 3]
    outcome = run(settings, wanted, stop)  # nothing left to do, nothing to report
    assert outcome.points == run(settings, replace(wanted, folder=str(tmp_path / "other"))).points


def test_a_checkpoint_with_the_outcome_is_the_outcome(settings: Training, tmp_path: Path, monkeypatch) -> None:
    wanted = job(tmp_path)
    first = run(settings, wanted)
    monkeypatch.setattr(TrainingRun, "train_epoch", lambda *_: pytest.fail("it trained"))
    monkeypatch.setattr(TrainingRun, "outcome", lambda *_: pytest.fail("it measured"))
    told: list[int] = []
    assert run(settings, wanted, told.append) == first
    assert told == []


def test_an_outcome_without_test_images_is_measured_again_for_them(
    settings: Training, tmp_path: Path, monkeypatch
) -> None:
    first = run(settings, job(tmp_path))
    monkeypatch.setattr(TrainingRun, "train_epoch", lambda *_: pytest.fail("it trained"))
    tested = run(settings, job(tmp_path, test=True))
    assert {"test_accuracy", "test_loss"} <= tested.points[0].keys()
    assert not {"test_accuracy", "test_loss"} & first.points[0].keys()
    for before, after in zip(first.points, tested.points):
        assert before.items() <= after.items()
    assert run(settings, job(tmp_path)).points == first.points


def test_a_checkpoint_that_goes_further_is_not_used(settings: Training, tmp_path: Path) -> None:
    run(settings, job(tmp_path / "far"))
    less = run(settings, job(tmp_path / "far", until=1))
    assert less.points == run(settings, job(tmp_path / "fresh", until=1)).points


FOREIGN: dict[str, dict[str, Any]] = {
    "another schedule": {"epochs": 4},
    "other images": {"images": 60},
    "another seed": {"seed": 6},
    "another network of the same shape": {"architecture": replace(small(), norm="per_point")},
    "another training rule": {"architecture": small(rule="joint")},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_checkpoint_is_not_continued(settings: Training, tmp_path: Path, name: str) -> None:
    run(settings, job(tmp_path / "used", until=2, **FOREIGN[name]))
    told: list[int] = []
    outcome = run(settings, job(tmp_path / "used"), told.append)
    assert told == [1, 2, 3]
    assert outcome.points == run(settings, job(tmp_path / "fresh")).points
    assert same_weights(tmp_path / "used", tmp_path / "fresh")


def test_bfloat16_passes_learn_as_well(tmp_path: Path) -> None:
    precise, fast = (
        run(Training(DATA, precision=precision), job(tmp_path / precision, until=4)).points[-1]["loss"]
        for precision in ("float32", "bfloat16")
    )
    assert fast != precise
    assert fast == pytest.approx(precise, abs=0.2)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 0.01},
        {"batch_size": 16},
        {"weight_decay": 0.1},
        {"augment": "none"},
        {"validation": 0.4},
        {"precision": "bfloat16"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_checkpoint_of_other_settings_is_not_continued(tmp_path: Path, changes: dict[str, Any]) -> None:
    run(Training(DATA, **changes), job(tmp_path, until=1))
    told: list[int] = []
    run(Training(DATA), job(tmp_path, until=2), told.append)
    assert told == [1, 2]


def _without_metadata(path: Path) -> None:
    save_file(load_file(path), path)


def _with_metadata(path: Path, **metadata: str) -> None:
    save_file(load_file(path), path, metadata=metadata)


def _without_a_tensor(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors["network.layers.0.weight"]
    save_file(tensors, path, metadata=metadata)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-64]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "garbage": lambda path: path.write_bytes(os.urandom(1000)),
    "text": lambda path: path.write_text("no checkpoint"),
    "no metadata": _without_metadata,
    "other metadata": lambda path: _with_metadata(path, more="1"),
    "odd metadata": lambda path: _with_metadata(path, about="[]"),
    "broken metadata": lambda path: _with_metadata(path, about="{"),
    "incomplete metadata": lambda path: _with_metadata(path, about='{"epoch": 1}'),
    "a tensor is missing": _without_a_tensor,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_not_used(settings: Training, tmp_path: Path, name: str) -> None:
    run(settings, job(tmp_path, until=1))
    DAMAGE[name](checkpoint(tmp_path))
    told: list[int] = []
    outcome = run(settings, job(tmp_path, until=2), told.append)
    assert told == [1, 2]
    assert outcome.points == run(settings, job(tmp_path / "fresh", until=2)).points


def test_nothing_half_written_counts(settings: Training, tmp_path: Path, monkeypatch) -> None:
    run(settings, job(tmp_path, until=1))
    before = checkpoint(tmp_path).read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(_Stop()))
    with pytest.raises(_Stop):
        run(settings, job(tmp_path, until=2))
    assert checkpoint(tmp_path).read_bytes() == before


def test_a_checkpoint_can_be_discarded(settings: Training, tmp_path: Path) -> None:
    run(settings, job(tmp_path, until=1))
    settings.discard(tmp_path)
    assert not checkpoint(tmp_path).exists()
    settings.discard(tmp_path)  # twice does no harm


# Determinism -----------------------------------------------------------------------------------------------------


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


# Data ------------------------------------------------------------------------------------------------------------


def _arrays() -> dict[str, np.ndarray]:
    data = Training(DATA).dataset
    return {name: np.array(getattr(data, name)) for name in ("x_train", "y_train", "x_test", "y_test")}


def _on_disk(folder: Path, form: str = "npz", **changes: np.ndarray) -> Training:
    arrays = _arrays() | changes
    folder.mkdir(parents=True)
    if form == "npz":
        np.savez(folder / "data.npz", **arrays)
        return Training(f"npz:{folder / 'data.npz'}")
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return Training(f"npy:{folder}")


def test_what_is_not_for_training_cannot_change_it(settings: Training, tmp_path: Path) -> None:
    arrays, source = _arrays(), settings.source
    train, validation = source.training_rows, source.validation_rows
    assert not set(train) & set(validation)
    poisoned = arrays["x_train"].copy()
    poisoned[validation] = 255 - poisoned[validation] // 2
    plain = _on_disk(tmp_path / "plain")
    other = _on_disk(
        tmp_path / "poisoned",
        x_train=poisoned,
        x_test=255 - arrays["x_test"] // 3,
        y_test=(arrays["y_test"] + 1) % 3,
    )
    assert other.source.preprocessing == plain.source.preprocessing
    first, second = (run(s, job(tmp_path / n, test=True)) for s, n in ((plain, "a"), (other, "b")))
    assert same_weights(tmp_path / "a", tmp_path / "b")
    for one, two in zip(first.points, second.points):
        assert one["loss"] != two["loss"]
        assert one["test_loss"] != two["test_loss"]


def test_test_labels_change_the_test_measures_alone(tmp_path: Path) -> None:
    arrays = _arrays()
    plain, other = _on_disk(tmp_path / "1"), _on_disk(tmp_path / "2", y_test=(arrays["y_test"] + 1) % 3)
    first, second = (run(s, job(tmp_path / n, test=True)) for s, n in ((plain, "a"), (other, "b")))
    for one, two in zip(first.points, second.points):
        assert {k: v for k, v in one.items() if "test" not in k} == {k: v for k, v in two.items() if "test" not in k}
        assert one["test_loss"] != two["test_loss"]


def test_training_images_do_change_it(tmp_path: Path, settings: Training) -> None:
    arrays = _arrays()
    arrays["x_train"][settings.source.training_rows[0]] ^= 255
    other = _on_disk(tmp_path / "other", **arrays)
    run(settings, job(tmp_path / "a")), run(other, job(tmp_path / "b"))
    assert not same_weights(tmp_path / "a", tmp_path / "b")


def test_standardisation_is_of_the_training_images(settings: Training) -> None:
    x = settings.dataset.x_train[settings.source.training_rows] / 255
    np.testing.assert_allclose(settings.source.preprocessing.mean, x.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(settings.source.preprocessing.std, x.std((0, 2, 3)), rtol=1e-6)


def test_subsets_are_nested_and_of_the_training_images(settings: Training, tmp_path: Path) -> None:
    source = settings.source
    train = set(source.training_rows.tolist())
    sets = [set(source.training_subset(n).tolist()) for n in (10, 50, 100, len(train))]
    assert [len(s) for s in sets] == [10, 50, 100, len(train)]
    assert sets[0] < sets[1] < sets[2] < sets[3] == train
    assert (
        set(settings.source.training_subset(None).tolist())
        == set(settings.source.training_subset(10**6).tolist())
        == train
    )
    assert run(settings, job(tmp_path, images=50, until=1)).images == 50
    assert np.bincount(settings.dataset.y_train[source.training_subset(50)]).min() >= 15


def test_images_on_disk_train_as_those_in_memory(tmp_path: Path) -> None:
    memory, disk = _on_disk(tmp_path / "1"), _on_disk(tmp_path / "2", "npy")
    assert (memory.dataset.in_memory, disk.dataset.in_memory) == (True, False)
    first, second = (run(s, job(tmp_path / n, test=True)) for s, n in ((memory, "a"), (disk, "b")))
    assert first.points == second.points
    assert same_weights(tmp_path / "a", tmp_path / "b")


def test_the_norms_of_data_sorted_by_class_are_calibrated_on_all_classes() -> None:
    trainer = Training("synthetic:n=5000,classes=3,size=8,channels=1", device="cpu")
    rows = np.sort(trainer.source.training_rows)
    chosen = trainer.source.calibration(rows, 3).rows.numpy()
    assert len(chosen) == len(set(chosen.tolist())) == 2048
    assert set(chosen.tolist()) <= set(rows.tolist())
    for batch in np.split(chosen, 8):
        assert abs(np.mean(batch) - rows.mean()) < 300
    assert np.array_equal(chosen, trainer.source.calibration(rows, 3).rows)
    assert not np.array_equal(chosen, trainer.source.calibration(rows, 4).rows)


def test_norms_are_calibrated_on_images_changed_as_in_training() -> None:
    """Always the same ones: to calibrate again changes nothing."""
    data = "synthetic:n=400,classes=3,size=8,channels=1"
    plain, changed = (Training(data, device="cpu", augment=augment) for augment in ("none", "crop+flip"))
    networks = []
    for trainer in (plain, changed, changed):
        network = AnytimeNetwork(small()).train()
        calibrate(network, trainer.source.calibration(trainer.source.training_rows, 0))
        networks.append(network.state_dict())
    means = [name for name in networks[0] if name.endswith("mean")]
    assert any(not torch.allclose(networks[0][name], networks[1][name], atol=1e-3) for name in means)
    assert all(torch.equal(networks[1][name], networks[2][name]) for name in means)


def test_calibrated_statistics_are_near_those_of_all_training_images(settings: Training, tmp_path: Path) -> None:
    """Sorted by class, the first images would give others."""
    arrays = _arrays()
    order = np.argsort(arrays["y_train"], kind="stable")
    sorted_data = _on_disk(tmp_path / "d", x_train=arrays["x_train"][order], y_train=arrays["y_train"][order])
    sorted_data.augment = "none"
    run(sorted_data, job(tmp_path / "n"))
    network = nas.load(tmp_path / "n")
    first = network.operation_layers[0]
    x = network.preprocess(torch.from_numpy(sorted_data.dataset.x_train[sorted_data.source.training_rows]))
    with torch.no_grad():
        y = F.conv2d(x, first.weight, stride=2, padding=1)
    torch.testing.assert_close(first.after.mean[2], y.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(first.after.var[2], y.var((0, 2, 3)), rtol=1e-2, atol=1e-4)


# Measures --------------------------------------------------------------------------------------------------------


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
    assert measured == declared - hierarchy | {"level", "macs", "params"}


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


# Optimisation ----------------------------------------------------------------------------------------------------


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
    runs = [Training(DATA, weight_decay=d).start(job(tmp_path)) for d in (0.0, 0.5)]
    for one in runs:
        one.train_epoch(0)
    norms = [
        [sum(float(p.detach().square().sum()) for p in group) for group in split_by_decay(r.network)] for r in runs
    ]
    assert norms[1][0] < 0.9 * norms[0][0]
    assert [group["weight_decay"] for group in runs[1].optimiser.param_groups] == [0.5, 0.0]


def test_the_schedule_warms_up_and_falls_as_half_a_cosine() -> None:
    steps = np.linspace(0, 1, 1001)
    got = np.array([schedule(p) for p in steps])
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
    run_ = settings.start(job(tmp_path / "other"))
    total = 3 * run_.batches.steps
    assert rates == [run_.learning_rate * schedule(n / total) for n in range(total)]


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


# Odd cases -------------------------------------------------------------------------------------------------------


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
    with pytest.raises(UserError, match=r"device must be available to torch. Got 'cuda': .*CUDA"):
        run(Training(DATA, device="cuda"), job(tmp_path))


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "meta"])
def test_a_device_that_is_none(tmp_path: Path, device: str) -> None:
    with pytest.raises(UserError, match=f"device must be available to torch. Got '{device}'"):
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
        ({"weight_decay": -1e-4}, "weight_decay must be at least 0"),
        ({"weight_decay": math.nan}, "Got nan"),
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
    arrays = _arrays()
    assert from_arrays(*arrays.values(), layout="NCHW").task == TASK
