"""The final search in a study and for stored networks, with real training on small images."""

from __future__ import annotations

import json

import matplotlib.image
import pandas as pd
import pytest

import nas
import results
from nas.errors import UserError
from nas.reporting.topology import plot

from ..searching import TINY
from ..searching import search as toy_search

DATA = "synthetic:n=400,classes=3,size=8,channels=1"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished search of three candidates by path sampling, with final search; not to be changed."""
    return nas.search(
        DATA,
        study="s",
        space="residual",
        store=str(tmp_path_factory.mktemp("choosing") / "nas.db"),
        rule="path_sampling",
        final_search=24,
        **TINY,
    )


def test_a_finalist_has_the_points_that_the_final_search_chose(study):
    points = study.points()
    full = points[points.fidelity == 5]
    (proposed,), (realised,) = full.candidate.unique(), full.realised_key.unique()
    assert realised != proposed
    network = nas.load(proposed, store=study.url)
    assert network.architecture.key == realised == nas.load(realised, store=study.url).architecture.key
    assert full.macs.tolist() == list(network.macs)
    part = points[(points.fidelity <= 2) & (points.candidate == proposed)]
    assert set(part.macs) == set(nas.macs(nas.Architecture.from_json(study.store.architecture(proposed))))
    assert set(study.front().realised_key) == {realised}


def test_show_displays_the_realised_network(study, cli, tmp_path, monkeypatch):
    proposed, drawn = str(study.best().key), []
    monkeypatch.setattr(plot, "draw_topology", lambda architecture, path, walk: drawn.append(architecture))
    network = nas.load(proposed, store=study.url)
    for key in (proposed, network.architecture.key):
        status, out, err = cli("show", key[:12], "--plot", str(tmp_path / "net.png"), "--store", study.url)
        assert (status, err) == (0, "")
        assert network.architecture.key in out
        assert drawn.pop().costs == network.macs
        assert all(
            f"{counts[1]}" in out for counts in map(network.architecture.topology.active, network.architecture.points)
        )
        shown = json.loads(cli("show", key, "--json", "--store", study.url)[1])
        assert nas.Architecture.from_json(shown).key == network.architecture.key
    assert "Trained, it became" in cli("show", proposed, "--store", study.url)[1]


@pytest.mark.slow
def test_repeats_that_chose_points_of_their_own_are_networks_of_their_own(tmp_path):
    """Every point of the front belongs to a network that can be loaded by the key in the front."""
    found = nas.search(
        DATA,
        study="repeated",
        space="residual",
        store=str(tmp_path / "nas.db"),
        rule="path_sampling",
        final_search=16,
        train=2,
        pool=6,
        epochs=1,
        final_epochs=2,
        finalists=1,
        seeds=2,
        workers=1,
        references=False,
    )
    full = found.points()[lambda points: points.fidelity == 2]  # each is trained anew
    assert full.realised_key.nunique() == full.repeat.nunique() == 2
    front = found.front()
    for point in front.itertuples():
        network = nas.load(point.realised_key, store=found.url)
        assert network.architecture.key == point.realised_key
        assert network.macs[point.level] == point.macs
        assert point.repeats == 1
    assert nas.load(front.candidate[0], store=found.url, repeat=1).architecture.key in set(full.realised_key)


def test_a_rule_that_samples_trains_nothing_with_norms_of_its_own(tmp_path):
    settings = {
        "space": "slimmable",
        "store": str(tmp_path / "nas.db"),
        "study": "sampled",
        "finalists": 1,
        "references": False,
    }
    settings |= {"train": 2, "pool": 12, "epochs": 1, "final_epochs": 2, "final_search": 0, "workers": 1}
    candidates = nas.search(DATA, rule="uniform_sampling", **settings).candidates()
    assert candidates[candidates.status == "infeasible"].reason.str.contains("Sampled subnetworks need norms").any()
    assert not (candidates.status == "failed").any()


def test_a_network_of_the_store_gets_other_points(study, cli, tmp_path):
    key = str(study.best().key)
    largest = nas.load(key, store=study.url).macs[-1]
    status, out, err = cli(
        *("select", key[:8], str(tmp_path / "out"), "--store", study.url, "--max-macs", str(largest - 1)),
        *("--evaluations", "16", "--points", "3", "--csv", str(tmp_path / "m.csv"), "--plot", str(tmp_path / "m.png")),
    )
    assert (status, err) == (0, "")
    network = nas.load(tmp_path / "out")
    assert network.levels == 3
    assert network.macs[-1] < largest
    assert all(f"{cost:,}" in out for cost in network.macs)
    measured = pd.read_csv(tmp_path / "m.csv")
    assert len(measured) == 16
    assert measured.chosen.sum() == 3
    assert matplotlib.image.imread(tmp_path / "m.png").std() > 0.01


def test_a_saved_network_gets_other_points_by_named_data(study, tmp_path):
    study.network().save(tmp_path / "net")
    with pytest.raises(UserError, match="name them with --data"):
        nas.select(tmp_path / "net")
    chosen = nas.select(tmp_path / "net", data=DATA, evaluations=10, points=2)
    assert chosen.points.macs.tolist() == list(chosen.network.macs)
    assert chosen.points[["accuracy", "test_accuracy", "latency_ms"]].notna().all(axis=None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"data": "digits"}, "The data must be of the network's task"),
        ({"evaluations": 0}, "--evaluations must be a whole number from 1"),
        ({"points": 0}, "--points must be a whole number from 1"),
        ({"points": 500, "evaluations": 10}, "must find 500 operating points"),
        ({"max_macs": -1}, "--max-macs must be a positive"),
        ({"max_macs": 3}, "raise the limits"),
        ({"high": 1e6}, "Unknown setting 'high'"),
        ({"max_latency_ms": 1e-9, "evaluations": 4}, "raise the limits"),
    ],
)
def test_mistakes_raise_messages(study, wrong, message):
    with pytest.raises(UserError, match=message):
        nas.select(study.network(), **({"data": DATA} | wrong))


def test_an_evaluator_without_a_final_search_refuses_one(tmp_path, in_process):
    with pytest.raises(UserError, match="need an evaluator that runs the final search"):
        toy_search(tmp_path / "nas.db", final_search=5)
    with pytest.raises(UserError, match="need an evaluator that runs the final search"):
        toy_search(tmp_path / "nas.db", max_latency_ms=5.0)


@pytest.mark.slow
def test_a_latency_limit_turns_the_final_search_on(tmp_path):
    """And the front can be asked for by latency."""
    found = nas.search(
        DATA,
        study="quick",
        space="slimmable",
        store=str(tmp_path / "nas.db"),
        max_latency_ms=1e4,
        train=1,
        pool=2,
        epochs=1,
        final_epochs=2,
        finalists=1,
        workers=1,
        references=False,
    )
    full = found.points()[lambda points: points.fidelity == 3]
    assert (full.latency_ms > 0).all()
    assert not results.open(found.url).front("quick", cost="latency_ms").empty


def test_finalists_with_a_failed_final_search_are_reported_and_kept(tmp_path):
    """The limit is kept by nothing: each is tried once, the study says so, and its checkpoint stays."""
    settings = {
        "space": "slimmable",
        "store": str(tmp_path / "nas.db"),
        "study": "slow",
        "finalists": 1,
        "references": False,
    }
    settings |= {"train": 1, "pool": 4, "epochs": 1, "final_epochs": 2, "final_search": 4, "workers": 1}
    found = nas.search(DATA, max_latency_ms=1e-7, **settings)
    reason = found.store.studies().set_index("study").reason["slow"]
    assert "1 of 1 finalists failed in full training, the last: " in reason
    assert "raise the limits" in reason
    assert list((tmp_path / "nas.db.files").rglob("full-0/checkpoint.safetensors"))


def test_under_a_latency_limit_nothing_with_norms_of_its_own_is_trained(tmp_path):
    settings = {
        "space": "slimmable",
        "store": str(tmp_path / "nas.db"),
        "study": "slow",
        "finalists": 1,
        "references": False,
    }
    settings |= {"train": 2, "pool": 12, "epochs": 1, "final_epochs": 2, "final_search": 4, "workers": 1}
    found = nas.search(DATA, max_latency_ms=1e4, **settings)
    candidates = found.candidates()
    trained = candidates[candidates.status == "finished"].key
    assert all(found.store.architecture(key)["norm"] != "per_point" for key in trained)
    assert candidates.reason.str.contains("norms are per operating point").any()


@pytest.mark.parametrize(
    "wrong", [{"points": "3"}, {"evaluations": 4.5}, {"max_macs": "1e6"}, {"low": "x"}, {"low": 0}]
)
def test_wrong_types_are_rejected_before_any_work(study, wrong):
    with pytest.raises(UserError):
        nas.select(study.network(), **({"data": "no such data"} | wrong))


@pytest.mark.parametrize(
    "name", ["taken", "taken/below", "--csv=no/x.csv", "--plot=x.foo", "--plot=x.csv", "--csv=x.png"]
)
def test_unwritable_targets_are_rejected_before_any_work(study, cli, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    targets = ["out", name] if name.startswith("--") else [name]
    status, out, err = cli("select", str(study.best().key), *targets, "--store", study.url)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
