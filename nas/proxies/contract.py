"""Proxies: scores of an architecture that need no training. Higher is better; size controls are proxies like any other.

`dtmc` is the default score. `macs`, `params`, `depth` and `count` are the sizes that it must beat; the audit
(:mod:`nas.audit.audit`) says at the end of every search whether it did.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, cast, get_args

from nas.errors import PluginError
from nas.plugins import load_plugin
from nas.representation.architecture import Architecture

Needs = Literal["topology", "weights", "batch"]


class Proxy(Protocol):
    """Scores an architecture without training it: higher is better, finite, and pure (equal keys have equal scores).

    Called for every feasible proposal of a study, in any order, possibly in several processes, and for the audit's
    reference sample. What it raises, and what is not finite, ends up as a PluginError that names it.

    needs: what it has to make beside the topology, which is how dear it is: nothing, the initial weights, or a batch as
        well. Weights must be drawn from a generator seeded by the architecture's key.
    """

    @property
    def needs(self) -> Needs: ...

    def __call__(self, architecture: Architecture, /) -> float: ...


def proxy(needs: Needs) -> Callable[[Callable[[Architecture], float]], Proxy]:
    """Make a function a :class:`Proxy` by declaring what it needs.

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
    """The proxy of this entry point name or `path/file.py:Name`; a class is instantiated without arguments.

    Raises
    ------
    PluginError
        When it cannot be found or loaded, cannot be called, or declares an unknown need.
    """
    found: Any = load_plugin("nas.proxies", spec)
    if isinstance(found, type):
        try:
            found = found()
        except Exception as error:
            raise PluginError(f"The proxy {spec!r} must be made without arguments. Got {_told(error)}") from error
    if not callable(found):
        raise PluginError(f"A proxy must be a function of an architecture. Got {found!r} under the name {spec!r}.")
    if getattr(found, "needs", None) not in get_args(Needs):
        raise PluginError(
            f"A proxy must declare needs as one of {', '.join(get_args(Needs))}. Got {getattr(found, 'needs', None)!r} "
            f"from {spec!r}. Put @nas.proxies.contract.proxy('topology') above the function."
        )
    return found


def evaluate(architecture: Architecture, proxies: Mapping[str, Proxy]) -> dict[str, float]:
    """The score of the architecture by every proxy, by name, in order.

    Raises
    ------
    PluginError
        When a proxy raises, or returns what is not a finite number; names it. The cause is chained.
    """
    scores = {}
    for name, score_of in proxies.items():
        try:
            score = float(score_of(architecture))
        except Exception as error:
            raise PluginError(
                f"The proxy {name!r} failed on architecture {architecture.key}: {_told(error)}"
            ) from error
        if not math.isfinite(score):
            raise PluginError(
                f"A proxy must return a finite number. Got {score} from {name!r} on architecture {architecture.key}."
            )
        scores[name] = score
    return scores


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[-1]
