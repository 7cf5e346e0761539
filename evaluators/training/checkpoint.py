"""Checkpoints of trainings: one safetensors file with network, momentum, position and, at the end, the outcome."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.errors import EnvironmentFault
from nas.evaluation.jobs import Job, Outcome, Stage
from nas.execution.network import AnytimeNetwork
from nas.execution.preprocessing import Preprocessing
from nas.representation.architecture import Architecture

_NETWORK, _OPTIMISER, _AVERAGE, _BEST = "network.", "optimiser.", "average.", "best."


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The network of the best epoch so far. accuracy: mean over the operating points, on validation images."""

    accuracy: float
    network: AnytimeNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """State of a training between two epochs.

    Parameters
    ----------
    job
        Everything that determines the result of the training: architecture, seed, schedule and settings.
    epoch, seconds
        Epochs and time so far.
    architecture
        Architecture of the network, which may differ from the job's during a construction.
    network
        Tensors of the network's state, by name.
    optimiser
        The state of the optimiser, as "index of the parameter.name".
    average
        Tensors of the moving average of the network, by name; empty if there is none.
    best
        The best network so far, if the recipe keeps it.
    outcome
        The measured outcome, if it was measured after this epoch.
    stages
        Stages of the training.
    test, selection, measured_images
        Settings with which the outcome was measured.
    """

    job: dict[str, Any]
    epoch: int
    seconds: float
    architecture: Architecture
    network: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    average: dict[str, Tensor]
    best: Best | None
    outcome: Outcome | None
    stages: tuple[Stage, ...]
    test: bool
    selection: dict[str, Any] | None
    measured_images: int | None

    def begins(self, stages: tuple[Stage, ...]) -> bool:
        """Whether a training with these stages was the same up to the checkpoint; later stages may differ."""
        before = sum(stage.end < self.epoch for stage in self.stages) + 1
        return self.stages[:before] == stages[:before]

    def measured_for(self, job: Job) -> Outcome | None:
        """The outcome, if it is the outcome of this job."""
        own = self.epoch, self.test, self.selection, self.measured_images
        same = own == (job.until, job.test, job.selection, job.measured_images)
        if self.outcome is None or (job.save and not self.outcome.saved):
            return None
        return self.outcome if same else None


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the file by the checkpoint. An interruption leaves the old file or the new one, never a part."""
    from safetensors.torch import save_file

    best = checkpoint.best
    parts = {
        _NETWORK: checkpoint.network,
        _OPTIMISER: checkpoint.optimiser,
        _AVERAGE: checkpoint.average,
        _BEST: best.network.state_dict() if best else {},
    }
    tensors = {
        f"{part}{name}": tensor.detach().cpu().contiguous() for part, of in parts.items() for name, tensor in of.items()
    }
    metadata = {
        "job": checkpoint.job,
        "epoch": checkpoint.epoch,
        "seconds": checkpoint.seconds,
        "architecture": checkpoint.architecture.to_json(),
        "best": _about(best) if best else None,
        "outcome": checkpoint.outcome.to_json() if checkpoint.outcome else None,
        "stages": checkpoint.stages,
        "test": checkpoint.test,
        "selection": checkpoint.selection,
        "measured_images": checkpoint.measured_images,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"about": json.dumps(metadata)})
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def read_checkpoint(path: Path, device: torch.device) -> Checkpoint | None:
    """The checkpoint in a file, on a device; None if the file is absent or damaged.

    Raises EnvironmentFault if there is a folder in its place, because a new checkpoint could not replace it.
    """
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise EnvironmentFault(f"A checkpoint must be a file. Got the folder {path}: remove it and resume.")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = json.loads((file.metadata() or {})["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        return Checkpoint(
            job=metadata["job"],
            epoch=metadata["epoch"],
            seconds=metadata["seconds"],
            architecture=Architecture.from_json(metadata["architecture"]),
            network=_part(tensors, _NETWORK),
            optimiser=_part(tensors, _OPTIMISER),
            average=_part(tensors, _AVERAGE),
            best=_best(metadata["best"], _part(tensors, _BEST), device),
            outcome=Outcome(**metadata["outcome"]) if metadata["outcome"] else None,
            stages=tuple(Stage(*stage) for stage in metadata["stages"]),
            test=metadata["test"],
            selection=metadata["selection"],
            measured_images=metadata["measured_images"],
        )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError):
        return None


def _about(best: Best) -> dict[str, Any]:
    network = best.network
    assert network.preprocess is not None, "the trainer sets it"
    return {
        "accuracy": best.accuracy,
        "architecture": network.architecture.to_json(),
        "preprocessing": network.preprocess.to_json(),
        "augmented": network.augmented,
    }


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}


def _best(about: dict[str, Any] | None, tensors: dict[str, Tensor], device: torch.device) -> Best | None:
    if about is None:
        return None
    network = AnytimeNetwork(Architecture.from_json(about["architecture"])).to(device)
    network.load_state_dict(tensors)
    network.preprocess, network.augmented = Preprocessing.from_json(about["preprocessing"]), about["augmented"]
    return Best(accuracy=about["accuracy"], network=network)
