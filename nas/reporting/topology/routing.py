"""The lanes in which operations pass feature maps in the drawing of a topology.

If there are further maps between the source and the target of an operation, it runs down a *lane*, a
vertical track in the gap between two columns. At any height, a lane holds one operation.

References
----------
Bernhart & Kainen, The Book Thickness of a Graph, J. Comb. Theory B 1979 (arcs on the two sides of a spine).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from nas.representation.kinds import kind
from nas.representation.topology import Topology

RIGHT_OF, BETWEEN, LEFT_OF = 0, 1, 2

Lane = tuple[int, int, int]
"""Gap (left of the column at this position), section (the column that it hugs, if any), distance from that column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRoute:
    """The way of an operation from the row of its source to the row of its target.

    top, bottom: these rows. lanes: none for a straight line; two if there are columns between source and target: the
    operation changes lanes directly above the row of the target.
    """

    operation: int
    top: int
    bottom: int
    lanes: tuple[Lane, ...] = ()


def lane_routes(topology: Topology, rows: Sequence[int], columns: Sequence[int]) -> tuple[LaneRoute, ...]:
    """The route of every operation, in the order of the topology's operations.

    Straight lines are chosen first, then lanes between columns, then lanes beside one column, shortest operations
    first. rows, columns: of every map.
    """
    operations = topology.operations
    positions = column_positions(columns)
    next_in_column = _next_in_column(rows, columns)
    routes: dict[int, LaneRoute] = {}
    straight_from: set[int] = set()
    beside: list[int] = []
    lanes = _LaneAllocator()
    for o in sorted(range(len(operations)), key=lambda o: (not kind(operations[o].kind).learned, o)):
        source, target = operations[o].source, operations[o].target
        start, end = positions[columns[source]], positions[columns[target]]
        if next_in_column.get(source) == target and source not in straight_from:
            straight_from.add(source)
            routes[o] = LaneRoute(operation=o, top=rows[source], bottom=rows[target])
        elif start == end:
            beside.append(o)
        else:
            path = lanes.across(start, end, rows[source], rows[target])
            routes[o] = LaneRoute(operation=o, top=rows[source], bottom=rows[target], lanes=path)
    for o in sorted(beside, key=lambda o: (rows[operations[o].target] - rows[operations[o].source], o)):
        source, target = operations[o].source, operations[o].target
        prefer_right = not kind(operations[o].kind).learned
        lane = lanes.beside(positions[columns[source]], rows[source], rows[target], prefer_right)
        routes[o] = LaneRoute(operation=o, top=rows[source], bottom=rows[target], lanes=(lane,))
    return tuple(routes[o] for o in range(len(operations)))


def column_positions(columns: Sequence[int]) -> dict[int, int]:
    """Position of every column, counted from the left."""
    return {column: position for position, column in enumerate(sorted(set(columns)))}


def _next_in_column(rows: Sequence[int], columns: Sequence[int]) -> dict[int, int]:
    """For every map, the next map below it in its column."""
    following: dict[int, int] = {}
    for column in set(columns):
        members = sorted((i for i in range(len(rows)) if columns[i] == column), key=lambda i: rows[i])
        following |= dict(pairwise(members))
    return following


class _LaneAllocator:
    """Assigns lanes such that no two operations share a lane at the same height."""

    def __init__(self) -> None:
        self._ends: list[
            tuple[tuple[int, bool], int]
        ] = []  # ((column, right side?), row) of operations between columns
        self._spans: dict[tuple[int, int], list[tuple[int, int, int]]] = {}  # (top, bottom, lane) by (gap, section)

    def across(self, start: int, end: int, top: int, bottom: int) -> tuple[Lane, ...]:
        """One lane between neighbouring columns; two if there are columns in between, beside start and beside end."""
        right = end > start
        first, last = (start + 1, end) if right else (start, end + 1)
        if first == last:
            path: tuple[Lane, ...] = (self._between(first, top, bottom),)
        else:
            path = self._between(first, top, bottom), self._between(last, bottom - 1, bottom)
        self._ends += ((start, right), top), ((end, not right), bottom)
        return path

    def _between(self, gap: int, top: int, bottom: int) -> Lane:
        """The first free lane in the middle of a gap."""
        spans = self._spans.setdefault((gap, BETWEEN), [])
        used = {lane for a, b, lane in spans if a < bottom and top < b}
        lane = next(n for n in range(len(spans) + 1) if n not in used)
        spans.append((top, bottom, lane))
        return gap, BETWEEN, lane

    def beside(self, column: int, top: int, bottom: int, prefer_right: bool) -> Lane:
        """A lane outside of all lanes that it overlaps, on the side of the column with the lower cost."""
        best: tuple[float, tuple[int, int], int] | None = None
        for right in (prefer_right, not prefer_right):
            side = (column + 1, RIGHT_OF) if right else (column, LEFT_OF)
            spans = self._spans.setdefault(side, [])
            lane = 1 + max((lane for a, b, lane in spans if a < bottom and top < b), default=-1)
            crossings = sum(a < top < b < bottom or top < a < bottom < b for a, b, _ in spans)
            crossings += sum(end == (column, right) and top <= row <= bottom for end, row in self._ends)
            cost = lane + 1.5 * crossings
            if best is None or cost < best[0]:
                best = cost, side, lane
        assert best is not None
        _, side, lane = best
        self._spans[side].append((top, bottom, lane))
        return *side, lane
