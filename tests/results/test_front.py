"""Dominance, ranks, hypervolume and anytime accuracy, against closed forms, slow definitions and invariances."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import results
from results.front import (
    Score,
    anytime_accuracy,
    crowding,
    dominated,
    hypervolume,
    non_dominated,
    non_dominated_rank,
)

few = st.integers(0, 4).map(float)  # few values, so that ties are common
pairs = st.lists(st.tuples(few, few), max_size=12)
costs = st.floats(0.5, 200.0)
accuracies = st.floats(0.0, 1.0)
curves = st.lists(st.tuples(costs, accuracies), max_size=8)


def beats(p, q):
    """Whether p = (cost, value) dominates q."""
    return p[0] <= q[0] and p[1] >= q[1] and p != q


def split(points):
    return [p[0] for p in points], [p[1] for p in points]


@given(pairs)
def test_non_dominated_is_its_definition(points):
    expected = [not any(beats(other, point) for other in points) for point in points]
    assert non_dominated(*split(points)).tolist() == expected
    assert dominated(*split(points)).tolist() == [not kept for kept in expected]


def test_a_point_with_nan_is_never_on_the_front():
    assert non_dominated([1, math.nan, 2], [math.nan, 1, 0.1]).tolist() == [False, False, True]


@given(pairs)
def test_rank_peels_fronts(points):
    remaining, rank, expected = set(points), 0, {}
    while remaining:
        best = {p for p in remaining if not any(beats(q, p) for q in remaining)}
        expected |= dict.fromkeys(best, rank)
        remaining -= best
        rank += 1
    values = np.array([[-cost, value] for cost, value in points]).reshape(-1, 2)
    assert non_dominated_rank(values).tolist() == [expected[p] for p in points]


def test_rank_counts_nan_as_worst():
    assert non_dominated_rank([[1, math.nan], [1, 0], [math.nan, math.nan]]).tolist() == [1, 0, 2]


def test_rank_needs_two_objectives():
    with pytest.raises(ValueError, match=r"shape \(N, 2\). Got shape \(3,\)"):
        non_dominated_rank([1, 2, 3])


def test_crowding_sums_normalised_gaps():
    distance = crowding([[0, 4], [1, 2], [4, 0]])
    assert distance.tolist() == [math.inf, 2.0, math.inf]
    assert crowding([]).tolist() == []
    assert crowding([3, 3, 3]).tolist() == [math.inf, 0.0, math.inf]
    with pytest.raises(ValueError, match="finite"):
        crowding([math.nan])


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=8))
def test_hypervolume_counts_dominated_cells(points):
    """On integer points the area is the number of unit cells that some point dominates."""
    expected = sum(any(c <= x and v > y for c, v in points) for x in range(6) for y in range(1, 7))
    area = hypervolume(*split(points), reference_cost=6, reference_accuracy=1, log_cost=False)
    assert area == pytest.approx(expected)


@given(curves, st.floats(1e-3, 1e3))
def test_hypervolume_in_logarithms_ignores_the_unit(points, unit):
    macs, accuracy = split(points)
    plain = hypervolume(macs, accuracy, reference_cost=100, reference_accuracy=0.1)
    scaled = hypervolume([unit * c for c in macs], accuracy, reference_cost=100 * unit, reference_accuracy=0.1)
    assert scaled == pytest.approx(plain, abs=1e-9)


@given(st.lists(st.tuples(costs, accuracies), max_size=5))
def test_hypervolume_by_inclusion_and_exclusion(points):
    total = 0.0
    for chosen in range(1, 2 ** len(points)):
        subset = [p for n, p in enumerate(points) if chosen >> n & 1]
        width, height = math.log(100) - math.log(max(p[0] for p in subset)), min(p[1] for p in subset) - 0.1
        total -= (-1) ** len(subset) * max(width, 0) * max(height, 0)
    area = hypervolume(*split(points), reference_cost=100, reference_accuracy=0.1)
    assert area == pytest.approx(total, abs=1e-9)


def test_hypervolume_refuses_costs_without_logarithm():
    with pytest.raises(ValueError, match="positive"):
        hypervolume([0.0], [1.0], reference_cost=2, reference_accuracy=0)


def test_anytime_accuracy_closed_forms():
    budgets = {"low": 1.0, "high": 100.0, "floor": 0.1}
    assert anytime_accuracy([], [], **budgets) == pytest.approx(0.1)
    assert anytime_accuracy([0.3], [0.8], **budgets) == pytest.approx(0.8)  # below low counts from low
    assert anytime_accuracy([101], [0.8], **budgets) == pytest.approx(0.1)  # above high is ignored
    assert anytime_accuracy([10], [0.9], **budgets) == pytest.approx(0.5)  # half of the logarithmic range
    assert anytime_accuracy([10, 20], [0.9, 0.2], **budgets) == pytest.approx(0.5)  # a worse, larger point is not used
    assert anytime_accuracy([1], [math.nan], **budgets) == pytest.approx(0.1)
    assert anytime_accuracy([1], [0.02], **budgets) == pytest.approx(0.1)


@given(curves)
def test_anytime_accuracy_is_its_integral(points):
    """The midpoint rule in ln b; each step of the integrand is misplaced by half a cell at most."""
    low, high, floor, cells = 1.0, 100.0, 0.1, 2000
    edges = np.linspace(math.log(low), math.log(high), cells + 1)
    budgets = np.exp((edges[1:] + edges[:-1]) / 2)
    integrand = np.full(cells, floor)
    for cost, value in points:
        integrand = np.where(budgets >= cost, np.maximum(integrand, value), integrand)
    exact = anytime_accuracy(*split(points), low=low, high=high, floor=floor)
    assert exact == pytest.approx(integrand.mean(), abs=(len(points) + 1) / cells)


@given(curves, st.data())
def test_anytime_accuracy_grows_with_accuracy_and_with_points(points, data):
    budgets = {"low": 1.0, "high": 100.0, "floor": 0.1}
    before = anytime_accuracy(*split(points), **budgets)
    better = [(cost, data.draw(st.floats(value, 1.0))) for cost, value in points]
    assert anytime_accuracy(*split(better), **budgets) >= before - 1e-12
    assert anytime_accuracy(*split([*points, (7.0, 0.5)]), **budgets) >= before - 1e-12
    assert 0.1 - 1e-12 <= before <= 1 + 1e-12


@given(curves.filter(lambda points: all(abs(math.log(c / b)) > 1e-6 for c, _ in points for b in (1, 100))))
def test_anytime_accuracy_ignores_the_unit_of_cost(points):
    macs, accuracy = split(points)
    mega = anytime_accuracy(macs, accuracy, low=1, high=100, floor=0.1)
    plain = anytime_accuracy([c * 1e6 for c in macs], accuracy, low=1e6, high=1e8, floor=0.1)
    assert plain == pytest.approx(mega, abs=1e-9)


@pytest.mark.parametrize(
    ("costs", "values", "low", "high", "floor", "message"),
    [
        ([1], [0.5], 5, 5, 0.1, "low < high.*low=5 and high=5"),
        ([1], [0.5], 0, 5, 0.1, "0 < low"),
        ([1], [0.5], math.nan, 5, 0.1, "low=nan"),
        ([1], [0.5], 1, math.inf, 0.1, "finite"),
        ([0], [0.5], 1, 5, 0.1, r"positive. Got \[0\]"),
        ([math.nan], [0.5], 1, 5, 0.1, "positive"),
        ([1], [0.5, 0.6], 1, 5, 0.1, "one length"),
        ([1], [0.5], 1, 5, math.nan, "floor"),
    ],
)
def test_wrong_arguments_of_anytime_accuracy(costs, values, low, high, floor, message):
    with pytest.raises(ValueError, match=message):
        anytime_accuracy(costs, values, low=low, high=high, floor=floor)


def test_score_names_tell_scores_apart():
    score = Score(low=1, high=100, floor=0.1)
    others = [
        Score(low=1.0000000001, high=100, floor=0.1),
        Score(low=1, high=100, floor=0.1, cost="latency_ms"),
        Score(low=1, high=100, floor=0.1, split="test"),
    ]
    assert score == Score(low=1.0, high=100.0, floor=0.1)
    assert score.name == Score(low=1.0, high=100.0, floor=0.1).name
    assert len({score.name, *(other.name for other in others)}) == 4
    assert score([10], [0.9]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"measure that is minimised. Got 'test_accuracy'"):
        Score(low=1, high=2, floor=0, cost="test_accuracy")
    with pytest.raises(ValueError, match=r"one of validation, test. Got 'train'"):
        Score(low=1, high=2, floor=0, split="train")
    with pytest.raises(ValueError, match="low < high"):
        Score(low=2, high=1, floor=0)


def test_importing_results_imports_nothing_heavy():
    code = (
        "import sys, results; "
        "heavy = {'numpy', 'pandas', 'sqlalchemy', 'matplotlib', 'torch'}; assert not heavy & set(sys.modules); "
        "results.front; assert not (heavy - {'numpy'}) & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(results.__file__).parents[1])


def test_accuracies_are_of_the_points_that_validation_chose():
    """At every budget the point that is best on validation counts, though a cheaper one is better on test."""
    costs, validation, test = [1, 10], [0.5, 0.6], [0.7, 0.4]
    bounds = {"low": 1, "high": 100, "floor": 0.1}
    assert anytime_accuracy(costs, test, **bounds, chosen_by=validation) == pytest.approx((0.7 + 0.4) / 2)
    assert anytime_accuracy(costs, test, **bounds) == pytest.approx(0.7)
    assert anytime_accuracy(costs, test, **bounds, chosen_by=[0.05, 0.6]) == pytest.approx((0.1 + 0.4) / 2)


@given(curves)
def test_choosing_by_the_values_themselves_changes_nothing(points):
    costs_N, values_N = split(points)
    bounds = {"low": 1, "high": 100, "floor": 0.1}
    plain = anytime_accuracy(costs_N, values_N, **bounds)
    assert anytime_accuracy(costs_N, values_N, **bounds, chosen_by=values_N) == pytest.approx(plain)
