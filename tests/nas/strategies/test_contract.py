"""Strategies: deterministic, resumable, and better than chance."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from nas.errors import PluginError, UserError
from nas.seeds import seed as derived_seed
from nas.spaces.choices import Domains, Recorder
from nas.strategies.contract import Trial
from nas.strategies.optuna_samplers import NSGA2, TPE
from nas.strategies.random import Random

ALL = [Random, TPE, NSGA2]
SAMPLED = [TPE, NSGA2]
MIXED = (1, True, 1.0, None, "1")


def staged(choose):
    """Conditional: three stages of one to four blocks; the best block depends on its position. Optimum: 12 × 0.75."""
    score = 0.0
    for stage in range(3):
        for block in range(choose(f"stage {stage} depth", (1, 2, 3, 4))):
            kernel = choose(f"stage {stage} block {block} kernel", (3, 5, 7))
            width = choose(f"stage {stage} block {block} width", (8, 16, 32, 64))
            activation = choose(f"stage {stage} block {block} activation", ("relu", None, True))
            score += 0.5 * (kernel == (3, 5, 7)[(stage + block) % 3]) + 0.5 * (
                width == (8, 16, 32, 64)[(stage + 2 * block) % 4]
            )
            score += 0.1 * (activation is True) - 0.35
    return score


def flat(choose):
    """40 names that always come up, the right answer worth 1 each."""
    return float(sum(choose(f"choice {i:02}", ("a", "b", "c", "d")) == "abcd"[i % 4] for i in range(40)))


def mixed(choose):
    """Options that are equal as numbers, of which one is right."""
    choose("only", ("one",))
    return float(sum(type(choose(f"choice {i}", MIXED)) is bool for i in range(8)))


def generation(strategy, space, domains, size, number, stop=0):
    """Trains ``size`` proposals: all but the best ``size - stop`` count as stopped early."""
    recorders = [Recorder(strategy.ask(), domains) for _ in range(size)]
    values = sorted(((space(recorder), i) for i, recorder in enumerate(recorders)), reverse=True)
    return [
        Trial(
            choices=recorders[i].choices,
            domains=domains.of(recorders[i].choices),
            value=value if rank < size - stop else value - 3,
            complete=rank < size - stop,
            intermediate={1: value - 3, 9: value} if rank < size - stop else {1: value - 3},
            generation=number,
        )
        for rank, (value, i) in enumerate(values)
    ]


def search(strategy, space, seed, generations=10, size=16, stop=0):
    """Every trial of a small study, rebuilt for each generation as the driver does."""
    history, domains = [], Domains()
    for number in range(generations):
        asked = strategy(seed=derived_seed(seed, number), history=history)
        history += generation(asked, space, domains, size, number, stop)
    return history


def proposals(strategy, space, count=6):
    choices = []
    for _ in range(count):
        recorder = Recorder(strategy.ask(), Domains())
        space(recorder)
        choices.append(json.dumps(recorder.choices))
    return choices


@pytest.fixture(scope="module")
def history():
    return search(Random, staged, seed=0, generations=3, stop=8)


# ------------------------------------------------------------------------------------------------ quality


@pytest.mark.parametrize("stop", [0, 10])
@pytest.mark.parametrize("space", [staged, flat, mixed])
@pytest.mark.parametrize("strategy", SAMPLED)
def test_beats_random(strategy, space, stop):
    """By the last generation's mean: for every seed, and on average by half of the measured gain (8 seeds)."""
    margin = {staged: 1.0, flat: 3.5, mixed: 1.8}[space]

    def last(which, seed):
        return np.mean(
            [space(Recorder(_replayed(t), Domains())) for t in search(which, space, seed, 8, 16, stop)[-16:]]
        )

    gains = [last(strategy, seed) - last(Random, seed) for seed in range(3)]
    assert min(gains) > 0
    assert np.mean(gains) > margin


def _replayed(trial):
    return lambda name, options: [repr(option) for option in options].index(repr(trial.choices[name]))


def test_nsga2_needs_the_generation_attribute(monkeypatch, history):
    """The trap: without it Optuna proposes at random for ever. With it, children are mostly made of their parents."""
    trials = search(Random, flat, seed=0, generations=1, size=50)
    best = max(trials, key=lambda trial: trial.value)
    same = [Trial(choices=best.choices, domains=best.domains, value=1.0, generation=0) for _ in range(10)]

    def distances():
        children = [json.loads(text) for text in proposals(NSGA2(seed=1, history=same), flat, 50)]
        return np.mean([sum(child[name] != best.choices[name] for name in child) for child in children])

    assert distances() == pytest.approx(0.75, abs=0.5)  # one mutation, which may draw the same again
    import optuna

    monkeypatch.setattr(optuna.samplers.NSGAIISampler, "_get_generation_key", classmethod(lambda cls: "unheard of"))
    monkeypatch.setattr(optuna.samplers.NSGAIISampler, "get_trial_generation", lambda self, study, trial: 0)
    assert distances() == pytest.approx(30, abs=2)


# ------------------------------------------------------------------------------------------------ contract


@pytest.mark.parametrize("strategy", ALL)
def test_deterministic_by_seed(strategy, history):
    for past in ([], history[:4], history):
        again = partial(strategy, history=past)
        assert proposals(again(seed=1), staged) == proposals(again(seed=1), staged)
        assert proposals(again(seed=1), staged) != proposals(again(seed=2), staged)
        assert len(set(proposals(again(seed=1), staged))) > 3


@pytest.mark.parametrize("strategy", SAMPLED)
def test_history_is_a_set_and_matters(strategy, history):
    expected = proposals(strategy(seed=1, history=history), staged)
    assert proposals(strategy(seed=1, history=history[::-1]), staged) == expected
    assert proposals(strategy(seed=1, history=history[16:]), staged) != expected


@pytest.mark.parametrize("strategy", ALL)
def test_rebuilding_equals_continuing(strategy, history):
    continued = strategy(seed=1, history=history[:20])
    for trial in reversed(history[20:]):
        continued.tell(trial)
    assert proposals(continued, staged) == proposals(strategy(seed=1, history=history), staged)


@pytest.mark.parametrize("strategy", ALL)
def test_late_trials_do_not_make_it_repeat_proposals(strategy, history):
    asynchronous = strategy(seed=1)
    seen = []
    for trial in history:
        seen += proposals(asynchronous, staged, 1)
        asynchronous.tell(trial)
    assert len(set(seen)) > 0.9 * len(seen)
    assert len(asynchronous.history) == len(history)


def test_same_in_another_process(tmp_path):
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import test_contract as t\n"
        "past = t.search(t.Random, t.staged, seed=0, generations=3, stop=8)\n"
        "print(json.dumps([t.proposals(s(seed=1, history=past), t.staged) for s in t.ALL]))"
    )
    past = search(Random, staged, seed=0, generations=3, stop=8)
    here = [proposals(strategy(seed=1, history=past), staged) for strategy in ALL]
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-c", code, str(Path(__file__).parent)]
        root = Path(__file__).parents[3]
        out = subprocess.run(command, env={"PYTHONHASHSEED": hash_seed}, cwd=root, capture_output=True, check=True)
        assert json.loads(out.stdout) == here


@pytest.mark.parametrize("strategy", SAMPLED)
def test_spaces_that_leave_little_to_choose(strategy):
    for space in (
        lambda choose: 0.5,
        lambda choose: float(choose("only", (1,))),
        lambda choose: choose("flag", (True, False)) + 0.5,
    ):
        trials = search(strategy, space, seed=0, generations=3)
        assert len(trials) == 48


@pytest.mark.parametrize("strategy", SAMPLED)
def test_names_without_history_and_spaces_that_raise(strategy, history):
    asked = strategy(seed=1, history=history)
    for _ in range(3):
        recorder = Recorder(asked.ask(), Domains())
        assert recorder("never seen", (1, 2)) in (1, 2)
        assert recorder("stage 0 depth", (1, 2, 3, 4)) in (1, 2, 3, 4)
    assert {Recorder(asked.ask(), Domains())("never seen", (1, 2, 3)) for _ in range(30)} == {1, 2, 3}


@pytest.mark.parametrize("strategy", SAMPLED)
def test_options_that_changed_since(strategy, history):
    decide = strategy(seed=1, history=history).ask()
    with pytest.raises(PluginError, match="same options every time"):
        [decide(name, (1, 2, 3, 4, 5)) for name in history[0].choices]
    odd = Trial(choices={"stage 0 depth": 9}, domains={"stage 0 depth": (9,)}, value=0.0)
    with pytest.raises(PluginError, match="same options every time"):
        strategy(seed=1, history=[*history, odd])


@pytest.mark.parametrize("strategy", SAMPLED)
def test_stopped_trials_without_reports_and_with_nan(strategy, history):
    only_stopped = [
        Trial(
            choices=t.choices,
            domains=t.domains,
            value=t.value,
            complete=False,
            intermediate={1: math.nan} if i % 2 else {},
        )
        for i, t in enumerate(history)
    ]
    assert proposals(strategy(seed=1, history=only_stopped), staged)


@pytest.mark.parametrize("strategy", ALL)
def test_quiet_and_without_global_state(strategy, history, capfd):
    import optuna

    verbosity, state = optuna.logging.get_verbosity(), np.random.get_state()[1].copy()  # noqa: NPY002
    level = logging.getLogger("optuna").level
    proposals(strategy(seed=1, history=history), staged)
    assert capfd.readouterr() == ("", "")
    assert (optuna.logging.get_verbosity(), logging.getLogger("optuna").level) == (verbosity, level)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_optuna_is_imported_only_when_it_is_asked():
    code = (
        "import sys; from nas.strategies import TPE; TPE(seed=1).ask();"
        "assert not any(name.split('.')[0] in ('optuna', 'torch') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": math.nan}, "pass the floor"),
        ({"choices": {"a": 1, "b": 2}}, "exactly the names"),
        ({"choices": {"a": True}}, "among its options"),
    ],
)
def test_trials_are_checked(change, message):
    with pytest.raises(UserError, match=message):
        Trial(**{"choices": {"a": 1}, "domains": {"a": (1, 2)}, "value": 0.5} | change)
