"""What an operation can be: each kind declares its shapes, its weights and how torch runs it.

A kind is found by name through the entry point group ``nas.kinds``, so a new one needs no edit to the core. Wiring
(which channel reads which) is not a kind's business: :mod:`nas.representation.wiring` owns it; a kind only says whether
it *mixes* channels (every output channel may read every input channel of its group) or is *aligned* (channel c reads
channel c).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cache, lru_cache
from typing import TYPE_CHECKING, ClassVar

from nas.errors import InvalidArchitecture, PluginError
from nas.representation.elements import Operation, Size

if TYPE_CHECKING:
    import torch


class Kind(ABC):
    """One kind of operation.

    learned: it has a weight of shape (target channels, source channels / groups, \\*weight_size(operation)), and mixes.
    mixing: an output channel may read every input channel (of its group); otherwise channel c reads channel c.
    """

    learned: ClassVar[bool]
    mixing: ClassVar[bool]

    @abstractmethod
    def output_size(self, operation: Operation, size: Size) -> Size:
        """Spatial size of the output for an input of spatial size ``size``. Raises InvalidArchitecture if none fits."""

    def weight_size(self, operation: Operation) -> Size:
        """Trailing dimensions of the weight: its number of taps is one weight per connected pair of channels each."""
        return ()

    @abstractmethod
    def apply(
        self, operation: Operation, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, groups: int
    ) -> torch.Tensor:
        """Run it on x of shape (N, active source channels, \\*size) with a weight that is already cut to the active
        part.
        """


def _window(operation: Operation, size: Size) -> Size:
    return _window_size(operation.kernel, operation.stride, operation.padding, size)


@lru_cache(maxsize=4096)
def _window_size(kernel: Size, stride: Size, padding: Size, size: Size) -> Size:
    """Size after a window; cached, because a search asks for the same few again and again."""
    if not 1 <= len(size) <= 3:
        raise InvalidArchitecture(f"A window needs one to three spatial dimensions. Got a feature map of size {size}.")
    if not len(kernel) == len(stride) == len(padding) == len(size):
        raise InvalidArchitecture(
            f"Kernel, stride and padding must have one entry per spatial dimension. Got {kernel}, "
            f"{stride}, {padding} for a feature map of size {size}."
        )
    if min(kernel) < 1 or min(stride) < 1 or min(padding) < 0:
        raise InvalidArchitecture(
            f"Kernel and stride must be at least 1, padding at least 0. Got {kernel}, {stride}, {padding}."
        )
    out = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding))
    if min(out) < 1:
        raise InvalidArchitecture(f"The kernel {kernel} must fit the padded feature map. Got size {size}.")
    return out


def _pool_size(operation: Operation, size: Size) -> Size:
    out = _window(operation, size)
    if any(2 * p > k for k, p in zip(operation.kernel, operation.padding)):
        raise InvalidArchitecture(
            f"A pooling's padding must be at most half its kernel. Got {operation.kernel=}, {operation.padding=}."
        )
    return out


def _no_window(operation: Operation) -> None:
    if operation.kernel or operation.stride or operation.padding:
        raise InvalidArchitecture(
            f"The kind {operation.kind!r} has no window. "
            f"Got {operation.kernel=}, {operation.stride=}, {operation.padding=}."
        )


class Conv(Kind):
    """Convolution in one, two or three spatial dimensions; depthwise when groups equals its channels."""

    learned = True
    mixing = True

    def output_size(self, operation: Operation, size: Size) -> Size:
        if not size:
            raise InvalidArchitecture(
                "A convolution must read a feature map with spatial dimensions. Got a vector: use linear."
            )
        return _window(operation, size)

    def weight_size(self, operation: Operation) -> Size:
        return operation.kernel

    def apply(self, operation, x, weight, bias, groups):
        from torch.nn import functional as F

        conv = (F.conv1d, F.conv2d, F.conv3d)[len(operation.kernel) - 1]
        return conv(x, weight, bias, operation.stride, operation.padding, groups=groups)


class Linear(Kind):
    """Fully connected layer from a vector, or from maps of spatial size 1, to a vector."""

    learned = True
    mixing = True

    def output_size(self, operation: Operation, size: Size) -> Size:
        _no_window(operation)
        if math.prod(size) != 1:
            raise InvalidArchitecture(
                f"A linear operation must read a vector; pool the map first. Got spatial size {size}."
            )
        return ()

    def apply(self, operation, x, weight, bias, groups):
        from torch.nn import functional as F

        return F.linear(x.flatten(1), weight, bias)


class Identity(Kind):
    """Skip connection; the only kind that may feed a concat."""

    learned = False
    mixing = False

    def output_size(self, operation: Operation, size: Size) -> Size:
        _no_window(operation)
        return size

    def apply(self, operation, x, weight, bias, groups):
        return x


class MaxPool(Kind):
    """Maximum over a window."""

    learned = False
    mixing = False

    def output_size(self, operation: Operation, size: Size) -> Size:
        return _pool_size(operation, size)

    def apply(self, operation, x, weight, bias, groups):
        from torch.nn import functional as F

        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(operation.kernel) - 1]
        return pool(x, operation.kernel, operation.stride, operation.padding)


class AvgPool(Kind):
    """Mean over a window; padding does not count."""

    learned = False
    mixing = False

    def output_size(self, operation: Operation, size: Size) -> Size:
        return _pool_size(operation, size)

    def apply(self, operation, x, weight, bias, groups):
        import torch
        from torch.nn import functional as F

        kernel, stride, padding = operation.kernel, operation.stride, operation.padding
        if len(kernel) == 3 and any(n < k for n, k in zip(x.shape[2:], kernel)):  # torch refuses that, padded or not
            around = [p for p in reversed(padding) for _ in range(2)]
            inside = F.avg_pool3d(F.pad(torch.ones_like(x[:1, :1]), around), kernel, stride)
            return F.avg_pool3d(F.pad(x, around), kernel, stride) / inside
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
        return pool(x, kernel, stride, padding, count_include_pad=False)


class GlobalAvgPool(Kind):
    """Mean over all positions: a map becomes a vector; a vector stays as it is."""

    learned = False
    mixing = False

    def output_size(self, operation: Operation, size: Size) -> Size:
        _no_window(operation)
        return ()

    def apply(self, operation, x, weight, bias, groups):
        return x.mean(dim=tuple(range(2, x.dim()))) if x.dim() > 2 else x


@cache
def kind(name: str) -> Kind:
    """The kind of this name.

    Raises PluginError if none is installed under it, or if what is installed is not a Kind as described there.
    """
    from nas.plugins import load_plugin

    found = load_plugin("nas.kinds", name)
    if not (isinstance(found, type) and issubclass(found, Kind)):
        raise PluginError(
            f"A kind must be a subclass of nas.representation.kinds.Kind. Got {found!r} under the name {name!r}."
        )
    declared = getattr(found, "learned", None), getattr(found, "mixing", None)
    if not all(isinstance(value, bool) for value in declared):
        raise PluginError(f"A kind must declare learned and mixing as True or False. Got {declared} from {name!r}.")
    if declared == (True, False):
        raise PluginError(
            f"A learned kind mixes channels; one weight a channel is groups. Got {name!r}, which does not."
        )
    if missing := sorted(found.__abstractmethods__):
        raise PluginError(f"A kind must define {', '.join(missing)}. {name!r} does not.")
    return found()
