"""Augmentation of photographs: resized crops, colours and RandAugment, by kornia; and mixed images with mixed labels.

Works on whole batches on their device, with other random numbers for each image; RandAugment draws its operations for a
few images at a time. kornia is imported on use.
Shape suffixes: B batch, C channels, H height, W width, S all axes after C, K classes.

References
----------
Szegedy et al., Going Deeper with Convolutions, CVPR 2015 (random resized crops).
Cubuk, Zoph, Shlens & Le, RandAugment, NeurIPS 2020, arXiv 1909.13719.
Zhang, Cisse, Dauphin & Lopez-Paz, mixup: Beyond Empirical Risk Minimization, ICLR 2018, arXiv 1710.09412.
Yun et al., CutMix, ICCV 2019, arXiv 1905.04899.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from nas.errors import DataError

_Change = Callable[[torch.Tensor], torch.Tensor]
CHANGES = {
    "resized": "random resized crops",
    "jitter": "random colours",
    "randaugment": "RandAugment",
}
"""Changes of single images, in the order in which they are made, in words."""
MIXES = {"mixup": 0.2, "cutmix": 1.0}
"""Mixes of two images, with both parameters of the beta distribution of the share of the first one."""
LARGE = 128
"""Shorter side, in pixels, of images of which a resized crop may be a small part."""
SMALLEST = {True: 0.08, False: 0.25}
"""Least area of a resized crop, as a share, of large and of small images."""
JITTER = 0.4
"""Largest relative change of brightness, contrast and saturation."""
OPERATIONS, MAGNITUDE = 2, 10
"""Of RandAugment: changes of an image, and their size, of 30."""
TOGETHER = 8
"""Images for which RandAugment draws the same operations; each has its own sign and place."""


def check_photographs(changes: Sequence[str], shape: Sequence[int]) -> None:
    """Raise DataError unless images of a shape, (C, *S), can be changed, and kornia is installed."""
    if not changes:
        return
    names = "+".join(changes)
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(
            f"--augment {names} needs images with one or three channels. Got the shape {'×'.join(map(str, shape))}: "
            "use crop, flip, mixup or cutmix."
        )
    try:
        import kornia.augmentation  # noqa: F401
    except ImportError as error:
        raise DataError(f"--augment {names} needs kornia: pip install 'anytime-nas[augment]'.") from error


def photographs(
    images_BCHW: torch.Tensor, changes: Sequence[str], values: tuple[float, float], generator: torch.Generator
) -> torch.Tensor:
    """Changed images, of the same shape and type.

    Parameters
    ----------
    images_BCHW
        Raw images.
    changes
        Names in :data:`CHANGES`.
    values
        Black and white; changes of colours cut off values beyond.
    generator
        Source of the random numbers; the global one of torch is left as it was.
    """
    black, span = values[0], (values[1] - values[0]) or 1.0
    x_BCHW = (images_BCHW.float() - black) / span
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # manual_seed seeds all
    number = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices):
        torch.manual_seed(number)
        for change in _changes(tuple(changes), *images_BCHW.shape[-3:]):
            x_BCHW = change(x_BCHW)
    raw = x_BCHW * span + black
    return (raw if images_BCHW.is_floating_point() else raw.round()).to(images_BCHW.dtype)


@lru_cache(maxsize=8)
def _changes(changes: tuple[str, ...], channels: int, height: int, width: int) -> tuple[_Change, ...]:
    """The changes of images of a size, in their order."""
    import kornia.augmentation as kornia

    least = SMALLEST[min(height, width) >= LARGE]
    saturation = JITTER if channels == 3 else 0.0
    jitter = kornia.ColorJitter(JITTER, JITTER, saturation, 0.0)
    randaugment = kornia.auto.RandAugment(OPERATIONS, MAGNITUDE)

    def in_parts(x_BCHW: torch.Tensor) -> torch.Tensor:
        coloured = x_BCHW.expand(-1, 3, -1, -1)  # it needs three channels; those of grey images stay equal
        return torch.cat([randaugment(part) for part in coloured.clamp(0, 1).split(TOGETHER)])[:, :channels]

    made: dict[str, _Change] = {
        "resized": kornia.RandomResizedCrop((height, width), scale=(least, 1.0)),
        "jitter": lambda x_BCHW: jitter(x_BCHW.clamp(0, 1)),
        "randaugment": in_parts,
    }
    return tuple(made[name] for name in CHANGES if name in changes)


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Mixes each image of a batch with another one, and their labels.

    Parameters
    ----------
    kinds
        Names in :data:`MIXES`; one is drawn for each batch.
    classes
        Number of classes.
    """

    kinds: tuple[str, ...]
    classes: int

    def __call__(
        self, x_BCS: torch.Tensor, y_B: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixed images (B, C, *S), and the probabilities of their classes (B, K), float32."""
        number = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        rng = np.random.default_rng(number)
        kind = self.kinds[rng.integers(len(self.kinds))]
        share = float(rng.beta(MIXES[kind], MIXES[kind]))
        order_B = torch.from_numpy(rng.permutation(len(x_BCS))).to(x_BCS.device)
        if kind == "mixup":
            x_BCS = share * x_BCS + (1 - share) * x_BCS[order_B]
        else:
            height, width = x_BCS.shape[-2:]
            top, bottom = _span(height, 1 - share, rng)
            left, right = _span(width, 1 - share, rng)
            pasted = x_BCS[order_B, ..., top:bottom, left:right]
            x_BCS = x_BCS.clone()
            x_BCS[..., top:bottom, left:right] = pasted
            share = 1 - (bottom - top) * (right - left) / (height * width)
        p_BK = torch.nn.functional.one_hot(y_B, self.classes).float()
        return x_BCS, share * p_BK + (1 - share) * p_BK[order_B]


def _span(size: int, area: float, rng: np.random.Generator) -> tuple[int, int]:
    """One side of a rectangle of a share of the area, about a random centre; the rest outside the image is cut off."""
    half = size * area**0.5 / 2
    centre = rng.uniform(0, size)
    return max(0, round(centre - half)), min(size, round(centre + half))
