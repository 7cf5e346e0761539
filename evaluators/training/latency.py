"""Measured latency of a module."""

from __future__ import annotations

import time
from statistics import median

import torch
from torch import nn

WARM_UP, RUNS = 3, 15


@torch.no_grad()
def latency_ms(module: nn.Module, input_shape: tuple[int, ...], *, batch: int = 1, runs: int = RUNS) -> float:
    """Median time of a forward pass, on the module's device and with the current number of torch threads.

    Parameters
    ----------
    module
        In evaluation mode, as deployed: for example ``network.extract(level)``.
    input_shape
        Shape of one example.
    batch
        Examples per pass.
    runs
        Measured passes, after a few unmeasured ones.

    Returns
    -------
    float
        Milliseconds. The median is robust to a few disturbed passes, but not to a busy machine.
    """
    tensors = [*module.parameters(), *module.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    x = torch.randn(batch, *input_shape, generator=torch.Generator().manual_seed(0)).to(device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    seconds = []
    for _ in range(WARM_UP + runs):
        wait()
        started = time.perf_counter()
        module(x)
        wait()
        seconds.append(time.perf_counter() - started)
    return 1e3 * median(seconds[WARM_UP:])
