"""Training gives the same bits, however often it is interrupted; damaged and foreign checkpoints are not used."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import nas
from evaluators.training.evaluator import Training
from evaluators.training.run import TrainingRun
from nas.errors import EnvironmentFault

from .jobs import DATA, KINDS, checkpoint, checkpoint_metadata, job, run, same_weights, small


@pytest.mark.parametrize("kind", KINDS)
def test_every_checkpoint_leads_to_the_same_bits(settings: Training, tmp_path: Path, kind: str) -> None:
    whole = tmp_path / "whole"

    def keep(epoch: int) -> None:
        assert checkpoint_metadata(whole)["epoch"] == epoch  # it is on disk before it is told
        shutil.copytree(whole, tmp_path / f"after {epoch}", ignore=shutil.ignore_patterns("network*", "weights*"))

    expected = run(settings, job(whole, architecture=KINDS[kind]), keep)
    for epoch in (1, 2):
        folder, told = tmp_path / f"after {epoch}", []
        seconds = checkpoint_metadata(folder)["seconds"]
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


def test_a_job_may_require_its_network_before_the_end(settings: Training, tmp_path: Path) -> None:
    wanted = job(tmp_path / "early")
    assert not run(settings, replace(wanted, until=1)).saved
    measured = run(settings, replace(wanted, until=1, save=True))  # the outcome in the checkpoint has no network
    assert measured.saved
    assert nas.load(tmp_path / "early").macs == tuple(point["macs"] for point in measured.points)
    assert run(settings, wanted).points == run(settings, replace(wanted, folder=str(tmp_path / "one go"))).points


class _Stop(Exception):
    pass


def test_an_interruption_at_any_report_costs_at_most_an_epoch(settings: Training, tmp_path: Path) -> None:
    def stop(epoch: int) -> None:
        raise _Stop

    wanted, epochs = job(tmp_path / "stopped"), []
    for _ in range(3):
        with pytest.raises(_Stop):
            run(settings, wanted, stop)
        epochs.append(checkpoint_metadata(tmp_path / "stopped")["epoch"])
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
        run(Training(DATA, precision=precision), job(tmp_path / precision, epochs=4, until=4)).points[-1]["loss"]
        for precision in ("float32", "bfloat16")
    )
    assert fast != precise
    assert fast == pytest.approx(precise, abs=0.2)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 0.01},
        {"batch_size": 16},
        {"recipe": "default:weight_decay=0.1"},
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


def test_a_folder_in_place_of_a_checkpoint_is_refused_before_training(settings: Training, tmp_path: Path) -> None:
    checkpoint(tmp_path).mkdir(parents=True)
    told: list[int] = []
    with pytest.raises(EnvironmentFault, match=r"must be a file. Got the folder .*checkpoint.*: remove it and resume"):
        run(settings, job(tmp_path, until=1), told.append)
    assert not told


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
