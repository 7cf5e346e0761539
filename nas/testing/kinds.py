"""Checks of kinds of operations; the contract is :class:`nas.representation.kinds.Kind`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from nas.errors import InvalidArchitecture
from nas.representation.elements import Operation, Size
from nas.representation.kinds import Kind, check_declared
from nas.testing.checks import Check, Subject, global_randomness_untouched, has_docstring, named, require, run_all

if TYPE_CHECKING:
    from torch import Tensor

SIZES: tuple[Size, ...] = ((), (1,), (6,), (1, 1), (6, 5), (5, 6, 5))
"""Spatial sizes of the inputs: vectors, sequences, images and a video."""
WINDOWS: tuple[dict[str, Size], ...] = (
    {},
    *(
        {"kernel": (kernel,) * dims, "stride": (stride,) * dims, "padding": (padding,) * dims}
        for dims, kernel, stride, padding in product((1, 2, 3), (1, 3), (1, 2), (0, 1))
    ),
)
"""Kernel, stride and padding of the operations; {} for an operation without a window."""
EXAMPLES, SOURCES, TARGETS = 2, 4, 6


def kind_checks(kind: Any, windows: Sequence[dict[str, Size]] = WINDOWS) -> list[Check]:
    """The checks of a kind of operation, for use as test parameters.

    Parameters
    ----------
    kind : type or str
        A subclass of :class:`nas.representation.kinds.Kind`, or its name or ``file.py:Name``.
    windows : sequence of dict
        Kernel, stride and padding of the operations that are tried, on vectors, sequences, images and videos. A window
        that the kind refuses with InvalidArchitecture is skipped.

    Returns
    -------
    list of (str, callable)
        Name and function of each check. The function takes no arguments and raises PluginError if the check fails.
    """
    return named(_CHECKS, _Tested(Subject(kind, "nas.kinds"), tuple(windows)))


def check_kind(kind: Any, windows: Sequence[dict[str, Size]] = WINDOWS) -> None:
    """Run all checks of a kind of operation.

    Parameters
    ----------
    kind, windows
        As in :func:`kind_checks`.

    Raises
    ------
    PluginError
        At the first check that fails.
    """
    run_all(kind_checks(kind, windows))


@dataclass(frozen=True)
class _Tested:
    """A kind under test, with the windows that are tried."""

    subject: Subject
    windows: tuple[dict[str, Size], ...]

    @cached_property
    def kind(self) -> Kind:
        return self.subject.load()()

    def sizes(self, groups: int = 1) -> list[tuple[Operation, Size, Size]]:
        """Operation, input size and output size, for every window and input size that the kind accepts."""
        accepted = []
        for window, size in product(self.windows, SIZES):
            operation = Operation(source=0, target=1, kind=str(self), groups=groups, **window)  # type: ignore[arg-type]
            try:
                accepted.append((operation, size, self.kind.output_size(operation, size)))
            except InvalidArchitecture:
                continue
        return accepted

    def cases(self, groups: int = 1) -> list[_Case]:
        """One case for every accepted operation and size, with fixed random input and weight."""
        return [_Case(self.kind, operation, size, out) for operation, size, out in self.sizes(groups)]

    def learned_cases(self, groups: int = 1) -> list[_Case]:
        return self.cases(groups) if self.kind.learned else []

    def __str__(self) -> str:
        return str(self.subject)


@dataclass(frozen=True)
class _Case:
    r"""An operation with an input of a size; x: (N, SOURCES, \*size), weight: (TARGETS, SOURCES / groups, \*taps)."""

    kind: Kind
    operation: Operation
    size: Size
    output_size: Size

    @property
    def targets(self) -> int:
        return TARGETS if self.kind.learned else SOURCES

    @cached_property
    def x(self) -> Tensor:
        return _random((EXAMPLES, SOURCES, *self.size), 0)

    @cached_property
    def weight(self) -> Tensor | None:
        taps = self.kind.weight_size(self.operation)
        return _random((TARGETS, SOURCES // self.operation.groups, *taps), 1) if self.kind.learned else None

    def run(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None, groups: int = 1) -> Tensor:
        return self.kind.apply(self.operation, x, weight, bias, groups)

    def __str__(self) -> str:
        o = self.operation
        return f"kernel={o.kernel}, stride={o.stride}, padding={o.padding} on size {self.size}"


def _random(shape: tuple[int, ...], seed: int) -> Tensor:
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _require_equal(a: Tensor, b: Tensor, requirement: str, case: _Case) -> None:
    require(a.shape == b.shape and a.allclose(b), f"{requirement} They do not for {case}.")


def _docstring(tested: _Tested) -> None:
    has_docstring(tested.subject.load())


def _declared(tested: _Tested) -> None:
    check_declared(tested.subject.load(), str(tested))


def _output_sizes(tested: _Tested) -> None:
    first, second = tested.sizes(), tested.sizes()
    require(first, "output_size must accept some of the windows and sizes. It refused all.")
    require(first == second, "output_size must depend only on its arguments. It changed between two calls.")
    for operation, size, out in first:
        good = type(out) is tuple and all(type(n) is int and n > 0 for n in out)
        require(good, f"output_size must return a tuple of positive int. Got {out!r} for {operation.kernel=}, {size=}.")


def _high_gain(tested: _Tested) -> None:
    for operation, _, _ in tested.sizes():
        gain = tested.kind.high_gain(operation)
        good = isinstance(gain, float) and 0 < gain <= 1
        require(good, f"high_gain must return a float above 0 and at most 1. Got {gain!r} for {operation.kernel=}.")


def _shapes(tested: _Tested) -> None:
    for case in tested.cases():
        out, expected = case.run(case.x, case.weight), (EXAMPLES, case.targets, *case.output_size)
        require(tuple(out.shape) == expected, f"The output must have shape {expected}. Got {tuple(out.shape)}.")
        require(out.dtype == case.x.dtype, f"The output must have the type of the input. Got {out.dtype} for float64.")


def _pure(tested: _Tested) -> None:
    for case in tested.cases():
        x = case.x.clone()
        with global_randomness_untouched():
            first, second = case.run(x, case.weight), case.run(x, case.weight)
        _require_equal(first, second, "Equal inputs must give equal outputs.", case)
        _require_equal(x, case.x, "Inputs must keep their values.", case)


def _examples_independent(tested: _Tested) -> None:
    for case in tested.cases():
        whole, single = case.run(case.x, case.weight), case.run(case.x[:1], case.weight)
        _require_equal(whole[:1], single, "The outputs of one example must not depend on other examples.", case)


def _channels_as_declared(tested: _Tested) -> None:
    for case in tested.cases():
        changed, weight = case.x.clone(), case.weight
        changed[:, 0] += 1
        if weight is not None:
            weight = weight.clone()
            weight[1:, 0] = 0
        elif tested.kind.mixing:
            continue
        before, after = case.run(case.x, weight), case.run(changed, weight)
        requirement = (
            "Target channels with weight 0 for a source channel must not depend on it."
            if tested.kind.learned
            else "Without mixing, channel c must depend only on channel c."
        )
        _require_equal(before[:, 1:], after[:, 1:], requirement, case)


def _prefixes(tested: _Tested) -> None:
    sources, targets = SOURCES // 2, TARGETS // 2
    for case in tested.cases():
        if case.weight is not None:
            masked = case.weight.clone()
            masked[:, sources:] = 0
            whole = case.run(case.x, masked)[:, :targets]
            cut = case.run(case.x[:, :sources], case.weight[:targets, :sources])
            _require_equal(whole, cut, "A cut weight must give the outputs of a weight filled up with zeros.", case)
        elif not tested.kind.mixing:
            whole, cut = case.run(case.x, None)[:, :sources], case.run(case.x[:, :sources], None)
            _require_equal(whole, cut, "The first channels must give the first channels of the output.", case)


def _groups(tested: _Tested) -> None:
    import torch

    for case in tested.learned_cases(groups=2):
        assert case.weight is not None
        both = case.run(case.x, case.weight, groups=2)
        halves = zip(case.x.chunk(2, dim=1), case.weight.chunk(2))
        separate = torch.cat([case.run(x, weight) for x, weight in halves], dim=1)
        _require_equal(both, separate, "Groups must give the outputs of separate operations.", case)


def _bias_is_added(tested: _Tested) -> None:
    for case in tested.learned_cases():
        bias = _random((TARGETS,), 2)
        without, with_bias = case.run(case.x, case.weight), case.run(case.x, case.weight, bias)
        added = without + bias.reshape(-1, *(1 for _ in case.output_size))
        _require_equal(with_bias, added, "A bias must be added to the outputs.", case)


def _trainable(tested: _Tested) -> None:
    gradients: list[Any] = []
    for case in tested.learned_cases():
        assert case.weight is not None
        weight = case.weight.clone().requires_grad_()
        case.run(case.x, weight).square().sum().backward()
        good = weight.grad is not None and bool(weight.grad.isfinite().all())
        require(good, f"The weight must have a finite gradient. It has none for {case}.")
        gradients.append(weight.grad)
    require(
        not gradients or any(bool(each.any()) for each in gradients), "The weight must have a gradient that is not 0."
    )


def _macs_as_counted(tested: _Tested) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for case in tested.cases():
        with FlopCounterMode(display=False) as counter:
            case.run(case.x, case.weight)
        counted, macs = counter.get_total_flops() / 2, 0
        if case.weight is not None:
            macs = EXAMPLES * prod(case.output_size) * case.weight.numel()
        good = counted in (0, macs)  # 0: torch does not count the operation
        require(good, f"MACs must be one per weight and output position, {macs}. Torch counts {counted:g} for {case}.")


_CHECKS = (
    _docstring,
    _declared,
    _output_sizes,
    _high_gain,
    _shapes,
    _pure,
    _examples_independent,
    _channels_as_declared,
    _prefixes,
    _groups,
    _bias_is_added,
    _trainable,
    _macs_as_counted,
)
