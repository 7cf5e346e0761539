"""Regularised evolution: the oldest candidates leave the population, whatever their accuracy."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nas.spaces.choices import Decide, at_random, mutate
from nas.strategies.contract import Trial, trial_order
from nas.strategies.mutating import MutatingStrategy, expected_values


class Evolution(MutatingStrategy):
    """Regularised (ageing) evolution: mutates the best of a few random candidates among the newest ones.

    Random search with fewer than 20 trials. Then each proposal draws 5 of the newest 20 trials and changes one choice
    of the best of them; choices that depend on the changed one are drawn. No candidate stays a parent for long, so a
    single lucky training misleads the search for a limited time only.

    Notes
    -----
    The value of a stopped trial is its last value plus the mean gain of the complete trials from that step on. From the
    paper: ageing, tournaments, one mutation. Ours: a population and tournaments that are small, because a search trains
    a hundred candidates instead of 20,000; one population for all proposals of a generation.

    0.05 ms per proposal for any length of the history; no limit.

    References
    ----------
    Real, Aggarwal, Huang & Le, Regularized Evolution for Image Classifier Architecture Search, AAAI 2019.
    """

    reads_architectures = False
    population: ClassVar[int] = 20
    tournament: ClassVar[int] = 5

    def propose(self, rng: np.random.Generator) -> Decide:
        if len(self.history) < self.population:
            return at_random(rng)
        newest = self._population()
        drawn = rng.choice(len(newest), size=self.tournament, replace=False).tolist()
        _, parent = max((newest[index] for index in drawn), key=lambda member: member[0])
        return mutate(parent.choices, rng, self.domains, rate=0.0)

    def forget(self) -> None:
        self._newest: list[tuple[float, Trial]] | None = None

    def _population(self) -> list[tuple[float, Trial]]:
        """The newest trials with their expected values."""
        if self._newest is None:
            trials = sorted(self.history, key=trial_order)
            self._newest = list(zip(expected_values(trials), trials))[-self.population :]
        return self._newest
