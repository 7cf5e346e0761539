"""Benchmarks compare networks of equal cost, and their tables and statistics are correct."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nas.execution.network import AnytimeNetwork
from nas.representation.architecture import Architecture
from nas.representation.elements import Task

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    """Imports a file of the folder by its name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)])
def test_operating_points_of_every_style_cost_the_same(module, shape):
    matched, task = module("matched"), Task(input_shape=shape, num_classes=10)
    costs = matched.dense(task, 16).costs
    for method, style in module("anytime_accuracy").METHODS.items():
        networks = style(task, 16)
        macs = networks.costs if isinstance(networks, Architecture) else [one.costs[-1] for one in networks]
        np.testing.assert_allclose(macs, costs, rtol=0.06, err_msg=method)


def test_cumulative_macs_are_increments_if_results_are_reused(module):
    matched, task = module("matched"), Task(input_shape=(3, 32, 32), num_classes=10)
    cumulative = module("anytime_accuracy").cumulative_macs
    dense, sliced, exits = matched.dense(task, 16), matched.sliced(task, 16), matched.early_exits(task, 16)
    assert cumulative(dense) == np.cumsum(dense.costs).tolist()
    assert cumulative(sliced) == list(sliced.costs)
    # an exit's classifier is of no use to the later ones
    wasted = [AnytimeNetwork(exits).operation_layers[o] for o in exits.points[0].operations[-1:]]
    assert cumulative(exits)[1] == exits.costs[1] + wasted[0].weight.numel()


def test_rows_of_a_training_are_read_back(module, tmp_path):
    rows = module("resumable").Rows(tmp_path / "new" / "rows.csv", ("method", "seed", "macs", "loss"))
    assert rows.of({"method": "a", "seed": 0}).empty
    rows.append([{"method": "a", "seed": 0, "macs": 3}, {"method": "a", "seed": 0, "macs": 5, "loss": 0.5}])
    rows.append([{"method": "a", "seed": 1, "macs": 7}])
    again = module("resumable").Rows(rows.path, rows.columns)
    assert again.of({"method": "a", "seed": 0}).macs.tolist() == [3, 5]
    assert again.of({"method": "b", "seed": 0}).empty


def test_paired_difference_is_over_the_seeds_of_both(module):
    seeds = pd.DataFrame({"seed": range(4), "rule": "a", "test_accuracy": [0.5, 0.6, 0.7, 0.9]})
    other = pd.DataFrame({"seed": range(3), "rule": "b", "test_accuracy": [0.49, 0.58, 0.67]})
    difference = module("resumable").paired_difference(pd.concat([seeds, other]), "rule", "a", "b")
    assert difference == "+2.00 [-0.48, +4.48], 3 seeds"  # 1, 2, 3: t(0.975, 2) / √3 = 2.48


def test_macs_at_equal_accuracy(module):
    points = pd.DataFrame({"macs": [1e6, 4e6, 16e6], "test_accuracy": [0.6, 0.7, 0.65]})
    macs_at = module("anytime_accuracy").macs_at
    assert macs_at(points, "macs", 0.65) == pytest.approx(2e6)  # half way in logarithms
    assert macs_at(points, "macs", 0.5) == pytest.approx(1e6)
    assert macs_at(points, "macs", 0.71) == np.inf


def test_throttled_networks_at_utilization_1_cost_as_much_as_the_ungated_network(module):
    script, task = module("throttle_accuracy"), Task(input_shape=(1, 4, 16, 16), num_classes=4)
    options = argparse.Namespace(network="c3d", width=8, depths="1-1", always=2)
    plain, *gated = (method(task, options) for method in script.METHODS.values())
    assert not plain.topology.gated
    assert all(architecture.topology.gated and architecture.costs[-1:] == plain.costs for architecture in gated)
    assert all(architecture.topology.operations == plain.topology.operations for architecture in gated)
    assert all(architecture.topology.gated[0].always == 2 for architecture in gated)
    settings = {
        name: dict(architecture.training.settings) for name, architecture in zip(list(script.METHODS)[1:], gated)
    }
    assert settings["per sample"] == {}
    assert settings["in groups, weight ¼"] == settings["in groups"] | {"weight": 0.25}


def test_controllers_are_compared_with_fixed_utilizations_at_equal_macs(module):
    script = module("throttle_accuracy")
    fixed = pd.DataFrame({"macs": [0, 5, 10], "accuracy": [0.2, 0.6, 0.5], "test_accuracy": [0.2, 0.6, 0.7]})
    steered = pd.DataFrame({"macs": [2.5, 7.5], "accuracy": [0.5, 0.7], "test_accuracy": [0.5, 0.58]})
    other = steered.assign(kind="controller", sees="input", accuracy=0.0)
    rows = pd.concat([fixed.assign(kind="fixed"), steered.assign(kind="controller", sees="answer"), other])
    comparison = script.shares_ahead(rows.assign(test_macs=rows.macs), "answer")
    # of the fixed, the last does not pay on validation images; controllers answer from 2.5 on, with 0.5, then 0.58
    assert comparison["ahead, staircase"] == pytest.approx(0.25, abs=2e-3)  # 0.5 against 0.2, then behind 0.6
    assert comparison["lead, staircase"] == pytest.approx((0.3 - 0.1 - 0.02) / 3, abs=2e-3)
    # ahead from 2.5 until 0.5 + 0.016 (m - 2.5) meets 0.2 + 0.08 m, at m = 4.06
    assert comparison["ahead, interpolated"] == pytest.approx((0.26 / 0.064 - 2.5) / 10, abs=2e-3)


def test_controllers_dearer_than_all_fixed_utilizations_are_never_ahead(module):
    rows = pd.DataFrame(
        {
            "kind": ["fixed", "fixed", "controller"],
            "macs": [1, 2, 3],
            "accuracy": [0.1, 0.2, 0.9],
            "sees": ["", "", "input"],
        }
    )
    comparison = module("throttle_accuracy").shares_ahead(
        rows.assign(test_macs=rows.macs, test_accuracy=rows.accuracy), "input"
    )
    assert comparison["ahead, staircase"] == comparison["ahead, interpolated"] == 0
    assert np.isnan(comparison["lead, staircase"])
