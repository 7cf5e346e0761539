"""Measures: the declaration of an evaluator is checked, its own measures are stored, shown, and bound fronts."""

import math

import pytest

import results
from results.columns import FRAMES, names, own_columns
from results.measures import (
    BUILT_IN,
    COSTS,
    HIERARCHY,
    LABELS,
    MUST_BE_DECLARED,
    Measure,
    built_in,
    check_declaration,
    own_measures,
)
from results.plots import plot_front
from results.schema import metadata
from results.schema import points as points_table

ENERGY = Measure(name="energy_mj", unit="mJ", maximise=False, meaning="energy per input")
MARGIN = Measure(name="margin", unit="fraction", maximise=True, required=False)
DECLARED = (*built_in(*MUST_BE_DECLARED), ENERGY, MARGIN)


@pytest.fixture
def measured(store, rows, points):
    """Study 'own': a candidate in two repeats with energy at every point, and a margin at the second."""
    with store.writer("own", {}, DECLARED) as writer:
        (number,) = writer.add_candidates([rows("aaaa0001", status="finished")])
        for repeat in range(2):
            made = [
                points(0, 10**6, 0.5, energy_mj=2.0 + repeat),
                points(1, 4 * 10**6, 0.7, energy_mj=1.0 + repeat, margin=0.25),
            ]
            writer.record(number, fidelity=1.0, repeat=repeat, realised_key="aaaa0001", points=made)
        assert [point["energy_mj"] for point in writer.points_of(number)] == [2.0, 1.0, 3.0, 2.0]
        assert [point["margin"] for point in writer.points_of(number)] == [None, 0.25, None, 0.25]
        writer.finish()
    return store


def test_own_measures_are_columns_of_points(measured):
    frame = measured.points("own")
    assert list(frame.columns) == [*names("points"), "energy_mj", "margin"]
    assert own_columns(frame, "points") == ["energy_mj", "margin"]
    assert frame["energy_mj"].tolist() == [2.0, 1.0, 3.0, 2.0]
    assert frame["margin"].isna().tolist() == [True, False, True, False]
    assert measured.measures("own") == (*BUILT_IN, ENERGY, MARGIN)


def test_own_measures_are_costs_and_limits_of_fronts(measured, tmp_path):
    front = measured.front("own", cost="energy_mj")
    assert front["level"].tolist() == [1]  # the larger point needs less energy
    assert front["energy_mj"].tolist() == [1.5]
    assert list(front.columns) == [*names("front"), "energy_mj", "margin"]
    front.to_csv(tmp_path / "front.csv", index=False)
    assert (tmp_path / "front.csv").read_text().splitlines()[0].endswith("nonzero_macs,energy_mj,margin")
    assert measured.front("own")["level"].tolist() == [0, 1]
    assert measured.front("own", limits={"energy_mj": 2.0})["level"].tolist() == [1]
    assert measured.front("own", limits={"margin": 0.2})["level"].tolist() == [1]  # maximised: a lower bound
    assert measured.front("own", limits={"macs": 10**6, "energy_mj": 9}, max_macs=10**7)["level"].tolist() == [0]
    for wrong, message in (
        ({"limits": {"sunshine": 1}}, r"A limit must be on one of macs, .*energy_mj, margin. Got 'sunshine'"),
        ({"limits": {"energy_mj": math.nan}}, "limit on energy_mj must be a number. Got nan"),
        ({"cost": "margin"}, r"one of macs, params, latency_ms, nonzero_macs, energy_mj. Got 'margin'"),
        ({"limits": {"latency_ms": 1}}, r"latency_ms was measured, and there are none\. Measured: .*energy_mj"),
    ):
        with pytest.raises(results.StoreError, match=message):
            measured.front("own", **wrong)


def test_an_own_measure_is_an_axis(measured, tmp_path):
    frames = measured.curves("own", cost="energy_mj"), measured.front("own", cost="energy_mj")
    path = plot_front(*frames, tmp_path / "front.svg", measures=measured.measures("own"))
    assert "energy per input (mJ)" in path.read_text()


def test_studies_with_and_without_own_measures_are_read_together(measured, rows, points):
    with measured.writer("plain", {}) as writer:
        (number,) = writer.add_candidates([rows("bbbb0002")])
        writer.record(number, fidelity=1, repeat=0, realised_key="bbbb0002", points=[points(0, 10, 0.4)])
        made = [points(0, 10, 0.4, energy_mj=1.0)]
        with pytest.raises(results.StoreError, match=r"may have .*Got .*'energy_mj'"):
            writer.record(number, fidelity=1, repeat=0, realised_key="bbbb0002", points=made)
    assert measured.points(["own", "plain"])["energy_mj"].isna().tolist() == [False] * 4 + [True]
    assert "energy_mj" not in measured.points("plain")
    assert measured.front(["own", "plain"], cost="energy_mj")["study"].tolist() == ["own"]
    measured.writer("joules", {}, [Measure(name="energy_mj", unit="J", maximise=False)]).close()
    assert len(measured.points(["own", "joules"])) == 4
    with pytest.raises(results.StoreError, match="energy_mj has unit='mJ' and maximise=False in own, unit='J'"):
        measured.front(["own", "joules"], cost="energy_mj")


def test_a_study_keeps_its_measures_when_it_is_continued(measured):
    more = Measure(name="heat_mk", unit="mK", maximise=False)
    measured.writer("own", {}).close()
    assert measured.measures("own")[len(BUILT_IN) :] == (ENERGY, MARGIN)
    measured.writer("own", {}, [more]).close()
    assert measured.measures("own")[len(BUILT_IN) :] == (ENERGY, MARGIN, more)
    assert measured.points("own")["heat_mk"].isna().all()
    joules = Measure(name="energy_mj", unit="J", maximise=False)
    with pytest.raises(results.StoreError, match=r"'energy_mj' has unit='mJ' and .* Got unit='J' and .*rename it"):
        measured.writer("own", {}, [joules])
    measured.delete("own")
    assert measured.studies().empty


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (["energy"], "must be a Measure. Got 'energy'"),
        ([Measure(name="Energy", unit="mJ", maximise=False)], "lower-case letters.*Got 'Energy'"),
        ([Measure(name="x" * 61, unit="mJ", maximise=False)], "1 to 60"),
        ([ENERGY, ENERGY], "declared once. Got 'energy_mj' twice"),
        ([Measure(name="level", unit="", maximise=False)], "must not be a column of the store. Got 'level'"),
        ([Measure(name="latency_ms", unit="s", maximise=False)], r"has unit='ms' and maximise=False. Got unit='s'"),
    ],
)
def test_declarations_that_cannot_be_stored(declared, message):
    for check in (own_measures, check_declaration):
        with pytest.raises(results.StoreError, match=message):
            check([*built_in(*MUST_BE_DECLARED), *declared])


def test_every_evaluator_declares_accuracy_and_loss():
    check_declaration(DECLARED)
    with pytest.raises(results.StoreError, match=r"must declare .* Missing: loss, test_accuracy"):
        check_declaration(built_in("accuracy"))
    with pytest.raises(results.StoreError, match=r"must be one of macs, .*Got 'energy_mj'"):
        built_in("energy_mj")


def test_frames_have_the_columns_that_are_described(filled):
    with filled.writer("fashion", filled.settings("fashion")) as writer:
        policy = {"learner": "gates", "sees": "input", "penalty": 0.1, "utilization": 0.5}
        writer.record_policies("bbbb0002", [policy | {"controller_macs": 7, "macs": 3e6, "accuracy": 0.4}])
    frames = {name: getattr(filled, name)("fashion") for name in FRAMES if name != "studies"}
    frames["studies"] = filled.studies()
    kinds = {"i": "integer", "f": "real", "b": "boolean", "M": "time"}
    for name, frame in frames.items():
        described = [column for column in FRAMES[name] if column.name != "proxy_NAME"]
        shown = frame[[column for column in frame if not column.startswith("proxy_")]]
        assert list(shown) == [column.name for column in described], name
        for column in described:
            kind = kinds.get(shown[column.name].dtype.kind, "text")
            assert column.type in (kind, "json" if kind == "text" else kind), (name, column)


def test_labels_and_measures_are_the_columns_of_points_and_fronts():
    columns = {column.name for name in ("points", "front") for column in FRAMES[name]}
    assert columns <= {*LABELS, *(measure.name for measure in BUILT_IN)}
    assert {*points_table.c.keys()} == {"candidate_id", "fidelity", "repeat", "level", *(m.name for m in BUILT_IN)}
    assert {*COSTS, *HIERARCHY, *MUST_BE_DECLARED} <= {measure.name for measure in BUILT_IN}


def test_every_column_of_the_tables_is_described():
    columns = [column for table in metadata.tables.values() for column in table.c]
    assert [str(column) for column in columns if not column.doc] == []
