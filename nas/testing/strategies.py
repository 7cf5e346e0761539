"""Checks of strategies; the contract is :class:`nas.strategies.contract.Strategy`."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import numpy as np

from nas.spaces.choices import Choose, Domains, Primitive, Recorder, at_random
from nas.strategies.contract import Trial
from nas.testing.checks import Check, Subject, global_randomness_untouched, has_docstring, named, require, run_all


def strategy_checks(strategy: Any) -> list[Check]:
    """The checks of a strategy, for use as test parameters.

    Parameters
    ----------
    strategy : type or str
        The class of a strategy, or its name or ``file.py:Name``.

    Returns
    -------
    list of (str, callable)
        Name and function of each check. The function takes no arguments and raises PluginError if the check fails.
    """
    return named(_CHECKS, Subject(strategy, "nas.strategies"))


def check_strategy(strategy: Any) -> None:
    """Run all checks of a strategy.

    Parameters
    ----------
    strategy
        As in :func:`strategy_checks`.

    Raises
    ------
    PluginError
        At the first check that fails.
    """
    run_all(strategy_checks(strategy))


def _toy_choices(choose: Choose) -> None:
    """Choices with conditional names, options that are equal as numbers, and a name that is rare in a history."""
    for index in range(choose("depth", (1, 2, 3))):
        if choose(f"{index} skip", (False, True)):
            choose(f"{index} reach", (0, 1, True))
    choose("width", (8, 16, 32, 64))


def _toy_history(count: int) -> list[Trial]:
    """Trained candidates of the toy space; every fourth was stopped early."""
    decide, trials = at_random(np.random.default_rng(1)), []
    for index in range(count):
        recorder = Recorder(decide, Domains())
        _toy_choices(recorder)
        choices, value, complete = recorder.choices, 0.5 + 0.01 * index, index % 4 != 3
        domains = recorder.domains.of(choices)
        trials.append(Trial(choices=choices, domains=domains, value=value, complete=complete, generation=index // 12))
    return trials


def _proposals(strategy: Any, count: int = 8) -> list[dict[str, Primitive]]:
    """Proposals for the toy space; every third is abandoned after its first choice."""
    proposals = []
    for index in range(count):
        recorder = Recorder(strategy.ask(), Domains())
        recorder("width", (8, 16, 32, 64))
        if index % 3 != 2:
            _toy_choices(recorder)
            recorder(f"new in {index}", ("a", "b"))
        proposals.append(recorder.choices)
    return proposals


def _docstring(subject: Subject) -> None:
    has_docstring(subject.load())


def _answers_everything(subject: Subject) -> None:
    for trials in (0, 1, 24):
        _proposals(subject.load()(seed=0, history=_toy_history(trials)))


def _reproducible(subject: Subject) -> None:
    for history in ([], _toy_history(24)):
        first = _proposals(subject.load()(seed=3, history=history))
        second = _proposals(subject.load()(seed=3, history=history[::-1]))
        require(first == second, "Equal seed and history, in any order, must give equal proposals. They did not.")


def _seed_matters(subject: Subject) -> None:
    first, second = (_proposals(subject.load()(seed=seed), 16) for seed in (1, 2))
    require(first != second, "Different seeds must give different proposals. Got the same for seeds 1 and 2.")


def _told_late(subject: Subject) -> None:
    strategy = subject.load()(seed=0)
    for trial in reversed(_toy_history(24)):
        strategy.ask()
        strategy.tell(trial)
    _proposals(strategy)


def _quiet_and_contained(subject: Subject) -> None:
    out = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        warnings.simplefilter("error")
        with global_randomness_untouched():
            _proposals(subject.load()(seed=0, history=_toy_history(24)))
    require(not out.getvalue(), f"A strategy must print nothing. It printed {out.getvalue()!r}.")


_CHECKS = (_docstring, _answers_everything, _reproducible, _seed_matters, _told_late, _quiet_and_contained)
