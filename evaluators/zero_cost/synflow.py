"""SynFlow: the synaptic flow of the untrained network.

References
----------
Tanaka, Kunin, Yamins & Ganguli, Pruning Neural Networks without Any Data by Iteratively Conserving Synaptic Flow,
    NeurIPS 2020, arXiv 2006.05467.
Abdelfattah, Mehrotra, Dudziak & Lane, Zero-Cost Proxies for Lightweight NAS, ICLR 2021, arXiv 2101.08134.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from evaluators.zero_cost.scoring import (
    ACTIVATION_FUNCTIONS,
    Levels,
    check_settings,
    fresh_network,
    one_thread,
    over_levels,
)
from nas.execution.network import AnytimeNetwork
from nas.proxies.contract import Needs
from nas.representation.architecture import Architecture

_NORM_FUNCTIONS = frozenset({F.batch_norm, F.instance_norm, F.group_norm, F.layer_norm, F.rms_norm})


@dataclass(frozen=True, kw_only=True)
class SynFlow:
    """SynFlow: log of the synaptic flow Σ |θ · ∂R/∂θ| over all weights θ.

    R is the sum of the outputs of the network with weights |θ| for an input of ones, so the score needs no data. Norms
    are left out, as for the proxy in Abdelfattah et al. The papers take no logarithm, which does not change the order.

    Parameters
    ----------
    levels : {"largest", "mean"}
        Score the largest operating point, or take the mean over all points.
    seed : int
        Other seeds give other weights.

    Notes
    -----
    Ours: activations are left out too. relu is the identity here, because all values are positive; relu6 would cut
    them off, silu and hardswish would bend them, and the flow of a mobile network would be 0. So R is homogeneous in
    every operation's weights. If all weights are 1 and all maps have one channel, the flow is the number of learned
    operations on all paths times the number of classes.

    Computed in float64; the logarithm is clipped to the range of float64, ±709. Without learned operations, −709.
    """

    needs: ClassVar[Needs] = "weights"
    levels: Levels = "largest"
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self.levels)

    def __call__(self, architecture: Architecture) -> float:
        with one_thread():
            network = fresh_network(architecture, self.seed)
            return over_levels(self.levels, network, lambda level: log_flow(synaptic_flow(network, level).values()))


def synaptic_flow(network: AnytimeNetwork, level: int) -> dict[int, float]:
    """Σ |θ · ∂R/∂θ| over the weights of every learned operation that is live at a level, by operation.

    Notes
    -----
    Without biases, as at initialisation, the flow of an operation on every path is R, the sum of the outputs. The sum
    over all operations is R times their mean number on a path, paths weighted by their flow.
    """
    parameters = {name: p.detach().double().requires_grad_() for name, p in network.named_parameters()}
    weights = {
        o: parameters[f"layers.{o}.weight"] for o, layer in enumerate(network.operation_layers) if layer.kind.learned
    }
    if not weights:
        return {}
    ones = torch.ones(1, *network.architecture.task.input_shape, dtype=torch.float64)
    with torch.enable_grad(), _LinearOnly():
        output = functional_call(network, {name: p.abs() for name, p in parameters.items()}, (ones, level)).sum()
        gradients = torch.autograd.grad(output, list(weights.values()), allow_unused=True)
    return {o: float((w.detach() * g).sum()) for (o, w), g in zip(weights.items(), gradients) if g is not None}


def log_flow(flows: Iterable[float]) -> float:
    """Logarithm of the sum of flows, clipped to the range of float64.

    >>> log_flow([1.0, 0.0]), round(log_flow([1e308, 1e308]), 2), round(log_flow([]), 2)
    (0.0, 709.78, -708.4)
    """
    total = sum(flows)
    if not math.isfinite(total):
        total = sys.float_info.max
    return math.log(max(total, sys.float_info.min))


class _LinearOnly(TorchFunctionMode):
    """While active, norms and activations return their input."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in ACTIVATION_FUNCTIONS or function in _NORM_FUNCTIONS:
            return args[0]
        return function(*args, **(kwargs or {}))
