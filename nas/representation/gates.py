"""Gated modules: which components of a network are on at a utilization u in [0, 1], and the subnetwork that they make.

A module has n components, the first few of which may be always on; at a utilization, the first
c = min(always + ⌊u (n − always + 1)⌋, n) are (nested order). A component is a slice of a map, of several maps that go
together, or maps as a whole: what is off is absent, as in any other subnetwork.

Off means absent to the reader: a gate acts after the steps that a reader takes before it reads, and on what an
operation writes after its own norm. So norms may stand anywhere, and to skip what is off is exact.

References
----------
Liu, Parajuli, Hostetler, Chai & Bhanu, Dynamically Throttleable Neural Networks (TNN), arXiv 2011.02836.
Hostetler, Toward Runtime-Throttleable Neural Networks, arXiv 1905.13179 (gated modules, c(u), nested gates).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from nas.errors import InvalidArchitecture, UserError
from nas.representation.cost import subnetwork_macs
from nas.representation.elements import GatedModule, Subnetwork, Task
from nas.representation.liveness import check_point, trim_point
from nas.representation.topology import Topology


def check_utilization(utilization: float) -> None:
    """Raise UserError unless it lies in [0, 1]."""
    number = isinstance(utilization, int | float) and not isinstance(utilization, bool)
    if not (number and 0 <= utilization <= 1):
        raise UserError(f"A utilization must lie between 0 and 1. Got {utilization!r}.")


def distinct_utilizations(topology: Topology) -> tuple[float, ...]:
    """The smallest utilization of every subnetwork that there is, ascending from 0.0."""
    return tuple(sorted({0.0}.union(*(module.thresholds for module in topology.gated))))


def throttled(topology: Topology, utilization: float, largest: Subnetwork) -> Subnetwork:
    """The subnetwork at a utilization: the largest operating point, at utilization 1, with fewer components on.

    Raises InvalidArchitecture when the input does not reach the output, UserError for no utilization.
    """
    check_utilization(utilization)
    return switched(topology, [module.on(utilization) for module in topology.gated], largest)


def switched(topology: Topology, on: Sequence[int], largest: Subnetwork) -> Subnetwork:
    """The subnetwork with so many components of each module on, as :func:`throttled`."""
    counts = dict(zip(topology.declared, largest.channels))
    for module, first in zip(topology.gated, on, strict=True):
        counts |= _widths(topology, module, first)
    return trim_point(topology, replace(largest, channels=tuple(counts.values())))


def module_shares(topology: Topology, largest: Subnetwork) -> list[float]:
    """What the switched components of each module cost, as shares of the multiply-accumulates that all of them do."""
    whole = [len(module.components) for module in topology.gated]
    saved = []
    for m, module in enumerate(topology.gated):
        without = switched(topology, [*whole[:m], module.always, *whole[m + 1 :]], largest)
        saved.append(subnetwork_macs(topology, largest) - subnetwork_macs(topology, without))
    return [each / sum(saved) for each in saved]


def gated_maps(module: GatedModule) -> list[int]:
    """The maps that a module switches, ascending."""
    return sorted({index for component in module.components for index in component})


def round_robin(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Components of several modules in one order, as (module, component): the first of each, last module first, then
    the second of each, and so on.

    >>> round_robin([2, 1])
    [(1, 0), (0, 0), (0, 1)]
    """
    return [(m, i) for i in range(max(sizes, default=0)) for m in reversed(range(len(sizes))) if i < sizes[m]]


def cut_to(topology: Topology, largest: Subnetwork) -> tuple[GatedModule, ...]:
    """The modules without the components that are off at a subnetwork, which is to be the largest operating point;
    those gone of which nothing is left to switch, or which it has on in no nested order.
    """
    found = []
    for module in topology.gated:
        fitting = (c for c in range(len(module.components), module.always, -1) if _is_on(topology, module, c, largest))
        if on := next(fitting, 0):
            found.append(replace(module, components=module.components[:on]))
    return tuple(found)


def _widths(topology: Topology, module: GatedModule, on: int) -> dict[int, int]:
    """Active channels of the maps of a module with so many components on."""
    named = Counter(index for component in module.components[:on] for index in component)
    return {index: (0, *topology.maps[index].slices)[named[index]] for index in gated_maps(module)}


def _is_on(topology: Topology, module: GatedModule, on: int, point: Subnetwork) -> bool:
    counts = dict(zip(topology.declared, point.channels))
    return all(counts[index] == width for index, width in _widths(topology, module, on).items())


def check_throttled(topology: Topology, task: Task, largest: Subnetwork) -> None:
    """Raise InvalidArchitecture unless all components are on at the largest operating point, and there is a network at
    every utilization.
    """
    if not all(_is_on(topology, module, len(module.components), largest) for module in topology.gated):
        raise InvalidArchitecture("The largest operating point must have all components of all gated modules on.")
    for utilization in distinct_utilizations(topology):
        try:
            check_point(topology, task, throttled(topology, utilization, largest))
        except InvalidArchitecture as error:
            raise InvalidArchitecture(f"At utilization {utilization:.3g}: {error}") from None
