"""Width schedules: important maps of an anytime network stay wider in its smaller operating points.

The operating points of a slimmable network use a common share of every width. A schedule gives each coupling group of
maps a *pace* at which its width shrinks: a group of importance s, from 0 to 1, shrinks 1 + βs times as slowly as an
unimportant one. Every operating point keeps its MACs, about: what important groups keep, the others give.

As in the code of TIPS, a group is important (s = 1) if an operation of the important path writes it: the path takes
every skip, so these are the blocks that each path must pass. They shrink at half the pace with β = 1, the default. The
graph of that path is :mod:`nas.chain.residual_graph`. The choice "tas" is continuous; "inverse", "random" and "degree"
are controls.

In the released code a list of widths is shared by all blocks of a stage, so that the halved decrement of its first
block reaches the others, too: there, a stage shrinks as one. Here, only the maps that the important path writes do.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023, and
    the code that its first author released (half the decrement for the blocks that every path must pass). The
    importance of coupling groups, the continuous version, equal MACs, and the controls are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.chain.residual_graph import SUBNETWORKS, accumulated_scores, path_operations, residual_graph
from nas.chain.walks import Walk
from nas.errors import InvalidArchitecture, UserError, unknown_name
from nas.representation.architecture import Architecture
from nas.representation.cost import subnetwork_macs
from nas.representation.coupling import coupling_groups
from nas.representation.elements import Subnetwork
from nas.representation.kinds import kind
from nas.representation.topology import Topology
from nas.seeds import seed

IMPORTANCES = ("path", "tas", "inverse", "random", "degree")
"""What makes a width important: the important path, TAS, and three controls."""
BISECTIONS = 12
TOLERANCE = 0.005
"""Relative difference of MACs that needs no further steps."""
MOST_ERROR = 0.1
"""Relative difference of MACs that is refused; it is large only for maps of few channels."""


def width_importance(
    architecture: Architecture,
    by: str = "path",
    *,
    walk: str | Walk = "tips",
    subnetworks: int = SUBNETWORKS,
    dropped: float = 0.0,
    compare: str = "fewest",
    draw: int = 0,
) -> tuple[float, ...]:
    """The importance of every coupling group of maps, from 0 to 1.

    Parameters
    ----------
    architecture : Architecture
        Any architecture.
    by : {"path", "tas", "inverse", "random", "degree"}
        "path": 1 if a learned operation of the important path writes a map of the group, otherwise 0. "tas": from 0
        for the group whose maps have the smallest mean TAS to 1 for the one with the largest, among the maps of the
        largest operating point. "inverse": 1 where "path" gives 0. "random" and "degree": 1 for as many elastic groups
        as "path" has, drawn at random or with the most operations at their maps.
    walk : str or Walk
        See :func:`nas.chain.residual_graph.accumulated_scores`.
    subnetworks, dropped
        See :func:`nas.chain.residual_graph.residual_graph`.
    compare : {"fewest", "mean", "sum"}
        See :func:`nas.chain.walks.best_path`.
    draw : int
        Seed of "random". With the network's key it determines the groups.

    Returns
    -------
    tuple of float
        One per group of :func:`nas.representation.coupling.coupling_groups`; 0 for groups of constant width.

    Raises
    ------
    UserError
        If a choice is unknown.
    """
    if by not in IMPORTANCES:
        raise UserError(unknown_name("importance of widths", by, IMPORTANCES))
    topology = architecture.topology
    groups = coupling_groups(topology)
    elastic = [i for i, group in enumerate(groups) if _is_elastic(architecture, group)]
    graph = residual_graph(architecture, subnetworks=subnetworks, dropped=dropped)
    scores = accumulated_scores(graph, walk)
    if by == "tas":
        nodes = {i: [n for m in groups[i] if (n := graph.map_nodes[m]) is not None] for i in elastic}
        means = {i: sum(scores[n] for n in own) / len(own) for i, own in nodes.items() if own}
        least, most = min(means.values(), default=0.0), max(means.values(), default=0.0)
        return tuple((means.get(i, least) - least) / ((most - least) or 1.0) for i in range(len(groups)))
    on_path = path_operations(architecture, graph, scores, compare=compare)
    written = {topology.targets[o] for o in on_path if kind(topology.operations[o].kind).learned}
    marked = {i for i in elastic if written.intersection(groups[i])}
    if by == "inverse":
        marked = set(elastic) - marked
    elif by == "random":
        rng = np.random.default_rng(seed("width schedule", architecture.network_key, draw))
        marked = set(rng.choice(elastic, size=len(marked), replace=False).tolist()) if marked else set()
    elif by == "degree":
        ends = np.bincount([m for o in topology.operations for m in (o.source, o.target)], minlength=len(topology.maps))
        degree = {i: int(ends[list(groups[i])].sum()) for i in elastic}
        marked = set(sorted(elastic, key=lambda i: (-degree[i], i))[: len(marked)])
    return tuple(float(i in marked) for i in range(len(groups)))


def width_schedule(
    architecture: Architecture,
    by: str = "path",
    *,
    beta: float = 1.0,
    importance: Sequence[float] | None = None,
    walk: str | Walk = "tips",
    subnetworks: int = SUBNETWORKS,
    dropped: float = 0.0,
    compare: str = "fewest",
    draw: int = 0,
) -> Architecture:
    """The architecture with operating points in which important maps are wider, at the same MACs, about.

    Parameters
    ----------
    architecture : Architecture
        A network whose operating points differ in the widths of dense maps, such as one of the spaces `residual`,
        `mobile` and `slimmable`.
    by : {"path", "tas", "inverse", "random", "degree"}
        See :func:`width_importance`.
    beta : float
        At least 0. A group of importance s shrinks 1 + βs times as slowly as an unimportant one; 1 halves the pace of
        important groups. With 0, the control, the architecture is returned as it is.
    importance : sequence of float, optional
        The importance of every coupling group, from 0 to 1, in place of :func:`width_importance`.
    walk, subnetworks, dropped, compare, draw
        See :func:`width_importance`.

    Returns
    -------
    Architecture
        With the same largest operating point, and for the others the widths nearest to their MACs. Each width differs
        from point to point where it did before.

    Raises
    ------
    InvalidArchitecture
        If a schedule would have no effect, because all elastic widths are equally important or the maps are too narrow;
        if the widths cannot be changed (causal wiring, gated modules, early exits, or groups of channels in maps of
        different width); or if an operating point would miss its MACs by more than a tenth.
    UserError
        If a choice is unknown, beta is negative, or ``importance`` is not a number from 0 to 1 for every group.
    """
    if isinstance(beta, bool) or not isinstance(beta, int | float) or not 0 <= beta < math.inf:
        raise UserError(f"beta must be finite and not negative. Got {beta=}.")
    topology = architecture.topology
    if topology.gated or topology.causal:
        raise InvalidArchitecture("A width schedule needs dense widths. Got a network that is causal or gated.")
    written = {o for point in architecture.points for o in topology.incoming[point.output] if o in point.operations}
    if (ends := len({topology.sources[o] for o in written})) > 1:  # classifiers of several labellings read one map
        raise InvalidArchitecture(
            f"A width schedule needs operating points that all end at one map. Got early exits: {ends} maps."
        )
    source = "the given numbers" if importance is not None else repr(by)
    if importance is None:
        importance = width_importance(
            architecture, by, walk=walk, subnetworks=subnetworks, dropped=dropped, compare=compare, draw=draw
        )
    if len(importance) != len(coupling_groups(topology)) or not all(0 <= each <= 1 for each in importance):
        raise UserError(
            "importance must be a number from 0 to 1 for each coupling group of the network, of which there are "
            f"{len(coupling_groups(topology))}. Got {list(importance)}."
        )
    elastic = {
        maps: each
        for maps, each in zip(coupling_groups(topology), importance, strict=True)
        if _is_elastic(architecture, maps)
    }
    if beta == 0:
        return architecture
    if len({*elastic.values()}) < 2:
        raise InvalidArchitecture(
            f"A width schedule has an effect only if widths differ in importance. Got {len(elastic)} elastic groups of "
            f"maps, all equally important by {source}."
        )
    groups = [group for maps, each in elastic.items() for group in _groups(architecture, maps, 1 / (1 + beta * each))]
    points = [architecture.points[-1]]
    for level in reversed(range(len(architecture.points) - 1)):
        points.insert(0, _fitted(architecture, groups, level, above=points[0]))
    if tuple(points) == architecture.points:
        raise InvalidArchitecture(
            "A width schedule must change a width. Got maps without room for it: use wider maps or fewer operating "
            "points."
        )
    return _with_widths(architecture, groups, points)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Maps of one elastic width.

    places: of its maps among the declared ones. full: channels. unit: widths are multiples of it. pace: at which it
    shrinks, 1 for unimportant maps.
    """

    maps: tuple[int, ...]
    places: tuple[int, ...]
    full: int
    unit: int
    pace: float

    def width(self, time: float, least: int, most: int) -> int:
        """The width after a time of shrinking, within bounds."""
        wanted = round(self.full * (1 - self.pace * time) / self.unit) * self.unit
        return min(most, max(least, wanted))

    def at(self, point: Subnetwork) -> int:
        """The width in a subnetwork; 0 if it uses no map of the group."""
        return max(point.channels[place] for place in self.places)


def _groups(architecture: Architecture, maps: Sequence[int], pace: float) -> list[_Group]:
    """The elastic maps of a coupling group by their number of channels, which a pooling or padded skip may change."""
    topology = architecture.topology
    by_channels: dict[int, list[int]] = {}
    for index in maps:
        if not _is_elastic(architecture, [index]):
            continue
        by_channels.setdefault(topology.maps[index].channels, []).append(index)
    units = dict.fromkeys(by_channels, 1)
    for operation in topology.operations:
        ends = operation.source, operation.target
        if operation.groups > 1 and any(index in same for same in by_channels.values() for index in ends):
            channels = {topology.maps[index].channels for index in ends}
            if len(channels) > 1:
                raise InvalidArchitecture(
                    f"A width schedule needs grouped operations between maps of equal width. Got {sorted(channels)}."
                )
            full = channels.pop()
            units[full] = math.lcm(units[full], full // operation.groups)
    places = {index: place for place, index in enumerate(topology.declared)}
    return [
        _Group(maps=tuple(same), places=tuple(places[m] for m in same), full=full, unit=units[full], pace=pace)
        for full, same in by_channels.items()
    ]


def _is_elastic(architecture: Architecture, maps: Sequence[int]) -> bool:
    """Whether operating points differ in the width of one of these maps."""
    places = (place for place, index in enumerate(architecture.topology.declared) if index in maps)
    return any(len({point.channels[place] for point in architecture.points} - {0}) > 1 for place in places)


def _fitted(architecture: Architecture, groups: Sequence[_Group], level: int, *, above: Subnetwork) -> Subnetwork:
    """The operating point of a level with scheduled widths. above: the next larger one."""
    topology, point = architecture.topology, architecture.points[level]
    larger = architecture.points[level + 1]
    running = [group for group in groups if group.at(point)]
    bounds = []
    for group in running:
        before, after = group.at(point), group.at(larger)
        distinct = len({group.at(each) for each in architecture.points[: level + 1]} - {0})
        least = group.unit * distinct
        most = group.at(above) - group.unit * (after > before) if after >= before else group.full
        if least > most:
            raise InvalidArchitecture(
                f"A width schedule needs a different width for every operating point. Got {group.full} channels."
            )
        bounds.append((least, most))

    def widths(time: float) -> list[int]:
        return [group.width(time, *bound) for group, bound in zip(running, bounds)]

    def at(each: Sequence[int]) -> Subnetwork:
        channels = list(point.channels)
        for group, width in zip(running, each):
            for place in group.places:
                channels[place] = width if channels[place] else 0
        return replace(point, channels=tuple(channels))

    def error(each: Sequence[int]) -> int:
        return abs(subnetwork_macs(topology, at(each)) - target)

    target = architecture.costs[level]
    early, late = 0.0, max(1 / group.pace for group in running) if running else 0.0
    for _ in range(BISECTIONS):
        middle = (early + late) / 2
        if subnetwork_macs(topology, at(widths(middle))) >= target:
            early = middle
        else:
            late = middle
    best = min(widths(early), widths(late), key=error)
    while error(best) > TOLERANCE * target:  # widths are whole numbers: one step of one width after the other
        steps = [
            [*best[:place], best[place] + step, *best[place + 1 :]]
            for place, (group, (least, most)) in enumerate(zip(running, bounds))
            for step in (-group.unit, group.unit)
            if least <= best[place] + step <= most
        ]
        better = min(steps, key=error, default=best)
        if error(better) >= error(best):
            break
        best = better
    if error(best) > MOST_ERROR * target:
        raise InvalidArchitecture(
            f"A width schedule must keep the MACs of an operating point within {MOST_ERROR:.0%}. Got "
            f"{subnetwork_macs(topology, at(best)):,} for {target:,}: use wider maps or fewer operating points."
        )
    return at(best)


def _with_widths(architecture: Architecture, groups: Sequence[_Group], points: Sequence[Subnetwork]) -> Architecture:
    """The architecture with these points, and the prefix lengths that they use."""
    topology = architecture.topology
    maps = list(topology.maps)
    for group in groups:
        slices = tuple(sorted({width for point in points if (width := group.at(point))} | {group.full}))
        for index in group.maps:
            maps[index] = replace(maps[index], slices=slices)
    changed = Topology(maps=tuple(maps), operations=topology.operations)
    return replace(architecture, topology=changed, points=tuple(points)).canonical
