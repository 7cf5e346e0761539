"""NASWOT: diversity of the binary activation codes of a batch in the untrained network.

References
----------
Mellor, Turner, Storkey & Crowley, Neural Architecture Search without Training, ICML 2021, arXiv 2006.04647.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from evaluators.data.datasets import Dataset
from evaluators.zero_cost.scoring import (
    ACTIVATION_FUNCTIONS,
    Levels,
    check_settings,
    draw_batches,
    fresh_network,
    one_thread,
    over_levels,
)
from nas.execution.network import AnytimeNetwork
from nas.proxies.contract import Needs
from nas.representation.architecture import Architecture

SMALLEST_EIGENVALUE = 1e-3
"""Above the rounding errors of a kernel (1e-7 for 100,000 units), below the eigenvalues that distinct codes produce."""


@dataclass(frozen=True, kw_only=True)
class NASWOT:
    """NASWOT: log determinant of the similarity of activation codes between the inputs of a batch.

    The code of an input has one bit per unit: 1 if the input of the unit's activation is positive. The score is log
    det K with K_ij = units − Hamming distance between the codes of inputs i and j. The more the codes differ, the
    closer K is to a diagonal matrix, and the larger is its determinant.

    Parameters
    ----------
    levels : {"largest", "mean"}
        Score the largest operating point, or take the mean over all points.
    batch_size : int
        At least 2; 128 in the paper.
    data : str or Dataset, optional
        A data spec (``nas data``) or a data set; the batch consists of training images instead of random inputs.
    seed : int
        Other seeds give other weights and batches.

    Notes
    -----
    Ours: relu6, silu and hardswish give bits as relu does; and eigenvalues of K below 1e-3, which are rounding errors,
    count as 1e-3. So inputs with equal codes do not make the score −∞: each repeated code costs a factor of about
    1e-3 / units. A network without units has the lowest score, batch_size · log 1e-3.
    """

    needs: ClassVar[Needs] = "batch"
    levels: Levels = "largest"
    batch_size: int = 128
    data: str | Dataset | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self.levels, batch_size=self.batch_size)

    def __call__(self, architecture: Architecture) -> float:
        with one_thread():
            network = fresh_network(architecture, self.seed)
            ((x, _),) = draw_batches(architecture, 1, self.batch_size, self.data, self.seed)
            return over_levels(self.levels, network, lambda level: log_determinant(code_kernel(network, x, level)))


def code_kernel(network: AnytimeNetwork, x: Tensor, level: int) -> Tensor:
    """Number of units whose bits agree, for all pairs of inputs: shape (N, N), float64.

    x: inputs, shape (N, *input_shape).
    """
    codes = _Codes(len(x))
    with torch.no_grad(), codes:
        network(x, level)
    return codes.kernel_NN


def log_determinant(kernel_NN: Tensor) -> float:
    """Log det of a symmetric positive semidefinite matrix, with eigenvalues of at least ``SMALLEST_EIGENVALUE``."""
    return float(torch.linalg.eigvalsh(kernel_NN).clamp(min=SMALLEST_EIGENVALUE).log().sum())


class _Codes(TorchFunctionMode):
    """While active, counts for each pair of inputs the units of every activation whose bits agree."""

    def __init__(self, examples: int):
        super().__init__()
        self.kernel_NN = torch.zeros(examples, examples, dtype=torch.float64)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in ACTIVATION_FUNCTIONS:
            on_NU = (args[0] > 0).flatten(1).float()
            both_NN = (on_NU @ on_NU.T).double()  # whole numbers, exact up to 2²⁴ units
            on_N = both_NN.diagonal()
            self.kernel_NN += on_NU.shape[1] - on_N[:, None] - on_N[None, :] + 2 * both_NN
        return function(*args, **(kwargs or {}))
