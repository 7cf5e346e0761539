"""What the benchmarks compare is comparable."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nas.network import AnytimeNetwork
from nas.topology import Architecture, Task

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
        made = style(task, 16)
        found = made.costs if isinstance(made, Architecture) else [one.costs[-1] for one in made]
        np.testing.assert_allclose(found, costs, rtol=0.06, err_msg=method)


def test_cumulative_macs_are_increments_where_results_are_reused(module):
    matched, task = module("matched"), Task(input_shape=(3, 32, 32), num_classes=10)
    cumulative = module("anytime_accuracy").cumulative_macs
    dense, sliced, exits = matched.dense(task, 16), matched.sliced(task, 16), matched.early_exits(task, 16)
    assert cumulative(dense) == np.cumsum(dense.costs).tolist()
    assert cumulative(sliced) == list(sliced.costs)
    # an exit's classifier is of no use to the later ones
    wasted = [AnytimeNetwork(exits).operation_layers[o] for o in exits.points[0].operations[-1:]]
    assert cumulative(exits)[1] == exits.costs[1] + wasted[0].weight.numel()


def test_rows_of_a_training_are_found_again(module, tmp_path):
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
    told = module("resumable").paired_difference(pd.concat([seeds, other]), "rule", "a", "b")
    assert told == "+2.00 [-0.48, +4.48], 3 seeds"  # 1, 2, 3: t(0.975, 2) / √3 = 2.48


def test_macs_at_equal_accuracy(module):
    points = pd.DataFrame({"macs": [1e6, 4e6, 16e6], "test_accuracy": [0.6, 0.7, 0.65]})
    macs_at = module("anytime_accuracy").macs_at
    assert macs_at(points, "macs", 0.65) == pytest.approx(2e6)  # half way in logarithms
    assert macs_at(points, "macs", 0.5) == pytest.approx(1e6)
    assert macs_at(points, "macs", 0.71) == np.inf
