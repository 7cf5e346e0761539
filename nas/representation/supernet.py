"""Sampling subnetworks from a supernet: the choice groups, the probability of each alternative, and the draws.

A *choice group* is a set of alternative operations: parallel operations between the same two maps, at least one of them
optional, or a single optional operation. The operations of the group that are not optional always run; of the optional
ones exactly one runs, or none if the group has another operation or is a single operation. The important alternative of
a group is drawn with P ∝ 1 + β, each other alternative with P ∝ 1; β = 0 draws uniformly. :mod:`nas.chain.importance`
computes which alternatives are important, from a Markov chain over such draws.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023
    (sampled subnetworks, and a higher probability for important operations). The choice groups and the formula with β
    are ours.
Yu & Huang, Universally Slimmable Networks and Improved Training Techniques, ICCV 2019, arXiv 1903.05134 (one random
    width for all maps).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.errors import UserError, unknown_name
from nas.representation.architecture import Architecture
from nas.representation.coupling import coupling_groups
from nas.representation.elements import Subnetwork
from nas.representation.liveness import trim_point
from nas.representation.topology import Topology

WIDTHS = ("common", "independent", "points")
"""How widths are drawn: one level for all maps, one for each coupling group, or those of an operating point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceGroup:
    """Alternative operations of which a subnetwork runs one.

    Parameters
    ----------
    alternatives : tuple of (int or None)
        Indices of the optional operations; None stands for running none of them.
    probabilities : tuple of float
        Of the alternatives; they sum to 1.
    important : int or None
        Index of the alternative that is drawn more often; None if all are drawn equally often.
    """

    alternatives: tuple[int | None, ...]
    probabilities: tuple[float, ...]
    important: int | None = None


def choice_groups(topology: Topology) -> tuple[ChoiceGroup, ...]:
    """The choice groups of a topology with uniform probabilities, ordered by their first operation.

    The alternatives of a group are the optional operations between the same two maps, and None if an operation between
    them always runs or if the group is a single operation.
    """
    parallel: dict[tuple[int, int], list[int]] = {}
    for o, operation in enumerate(topology.operations):
        parallel.setdefault((operation.source, operation.target), []).append(o)
    groups = []
    for operations in parallel.values():
        optional = [o for o in operations if topology.operations[o].optional]
        absence = len(optional) < len(operations) or len(operations) == 1
        alternatives = (*optional, None) if absence else tuple(optional)
        if len(alternatives) > 1:
            uniform = (1 / len(alternatives),) * len(alternatives)
            groups.append(ChoiceGroup(alternatives=alternatives, probabilities=uniform))
    return tuple(groups)


def favour(groups: Sequence[ChoiceGroup], important: Sequence[int], beta: float = 0.5) -> tuple[ChoiceGroup, ...]:
    """The groups with P(alternative) ∝ 1 + β for the important alternative of each group and ∝ 1 for the rest.

    Parameters
    ----------
    groups : sequence of ChoiceGroup
    important : sequence of int
        Index of the important alternative of each group.
    beta : float
        At least 0; 0 draws uniformly.

    Returns
    -------
    tuple of ChoiceGroup

    Raises
    ------
    UserError
        If beta is negative or not finite.

    Examples
    --------
    >>> even = ChoiceGroup(alternatives=(3, None), probabilities=(0.5, 0.5))
    >>> favour([even], [0])[0].probabilities
    (0.6, 0.4)
    """
    if isinstance(beta, (str, bool)) or not 0 <= beta < math.inf:
        raise UserError(f"beta must be finite and not negative. Got {beta=}.")
    favoured = []
    for group, best in zip(groups, important, strict=True):
        weights = [1 + beta * (i == best) for i in range(len(group.alternatives))]
        favoured.append(replace(group, probabilities=tuple(w / sum(weights) for w in weights), important=best))
    return tuple(favoured)


@dataclass(frozen=True, slots=True)
class Draw:
    """The decisions that determine a subnetwork of a supernet.

    Parameters
    ----------
    picks : tuple of int
        Index of the alternative that runs, one per choice group.
    levels : tuple of int
        Index of the slice that is used, one per coupling group; a map with fewer slices is used whole.
    exit : int
        The operating point whose output the subnetwork has.
    """

    picks: tuple[int, ...]
    levels: tuple[int, ...]
    exit: int


def sample_subnetwork(
    architecture: Architecture, groups: Sequence[ChoiceGroup], rng: np.random.Generator, *, widths: str = "common"
) -> Subnetwork:
    """The subnetwork of a random :func:`draw`. Raises UserError if ``widths`` is unknown."""
    return subnetwork_of(architecture, groups, draw(architecture, groups, rng, widths=widths))


def draw(
    architecture: Architecture, groups: Sequence[ChoiceGroup], rng: np.random.Generator, *, widths: str = "common"
) -> Draw:
    """Draw a subnetwork: an alternative of every choice group, widths, and the output of an operating point.

    Parameters
    ----------
    architecture : Architecture
    groups : sequence of ChoiceGroup
        From :func:`choice_groups` or :func:`favour`.
    rng : numpy.random.Generator
    widths : {"common", "independent", "points"}
        "common": one uniformly drawn level for all maps. "independent": one for each of the coupling groups. "points":
        widths and output of one operating point, for networks whose maps have different numbers of widths.

    Returns
    -------
    Draw

    Raises
    ------
    UserError
        If ``widths`` is unknown.
    """
    if widths not in WIDTHS:
        raise UserError(unknown_name("way to draw widths", widths, WIDTHS))
    uniforms = rng.random(len(groups)).tolist()
    exit_ = int(rng.integers(len(architecture.points)))
    coupled, levels = len(coupling_groups(architecture.topology)), width_levels(architecture.topology)
    if widths == "independent":
        drawn = rng.integers(levels, size=coupled).tolist()
    elif widths == "points":
        drawn = levels_of(architecture, architecture.points[exit_])
    else:
        drawn = rng.integers(levels, size=1).tolist() * coupled
    return Draw(tuple(_pick(group, u) for group, u in zip(groups, uniforms)), tuple(drawn), exit_)


def width_levels(topology: Topology) -> int:
    """Number of width levels: the largest number of slices of a map."""
    return max(len(m.slices) for m in topology.maps)


def subnetwork_of(architecture: Architecture, groups: Sequence[ChoiceGroup], drawn: Draw) -> Subnetwork:
    """The subnetwork that a draw describes, as a valid network.

    Operations that are on no path from the input to the output are trimmed. If the draw disconnects the input from the
    output, the path with the fewest operations that were not drawn is put back; such a path exists, because the
    operating point with this output has one.
    """
    topology, output = architecture.topology, architecture.points[drawn.exit].output
    operations = picked_operations(topology, groups, drawn.picks, output)
    channels = _channels(topology, operations, output, drawn.levels)
    return trim_point(topology, Subnetwork(channels=channels, operations=operations, output=output))


def draw_of(architecture: Architecture, groups: Sequence[ChoiceGroup], point: Subnetwork) -> Draw:
    """The draw that describes a subnetwork, or the closest one: operations that were trimmed leave no trace.

    If the maps of a coupling group have different widths, which no draw produces, the widest one is taken.
    """
    live = set(point.operations)
    picks = []
    for group in groups:
        running = [i for i, o in enumerate(group.alternatives) if o in live]
        absent = [i for i, o in enumerate(group.alternatives) if o is None]
        picks.append(([*running, *absent] or [0])[0])
    outputs = [p.output for p in architecture.points]
    return Draw(tuple(picks), tuple(levels_of(architecture, point)), outputs.index(point.output))


def levels_of(architecture: Architecture, point: Subnetwork) -> list[int]:
    """The levels of a draw with the widths of a subnetwork: the widest in each coupling group."""
    topology = architecture.topology
    width, levels = dict(zip(topology.declared, point.channels)), []
    for maps in coupling_groups(topology):
        slices = [(topology.maps[index].slices, width[index]) for index in maps if width[index]]
        levels.append(
            max((s.index(channels) for s, channels in slices if len(s) > 1), default=width_levels(topology) - 1)
        )
    return levels


def _pick(group: ChoiceGroup, uniform: float) -> int:
    for index, probability in enumerate(group.probabilities[:-1]):
        if uniform < probability:
            return index
        uniform -= probability
    return len(group.alternatives) - 1


def picked_operations(
    topology: Topology, groups: Sequence[ChoiceGroup], picks: Sequence[int], output: int
) -> tuple[int, ...]:
    """The operations that run with these picks; if they disconnect the output, a path to it is put back."""
    dropped = {
        o for group, pick in zip(groups, picks) for i, o in enumerate(group.alternatives) if i != pick and o is not None
    }
    remaining = tuple(o for o in range(len(topology.operations)) if o not in dropped)
    if topology.live(remaining, output):
        return remaining
    return tuple(sorted({*remaining, *_cheapest_path(topology, dropped, output)}))


def _cheapest_path(topology: Topology, dropped: set[int], output: int) -> list[int]:
    """The path from the input to a map with the fewest dropped operations; the first of equally short ones."""
    cost: dict[int, tuple[int, int]] = {0: (0, -1)}  # per map: operations put back so far, last operation
    for index, incoming in enumerate(topology.incoming):
        for o in incoming:
            source = topology.operations[o].source
            if source in cost and (index not in cost or cost[source][0] + (o in dropped) < cost[index][0]):
                cost[index] = (cost[source][0] + (o in dropped), o)
    path = []
    while output:
        path.append(cost[output][1])
        output = topology.operations[path[-1]].source
    return path


def _channels(topology: Topology, operations: Sequence[int], output: int, levels: Sequence[int]) -> tuple[int, ...]:
    """The width of every map that is not a concat: the level of its coupling group; input and output are whole."""
    width = {}
    for group, level in zip(coupling_groups(topology), levels, strict=True):
        for index in group:
            slices = topology.maps[index].slices
            width[index] = slices[min(level, len(slices) - 1)]
    for index in (0, output):
        width[index] = topology.maps[index].channels
    _make_groups_agree(topology, operations, width)
    return tuple(width[index] for index in topology.declared)


def _make_groups_agree(topology: Topology, operations: Sequence[int], width: dict[int, int]) -> None:
    """Use source and target of a grouped operation whole if their active groups differ, until all agree."""
    grouped = [topology.operations[o] for o in operations if topology.operations[o].groups > 1]
    maps, again = topology.maps, True
    while again:
        again = False
        for operation in grouped:
            ends = (operation.source, operation.target)
            if len({width[m] * operation.groups // maps[m].channels for m in ends}) > 1:
                width |= {m: maps[m].channels for m in ends}
                again = True
