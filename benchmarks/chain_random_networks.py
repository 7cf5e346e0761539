"""The training chain against networks of random weights, and the rules that were tried for what it leaves open.

Three parts. *operation*: noise of four spectra through one operation, and noise as the gradient back: share of the high
band behind it and gain of the energy, measured and in the chain. *network*: candidates of the tuning half of the
population, He-initialised, noise as images and as the gradient of the logits: share of the high band that every
convolution reads, share in the gradient at its output, and logarithm of that gradient's energy, against the chain with
each rule (mean absolute errors over convolutions; energies without their mean over the network). *ranking*: Kendall τ
of the score with each rule on the tuning half, its paired bootstrap difference to the chain without further rules, and
the same on the report half for the rule that was adopted.

The high band is the half of the spatial frequencies with the largest radius. Means of channels over a batch are removed
from signals, as norms do. Prints tables; writes rows/chain_random_networks.csv.

    python benchmarks/chain_random_networks.py [--networks 12] [--images 32]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from bootstrap import bootstrap_difference
from population import HIGH, LOW, read
from ranking import ROWS, measures
from torch import Tensor, nn
from torch.nn import functional as F

from nas.audit.statistics import kendall_tau
from nas.chain.training import ACTIVATIONS, GROWTH, WHITENED, depends_on_widths, training_chain
from nas.execution.network import AnytimeNetwork
from nas.proxies.dtmc import dtmc
from nas.representation.architecture import Architecture
from nas.representation.elements import Operation, Subnetwork
from nas.representation.kinds import kind
from nas.representation.topology import Topology
from nas.seeds import seed

CHANNELS, SIZE, RESAMPLES = 64, 32, 2_000


# Rules ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rules:
    """Rules of the chain.

    signal_folds, gradient_folds: behind a learned operation with a stride, signal or gradient is white.
    half_white: a ReLU makes half of the gradient white, as its mask does, and not WHITENED of it.
    pool_folds: the overlap of windows, stride / kernel, damps the high band, and not 1 / kernel.
    pool_power: white noise behind an average pooling has the power 1 / kernel².
    pooled_low: only the low band of the gradient passes a global pooling.
    """

    signal_folds: bool = False
    gradient_folds: bool = False
    half_white: bool = False
    pool_folds: bool = False
    pool_power: bool = False
    pooled_low: bool = False


PLAIN, ADOPTED = "no further rule", "signal white behind strides"
RULES = {
    PLAIN: Rules(),
    ADOPTED: Rules(signal_folds=True),
    "signal and gradient white behind strides": Rules(signal_folds=True, gradient_folds=True),
    "half of the gradient white behind a ReLU": Rules(half_white=True),
    "average pooling damps by the overlap": Rules(pool_folds=True),
    "average pooling loses power": Rules(pool_power=True),
    "global pooling passes the low band": Rules(pooled_low=True),
    "all of these": Rules(*[True] * 6),
}

Waves = list[dict[int, tuple[float, float, float]]]
"""By map: source → amplitude in the low and in the high band, and share of the high band in the source's spectrum."""


def chain_by(rules: Rules, topology: Topology, point: Subnetwork) -> dict[int, tuple[float, float, float, float]]:
    """Learned operation → power and high share of its signal, energy and high share of its gradient."""
    assert not depends_on_widths(topology)
    operations = topology.operations
    live = sorted(point.operations, key=lambda o: operations[o].target)
    bent, bent_maps = set(), {index for index, m in enumerate(topology.maps) if m.activation != "none"}
    bent_maps |= {operations[o].target for o in live if ACTIVATIONS & set(operations[o].after)}
    for o in live:
        if operations[o].source in bent_maps or ACTIVATIONS & set(operations[o].before):
            bent.add(o)
    signals: dict[int, tuple[float, float]] = {}
    waves: Waves = [{} for _ in topology.maps]
    waves[0][-1] = 1.0, 1.0, 0.5
    for o in live:
        operation = operations[o]
        if not kind(operation.kind).learned:
            _pass(waves, operation.source, operation.target, *_gains(operation, rules, gradient=False))
            continue
        power, high = signals[o] = _power(waves[operation.source])
        high += (WHITENED if o in bent else 0.0) * (0.5 - high)
        amplitude = 1.0 if _normed(operation) else math.sqrt(power)
        waves[operation.target][o] = amplitude, amplitude, 0.5 if rules.signal_folds and _strided(operation) else high
    gradients: dict[int, tuple[float, float]] = {}
    waves = [{} for _ in topology.maps]
    waves[point.output][-1] = 1.0, 1.0, 0.5
    for o in reversed(live):
        operation = operations[o]
        if not kind(operation.kind).learned:
            _pass(waves, operation.target, operation.source, *_gains(operation, rules, gradient=True))
            continue
        energy, high = gradients[o] = _power(waves[operation.target])
        high = 0.5 if rules.gradient_folds and _strided(operation) else high
        high += (0.5 if rules.half_white else WHITENED) * (0.5 - high) * (o in bent)
        growth = (GROWTH if o in bent else 1.0) / (signals[o][0] if _normed(operation) else 1.0)
        amplitude = math.sqrt(energy * growth)
        waves[operation.source][o] = amplitude, amplitude, high
    return {o: (*signals[o], *gradients[o]) for o in signals}


def _gains(operation: Operation, rules: Rules, *, gradient: bool) -> tuple[float, float]:
    """Factors of the low and the high amplitude."""
    if operation.kind == "global_avg_pool":
        return 1.0, 0.0 if gradient and rules.pooled_low else 1.0
    if operation.kind != "avg_pool":
        return 1.0, 1.0
    width, stride = (math.prod(sides) ** (1 / len(sides)) for sides in (operation.kernel, operation.stride))
    ratio = min(1.0, stride / width) if rules.pool_folds and not gradient else 1 / width
    low = math.sqrt(2 / (1 + ratio**2)) / width if rules.pool_power else 1.0
    return low, low * ratio


def _pass(waves: Waves, source: int, target: int, low: float, high: float) -> None:
    for origin, (a, b, share) in waves[source].items():
        c, d, _ = waves[target].get(origin, (0.0, 0.0, share))
        waves[target][origin] = c + low * a, d + high * b, share


def _power(waves: dict[int, tuple[float, float, float]]) -> tuple[float, float]:
    low = sum(a * a * (1 - share) for a, _, share in waves.values())
    high = sum(b * b * share for _, b, share in waves.values())
    return low + high, high / (low + high)


def _normed(operation: Operation) -> bool:
    return "norm" in (*operation.before, *operation.after)


def _strided(operation: Operation) -> bool:
    return max(operation.stride, default=1) > 1


def score_by(rules: Rules, architecture: Architecture) -> float:
    """The score of nas.chain.scores.training_scores with these rules, mean over levels. Widths count as there."""
    topology, points = architecture.topology, architecture.points
    terms = [
        _balance_and_view(topology, chain_by(rules, topology, point))
        - _balance_and_view(topology, chain_by(RULES[ADOPTED], topology, point))
        for point in points
    ]
    return dtmc(architecture) + sum(terms) / len(points)


def _balance_and_view(topology: Topology, trained: dict[int, tuple[float, float, float, float]]) -> float:
    """The terms of the score that depend on the chain."""
    total = sum(math.sqrt(energy) for _, _, energy, _ in trained.values())
    balance = view = 0.0
    for o, (_, high, energy, high_gradient) in trained.items():
        p = math.sqrt(energy) / total
        balance -= p * math.log(p)
        reach = (max(topology.operations[o].kernel, default=1) + 1) / 2
        view += p * reach * math.exp(_entropy(high) + _entropy(high_gradient))
    return balance + math.log(view)


def _entropy(share: float) -> float:
    return -share * math.log(share) - (1 - share) * math.log1p(-share) if 0 < share < 1 else 0.0


# Measurement ---------------------------------------------------------------------------------------------------------


def high_frequencies(size: int) -> Tensor:
    """Mask of the half of the frequencies with the largest radius, shape (size, size)."""
    frequencies = torch.fft.fftfreq(size)
    order = (frequencies[:, None] ** 2 + frequencies**2).flatten().argsort(stable=True)
    high = torch.ones(size * size, dtype=torch.bool)
    high[order[: size * size // 2]] = False
    return high.reshape(size, size)


def high_share(x_NCHW: Tensor) -> float:
    """Share of the high band in the energy of maps."""
    spectrum = torch.fft.fft2(x_NCHW).abs().square().sum((0, 1))
    return float(spectrum[high_frequencies(x_NCHW.shape[-1])].sum() / spectrum.sum())


def centred(x_NCHW: Tensor) -> Tensor:
    """Maps without the means of channels over the batch."""
    return x_NCHW - x_NCHW.mean((0, 2, 3), keepdim=True)


def noise(spectrum: str, size: int, images: int) -> Tensor:
    """Noise of unit power: "white", only one band ("low", "high"), or "smooth", a moving average of white noise."""
    x = torch.randn(images, CHANNELS, size, size)
    if spectrum == "smooth":
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="circular"), 3, 1)
    elif spectrum != "white":
        high = high_frequencies(size)
        x = torch.fft.ifft2(torch.fft.fft2(x) * (high if spectrum == "high" else ~high)).real
    return x / x.std()


def convolution(kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    """A convolution that keeps the power of its input in expectation; borders are periodic."""
    layer = nn.Conv2d(
        CHANNELS, CHANNELS, kernel, stride, kernel // 2, groups=groups, bias=False, padding_mode="circular"
    )
    nn.init.normal_(layer.weight, 0, (CHANNELS // groups * kernel**2) ** -0.5)
    return layer


class Concat(nn.Module):
    """Two convolutions of half of the width, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.halves = nn.ModuleList([convolution(), convolution()])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([half(x)[:, : CHANNELS // 2] for half in self.halves], dim=1)


def averages(kernel: int, stride: int, padding: int = 0) -> nn.Module:
    return nn.AvgPool2d(kernel, stride, padding, count_include_pad=False)


OPERATIONS: dict[str, tuple[Callable[[], nn.Module], float | None]] = {
    "conv 3×3": (convolution, None),
    "conv 3×3, stride 2": (lambda: convolution(stride=2), None),
    "conv 1×1, stride 2": (lambda: convolution(1, 2), None),
    "depthwise 3×3": (lambda: convolution(groups=CHANNELS), None),
    "depthwise 5×5": (lambda: convolution(5, groups=CHANNELS), None),
    "concat of two conv 3×3": (Concat, None),
    "ReLU": (nn.ReLU, None),
    "average 2×2, stride 2": (lambda: averages(2, 2), 1 / 2),
    "average 3×3, stride 1": (lambda: averages(3, 1, 1), 1 / 3),
    "average 3×3, stride 2": (lambda: averages(3, 2, 1), 1 / 3),
    "maximum 2×2, stride 2": (lambda: nn.MaxPool2d(2), 1.0),
    "maximum 3×3, stride 1": (lambda: nn.MaxPool2d(3, 1, 1), 1.0),
    "maximum 3×3, stride 2": (lambda: nn.MaxPool2d(3, 2, 1), 1.0),
    "ReLU, then average 2×2, stride 2": (lambda: nn.Sequential(nn.ReLU(), averages(2, 2)), 1 / 2),
    "ReLU, then maximum 2×2, stride 2": (lambda: nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), 1.0),
}
"""Operation, and factor of its high amplitude in the chain; None if it draws a new signal.

In the chain, a ReLU in front of a pooling has no effect.
"""


def of_operations(images: int) -> Iterator[dict[str, Any]]:
    """One row per operation, spectrum and direction: shares of the high band, and gain of the energy."""
    for name, (make, gain) in OPERATIONS.items():
        for spectrum in ("white", "low", "high", "smooth"):
            operation, x = make(), noise(spectrum, SIZE, images).requires_grad_()
            y = operation(x)
            g = noise(spectrum, y.shape[-1], images)
            y.backward(g)
            given, received = x.detach(), x.grad
            assert received is not None
            directions = {
                "signal": (given, centred(y.detach()), y[0, 0].numel() / x[0, 0].numel()),
                "gradient": (g, received, 1.0),
            }
            for direction, (start, end, positions) in directions.items():
                share = high_share(start)
                yield {
                    "part": "operation",
                    "what": name,
                    "direction": direction,
                    "spectrum": spectrum,
                    "before": share,
                    "measured": high_share(end),
                    "chain": _predicted(name, gain, share, signal=direction == "signal"),
                    "gain": float(end.square().sum() / start.square().sum()) / positions,
                }


def _predicted(name: str, gain: float | None, share: float, *, signal: bool) -> float:
    """The share of the high band behind an operation in the chain."""
    if gain is not None:
        return gain**2 * share / (gain**2 * share + 1 - share)
    if name == "ReLU":
        return share + WHITENED * (0.5 - share)
    return 0.5 if signal and "stride 2" in name else share


def measured(architecture: Architecture, images: int) -> dict[int, tuple[float, float, float]]:
    """Convolution → high share of the map that it reads, energy and high share of the gradient behind its norm."""
    torch.manual_seed(0)
    network = AnytimeNetwork(architecture).train()
    inputs: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}

    def keep_input(o: int) -> Callable[..., None]:
        return lambda _, given: inputs.__setitem__(o, given[0].detach())

    def keep_output(o: int) -> Callable[..., None]:
        def keep(_: Any, __: Any, output: Tensor) -> None:
            output.retain_grad()
            outputs[o] = output

        return keep

    for o, layer in enumerate(network.operation_layers):
        if layer.operation.kind == "conv":
            layer.register_forward_pre_hook(keep_input(o))
            (layer.after if layer.after is not None else layer).register_forward_hook(keep_output(o))
    logits = network(torch.randn(images, *architecture.task.input_shape))
    logits.backward(torch.randn(logits.shape))
    found = {}
    for o, x in inputs.items():
        gradient = outputs[o].grad
        assert gradient is not None
        found[o] = high_share(centred(x)), float(gradient.square().sum()), high_share(gradient)
    return found


def of_networks(frame: pd.DataFrame, count: int, images: int) -> Iterator[dict[str, Any]]:
    """One row per network and rule: mean absolute errors over the convolutions of the largest operating point."""
    for space, group in frame[frame.number % 2 == 0].groupby("space"):
        for row in group.drop_duplicates("key").head(count).itertuples():
            architecture: Architecture = row.architecture
            topology, point = architecture.topology, architecture.points[-1]
            found, maps = measured(architecture, images), topology.maps
            found = {o: values for o, values in found.items() if o in point.operations}
            energies = np.log([energy for _, energy, _ in found.values()])
            for name, rules in RULES.items():
                trained = chain_by(rules, topology, point)
                expected = np.log([trained[o][2] for o in found])
                highs = []
                for o in found:
                    high, source = trained[o][1], topology.operations[o].source
                    writers = {step for w in topology.incoming[source] for step in topology.operations[w].after}
                    bent = maps[source].activation != "none" or bool(ACTIVATIONS & writers)
                    highs.append(high + WHITENED * (0.5 - high) * bent)
                errors = {
                    "high band of the signal": np.abs(np.array(highs) - [high for high, _, _ in found.values()]),
                    "high band of the gradient": np.abs([trained[o][3] - found[o][2] for o in found]),
                    "log of the gradient's energy": np.abs(expected - expected.mean() - energies + energies.mean()),
                }
                for what, values in errors.items():
                    yield {
                        "part": "network",
                        "space": space,
                        "key": row.key,
                        "rule": name,
                        "what": what,
                        "operations": len(found),
                        "error": float(values.mean()),
                    }


def of_rankings(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Kendall τ of every rule on the tuning half, and of the adopted one on the report half."""
    values = measures(frame.assign(low=LOW, high=HIGH)).groupby("key")[["accuracy", "-loss"]].mean()
    for half, names in (("tuning", tuple(RULES)), ("report", (PLAIN, ADOPTED))):
        for space, group in frame[frame.number % 2 == (half == "report")].groupby("space"):
            chosen = group.drop_duplicates("key")
            scores = {name: np.array([score_by(RULES[name], a) for a in chosen.architecture]) for name in names}
            for name in names:
                for measure in values:
                    target = values.loc[chosen.key, measure].to_numpy()
                    rng = np.random.default_rng(seed("rules", space, measure))
                    difference = bootstrap_difference(scores[name], scores[PLAIN], target, rng=rng, resamples=RESAMPLES)
                    yield {
                        "part": "ranking",
                        "half": half,
                        "space": space,
                        "rule": name,
                        "what": measure,
                        "n": len(chosen),
                        "tau": kendall_tau(scores[name], target),
                        **dict(zip(("ahead", "low", "high"), difference)),
                    }


def check_adopted(frame: pd.DataFrame) -> None:
    """The chain of this script with the adopted rule is the chain of nas."""
    for architecture in frame.architecture[:40]:
        topology, point = architecture.topology, architecture.points[-1]
        ours = chain_by(RULES[ADOPTED], topology, point)
        for trained in training_chain(topology, point):
            assert np.allclose(ours[trained.operation], trained[1:5], rtol=1e-9)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--population", type=Path, default=ROWS / "population.csv")
    parser.add_argument("--networks", type=int, default=12, help="networks of each space")
    parser.add_argument("--images", type=int, default=32)
    options = parser.parse_args()
    torch.manual_seed(0)
    frame = read(options.population)
    check_adopted(frame)
    rows = pd.DataFrame(
        [
            *of_operations(options.images),
            *of_networks(frame, options.networks, options.images),
            *of_rankings(frame),
        ]
    )
    operations = rows[rows.part == "operation"].pivot_table(
        index=["what", "direction"], columns="spectrum", values=["measured", "chain", "gain"], sort=False
    )
    print(f"Share of the high band behind an operation, and gain of the energy\n{operations.round(2).to_string()}")
    networks = rows[rows.part == "network"].pivot_table(
        index="rule", columns=["space", "what"], values="error", sort=False
    )
    print(f"\nMean absolute errors in networks of random weights\n{networks.round(3).to_string()}")
    ranking = rows[rows.part == "ranking"].set_index(["half", "space", "what", "rule"])[
        ["n", "tau", "ahead", "low", "high"]
    ]
    print(f"\nKendall τ, and difference to {PLAIN!r} with 95 % interval\n{ranking.round(3).to_string()}")
    rows.round(6).to_csv(ROWS / "chain_random_networks.csv", index=False)


if __name__ == "__main__":
    main()
