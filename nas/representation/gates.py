"""Gated modules: the components that are on at a utilization u in [0, 1], and the resulting subnetwork.

A module has n components; the first ``always`` of them are always on. At utilization u the first
c = min(always + ⌊u (n − always + 1)⌋, n) components are on (nested order). A component is a slice of a map, slices of
several coupled maps, or whole maps. Components that are off are absent, as in any other subnetwork. If all ways from
the input to the output are off, no operation is left: then all logits are zero.

A gate acts after the ``before`` steps of the operations that read a map, and after the ``after`` steps of the
operations that write it. Norms may therefore stand anywhere, and skipping components that are off is exact.

References
----------
Liu, Parajuli, Hostetler, Chai & Bhanu, Dynamically Throttleable Neural Networks (TNN), arXiv 2011.02836.
Hostetler, Toward Runtime-Throttleable Neural Networks, arXiv 1905.13179 (gated modules, c(u), nested gates).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real

from nas.errors import InvalidArchitecture, UserError
from nas.representation.cost import subnetwork_macs
from nas.representation.elements import GatedModule, Subnetwork, Task
from nas.representation.liveness import check_point, trim_point
from nas.representation.topology import Topology


def check_utilization(utilization: float) -> None:
    """Raise UserError unless the utilization is a number in [0, 1]."""
    number = isinstance(utilization, Real) and not isinstance(utilization, bool)
    if not (number and 0 <= utilization <= 1):
        raise UserError(f"A utilization must lie between 0 and 1. Got {utilization!r}.")


def distinct_utilizations(topology: Topology) -> tuple[float, ...]:
    """The smallest utilization of every distinct subnetwork, ascending from 0.0."""
    return tuple(sorted({0.0}.union(*(module.thresholds for module in topology.gated))))


def throttled(topology: Topology, utilization: float, largest: Subnetwork) -> Subnetwork:
    """The subnetwork at a utilization.

    Parameters
    ----------
    topology : Topology
    utilization : float
        In [0, 1].
    largest : Subnetwork
        The subnetwork at utilization 1, with all components on.

    Returns
    -------
    Subnetwork
        The largest subnetwork without the components that are off; without operations if nothing else is left.

    Raises
    ------
    UserError
        If the utilization is outside [0, 1].
    """
    check_utilization(utilization)
    return switched(topology, [module.on(utilization) for module in topology.gated], largest)


def switched(topology: Topology, on: Sequence[int], largest: Subnetwork) -> Subnetwork:
    """As :func:`throttled`, for a given number of components of each module."""
    counts = dict(zip(topology.declared, largest.channels))
    for module, components in zip(topology.gated, on, strict=True):
        counts |= _widths(topology, module, components)
    try:
        return trim_point(topology, replace(largest, channels=tuple(counts.values())))
    except InvalidArchitecture:  # the largest subnetwork is valid, so the components that are off are the cause
        kept = (0, largest.output)
        channels = tuple(n if i in kept else 0 for i, n in zip(topology.declared, largest.channels))
        return replace(largest, channels=channels, operations=())


def module_shares(topology: Topology, largest: Subnetwork) -> list[float]:
    """Share of each module in the MACs that switching off all components, one module at a time, saves; sums to 1."""
    whole = [len(module.components) for module in topology.gated]
    saved = []
    for m, module in enumerate(topology.gated):
        without = switched(topology, [*whole[:m], module.always, *whole[m + 1 :]], largest)
        saved.append(subnetwork_macs(topology, largest) - subnetwork_macs(topology, without))
    return [each / sum(saved) for each in saved]


def gated_maps(module: GatedModule) -> list[int]:
    """The maps that a module switches, ascending."""
    return sorted({index for component in module.components for index in component})


def scale_factor(topology: Topology, index: int, active: int, incoming: int) -> float:
    """The scale of a gated map's values; its components are its slices, or the sources of a concat."""
    feature_map = topology.maps[index]
    if feature_map.scale == "none":
        return 1.0
    if feature_map.merge == "concat":
        components, on = len(topology.incoming[index]), incoming
    else:
        components, on = len(feature_map.slices), feature_map.slices.index(active) + 1
    return (1 if feature_map.scale == "mean" else components) / on


def round_robin(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """The components of several modules in one order, as (module, component).

    The first component of each module comes first, from the last module to the first; then the second of each, and so
    on.

    >>> round_robin([2, 1])
    [(1, 0), (0, 0), (0, 1)]
    """
    return [(m, i) for i in range(max(sizes, default=0)) for m in reversed(range(len(sizes))) if i < sizes[m]]


def module_stages(topology: Topology) -> list[int]:
    """The stage of each module: modules of equal maps that follow one another without a pooling.

    >>> from search_spaces.throttleable import vgg
    >>> module_stages(vgg(8, (2, 3), 4).topology)
    [0, 0, 1, 1, 1, 2, 2]
    """
    stages, before, pooled = list[int](), None, False
    for module in topology.gated:
        maps = gated_maps(module)
        alike = (len(module.components), module.always, {topology.maps[index].slices for index in maps})
        new = before is not None and (pooled or alike != before)
        stages.append((stages[-1] if stages else 0) + new)
        incoming = (o for index in maps for o in topology.incoming[index])
        before, pooled = alike, any("pool" in topology.operations[o].kind for o in incoming)
    return stages


def cut_to(topology: Topology, largest: Subnetwork) -> tuple[GatedModule, ...]:
    """The modules without the components that are off in a subnetwork, which becomes the largest operating point.

    A module is dropped if it has no component left to switch, or if its components are not on in nested order.
    """
    modules = []
    for module in topology.gated:
        counts = (c for c in range(len(module.components), module.always, -1) if _is_on(topology, module, c, largest))
        if on := next(counts, 0):
            modules.append(replace(module, components=module.components[:on]))
    return tuple(modules)


def check_throttled(topology: Topology, task: Task, largest: Subnetwork) -> None:
    """Raise InvalidArchitecture unless the subnetwork at every utilization is valid.

    The largest operating point, at utilization 1, must have all components on.
    """
    if not all(_is_on(topology, module, len(module.components), largest) for module in topology.gated):
        raise InvalidArchitecture("The largest operating point must have all components of all gated modules on.")
    if any(largest.output in gated_maps(module) for module in topology.gated):
        raise InvalidArchitecture(f"The output map must not be gated. Got map {largest.output}.")
    for utilization in distinct_utilizations(topology):
        subnetwork = throttled(topology, utilization, largest)
        if not subnetwork.operations:
            continue
        try:
            check_point(topology, task, subnetwork)
        except InvalidArchitecture as error:
            raise InvalidArchitecture(f"At utilization {utilization:.3g}: {error}") from None


def _widths(topology: Topology, module: GatedModule, on: int) -> dict[int, int]:
    """Active channels of the maps of a module of which the first ``on`` components are on."""
    slices_on = Counter(index for component in module.components[:on] for index in component)
    return {index: (0, *topology.maps[index].slices)[slices_on[index]] for index in gated_maps(module)}


def _is_on(topology: Topology, module: GatedModule, on: int, point: Subnetwork) -> bool:
    counts = dict(zip(topology.declared, point.channels))
    return all(counts[index] == width for index, width in _widths(topology, module, on).items())
