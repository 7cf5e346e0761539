"""How long a network takes to answer, measured."""

from __future__ import annotations

import time
from statistics import median

import torch
from torch import nn

WARM_UP, RUNS = 3, 15


@torch.no_grad()
def latency_ms(module: nn.Module, input_shape: tuple[int, ...], *, batch: int = 1, runs: int = RUNS) -> float:
    """Median milliseconds of a forward pass on the device of the module, with the torch threads that are set.

    module: in evaluation mode, such as ``network.extract(level)``: what would be deployed. input_shape: without batch.
    Medians stand a few runs that something else disturbs; on a busy machine all are.
    """
    tensors = [*module.parameters(), *module.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    x = torch.randn(batch, *input_shape, generator=torch.Generator().manual_seed(0)).to(device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    taken = []
    for _ in range(WARM_UP + runs):
        wait()
        started = time.perf_counter()
        module(x)
        wait()
        taken.append(time.perf_counter() - started)
    return 1e3 * median(taken[WARM_UP:])
