"""The contract of proxies: functions that score an architecture without training it.

``dtmc`` is the default proxy. ``macs``, ``params``, ``depth`` and ``count`` are the sizes that a proxy must beat; the
audit (:mod:`nas.audit.audit`) at the end of every search says whether it did.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, cast, get_args

from nas.errors import PluginError, last_line
from nas.plugins import load_plugin
from nas.representation.architecture import Architecture

Needs = Literal["topology", "weights", "batch"]


class Proxy(Protocol):
    """Scores an architecture without training it; a higher score should mean a higher accuracy.

    Notes
    -----
    A study loads its proxy once and calls it for every feasible proposal and for the reference sample of the audit: in
    any order, possibly in several processes. A proxy is pure: architectures with equal keys have equal scores. An
    exception, or a score that is not finite, becomes a PluginError with the name of the proxy.

    Attributes
    ----------
    needs : {"topology", "weights", "batch"}
        Inputs beyond the topology: none, the initial weights, or weights and a batch of data. Determines the cost. The
        generator of weights and data must be seeded by the architecture's ``network_key``.

    See Also
    --------
    proxy : makes a function a proxy.
    nas.testing.check_proxy : checks that a proxy keeps this contract.
    """

    @property
    def needs(self) -> Needs:
        """Inputs beyond the topology."""
        ...

    def __call__(self, architecture: Architecture, /) -> float:
        """The score of an architecture, finite."""
        ...


def proxy(needs: Needs) -> Callable[[Callable[[Architecture], float]], Proxy]:
    """Decorator that makes a function a :class:`Proxy`.

    Parameters
    ----------
    needs : {"topology", "weights", "batch"}
        See :class:`Proxy`.

    Returns
    -------
    callable
        The decorator.

    Examples
    --------
    >>> @proxy("topology")
    ... def maps(architecture):
    ...     return float(len(architecture.topology.maps))
    >>> maps.needs
    'topology'
    """

    def declare(function: Callable[[Architecture], float]) -> Proxy:
        function.needs = needs  # type: ignore[attr-defined]
        return cast(Proxy, function)

    return declare


def load_proxy(spec: str) -> Proxy:
    """Load a proxy.

    Parameters
    ----------
    spec : str
        The name of an entry point, or ``path/file.py:Name``. A class is instantiated without arguments.

    Returns
    -------
    Proxy
        The function, or the instance.

    Raises
    ------
    PluginError
        If the proxy cannot be found or loaded, cannot be called, or does not declare its needs.
    """
    loaded: Any = load_plugin("nas.proxies", spec)
    if isinstance(loaded, type):
        try:
            loaded = loaded()
        except Exception as error:
            raise PluginError(
                f"The proxy {spec!r} must be constructed without arguments. Got {last_line(error)}"
            ) from error
    if not callable(loaded):
        raise PluginError(f"A proxy must be a function of an architecture. Got {loaded!r} under the name {spec!r}.")
    needs = getattr(loaded, "needs", None)
    if needs not in get_args(Needs):
        raise PluginError(
            f"A proxy must declare needs as one of {', '.join(get_args(Needs))}. Got {needs!r} from {spec!r}. "
            "Put @nas.proxies.proxy('topology') above the function."
        )
    return loaded


def evaluate(architecture: Architecture, proxies: Mapping[str, Proxy]) -> dict[str, float]:
    """Score an architecture by several proxies.

    Parameters
    ----------
    architecture : Architecture
        The architecture to score.
    proxies : mapping of str to Proxy
        By name.

    Returns
    -------
    dict of str to float
        The scores by name, in the order of ``proxies``.

    Raises
    ------
    PluginError
        If a proxy raises an exception, or returns a value that is not a finite number.
    """
    scores = {}
    for name, score_of in proxies.items():
        try:
            score = float(score_of(architecture))
        except Exception as error:
            raise PluginError(
                f"The proxy {name!r} failed on architecture {architecture.key}: {last_line(error)}"
            ) from error
        if not math.isfinite(score):
            raise PluginError(
                f"A proxy must return a finite number. Got {score} from {name!r} on architecture {architecture.key}."
            )
        scores[name] = score
    return scores
