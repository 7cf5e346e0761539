"""Augmentation of a whole batch at once, on its device: random crops of padded images, horizontal flips, and others.

Changes of photographs, and mixed images, are in :mod:`evaluators.data.photographs`. Augmentation works on raw images,
before standardisation, for three reasons: padding is black, as in the recipes of the field; uint8 images need a quarter
of float32's memory traffic; and the training statistics are computed from whole images.
Float images are padded with 0, which is black if they lie in 0..1, and about the mean if they are already standardised;
if 0 is outside of their range, with the nearest value in it.
Shape suffixes: B batch, F channels (times frames, for videos), H height, W width.

References
----------
He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2 (pad 4, crop 32, flip).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from evaluators.data.arrays import evenly_spaced
from evaluators.data.datasets import Dataset
from evaluators.data.photographs import CHANGES, MIXES, check_photographs, photographs
from nas.errors import DataError, unknown_name

NAMES = ("auto", "none")
"""Names for :func:`augmentation` that stand alone."""
PARTS = ("crop", "flip", *CHANGES, *MIXES)
"""Names that may be joined by +."""
ALL_PASSES, IMAGES, NONE = 24, 10_000, 0.25
""""auto" changes every image in a training of ALL_PASSES passes over IMAGES images, and no image in NONE of these
passes; between, the share grows with their logarithm. Both grow with the square root of the number of images: shifts
paid from 11 passes on over 8,500 images of CIFAR-10, and cost a point in 26 passes over 51,000 of Fashion-MNIST."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random shift of each image, and random mirroring.

    Parameters
    ----------
    pad
        Largest shift in pixels, (vertical, horizontal); (0, 0): no crop.
    flip
        Mirror left to right with probability 1/2.
    fill
        Value of pixels that are shifted in.
    changes
        Changes of photographs, see :data:`evaluators.data.photographs.CHANGES`.
    values
        Black and white, for these.
    mixes
        Mixes of two images, see :class:`evaluators.data.photographs.Mix`, which are made after standardisation.
    all_passes
        Passes over the training images from which on all images are changed, see :meth:`share`; 0: always.
    """

    pad: tuple[int, int] = (0, 0)
    flip: bool = False
    fill: float = 0.0
    changes: tuple[str, ...] = ()
    values: tuple[float, float] = (0.0, 255.0)
    mixes: tuple[str, ...] = ()
    all_passes: float = 0.0

    def __post_init__(self) -> None:
        if len(self.pad) != 2 or min(self.pad) < 0:
            raise DataError(f"Padding must be two numbers of pixels ≥ 0. Got {self.pad=}.")

    def share(self, passes: float) -> float:
        """Share of the images to change in a training that sees every training image ``passes`` times.

        Examples
        --------
        >>> [round(Augmentation(flip=True, all_passes=24.0).share(passes), 2) for passes in (1, 6, 12, 24)]
        [0.0, 0.0, 0.5, 1.0]
        >>> Augmentation(flip=True).share(1)
        1.0
        """
        if not self.all_passes:
            return 1.0
        return min(1.0, 1 - math.log(max(passes / self.all_passes, NONE)) / math.log(NONE))

    def __call__(self, images: torch.Tensor, generator: torch.Generator, *, share: float = 1.0) -> torch.Tensor:
        """Augment images (B, C, H, W) or videos (B, C, T, H, W), all frames of a video alike.

        Each is changed with the probability ``share``. Shape, dtype and device are kept. Numbers are drawn on the
        generator's device: a CPU generator gives equal images on every device.
        """
        if share >= 1:
            return self._changed(images, generator)
        chosen_B = torch.rand(len(images), generator=generator, device=generator.device) < share
        chosen_B = chosen_B.to(images.device, non_blocking=True)
        images = images.clone()
        images[chosen_B] = self._changed(images[chosen_B], generator)
        return images

    def _changed(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        x_BFHW = images.flatten(1, -3)
        if any(self.pad):
            x_BFHW = _crop(x_BFHW, self.pad, self.fill, generator)
        if self.flip:
            x_BFHW = _flip(x_BFHW, generator)
        if self.changes:
            x_BFHW = photographs(x_BFHW, self.changes, self.values, generator)
        return x_BFHW.reshape(images.shape)

    def __str__(self) -> str:
        """The changes in words, for displays."""
        if not (any(self.pad) or self.flip or self.changes or self.mixes):
            return "none"
        shifts = f"shifts of at most {self.pad[0]}×{self.pad[1]} pixels" if any(self.pad) else "no shifts"
        others = (*(CHANGES[name] for name in CHANGES if name in self.changes), *self.mixes)
        changes = ", ".join((shifts, "mirrored at random" if self.flip else "not mirrored", *others))
        if not self.all_passes:
            return changes
        none, all_of_them = (f"{share * self.all_passes:.0f}" for share in (NONE, 1.0))
        return f"{changes}; of no image in up to {none} passes over the data, of all in {all_of_them} or more"


def augmentation(name: str, dataset: Dataset) -> Augmentation:
    """The augmentation of this name for the training images of a data set.

    Parameters
    ----------
    name
        One of :data:`NAMES`, or some of :data:`PARTS` joined by +. "auto" crops. It also flips the images of data that
        are known to keep their class when mirrored: photographs mostly do; digits, letters, arrows and the sides of a
        scan do not. It changes the more images the longer the training and the fewer the data, because changed images
        cost accuracy until a network has seen the images often enough to know them by heart.
    dataset
        The largest shift is an eighth of the image, rounded down: images are not shifted along sides below 8 pixels.

    Raises
    ------
    DataError
        Unknown name, or a change that these images do not allow.

    Examples
    --------
    >>> from evaluators.data import digits
    >>> print(augmentation("auto", digits()))
    shifts of at most 1×1 pixels, not mirrored; of no image in up to 2 passes over the data, of all in 9 or more
    >>> print(augmentation("crop", digits()))
    shifts of at most 1×1 pixels, not mirrored
    """
    parts = check_augmentation(name)
    all_passes = ALL_PASSES * math.sqrt(len(dataset.x_train) / IMAGES) if name == "auto" else 0.0
    if name == "auto":
        parts = ("crop", "flip") if dataset.mirror_invariant else ("crop",)
    height, width = dataset.x_train.shape[-2:]
    changes = tuple(part for part in parts if part in CHANGES)
    check_photographs(changes, dataset.x_train.shape[1:])
    values = _values(dataset.x_train)
    return Augmentation(
        pad=(height // 8, width // 8) if "crop" in parts else (0, 0),
        flip="flip" in parts,
        fill=float(np.clip(0.0, *values)),
        changes=changes,
        values=values,
        mixes=tuple(part for part in parts if part in MIXES),
        all_passes=all_passes,
    )


def check_augmentation(name: str) -> tuple[str, ...]:
    """The parts of an augmentation's name; none for "auto" and "none". Raises DataError for an unknown name."""
    if name in NAMES:
        return ()
    parts = tuple(name.split("+"))
    for part in parts:
        if part in NAMES:
            raise DataError(f"--augment {part} stands alone. Got {name}: name its parts, such as crop+flip.")
        if part not in PARTS:
            raise DataError(unknown_name("augmentation", part, (*NAMES, *PARTS)))
    if len(set(parts)) < len(parts) or {"crop", "resized"} <= set(parts):
        raise DataError(f"--augment must name different changes, and one kind of crops. Got {name}.")
    return parts


def _values(x_NCS: np.ndarray) -> tuple[float, float]:
    """The least and the largest value of images; those of uint8 are black and white."""
    if x_NCS.dtype == np.uint8:
        return 0.0, 255.0
    seen = evenly_spaced(x_NCS)
    return float(seen.min()), float(seen.max())


def _crop(x_BFHW: torch.Tensor, pad: tuple[int, int], fill: float, generator: torch.Generator) -> torch.Tensor:
    batch, _, height, width = x_BFHW.shape
    draw = [torch.randint(2 * most + 1, (batch,), generator=generator, device=generator.device) for most in pad]
    down_B, right_B = (shift.to(x_BFHW.device, non_blocking=True) for shift in draw)
    padded = F.pad(x_BFHW, (pad[1], pad[1], pad[0], pad[0]), value=fill)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, F, shifts down, shifts right, H, W), a view
    return windows[torch.arange(batch, device=x_BFHW.device), :, down_B, right_B]


def _flip(x_BFHW: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    mirrored_B = torch.rand(len(x_BFHW), generator=generator, device=generator.device) < 0.5
    return torch.where(mirrored_B.to(x_BFHW.device, non_blocking=True)[:, None, None, None], x_BFHW.flip(-1), x_BFHW)
