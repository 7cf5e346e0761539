"""The samplers of Optuna propose as Optuna does, faster."""

from __future__ import annotations

import numpy as np
from optuna.samplers import TPESampler

from nas.config import Config
from nas.representation.elements import Task
from nas.screening.screener import screener_of
from nas.spaces.choices import at_random
from nas.spaces.loading import load_spaces
from nas.strategies import optuna_samplers
from nas.strategies.contract import Trial
from nas.strategies.optuna_samplers import TPE


def test_estimators_that_are_built_once_give_the_proposals_of_optuna(monkeypatch):
    screener = screener_of(
        Config(points=2), Task(input_shape=(1, 8, 8), num_classes=10), load_spaces(("residual", "mobile"), {})
    )
    random, rng = at_random(np.random.default_rng(0)), np.random.default_rng(1)
    history = []
    for number in range(40):
        proposal = screener.propose(random)
        value = float(rng.uniform())
        history.append(
            Trial(
                choices=proposal.choices,
                domains=screener.domains.of(proposal.choices),
                value=value,
                complete=number % 3 == 0,
                intermediate={1: value},
            )
        )

    def proposed():
        strategy = TPE(seed=7, history=history)
        first = [dict(screener.propose(strategy.ask()).choices) for _ in range(12)]
        strategy.tell(history[0])
        return first + [dict(screener.propose(strategy.ask()).choices) for _ in range(4)]

    fast = proposed()
    monkeypatch.setattr(optuna_samplers, "_remembering_tpe", lambda: TPESampler)
    assert proposed() == fast
    assert len({str(choices) for choices in fast}) > 10
