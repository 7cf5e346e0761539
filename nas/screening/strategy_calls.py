"""Calls of a strategy by the search. An exception of the plug-in becomes a PluginError that names the strategy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from nas.errors import PluginError, UserError
from nas.screening.proposals import Proposal
from nas.spaces.choices import Decide, Options
from nas.strategies.contract import Strategy, Trial


def new_strategy(strategy: type[Strategy], seed: int, history: Sequence[Trial]) -> Strategy:
    """A strategy for one generation."""
    with _errors_of(strategy):
        return strategy(seed=seed, history=history)


def next_decisions(strategy: Strategy) -> Decide:
    """The decisions of the strategy's next proposal."""
    with _errors_of(type(strategy)):
        decide = strategy.ask()

    def guarded(name: str, options: Options) -> int:  # called often: a context manager would double its time
        try:
            return decide(name, options)
        except UserError:
            raise
        except Exception as error:  # any exception of a plug-in
            raise _broken(type(strategy), error) from error

    return guarded


def with_strategy_score(strategy: Strategy, proposal: Proposal, *, with_proxy: bool = True) -> Proposal:
    """The proposal with the strategy's score; unchanged if the strategy has none.

    with_proxy: whether the strategy receives the proxy score. Raises PluginError if the score is not finite.
    """
    with _errors_of(type(strategy)):
        score = strategy.score(proposal.architecture, proposal.score if with_proxy else None)
        if score is None:
            return proposal
        score = float(score)
    if not math.isfinite(score):
        raise PluginError(f"A strategy's score must be finite. Got {score} from {type(strategy).__name__}.")
    return replace(proposal, score=score, ranked_by_strategy=True)


@contextmanager
def _errors_of(strategy: type[Strategy]) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # any exception of a plug-in
        raise _broken(strategy, error) from error


def _broken(strategy: type[Strategy], error: Exception) -> PluginError:
    return PluginError(
        f"The strategy {strategy.__name__} must propose something. It raised {type(error).__name__}: {error}"
    )
