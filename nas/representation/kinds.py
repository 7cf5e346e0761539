"""Kinds of operations: the shapes, the weights and the torch function of each.

A kind is looked up by name in the entry point group ``nas.kinds``, so a new kind needs no edit here. A kind only
declares whether it *mixes* channels (an output channel may read every input channel of its group) or is *aligned*
(output channel c reads input channel c); :mod:`nas.representation.wiring` derives from that which channels an operation
connects.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cache, lru_cache
from typing import TYPE_CHECKING, ClassVar

from nas.errors import InvalidArchitecture, PluginError
from nas.plugins import load_plugin
from nas.representation.elements import Operation, Size

if TYPE_CHECKING:
    import torch


class Kind(ABC):
    r"""One kind of operation; the contract of plug-ins in the group ``nas.kinds``.

    A kind has no state: one object without arguments is made per process and shared by all networks.
    :func:`nas.testing.check_kind` tests an implementation.

    Attributes
    ----------
    learned : bool
        Whether it has a weight, of shape (target channels, source channels / groups, \*weight_size(operation)). A
        learned kind mixes channels, and a weight of 0 means that the pair of channels is not connected.
    mixing : bool
        True if an output channel may read every input channel of its group; False if output channel c reads only input
        channel c.
    """

    learned: ClassVar[bool]
    mixing: ClassVar[bool]

    @abstractmethod
    def output_size(self, operation: Operation, size: Size) -> Size:
        """Spatial size of the output.

        Called for every operation of every topology that is built, so it must be quick.

        Parameters
        ----------
        operation : Operation
            Its window (kernel, stride and padding) and its groups.
        size : tuple of int
            Spatial size of the input; () for a vector.

        Returns
        -------
        tuple of int

        Raises
        ------
        InvalidArchitecture
            If the operation cannot read an input of this size.
        """

    def weight_size(self, operation: Operation) -> Size:
        """Trailing dimensions of the weight, such as the kernel; () for one weight per connected pair of channels.

        An operation costs one multiply-accumulate for each weight and output position.

        Parameters
        ----------
        operation : Operation

        Returns
        -------
        tuple of int
        """
        return ()

    def high_gain(self, operation: Operation) -> float:
        """Factor by which an operation without weights changes the amplitude of high spatial frequencies.

        Less than 1 for a kind that averages over positions: at most 1, and more than 0. This is the rule of a kind in
        :mod:`nas.chain.training`; operations with weights draw a new signal, whatever their kind is.

        Parameters
        ----------
        operation : Operation

        Returns
        -------
        float
        """
        return 1.0

    @abstractmethod
    def apply(
        self, operation: Operation, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, groups: int
    ) -> torch.Tensor:
        r"""Run the operation with torch.

        Parameters
        ----------
        operation : Operation
            Its kernel, stride and padding. ``operation.groups`` counts at full width; use ``groups`` instead.
        x : Tensor
            Active source channels, shape (N, source channels, \*size). Must not be changed in place.
        weight : Tensor or None
            Cut to the active channels, shape (target channels, source channels / groups, \*weight_size); None if the
            kind is not learned.
        bias : Tensor or None
            Shape (target channels,); added to the output.
        groups : int
            Number of active groups.

        Returns
        -------
        Tensor
            Shape (N, target channels, \*output_size); an aligned kind keeps the number of channels.
        """


def _window(operation: Operation, size: Size) -> Size:
    return window_size(operation.kernel, operation.stride, operation.padding, size)


@lru_cache(maxsize=4096)  # a search asks for the same few sizes thousands of times
def window_size(kernel: Size, stride: Size, padding: Size, size: Size) -> Size:
    """Spatial size of the output of a sliding window.

    Parameters
    ----------
    kernel, stride, padding : tuple of int
        One entry per spatial dimension.
    size : tuple of int
        Spatial size of the input, one to three dimensions.

    Returns
    -------
    tuple of int

    Raises
    ------
    InvalidArchitecture
        If a number is out of range or the window does not fit.

    Examples
    --------
    >>> window_size((3, 3), (2, 2), (1, 1), (8, 7))
    (4, 4)
    """
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
        stride = operation.stride
        if max(operation.kernel) == 1 and max(stride) > 1 and not any(operation.padding):
            # The same values. oneDNN's kernels for strides write past their workspace if channels are few
            # (github.com/uxlfoundation/oneDNN/issues/6035): wrong gradients, or a crash.
            x = x[(..., *(slice(None, None, step) for step in stride))]
            stride = (1,) * len(stride)
        return conv(x, weight, bias, stride, operation.padding, groups=groups)


class Linear(Kind):
    """Fully connected layer from a vector, or from a map of spatial size 1, to a vector."""

    learned = True
    mixing = True

    def output_size(self, operation: Operation, size: Size) -> Size:
        _no_window(operation)
        if operation.groups > 1:
            raise InvalidArchitecture(f"A linear operation has no groups. Got {operation.groups=}.")
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
    """Mean over a window; padded positions are not counted."""

    learned = False
    mixing = False

    def output_size(self, operation: Operation, size: Size) -> Size:
        return _pool_size(operation, size)

    def high_gain(self, operation: Operation) -> float:
        return math.prod(operation.kernel) ** -0.5

    def apply(self, operation, x, weight, bias, groups):
        import torch
        from torch.nn import functional as F

        kernel, stride, padding = operation.kernel, operation.stride, operation.padding
        if len(kernel) == 3 and any(n < k for n, k in zip(x.shape[2:], kernel)):  # torch refuses this even with padding
            around = [p for p in reversed(padding) for _ in range(2)]
            inside = F.avg_pool3d(F.pad(torch.ones_like(x[:1, :1]), around), kernel, stride)
            return F.avg_pool3d(F.pad(x, around), kernel, stride) / inside
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
        return pool(x, kernel, stride, padding, count_include_pad=False)


class GlobalAvgPool(Kind):
    """Mean over all positions: a map becomes a vector; a vector is returned unchanged."""

    learned = False
    mixing = False

    def output_size(self, operation: Operation, size: Size) -> Size:
        _no_window(operation)
        return ()

    def apply(self, operation, x, weight, bias, groups):
        return x.mean(dim=tuple(range(2, x.dim()))) if x.dim() > 2 else x


@cache
def kind(name: str) -> Kind:
    """The kind with this name.

    Parameters
    ----------
    name : str
        Name of an entry point in the group ``nas.kinds``, or ``path/file.py:Name``.

    Returns
    -------
    Kind
        The same object at every call.

    Raises
    ------
    PluginError
        If no kind has this name, or if the class does not declare what :class:`Kind` requires.
    """
    plugin = load_plugin("nas.kinds", name)
    check_declared(plugin, name)
    return plugin()


def check_declared(plugin: object, name: str) -> None:
    """Raise PluginError unless a plug-in is a class that declares and defines what :class:`Kind` requires."""
    if not (isinstance(plugin, type) and issubclass(plugin, Kind)):
        raise PluginError(f"A kind must be a subclass of nas.representation.kinds.Kind. Got {plugin!r} from {name!r}.")
    declared = getattr(plugin, "learned", None), getattr(plugin, "mixing", None)
    if not all(isinstance(value, bool) for value in declared):
        raise PluginError(f"A kind must declare learned and mixing as True or False. Got {declared} from {name!r}.")
    if declared == (True, False):
        raise PluginError(
            f"A learned kind must mix channels; use groups for one weight per channel. Got mixing=False from {name!r}."
        )
    if missing := sorted(plugin.__abstractmethods__):
        raise PluginError(f"A kind must define {', '.join(missing)}. {name!r} does not.")
