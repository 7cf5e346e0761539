"""Files of networks and controllers: ``network.json``, ``weights.safetensors``, and the settings of a controller."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from nas.errors import UserError
from nas.execution.preprocessing import Preprocessing
from nas.files import Files
from nas.representation.architecture import Architecture

NETWORK, WEIGHTS, AVERAGE = "network.json", "weights.safetensors", "average.safetensors"

T = TypeVar("T")


def network_files(
    architecture: Architecture, preprocessing: Preprocessing | None, state: Mapping[str, Tensor], *, augmented: float
) -> Files:
    """The files of a network, for :func:`nas.files.write_folder`. augmented: share of its training images."""
    description = {
        "architecture": architecture.to_json(),
        "preprocessing": preprocessing.to_json() if preprocessing else None,
        "augmented": augmented,
    }
    return {
        **weights_files(WEIGHTS, state),
        NETWORK: lambda path: path.write_text(json.dumps(description, indent=1)),
    }


def weights_files(name: str, state: Mapping[str, Tensor]) -> Files:
    """A file of weights."""
    from safetensors.torch import save_file

    return {name: partial(save_file, {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})}


def read_network(folder: str | Path) -> tuple[Architecture, Preprocessing | None, float]:
    """Read architecture, preprocessing and the share of augmented images. Raises UserError if there is no network."""
    path = Path(folder)
    try:
        description = json.loads((path / NETWORK).read_text())
        architecture = Architecture.from_json(description["architecture"])
        preprocessing = description["preprocessing"]
        parsed = Preprocessing.from_json(preprocessing) if preprocessing else None
        return architecture, parsed, float(description.get("augmented", 1.0))  # of earlier versions: all
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} must be a folder that network.save wrote: {_summary(error)}") from error


def read_weights(path: str | Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read a safetensors file. Raises UserError unless it holds tensors of the expected names and shapes."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} must be a file of weights: {_summary(error)}") from error
    shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    stored = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in sorted(shapes.keys() | stored.keys()):
        if shapes.get(name) != stored.get(name):
            raise UserError(
                f"{path} must hold the weights of this very network. "
                f"Got shape {stored.get(name)} for {name}, expected {shapes.get(name)}."
            )
    return state


def settings_files(name: str, settings: Mapping[str, Any]) -> Files:
    """The file with the settings of a controller, beside its network."""
    return {name: lambda path: path.write_text(json.dumps(settings))}


def read_settings(path: Path, parse: Callable[[dict[str, Any]], T], writer: str) -> T:
    """Parse the settings of a controller. Raises UserError if the folder contains none. writer: named in the error."""
    try:
        return parse(json.loads(path.read_text()))
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path.parent} must be a folder that {writer} wrote: {_summary(error)}") from error


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
