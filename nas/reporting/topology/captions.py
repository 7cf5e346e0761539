"""What stands in the drawing of a topology: operations, levels and sizes in a few characters, and how wide they are."""

from __future__ import annotations

from collections.abc import Sequence

from nas.representation.architecture import Architecture
from nas.representation.elements import Operation
from nas.representation.kinds import kind
from nas.representation.topology import Topology


def operation_label(topology: Topology, operation: Operation) -> str:
    """What an operation is, briefly: ``conv 3×3``, ``dw 5×5 ↓2`` (depthwise, stride 2), ``1×1``, ``skip``, ``pool``.

    g4: in 4 groups; ◣: causal, its weights are block-triangular.
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
        same = len(set(operation.stride)) == 1
        words.append("↓" + ("×".join(map(str, operation.stride[:1] if same else operation.stride))))
    if operation.wiring == "causal" and kind(operation.kind).learned:
        words.append("◣")
    return " ".join(word for word in words if word)


_SHORT = {"identity": "skip", "avg_pool": "avg", "max_pool": "max", "global_avg_pool": "pool"}


def levels_text(levels: Sequence[int], count: int) -> str:
    """At which of ``count`` levels something is there: nothing to say where it always is.

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


def size_text(size: Sequence[int]) -> str:
    """A spatial size: ``32×32``, or ``vector``."""
    return "×".join(map(str, size)) or "vector"


def live_levels(architecture: Architecture, operation: int) -> list[int]:
    """The levels whose point runs an operation."""
    return [level for level, point in enumerate(architecture.points) if operation in point.operations]


def map_ends(architecture: Architecture) -> set[int]:
    """The input and all outputs."""
    return {0} | {point.output for point in architecture.points}


def text_width(text: str, points: float) -> float:
    """Width in inches of a text in DejaVu Sans, which matplotlib ships, rounded up a little."""
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
