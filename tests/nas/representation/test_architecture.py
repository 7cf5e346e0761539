"""Architectures: refused data with their messages, JSON round trips, and content hashes."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nas
from nas.errors import InvalidArchitecture, PluginError, UserError
from nas.representation import architecture
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import Task, TrainingSpec
from nas.representation.topology import Topology

from ..hand_built import TASK, residual
from ..messages import untested
from ..random_networks import architectures
from .small import (
    CLASSES,
    CONV,
    GOOD,
    HIDDEN,
    IMAGE,
    LARGE,
    LINEAR,
    NET,
    POOL,
    SMALL,
    VECTOR,
    refusal,
)

INVALID = {
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
    "This version reads architectures of format 1. Got format None": lambda: Architecture.from_json({}),
    "of format 1. Got format 'list'": lambda: Architecture.from_json([]),  # type: ignore[arg-type]
    "of format 1. Got format 2": lambda: Architecture.from_json(GOOD.to_json() | {"format": 2}),
    "The data is not an architecture: it has unknown entries ['weights']": lambda: Architecture.from_json(
        GOOD.to_json() | {"weights": 1}
    ),
    "The data is not an architecture: TypeError": lambda: Architecture.from_json(GOOD.to_json() | {"maps": None}),
}  # fmt: skip


@pytest.mark.parametrize("message", INVALID)
def test_invalid_data_are_refused(message: str) -> None:
    assert message in refusal(INVALID[message])


def test_every_message_is_tested() -> None:
    assert not untested(architecture, [*map(refusal, INVALID.values())])


def test_the_network_that_the_table_breaks_is_one() -> None:
    assert nas.macs(GOOD) == (8 * 8 * 9 * 3 * 2 + 2 * 5, 8 * 8 * 9 * 3 * 4 + 4 * 5)
    assert nas.params(GOOD) == (9 * 3 * 2 + 2 * 5 + 5, 9 * 3 * 4 + 4 * 5 + 5)


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
        parsed = Architecture.from_json(data)
        assert Architecture.from_json(json.loads(json.dumps(parsed.to_json(), allow_nan=False))) == parsed


@pytest.mark.parametrize("place", [("task",), ("maps", 0), ("operations", 0), ("points", 0), ("training",), ()])
def test_unknown_entries_are_refused(place: tuple) -> None:
    data = copy.deepcopy(JSON)
    at = data
    for key in place:
        at = at[key]
    at["colour"] = "red"
    assert "colour" in refusal(lambda: Architecture.from_json(data))


@pytest.mark.parametrize("data", [None, 1, "text", [], [1], {"format": 1}, {"format": 1, "task": []}])
def test_data_that_are_no_architecture_at_all(data: Any) -> None:
    refusal(lambda: Architecture.from_json(data))


def test_an_unknown_kind_is_a_missing_plug_in() -> None:
    data = copy.deepcopy(JSON)
    data["operations"][0]["kind"] = "convolution"
    with pytest.raises(PluginError, match=r"Unknown kind 'convolution'.*Valid: avg_pool, conv"):
        Architecture.from_json(data)


@pytest.mark.parametrize("value", ["text", "", 1, -(2**70), True, None, 0.1, 1e-300])
def test_settings_survive_json(value: Any) -> None:
    original = replace(GOOD, training=TrainingSpec(rule="joint", settings=(("a", value), ("b", 1))))
    again = Architecture.from_json(json.loads(json.dumps(original.to_json())))
    assert again == original
    assert again.key == original.key
    assert type(again.training.settings[0][1]) is type(value)


def test_the_hierarchy_survives_json() -> None:
    original = replace(GOOD, task=replace(TASK, hierarchy=((0, 0, 1, 1, 2), (0, 0, 0, 0, 1)), metric="top-1"))
    assert Architecture.from_json(json.loads(json.dumps(original.to_json()))) == original


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
    variants = {name: replace(GOOD, **changes) for name, changes in OTHER_NETWORKS.items()}
    keys = {"itself": GOOD.key} | {name: other.key for name, other in variants.items()}
    network_keys = {GOOD.network_key} | {other.network_key for other in variants.values()}
    assert len(set(keys.values())) == len(keys) == len(network_keys)
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys.values())


@given(architectures())
@settings(max_examples=60, deadline=None)
def test_keys_are_hashes_of_all_values_that_matter(architecture: Architecture) -> None:
    trimmed = architecture.canonical

    def values(items: Iterable[Any]) -> list[tuple[Any, ...]]:
        return [tuple(getattr(item, f.name) for f in fields(item)) for item in items]

    state = (
        *values([architecture.task]),
        values(trimmed.topology.maps),
        values(trimmed.topology.operations),
        values(trimmed.points),
        architecture.norm,
        *values(trimmed.topology.gated),
    )
    assert architecture.network_key == hashlib.sha256(repr(state).encode()).hexdigest()[:16]


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
    completed = subprocess.run(
        [sys.executable, "-c", code], input=text, stdout=-1, text=True, check=True, env=environment
    )
    assert completed.stdout.strip() == residual().key


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
