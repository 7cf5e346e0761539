"""Subnetworks drawn from a supernet: which choices a draw makes, and how likely each alternative is.

A *choice* is a group of operations that are alternatives, as a subnetwork makes it: parallel operations between the
same two maps, one of them at least optional, or an optional operation alone. Those that are not optional always run,
and of the optional ones exactly one does, or none where the group can do without. An alternative that is important is
drawn with P ∝ 1 + β, the others with P ∝ 1; β = 0 draws uniformly. What is important is told by the chain over such
draws, see :mod:`nas.chain.importance`.

References
----------
Li, Bhardwaj, Yang, Marculescu, TIPS: Topologically Important Path Sampling for Anytime Neural Networks, ICML 2023
    (sampled subnetworks, and a higher probability for important operations). The choices and the formula with β are
    ours.
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
from nas.representation.cost import subnetwork_macs
from nas.representation.elements import Subnetwork
from nas.representation.kinds import kind
from nas.representation.liveness import trim_point
from nas.representation.topology import Topology
from nas.seeds import seed

WIDTHS = ("common", "independent")
"""How widths are drawn: one level for all maps, or one for each coupling group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One decision of a draw.

    alternatives: the optional operation that runs, or None for none of them.
    probabilities: of the alternatives; they sum to 1.
    important: index of the alternative that is drawn more often, None where all are alike.
    """

    alternatives: tuple[int | None, ...]
    probabilities: tuple[float, ...]
    important: int | None = None


def choices(topology: Topology) -> tuple[Choice, ...]:
    """What a draw decides, each alternative as likely as the others; in the order of the first operations.

    A choice has one alternative for every optional operation between the same two maps, and absence where others
    between them always run, or where it is a single operation.
    """
    parallel: dict[tuple[int, int], list[int]] = {}
    for o, operation in enumerate(topology.operations):
        parallel.setdefault((operation.source, operation.target), []).append(o)
    found = []
    for group in parallel.values():
        optional = [o for o in group if topology.operations[o].optional]
        absence = len(optional) < len(group) or len(group) == 1
        alternatives = (*optional, None) if absence else tuple(optional)
        if len(alternatives) > 1:
            found.append(Choice(alternatives=alternatives, probabilities=(1 / len(alternatives),) * len(alternatives)))
    return tuple(found)


def favour(made: Sequence[Choice], important: Sequence[int], beta: float = 0.5) -> tuple[Choice, ...]:
    """The choices with P(alternative) ∝ 1 + β for the important one of each, ∝ 1 for the others.

    important: index of an alternative, one a choice.

    Raises UserError unless β is finite and not negative.

    >>> even = Choice(alternatives=(3, None), probabilities=(0.5, 0.5))
    >>> favour([even], [0])[0].probabilities
    (0.6, 0.4)
    """
    if isinstance(beta, (str, bool)) or not (0 <= beta < math.inf):
        raise UserError(f"beta must be finite and not negative. Got {beta=}.")
    out = []
    for choice, best in zip(made, important, strict=True):
        weights = [1 + beta * (i == best) for i in range(len(choice.alternatives))]
        out.append(replace(choice, probabilities=tuple(w / sum(weights) for w in weights), important=best))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class Draw:
    """All that decides a subnetwork of a supernet.

    picks: the index of an alternative, one a choice. levels: of the width, one for each of the
    :func:`coupling_groups`; a map with fewer slices is used whole. exit: the operating point whose output it has.
    """

    picks: tuple[int, ...]
    levels: tuple[int, ...]
    exit: int


def sample_subnetwork(
    architecture: Architecture, made: Sequence[Choice], rng: np.random.Generator, *, widths: str = "common"
) -> Subnetwork:
    """The subnetwork of a :func:`draw`. Raises UserError for an unknown way to draw widths."""
    return subnetwork_of(architecture, made, draw(architecture, made, rng, widths=widths))


def draw(
    architecture: Architecture, made: Sequence[Choice], rng: np.random.Generator, *, widths: str = "common"
) -> Draw:
    """A subnetwork at random: an alternative of every choice, widths, and the output of an operating point.

    made: from :func:`choices` or :func:`favour`.
    widths: "common": one level, uniformly, for all maps, as in the builder. "independent": one for each of the
        :func:`coupling_groups`.

    Raises UserError for an unknown way to draw widths.
    """
    if widths not in WIDTHS:
        raise UserError(unknown_name("way to draw widths", widths, WIDTHS))
    uniforms = rng.random(len(made)).tolist()
    exit_ = int(rng.integers(len(architecture.points)))
    groups = len(coupling_groups(architecture.topology))
    count, different = width_levels(architecture.topology), widths == "independent"
    levels = rng.integers(count, size=groups if different else 1).tolist() * (1 if different else groups)
    return Draw(tuple(_pick(choice, u) for choice, u in zip(made, uniforms)), tuple(levels), exit_)


def width_levels(topology: Topology) -> int:
    """How many widths a subnetwork chooses from: the slices of the map that has most."""
    return max(len(m.slices) for m in topology.maps)


def subnetwork_of(architecture: Architecture, made: Sequence[Choice], drawn: Draw) -> Subnetwork:
    """The subnetwork that a draw describes.

    Always a network on its own: what the draw leaves without input or output is trimmed, and where it cuts the input
    off, the path to the output with the fewest operations that were not drawn is put back; an operating point shows
    that there is one.
    """
    topology, output = architecture.topology, architecture.points[drawn.exit].output
    operations = picked_operations(topology, made, drawn.picks, output)
    channels = _channels(topology, operations, output, drawn.levels)
    return trim_point(topology, Subnetwork(channels=channels, operations=operations, output=output))


def draw_of(architecture: Architecture, made: Sequence[Choice], point: Subnetwork) -> Draw:
    """A draw that describes a subnetwork, or comes near it: what is not live has no trace in it.

    A width that the maps of a group do not share, as no draw would have it, is the widest among them.
    """
    topology = architecture.topology
    live, width = set(point.operations), dict(zip(topology.declared, point.channels))
    picks = []
    for choice in made:
        there = [i for i, o in enumerate(choice.alternatives) if o in live]
        absent = [i for i, o in enumerate(choice.alternatives) if o is None]
        picks.append(([*there, *absent] or [0])[0])
    levels = []
    for group in coupling_groups(topology):
        slices = [(topology.maps[index].slices, width[index]) for index in group if width[index]]
        levels.append(
            max((s.index(channels) for s, channels in slices if len(s) > 1), default=width_levels(topology) - 1)
        )
    outputs = [p.output for p in architecture.points]
    return Draw(tuple(picks), tuple(levels), outputs.index(point.output))


def coupling_groups(topology: Topology) -> tuple[tuple[int, ...], ...]:
    """The maps that share one width choice, in order: those joined by identities, poolings and grouped operations.

    Concats are no part of any: what is active of them is derived.
    """
    parent = list(range(len(topology.maps)))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    declared = frozenset(topology.declared)
    for operation in topology.operations:
        joins = operation.groups > 1 or not kind(operation.kind).mixing
        if joins and operation.source in declared and operation.target in declared:
            low, high = sorted((root(operation.source), root(operation.target)))
            parent[high] = low
    groups: dict[int, list[int]] = {}
    for index in topology.declared:
        groups.setdefault(root(index), []).append(index)
    return tuple(map(tuple, groups.values()))


def expected_macs(
    architecture: Architecture, made: Sequence[Choice], *, widths: str = "common", draws: int = 1000
) -> float:
    """Mean MACs of the subnetworks that are drawn, over so many of them; always the same draws."""
    rng = np.random.default_rng(seed("expected macs", draws))
    topology = architecture.topology
    sampled = (sample_subnetwork(architecture, made, rng, widths=widths) for _ in range(draws))
    return sum(subnetwork_macs(topology, point) for point in sampled) / draws


def _pick(choice: Choice, uniform: float) -> int:
    for index, probability in enumerate(choice.probabilities[:-1]):
        if uniform < probability:
            return index
        uniform -= probability
    return len(choice.alternatives) - 1


def picked_operations(topology: Topology, made: Sequence[Choice], picks: Sequence[int], output: int) -> tuple[int, ...]:
    """The operations that a set of choices leaves, with a path to the output put back where they cut it off."""
    dropped = {
        o for choice, pick in zip(made, picks) for i, o in enumerate(choice.alternatives) if i != pick and o is not None
    }
    kept = tuple(o for o in range(len(topology.operations)) if o not in dropped)
    if topology.live(kept, output):
        return kept
    return tuple(sorted({*kept, *_cheapest_path(topology, dropped, output)}))


def _cheapest_path(topology: Topology, dropped: set[int], output: int) -> list[int]:
    """The path from the input to a map with the fewest dropped operations; the first of several."""
    cost: dict[int, tuple[int, int]] = {0: (0, -1)}  # of each map: operations put back so far, operation it comes by
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
    """The width of every map that is no concat: its group's level of its slices, the output whole."""
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
    """Use source and target of a grouped operation whole where its active groups differ, until none does."""
    grouped = [topology.operations[o] for o in operations if topology.operations[o].groups > 1]
    maps, again = topology.maps, True
    while again:
        again = False
        for operation in grouped:
            ends = (operation.source, operation.target)
            if len({width[m] * operation.groups // maps[m].channels for m in ends}) > 1:
                width |= {m: maps[m].channels for m in ends}
                again = True
