"""Where everything goes in the drawing of a topology, before there are coordinates: rows, columns and lanes. Pure.

References
----------
Sugiyama, Tagawa & Toda, Methods for Visual Understanding of Hierarchical System Structures, IEEE SMC 1981 (layers).
Bernhart & Kainen, The Book Thickness of a Graph, J. Comb. Theory B 1979 (arcs on the two sides of a spine).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from nas.representation.architecture import Architecture
from nas.representation.kinds import kind
from nas.representation.topology import Topology

RIGHT_OF, BETWEEN, LEFT_OF = 0, 1, 2

Lane = tuple[int, int, int]
"""Gap (left of the column of this position), section (which column it hugs, if any), distance from that column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How an operation gets from its source's row to its target's: straight where it has no lane.

    A second lane, when there are columns in between: it changes lanes right above the target's row.
    """

    operation: int
    top: int
    bottom: int
    lanes: tuple[Lane, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that is decided before there are coordinates. sizes: of every row, that of its trunk map."""

    architecture: Architecture
    channels: tuple[tuple[int, ...], ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    sizes: tuple[tuple[int, ...], ...]
    routes: tuple[Route, ...]

    @property
    def num_rows(self) -> int:
        """How many rows there are: one more than the longest path has operations."""
        return len(self.sizes)

    @property
    def place(self) -> dict[int, int]:
        """Position from the left of every column."""
        return {column: at for at, column in enumerate(sorted(set(self.columns)))}


def planned(architecture: Architecture) -> Plan:
    """The plan for a canonical architecture."""
    topology = architecture.topology
    rows = _depths(topology)
    trunk = _trunk(topology, rows, architecture.points[-1].output)
    sizes = [topology.maps[index].size for index in trunk]
    sizes += sizes[-1:] * (max(rows) + 1 - len(sizes))
    columns = _columns(topology, rows, trunk)
    return Plan(
        architecture=architecture,
        channels=tuple(zip(*(topology.active(point) for point in architecture.points))),
        rows=tuple(rows),
        columns=tuple(columns),
        sizes=tuple(sizes),
        routes=_routes(topology, rows, columns),
    )


def _depths(topology: Topology) -> list[int]:
    """The number of operations on the longest path from the input to every map."""
    depths = [0] * len(topology.maps)
    for index, writers in enumerate(topology.incoming):
        depths[index] = max((depths[topology.operations[o].source] + 1 for o in writers), default=0)
    return depths


def _trunk(topology: Topology, rows: Sequence[int], output: int) -> list[int]:
    """The maps of the longest path from the input to a map; of several, the one with the most learned operations."""
    learned = [0] * len(topology.maps)
    before = [0] * len(topology.maps)
    for index, writers in enumerate(topology.incoming):
        steps = [topology.operations[o] for o in writers if rows[topology.operations[o].source] == rows[index] - 1]
        if steps:
            best = max(steps, key=lambda step: (learned[step.source] + kind(step.kind).learned, -step.source))
            learned[index], before[index] = learned[best.source] + kind(best.kind).learned, best.source
    path = [output]
    while path[-1]:
        path.append(before[path[-1]])
    return path[::-1]


def _columns(topology: Topology, rows: Sequence[int], trunk: Sequence[int]) -> list[int]:
    """The column of every map: 0 for the trunk; chains of the others in the nearest column that is free."""
    placed = dict.fromkeys(trunk, 0)
    taken: dict[int, set[int]] = {}
    for start in range(len(topology.maps)):
        if start in placed:
            continue
        chain = [start]
        while True:
            after = [o.target for o in topology.operations if o.source == chain[-1] and o.target not in placed]
            if not after:
                break
            chain.append(min(after, key=lambda index: (rows[index], index)))
        span = set(range(rows[chain[0]], rows[chain[-1]] + 1))
        free = (c for n in range(1, len(rows) + 1) for c in (n, -n) if not span & taken.get(c, set()))
        column = next(free)
        taken.setdefault(column, set()).update(span)
        placed |= dict.fromkeys(chain, column)
    return [placed[index] for index in range(len(topology.maps))]


def _routes(topology: Topology, rows: Sequence[int], columns: Sequence[int]) -> tuple[Route, ...]:
    """A route for every operation: straight lines first, then lanes between columns, then lanes beside one column."""
    operations = topology.operations
    place = {column: at for at, column in enumerate(sorted(set(columns)))}
    below: dict[int, int] = {}  # the next map of the same column
    for column in place:
        members = sorted((i for i in range(len(rows)) if columns[i] == column), key=lambda i: rows[i])
        below |= dict(pairwise(members))
    found: dict[int, Route] = {}
    straight: set[int] = set()
    aside: list[int] = []
    lanes = _Lanes()
    order = sorted(range(len(operations)), key=lambda o: (not kind(operations[o].kind).learned, o))
    for o in order:
        source, target = operations[o].source, operations[o].target
        top, bottom, start, end = rows[source], rows[target], place[columns[source]], place[columns[target]]
        if below.get(source) == target and source not in straight:
            straight.add(source)
            found[o] = Route(operation=o, top=top, bottom=bottom)
        elif start == end:
            aside.append(o)
        else:
            right = end > start
            first, last = (start + 1, end) if right else (start, end + 1)
            ends = ((start, right), top), ((end, not right), bottom)
            if first == last:
                taken: tuple[Lane, ...] = (lanes.between(first, top, bottom),)
            else:
                taken = lanes.between(first, top, bottom), lanes.between(last, bottom - 1, bottom)
            lanes.attached += ends
            found[o] = Route(operation=o, top=top, bottom=bottom, lanes=taken)
    for o in sorted(aside, key=lambda o: (rows[operations[o].target] - rows[operations[o].source], o)):
        source, target = operations[o].source, operations[o].target
        lane = lanes.beside(place[columns[source]], rows[source], rows[target], not kind(operations[o].kind).learned)
        found[o] = Route(operation=o, top=rows[source], bottom=rows[target], lanes=(lane,))
    return tuple(found[o] for o in range(len(operations)))


class _Lanes:
    """Hands out lanes: no two operations at the same height of one lane.

    attached: ((column, whether its right side), row) of the ends of what runs between columns.
    """

    def __init__(self) -> None:
        self.attached: list[tuple[tuple[int, bool], int]] = []
        self._taken: dict[tuple[int, int], list[tuple[int, int, int]]] = {}

    def between(self, gap: int, top: int, bottom: int) -> Lane:
        """The first free lane in the middle of a gap."""
        taken = self._taken.setdefault((gap, BETWEEN), [])
        used = {lane for a, b, lane in taken if a < bottom and top < b}
        lane = next(n for n in range(len(taken) + 1) if n not in used)
        taken.append((top, bottom, lane))
        return gap, BETWEEN, lane

    def beside(self, column: int, top: int, bottom: int, prefer_right: bool) -> Lane:
        """A lane outside all that it overlaps, on the side of a column where that costs less."""
        best: tuple[float, tuple[int, int], int] | None = None
        for right in (prefer_right, not prefer_right):
            key = (column + 1, RIGHT_OF) if right else (column, LEFT_OF)
            taken = self._taken.setdefault(key, [])
            lane = 1 + max((lane for a, b, lane in taken if a < bottom and top < b), default=-1)
            crossed = sum(a < top < b < bottom or top < a < bottom < b for a, b, _ in taken)
            crossed += sum(end == (column, right) and top <= row <= bottom for end, row in self.attached)
            cost = lane + 1.5 * crossed
            if best is None or cost < best[0]:
                best = cost, key, lane
        assert best is not None
        _, key, lane = best
        self._taken[key].append((top, bottom, lane))
        return *key, lane


def even_cuts(plan: Plan, panels: int) -> tuple[int, ...]:
    """The rows that new panels start with: evenly, but where few lanes run and better where the size changes."""
    cuts = []
    for n in range(1, panels):
        even = plan.num_rows * n / panels

        def cost(row: int, even: float = even) -> float:
            through = sum(bool(route.lanes) and route.top < row <= route.bottom for route in plan.routes)
            return through + 1.2 * abs(row - even) - (plan.sizes[row] != plan.sizes[row - 1])

        cuts.append(min(range(max(1, round(even) - 2), min(plan.num_rows - 1, round(even) + 2) + 1), key=cost))
    return tuple(sorted(set(cuts)))
