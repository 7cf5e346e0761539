"""An evaluator's own measure, from its declaration to the store, the front, the text and the CSV file."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import nas
import results
from nas.errors import PluginError
from nas.reporting.console import candidate_text, front_table

from ..searching import SETTINGS, search, space, statuses, toy


@pytest.fixture
def study(store, in_process):
    """A search whose evaluator measures energy_mj, cheaper for points with fewer MACs."""
    return search(store, evaluator=toy("Energy"))


def test_an_own_measure_is_stored_and_shown(study):
    points = study.points()
    assert points.energy_mj.tolist() == [macs**0.5 / 1000 for macs in points.macs]
    front = study.front()
    assert "energy_mj" in front_table(front).splitlines()[0]
    assert "idle" not in front_table(front)  # declared, optional, never measured
    assert "energy_mj" in candidate_text(study.store, study.store.find_candidate(front.candidate.iloc[0]))
    assert [measure.name for measure in study.store.measures("toy")][-2:] == ["energy_mj", "idle"]


def test_an_own_measure_is_a_cost_and_a_limit(study):
    by_energy = study.front(cost="energy_mj")
    assert by_energy.energy_mj.is_monotonic_increasing
    assert by_energy.macs.tolist() == study.front().macs.tolist()  # energy grows with MACs
    bound = by_energy.energy_mj.iloc[1]
    assert len(study.front(cost="energy_mj", limits={"energy_mj": bound})) == 2
    low, high = study.score().low ** 0.5 / 1000, study.score().high ** 0.5 / 1000
    accuracy = study.anytime_accuracy(cost="energy_mj", low=low, high=high)
    assert accuracy == pytest.approx(study.anytime_accuracy())  # log energy is proportional to log MACs
    assert 0.1 < study.anytime_accuracy(cost="energy_mj") <= by_energy.accuracy.max()
    with pytest.raises(results.StoreError, match=r"A cost must be one of .*, energy_mj. Got 'idle'"):
        study.anytime_accuracy(cost="idle")


def test_the_command_line_knows_own_measures(study, store, cli, mistake):
    bound = study.front(cost="energy_mj").energy_mj.iloc[1]
    limit = f"--limit=energy_mj={float(bound)!r}"
    files = "--csv=front.csv", "--plot=front.svg"
    status, out, _ = cli("front", "toy", "--store", store, "--cost=energy_mj", limit, *files)
    assert status == 0
    assert "energy_mj" in out
    with open("front.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["energy_mj"]) <= bound for row in rows] == [True, True]
    assert "energy per input (mJ)" in Path("front.svg").read_text()
    line = mistake("front", "toy", "--store", store, "--limit=energy_mj")
    assert "--limit must be MEASURE=VALUE, such as latency_ms=2.5. Got 'energy_mj'." in line
    for limits in (["--limit=energy_mj=5", "--limit=energy_mj=6"], ["--limit=energy_mj=nan"]):
        assert "once for each measure, with a number" in mistake("front", "toy", "--store", store, *limits)


def test_a_report_shows_own_measures(study, tmp_path):
    assert "energy mj" in study.report(tmp_path / "study.html", "macs").read_text()


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        ("WrongUnit", r"measures of the evaluator .*WrongUnit.*'latency_ms' has unit='ms' .*Got unit='s'"),
        ("Undeclared", r"must declare the measures accuracy, loss, test_accuracy\. Missing: accuracy"),
    ],
)
def test_wrong_declarations_are_refused_before_a_study_starts(store, evaluator, message):
    settings = {name: value for name, value in SETTINGS.items() if name != "data"}
    with pytest.raises(PluginError, match=message):
        nas.search("nothing", space=space(), store=str(store), evaluator=toy(evaluator), **settings)
    assert not store.exists()


def test_the_first_outcomes_say_which_declared_measure_is_missing(store):
    with pytest.raises(nas.UserError, match=r"A point must have .*, energy_mj, .*missing \['energy_mj'\]"):
        search(store, evaluator=toy("NoEnergy"))


def test_workers_return_own_measures(store):
    study = search(store, evaluator=toy("Energy"), train=4)
    assert statuses(study)["finished"] >= 1
    assert study.points().energy_mj.notna().all()
