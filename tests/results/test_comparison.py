"""Histories, studies side by side, and points for a limit, against the slow obvious way; figures of them."""

import math
import sqlite3

import pandas as pd
import pytest

import results
from results.front import Score, anytime_accuracy
from results.plots import history_figure, plot_history

from .conftest import SCORE, candidate, point

DATA = {"data_fingerprint": "a", "validation": 0.2}


@pytest.fixture
def studies(store):
    """Two studies of the same data on different budgets, another of other data, and one without any training."""
    for name, low, high, accuracy, key in (("small", 1e6, 8e6, 0.7, "aaaa"), ("large", 2e6, 32e6, 0.8, "bbbb")):
        with store.writer(name, DATA) as writer:
            writer.set_score(Score(low=low, high=high, floor=0.1))
            first, second = writer.add_candidates(
                [candidate(f"{key}0000", status="stopped"), candidate(f"{key}0001", status="finished")]
            )
            for n, number in enumerate((first, second)):
                measured = [
                    point(0, 10**6, accuracy - 0.2, test_accuracy=0.4),
                    point(1, (4 + n) * 10**6, accuracy + n / 100, test_accuracy=accuracy - 0.05),
                ]
                writer.record(
                    number, fidelity=1.0 + n, repeat=0, seconds=5.0 + n, realised_key=f"{key}000{n}", points=measured
                )
            writer.finish()
    with store.writer("foreign", DATA | {"data_fingerprint": "b"}) as writer:
        writer.set_score(SCORE)
        writer.finish()
    with store.writer("empty", DATA) as writer:
        writer.finish()
    return store


def test_a_history_is_in_the_order_of_ends(filled):
    history = filled.history("fashion")
    assert history["evaluation"].tolist() == [1, 2, 3, 4, 5]
    assert history["candidate"].tolist() == ["aaaa0001", "aaaa0001", "aaaa0001", "bbbb0002", "cccc0003"]
    assert history["worker_seconds"].tolist() == [3.0, 8.0, 10.0, 10.0, 10.0]  # 2 of 5 seconds led to fidelity 0.5
    best = -math.inf
    for row in history.itertuples():
        best = max(best, -math.inf if math.isnan(row.anytime_accuracy) else row.anytime_accuracy)
        assert row.best == best
    assert history["evaluated_at"].is_monotonic_increasing
    assert (history["elapsed_seconds"] >= 0).all()
    times = filled.evaluations("fashion").set_index(["candidate", "fidelity", "repeat"])["evaluated_at"]
    assert times["aaaa0001", 0.5, 0] > times["aaaa0001", 1.0, 1]


def test_the_network_of_a_comparison_has_the_accuracy_of_the_best_candidate(filled):
    with filled.writer("repeated", DATA) as writer:
        writer.set_score(SCORE)
        (number,) = writer.add_candidates([candidate("aaaa0001", status="finished")])
        for repeat, accuracies in enumerate(((0.2, 0.9), (0.8, 0.3), (0.5, math.nan))):
            measured = [point(level, (1 + 3 * level) * 10**6, accuracy) for level, accuracy in enumerate(accuracies)]
            writer.record(number, fidelity=1.0, repeat=repeat, realised_key="aaaa0001", points=measured)
        writer.finish()
    for study in ("repeated", "fashion"):
        (row,) = filled.compare(study).itertuples()
        best = filled.best(study)
        assert (row.candidate, row.network_accuracy) == (best.key, pytest.approx(best.anytime_accuracy))


def test_evaluations_without_times_are_in_the_order_of_generations(sqlite_store, tmp_path):
    with sqlite_store.writer("old", DATA) as writer:
        writer.set_score(SCORE)
        rows = [candidate(f"{key}0", generation=g, position=p) for key, g, p in (("d", 1, 0), ("c", 0, 1), ("b", 0, 0))]
        for number in writer.add_candidates(rows):
            for fidelity in (1.0, 0.5):
                measured = [point(0, 10**6, 0.5)]
                writer.record(number, fidelity=fidelity, repeat=0, realised_key="x", points=measured)
        writer.finish()
    with sqlite3.connect(tmp_path / "nas.db") as connection:
        connection.execute("UPDATE evaluations SET evaluated_at = NULL WHERE fidelity < 1 OR candidate_id > 1")
    history = sqlite_store.history("old")
    assert list(zip(history["candidate"], history["fidelity"], strict=True)) == [
        ("b0", 0.5),
        ("c0", 0.5),
        ("d0", 0.5),
        ("b0", 1.0),
        ("c0", 1.0),
        ("d0", 1.0),
    ]


def test_several_histories_are_counted_each(studies):
    history = studies.history(["small", "large"])
    assert history["evaluation"].tolist() == [1, 2, 1, 2]
    assert history["worker_seconds"].tolist() == [5.0, 11.0, 5.0, 11.0]
    assert studies.history("empty").empty


def test_studies_are_compared_on_common_budgets(studies):
    found = studies.compare(["small", "large"])
    assert found["study"].tolist() == ["large", "small"]
    assert (found["low"].tolist(), found["high"].tolist()) == ([2e6, 2e6], [8e6, 8e6])
    for row in found.itertuples():
        front = studies.front(row.study)
        by_hand = anytime_accuracy(front["macs"], front["accuracy"], low=2e6, high=8e6, floor=0.1)
        assert row.anytime_accuracy == pytest.approx(by_hand)
        test = anytime_accuracy(
            front["macs"], front["test_accuracy"], low=2e6, high=8e6, floor=0.1, chosen_by=front["accuracy"]
        )
        assert row.test_anytime_accuracy == pytest.approx(test)
        best = studies.best(row.study)
        points = studies.points(row.study, key=best.key)
        by_hand = anytime_accuracy(points["macs"], points["accuracy"], low=2e6, high=8e6, floor=0.1)
        assert (row.candidate, row.network_accuracy) == (best.key, pytest.approx(by_hand))
        assert (row.evaluations, row.trained, row.worker_seconds, row.state) == (2, 2, 11.0, "finished")
    assert studies.compare(["small", "large"], high=4e6)["high"].tolist() == [4e6, 4e6]


def test_a_study_without_results_has_a_row(studies):
    found = studies.compare(["empty", "small"])
    assert found["study"].tolist() == ["small", "empty"]
    assert found["anytime_accuracy"].isna().tolist() == [False, True]
    assert studies.compare("empty")["low"].isna().all()


def test_refused_comparisons(studies):
    with pytest.raises(results.NotComparable, match="small; foreign"):
        studies.compare(["small", "foreign"])
    with pytest.raises(results.StoreError, match=r"Got low=9e\+06 and high=8e\+06: give low and high"):
        studies.compare(["small", "large"], low=9e6)
    with pytest.raises(results.StoreError, match="by params needs low and high, because a study counts macs"):
        studies.compare("small", cost="params")
    assert studies.compare("small", cost="params", low=5, high=100)["anytime_accuracy"].notna().all()


def test_the_point_for_a_limit(studies):
    names = ["small", "large"]
    front = studies.front(names)
    within = front[front["macs"] <= 4.5e6]
    assert studies.best_point(names, max_macs=4.5e6)["accuracy"] == within["accuracy"].max()
    enough = front[front["accuracy"] >= 0.55]
    assert studies.best_point(names, min_accuracy=0.55)["macs"] == enough["macs"].min()
    assert studies.best_point(names)["accuracy"] == front["accuracy"].max()
    with pytest.raises(results.StoreError, match=r"within accuracy 0.99: the most accurate has accuracy 0.8100, macs"):
        studies.best_point(names, min_accuracy=0.99)
    with pytest.raises(results.StoreError, match="within macs 10: none is within the limits"):
        studies.best_point("small", max_macs=10)


@pytest.mark.parametrize("over", ["evaluations", "time", "work"])
def test_histories_are_drawn(studies, tmp_path, over):
    history = studies.history(["small", "large"])
    (axes,) = history_figure(history, over=over).axes
    steps = {line.get_label(): line for line in axes.lines}
    assert set(steps) == {"small, best so far", "large, best so far"}
    drawn = steps["small, best so far"].get_ydata()
    assert drawn.tolist() == history.loc[history["study"] == "small", "best"].tolist()
    assert plot_history(history, tmp_path / "history.png", over=over).stat().st_size > 5000


def test_names_that_begin_with_an_underscore_are_in_the_legend(store):
    with store.writer("_own", DATA) as writer:
        writer.set_score(SCORE)
        (number,) = writer.add_candidates([candidate("aaaa0001", status="finished", space="_space")])
        writer.record(number, fidelity=1.0, repeat=0, realised_key="aaaa0001", points=[point(0, 2 * 10**6, 0.5)])
        writer.finish()
    for figure, name in ((store.plot_front("_own"), "_space (1)"), (store.plot_history("_own"), "_own, best so far")):
        (axes,) = figure.axes
        assert name in [text.get_text().strip() for text in axes.get_legend().get_texts()]


def test_refused_figures(studies, tmp_path):
    with pytest.raises(results.StoreError, match=r"one of evaluations, time, work. Got 'hours'"):
        studies.plot_history("small", over="hours")
    with pytest.raises(results.StoreError, match=r"Got 'a.jpg'"):
        studies.plot_history("small", tmp_path / "a.jpg")
    with pytest.raises(results.StoreError, match="there are none"):
        studies.plot_history("empty")
    unknown = studies.history("small").assign(elapsed_seconds=math.nan)
    with pytest.raises(results.StoreError, match="needs evaluations with elapsed_seconds"):
        history_figure(unknown, over="time")


def test_figures_are_methods(studies, tmp_path):
    path = tmp_path / "front.png"
    figure = studies.plot_front(["small", "large"], path)
    assert path.stat().st_size > 5000
    assert figure._repr_png_()[:4] == b"\x89PNG"
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert {"small (2)", "large (2)", "not trained in full"} <= set(labels)
    limited = studies.plot_front("small", max_macs=2e6)
    assert "1 on the front" in " ".join(text.get_text() for text in limited.axes[0].texts)


def test_several_stores(studies, tmp_path, rows, points):
    other = results.open(tmp_path / "other.db")
    with other.writer("small", DATA) as writer:
        writer.set_score(SCORE)
        (number,) = writer.add_candidates([rows("cccc0001", status="finished")])
        writer.record(
            number, fidelity=1, repeat=0, seconds=1.0, realised_key="cccc0001", points=[points(0, 10**6, 0.9)]
        )
        writer.finish()
    both = results.open(studies.url, other.url)
    found = both.compare("small")
    assert found["store"].tolist() == [other.label, studies.label]
    assert both.history("small").groupby("store").size().to_dict() == {other.label: 1, studies.label: 2}
    assert both.best_point("small", min_accuracy=0.85)["candidate"] == "cccc0001"
    assert both.plot_front("small", tmp_path / "both.png").axes
    labels = both.plot_history("small").axes[0].get_legend_handles_labels()[1]
    assert sum("in other.db" in label for label in labels) == 2
    pd.testing.assert_frame_equal(both.front("small"), both.front(["small"]))
