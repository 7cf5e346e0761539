"""Evolution with a surrogate, which learns from the trained candidates and orders the training."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nas.spaces.choices import Decide, Primitive, at_random, mutate
from nas.strategies.contract import Trial, trial_order
from nas.strategies.mutating import MutatingStrategy, expected_values

if TYPE_CHECKING:
    from nas.representation.architecture import Architecture
    from nas.strategies.surrogate import Surrogate


class Guided(MutatingStrategy):
    """Evolution of the best candidates, with an order of training by a ridge regression on operations and sizes.

    Random search with fewer than 10 trials. Then a quarter of the proposals are random. The other proposals take the
    choices of one of the best trained candidates, in half of the cases half of them from a second one, and change about
    one choice.

    From 10 trials on, candidates are ordered by their expected anytime accuracy plus half of its standard deviation
    (see :mod:`nas.strategies.surrogate`). Counts of operations weigh less than sizes if this predicts better. The score
    by the study's proxy is one of the features of the regression, so that its weight follows from its worth among the
    trained candidates.

    Notes
    -----
    The value of a stopped trial is its last value plus the mean gain from that step on of the complete trials. Values
    far below the rest, such as a failure's, are raised to a lower bound, so that they do not distort the fit.

    0.05 ms per proposal, 0.1 ms per score, 30 ms per generation to learn from 300 trials; no limit.

    References
    ----------
    Real, Aggarwal, Huang & Le, Regularized Evolution for Image Classifier Architecture Search, AAAI 2019 (mutation).
    White, Neiswanger & Savani, BANANAS: Bayesian Optimization with Neural Architectures, AAAI 2021 (a predictor with
        uncertainty orders mutations of the best candidates). The ridge regression and its features are ours.
    """

    startup: ClassVar[int] = 10
    random_share: ClassVar[float] = 0.25
    crossover_share: ClassVar[float] = 0.5
    parents: ClassVar[tuple[int, int]] = (5, 20)  # a fifth of the trials, within these bounds
    curiosity: ClassVar[float] = 0.5  # standard deviations that are added to the expectation

    def propose(self, rng: np.random.Generator) -> Decide:
        random = at_random(rng)
        if len(self.history) < self.startup or rng.random() < self.random_share:
            return random
        best = self._best()
        first, second = best[int(rng.integers(len(best)))], best[int(rng.integers(len(best)))]
        genes: dict[str, Primitive] = dict(first.choices)
        if rng.random() < self.crossover_share:
            # All names that only the second parent chose are taken: another choice of it may make them active.
            for name, u in zip(second.choices, rng.random(len(second.choices)).tolist()):
                if u < 0.5 or name not in genes:
                    genes[name] = second.choices[name]
        return mutate(genes, rng, self.domains, rate=1 / max(1, len(first.choices)))

    def score(self, architecture: Architecture, proxy: float | None) -> float | None:
        """Upper confidence bound of the surrogate for a candidate, or None with fewer than 10 usable trials."""
        from nas.strategies.surrogate import features

        surrogate = self._surrogate(proxy is not None)
        if surrogate is None:
            return None
        mean_N, deviation_N = surrogate.predict([_row(features(architecture), proxy)])
        return float(mean_N[0] + self.curiosity * deviation_N[0])

    def forget(self) -> None:
        self._parents: list[Trial] | None = None
        self._surrogates: dict[bool, Surrogate | None] = {}

    def _best(self) -> list[Trial]:
        """The trials that proposals are bred from."""
        if self._parents is None:
            trials = sorted(self.history, key=trial_order)
            least, most = self.parents
            count = min(most, max(least, len(trials) // 5))
            worth = expected_values(trials)
            order = sorted(range(len(trials)), key=lambda i: -worth[i])
            self._parents = [trials[i] for i in order[:count]]
        return self._parents

    def _surrogate(self, with_proxy: bool) -> Surrogate | None:
        """Fitted on the trials with an architecture, and a score by the proxy if required; None if they are few."""
        from nas.strategies.surrogate import COUNTS, Surrogate

        if with_proxy not in self._surrogates:
            trials = sorted(self.history, key=trial_order)
            usable = [
                (trial, value)
                for trial, value in zip(trials, expected_values(trials))
                if trial.architecture is not None and not (with_proxy and trial.proxy is None)
            ]
            surrogate = None
            if len(usable) >= self.startup:
                rows = [_row(_features(t), t.proxy if with_proxy else None) for t, _ in usable]
                values = not_far_below([value for _, value in usable])
                surrogate = Surrogate(rows, values, may_shrink=COUNTS)
            self._surrogates[with_proxy] = surrogate
        return self._surrogates[with_proxy]


def not_far_below(values: Sequence[float]) -> list[float]:
    """The values, raised to at least the lower quartile minus three times the distance between the quartiles.

    >>> not_far_below([0.8, 0.1, 0.7, 0.75, 0.72])
    [0.8, 0.55, 0.7, 0.75, 0.72]
    """
    lower, upper = np.quantile(values, (0.25, 0.75)).tolist()
    least = round(lower - 3 * (upper - lower), 12)
    return [max(least, value) for value in values]


def _features(trial: Trial) -> dict[str, dict[Hashable, float]]:
    from nas.strategies.surrogate import features

    assert trial.architecture is not None
    return features(trial.architecture)


def _row(blocks: dict[str, dict[Hashable, float]], proxy: float | None) -> dict[str, dict[Hashable, float]]:
    """Features with the score by the proxy, if it is known, as one more block."""
    if proxy is not None:
        blocks["proxy"] = {"score": proxy}
    return blocks
