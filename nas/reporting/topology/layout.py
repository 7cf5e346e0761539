"""Where everything goes in the drawing of a topology: plain coordinates in inches, without a plotting library.

A layered layout that needs no crossing heuristics for the networks at hand. A map's row is its depth (the longest path
from the input); the longest path of all, the trunk, is a straight column, and what is beside it fills columns of its
own. An operation between neighbours of one column is a straight line; every other one runs down a *lane*, a vertical
track beside the column: lanes hold one operation at any height, shorter ones lie inside, and each operation takes the
side where it crosses fewer. Labels sit in the gaps between rows and horizontal lines at the height of rows, so that no
line runs through a label or a map. A deep network is folded into panels, like a text into columns. What goes where is
decided in :mod:`nas.reporting.topology.lanes`; here it gets coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from nas.reporting.topology.captions import levels_text, live_levels, map_ends, operation_label, size_text, text_width
from nas.reporting.topology.lanes import LEFT_OF, Lane, Plan, Route, even_cuts, planned
from nas.representation.architecture import Architecture
from nas.representation.gates import gated_maps

Point = tuple[float, float]

NODE_POINTS, LABEL_POINTS = 7.5, 7.0
"""Sizes of type, in points, of maps and of operations."""
NODE_HEIGHT, LABEL_HEIGHT = 0.25, 0.175
BAR_PITCH = 0.05
_GAP, _TRACK, _FOLD, _PAD = 0.34, 0.075, 0.34, 0.14
_LANE_PAD, _NARROWEST_LANE = 0.11, 0.15
_COLUMN_PAD = 0.14
_PANEL_GAP = 0.22
_TALLEST, _ASPECT = 9.0, 1.45
_MOST_PANELS = 6


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

    def overlaps(self, other: Box) -> bool:
        """Whether the two share an area."""
        return (
            abs(self.x - other.x) < (self.width + other.width) / 2 - 1e-9
            and abs(self.y - other.y) < (self.height + other.height) / 2 - 1e-9
        )


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
    """An operation. pieces: polylines from source to target, more than one where it runs over a fold.

    text, label: what it is called, and the box of that. straight: it is part of its column.
    """

    operation: int
    pieces: tuple[tuple[Point, ...], ...]
    text: str
    label: Box
    straight: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A stretch of one spatial size, in one panel. stage: counts the changes of size."""

    stage: int
    text: str
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A topology with places for everything. nodes, edges: in the order of maps and operations of `architecture`."""

    architecture: Architecture
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    bands: tuple[Band, ...]
    width: float
    height: float


def layout(architecture: Architecture, *, margin: Point = (0.0, 0.0)) -> Drawing:
    """The places of all maps and operations of the canonical architecture. Deterministic.

    margin: width and height, in inches, of what will stand beside and above the drawing: the number of panels is the
        one that makes the whole figure fit a screen best.

    Notes
    -----
    O(E²) in the number of operations, for the lanes; some milliseconds at 60.
    """
    plan = planned(architecture.canonical)
    whole = _placed(plan, ())
    if whole.height + margin[1] <= _TALLEST:
        return whole
    folded = [_placed(plan, even_cuts(plan, n)) for n in range(1, 1 + min(_MOST_PANELS, max(1, plan.num_rows // 6)))]

    def misfit(drawing: Drawing) -> float:
        return abs(math.log((drawing.width + margin[0]) / (drawing.height + margin[1]) / _ASPECT))

    return min(folded, key=misfit)


def _node_texts(plan: Plan) -> list[str]:
    """Channels at every level; what is not the size of its band says so."""
    architecture = plan.architecture
    maps, points = architecture.topology.maps, architecture.points
    gated = {index for module in architecture.topology.gated for index in gated_maps(module)}
    exits: dict[int, list[int]] = {}
    for level, point in enumerate(points):
        exits.setdefault(point.output, []).append(level)
    texts = []
    for index, counts in enumerate(plan.channels):
        there = sorted({n for n in counts if n})
        if len(set(counts)) == 1:
            text = str(counts[0])
        elif len(counts) <= 4:
            text = "/".join(str(n) if n else "–" for n in counts)
        else:
            text = f"{min(counts)}…{there[-1]}"
        if index == 0:
            text = f"input {text}"
        elif index in exits:
            which = ",".join(map(str, exits[index]))
            text = f"{there[-1]} classes" if len(exits) == 1 else f"exit {which}: {there[-1]} classes"
        elif maps[index].merge == "concat":
            text = f"concat {text}"
        text += " · gated" * (index in gated)
        if maps[index].size != plan.sizes[plan.rows[index]] and index not in exits:
            text += f" · {size_text(maps[index].size)}"
        texts.append(text)
    return texts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """A stretch of rows. x: of columns (by place) and lanes; left, right, bottom: its frame; strip: room for sizes."""

    first: int
    last: int
    left: float
    right: float
    strip: float
    bottom: float
    x: dict[int | Lane, float]


def _placed(plan: Plan, cuts: Sequence[int]) -> Drawing:
    """Coordinates for a plan that is folded before the given rows."""
    texts, labels = _node_texts(plan), _labels(plan.architecture)
    label_widths = [text_width(text, LABEL_POINTS) + 0.11 for text in labels]
    ends = map_ends(plan.architecture)
    bars = [0.0 if o in ends else bars_width(counts) for o, counts in enumerate(plan.channels)]
    node_widths = [text_width(text, NODE_POINTS) + 0.2 + width for text, width in zip(texts, bars)]
    y, heights = _heights(plan, cuts)
    panels = _panels(plan, cuts, label_widths, node_widths, heights)
    panel_of = [next(p for p, panel in enumerate(panels) if row < panel.last) for row in range(plan.num_rows)]
    wide = [max(w for w, c in zip(node_widths, plan.columns) if c == column) for column in plan.columns]
    nodes = []
    for index, text in enumerate(texts):
        row, column = plan.rows[index], plan.columns[index]
        box = Box(x=panels[panel_of[row]].x[plan.place[column]], y=y[row], width=wide[index], height=NODE_HEIGHT)
        nodes.append(Node(map=index, row=row, column=column, channels=tuple(plan.channels[index]), text=text, box=box))
    return Drawing(
        architecture=plan.architecture,
        nodes=tuple(nodes),
        edges=_edges(plan, nodes, labels, label_widths, panels, panel_of),
        bands=_bands(plan, panels, y),
        width=panels[-1].right,
        height=max(heights),
    )


def _labels(architecture: Architecture) -> list[str]:
    """Operations with the levels that they run at, where those are not all."""
    labels = []
    for o, operation in enumerate(architecture.topology.operations):
        levels = levels_text(live_levels(architecture, o), len(architecture.points))
        labels.append(f"{operation_label(architecture.topology, operation)} {levels}".rstrip())
    return labels


def _edges(
    plan: Plan,
    nodes: Sequence[Node],
    labels: Sequence[str],
    label_widths: Sequence[float],
    panels: Sequence[_Panel],
    panel_of: Sequence[int],
) -> tuple[Edge, ...]:
    """Every operation, with its label in the gap below the middle row of those that it passes."""
    heights = {node.row: node.box.y for node in nodes}
    ports, tracks = _ports(plan, nodes, panels, panel_of), _tracks(plan)
    topology, edges = plan.architecture.topology, []
    for route, text, width in zip(plan.routes, labels, label_widths):
        operation = topology.operations[route.operation]
        source, target = nodes[operation.source], nodes[operation.target]
        key = route.lanes[0] if route.lanes else plan.place[source.column]
        row = (route.top + route.bottom - 1) // 2
        y = heights[row] + NODE_HEIGHT / 2 + _GAP / 2
        label = Box(x=panels[panel_of[row]].x[key], y=y, width=width, height=LABEL_HEIGHT)
        passed = panels[panel_of[route.top] : panel_of[route.bottom] + 1]
        pieces = _pieces(route, key, (source, target), ports, passed, tracks.get(route.operation, 0))
        edges.append(Edge(operation=route.operation, pieces=pieces, text=text, label=label, straight=not route.lanes))
    return tuple(edges)


def bars_width(channels: Sequence[int]) -> float:
    """The room, in inches, of the bars that show a map's channels at every level: none where they are all the same."""
    return len(channels) * BAR_PITCH + 0.04 if len(set(channels)) > 1 else 0.0


def _heights(plan: Plan, cuts: Sequence[int]) -> tuple[list[float], list[float]]:
    """y of every row, and the height of every panel."""
    tracks = _tracks(plan)
    y: list[float] = []
    heights = []
    for first, last in pairwise((0, *cuts, plan.num_rows)):
        at = _FOLD if first else _PAD
        for row in range(first, last):
            at += _TRACK * sum(plan.routes[o].bottom == row for o in tracks) + NODE_HEIGHT / 2
            y.append(at)
            at += NODE_HEIGHT / 2 + _GAP
        heights.append(at - _GAP + _PAD if last == plan.num_rows else at + _FOLD - 0.1)
    return y, heights


def _tracks(plan: Plan) -> dict[int, int]:
    """Of every operation that passes columns, the number of its horizontal track above the row it leads to."""
    numbers: dict[int, int] = {}
    rows: dict[int, int] = {}
    for route in plan.routes:
        if len(route.lanes) == 2:
            numbers[route.operation] = rows.get(route.bottom, 0)
            rows[route.bottom] = numbers[route.operation] + 1
    return numbers


def _panels(
    plan: Plan,
    cuts: Sequence[int],
    label_widths: Sequence[float],
    node_widths: Sequence[float],
    heights: Sequence[float],
) -> list[_Panel]:
    """The panels from left to right: each as wide as the columns and lanes that it needs."""
    panels, left = [], 0.0
    for (first, last), height in zip(pairwise((0, *cuts, plan.num_rows)), heights):
        columns, lanes = _widths(plan, first, last, label_widths, node_widths)
        strip = 0.16 + max(text_width(size_text(plan.sizes[row]), 8) for row in range(first, last))
        x: dict[int | Lane, float] = {}
        right = left + strip
        for gap in range(len(plan.place) + 1):
            own = sorted(lane for lane in lanes if lane[0] == gap)
            for lane in sorted(own, key=lambda lane: (lane[1], -lane[2] if lane[1] == LEFT_OF else lane[2])):
                x[lane] = right + (lanes[lane] + _LANE_PAD) / 2
                right += lanes[lane] + _LANE_PAD
            if gap < len(plan.place):
                pad = _COLUMN_PAD if columns[gap] else 0.0
                x[gap] = right + pad + columns[gap] / 2
                right += columns[gap] + 2 * pad
        right += 0.08
        panels.append(_Panel(first=first, last=last, left=left, right=right, strip=strip, bottom=height, x=x))
        left = right + _PANEL_GAP
    return panels


def _widths(
    plan: Plan, first: int, last: int, label_widths: Sequence[float], node_widths: Sequence[float]
) -> tuple[list[float], dict[Lane, float]]:
    """Of the columns, 0 where nothing is, and of the lanes of the panel with these rows."""
    operations = plan.architecture.topology.operations
    columns = [0.0] * len(plan.place)
    for index, row in enumerate(plan.rows):
        if first <= row < last:
            at = plan.place[plan.columns[index]]
            columns[at] = max(w for w, c in zip(node_widths, plan.columns) if plan.place[c] == at)
    lanes: dict[Lane, float] = {}
    for route, width in zip(plan.routes, label_widths):
        here = first <= (route.top + route.bottom - 1) // 2 < last
        if not route.lanes:
            at = plan.place[plan.columns[operations[route.operation].source]]
            columns[at] = max(columns[at], width if here else 0.0)
        for n, lane in enumerate(route.lanes):
            top = route.top if n == 0 else route.bottom
            if top < last and route.bottom >= first:
                lanes[lane] = max(lanes.get(lane, _NARROWEST_LANE), width if here and n == 0 else 0.0)
    return columns, lanes


Ports = dict[tuple[int, bool], tuple[bool, float]]
"""Of (operation, whether it arrives): whether it is at the right side of its map, and y."""


def _ports(plan: Plan, nodes: Sequence[Node], panels: Sequence[_Panel], panel_of: Sequence[int]) -> Ports:
    """Where lanes meet maps. What arrives does so in the upper half, the nearest lane on top; what leaves in the lower
    half, the nearest lane at the bottom: so lines that turn into neighbouring lanes do not cross. All that meets a row
    from one gap has a height of its own, whichever of the two columns it leads to.
    """
    meeting: dict[tuple[int, int, bool], list[tuple[bool, float, int, float]]] = {}
    for route in plan.routes:
        operation = plan.architecture.topology.operations[route.operation]
        for arrives, index in ((False, operation.source), (True, operation.target)) if route.lanes else ():
            lane, node = route.lanes[-1 if arrives else 0], nodes[index]
            away = panels[panel_of[node.row]].x[lane] - node.box.x
            end = away > 0, abs(away), route.operation, node.box.y
            meeting.setdefault((lane[0], node.row, arrives), []).append(end)
    ports: Ports = {}
    for (_, _, arrives), ends in meeting.items():
        step = min(0.07, 0.36 * NODE_HEIGHT / len(ends))
        for n, (right, _, o, y) in enumerate(sorted(ends)):
            middle = 0.22 * NODE_HEIGHT + step * ((len(ends) - 1) / 2 - n)
            ports[o, arrives] = right, y + (-middle if arrives else middle)
    return ports


def _pieces(
    route: Route, key: int | Lane, ends: tuple[Node, Node], ports: Ports, panels: Sequence[_Panel], track: int
) -> tuple[tuple[Point, ...], ...]:
    """The polylines of an operation: cut at the bottom of a panel, going on at the top of the next."""
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
            other = panels[-1].x[route.lanes[1]]
            height = target.box.top - 0.06 - _TRACK * track
            pieces[-1] += [(panels[-1].x[key], height), (other, height), (other, y)]
        else:
            pieces[-1].append((panels[-1].x[key], y))
        pieces[-1].append((target.box.right if right else target.box.left, y))
    else:
        pieces[-1].append((target.box.x, target.box.top))
    return tuple(map(tuple, pieces))


def _bands(plan: Plan, panels: Sequence[_Panel], y: Sequence[float]) -> tuple[Band, ...]:
    """The stretches of one size, from right above their first map to right above that of the next."""
    bands = []
    stage = 0
    for panel in panels:
        starts = [panel.first]
        starts += [r for r in range(panel.first + 1, panel.last) if plan.sizes[r] != plan.sizes[r - 1]]
        edges = [0.0, *(y[r] - NODE_HEIGHT / 2 - 0.065 for r in starts[1:]), panel.bottom]
        for n, row in enumerate(starts):
            stage += row > 0 and plan.sizes[row] != plan.sizes[row - 1]
            box = Box(
                x=(panel.left + panel.right) / 2,
                y=(edges[n] + edges[n + 1]) / 2,
                width=panel.right - panel.left,
                height=edges[n + 1] - edges[n],
            )
            bands.append(Band(stage=stage, text=size_text(plan.sizes[row]), box=box))
    return tuple(bands)
