"""Optimisation settings: learning rate and its schedule, batch size, and the parameters with weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from nas.errors import UserError, unknown_name
from nas.execution.layers import Layer
from nas.representation.architecture import Architecture

WARM_UP = 0.05
"""Share of the schedule with a growing learning rate."""

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimisation:
    """Settings of the optimiser.

    Parameters
    ----------
    batch_size
        Images per step; None: by the number of training images, see :func:`default_batch_size`.
    learning_rate
        Largest learning rate; None: by batch size and architecture, see :func:`default_learning_rate`.
    weight_decay
        Decay of the weights of operations.
    precision
        "float32" or "bfloat16" passes in training (recent CPUs have bfloat16, too); "auto": bfloat16 on a GPU.

    Raises
    ------
    UserError
        A setting is out of range.
    """

    batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float = 5e-4
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 2:
            raise UserError(f"batch_size must be at least 2, for batch norm. Got {self.batch_size}.")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise UserError(f"learning_rate must be positive and finite. Got {self.learning_rate}.")
        if not 0 <= self.weight_decay < math.inf:
            raise UserError(f"weight_decay must be at least 0. Got {self.weight_decay}.")
        if self.precision not in PRECISIONS:
            raise UserError(unknown_name("precision", self.precision, PRECISIONS))

    def autocast(self, device: torch.device) -> str | None:
        """Device type of bfloat16 autocasting; None: float32."""
        use_bfloat16 = device.type == "cuda" if self.precision == "auto" else self.precision == "bfloat16"
        return device.type if use_bfloat16 else None


def schedule(progress: float) -> float:
    """Factor of the learning rate after a share of the training: linear warm-up, then half a cosine to zero.

    Parameters
    ----------
    progress
        Share of the training's steps, in [0, 1].

    Examples
    --------
    >>> [round(schedule(p), 3) for p in (0.0, 0.025, 0.05, 0.525, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def default_batch_size(images: int) -> int:
    """Images per step for a number of training images."""
    return 32 if images < 2_000 else 64 if images < 20_000 else 128


def default_learning_rate(batch_size: int, architecture: Architecture) -> float:
    """0.2 for batches of 64, proportional to the square root of the batch size.

    The rate suits a loss that is the sum over the operating points.

    Notes
    -----
    Networks without norms use a quarter of it: the gradients of all levels add up in shared weights, nothing keeps the
    activations in range, and at the full rate most activations of a layer are zero for good after an epoch. If a
    classifier reads P positions separately, without averaging them, the rate is divided by the square root of P,
    because all positions change its logits at once.
    """
    topology, outputs = architecture.topology, {point.output for point in architecture.points}
    normed = any("norm" in (*operation.before, *operation.after) for operation in topology.operations)
    positions = max(math.prod(topology.maps[o.source].size) for o in topology.operations if o.target in outputs)
    return (0.2 if normed else 0.05) * math.sqrt(batch_size / 64 / positions)


def split_by_decay(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters with weight decay, the weights of operations, and without: biases, and scales and shifts of norms."""
    weights = [part.weight for part in module.modules() if isinstance(part, Layer) and part.weight is not None]
    identities = {id(weight) for weight in weights}
    return weights, [p for p in module.parameters() if id(p) not in identities]
