"""Optuna's samplers as strategies: TPE and NSGA-II."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nas.seeds import seed as derived_seed
from nas.spaces.choices import Decide, Domains, Options, at_random, index_of
from nas.strategies.contract import Strategy, Trial, trial_order

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler, TPESampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial


class _OptunaStrategy(Strategy):
    """Proposals of an Optuna sampler with an in-memory study that is rebuilt from the history.

    Options are passed to Optuna by their index, because it cannot distinguish 1 from True. The sampler is called
    through the interface of `BaseSampler` instead of `Trial.suggest_*`, so proposals that are never trained are not
    added to the study. Choices that the sampler does not make (names without history, mutations) are drawn uniformly.
    """

    startup: ClassVar[int]
    reads_architectures = False

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
            # The seed depends on the number of proposals: the sampler must not repeat proposals after a call of tell.
            self._sample = self._sampling(np.random.default_rng(derived_seed(self.seed, self._asked)))
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
        """The sampler, and the trials in Optuna's form. The trials come in an order independent of their arrival."""

    def _note(self, trial: Trial) -> None:
        for name, options in trial.domains.items():
            self._domains.check(name, options)

    def _sampling(self, rng: np.random.Generator) -> Callable[[], dict[str, Any]]:
        """A function that samples the indices of the options of one proposal, by name."""
        import optuna

        with quiet():
            sampler, frozen = self._prepare(sorted(self.history, key=trial_order), rng)
            study = optuna.create_study(direction="maximize", sampler=sampler)
            study.add_trials(frozen)
            study.ask()
        (running,) = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        space = sampler.infer_relative_search_space(study, running)
        return lambda: sampler.sample_relative(study, running, space)


class TPE(_OptunaStrategy):
    """Tree-structured Parzen estimator over groups of choices that occur together.

    Random search with fewer than 10 trials. Stopped trials rank below all complete ones, by the step that they reached,
    then by their value there.

    Notes
    -----
    Multivariate and grouped, which is suitable for conditional names and faster than one estimator per name. A proposal
    with 40 names costs about 15 ms with 1,000 trials in the history, and a generation 0.7 s to build the estimators.

    References
    ----------
    Bergstra, Bardenet, Bengio & Kégl, Algorithms for Hyper-Parameter Optimization, 2011. Falkner, Klein & Hutter, BOHB,
    2018.
    """

    startup = 10

    @property
    def pool_limit(self) -> int:
        """Smaller for a longer history, because proposals cost more."""
        return max(32, min(256, 40_000 // (len(self.history) + 1)))

    def _prepare(self, trials: list[Trial], rng: np.random.Generator) -> tuple[BaseSampler, list[FrozenTrial]]:
        from optuna.trial import TrialState, create_trial

        # No constant liar: a proposal that was not trained is not evidence of a bad candidate.
        sampler = _remembering_tpe()(
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


@cache
def _remembering_tpe() -> type[TPESampler]:
    """A TPESampler for a study whose trials do not change: it builds the estimators of each group of choices once.

    Optuna sorts all trials and builds the estimators again for every group of every proposal, which takes nearly all of
    the time of a proposal with a long history. Proposals are equal, because estimators are built without randomness.
    """
    from optuna.samplers import TPESampler
    from optuna.samplers._tpe import sampler as internals

    class Remembering(TPESampler):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self._estimators: dict[tuple[str, ...], tuple[Any, Any]] = {}
            self._halves: tuple[list[FrozenTrial], list[FrozenTrial]] | None = None

        def _sample(self, study: Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
            names = tuple(search_space)
            if names not in self._estimators:
                if self._halves is None:
                    states = (internals.TrialState.COMPLETE, internals.TrialState.PRUNED)
                    trials = study.get_trials(deepcopy=False, states=states)
                    self._halves = internals._split_trials(study, trials, internals.default_gamma(len(trials)))
                below, above = self._halves
                self._estimators[names] = (
                    self._build_parzen_estimator(study, search_space, below, handle_below=True),
                    self._build_parzen_estimator(study, search_space, above, handle_below=False),
                )
            below_estimator, above_estimator = self._estimators[names]
            samples = below_estimator.sample(self._rng.rng, self._n_ei_candidates)
            worth = self._compute_acquisition_func(samples, below_estimator, above_estimator)
            chosen = self._compare(samples, worth)
            return {name: kind.to_external_repr(chosen[name]) for name, kind in search_space.items()}

    return Remembering


class NSGA2(_OptunaStrategy):
    """Elitist genetic algorithm: binary tournaments, uniform crossover, about one mutation per proposal.

    Random search with fewer than 8 trials. Stopped trials rank below all complete ones, by the step that they reached,
    then by their value there.

    Notes
    -----
    With one objective, the survivors of NSGA-II's generations are the best N trials of the whole history, so these are
    passed to Optuna as one finished generation, from which it breeds the next. N is the median size of a generation,
    within [8, 50]. A name that a parent did not choose is an inactive gene: it takes the value of a random parent that
    chose it. A proposal with 40 names costs 0.1 to 0.2 ms for any length of the history; no limit.

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
                # Without this attribute, Optuna takes every generation for the first one, which is random.
                system_attrs={NSGAIISampler._get_generation_key(): 0},
            )
            for parent, gene in zip(parents, genes)
        ]
        return sampler, frozen


def _fitness(trial: Trial) -> tuple[bool, int, float]:
    """A sort key: stopped trials before complete ones, by their last step, then by their value there."""
    if trial.complete:
        return True, 0, trial.value
    step = trial.last_step
    value = trial.intermediate.get(step, trial.value)
    return False, step, -math.inf if math.isnan(value) else value


def _indices(trial: Trial) -> dict[str, int]:
    return {name: index_of(trial.domains[name], value) for name, value in trial.choices.items()}


def _distributions(domains: Domains) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution

    return {name: CategoricalDistribution(range(len(options))) for name, options in domains.options.items()}


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Optuna's log lines and its warnings of experimental arguments."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
