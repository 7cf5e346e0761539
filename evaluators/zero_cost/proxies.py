"""Zero-cost proxies of the literature, for comparison: NASWOT, SynFlow and ZiCo. They look at one untrained network.

The papers score a network that has one operating point and is trained as it stands. Ours, and the same for all three:

- An anytime network is scored at its largest point by default, which holds most of the weights and is the nearest thing
  to the papers' one network. ``levels="mean"`` takes the mean of the scores over all points, as `dtmc` and the sizes
  `macs`, `params` and `count` do.
- Weights and batch come from generators seeded by the network's key, so that equal keys have equal scores in any order
  and process; ``seed`` draws others, to see how much of a score is chance. One torch thread, since sums depend on how
  they are split. Images are random normal numbers, as standardised ones roughly are, and labels random, unless ``data``
  names real ones.
- Norms take the statistics of the batch, whatever the policy: a fresh network has no others. SynFlow has none at all.

In each, "ours" marks what departs from the paper. Nothing is trained and no global random state is used.
Suffixes: N examples, U units, B batches, P weights.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from evaluators.data.arrays import batches, channels_last
from evaluators.data.datasets import Dataset, load
from nas.errors import UserError
from nas.execution.network import AnytimeNetwork
from nas.execution.preprocessing import Preprocessing
from nas.proxies.contract import Needs
from nas.representation.topology import ACTIVATIONS, Architecture, Task
from nas.seeds import seed as seed_of

Levels = Literal["largest", "mean"]
Batch = tuple[Tensor, Tensor]

SMALLEST_EIGENVALUE = 1e-3
"""Far above the rounding of a kernel (1e-7 for a hundred thousand units), far below what different codes leave."""

_ACTIVATIONS = frozenset(getattr(F, name) for name in ACTIVATIONS if name != "none")
_NORMS = frozenset({F.batch_norm, F.instance_norm, F.group_norm, F.layer_norm, F.rms_norm})


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


@dataclass(frozen=True, kw_only=True)
class ZiCo:
    """ZiCo: Σ over learned operations of log Σ over their weights of mean |gradient| / its standard deviation.

    Mean and (population) deviation are over batches, the gradients those of the cross-entropy with the labels. Where
    they are large and steady, training should be fast.

    levels, seed: see :mod:`evaluators.zero_cost.proxies`. batches: at least two; two are the default of the authors'
    code. data: a data spec or a Dataset whose training images and labels make the batches, in place of random ones.

    Notes
    -----
    The deviation is that of the signed gradient, as in the authors' code. As there, a weight whose gradient is the same
    in every batch is left out (it includes the weights that the point does not use), and an operation without any other
    adds nothing; a network without learned operations scores 0. Unlike there, gradients do not add up from batch to
    batch. Ours: norms' parameters and biases do not count, and gradients that overflow are left out.

    With two batches, (|a| + |b|) / |a − b| has no finite mean over random a and b: the few weights whose gradients all
    but coincide decide an operation's sum, and rounding decides some of those. So the score moves by up to 1 % where
    sums are rounded differently, as on another machine (a seed moves it by 1.4 %); with three batches it is 0.02 % and
    0.4 %, with four 0.002 % and 0.3 % (10 networks at 12×12).

    References
    ----------
    Li, Yang, Bhardwaj & Marculescu, ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients, ICLR 2023,
    arXiv 2301.11300.
    """

    needs: ClassVar[Needs] = "batch"
    levels: Levels = "largest"
    batches: int = 2
    batch_size: int = 64
    data: str | Dataset | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.levels, batch_size=self.batch_size, batches=self.batches)

    def __call__(self, architecture: Architecture) -> float:
        with _one_thread():
            network = fresh_network(architecture, self.seed)
            drawn = draw_batches(architecture, self.batches, self.batch_size, self.data, self.seed)
            return _over(self.levels, network, lambda level: log_steadiness(gradients(network, drawn, level)))


def fresh_network(architecture: Architecture, seed: int = 0) -> AnytimeNetwork:
    """The untrained network of an architecture's canonical form, in training mode; weights follow from its key."""
    generator = torch.Generator().manual_seed(seed_of(architecture.network_key, "zero-cost weights", seed))
    network = AnytimeNetwork(architecture.canonical, generator=generator)
    channels_last(network, architecture.task.input_shape)
    return network


def draw_batches(
    architecture: Architecture, count: int, size: int, data: str | Dataset | None = None, seed: int = 0
) -> list[Batch]:
    """Batches (x of shape (N, \\*input_shape), labels (N,)) that follow from the architecture's key.

    Without data, x is random normal and labels are uniform; else they are distinct training images, standardised. Of
    few images, batches are smaller than ``size``.

    Raises UserError when the data are for another task, or too few for batches of two.
    """
    task, generator = architecture.task, torch.Generator()
    generator.manual_seed(seed_of(architecture.network_key, "zero-cost batch", seed))
    if data is not None:
        return _draw_images(task, generator, count, size, data)
    drawn = []
    for _ in range(count):
        x = torch.randn(size, *task.input_shape, generator=generator)
        labels = torch.randint(task.num_classes, (size,), generator=generator)
        drawn.append((x.contiguous(memory_format=torch.channels_last) if _is_flat(task) else x, labels))
    return drawn


def code_kernel(network: AnytimeNetwork, x: Tensor, level: int) -> Tensor:
    """Number of units on which the codes of two inputs agree, for all pairs: shape (N, N), float64."""
    codes = _Codes(len(x))
    with torch.no_grad(), codes:
        network(x, level)
    return codes.kernel_NN


def log_determinant(kernel_NN: Tensor) -> float:
    """log det of a symmetric positive semidefinite matrix, eigenvalues below ``SMALLEST_EIGENVALUE`` raised to it."""
    return float(torch.linalg.eigvalsh(kernel_NN).clamp(min=SMALLEST_EIGENVALUE).log().sum())


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


def gradients(network: AnytimeNetwork, drawn: Sequence[Batch], level: int) -> list[Tensor]:
    """Gradients of the cross-entropy by the weights of every live learned operation, each (B, P), float64."""
    weights = [layer.weight for layer in network.operation_layers if layer.weight is not None]
    rows = []
    with torch.enable_grad():
        for x, labels in drawn if weights else ():
            loss = F.cross_entropy(network(x, level), network.labels(labels, level))
            rows.append(torch.autograd.grad(loss, weights, allow_unused=True))
    return [torch.stack(found).flatten(1).double() for found in zip(*rows) if found[0] is not None]


def log_steadiness(gradients_BP: Iterable[Tensor]) -> float:
    """Σ over operations of log Σ over weights of mean |g| / std g, from gradients of shape (B, P) each.

    >>> log_steadiness([torch.tensor([[1.0, 2.0, 5.0], [3.0, -2.0, 5.0]])])  # log(2/1 + 2/2): the third is left out
    1.0986122886681098
    """
    total = 0.0
    for g_BP in gradients_BP:
        varied_BP = g_BP[:, g_BP.isfinite().all(0) & (g_BP.amax(0) > g_BP.amin(0))]
        if varied_BP.shape[1]:
            total += math.log(float((varied_BP.abs().mean(0) / varied_BP.std(0, correction=0)).sum()))
    return total


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


def _over(levels: Levels, network: AnytimeNetwork, score: Callable[[int], float]) -> float:
    return fmean(map(score, range(network.levels))) if levels == "mean" else score(network.levels - 1)


def _check(levels: str, **at_least_two: int) -> None:
    if levels not in ("largest", "mean"):
        raise UserError(f"levels must be 'largest' or 'mean'. Got {levels!r}.")
    for name, number in at_least_two.items():
        if not (type(number) is int and number >= 2):
            raise UserError(f"{name} must be a whole number of at least 2. Got {number!r}.")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_flat(task: Task) -> bool:
    """Whether inputs are images, of which convolutions are faster when channels come last in memory."""
    return len(task.input_shape) == 3


@lru_cache(maxsize=4)
def _images(data: str | Dataset) -> tuple[Dataset, Preprocessing]:
    dataset = load(data) if isinstance(data, str) else data
    return dataset, Preprocessing.fit(dataset.x_train)


def _draw_images(task: Task, generator: torch.Generator, count: int, size: int, data: str | Dataset) -> list[Batch]:
    dataset, preprocessing = _images(data)
    if (dataset.task.input_shape, dataset.num_classes) != (task.input_shape, task.num_classes):
        raise UserError(
            f"The proxy's data must be those of the task, {task.input_shape} and {task.num_classes} classes. "
            f"Got {dataset.task.input_shape} and {dataset.num_classes} from {dataset.name!r}."
        )
    size = min(size, len(dataset.y_train) // count)
    if size < 2:
        raise UserError(f"The proxy's data must fill {count} batches of two. Got {len(dataset.y_train)} images.")
    rows = torch.randperm(len(dataset.y_train), generator=generator)[: count * size].numpy()
    drawn = batches(dataset.x_train, dataset.y_train, size=size, preprocessing=preprocessing, rows=rows)
    return list(drawn.evaluate())
