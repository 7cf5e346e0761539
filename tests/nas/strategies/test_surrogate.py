"""The surrogate against closed forms and scikit-learn: ridge regression, features, and blocks."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from nas.errors import UserError
from nas.representation.architecture import Architecture, macs
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.strategies.surrogate import STRENGTHS, Surrogate, features, fit_ridge

from .populations import sampled, worth


@pytest.fixture(scope="module")
def population():
    return sampled("residual", 300)


def problem(rows, columns, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)) * rng.uniform(0.2, 2, columns) + rng.normal(size=columns)
    return x, x @ rng.normal(size=columns) + 2 + noise * rng.normal(size=rows)


# ------------------------------------------------------------------------------------------------ ridge


SHAPES = [(12, 40), (60, 7), (30, 30), (2, 3)]


@pytest.mark.parametrize("strength", [0.01, 1.0, 300.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_ridge_equals_sklearn(shape, strength):
    from sklearn.linear_model import Ridge

    x, y = problem(*shape)
    ours, theirs = fit_ridge(x, y, [strength]), Ridge(alpha=strength, solver="svd").fit(x, y)
    new = np.random.default_rng(1).normal(size=(9, shape[1]))
    np.testing.assert_allclose(ours.weights, theirs.coef_, atol=1e-9)
    np.testing.assert_allclose(ours.predict(new)[0], theirs.predict(new), atol=1e-9)


@pytest.mark.parametrize("strength", [0.05, 3.0])
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_left_out_equals_leaving_out(shape, strength):
    x, y = problem(*shape)
    ours, n = fit_ridge(x, y, [strength]), len(y)
    shares = []
    for i in range(n):
        rest = np.arange(n) != i
        without = fit_ridge(x[rest], y[rest], [strength])
        mean, deviation = without.predict(x[[i]])
        assert ours.left_out[i] == pytest.approx(mean[0], abs=1e-9)
        shares.append((y[i] - mean[0]) ** 2 / (1 + deviation[0] ** 2 / without.noise))
    assert ours.noise == pytest.approx(np.mean(shares), rel=1e-7)  # the size of the errors


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_strength_is_that_of_least_leave_one_out_error(shape):
    from sklearn.linear_model import RidgeCV

    x, y = problem(*shape, noise=2.0)
    ours, theirs = fit_ridge(x, y), RidgeCV(alphas=STRENGTHS).fit(x, y)
    assert ours.strength == pytest.approx(theirs.alpha_)
    assert np.mean((ours.left_out - y) ** 2) == pytest.approx(-theirs.best_score_)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_deviation_is_the_posterior_s(shape):
    x, y = problem(*shape)
    ridge, new = fit_ridge(x, y, [0.7]), np.random.default_rng(1).normal(size=(9, shape[1]))
    centred, moved = x - x.mean(axis=0), new - x.mean(axis=0)
    inverse = np.linalg.inv(centred.T @ centred + 0.7 * np.eye(shape[1]))
    expected = ridge.noise * (1 / len(y) + np.einsum("np,pq,nq->n", moved, inverse, moved))
    np.testing.assert_allclose(ridge.predict(new)[1] ** 2, expected, rtol=1e-8)
    # A column that the fit had not is one that was always 0 there.
    wider, extra = np.column_stack([x, np.zeros(len(x))]), np.linspace(0, 2, 9)
    seen = fit_ridge(wider, y, [0.7]).predict(np.column_stack([new, extra]))[1]
    np.testing.assert_allclose(ridge.predict(new, unseen=extra**2)[1], seen, rtol=1e-8)


def test_deviations_have_the_size_of_errors():
    hits = []
    for seed in range(20):
        x, y = problem(80, 30, noise=1.0, seed=seed)
        ridge = fit_ridge(x[:40], y[:40])
        mean, deviation = ridge.predict(x[40:])
        hits.append(np.abs(y[40:] - mean) < np.sqrt(deviation**2 + ridge.noise))
    assert np.mean(hits) == pytest.approx(0.68, abs=0.06)


def test_ridge_without_anything_to_learn():
    for x, y in ((np.ones((5, 3)), np.arange(5.0)), (np.zeros((4, 0)), np.arange(4.0)), (np.eye(4), np.ones(4))):
        mean, deviation = fit_ridge(x, y).predict(x)
        np.testing.assert_allclose(mean, y.mean(), atol=1e-12)
        assert np.isfinite(deviation).all()


@pytest.mark.parametrize(
    ("x", "y", "strengths", "message"),
    [
        ([[1.0]], [1.0], [1.0], "two rows"),
        ([[1.0], [2.0]], [1.0], [1.0], "a value of each"),
        ([[1.0], [math.nan]], [1.0, 2.0], [1.0], "finite"),
        ([[1.0], [2.0]], [1.0, 2.0], [0.0], "positive"),
    ],
)
def test_bad_arguments_of_a_ridge_are_refused(x, y, strengths, message):
    with pytest.raises(UserError, match=message):
        fit_ridge(x, y, strengths)


# ------------------------------------------------------------------------------------------------ features


def test_features_by_hand():
    builder = Builder(Task(input_shape=(1, 8, 8), num_classes=2))
    x = builder.conv(builder.input, (4, 8), kernel=3)
    y = builder.conv(x, (4, 8), kernel=(1, 3), stride=(1, 2))
    builder.add("max_pool", x, y, kernel=(3, 3), stride=(1, 2))
    builder.head(y)
    blocks = features(builder.architecture(2))
    assert blocks["operations"] == {
        "conv 3x3": 1,
        "conv 1x3 /1x2": 1,
        "max_pool 3x3 /1x2": 1,
        "global_avg_pool": 1,
        "linear": 1,
    }
    assert blocks["pairs"] == {
        ("conv 3x3", "conv 1x3 /1x2"): 1,
        ("conv 3x3", "max_pool 3x3 /1x2"): 1,
        ("conv 1x3 /1x2", "global_avg_pool"): 1,
        ("max_pool 3x3 /1x2", "global_avg_pool"): 1,
        ("global_avg_pool", "linear"): 1,
    }
    assert blocks["sizes"]["depth"] == 3
    largest = math.log(macs(builder.architecture(2))[-1])
    assert blocks["sizes"]["log largest macs"] == pytest.approx(largest)
    assert blocks["squares"]["log largest macs"] == pytest.approx(largest**2)


def test_an_operation_counts_by_the_points_that_run_it():
    builder = Builder(Task(input_shape=(1, 8, 8), num_classes=2))
    x = builder.conv(builder.input, (2, 4, 8), kernel=3)
    y = builder.conv(x, (2, 4, 8), kernel=3)
    builder.add("conv", x, y, kernel=1, optional=True)
    builder.head(y)
    full = builder.architecture(3)
    points = [builder.point(0, without=(2,)), *full.points[1:]]
    blocks = features(full.with_points(points))
    assert blocks["operations"]["conv 1x1"] == pytest.approx(2 / 3)
    assert blocks["operations"]["conv 3x3"] == pytest.approx(2)
    assert blocks["pairs"]["conv 3x3", "conv 1x1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("space", ["residual", "mobile", "slimmable"])
def test_features_equal_the_slow_count(space):
    for architecture, _ in sampled(space, 20)[0]:
        operations = architecture.topology.operations
        blocks, slow = features(architecture), Counter()
        for point in architecture.points:
            for a in point.operations:
                slow["live"] += 1
                slow["pairs"] += sum(operations[b].source == operations[a].target for b in point.operations)
        assert sum(blocks["operations"].values()) == pytest.approx(slow["live"] / 4)
        assert sum(blocks["pairs"].values()) == pytest.approx(slow["pairs"] / 4)
        assert blocks == features(Architecture.from_json(architecture.to_json()))
        assert blocks == features(architecture, macs(architecture))


# ------------------------------------------------------------------------------------------------ surrogate


def test_surrogate_is_a_ridge_on_standardised_blocks(population):
    pairs, _ = population
    rows, y = [features(a) for a, _ in pairs[:80]], [worth(a) for a, _ in pairs[:80]]
    surrogate = Surrogate(rows, y)
    scaled = []
    for block in ("sizes", "squares", "operations", "pairs"):
        names = sorted({name for row in rows for name in row[block]}, key=repr)
        x = np.array([[row[block].get(name, 0.0) for name in names] for row in rows])
        x = x[:, x.std(axis=0) > 1e-9]
        scaled.append((x - x.mean(axis=0)) / x.std(axis=0) / math.sqrt(x.shape[1]))
        assert scaled[-1].var(axis=0).sum() == pytest.approx(1)
    np.testing.assert_allclose(
        surrogate.predict(rows)[0], fit_ridge(np.hstack(scaled), y).predict(np.hstack(scaled))[0]
    )


def test_counts_shrink_if_results_follow_the_size():
    """In the first trials, many counts hide a best size between the extremes."""
    rng = np.random.default_rng(0)
    size_N, counts_NP = rng.normal(10, 1, size=220), rng.poisson(2.0, size=(220, 12))
    rows = [
        {"sizes": {"s": s}, "squares": {"s": s**2}, "operations": {p: float(c) for p, c in enumerate(counts)}}
        for s, counts in zip(size_N, counts_NP)
    ]
    for values_N, shrinks in ((-((size_N - 10) ** 2), True), (counts_NP @ rng.normal(size=12), False)):
        whole = Surrogate(rows[:20], values_N[:20])
        free = Surrogate(rows[:20], values_N[:20], may_shrink=["operations"])
        errors = [np.abs(each.predict(rows[20:])[0] - values_N[20:]).mean() for each in (free, whole)]
        assert errors[0] < 0.8 * errors[1] if shrinks else errors[0] == errors[1]
        strange = {**rows[0], "operations": {**rows[0]["operations"], "attention": 2.0}}
        _, deviation = free.predict([rows[0], strange])
        assert deviation[1] > deviation[0]  # unseen operations stay uncertain


def test_surrogate_predicts_unseen_architectures(population):
    pairs, _ = population
    rows, y = [features(a) for a, _ in pairs], np.array([worth(a) for a, _ in pairs])
    mean, deviation = Surrogate(rows[:60], y[:60]).predict(rows[60:])
    assert np.corrcoef(mean, y[60:])[0, 1] > 0.9
    errors = (mean - y[60:]) / np.hypot(deviation, math.sqrt(Surrogate(rows[:60], y[:60]).ridge.noise))
    assert 0.3 < np.mean(errors**2) < 3


def test_unseen_features_are_uncertain(population):
    pairs, _ = population
    rows, y = [features(a) for a, _ in pairs[:60]], [worth(a) for a, _ in pairs[:60]]
    surrogate = Surrogate(rows, y)
    strange = {block: dict(values) for block, values in rows[0].items()}
    strange["operations"]["attention"] = 2.0
    mean, deviation = surrogate.predict([rows[0], strange])
    assert mean[1] == pytest.approx(mean[0])
    assert deviation[1] > 1.5 * deviation[0]


def test_one_more_block_has_an_influence(population):
    """A proxy that is the truth is not drowned by a hundred columns."""
    pairs, _ = population
    rng = np.random.default_rng(0)
    y = rng.normal(size=300)
    rows = [features(a) | {"proxy": {"score": 5 * v + 3}} for (a, _), v in zip(pairs, y)]
    mean, _ = Surrogate(rows[:40], y[:40]).predict(rows[40:])
    assert np.corrcoef(mean, y[40:])[0, 1] > 0.95


def test_surrogate_refuses_other_blocks(population):
    rows = [features(a) for a, _ in population[0][:5]]
    with pytest.raises(UserError, match="blocks of the fit"):
        Surrogate(rows, range(5)).predict([rows[0] | {"proxy": {"score": 1.0}}])
    with pytest.raises(UserError, match="two rows"):
        Surrogate([], [])
