"""Augmentation of a whole batch at once, on its device: random crops with zero padding, and horizontal flips.

It works on raw images, before standardisation. There, padding is black, as in the recipes that accuracies are
compared with; uint8 moves a quarter of the bytes of float32; and the training statistics stay those of whole images.
For float images, 0 is black where they lie in 0..1, and about the mean where they came standardised: both do.
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
"""What `augmentation` takes."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Shifts each image by up to `pad` pixels, filling with 0, and mirrors every second one on average.

    pad: largest shift in pixels, (vertical, horizontal); (0, 0) does not crop.
    flip: whether images are mirrored left to right, with probability 1/2.
    """

    pad: tuple[int, int] = (0, 0)
    flip: bool = False

    def __post_init__(self) -> None:
        if len(self.pad) != 2 or min(self.pad) < 0:
            raise DataError(f"Padding must be two numbers of pixels ≥ 0. Got {self.pad=}.")

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Images (B, C, H, W) or videos (B, C, T, H, W), all frames of a video alike; same shape, dtype and device.

        Numbers are drawn where `generator` lives: one on the CPU gives the same images on every device.
        """
        x_BFHW = images.flatten(1, -3)
        if any(self.pad):
            x_BFHW = _crop(x_BFHW, self.pad, generator)
        if self.flip:
            x_BFHW = _flip(x_BFHW, generator)
        return x_BFHW.reshape(images.shape)


def augmentation(name: str, task: Task) -> Augmentation:
    """The augmentation called `name`, sized for the images of `task`: shifts of up to an eighth, at least one pixel.

    `auto` crops, and flips where there are at least three channels: photographs mostly keep their class in the mirror,
    digits and letters, mostly grey, do not. Colour images of text (SVHN) want `crop`. Raises DataError.
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
