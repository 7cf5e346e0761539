"""From stored images to the input of a network, which keeps its preprocessing with its weights.

Shape suffixes: N examples, B examples of a batch, C channels, H height, W width, S all that follow C.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import DataError

if TYPE_CHECKING:
    import torch

CHUNK_BYTES = 2**19
"""Of images that are converted to float64 at once: what fits into a cache is twice as fast as 2**22."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """(x · scale − mean) / std per channel: the preprocessing of raw images.

    Parameters
    ----------
    mean, std
        One number per channel, of training images times `scale`.
    scale
        1/255 for integers, 1.0 for floats. Images of the other type are rejected: a network that was trained on 0..255
        gives wrong results for 0..1 without an error.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std, self.scale)
        positive = min((*self.std, self.scale)) > 0
        if not (self.mean and len(self.mean) == len(self.std) and np.isfinite(numbers).all() and positive):
            raise DataError(f"Preprocessing needs a mean and a std > 0 for every channel, and a scale > 0. Got {self}.")

    @classmethod
    def fit(cls, images_NCS: np.ndarray, *, rows: np.ndarray | None = None) -> Preprocessing:
        """The statistics of training images.

        Parameters
        ----------
        images_NCS
            Shape (N, C, \\*S), uint8 or float32.
        rows
            Indices of the images that count, (n,); by default all.

        Returns
        -------
        Preprocessing
            With the mean and the standard deviation of every channel.

        Notes
        -----
        One pass in float64, merging chunks by Chan's update, so that the result is exact to rounding and memmaps stay
        on disk. A std below one grey level (uint8) counts as that level; a channel that is constant in floats gets 1.
        """
        scale = 1 / 255 if images_NCS.dtype == np.uint8 else 1.0
        rows = np.arange(len(images_NCS)) if rows is None else np.asarray(rows)
        if not len(rows):
            raise DataError("Preprocessing needs at least one image. Got none.")
        channels = images_NCS.shape[1]
        count, mean, squares = 0, np.zeros(channels), np.zeros(channels)
        for part in np.array_split(rows, min(len(rows), 1 + len(rows) * images_NCS[0].nbytes // CHUNK_BYTES)):
            chunk = np.moveaxis(images_NCS[part], 1, 0).reshape(channels, -1).astype(np.float64)
            size, chunk_mean = chunk.shape[1], chunk.mean(1)
            chunk -= chunk_mean[:, None]
            delta, total = chunk_mean - mean, count + size
            squares += np.einsum("ci,ci->c", chunk, chunk) + delta**2 * count * size / total
            mean += delta * size / total
            count = total
        mean, std = mean * scale, np.sqrt(squares / count) * scale
        std = np.maximum(std, scale) if scale != 1 else np.where(std <= 1e-7 * np.abs(mean), 1.0, std)
        return cls(mean=tuple(mean.tolist()), std=tuple(std.tolist()), scale=scale)

    def __call__(self, images_BCS: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Standardise raw images.

        Parameters
        ----------
        images_BCS
            Shape (B, C, H, W) or (B, C, T, H, W). Integers from 0 to 255 or booleans if the network was trained on
            these, else floats.

        Returns
        -------
        torch.Tensor
            The same shape, float32, on the same device; 4-D images in channels_last memory format.

        Raises
        ------
        DataError
            For another number of channels, or another type or range of numbers.
        """
        import torch

        images_BCS, channels = torch.as_tensor(images_BCS), len(self.mean)
        if images_BCS.ndim not in (4, 5) or images_BCS.shape[1] != channels:
            shape = tuple(images_BCS.shape)
            raise DataError(f"Images must be (B, {channels}, H, W), or (B, {channels}, T, H, W). Got shape {shape}.")
        if (self.scale != 1) == images_BCS.is_floating_point():
            expected = "integers, 0 to 255" if self.scale != 1 else "floats"
            raise DataError(f"Images must be {expected}, as in training. Got {images_BCS.dtype}: convert them.")
        if images_BCS.dtype not in (torch.uint8, torch.bool) and not images_BCS.is_floating_point() and len(images_BCS):
            images_BCS = images_BCS.long()  # torch finds no minimum of uint16
            low, high = int(images_BCS.min()), int(images_BCS.max())
            if low < 0 or high > 255:
                raise DataError(f"Integers in images must lie in 0..255, as in training. Got {low} to {high}.")
        std, mean = np.array(self.std), np.array(self.mean)
        factor_C, offset_C = (
            torch.tensor(numbers, dtype=torch.float32, device=images_BCS.device)
            for numbers in (self.scale / std, -mean / std)
        )
        if images_BCS.ndim == 5:
            return images_BCS.float().mul(factor_C.view(-1, 1, 1, 1)).add_(offset_C.view(-1, 1, 1, 1))
        x_BHWC = images_BCS.to(torch.float32, memory_format=torch.channels_last, copy=True).movedim(1, -1)
        width = x_BHWC.shape[2]  # whole rows at once: broadcasting over three channels takes several times as long
        x_BHWC.view(*x_BHWC.shape[:2], -1).mul_(factor_C.repeat(width)).add_(offset_C.repeat(width))
        return x_BHWC.movedim(-1, 1)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dump`, read back by `from_json`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Preprocessing:
        """The reverse of `to_json`, exactly. Raises DataError for a field that is missing, unknown or not a number."""
        try:
            values = {name: float(data[name]) if name == "scale" else tuple(map(float, data[name])) for name in data}
            return cls(**values)  # type: ignore[arg-type]
        except (TypeError, KeyError, ValueError) as error:
            raise DataError(f"Preprocessing needs mean, std and scale, all numbers. Got {data!r}.") from error
