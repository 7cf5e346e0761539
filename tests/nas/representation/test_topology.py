"""Topologies: refused combinations with their messages, and derived parts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas.representation import topology
from nas.representation.elements import FeatureMap
from nas.representation.topology import Topology

from ..hand_built import ALL
from ..messages import untested
from .small import (
    CONV,
    HIDDEN,
    IMAGE,
    NET,
    concat,
    grouped,
    network_of,
    refusal,
)
from .test_gates import INVALID as INVALID_GATES

INVALID = {
    "maps must be a tuple of FeatureMap. Got [": lambda: replace(NET, maps=list(NET.maps)),
    "operations must be a tuple of Operation. Got (None,)": lambda: replace(NET, operations=(None,)),
    "A topology must have an input and an output map. Got 1 maps": lambda: Topology(maps=(IMAGE,), operations=()),
    "Map 0, the input, must have no concat, activation": lambda: network_of(replace(IMAGE, activation="relu"), IMAGE),
    "Operation 0 leads to map 7 of 2": lambda: network_of(IMAGE, IMAGE, target=7),
    "Operation 0 (conv 0 -> 1): It produces size (4, 4), but the target map has size (8, 8)": lambda: network_of(
        IMAGE, HIDDEN, kind="conv", kernel=(3, 3), stride=(2, 2), padding=(1, 1)
    ),
    "An operation must write every map but the input. None writes map 2": lambda: network_of(IMAGE, IMAGE, IMAGE),
    "Concat 2 must have the 6 channels of its sources. Got 7": lambda: concat(7),
    "Only plain identities may feed a concat: put an intermediate map": lambda: concat(6, before=("relu",)),
    "An identity into a concat is a view: its wiring must be 'dense'": lambda: concat(6, wiring="causal"),
    "Only learned operations may have a bias": lambda: network_of(IMAGE, IMAGE, bias=True),
    "Only learned operations that mix channels may have groups": lambda: network_of(IMAGE, IMAGE, groups=3),
    "A grouped operation cannot read a concat": lambda: replace(
        concat(6),
        maps=(*concat(6).maps, FeatureMap(channels=6, size=(8, 8), slices=(6,))),
        operations=(*concat(6).operations, replace(CONV, source=2, target=3, groups=2)),
    ),
    "Channels must be whole groups. Got 6 and 4 channels, 4 groups": lambda: grouped((6,), (4,), 4),
    "Every slice must be whole groups. Got slices (3, 6) and (1, 4) for 2": lambda: grouped((3, 6), (1, 4), 2),
    "A grouped causal operation needs the same groups in each slice": lambda: grouped(
        (2, 4, 6), (2, 3, 6), 6, wiring="causal"
    ),
    "equal numbers of slices in source and target, or one in the source. Got 2 and 3": lambda: grouped(
        (2, 4), (2, 3, 4), 1, wiring="causal"
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", INVALID)
def test_invalid_data_are_refused(message: str) -> None:
    assert message in refusal(INVALID[message])


def test_every_message_is_tested() -> None:
    assert not untested(topology, [*map(refusal, INVALID.values()), *INVALID_GATES])


def test_derived_parts_of_a_topology() -> None:
    top = ALL["gated_dense"]().topology
    concats = [i for i, m in enumerate(top.maps) if m.merge == "concat"]
    assert top.declared == tuple(i for i in range(len(top.maps)) if i not in concats)
    last = concats[-1]
    assert [top.operations[o].source for o in top.incoming[last]] == [1, 2, 4, 6]
    assert top.blocks(last) == ((6, 0), (4, 0), (4, 0), (4, 0))
    assert HIDDEN.slices == (2, 4)
    assert NET.blocks(1) == ((2, 0), (2, 1))
    smallest, middle, largest = ALL["gated_dense"]().points
    assert [top.active(p)[last] for p in (smallest, middle, largest)] == [10, 14, 18]
