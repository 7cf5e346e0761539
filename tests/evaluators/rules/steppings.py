"""Small SteppingNets, and a training of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from evaluators.rules.stepping import Stepping, SteppingConstruction
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task, TrainingSpec

TASK = Task(input_shape=(1, 8, 8), num_classes=3)


def proposal(*, norm: bool = True, **settings: Any) -> Architecture:
    """A residual block, a pooling and a linear layer, causal: three coupling groups."""
    b, after, bias = Builder(TASK), ("norm", "relu") if norm else ("relu",), not norm
    x = b.conv(b.input, (2, 4, 6), wiring="causal", after=after, bias=bias)
    h = b.conv(x, (2, 3, 5), wiring="causal", before=("norm", "relu") if norm else (), bias=bias)
    y = b.conv(h, (2, 4, 6), wiring="causal", after=after[:1] if norm else (), bias=bias)
    b.identity(x, y, wiring="causal")
    p = b.map((2, 4, 6))
    b.add("max_pool", y, p, kernel=2, stride=2, padding=0, wiring="causal")
    z = b.conv(p, (3, 5, 7), kernel=4, padding=0, wiring="causal", after=after, bias=bias)
    b.add("linear", z, b.map(3), bias=True)
    made = b.architecture(3, norm="shared")
    return replace(made, training=TrainingSpec(rule="stepping", settings=tuple(sorted(settings.items()))))


def construction(architecture: Architecture | None = None, *, steps: int = 30, **settings: Any) -> SteppingConstruction:
    generator = torch.Generator().manual_seed(0)
    return Stepping(**settings).construct(architecture or proposal(), steps=steps, generator=generator)


def train(made: SteppingConstruction, steps: range, *, rate: float = 0.05, decay: float = 1e-2) -> None:
    """As the trainer does it, on random images."""
    optimiser, generator = _optimiser(made, rate, decay), torch.Generator().manual_seed(1)
    for step in steps:
        x, y = torch.randn(8, 1, 8, 8, generator=generator), torch.randint(3, (8,), generator=generator)
        made.train()
        optimiser.zero_grad()
        for loss in made.losses(step, x.to(next(made.parameters()).dtype), y, generator):
            loss.backward()
        optimiser.step()
        old = {n: optimiser.state[p].get("momentum_buffer") for n, p in made.named_parameters()}
        carry = made.advance(step, generator)
        if carry is not None:
            optimiser = _optimiser(made, rate, decay)
            for name, parameter in made.named_parameters():
                if old[name] is not None:
                    optimiser.state[parameter]["momentum_buffer"] = carry(name, old[name])


def _optimiser(made: SteppingConstruction, rate: float, decay: float) -> torch.optim.SGD:
    return torch.optim.SGD(made.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)


def owners_of(made: SteppingConstruction) -> list[list[int]]:
    return [owner.tolist() for owner in made.owners()]
