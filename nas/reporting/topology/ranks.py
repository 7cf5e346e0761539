"""The rows and columns of feature maps in the drawing of a topology, before there are coordinates. Pure.

The row of a map is its rank, the length of the longest path from the input. The longest path to the output, the trunk,
fills column 0; chains of the remaining maps fill columns beside it.

References
----------
Sugiyama, Tagawa & Toda, Methods for Visual Understanding of Hierarchical System Structures, IEEE SMC 1981 (layers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.reporting.topology.routing import LaneRoute, column_positions, lane_routes
from nas.representation.architecture import Architecture
from nas.representation.kinds import kind
from nas.representation.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Rows, columns and routes: everything that is decided before there are coordinates.

    channels: of every map, at every level. rows, columns: of every map. row_sizes: spatial size of the trunk's map in
    every row. routes: of every operation.
    """

    architecture: Architecture
    channels: tuple[tuple[int, ...], ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    row_sizes: tuple[tuple[int, ...], ...]
    routes: tuple[LaneRoute, ...]

    @property
    def num_rows(self) -> int:
        """Number of rows: one more than the number of operations on the longest path."""
        return len(self.row_sizes)

    @property
    def positions(self) -> dict[int, int]:
        """Position of every column, counted from the left."""
        return column_positions(self.columns)


def grid_of(architecture: Architecture) -> Grid:
    """The grid of a canonical architecture."""
    topology = architecture.topology
    rows = _ranks(topology)
    trunk = _trunk(topology, rows, architecture.points[-1].output)
    sizes = [topology.maps[index].size for index in trunk]
    sizes += sizes[-1:] * (max(rows) + 1 - len(sizes))
    columns = _columns(topology, rows, trunk)
    return Grid(
        architecture=architecture,
        channels=tuple(zip(*(topology.active(point) for point in architecture.points))),
        rows=tuple(rows),
        columns=tuple(columns),
        row_sizes=tuple(sizes),
        routes=lane_routes(topology, rows, columns),
    )


def _ranks(topology: Topology) -> list[int]:
    """The number of operations on the longest path from the input to every map."""
    ranks = [0] * len(topology.maps)
    for index, writers in enumerate(topology.incoming):
        ranks[index] = max((ranks[topology.operations[o].source] + 1 for o in writers), default=0)
    return ranks


def _trunk(topology: Topology, rows: Sequence[int], output: int) -> list[int]:
    """The maps of the longest path from the input to a map; of several, the one with the most learned operations."""
    learned = [0] * len(topology.maps)
    previous = [0] * len(topology.maps)
    for index, writers in enumerate(topology.incoming):
        steps = [topology.operations[o] for o in writers if rows[topology.operations[o].source] == rows[index] - 1]
        if steps:
            best = max(steps, key=lambda step: (learned[step.source] + kind(step.kind).learned, -step.source))
            learned[index], previous[index] = learned[best.source] + kind(best.kind).learned, best.source
    path = [output]
    while path[-1]:
        path.append(previous[path[-1]])
    return path[::-1]


def _columns(topology: Topology, rows: Sequence[int], trunk: Sequence[int]) -> list[int]:
    """The column of every map: 0 for the trunk; chains of the remaining maps in the nearest free column."""
    column_of = dict.fromkeys(trunk, 0)
    occupied: dict[int, set[int]] = {}  # rows by column
    for start in range(len(topology.maps)):
        if start in column_of:
            continue
        chain = [start]
        while True:
            readers = [o.target for o in topology.operations if o.source == chain[-1] and o.target not in column_of]
            if not readers:
                break
            chain.append(min(readers, key=lambda index: (rows[index], index)))
        span = set(range(rows[chain[0]], rows[chain[-1]] + 1))
        column = next(c for n in range(1, len(rows) + 1) for c in (n, -n) if not span & occupied.get(c, set()))
        occupied.setdefault(column, set()).update(span)
        column_of |= dict.fromkeys(chain, column)
    return [column_of[index] for index in range(len(topology.maps))]


def panel_starts(grid: Grid, panels: int) -> tuple[int, ...]:
    """The rows in which new panels start.

    The panels are about equally high. Near the even cuts, rows that few lanes pass are preferred, and rows in which the
    size changes.
    """
    starts = []
    for n in range(1, panels):
        even = grid.num_rows * n / panels

        def cost(row: int, even: float = even) -> float:
            passing = sum(bool(route.lanes) and route.top < row <= route.bottom for route in grid.routes)
            return passing + 1.2 * abs(row - even) - (grid.row_sizes[row] != grid.row_sizes[row - 1])

        near = range(max(1, round(even) - 2), min(grid.num_rows - 1, round(even) + 2) + 1)
        starts.append(min(near, key=cost))
    return tuple(sorted(set(starts)))
