"""The rival of proxies without training: a surrogate that learns from all that was trained, proposes and orders."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nas.seeds import seed as derived_seed
from nas.spaces.choices import Decide, Domains, Options, Primitive, at_random, mutate
from nas.strategies.contract import Strategy, Trial
from nas.strategies.optuna_samplers import _order

if TYPE_CHECKING:
    from nas.representation.architecture import Architecture
    from nas.strategies.surrogate import Surrogate


class Guided(Strategy):
    """Evolves the best so far, and trains first what a ridge on operations, pairs, sizes and the proxy expects most of.

    A quarter of the proposals are random. The others take the choices of one of the best trained candidates, in half
    of the cases half of them from another, and change about one. Random until there are 10 trials.

    From then on the order of training is its own: by expected anytime accuracy plus half a standard deviation of what
    is not known of it (see :mod:`nas.strategies.surrogate`). The proxy that would have ordered the training is one of
    the features, so that it counts for as much as it was worth among what was trained.

    A stopped trial counts as what it had reached plus the mean gain from there of those that went on. A value far below
    the rest, such as a failure's, counts as just so far below that it does not bend the fit.

    Cost: 0.05 ms a proposal, 0.1 ms a score, 30 ms a generation to learn from 300 trials; no limit.

    References
    ----------
    Real, Aggarwal, Huang & Le, Regularized Evolution for Image Classifier Architecture Search, AAAI 2019 (mutation).
    White, Neiswanger & Savani, BANANAS: Bayesian Optimization with Neural Architectures, AAAI 2021 (a predictor with
    uncertainty that orders mutations of the best). The ridge and its features are ours.
    """

    startup: ClassVar[int] = 10
    random_share: ClassVar[float] = 0.25
    crossover_share: ClassVar[float] = 0.5
    parents: ClassVar[tuple[int, int]] = (5, 20)  # at least and at most; a fifth of the trials
    curiosity: ClassVar[float] = 0.5  # standard deviations that count for a candidate

    def __init__(self, *, seed: int, history: Sequence[Trial] = ()) -> None:
        super().__init__(seed=seed, history=history)
        self._domains = Domains()
        for trial in history:
            self._note(trial)
        self._asked = 0
        self._forget()

    def tell(self, trial: Trial) -> None:
        super().tell(trial)
        self._note(trial)
        self._forget()

    def ask(self) -> Decide:
        # Seeded by the number of proposals: the same whether trials were told or were there from the start.
        rng = np.random.default_rng(derived_seed(self.seed, self._asked))
        self._asked += 1
        random = at_random(rng)
        if len(self.history) < self.startup or rng.random() < self.random_share:
            return self._checked(random)
        best = self._best()
        one, other = best[int(rng.integers(len(best)))], best[int(rng.integers(len(best)))]
        genes: dict[str, Primitive] = dict(one.choices)
        if rng.random() < self.crossover_share:
            # What only the other chose is there for when a choice of its own leads there.
            for name, u in zip(other.choices, rng.random(len(other.choices)).tolist()):
                if u < 0.5 or name not in genes:
                    genes[name] = other.choices[name]
        return self._checked(mutate(genes, rng, self._domains, rate=1 / max(1, len(one.choices))))

    def score(self, architecture: Architecture, proxy: float | None) -> float | None:
        """What the surrogate expects of a candidate, or None while it knows too little.

        proxy: the candidate's score by the proxy that orders the training otherwise; None to do without.
        """
        from nas.strategies.surrogate import features

        surrogate = self._surrogate(proxy is not None)
        if surrogate is None:
            return None
        mean_N, deviation_N = surrogate.predict([_row(features(architecture), proxy)])
        return float(mean_N[0] + self.curiosity * deviation_N[0])

    def _checked(self, decide: Decide) -> Decide:
        check = self._domains.check

        def checked(name: str, options: Options) -> int:
            check(name, options)
            return decide(name, options)

        return checked

    def _note(self, trial: Trial) -> None:
        for name, options in trial.domains.items():
            self._domains.check(name, options)

    def _forget(self) -> None:
        """What is worked out of the history, at the first need."""
        self._parents: list[Trial] | None = None
        self._surrogates: dict[bool, Surrogate | None] = {}

    def _best(self) -> list[Trial]:
        """The parents."""
        if self._parents is None:
            trials = sorted(self.history, key=_order)
            least, most = self.parents
            count = min(most, max(least, len(trials) // 5))
            worth = expected_values(trials)
            order = sorted(range(len(trials)), key=lambda i: -worth[i])
            self._parents = [trials[i] for i in order[:count]]
        return self._parents

    def _surrogate(self, with_proxy: bool) -> Surrogate | None:
        """Fitted on the trials whose architecture, and score where it is asked for, is known; None if they are few."""
        from nas.strategies.surrogate import Surrogate

        if with_proxy not in self._surrogates:
            trials = sorted(self.history, key=_order)
            usable = [
                (trial, value)
                for trial, value in zip(trials, expected_values(trials))
                if trial.architecture is not None and not (with_proxy and trial.proxy is None)
            ]
            found = None
            if len(usable) >= self.startup:
                rows = [_row(_features(t), t.proxy if with_proxy else None) for t, _ in usable]
                found = Surrogate(rows, not_far_below([value for _, value in usable]))
            self._surrogates[with_proxy] = found
        return self._surrogates[with_proxy]


def expected_values(trials: Sequence[Trial]) -> list[float]:
    """What every trial would have reached: the value of a complete one, of a stopped one that plus a gain.

    The gain from a step is the mean one of the complete trials with a report there. It is by those that were good
    there; as it is compared at that step, that they were selected for it does no harm, as far as gains are alike.
    """
    complete = [trial for trial in trials if trial.complete]
    gains: dict[int, float] = {}
    for step in {_last(trial) for trial in trials if not trial.complete}:
        seen = [t.value - t.intermediate[step] for t in complete if math.isfinite(t.intermediate.get(step, math.nan))]
        gains[step] = math.fsum(seen) / len(seen) if seen else 0.0
    return [trial.value + (0.0 if trial.complete else gains[_last(trial)]) for trial in trials]


def _last(trial: Trial) -> int:
    return max(trial.intermediate, default=-1)


def not_far_below(values: Sequence[float]) -> list[float]:
    """The values, none further below the lower quartile than three times the distance between the quartiles.

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


def _row(found: dict[str, dict[Hashable, float]], proxy: float | None) -> dict[str, dict[Hashable, float]]:
    if proxy is not None:
        found["proxy"] = {"score": proxy}
    return found
