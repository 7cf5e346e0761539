"""The examples run and print their results."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

import nas
import results
from evaluators.training import Training
from nas.evaluation.jobs import Job
from nas.testing import proxy_checks, search_space_checks

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
    ("name", "lines"), [("own_space", 40), ("own_data", 30), ("own_rule", 30), ("own_evaluator", 60), ("own_kind", 40)]
)
def test_examples_are_short(name, lines):
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) < lines


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
    assert trained.noisy_accuracy.max() < trained.accuracy.max()


def test_own_rule_trains(tmp_path):
    builder = nas.Builder(nas.load_data("digits").task)
    builder.head(builder.conv(builder.input, (4, 8), after=("norm", "relu")))
    network = builder.architecture(2, rule=f"{EXAMPLES}/own_rule.py:Smoothed", smoothing=0.05)
    job = Job(candidate=0, architecture=network.to_json(), seed=0, epochs=3, until=3, images=None, folder=str(tmp_path))
    outcome = Training("digits", device="cpu").evaluate(job, lambda epoch: None)
    assert outcome.points[-1]["accuracy"] > 0.2  # twice the share of a random answer
