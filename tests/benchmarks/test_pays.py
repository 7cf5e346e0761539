"""The plan of a training, and scores of runs, against closed forms."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.representation.elements import Task
from nas.representation.supernet import choice_groups
from results.front import anytime_accuracy

from .scripts import script

pays, report, resumable = script("pays"), script("pays_report"), script("resumable")


@given(st.floats(0.01, 300), st.integers(1_000, 60_000))
def test_a_plan_takes_all_of_the_time(affordable, count):
    epochs, images = pays.plan(affordable, count)
    planned = epochs * images / count
    assert 1 <= images <= count
    assert planned <= affordable + epochs / count
    assert planned >= affordable - pays.LEFT_OUT - epochs / count
    assert images == count or epochs - 1 < affordable


def _rows(method, seed, network, best, points):
    return [
        {
            "method": method,
            "seed": seed,
            "network": network,
            "best": best,
            "macs": macs,
            "accuracy": validation,
            "test_accuracy": test,
            "cpu_seconds": 1.0,
        }
        for macs, validation, test in points
    ]


def test_scores_are_those_of_the_best_network_and_of_the_front():
    """Over one decade: the best network has 0.5 from 1 M and 0.8 from √10 M; the second network adds 0.7 from 2 M."""
    frame = pd.DataFrame(
        _rows("search", 0, "a", True, [(0.5e6, 0.5, 0.5), (math.sqrt(10) * 1e6, 0.8, 0.8)])
        + _rows("search", 0, "b", False, [(2e6, 0.7, 0.7), (9e6, 0.75, 0.99)])
    )
    (line,) = report.scores(frame, 10e6, 0.1).to_dict("records")
    of_two = (math.log10(2) * 0.5 + (0.5 - math.log10(2)) * 0.7 + 0.5 * 0.8) * 100
    assert line["best"] == pytest.approx(65.0)
    assert line["front"] == pytest.approx(of_two)
    assert line["hypervolume"] == pytest.approx((of_two / 100 - 0.1) * math.log(10))


def test_a_run_without_a_trained_network_scores_as_the_best_constant_answer():
    frame = pd.DataFrame(_rows("search", 0, "none", True, [(3e6, math.nan, math.nan)]))
    (line,) = report.scores(frame, 3e6, 0.1).to_dict("records")
    assert (line["best"], line["front"], line["hypervolume"]) == pytest.approx((10.0, 10.0, 0.0))
    assert anytime_accuracy([1.0], [math.nan], low=0.5, high=2.0, floor=0.1) == pytest.approx(0.1)


@pytest.mark.parametrize(("shape", "most"), [((1, 28, 28), 3e6), ((3, 32, 32), 4.5e6)])
def test_the_supernet_has_alternatives_and_starts_within_the_range(shape, most):
    network = pays.supernet_of(Task(input_shape=shape, num_classes=10), most)
    assert network.training.rule == "path_sampling"
    assert network.costs[0] < most / 3 < most < network.costs[-1] <= 2 * most
    assert len(choice_groups(network.topology)) >= 5


def test_names_of_data_have_no_folder():
    assert [resumable.name_of(data) for data in ("npz:/a/b/images.npz", "digits")] == ["images", "digits"]


def test_a_training_scores_over_the_last_decade():
    """0.5 from 1 M and 0.8 from √10 M; a second training has points below the range only."""
    rows = pd.DataFrame(
        [
            {"way": way, "max_macs": 10e6, "macs": macs, "accuracy": accuracy, "seconds": 3.0}
            for way, macs, accuracy in [("a", 0.5e6, 0.5), ("a", math.sqrt(10) * 1e6, 0.8), ("b", 0.9e6, 0.4)]
        ]
    )
    for scored in (resumable.scored(rows, ["way"]), resumable.scored(rows, ["way"], 10e6)):
        assert list(scored.way) == ["a", "b"]
        assert list(scored.accuracy) == pytest.approx([0.65, 0.4])
        assert list(scored.seconds) == [3.0, 3.0]
    assert resumable.scored(rows, ["way"], 1e6).accuracy.iloc[0] < 0.5


def test_differences_are_in_points_with_an_interval():
    assert resumable.in_points(pd.Series([0.01, 0.03, math.nan])) == "+2.00 ± 12.71"  # t of one degree of freedom
    assert resumable.in_points(pd.Series([-0.01])) == "-1.00 ± nan"
    assert resumable.in_points(pd.Series([math.nan])) == ""
