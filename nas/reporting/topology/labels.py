"""Short texts for operations, levels and sizes in the drawing of a topology, and the width of a text."""

from __future__ import annotations

from collections.abc import Sequence

from nas.reporting.topology.ranks import Grid
from nas.representation.architecture import Architecture
from nas.representation.elements import Operation, size_text
from nas.representation.gates import gated_maps
from nas.representation.kinds import kind
from nas.representation.topology import Topology


def map_labels(grid: Grid) -> list[str]:
    """The labels of maps: channels at every level, and the spatial size if it differs from the size of the row."""
    architecture = grid.architecture
    maps, points = architecture.topology.maps, architecture.points
    gated = {index for module in architecture.topology.gated for index in gated_maps(module)}
    exits: dict[int, list[int]] = {}
    for level, point in enumerate(points):
        exits.setdefault(point.output, []).append(level)
    texts = []
    for index, counts in enumerate(grid.channels):
        largest = max(counts)
        if len(set(counts)) == 1:
            text = str(counts[0])
        elif len(counts) <= 4:
            text = "/".join(str(n) if n else "–" for n in counts)
        else:
            text = f"{min(counts)}…{largest}"
        if index == 0:
            text = f"input {text}"
        elif index in exits:
            levels = ",".join(map(str, exits[index]))
            text = f"{largest} classes" if len(exits) == 1 else f"exit {levels}: {largest} classes"
        elif maps[index].merge == "concat":
            text = f"concat {text}"
        text += " · gated" * (index in gated)
        if maps[index].size != grid.row_sizes[grid.rows[index]] and index not in exits:
            text += f" · {size_text(maps[index].size)}"
        texts.append(text)
    return texts


def operation_labels(architecture: Architecture) -> list[str]:
    """The labels of operations, with their levels if they do not run at all of them."""
    labels = []
    for o, operation in enumerate(architecture.topology.operations):
        levels = levels_text(live_levels(architecture, o), len(architecture.points))
        labels.append(f"{operation_label(architecture.topology, operation)} {levels}".rstrip())
    return labels


def operation_label(topology: Topology, operation: Operation) -> str:
    """Kind, kernel and stride of an operation: ``conv 3×3``, ``dw 5×5 ↓2`` (depthwise, stride 2), ``1×1``, ``skip``.

    g4: 4 groups; ◣: causal, with block-triangular weights.
    """
    window = "×".join(map(str, operation.kernel))
    source, target = topology.maps[operation.source], topology.maps[operation.target]
    if operation.kind == "conv" and operation.groups == source.channels == target.channels > 1:
        words = ["dw", window]
    elif operation.kind == "conv":
        words = [window] if set(operation.kernel) == {1} else ["conv", window]
        words += [f"g{operation.groups}"] * (operation.groups > 1)
    else:
        words = [_SHORT.get(operation.kind, operation.kind.replace("_", " ")), window]
    if operation.stride and max(operation.stride) > 1:
        equal = len(set(operation.stride)) == 1
        words.append("↓" + ("×".join(map(str, operation.stride[:1] if equal else operation.stride))))
    if operation.wiring == "causal" and kind(operation.kind).learned:
        words.append("◣")
    return " ".join(word for word in words if word)


_SHORT = {"identity": "skip", "avg_pool": "avg", "max_pool": "max", "global_avg_pool": "pool"}


def levels_text(levels: Sequence[int], count: int) -> str:
    """The levels, out of ``count``, at which an element is active; empty for all levels.

    >>> levels_text([0, 1, 2], 3), levels_text([1, 2], 3), levels_text([0, 2], 3), levels_text([0, 1], 3)
    ('', '≥1', '@0,2', '≤1')
    """
    levels = sorted(levels)
    if levels == list(range(count)):
        return ""
    if levels == list(range(levels[0], count)):
        return f"≥{levels[0]}"
    if len(levels) > 1 and levels == list(range(levels[-1] + 1)):
        return f"≤{levels[-1]}"
    return "@" + ",".join(map(str, levels))


def live_levels(architecture: Architecture, operation: int) -> list[int]:
    """The levels at which an operation runs."""
    return [level for level, point in enumerate(architecture.points) if operation in point.operations]


def map_ends(architecture: Architecture) -> set[int]:
    """The input and the outputs of all operating points, as map indices."""
    return {0} | {point.output for point in architecture.points}


def text_width(text: str, points: float) -> float:
    """Approximate upper bound of the width, in inches, of a text in DejaVu Sans (shipped with matplotlib)."""
    return sum(_ADVANCE.get(character, 0.64) for character in text) * points / 72


_ADVANCE = {
    " ": 0.32,
    "/": 0.34,
    "·": 0.32,
    ",": 0.32,
    ":": 0.34,
    "i": 0.28,
    "l": 0.28,
    "t": 0.40,
    "r": 0.42,
    "–": 0.51,
}
_ADVANCE |= {"×": 0.84, "≥": 0.84, "≤": 0.84, "↓": 0.84, "◣": 0.78, "m": 0.98, "w": 0.82, "…": 1.0, "@": 1.0}
