"""The strategy `guided` by itself and in a small search."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nas.errors import InvalidArchitecture, PluginError
from nas.funnel.ranking import order_of_training
from nas.plugins import load_plugin
from nas.proxies.dtmc import dtmc
from nas.representation.architecture import macs
from nas.seeds import seed as derived_seed
from nas.spaces.choices import Domains, Recorder
from nas.strategies.contract import Trial
from nas.strategies.guided import Guided, not_far_below
from nas.strategies.mutating import expected_values
from nas.strategies.random import Random
from nas.testing import strategy_checks

from .populations import TASK, asked, sampled, trials_of, worth


@pytest.fixture(scope="module")
def population():
    return sampled("residual", 300)


@pytest.mark.parametrize(("name", "check"), strategy_checks(Guided))
def test_contract(name, check):
    check()


def test_history_is_a_set_and_telling_equals_rebuilding(population):
    trials, candidate = trials_of(population, 40), population[0][50][0]
    once, shuffled, continued = Guided(seed=1, history=trials), Guided(seed=1, history=trials[::-1]), Guided(seed=1)
    for trial in trials[::-1]:
        continued.tell(trial)
    scores = [strategy.score(candidate, 1.0) for strategy in (once, shuffled, continued)]
    assert scores[0] == scores[1] == scores[2]
    assert asked(once) == asked(shuffled) == asked(continued)
    assert asked(Guided(seed=2, history=trials)) != asked(Guided(seed=1, history=trials))


def test_same_in_another_process(population):
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1])\n"
        "from nas.strategies.guided import Guided; from populations import asked, sampled, trials_of\n"
        "p = sampled('residual', 30); s = Guided(seed=1, history=trials_of(p, 20))\n"
        "print(json.dumps([asked(s), s.score(p[0][25][0], 1.0)]))"
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


def test_no_score_with_few_trials(population):
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


def test_proposals_combine_choices_of_the_best(population):
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


def test_stopped_trials_count_with_the_gain_of_complete_trials():
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


def test_failures_do_not_distort_the_fit(population):
    trials = trials_of(population, 60)
    failed = [Trial(**{f: getattr(trials[7], f) for f in trials[7].__dataclass_fields__} | {"value": 0.1})]
    candidates = [a for a, _ in population[0][60:160]]
    truth = [worth(a) for a in candidates]
    bent = Guided(seed=0, history=trials[:7] + failed + trials[8:])
    assert np.corrcoef([bent.score(a, None) for a in candidates], truth)[0, 1] > 0.85
    assert not_far_below([1.0, 2.0]) == [1.0, 2.0]


# ------------------------------------------------------------------------------------------------ a small search


def search(strategy, seed, *, order, generations=5, size=9, pool=36):
    """The values of all trained candidates of a search: the driver's loop, with `worth` and noise as training."""
    space, domains, history = load_plugin("nas.search_spaces", "residual")(), Domains(), []
    noise = np.random.default_rng(derived_seed(seed, "noise"))
    for generation in range(generations):
        proposer = strategy(seed=derived_seed(seed, "strategy", generation), history=history)
        trained, proposed = {trial.architecture.key for trial in history}, {}
        for _ in range(pool):
            recorder = Recorder(proposer.ask(), domains)
            try:
                architecture = space.architecture(recorder, TASK, points=4).canonical
            except InvalidArchitecture:
                continue
            if architecture.key not in trained:
                proposed[architecture.key] = architecture, recorder.choices, dtmc(architecture)
        entries = list(proposed.values())
        scores = [proposer.score(a, p) if order == "own" else p for a, _, p in entries]
        largest = [macs(a)[-1] for a, _, _ in entries]
        if None in scores:
            scores = [p for _, _, p in entries]
        elif order == "own":
            largest = [1.0] * len(entries)
        chosen = order_of_training(scores, largest, keys=list(proposed), keep=size) if order else range(size)
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
