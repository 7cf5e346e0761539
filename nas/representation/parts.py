"""Operations and maps for the builder: equal ones are one object.

The networks of a space have few different ones, so each is constructed and checked once: 4,000 networks of `residual`
have 110,000 operations, 1,400 of them different.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from nas.errors import InvalidArchitecture
from nas.plugins import trust_named
from nas.representation.elements import FeatureMap, Operation, Size
from nas.representation.kinds import kind

KEPT = 8192
"""Operations, and maps, that are kept for further networks."""


def operation_on(
    size: Size,
    kind_name: str,
    source: int,
    target: int,
    kernel: int | Size | None,
    stride: int | Size,
    padding: int | Size | None,
    **rest: Any,
) -> tuple[Operation, Size]:
    """The operation of :meth:`nas.representation.builder.Builder.add` on a map of this size, and the size it produces.

    Raises InvalidArchitecture and PluginError, see there.
    """
    request = (size, kind_name, source, target, kernel, stride, padding)
    if tuple in (type(kernel), type(stride), type(padding)):  # (3.0,) equals (3,), but must be refused
        return _operation_on(*request, **rest)
    try:
        return _kept_operation_on(*request, **rest)
    except TypeError:  # an argument cannot be hashed, such as a list
        return _operation_on(*request, **rest)


def feature_map(slices: tuple[int, ...], **rest: Any) -> FeatureMap:
    """The map with these prefix lengths. rest: further fields. Raises InvalidArchitecture if a field is invalid."""
    try:
        return _kept_feature_map(*slices, **rest)
    except TypeError:  # an argument cannot be hashed, such as a list
        return _feature_map(*slices, **rest)


def _operation_on(
    size: Size,
    kind_name: str,
    source: int,
    target: int,
    kernel: int | Size | None,
    stride: int | Size,
    padding: int | Size | None,
    **rest: Any,
) -> tuple[Operation, Size]:
    if kernel is not None:
        kernel, stride = _spread(kernel, size), _spread(stride, size)
        padding = tuple(k // 2 for k in kernel) if padding is None else _spread(padding, size)
    elif stride == 1 and padding is None:
        kernel = stride = padding = ()
    else:
        raise InvalidArchitecture(f"Stride and padding need a kernel. Got {stride=}, {padding=} for {kind_name!r}.")
    operation = Operation(
        source=source, target=target, kind=kind_name, kernel=kernel, stride=stride, padding=padding, **rest
    )
    trust_named(kind_name)
    return operation, kind(kind_name).output_size(operation, size)


def _spread(value: int | Size, size: Size) -> Size:
    """One entry per spatial dimension."""
    return tuple(value) if isinstance(value, tuple | list) else (value,) * len(size)


def _feature_map(*slices: int, **rest: Any) -> FeatureMap:
    return FeatureMap(channels=slices[-1], slices=slices, **rest)


_kept_operation_on = lru_cache(maxsize=KEPT, typed=True)(_operation_on)
_kept_feature_map = lru_cache(maxsize=KEPT, typed=True)(_feature_map)
