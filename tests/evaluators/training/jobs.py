"""Small jobs of the trainer, and their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from evaluators.training.evaluator import Training
from nas.evaluation.jobs import Job, Outcome
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


def run(settings: Training, wanted: Job, report: Callable[[int], None] = lambda epoch: None) -> Outcome:
    return settings.evaluate(wanted, report)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def same_weights(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def checkpoint(folder: Path) -> Path:
    return folder / Training.checkpoint


def checkpoint_metadata(folder: Path) -> dict[str, Any]:
    with safe_open(checkpoint(folder), framework="pt") as file:
        return json.loads(file.metadata()["about"])


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


def stored_arrays() -> dict[str, np.ndarray]:
    data = Training(DATA).dataset
    return {name: np.array(getattr(data, name)) for name in ("x_train", "y_train", "x_test", "y_test")}


def on_disk(folder: Path, form: str = "npz", **changes: np.ndarray) -> Training:
    stored = stored_arrays() | changes
    folder.mkdir(parents=True)
    if form == "npz":
        np.savez(folder / "data.npz", **stored)
        return Training(f"npz:{folder / 'data.npz'}")
    for name, array in stored.items():
        np.save(folder / f"{name}.npy", array)
    return Training(f"npy:{folder}")
