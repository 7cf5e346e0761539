"""Labels of operations and maps."""

from __future__ import annotations

from nas.reporting.topology.labels import levels_text, operation_label
from nas.reporting.topology.layout import layout
from search_spaces.residual import Residual

from ... import hand_built
from .drawn_networks import sampled


def test_labels():
    topology = hand_built.mobile().topology
    assert [operation_label(topology, o) for o in topology.operations] == [
        "conv 3×3", "1×1", "dw 5×5", "1×1", "skip", "pool", "linear",
    ]  # fmt: skip
    topology = hand_built.causal().topology
    assert [operation_label(topology, topology.operations[o]) for o in (2, 5, 6)] == [
        "conv 3×3 g6 ◣", "conv 3×3 ↓2 ◣", "avg 2×2 ↓2",
    ]  # fmt: skip
    topology = hand_built.video().topology
    assert operation_label(topology, topology.operations[1]) == "conv 1×3×3 ↓1×2×2"
    assert [edge.text for edge in layout(hand_built.multi_exit()).edges][:4] == [
        "conv 3×3", "conv 3×3", "pool @0", "linear @0",
    ]  # fmt: skip
    assert levels_text([1], 3) == "@1"
    texts = [node.text for node in layout(hand_built.gated_dense()).nodes]
    assert texts[0] == "input 3"
    assert texts[-1] == "5 classes"
    assert "concat 10/14/18" in texts
    assert {"4 · gated", "–/–/4 · gated", "–/4/4 · gated"} < set(texts)
    assert layout(hand_built.multi_exit()).nodes[4].text == "exit 0: 5 classes"
    assert "8…16" in "".join(node.text for node in layout(sampled(Residual(), 5, points=8)).nodes)
