"""The GPUs of this machine, over which workers are spread."""

from __future__ import annotations

import os

VARIABLE = "CUDA_VISIBLE_DEVICES"
"""Environment variable that limits a process to some GPUs."""


def visible_gpus(device: str) -> tuple[str, ...]:
    """The GPUs that workers of a device may use, as entries of ``CUDA_VISIBLE_DEVICES``.

    Parameters
    ----------
    device
        Name of a torch device, or "auto".

    Returns
    -------
    tuple of str
        Indices, or the entries of this process's variable. Empty without a GPU, and for a device that is another
        accelerator or one particular GPU, such as "cuda:1".
    """
    if device not in ("auto", "cuda"):
        return ()
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [entry.strip() for entry in os.environ.get(VARIABLE, "").split(",") if entry.strip()]
    return tuple(named[:count]) if named else tuple(map(str, range(count)))
