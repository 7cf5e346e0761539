"""Checks of proxies; the contract is :class:`nas.proxies.contract.Proxy`."""

from __future__ import annotations

import math
from typing import Any, get_args

from nas.proxies.contract import Needs
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.testing.checks import Check, Subject, global_randomness_untouched, has_docstring, named, require, run_all


def proxy_checks(proxy: Any) -> list[Check]:
    """The checks of a proxy that needs only the topology, for use as test parameters.

    Parameters
    ----------
    proxy : object, type or str
        A proxy, its class, or its name or ``file.py:Name``.

    Returns
    -------
    list of (str, callable)
        Name and function of each check. The function takes no arguments and raises PluginError if the check fails.
    """
    return named(_CHECKS, Subject(proxy, "nas.proxies"))


def check_proxy(proxy: Any) -> None:
    """Run all checks of a proxy.

    Parameters
    ----------
    proxy
        As in :func:`proxy_checks`.

    Raises
    ------
    PluginError
        At the first check that fails.
    """
    run_all(proxy_checks(proxy))


def sample_architectures() -> list[Architecture]:
    """A few small networks that differ in depth, width and skips; the same at every call.

    Returns
    -------
    list of Architecture
    """
    return [_sample((n, 2 * n), depth, skip) for n in (4, 8) for depth in (1, 3) for skip in (False, True)]


def _sample(slices: tuple[int, ...], depth: int, skip: bool) -> Architecture:
    builder = Builder(Task(input_shape=(1, 8, 8), num_classes=10))
    x = builder.conv(builder.input, slices, after=("norm", "relu"))
    for _ in range(depth):
        source, x = x, builder.conv(x, slices, after=("norm",), activation="relu")
        if skip:
            builder.identity(source, x)
    builder.head(x)
    return builder.architecture(points=2)


def _scores(subject: Subject) -> list[float]:
    proxy = subject.load()
    scorer = proxy() if isinstance(proxy, type) else proxy
    return [scorer(architecture) for architecture in sample_architectures()]


def _docstring(subject: Subject) -> None:
    has_docstring(subject.load())


def _declares_needs(subject: Subject) -> None:
    needs = getattr(subject.load(), "needs", None)
    require(needs in get_args(Needs), f"A proxy must declare needs as one of {get_args(Needs)}. Got {needs!r}.")


def _finite_numbers(subject: Subject) -> None:
    bad = [score for score in _scores(subject) if not (isinstance(score, (int, float)) and math.isfinite(score))]
    require(not bad, f"A score must be a finite number. Got {bad[:1]}.")


def _pure(subject: Subject) -> None:
    with global_randomness_untouched():
        first, second = _scores(subject), _scores(subject)
    require(first == second, f"Equal architectures must have equal scores. Got {first}, then {second}.")


def _distinguishes(subject: Subject) -> None:
    scores = _scores(subject)
    require(
        len(set(scores)) > 1,
        f"Different networks must have different scores. Got {scores[0]!r} for all {len(scores)} samples.",
    )


_CHECKS = (_docstring, _declares_needs, _finite_numbers, _pure, _distinguishes)
