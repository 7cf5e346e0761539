"""The common part of strategies that mutate trained candidates."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from nas.seeds import seed as derived_seed
from nas.spaces.choices import Decide, Domains, Options
from nas.strategies.contract import Strategy, Trial


class MutatingStrategy(Strategy):
    """Proposes by mutation, which needs the options of all names; each proposal has random numbers of its own.

    domains: options of the names in the history and in the proposals so far.
    """

    def __init__(self, *, seed: int, history: Sequence[Trial] = ()) -> None:
        super().__init__(seed=seed, history=history)
        self.domains = Domains()
        for trial in history:
            self._note(trial)
        self._asked = 0
        self.forget()

    def tell(self, trial: Trial) -> None:
        super().tell(trial)
        self._note(trial)
        self.forget()

    def ask(self) -> Decide:
        # The seed depends on the number of proposals, not on the calls of tell.
        rng = np.random.default_rng(derived_seed(self.seed, self._asked))
        self._asked += 1
        decide, check = self.propose(rng), self.domains.check

        def checked(name: str, options: Options) -> int:
            check(name, options)
            return decide(name, options)

        return checked

    @abstractmethod
    def propose(self, rng: np.random.Generator) -> Decide:
        """The decision of the next proposal."""

    @abstractmethod
    def forget(self) -> None:
        """Drop the results that are computed from the history at the first need."""

    def _note(self, trial: Trial) -> None:
        for name, options in trial.domains.items():
            self.domains.check(name, options)


def expected_values(trials: Sequence[Trial]) -> list[float]:
    """Expected final values of trials: the value of a complete trial, and the value plus a gain of a stopped trial.

    The gain from a step is the mean gain of the complete trials with a report at that step. Complete trials were
    selected by their value at the step; this does not bias the gain if gains are independent of the value.
    """
    complete = [trial for trial in trials if trial.complete]
    gains: dict[int, float] = {}
    for step in {trial.last_step for trial in trials if not trial.complete}:
        seen = [t.value - t.intermediate[step] for t in complete if math.isfinite(t.intermediate.get(step, math.nan))]
        gains[step] = math.fsum(seen) / len(seen) if seen else 0.0
    return [trial.value + (0.0 if trial.complete else gains[trial.last_step]) for trial in trials]
