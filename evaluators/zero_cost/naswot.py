"""NASWOT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from evaluators.data.datasets import Dataset
from evaluators.zero_cost.scoring import Levels, _check, _one_thread, _over, draw_batches, fresh_network
from nas.execution.network import AnytimeNetwork
from nas.proxies.contract import Needs
from nas.representation.architecture import Architecture
from nas.representation.elements import ACTIVATIONS

SMALLEST_EIGENVALUE = 1e-3
"""Far above the rounding of a kernel (1e-7 for a hundred thousand units), far below what different codes leave."""


_ACTIVATIONS = frozenset(getattr(F, name) for name in ACTIVATIONS if name != "none")


@dataclass(frozen=True, kw_only=True)
class NASWOT:
    """NASWOT: how differently a batch of inputs switches the units of the untrained network on and off.

    Every input has a binary code, one bit a unit: whether what its activation reads is positive. The score is
    log det K, where K_ij = units − Hamming distance of the codes of inputs i and j: the more the codes differ, the
    nearer is K to diagonal, and the larger its determinant.

    levels, seed: see :mod:`evaluators.zero_cost.proxies`. batch_size: 128, as in the paper. data: a data spec (``nas
    data``) or a Dataset whose training images make the batch, in place of random ones.

    Notes
    -----
    Ours: relu6, silu and hardswish give bits as relu does; and an eigenvalue of K below 1e-3, which is rounding, counts
    as 1e-3. So inputs that share all codes do not make the score −∞: each repeated code costs a factor of about
    1e-3 / units, and a network without any unit scores batch_size · log 1e-3, the least there is.

    References
    ----------
    Mellor, Turner, Storkey & Crowley, Neural Architecture Search without Training, ICML 2021, arXiv 2006.04647.
    """

    needs: ClassVar[Needs] = "batch"
    levels: Levels = "largest"
    batch_size: int = 128
    data: str | Dataset | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.levels, batch_size=self.batch_size)

    def __call__(self, architecture: Architecture) -> float:
        with _one_thread():
            network = fresh_network(architecture, self.seed)
            ((x, _),) = draw_batches(architecture, 1, self.batch_size, self.data, self.seed)
            return _over(self.levels, network, lambda level: log_determinant(code_kernel(network, x, level)))


def code_kernel(network: AnytimeNetwork, x: Tensor, level: int) -> Tensor:
    """Number of units on which the codes of two inputs agree, for all pairs: shape (N, N), float64."""
    codes = _Codes(len(x))
    with torch.no_grad(), codes:
        network(x, level)
    return codes.kernel_NN


def log_determinant(kernel_NN: Tensor) -> float:
    """log det of a symmetric positive semidefinite matrix, eigenvalues below ``SMALLEST_EIGENVALUE`` raised to it."""
    return float(torch.linalg.eigvalsh(kernel_NN).clamp(min=SMALLEST_EIGENVALUE).log().sum())


class _Codes(TorchFunctionMode):
    """While it is active, adds up how many units of every activation agree between inputs."""

    def __init__(self, examples: int):
        super().__init__()
        self.kernel_NN = torch.zeros(examples, examples, dtype=torch.float64)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _ACTIVATIONS:
            on_NU = (args[0] > 0).flatten(1).float()
            both_NN = (on_NU @ on_NU.T).double()  # whole numbers, exact up to 2²⁴ units
            on_N = both_NN.diagonal()
            self.kernel_NN += on_NU.shape[1] - on_N[:, None] - on_N[None, :] + 2 * both_NN
        return function(*args, **(kwargs or {}))
