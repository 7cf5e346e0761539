"""The surrogate against closed forms and scikit-learn; the strategy `guided` by itself and in a small search."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nas.chain.graph import graph_of
from nas.chain.walks import log_path_totals
from nas.errors import InvalidArchitecture, PluginError, UserError
from nas.funnel.ranking import order_of_training
from nas.plugins import load_plugin
from nas.proxies.dtmc import dtmc
from nas.representation.architecture import Architecture, macs
from nas.representation.builder import Builder
from nas.representation.elements import Task
from nas.seeds import seed as derived_seed
from nas.spaces.choices import Domains, Recorder, at_random
from nas.strategies.contract import Trial
from nas.strategies.guided import Guided, expected_values, not_far_below
from nas.strategies.random import Random
from nas.strategies.surrogate import STRENGTHS, Surrogate, features, fit_ridge
from nas.testing import strategy_checks

TASK = Task(input_shape=(3, 32, 32), num_classes=10)


def problem(rows, columns, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)) * rng.uniform(0.2, 2, columns) + rng.normal(size=columns)
    return x, x @ rng.normal(size=columns) + 2 + noise * rng.normal(size=rows)


def sampled(space, count, seed=0):
    """Random architectures of a space, with their choices."""
    decide, domains, found = at_random(np.random.default_rng(seed)), Domains(), []
    made = load_plugin("nas.search_spaces", space)()
    while len(found) < count:
        recorder = Recorder(decide, domains)
        try:
            found.append((made.architecture(recorder, TASK, points=4).canonical, recorder.choices))
        except InvalidArchitecture:
            continue
    return found, domains


@pytest.fixture(scope="module")
def population():
    return sampled("residual", 300)


def worth(architecture):
    """A formula of ours for accuracy: saturates in paths and MACs, and dislikes depthwise convolutions."""
    depthwise = sum(o.groups > 1 for o in architecture.topology.operations)
    quality = (
        np.mean(log_path_totals(graph_of(architecture).graph))
        + 0.5 * math.log(macs(architecture)[-1])
        - 0.3 * depthwise
    )
    return 0.95 - 0.8 * math.exp(-quality / 6)


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
    assert ours.noise == pytest.approx(np.mean(shares), rel=1e-7)  # errors are as large as they are said to be


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
def test_ridge_says_what_it_needs(x, y, strengths, message):
    with pytest.raises(UserError, match=message):
        fit_ridge(x, y, strengths)


# ------------------------------------------------------------------------------------------------ features


def test_features_by_hand():
    builder = Builder(Task(input_shape=(1, 8, 8), num_classes=2))
    x = builder.conv(builder.input, (4, 8), kernel=3)
    y = builder.conv(x, (4, 8), kernel=(1, 3), stride=(1, 2))
    builder.add("max_pool", x, y, kernel=(3, 3), stride=(1, 2))
    builder.head(y)
    found = features(builder.architecture(2))
    assert found["operations"] == {
        "conv 3x3": 1,
        "conv 1x3 /1x2": 1,
        "max_pool 3x3 /1x2": 1,
        "global_avg_pool": 1,
        "linear": 1,
    }
    assert found["pairs"] == {
        ("conv 3x3", "conv 1x3 /1x2"): 1,
        ("conv 3x3", "max_pool 3x3 /1x2"): 1,
        ("conv 1x3 /1x2", "global_avg_pool"): 1,
        ("max_pool 3x3 /1x2", "global_avg_pool"): 1,
        ("global_avg_pool", "linear"): 1,
    }
    assert found["sizes"]["depth"] == 3
    assert found["sizes"]["log largest macs"] == pytest.approx(math.log(macs(builder.architecture(2))[-1]))


def test_an_operation_counts_by_the_points_that_run_it():
    builder = Builder(Task(input_shape=(1, 8, 8), num_classes=2))
    x = builder.conv(builder.input, (2, 4, 8), kernel=3)
    y = builder.conv(x, (2, 4, 8), kernel=3)
    builder.add("conv", x, y, kernel=1, optional=True)
    builder.head(y)
    full = builder.architecture(3)
    points = [builder.point(0, without=(2,)), *full.points[1:]]
    found = features(full.with_points(points))
    assert found["operations"]["conv 1x1"] == pytest.approx(2 / 3)
    assert found["operations"]["conv 3x3"] == pytest.approx(2)
    assert found["pairs"]["conv 3x3", "conv 1x1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("space", ["residual", "mobile", "slimmable"])
def test_features_equal_the_slow_count(space):
    for architecture, _ in sampled(space, 20)[0]:
        operations = architecture.topology.operations
        found, slow = features(architecture), Counter()
        for point in architecture.points:
            for a in point.operations:
                slow["live"] += 1
                slow["pairs"] += sum(operations[b].source == operations[a].target for b in point.operations)
        assert sum(found["operations"].values()) == pytest.approx(slow["live"] / 4)
        assert sum(found["pairs"].values()) == pytest.approx(slow["pairs"] / 4)
        assert found == features(Architecture.from_json(architecture.to_json()))
        assert found == features(architecture, macs(architecture))


# ------------------------------------------------------------------------------------------------ surrogate


def test_surrogate_is_a_ridge_on_standardised_blocks(population):
    found, _ = population
    rows, y = [features(a) for a, _ in found[:80]], [worth(a) for a, _ in found[:80]]
    surrogate = Surrogate(rows, y)
    scaled = []
    for block in ("sizes", "operations", "pairs"):
        names = sorted({name for row in rows for name in row[block]}, key=repr)
        x = np.array([[row[block].get(name, 0.0) for name in names] for row in rows])
        x = x[:, x.std(axis=0) > 1e-9]
        scaled.append((x - x.mean(axis=0)) / x.std(axis=0) / math.sqrt(x.shape[1]))
        assert scaled[-1].var(axis=0).sum() == pytest.approx(1)
    np.testing.assert_allclose(
        surrogate.predict(rows)[0], fit_ridge(np.hstack(scaled), y).predict(np.hstack(scaled))[0]
    )


def test_surrogate_predicts_what_it_has_not_seen(population):
    found, _ = population
    rows, y = [features(a) for a, _ in found], np.array([worth(a) for a, _ in found])
    mean, deviation = Surrogate(rows[:60], y[:60]).predict(rows[60:])
    assert np.corrcoef(mean, y[60:])[0, 1] > 0.9
    errors = (mean - y[60:]) / np.hypot(deviation, math.sqrt(Surrogate(rows[:60], y[:60]).ridge.noise))
    assert 0.3 < np.mean(errors**2) < 3


def test_what_was_never_trained_is_uncertain(population):
    found, _ = population
    rows, y = [features(a) for a, _ in found[:60]], [worth(a) for a, _ in found[:60]]
    surrogate = Surrogate(rows, y)
    strange = {block: dict(given) for block, given in rows[0].items()}
    strange["operations"]["attention"] = 2.0
    mean, deviation = surrogate.predict([rows[0], strange])
    assert mean[1] == pytest.approx(mean[0])
    assert deviation[1] > 1.5 * deviation[0]


def test_one_more_block_is_heard(population):
    """A proxy that is the truth is not drowned by a hundred columns."""
    found, _ = population
    rng = np.random.default_rng(0)
    y = rng.normal(size=300)
    rows = [features(a) | {"proxy": {"score": 5 * v + 3}} for (a, _), v in zip(found, y)]
    mean, _ = Surrogate(rows[:40], y[:40]).predict(rows[40:])
    assert np.corrcoef(mean, y[40:])[0, 1] > 0.95


def test_surrogate_refuses_other_blocks(population):
    rows = [features(a) for a, _ in population[0][:5]]
    with pytest.raises(UserError, match="blocks of the fit"):
        Surrogate(rows, range(5)).predict([rows[0] | {"proxy": {"score": 1.0}}])
    with pytest.raises(UserError, match="two rows"):
        Surrogate([], [])


def test_cost(population):
    """In CPU time: 70 µs for features, 6 ms to fit 300, 21 µs a prediction."""
    found, _ = population
    spent = {}
    for _ in range(3):
        start = time.thread_time()
        rows = [features(a) for a, _ in found]
        spent.setdefault("features", []).append((time.thread_time() - start) / 300)
        start = time.thread_time()
        surrogate = Surrogate(rows, [dtmc(a) for a, _ in found])
        spent.setdefault("fit", []).append(time.thread_time() - start)
        start = time.thread_time()
        for row in rows:
            surrogate.predict([row])
        spent.setdefault("predict", []).append((time.thread_time() - start) / 300)
    assert min(spent["features"]) < 500e-6
    assert min(spent["fit"]) < 0.3
    assert min(spent["predict"]) < 500e-6


# ------------------------------------------------------------------------------------------------ strategy


@pytest.mark.parametrize(("name", "check"), strategy_checks(Guided))
def test_contract(name, check):
    check()


def trials_of(population, count, **more):
    found, domains = population
    return [
        Trial(
            choices=choices,
            domains=domains.of(choices),
            value=worth(architecture),
            architecture=architecture,
            proxy=dtmc(architecture),
            generation=i // 9,
            **more,
        )
        for i, (architecture, choices) in enumerate(found[:count])
    ]


def asked(strategy, count=6):
    space, out = load_plugin("nas.search_spaces", "residual")(), []
    for _ in range(count):
        recorder = Recorder(strategy.ask(), Domains())
        with contextlib.suppress(InvalidArchitecture):
            space.architecture(recorder, TASK, points=4)
        out.append(recorder.choices)
    return out


def test_history_is_a_set_and_telling_equals_rebuilding(population):
    trials, candidate = trials_of(population, 40), population[0][50][0]
    once, shuffled, told = Guided(seed=1, history=trials), Guided(seed=1, history=trials[::-1]), Guided(seed=1)
    for trial in trials[::-1]:
        told.tell(trial)
    scores = [strategy.score(candidate, 1.0) for strategy in (once, shuffled, told)]
    assert scores[0] == scores[1] == scores[2]
    assert asked(once) == asked(shuffled) == asked(told)
    assert asked(Guided(seed=2, history=trials)) != asked(Guided(seed=1, history=trials))


def test_same_in_another_process(population):
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import test_guided as t\n"
        "p = t.sampled('residual', 30); s = t.Guided(seed=1, history=t.trials_of(p, 20))\n"
        "print(json.dumps([t.asked(s), s.score(p[0][25][0], 1.0)]))"
    )
    strategy = Guided(seed=1, history=trials_of(population, 20))
    here = [asked(strategy), strategy.score(population[0][25][0], 1.0)]
    for hash_seed in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent)],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            check=True,
        )
        assert json.loads(out.stdout) == here


def test_no_opinion_before_it_knows_enough(population):
    candidate = population[0][50][0]
    assert Guided(seed=0).score(candidate, 1.0) is None
    assert Guided(seed=0, history=trials_of(population, 9)).score(candidate, 1.0) is None
    assert Guided(seed=0, history=trials_of(population, 10)).score(candidate, 1.0) is not None
    bare = [
        Trial(choices=t.choices, domains=t.domains, value=t.value, generation=t.generation)
        for t in trials_of(population, 20)
    ]
    strategy = Guided(seed=0, history=bare)
    assert strategy.score(candidate, 1.0) is None
    assert asked(strategy) != asked(Random(seed=0))


def test_proposals_are_made_of_the_best(population):
    trials = trials_of(population, 100)
    best = sorted(trials, key=lambda trial: -trial.value)[:20]
    near: list[int] = []
    random: list[int] = []
    for strategy, distances in ((Guided(seed=0, history=trials), near), (Random(seed=0), random)):
        for choices in asked(strategy, 200):
            distances.append(min(sum(choices[n] != t.choices.get(n, choices[n]) for n in choices) for t in best))
    assert np.mean(np.array(near) <= 3) > 0.3
    assert np.median(random) > np.median(near) + 3


def test_options_that_changed_since(population):
    trials = trials_of(population, 20)
    decide = Guided(seed=0, history=trials).ask()
    with pytest.raises(PluginError, match="same options every time"):
        decide("width", (1, 2, 3))


def test_stopped_trials_count_with_the_gain_of_others():
    about = {"choices": {"a": 1}, "domains": {"a": (1, 2)}}
    trials = [
        Trial(value=0.9, intermediate={1: 0.5, 3: 0.7, 9: 0.9}, **about),
        Trial(value=0.8, intermediate={1: 0.6, 3: 0.75, 9: 0.8}, **about),
        Trial(value=0.4, complete=False, intermediate={1: 0.4}, **about),
        Trial(value=0.6, complete=False, intermediate={1: 0.5, 3: 0.6}, **about),
        Trial(value=0.3, complete=False, **about),
    ]
    assert expected_values(trials) == pytest.approx([0.9, 0.8, 0.4 + 0.3, 0.6 + 0.125, 0.3])
    assert expected_values(trials[2:]) == [0.4, 0.6, 0.3]


def test_failures_do_not_bend_the_fit(population):
    trials = trials_of(population, 60)
    failed = [Trial(**{f: getattr(trials[7], f) for f in trials[7].__dataclass_fields__} | {"value": 0.1})]
    candidates = [a for a, _ in population[0][60:160]]
    truth = [worth(a) for a in candidates]
    bent = Guided(seed=0, history=trials[:7] + failed + trials[8:])
    assert np.corrcoef([bent.score(a, None) for a in candidates], truth)[0, 1] > 0.85
    assert not_far_below([1.0, 2.0]) == [1.0, 2.0]


# ------------------------------------------------------------------------------------------------ a small search


def search(strategy, seed, *, order, generations=5, size=9, pool=36):
    """The values of all that a search trains: the driver's loop, on `worth` with noise, everything trained in full."""
    space, domains, history = load_plugin("nas.search_spaces", "residual")(), Domains(), []
    noise = np.random.default_rng(derived_seed(seed, "noise"))
    for generation in range(generations):
        proposer = strategy(seed=derived_seed(seed, "strategy", generation), history=history)
        known, found = {trial.architecture.key for trial in history}, {}
        for _ in range(pool):
            recorder = Recorder(proposer.ask(), domains)
            try:
                architecture = space.architecture(recorder, TASK, points=4).canonical
            except InvalidArchitecture:
                continue
            if architecture.key not in known:
                found[architecture.key] = architecture, recorder.choices, dtmc(architecture)
        entries = list(found.values())
        scores = [proposer.score(a, p) if order == "own" else p for a, _, p in entries]
        largest = [macs(a)[-1] for a, _, _ in entries]
        if None in scores:
            scores = [p for _, _, p in entries]
        elif order == "own":
            largest = [1.0] * len(entries)
        chosen = order_of_training(scores, largest, keys=list(found), keep=size) if order else range(size)
        for architecture, choices, proxy in (entries[i] for i in chosen):
            history.append(
                Trial(
                    choices=choices,
                    domains=domains.of(choices),
                    value=worth(architecture) + 0.002 * noise.normal(),
                    generation=generation,
                    architecture=architecture,
                    proxy=proxy,
                )
            )
    return [trial.value for trial in history]


def test_guided_finds_better_networks_sooner():
    """Measured over 10 seeds: see benchmarks/strategies.py."""
    gains = []
    for seed in range(3):
        random, guided = search(Random, seed, order=None), search(Guided, seed, order="own")
        gains.append(np.mean(guided[-9:]) - np.mean(random[-9:]))
        assert max(guided) > max(random)
    assert min(gains) > 0
