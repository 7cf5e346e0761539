"""Several stores that are read as one."""

import pickle

import pandas as pd
import pytest

import results
from results.measures import Measure
from results.plots import plot_front

from .conftest import SCORE, candidate, point

DATA = {"data_fingerprint": "a", "validation": 0.2}
ENERGY = Measure(name="energy_mj", unit="mJ", maximise=False, meaning="energy")


def fill(store, study, *points, settings=DATA, measures=(), key="aaaa0001", **training):
    with store.writer(study, settings, measures) as writer:
        writer.set_score(SCORE)
        (number,) = writer.add_candidates([candidate(key, status="finished", architecture={})])
        writer.record(number, **{"fidelity": 1.0, "repeat": 0, "realised_key": key, "points": points} | training)
        writer.finish()


@pytest.fixture
def two(store, tmp_path):
    """A store and another one; both have a study 'digits', and equal ids, keys and levels."""
    other = results.open(tmp_path / "other.db")
    fill(store, "digits", point(0, 10, 0.5), point(1, 30, 0.7))
    fill(other, "digits", point(0, 20, 0.6), point(1, 40, 0.65))
    fill(other, "tour", point(0, 50, 0.9), key="bbbb0002", fidelity=3.0)
    return store, other, results.open(store.url, other.url)


def test_frames_name_the_store(two):
    one, other, both = two
    assert repr(both) == f"results.open({one.label!r}, {other.label!r})"
    assert pickle.loads(pickle.dumps(both)).studies().study.tolist() == ["digits", "digits", "tour"]
    assert both.studies().store.tolist() == [one.label, other.label, other.label]
    for table in ("points", "evaluations", "policies"):
        frame = getattr(both, table)(["digits", "tour"])
        apart = [getattr(one, table)("digits"), getattr(other, table)(["digits", "tour"])]
        assert list(frame.columns) == ["store", *apart[0].columns]
        assert len(frame) == sum(map(len, apart))


def test_the_front_is_of_the_points_of_all(two):
    one, other, both = two
    front = both.front(["digits", "tour"])
    assert list(front.columns) == ["store", *one.front("digits").columns]
    assert front[["macs", "accuracy"]].to_numpy().tolist() == [[10, 0.5], [20, 0.6], [30, 0.7], [50, 0.9]]
    assert front.store.tolist() == [one.label, other.label, one.label, other.label]
    assert front.macs.dtype == "int64"
    assert both.front("tour").store.tolist() == [other.label]
    assert both.front("digits", max_macs=25).macs.tolist() == [10, 20]
    assert both.front(["digits", "tour"], fidelity=3).macs.tolist() == [50]
    merged = results.open(other.url)
    merged.merge(one, rename={"digits": "mine"})
    alone = merged.front(["mine", "digits", "tour"])
    columns = ["macs", "accuracy", "candidate", "level", "fidelity", "loss", "repeats"]
    pd.testing.assert_frame_equal(alone[columns], front[columns])


def test_a_study_in_several_stores_is_read_once(two, rows, points):
    one, other, both = two
    one.merge(other, study="tour")
    assert both.front("tour").store.tolist() == [other.label]
    with one.writer("tour", DATA) as writer:
        (number,) = writer.add_candidates([rows("cccc", status="finished")])
        writer.record(number, fidelity=3, repeat=0, realised_key="cccc", points=[points(0, 5, 0.1)])
    assert both.front("tour").store.tolist() == [one.label, one.label]
    assert both.front("tour").macs.tolist() == [5, 50]


def test_what_is_not_comparable(two, tmp_path):
    one, other, _ = two
    third = results.open(tmp_path / "third.db")
    fill(third, "digits", point(0, 1, 0.2), settings=DATA | {"validation": 0.5})
    fill(third, "energy", point(0, 1, 0.2, energy_mj=2.0), measures=[ENERGY])
    everything = results.open(one.url, third.url)
    with pytest.raises(results.NotComparable, match=rf"Different are those of digits in .*; digits in {third.label}"):
        everything.front("digits")
    front = everything.front("digits", mixed=True)
    assert front.data.nunique() == 2
    assert front.macs.tolist() == [1, 10, 30]
    assert list(front.columns[:1]) == ["store"]
    assert list(front.columns[-1:]) == ["data"]
    assert everything.front(["energy", "digits"], mixed=True)["energy_mj"].notna().sum() == 1
    assert everything.front(["energy", "digits"], cost="energy_mj", mixed=True).macs.tolist() == [1]
    with pytest.raises(results.StoreError, match="must be one of macs, params, latency_ms, nonzero_macs, energy_mj"):
        everything.front(["energy"], cost="flops")
    with pytest.raises(results.StoreError, match=r"points whose latency_ms was measured.* Measured: macs, params"):
        everything.front("digits", cost="latency_ms", mixed=True)
    fill(other, "energy", point(0, 1, 0.2, energy_mj=2.0), measures=[Measure(**ENERGY.to_json() | {"unit": "J"})])
    with pytest.raises(results.NotComparable, match=rf"energy_mj has unit='J' .* in energy in {other.label}"):
        results.open(other.url, third.url).front("energy", cost="energy_mj")
    groups = {"fine_accuracy": 0.6, "coarse_accuracy": 0.4}
    fill(third, "groups", point(0, 1, 0.5, **groups))
    with pytest.raises(results.NotComparable, match="must have labels of one kind"):
        results.open(one.url, third.url).front(["digits", "groups"], mixed=True)


def test_unknown_studies_and_equal_stores(two, tmp_path):
    one, _, both = two
    with pytest.raises(results.StoreError, match=r"must be in one of .* Got 'absent'\. Studies there: digits, tour"):
        both.front("absent")
    with pytest.raises(results.StoreError, match="must be different"):
        results.open(one.url, one.url)
    with pytest.raises(results.StoreError, match="There is no results store at"):
        results.open(one.url, tmp_path / "absent.db").front("digits")


def test_empty_studies(tmp_path):
    urls = [tmp_path / "a.db", tmp_path / "b.db"]
    for url in urls:
        results.open(url).writer("s", {}).close()
    front = results.open(*urls).front("s")
    assert front.empty
    assert front["macs"].dtype == "int64"
    assert results.open(*urls).points("s").empty


def test_a_figure(two, tmp_path):
    *_, both = two
    curves = both.curves(["digits", "tour"])
    assert curves.drawn == 3
    assert (curves.points, curves.candidates) == (5, {"residual": 3})
    front = both.front(["digits", "tour"])
    path = plot_front(curves, front, tmp_path / "f.svg", measures=both.measures(["digits", "tour"]))
    assert path.exists()
    with pytest.raises(results.StoreError, match="Got 'flops'"):
        both.curves("digits", cost="flops")
