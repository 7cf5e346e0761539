"""Optuna's samplers as strategies: TPE and NSGA-II."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nas.seeds import seed as derived_seed
from nas.spaces.choices import Decide, Domains, Options, at_random, index_of

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

from nas.strategies.contract import Strategy, Trial


class _Sampled(Strategy):
    """Asks an Optuna sampler over an in-memory study that is rebuilt from the history.

    Options are shown to Optuna by their index: it cannot tell 1 from True. The sampler is called through
    `BaseSampler`'s own interface rather than `Trial.suggest_*`, so proposals that are never trained leave nothing
    behind in the study. What the sampler leaves open (names without history, mutations) is drawn uniformly.
    """

    startup: ClassVar[int]

    def __init__(self, *, seed: int, history: Sequence[Trial] = ()) -> None:
        super().__init__(seed=seed, history=history)
        self._domains = Domains()
        for trial in history:
            self._note(trial)
        self._random = at_random(np.random.default_rng(seed))
        self._sample: Callable[[], dict[str, Any]] | None = None
        self._asked = 0

    def tell(self, trial: Trial) -> None:
        super().tell(trial)
        self._note(trial)
        self._sample = None

    def ask(self) -> Decide:
        random, check = self._random, self._domains.check
        if self._sample is None and len(self.history) >= self.startup:
            # Seeded by the number of proposals too: after a tell, the sampler must not repeat itself.
            self._sample = self._open(np.random.default_rng(derived_seed(self.seed, self._asked)))
        self._asked += 1
        if self._sample is None:
            return random
        indices = self._sample()

        def decide(name: str, options: Options) -> int:
            index = indices.get(name)
            if index is None:
                return random(name, options)
            check(name, options)
            return index

        return decide

    @abstractmethod
    def _prepare(self, trials: list[Trial], rng: np.random.Generator) -> tuple[BaseSampler, list[FrozenTrial]]:
        """The sampler, and the history (given in an order that does not depend on that of arrival) as it is to see
        it."""

    def _note(self, trial: Trial) -> None:
        for name, options in trial.domains.items():
            self._domains.check(name, options)

    def _open(self, rng: np.random.Generator) -> Callable[[], dict[str, Any]]:
        """A function that samples the indices of one proposal, by name."""
        import optuna

        with _quiet():
            sampler, frozen = self._prepare(sorted(self.history, key=_order), rng)
            study = optuna.create_study(direction="maximize", sampler=sampler)
            study.add_trials(frozen)
            study.ask()
        (running,) = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        space = sampler.infer_relative_search_space(study, running)
        return lambda: sampler.sample_relative(study, running, space)


class TPE(_Sampled):
    """Tree-structured Parzen estimator over groups of choices that occur together.

    Multivariate and grouped, which suits conditional names and is faster than one estimator a name. Random until there
    are 10 trials. A stopped trial ranks below every complete one, by how far it came, then by its value there.

    Cost of a proposal with 40 names: 4 to 9 ms at 200 trials in the history, 15 to 35 ms at 1,000. Hence the limit:
    about a second a generation, and 0.1 to 0.4 s to rebuild the study.

    References
    ----------
    Bergstra, Bardenet, Bengio & Kégl, Algorithms for Hyper-Parameter Optimization, 2011. Falkner, Klein & Hutter, BOHB,
    2018.
    """

    startup = 10

    @property
    def pool_limit(self) -> int:
        """Falls as the history grows and a proposal costs more."""
        return max(32, min(256, 40_000 // (len(self.history) + 1)))

    def _prepare(self, trials: list[Trial], rng: np.random.Generator) -> tuple[BaseSampler, list[FrozenTrial]]:
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState, create_trial

        # No liar: what is asked and not trained is no evidence of being bad.
        sampler = TPESampler(
            seed=int(rng.integers(2**32)),
            n_startup_trials=self.startup,
            group=True,
            multivariate=True,
            constant_liar=False,
        )
        distributions = _distributions(self._domains)
        frozen = [
            create_trial(
                state=TrialState.COMPLETE if trial.complete else TrialState.PRUNED,
                params=_indices(trial),
                distributions={name: distributions[name] for name in trial.choices},
                value=trial.value,
                intermediate_values=dict(trial.intermediate) or {0: trial.value},
            )
            for trial in trials
        ]
        return sampler, frozen


class NSGA2(_Sampled):
    """Elitist genetic algorithm: binary tournaments, uniform crossover, about one mutation a proposal.

    With one objective, the survivors of NSGA-II's generations are the best N of the whole history, so these are
    shown to Optuna as one finished generation; it breeds the next. N is the typical size of a generation, within [8,
    50]. Random until there are 8 trials. A stopped trial ranks below every complete one, by how far it came, then by
    its value there. A name that a parent did not ask for is an inactive gene: it takes the value of another parent that
    did.

    Cost of a proposal with 40 names: 0.1 to 0.2 ms, whatever the length of the history; no limit.

    References
    ----------
    Deb, Pratap, Agarwal & Meyarivan, A fast and elitist multiobjective genetic algorithm: NSGA-II, 2002.
    """

    startup = 8
    largest_population: ClassVar[int] = 50

    def _prepare(self, trials: list[Trial], rng: np.random.Generator) -> tuple[BaseSampler, list[FrozenTrial]]:
        from optuna.samplers import NSGAIISampler
        from optuna.trial import create_trial

        sizes = np.unique([trial.generation for trial in trials], return_counts=True)[1]
        size = min(len(trials), int(np.clip(np.median(sizes), self.startup, self.largest_population)))
        sampler = NSGAIISampler(seed=int(rng.integers(2**32)), population_size=size)
        parents = sorted(trials, key=_fitness, reverse=True)[:size]
        ranks = {fitness: float(rank) for rank, fitness in enumerate(sorted(set(map(_fitness, parents))))}
        genes = [_indices(parent) for parent in parents]
        donors = {name: [gene[name] for gene in genes if name in gene] for name in sorted(set().union(*genes))}
        distributions = {name: options for name, options in _distributions(self._domains).items() if name in donors}
        frozen = [
            create_trial(
                params={
                    name: gene[name] if name in gene else pool[int(rng.integers(len(pool)))]
                    for name, pool in donors.items()
                },
                distributions=distributions,
                value=ranks[_fitness(parent)],
                # Without it, every generation looks like the first to Optuna, which is random.
                system_attrs={NSGAIISampler._get_generation_key(): 0},
            )
            for parent, gene in zip(parents, genes)
        ]
        return sampler, frozen


def _order(trial: Trial) -> tuple[int, str, float, bool]:
    """Sorts trials by generation, then by content: never by when they arrived."""
    return trial.generation, repr(sorted(trial.choices.items())), trial.value, trial.complete


def _fitness(trial: Trial) -> tuple[bool, int, float]:
    """What a stopped trial is worth beside a complete one: less, by how far it came, then by its value there."""
    if trial.complete:
        return True, 0, trial.value
    step = max(trial.intermediate, default=-1)
    value = trial.intermediate.get(step, trial.value)
    return False, step, -math.inf if math.isnan(value) else value


def _indices(trial: Trial) -> dict[str, int]:
    return {name: index_of(trial.domains[name], value) for name, value in trial.choices.items()}


def _distributions(domains: Domains) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution

    return {name: CategoricalDistribution(range(len(options))) for name, options in domains.options.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna without its log lines and its warnings of experimental arguments; both come back afterwards."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
