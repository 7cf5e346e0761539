"""The examples run and print their results."""

from __future__ import annotations

import itertools
import runpy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nas
import results
from evaluators.training import Training
from nas.evaluation.jobs import Job
from nas.testing import TASKS, proxy_checks, search_space_checks

from .nas.searching import TINY

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run_example(name: str) -> dict[str, Any]:
    """The functions of an example."""
    return runpy.run_path(str(EXAMPLES / name))


@pytest.mark.parametrize(
    "check", [pytest.param(check, id=name) for name, check in search_space_checks(f"{EXAMPLES}/own_space.py:Ladder")]
)
def test_own_space(check):
    check()


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("own_space", 40),
        ("own_data", 30),
        ("own_rule", 30),
        ("own_evaluator", 60),
        ("own_kind", 40),
        ("own_network", 25),
    ],
)
def test_examples_are_short(name, lines):
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) < lines


def test_own_network_is_trained():
    result = nas.train(f"{EXAMPLES}/own_network.py:build", "synthetic:n=300,classes=3,size=8", epochs=2)
    assert len(set(result.points.macs)) == 4


def test_own_space_is_searched(tmp_path):
    study = nas.search(
        "synthetic:n=300,classes=3,size=8",
        space=f"{EXAMPLES}/own_space.py:Ladder",
        store=str(tmp_path / "nas.db"),
        **TINY,
    )
    front = study.front()
    assert set(front.space) == {"Ladder"}
    assert front.test_accuracy.notna().all()
    network = nas.load(front.candidate[0], store=str(tmp_path / "nas.db"))
    assert network.macs[front.level[0]] == front.macs[0]


@pytest.mark.parametrize(
    "check", [pytest.param(check, id=name) for name, check in proxy_checks(f"{EXAMPLES}/own_proxy.py:activations")]
)
def test_own_proxy(check):
    check()


def test_throttling(tmp_path, capsys):
    store = str(tmp_path / "nas.db")
    main = run_example("throttling.py")["main"]
    study = main("synthetic:n=200,classes=3,size=8", store=store, passes=1, **TINY | {"train": 1, "generation": 1})
    assert len(results.open(store).policies(study.name)) == 2
    shown = capsys.readouterr().out
    assert "utilization 0.5" in shown
    assert "a utilization for each input" in shown


def test_hierarchy_and_queries(tmp_path, capsys):
    store = str(tmp_path / "nas.db")
    main = run_example("hierarchy.py")["main"]
    study = main("synthetic:n=300,classes=10,size=8", store=store, **TINY | {"train": 1, "generation": 1})
    points = study.points()
    assert points[points.level == 0].fine_accuracy.isna().all()
    assert points[points.level == 3].fine_accuracy.notna().all()
    shown = capsys.readouterr().out
    assert "even" in shown or "odd" in shown

    queries = run_example("query_fronts.py")
    best = queries["best_within"]([study.name], 1e9, store)
    assert best.accuracy.tolist() == [study.front().accuracy.max()]
    assert queries["shares"]([study.name], store).sum() >= 1
    assert queries["status_counts"](study.name, store).sum() == len(study.candidates())


def test_own_evaluator_measures_own_data(tmp_path):
    study = nas.search(
        f"{EXAMPLES}/own_data.py:gratings",
        space=f"{EXAMPLES}/own_space.py:Ladder",
        evaluator=f"{EXAMPLES}/own_evaluator.py:Robust",
        store=str(tmp_path / "nas.db"),
        **TINY,
    )
    points = study.points()
    trained = points[points.fidelity == points.fidelity.max()]
    assert trained.noisy_accuracy.between(0, 1).all()
    assert trained.noisy_accuracy.mean() < trained.accuracy.mean()


def test_own_rule_trains(tmp_path):
    builder = nas.Builder(nas.load_data("digits").task)
    builder.head(builder.conv(builder.input, (4, 8), after=("norm", "relu")))
    network = builder.architecture(2, rule=f"{EXAMPLES}/own_rule.py:Smoothed", smoothing=0.05)
    job = Job(candidate=0, architecture=network.to_json(), seed=0, epochs=3, until=3, images=None, folder=str(tmp_path))
    outcome = Training("digits", device="cpu").evaluate(job, lambda epoch: None)
    assert outcome.points[-1]["accuracy"] > 0.2  # twice the share of a random answer


@pytest.fixture(scope="module")
def benchmark_space():
    return f"{EXAMPLES}/nasbench201.py:NASBench201"


@pytest.mark.parametrize("name", [name for name, _ in search_space_checks(f"{EXAMPLES}/nasbench201.py:NASBench201")])
def test_public_benchmark_is_a_space_with_one_point(benchmark_space, name):
    dict(search_space_checks(benchmark_space, TASKS[2:4]))[name]()


def test_public_benchmark_is_searched(tmp_path, benchmark_space):
    example = run_example("nasbench201.py")
    cells = [*itertools.product(example["OPERATIONS"], repeat=6)]
    published = pd.DataFrame(
        {
            "architecture": ["|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*cell) for cell in cells],
            "seed": 777,
            "valid_accuracy": [60.0 + 5 * cell.count("nor_conv_3x3") for cell in cells],
            "test_accuracy": [59.0 + 5 * cell.count("nor_conv_3x3") for cell in cells],
        }
    )
    assert example["choices_of"]("|none~0|+|skip_connect~0|none~1|+|none~0|avg_pool_3x3~1|nor_conv_1x1~2|") == {
        "0 to 1": "none",
        "0 to 2": "skip_connect",
        "1 to 2": "none",
        "0 to 3": "none",
        "1 to 3": "avg_pool_3x3",
        "2 to 3": "nor_conv_1x1",
    }
    example["table"](published).to_csv(tmp_path / "cells.csv", index=False)
    study = nas.search(
        "synthetic:n=300,classes=10,size=32,channels=3",
        space=benchmark_space,
        evaluator=f"tabular:{tmp_path / 'cells.csv'}",
        store=str(tmp_path / "nas.db"),
        points=1,
        low=2.5e8,
        max_macs=3e8,
        pool=12,
        generation=6,
        train=12,
        workers=1,
    )
    points = study.points()
    assert len(points) == 12
    assert set(points.fidelity) == {200}
    # Without a 3×3 convolution, a network has at most 31.4 million MACs.
    assert (points.accuracy[points.macs > 3.5e7] > 0.6).all()
    assert (points.macs > 3.5e7).any()
    front = study.front()
    assert front.accuracy.max() == points.accuracy.max()
