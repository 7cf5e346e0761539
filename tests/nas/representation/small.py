"""A small valid network and its parts, for tests that break one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nas.errors import InvalidArchitecture
from nas.representation.architecture import Architecture
from nas.representation.elements import FeatureMap, Operation, Subnetwork
from nas.representation.topology import Topology

from ..hand_built import TASK

IMAGE = FeatureMap(channels=3, size=(8, 8), slices=(3,))
HIDDEN = FeatureMap(channels=4, size=(8, 8), slices=(2, 4))
VECTOR = FeatureMap(channels=4, size=(), slices=(2, 4))
CLASSES = FeatureMap(channels=5, size=(), slices=(5,))
CONV = Operation(source=0, target=1, kind="conv", kernel=(3, 3), stride=(1, 1), padding=(1, 1))
POOL = Operation(source=1, target=2, kind="global_avg_pool")
LINEAR = Operation(source=2, target=3, kind="linear", bias=True)
NET = Topology(maps=(IMAGE, HIDDEN, VECTOR, CLASSES), operations=(CONV, POOL, LINEAR))
SMALL = Subnetwork(channels=(3, 2, 2, 5), operations=(0, 1, 2), output=3)
LARGE = Subnetwork(channels=(3, 4, 4, 5), operations=(0, 1, 2), output=3)
GOOD = Architecture(task=TASK, topology=NET, points=(SMALL, LARGE))


def network_of(*maps: FeatureMap, **operation: Any) -> Topology:
    return Topology(maps=maps, operations=(Operation(**{"source": 0, "target": 1, "kind": "identity"} | operation),))


def concat(channels: int, **operation: Any) -> Topology:
    """A concat of the image and of a copy of it."""
    concat = FeatureMap(channels=channels, size=(8, 8), slices=(channels,), merge="concat")
    copied = Operation(source=0, target=1, kind="identity")
    into = Operation(**{"source": 1, "target": 2, "kind": "identity"} | operation)
    return Topology(maps=(IMAGE, IMAGE, concat), operations=(copied, replace(copied, target=2), into))


def grouped(source: tuple[int, ...], target: tuple[int, ...], groups: int, **rest: Any) -> Topology:
    maps = (FeatureMap(channels=s[-1], size=(8, 8), slices=s) for s in (source, target))
    return network_of(
        *maps, **{"kind": "conv", "kernel": (1, 1), "stride": (1, 1), "padding": (0, 0)} | rest, groups=groups
    )


def refusal(make: Any) -> str:
    """The message with which a function without arguments raises InvalidArchitecture."""
    with pytest.raises(InvalidArchitecture) as caught:
        make()
    return str(caught.value)
