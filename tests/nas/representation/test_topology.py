"""The representation: refused data with their messages, JSON round trips, and content hashes."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nas
from nas.errors import InvalidArchitecture, PluginError, UserError
from nas.representation import architecture, elements, topology
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import FeatureMap, Operation, Subnetwork, Task, TrainingSpec
from nas.representation.topology import Topology

from ..hand_built import ALL, TASK, residual
from ..messages import untested
from .test_gates import INVALID as INVALID_GATES

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


def _maps(*maps: FeatureMap, **operation: Any) -> Topology:
    return Topology(maps=maps, operations=(Operation(**{"source": 0, "target": 1, "kind": "identity"} | operation),))


def _concat(channels: int, **operation: Any) -> Topology:
    """A concat of the image and of a copy of it."""
    concat = FeatureMap(channels=channels, size=(8, 8), slices=(channels,), merge="concat")
    copied = Operation(source=0, target=1, kind="identity")
    into = Operation(**{"source": 1, "target": 2, "kind": "identity"} | operation)
    return Topology(maps=(IMAGE, IMAGE, concat), operations=(copied, replace(copied, target=2), into))


def _grouped(source: tuple[int, ...], target: tuple[int, ...], groups: int, **rest: Any) -> Topology:
    maps = (FeatureMap(channels=s[-1], size=(8, 8), slices=s) for s in (source, target))
    return _maps(*maps, **{"kind": "conv", "kernel": (1, 1), "stride": (1, 1), "padding": (0, 0)} | rest, groups=groups)


INVALID = {
    # tasks
    "input_shape must be a tuple of positive ints": lambda: Task(input_shape=(3,), num_classes=2),
    "at least one spatial size. Got (3, 0)": lambda: Task(input_shape=(3, 0), num_classes=2),
    "spatial size. Got [3, 8, 8]": lambda: Task(input_shape=[3, 8, 8], num_classes=2),  # type: ignore[arg-type]
    "spatial size. Got (3, 8.0, 8)": lambda: Task(input_shape=(3, 8.0, 8), num_classes=2),  # type: ignore[arg-type]
    "A task must have at least two classes. Got self.num_classes=1": lambda: replace(TASK, num_classes=1),
    "at least two classes. Got self.num_classes=2.5": lambda: replace(TASK, num_classes=2.5),
    "hierarchy must be a tuple of tuples of int labels. Got [": lambda: replace(TASK, hierarchy=[(0, 0, 1, 1, 1)]),
    "of tuples of int labels. Got ((0, 0, 1, 1, 1.0),)": lambda: replace(TASK, hierarchy=((0, 0, 1, 1, 1.0),)),
    "Each level of the hierarchy must give each of the 5 fine labels": lambda: replace(TASK, hierarchy=((0, 1),)),
    "a coarse label 0..n-1, and use all n. Got (0, 0, 2, 2, 2)": lambda: replace(TASK, hierarchy=((0, 0, 2, 2, 2),)),
    "fewer labels than the one before it, and at least two. Got 5, 1 labels": lambda: replace(
        TASK, hierarchy=((0, 0, 0, 0, 0),)
    ),
    "and at least two. Got 5, 2, 3 labels, finest first.": lambda: replace(
        TASK, hierarchy=((0, 0, 0, 0, 1), (0, 0, 1, 1, 2))
    ),
    "and at least two. Got 5, 5 labels": lambda: replace(
        TASK, hierarchy=((0, 1, 2, 3, 4),)
    ),
    "must join whole labels of the one before it. Got (0, 1, 1, 1, 1)": lambda: replace(
        TASK, hierarchy=((0, 0, 1, 1, 2), (0, 1, 1, 1, 1))
    ),
    "Only labels of a finer labelling can be joined. Got finer=1, coarser=0": lambda: replace(
        TASK, hierarchy=((0, 0, 1, 1, 1),)
    ).joined(1, 0),
    "Got finer=0, coarser=1": lambda: TASK.joined(0, 1),
    "metric must be a name. Got None": lambda: replace(TASK, metric=None),
    # maps
    "channels must be an int, size and slices tuples of int": lambda: replace(HIDDEN, channels=4.0, slices=(2, 4.0)),
    "tuples of int. Got self.channels=4, size=(8, 8), slices=[2, 4]": lambda: replace(HIDDEN, slices=[2, 4]),
    "size=(8, True), slices=(2, 4)": lambda: replace(HIDDEN, size=(8, True)),
    "size=(8, 8), slices=(2, nan)": lambda: replace(HIDDEN, slices=(2, math.nan)),
    "slices=(2, np.int64(4))": lambda: replace(HIDDEN, slices=(2, np.int64(4))),
    "self.channels='4'": lambda: replace(HIDDEN, channels="4"),
    "A feature map must have channels. Got self.channels=0": lambda: replace(HIDDEN, channels=0, slices=(0,)),
    "slices must ascend from at least 1 and end at channels=4. Got slices=()": lambda: replace(HIDDEN, slices=()),
    "end at channels=4. Got slices=(2, 3)": lambda: replace(HIDDEN, slices=(2, 3)),
    "end at channels=4. Got slices=(2, 2, 4)": lambda: replace(HIDDEN, slices=(2, 2, 4)),
    "end at channels=4. Got slices=(0, 4)": lambda: replace(HIDDEN, slices=(0, 4)),
    "merge must be 'sum' or 'concat'. Got 'mean'": lambda: replace(HIDDEN, merge="mean"),
    "A concat must have one slice: its sources determine the rest. Got": lambda: replace(HIDDEN, merge="concat"),
    "activation must be one of ('none', 'relu'": lambda: replace(HIDDEN, activation="norm"),
    "scale must be one of": lambda: replace(HIDDEN, scale="sum"),
    # operations
    "kernel, stride, padding, before and after must be tuples. Got": lambda: replace(CONV, kernel=[3, 3]),
    "self.before='norm'": lambda: replace(CONV, before="norm"),
    "source, target, groups, kernel, stride and padding must be ints": lambda: replace(CONV, groups=2.0),
    "kernel=(3, 3.0)": lambda: replace(CONV, kernel=(3, 3.0)),
    "kind must be a name, bias and optional must be bool. Got 7": lambda: replace(CONV, kind=7),
    "must be bool. Got 'conv', 1, False": lambda: replace(CONV, bias=1),
    "An operation must lead to a later map. Got 1 -> 1": lambda: replace(CONV, source=1),
    "to a later map. Got -1 -> 1": lambda: replace(CONV, source=-1),
    "groups must be at least 1. Got self.groups=0": lambda: replace(CONV, groups=0),
    "wiring must be 'dense' or 'causal'. Got 'sparse'": lambda: replace(CONV, wiring="sparse"),
    "Steps before and after an operation must be among ('norm', 'relu'": lambda: replace(CONV, after=("none",)),
    "at most one norm before and one after it. Got": lambda: replace(CONV, before=("norm", "relu", "norm")),
    # subnetworks
    "channels and operations must be tuples of int, output an int": lambda: replace(SMALL, channels=[3, 2, 2, 5]),
    "operations=(0, 1, 2.0)": lambda: replace(SMALL, operations=(0, 1, 2.0)),
    "self.output=None": lambda: replace(SMALL, output=None),
    # topologies
    "maps must be a tuple of FeatureMap. Got [": lambda: replace(NET, maps=list(NET.maps)),
    "operations must be a tuple of Operation. Got (None,)": lambda: replace(NET, operations=(None,)),
    "A topology must have an input and an output map. Got 1 maps": lambda: Topology(maps=(IMAGE,), operations=()),
    "Map 0, the input, must have no concat, activation": lambda: _maps(replace(IMAGE, activation="relu"), IMAGE),
    "Operation 0 leads to map 7 of 2": lambda: _maps(IMAGE, IMAGE, target=7),
    "Operation 0 (conv 0 -> 1): It produces size (4, 4), but the target map has size (8, 8)": lambda: _maps(
        IMAGE, HIDDEN, kind="conv", kernel=(3, 3), stride=(2, 2), padding=(1, 1)
    ),
    "An operation must write every map but the input. None writes map 2": lambda: _maps(IMAGE, IMAGE, IMAGE),
    "Concat 2 must have the 6 channels of its sources. Got 7": lambda: _concat(7),
    "Only plain identities may feed a concat: put an intermediate map": lambda: _concat(6, before=("relu",)),
    "An identity into a concat is a view: its wiring must be 'dense'": lambda: _concat(6, wiring="causal"),
    "Only learned operations may have a bias": lambda: _maps(IMAGE, IMAGE, bias=True),
    "Only learned operations that mix channels may have groups": lambda: _maps(IMAGE, IMAGE, groups=3),
    "A grouped operation cannot read a concat": lambda: replace(
        _concat(6),
        maps=(*_concat(6).maps, FeatureMap(channels=6, size=(8, 8), slices=(6,))),
        operations=(*_concat(6).operations, replace(CONV, source=2, target=3, groups=2)),
    ),
    "Channels must be whole groups. Got 6 and 4 channels, 4 groups": lambda: _grouped((6,), (4,), 4),
    "Every slice must be whole groups. Got slices (3, 6) and (1, 4) for 2": lambda: _grouped((3, 6), (1, 4), 2),
    "A grouped causal operation needs the same groups in each slice": lambda: _grouped(
        (2, 4, 6), (2, 3, 6), 6, wiring="causal"
    ),
    "equal numbers of slices in source and target, or one in the source. Got 2 and 3": lambda: _grouped(
        (2, 4), (2, 3, 4), 1, wiring="causal"
    ),
    # training rules
    "A training rule must be a name. Got None": lambda: TrainingSpec(rule=None),  # type: ignore[arg-type]
    "Settings must be pairs of a name and a str, finite number": lambda: TrainingSpec(settings=(("a", math.inf),)),
    "bool or None. Got (('a', [1]),)": lambda: TrainingSpec(settings=(("a", [1]),)),  # type: ignore[arg-type]
    "bool or None. Got ((1, 1),)": lambda: TrainingSpec(settings=((1, 1),)),  # type: ignore[arg-type]
    "bool or None. Got {}": lambda: TrainingSpec(settings={}),  # type: ignore[arg-type]
    "Settings must be sorted by name, each once. Got ['b', 'a']": lambda: TrainingSpec(settings=(("b", 1), ("a", 1))),
    "each once. Got ['a', 'a']": lambda: TrainingSpec(settings=(("a", 1), ("a", 2))),
    # architectures
    "task must be a Task. Got None": lambda: replace(GOOD, task=None),
    "topology must be a Topology. Got {}": lambda: replace(GOOD, topology={}),
    "training must be a TrainingSpec. Got 'joint'": lambda: replace(GOOD, training="joint"),
    "points must be a tuple of Subnetwork. Got [": lambda: replace(GOOD, points=[LARGE]),
    "Map 0 must have the task's input shape (1, 8, 8). Got (3, 8, 8)": lambda: replace(
        GOOD, task=Task(input_shape=(1, 8, 8), num_classes=5)
    ),
    "norm must be one of ('shared', 'per_point', 'recalibrated'). Got None": lambda: replace(GOOD, norm=None),
    "An architecture must have at least one operating point": lambda: replace(GOOD, points=()),
    "Operating points must grow in MACs. Got macs=(6932, 3466) at levels 0 and 1": lambda: replace(
        GOOD, points=(LARGE, SMALL)
    ),
    "Operating point 1: It must declare the channels": lambda: replace(
        GOOD, points=(SMALL, replace(LARGE, channels=(3,)))
    ),
    # JSON
    "This version reads architectures of format 1. Got format None": lambda: Architecture.from_json({}),
    "of format 1. Got format 'list'": lambda: Architecture.from_json([]),  # type: ignore[arg-type]
    "of format 1. Got format 2": lambda: Architecture.from_json(GOOD.to_json() | {"format": 2}),
    "The data is not an architecture: it has unknown entries ['weights']": lambda: Architecture.from_json(
        GOOD.to_json() | {"weights": 1}
    ),
    "The data is not an architecture: TypeError": lambda: Architecture.from_json(GOOD.to_json() | {"maps": None}),
}  # fmt: skip


def _said(make: Any) -> str:
    with pytest.raises(InvalidArchitecture) as caught:
        make()
    return str(caught.value)


@pytest.mark.parametrize("message", INVALID)
def test_invalid_data_are_refused(message: str) -> None:
    assert message in _said(INVALID[message])


@pytest.mark.parametrize("module", [elements, topology, architecture], ids=lambda module: module.__name__)
def test_every_message_is_tested(module: ModuleType) -> None:
    assert not untested(module, [*map(_said, INVALID.values()), *INVALID_GATES])


def test_the_network_that_the_table_breaks_is_one() -> None:
    assert nas.macs(GOOD) == (8 * 8 * 9 * 3 * 2 + 2 * 5, 8 * 8 * 9 * 3 * 4 + 4 * 5)
    assert nas.params(GOOD) == (9 * 3 * 2 + 2 * 5 + 5, 9 * 3 * 4 + 4 * 5 + 5)


def test_data_are_frozen_and_compare_by_value() -> None:
    for item in (TASK, HIDDEN, CONV, SMALL, NET, GOOD, TrainingSpec()):
        assert copy.deepcopy(item) == item
        with pytest.raises(FrozenInstanceError):
            setattr(item, fields(item)[0].name, None)
    assert len({HIDDEN, copy.deepcopy(HIDDEN), replace(HIDDEN, activation="relu")}) == 2
    assert len({SMALL, copy.deepcopy(SMALL), LARGE}) == 2


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


# JSON ------------------------------------------------------------------------------------------------------------


def _paths(data: Any, path: tuple = ()) -> list[tuple]:
    """Every place in JSON data."""
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [p for key, value in inside for p in [(*path, key), *_paths(value, (*path, key))]]


JSON = json.loads(json.dumps(replace(residual(), training=TrainingSpec(settings=(("sampled", 2),))).to_json()))
PLACES = _paths(JSON)
ODD = (None, True, -1, 0, 1, 10**30, -(10**30), 2.5, math.nan, math.inf, "", "conv", [], [[]], {}, {"a": 1}, [None])


def test_leaving_out_defaults_leaves_little() -> None:
    assert "activation" not in JSON["maps"][0]
    assert json.dumps(JSON["operations"][0]).count(":") <= 8


@given(st.sampled_from(PLACES), st.sampled_from(ODD))
@settings(max_examples=400, deadline=None)
def test_data_with_a_changed_value_are_an_architecture_or_refused(place: tuple, value: Any) -> None:
    data = copy.deepcopy(JSON)
    at = data
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    _architecture_or_refusal(data)


@given(st.sampled_from(PLACES))
@settings(max_examples=200, deadline=None)
def test_data_with_a_missing_value_are_an_architecture_or_refused(place: tuple) -> None:
    data = copy.deepcopy(JSON)
    at = data
    for key in place[:-1]:
        at = at[key]
    del at[place[-1]]
    _architecture_or_refusal(data)


def _architecture_or_refusal(data: Any) -> None:
    with contextlib.suppress(InvalidArchitecture, PluginError):  # PluginError: of an unknown kind
        found = Architecture.from_json(data)
        assert Architecture.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found


@pytest.mark.parametrize("place", [("task",), ("maps", 0), ("operations", 0), ("points", 0), ("training",), ()])
def test_unknown_entries_are_refused(place: tuple) -> None:
    data = copy.deepcopy(JSON)
    at = data
    for key in place:
        at = at[key]
    at["colour"] = "red"
    assert "colour" in _said(lambda: Architecture.from_json(data))


@pytest.mark.parametrize("data", [None, 1, "text", [], [1], {"format": 1}, {"format": 1, "task": []}])
def test_data_that_are_no_architecture_at_all(data: Any) -> None:
    _said(lambda: Architecture.from_json(data))


def test_an_unknown_kind_is_a_missing_plug_in() -> None:
    data = copy.deepcopy(JSON)
    data["operations"][0]["kind"] = "convolution"
    with pytest.raises(PluginError, match=r"Unknown kind 'convolution'.*Valid: avg_pool, conv"):
        Architecture.from_json(data)


@pytest.mark.parametrize("value", ["text", "", 1, -(2**70), True, None, 0.1, 1e-300])
def test_settings_survive_json(value: Any) -> None:
    made = replace(GOOD, training=TrainingSpec(rule="joint", settings=(("a", value), ("b", 1))))
    again = Architecture.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    assert again.key == made.key
    assert type(again.training.settings[0][1]) is type(value)


def test_the_hierarchy_survives_json() -> None:
    made = replace(GOOD, task=replace(TASK, hierarchy=((0, 0, 1, 1, 2), (0, 0, 0, 0, 1)), metric="top-1"))
    assert Architecture.from_json(json.loads(json.dumps(made.to_json()))) == made


# Keys ------------------------------------------------------------------------------------------------------------


def _operation(**changes: Any) -> Topology:
    return replace(NET, operations=(replace(CONV, **changes), POOL, LINEAR))


def _map(**changes: Any) -> Topology:
    return replace(NET, maps=(IMAGE, replace(HIDDEN, **changes), VECTOR, CLASSES))


OTHER_NETWORKS = {
    "kernel": {"topology": _operation(kernel=(1, 1), padding=(0, 0))},
    "kernel and padding": {"topology": _operation(kernel=(5, 5), padding=(2, 2))},
    "before": {"topology": _operation(before=("relu",))},
    "after": {"topology": _operation(after=("norm",))},
    "order of steps": {"topology": _operation(after=("relu", "norm"))},
    "order of steps, turned": {"topology": _operation(after=("norm", "relu"))},
    "bias": {"topology": _operation(bias=True)},
    "optional": {"topology": _operation(optional=True)},
    "wiring": {"topology": _operation(wiring="causal")},
    "activation": {"topology": _map(activation="relu")},
    "scale": {"topology": _map(scale="mean")},
    "other scale": {"topology": _map(scale="full")},
    "norm": {"norm": "per_point"},
    "other norm": {"norm": "shared"},
    "points": {"points": (LARGE,)},
    "points of the same cost": {"points": (replace(SMALL, channels=(3, 4, 2, 5)), LARGE)},
    "hierarchy": {"task": replace(TASK, hierarchy=((0, 0, 1, 1, 1),))},
    "metric": {"task": replace(TASK, metric="top-5")},
    "kind": {"topology": replace(NET, operations=(CONV, replace(POOL, before=("silu",)), LINEAR))},
    "parallel": {
        "topology": replace(NET, operations=(CONV, CONV, POOL, LINEAR)),
        "points": tuple(replace(p, operations=(0, 1, 2, 3)) for p in (SMALL, LARGE)),
    },
}


def test_keys_tell_apart_all_that_matters() -> None:
    others = {name: replace(GOOD, **changes) for name, changes in OTHER_NETWORKS.items()}
    keys = {"itself": GOOD.key} | {name: other.key for name, other in others.items()}
    network_keys = {GOOD.network_key} | {other.network_key for other in others.values()}
    assert len(set(keys.values())) == len(keys) == len(network_keys)
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys.values())


def test_keys_are_a_contract_with_stores_on_disk() -> None:
    assert (GOOD.key, GOOD.network_key) == ("8e253330f5ed89fe", "9a39902c9d7999c7")


@pytest.mark.parametrize(
    "training",
    [TrainingSpec(rule="joint"), TrainingSpec(settings=(("soft", True),)), TrainingSpec(settings=(("soft", 1),))],
    ids=["rule", "settings", "type of a setting"],
)
def test_the_training_rule_changes_the_key_and_not_the_network(training: TrainingSpec) -> None:
    other = replace(GOOD, training=training)
    assert other.network_key == GOOD.network_key
    assert other.key != GOOD.key


def test_settings_that_are_equal_as_numbers_have_different_keys() -> None:
    keys = {replace(GOOD, training=TrainingSpec(settings=(("soft", v),))).key for v in (True, 1, 1.0, "1", None)}
    assert len(keys) == 5


def test_keys_do_not_depend_on_the_process() -> None:
    text = json.dumps(residual().to_json())
    code = "import json, nas, sys; print(nas.Architecture.from_json(json.load(sys.stdin)).key)"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    found = subprocess.run([sys.executable, "-c", code], input=text, stdout=-1, text=True, check=True, env=environment)
    assert found.stdout.strip() == residual().key


def test_other_points_on_the_same_topology() -> None:
    fewer = GOOD.with_points([LARGE])
    assert (fewer.topology, fewer.points) == (GOOD.topology, (LARGE,))
    with pytest.raises(UserError, match="Operating point 0"):
        GOOD.with_points([replace(LARGE, output=1)])


def test_builder_and_plain_data_agree() -> None:
    builder = Builder(TASK)
    x = builder.conv(builder.input, (2, 4))
    builder.head(x)
    assert builder.architecture(2) == GOOD
