"""The coordinates of maps, operations and labels in the drawing of a topology, in inches; no plotting library.

A layered layout, which needs no heuristics against crossings for the networks at hand. The row of a map is its depth;
the longest path, the trunk, is a straight column, and the remaining maps fill columns of their own. An operation
between neighbours of one column is a straight line; any other operation runs down a lane beside a column: lanes hold
one operation at any height, shorter operations lie inside, and each operation takes the side with fewer crossings.
Labels are in the gaps between rows and horizontal lines at the height of rows, so that no line runs through a label or
a map. A deep network is folded into panels, like a text into columns. :mod:`nas.reporting.topology.ranks` and
:mod:`nas.reporting.topology.routing` choose rows, columns and lanes; this module assigns coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from nas.reporting.topology.labels import map_ends, map_labels, operation_labels, text_width
from nas.reporting.topology.ranks import Grid, grid_of, panel_starts
from nas.reporting.topology.routing import LEFT_OF, Lane, LaneRoute
from nas.representation.architecture import Architecture
from nas.representation.elements import size_text

Point = tuple[float, float]

NODE_POINTS, LABEL_POINTS = 7.5, 7.0
"""Sizes of type, in points, of maps and of operations."""
NODE_HEIGHT, LABEL_HEIGHT = 0.25, 0.175
BAR_PITCH = 0.05
_GAP, _TRACK, _FOLD, _PAD = 0.34, 0.075, 0.34, 0.14
_LANE_PAD, _MIN_LANE_WIDTH = 0.11, 0.15
_COLUMN_PAD = 0.14
_PANEL_GAP = 0.22
_MAX_HEIGHT, _ASPECT = 9.0, 1.45
_MAX_PANELS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle. x, y: its centre; y grows downwards."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        """The smallest x."""
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        """The largest x."""
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        """The smallest y."""
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        """The largest y."""
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A feature map. channels: active at every level; row: its depth; column: 0 for the trunk; text: its label."""

    map: int
    row: int
    column: int
    channels: tuple[int, ...]
    text: str
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An operation. pieces: polylines from source to target, one in each panel that it crosses.

    text, label: the label and its box. straight: whether it is part of its column.
    """

    operation: int
    pieces: tuple[tuple[Point, ...], ...]
    text: str
    label: Box
    straight: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Consecutive rows of one spatial size, in one panel. stage: number of changes of size before it."""

    stage: int
    text: str
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A topology with coordinates. nodes, edges: in the order of maps and operations of `architecture`."""

    architecture: Architecture
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    bands: tuple[Band, ...]
    width: float
    height: float


def layout(architecture: Architecture, *, margin: Point = (0.0, 0.0)) -> Drawing:
    """Coordinates of all maps and operations of the canonical architecture. Deterministic.

    margin: width and height, in inches, reserved beside and above the drawing. The number of panels is chosen so that
        the figure with its margin comes closest to the proportions of a screen.

    Notes
    -----
    O(E²) in the number of operations E, for the lanes; some milliseconds at E = 60.
    """
    grid = grid_of(architecture.canonical)
    unfolded = _drawing(grid, ())
    if unfolded.height + margin[1] <= _MAX_HEIGHT:
        return unfolded
    most_panels = min(_MAX_PANELS, max(1, grid.num_rows // 6))
    folded = [_drawing(grid, panel_starts(grid, panels)) for panels in range(1, 1 + most_panels)]

    def misfit(drawing: Drawing) -> float:
        return abs(math.log((drawing.width + margin[0]) / (drawing.height + margin[1]) / _ASPECT))

    return min(folded, key=misfit)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """Consecutive rows.

    x: of columns (by position) and lanes; left, right, bottom: its frame; strip: width of the strip with spatial sizes.
    """

    first: int
    last: int
    left: float
    right: float
    strip: float
    bottom: float
    x: dict[int | Lane, float]


def _drawing(grid: Grid, cuts: Sequence[int]) -> Drawing:
    """The drawing of a grid that is folded before the given rows."""
    texts, labels = map_labels(grid), operation_labels(grid.architecture)
    label_widths = [text_width(text, LABEL_POINTS) + 0.11 for text in labels]
    ends = map_ends(grid.architecture)
    bars = [0.0 if o in ends else bars_width(counts) for o, counts in enumerate(grid.channels)]
    node_widths = [text_width(text, NODE_POINTS) + 0.2 + width for text, width in zip(texts, bars)]
    y, heights = _heights(grid, cuts)
    panels = _panels(grid, cuts, label_widths, node_widths, heights)
    panel_of = [next(p for p, panel in enumerate(panels) if row < panel.last) for row in range(grid.num_rows)]
    column_widths = [max(w for w, c in zip(node_widths, grid.columns) if c == column) for column in grid.columns]
    nodes = []
    for index, text in enumerate(texts):
        row, column = grid.rows[index], grid.columns[index]
        x = panels[panel_of[row]].x[grid.positions[column]]
        box = Box(x=x, y=y[row], width=column_widths[index], height=NODE_HEIGHT)
        nodes.append(Node(map=index, row=row, column=column, channels=tuple(grid.channels[index]), text=text, box=box))
    return Drawing(
        architecture=grid.architecture,
        nodes=tuple(nodes),
        edges=_edges(grid, nodes, labels, label_widths, panels, panel_of),
        bands=_bands(grid, panels, y),
        width=panels[-1].right,
        height=max(heights),
    )


def _edges(
    grid: Grid,
    nodes: Sequence[Node],
    labels: Sequence[str],
    label_widths: Sequence[float],
    panels: Sequence[_Panel],
    panel_of: Sequence[int],
) -> tuple[Edge, ...]:
    """The operations. A label is in the gap below the middle one of the rows that its operation passes."""
    heights = {node.row: node.box.y for node in nodes}
    ports, tracks = _ports(grid, nodes, panels, panel_of), _tracks(grid)
    topology, edges = grid.architecture.topology, []
    for route, text, width in zip(grid.routes, labels, label_widths):
        operation = topology.operations[route.operation]
        source, target = nodes[operation.source], nodes[operation.target]
        key = route.lanes[0] if route.lanes else grid.positions[source.column]
        row = (route.top + route.bottom - 1) // 2
        y = heights[row] + NODE_HEIGHT / 2 + _GAP / 2
        label = Box(x=panels[panel_of[row]].x[key], y=y, width=width, height=LABEL_HEIGHT)
        passed = panels[panel_of[route.top] : panel_of[route.bottom] + 1]
        pieces = _pieces(route, key, (source, target), ports, passed, tracks.get(route.operation, 0))
        edges.append(Edge(operation=route.operation, pieces=pieces, text=text, label=label, straight=not route.lanes))
    return tuple(edges)


def bars_width(channels: Sequence[int]) -> float:
    """The width, in inches, of the bars that show a map's channels at every level; 0 if all levels are equal."""
    return len(channels) * BAR_PITCH + 0.04 if len(set(channels)) > 1 else 0.0


def _heights(grid: Grid, cuts: Sequence[int]) -> tuple[list[float], list[float]]:
    """The y of every row, and the height of every panel."""
    tracks = _tracks(grid)
    y: list[float] = []
    heights = []
    for first, last in pairwise((0, *cuts, grid.num_rows)):
        current = _FOLD if first else _PAD
        for row in range(first, last):
            current += _TRACK * sum(grid.routes[o].bottom == row for o in tracks) + NODE_HEIGHT / 2
            y.append(current)
            current += NODE_HEIGHT / 2 + _GAP
        heights.append(current - _GAP + _PAD if last == grid.num_rows else current + _FOLD - 0.1)
    return y, heights


def _tracks(grid: Grid) -> dict[int, int]:
    """For every operation that passes columns, the number of its horizontal track above the row of its target."""
    numbers: dict[int, int] = {}
    rows: dict[int, int] = {}
    for route in grid.routes:
        if len(route.lanes) == 2:
            numbers[route.operation] = rows.get(route.bottom, 0)
            rows[route.bottom] = numbers[route.operation] + 1
    return numbers


def _panels(
    grid: Grid,
    cuts: Sequence[int],
    label_widths: Sequence[float],
    node_widths: Sequence[float],
    heights: Sequence[float],
) -> list[_Panel]:
    """The panels from left to right, each as wide as its columns and lanes."""
    panels, left = [], 0.0
    for (first, last), height in zip(pairwise((0, *cuts, grid.num_rows)), heights):
        columns, lanes = _widths(grid, first, last, label_widths, node_widths)
        strip = 0.16 + max(text_width(size_text(grid.row_sizes[row]), 8) for row in range(first, last))
        x: dict[int | Lane, float] = {}
        right = left + strip
        for gap in range(len(grid.positions) + 1):
            in_gap = sorted(lane for lane in lanes if lane[0] == gap)
            for lane in sorted(in_gap, key=lambda lane: (lane[1], -lane[2] if lane[1] == LEFT_OF else lane[2])):
                x[lane] = right + (lanes[lane] + _LANE_PAD) / 2
                right += lanes[lane] + _LANE_PAD
            if gap < len(grid.positions):
                pad = _COLUMN_PAD if columns[gap] else 0.0
                x[gap] = right + pad + columns[gap] / 2
                right += columns[gap] + 2 * pad
        right += 0.08
        panels.append(_Panel(first=first, last=last, left=left, right=right, strip=strip, bottom=height, x=x))
        left = right + _PANEL_GAP
    return panels


def _widths(
    grid: Grid, first: int, last: int, label_widths: Sequence[float], node_widths: Sequence[float]
) -> tuple[list[float], dict[Lane, float]]:
    """Widths of columns (0 for an empty one) and of lanes in the panel with the rows from first to last - 1."""
    operations = grid.architecture.topology.operations
    columns = [0.0] * len(grid.positions)
    for index, row in enumerate(grid.rows):
        if first <= row < last:
            column = grid.positions[grid.columns[index]]
            columns[column] = max(w for w, c in zip(node_widths, grid.columns) if grid.positions[c] == column)
    lanes: dict[Lane, float] = {}
    for route, width in zip(grid.routes, label_widths):
        labelled = first <= (route.top + route.bottom - 1) // 2 < last
        if not route.lanes:
            column = grid.positions[grid.columns[operations[route.operation].source]]
            columns[column] = max(columns[column], width if labelled else 0.0)
        for n, lane in enumerate(route.lanes):
            top = route.top if n == 0 else route.bottom
            if top < last and route.bottom >= first:
                lanes[lane] = max(lanes.get(lane, _MIN_LANE_WIDTH), width if labelled and n == 0 else 0.0)
    return columns, lanes


Ports = dict[tuple[int, bool], tuple[bool, float]]
"""By (operation, whether it arrives): whether the port is at the right side of its map, and its y."""


def _ports(grid: Grid, nodes: Sequence[Node], panels: Sequence[_Panel], panel_of: Sequence[int]) -> Ports:
    """The points at which lanes meet maps.

    Arriving operations meet the upper half of a map, the nearest lane at the top; leaving ones the lower half, the
    nearest lane at the bottom. So lines that turn into neighbouring lanes do not cross. All ends that meet a row from
    one gap have different heights, whichever of the two columns they lead to.
    """
    ends_of: dict[tuple[int, int, bool], list[tuple[bool, float, int, float]]] = {}
    for route in grid.routes:
        operation = grid.architecture.topology.operations[route.operation]
        for arrives, index in ((False, operation.source), (True, operation.target)) if route.lanes else ():
            lane, node = route.lanes[-1 if arrives else 0], nodes[index]
            distance = panels[panel_of[node.row]].x[lane] - node.box.x
            end = distance > 0, abs(distance), route.operation, node.box.y
            ends_of.setdefault((lane[0], node.row, arrives), []).append(end)
    ports: Ports = {}
    for (_, _, arrives), ends in ends_of.items():
        step = min(0.07, 0.36 * NODE_HEIGHT / len(ends))
        for n, (right, _, o, y) in enumerate(sorted(ends)):
            middle = 0.22 * NODE_HEIGHT + step * ((len(ends) - 1) / 2 - n)
            ports[o, arrives] = right, y + (-middle if arrives else middle)
    return ports


def _pieces(
    route: LaneRoute, key: int | Lane, ends: tuple[Node, Node], ports: Ports, panels: Sequence[_Panel], track: int
) -> tuple[tuple[Point, ...], ...]:
    """The polylines of an operation: interrupted at the bottom of a panel, continued at the top of the next."""
    source, target = ends
    pieces: list[list[Point]] = [[]]
    if route.lanes:
        right, y = ports[route.operation, False]
        pieces[0] = [(source.box.right if right else source.box.left, y), (panels[0].x[key], y)]
    else:
        pieces[0] = [(source.box.x, source.box.bottom)]
    for above, below in pairwise(panels):
        pieces[-1].append((above.x[key], above.bottom - 0.12))
        pieces.append([(below.x[key], 0.12)])
    if route.lanes:
        right, y = ports[route.operation, True]
        if len(route.lanes) == 2:
            second = panels[-1].x[route.lanes[1]]
            height = target.box.top - 0.06 - _TRACK * track
            pieces[-1] += [(panels[-1].x[key], height), (second, height), (second, y)]
        else:
            pieces[-1].append((panels[-1].x[key], y))
        pieces[-1].append((target.box.right if right else target.box.left, y))
    else:
        pieces[-1].append((target.box.x, target.box.top))
    return tuple(map(tuple, pieces))


def _bands(grid: Grid, panels: Sequence[_Panel], y: Sequence[float]) -> tuple[Band, ...]:
    """The bands of one size, each from directly above its first map to directly above the first map of the next."""
    bands = []
    stage = 0
    for panel in panels:
        starts = [panel.first]
        starts += [r for r in range(panel.first + 1, panel.last) if grid.row_sizes[r] != grid.row_sizes[r - 1]]
        edges = [0.0, *(y[r] - NODE_HEIGHT / 2 - 0.065 for r in starts[1:]), panel.bottom]
        for n, row in enumerate(starts):
            stage += row > 0 and grid.row_sizes[row] != grid.row_sizes[row - 1]
            box = Box(
                x=(panel.left + panel.right) / 2,
                y=(edges[n] + edges[n + 1]) / 2,
                width=panel.right - panel.left,
                height=edges[n + 1] - edges[n],
            )
            bands.append(Band(stage=stage, text=size_text(grid.row_sizes[row]), box=box))
    return tuple(bands)
