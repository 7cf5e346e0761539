"""The optimiser of a training: default learning rate and batch size, precision, parameters with weight decay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nas.config.recipes import Recipe
from nas.errors import UserError, unknown_name
from nas.execution.layers import Layer
from nas.representation.architecture import Architecture

PRECISIONS = ("auto", "float32", "bfloat16")
"""Of the passes in training. Recent CPUs have bfloat16, too; "auto": bfloat16 on a GPU, else float32."""
RATES = {"sgd": 0.2, "adamw": 0.01}
"""The default learning rate of each optimiser for batches of 64."""
WITHOUT_NORMS = 0.25
"""Factor of the rate for networks without norms."""


def autocast(precision: str, device: torch.device) -> str | None:
    """Device type of bfloat16 autocasting; None: float32. Raises UserError for an unknown precision."""
    if precision not in PRECISIONS:
        raise UserError(unknown_name("precision", precision, PRECISIONS))
    use_bfloat16 = device.type == "cuda" if precision == "auto" else precision == "bfloat16"
    return device.type if use_bfloat16 else None


def default_batch_size(images: int) -> int:
    """Images per step for a number of training images."""
    return 32 if images < 2_000 else 64 if images < 20_000 else 128


def default_learning_rate(batch_size: int, architecture: Architecture, optimiser: str = "sgd") -> float:
    """The rate in :data:`RATES` for batches of 64, proportional to the square root of the batch size.

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
    return RATES[optimiser] * (1.0 if normed else WITHOUT_NORMS) * math.sqrt(batch_size / 64 / positions)


def optimiser_of(modules: Sequence[nn.Module], recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of the parameters of modules; the learning rate is set at each step."""
    groups: list[dict[str, Any]] = []
    for module in modules:
        decayed, others = split_by_decay(module)
        groups.append({"params": decayed, "weight_decay": recipe.weight_decay})
        groups.append({"params": others, "weight_decay": recipe.weight_decay if recipe.decay_all else 0.0})
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, betas=(recipe.momentum, 0.999))
    return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.nesterov)


def split_by_decay(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters with weight decay, the weights of operations, and without: biases, and scales and shifts of norms."""
    weights = [part.weight for part in module.modules() if isinstance(part, Layer) and part.weight is not None]
    identities = {id(weight) for weight in weights}
    return weights, [p for p in module.parameters() if id(p) not in identities]
