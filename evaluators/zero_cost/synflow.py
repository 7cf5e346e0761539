"""SynFlow."""

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

from evaluators.zero_cost.naswot import _ACTIVATIONS
from evaluators.zero_cost.scoring import Levels, _check, _one_thread, _over, fresh_network
from nas.execution.network import AnytimeNetwork
from nas.proxies.contract import Needs
from nas.representation.architecture import Architecture

_NORMS = frozenset({F.batch_norm, F.instance_norm, F.group_norm, F.layer_norm, F.rms_norm})


@dataclass(frozen=True, kw_only=True)
class SynFlow:
    """SynFlow: log of the synaptic flow Σ |θ · ∂R/∂θ| over all weights, R the sum of the outputs under |θ| for ones.

    It needs no data: the input is all ones. Norms are left out, as for the proxy in Abdelfattah et al.; the papers have
    no logarithm, which keeps the order.

    levels, seed: see :mod:`evaluators.zero_cost.proxies`.

    Notes
    -----
    Ours: activations are left out too. relu is the identity on what |θ| makes of ones; relu6 would cut it off, silu and
    hardswish bend it, and a mobile network's flow would be 0. So R is homogeneous in every operation's weights, and
    with all of them 1 on maps of one channel the flow is the number of learned operations on all paths, once a class:
    what `learned_paths` takes the logarithm of. Computed in float64, the log cut to its range, ±709; −709 also where
    nothing is learned.

    References
    ----------
    Tanaka, Kunin, Yamins & Ganguli, Pruning Neural Networks without Any Data by Iteratively Conserving Synaptic Flow,
    NeurIPS 2020, arXiv 2006.05467. Abdelfattah, Mehrotra, Dudziak & Lane, Zero-Cost Proxies for Lightweight NAS,
    ICLR 2021, arXiv 2101.08134.
    """

    needs: ClassVar[Needs] = "weights"
    levels: Levels = "largest"
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.levels)

    def __call__(self, architecture: Architecture) -> float:
        with _one_thread():
            network = fresh_network(architecture, self.seed)
            return _over(self.levels, network, lambda level: _log_flow(synaptic_flow(network, level).values()))


def synaptic_flow(network: AnytimeNetwork, level: int) -> dict[int, float]:
    """Σ |θ · ∂R/∂θ| of the weights of every learned operation that is live at a level, by operation.

    Notes
    -----
    Without biases, as at initialisation: R itself for an operation that lies on every path, R being the sum of the
    outputs; the sum over all operations is R times the mean number of them on a path, paths weighted by their flow.
    """
    flow = {name: p.detach().double().requires_grad_() for name, p in network.named_parameters()}
    weights = {o: flow[f"layers.{o}.weight"] for o, layer in enumerate(network.operation_layers) if layer.kind.learned}
    if not weights:
        return {}
    ones = torch.ones(1, *network.architecture.task.input_shape, dtype=torch.float64)
    with torch.enable_grad(), _Bare():
        out = functional_call(network, {name: p.abs() for name, p in flow.items()}, (ones, level)).sum()
        found = torch.autograd.grad(out, list(weights.values()), allow_unused=True)
    return {o: float((w.detach() * g).sum()) for (o, w), g in zip(weights.items(), found) if g is not None}


class _Bare(TorchFunctionMode):
    """While it is active, norms and activations hand on what they read."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _ACTIVATIONS or function in _NORMS:
            return args[0]
        return function(*args, **(kwargs or {}))


def _log_flow(values: Iterable[float]) -> float:
    total = sum(values)
    if not math.isfinite(total):
        total = sys.float_info.max
    return math.log(max(total, sys.float_info.min))
