"""Augmentation of a whole batch at once, on its device: random crops with zero padding, and horizontal flips.

It works on raw images, before standardisation, for three reasons: padding is black, as in the recipes of the field;
uint8 images need a quarter of float32's memory traffic; and the training statistics are computed from whole images.
In float images, the padding of 0 is black if they lie in 0..1, and about the mean if they are already standardised.
Shape suffixes: B batch, F channels (times frames, for videos), H height, W width.

References
----------
He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2 (pad 4, crop 32, flip).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from nas.errors import DataError, unknown_name

if TYPE_CHECKING:
    from nas.representation.elements import Task

NAMES = ("auto", "none", "crop", "flip", "crop+flip")
"""Valid names for :func:`augmentation`."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random shift of each image, filled with 0, and random mirroring.

    Parameters
    ----------
    pad
        Largest shift in pixels, (vertical, horizontal); (0, 0): no crop.
    flip
        Mirror left to right with probability 1/2.
    """

    pad: tuple[int, int] = (0, 0)
    flip: bool = False

    def __post_init__(self) -> None:
        if len(self.pad) != 2 or min(self.pad) < 0:
            raise DataError(f"Padding must be two numbers of pixels ≥ 0. Got {self.pad=}.")

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Augment images (B, C, H, W) or videos (B, C, T, H, W), all frames of a video alike.

        Shape, dtype and device are kept. Numbers are drawn on the generator's device: a CPU generator gives equal
        images on every device.
        """
        x_BFHW = images.flatten(1, -3)
        if any(self.pad):
            x_BFHW = _crop(x_BFHW, self.pad, generator)
        if self.flip:
            x_BFHW = _flip(x_BFHW, generator)
        return x_BFHW.reshape(images.shape)


def augmentation(name: str, task: Task) -> Augmentation:
    """The augmentation of this name for the images of a task.

    Parameters
    ----------
    name
        One of :data:`NAMES`. "auto" crops, and also flips images of at least three channels: photographs mostly keep
        their class when mirrored, digits and letters, which are mostly grey, do not. Use "crop" for colour images of
        text (SVHN).
    task
        Determines the largest shift: an eighth of the image, at least one pixel.

    Raises
    ------
    DataError
        Unknown name.
    """
    if name not in NAMES:
        raise DataError(unknown_name("augmentation", name, NAMES))
    if name == "auto":
        name = "crop+flip" if task.input_shape[0] >= 3 else "crop"
    height, width = task.input_shape[-2:]
    pad = (max(1, height // 8), max(1, width // 8)) if "crop" in name else (0, 0)
    return Augmentation(pad=pad, flip="flip" in name)


def _crop(x_BFHW: torch.Tensor, pad: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    batch, _, height, width = x_BFHW.shape
    draw = [torch.randint(2 * most + 1, (batch,), generator=generator, device=generator.device) for most in pad]
    down_B, right_B = (shift.to(x_BFHW.device, non_blocking=True) for shift in draw)
    padded = F.pad(x_BFHW, (pad[1], pad[1], pad[0], pad[0]))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, F, shifts down, shifts right, H, W), a view
    return windows[torch.arange(batch, device=x_BFHW.device), :, down_B, right_B]


def _flip(x_BFHW: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    mirrored_B = torch.rand(len(x_BFHW), generator=generator, device=generator.device) < 0.5
    return torch.where(mirrored_B.to(x_BFHW.device, non_blocking=True)[:, None, None, None], x_BFHW.flip(-1), x_BFHW)
