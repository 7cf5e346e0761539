"""Strategies: what to propose next, given what has been trained. Random, TPE and NSGA-II."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nas.errors import UserError
from nas.seeds import seed as derived_seed
from nas.spaces.choices import Decide, Domains, Options, Primitive, at_random, index_of

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from nas.representation.topology import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A trained candidate, as strategies see it.

    choices: what the search space chose, by name.
    domains: the options of every one of these names.
    value: anytime accuracy, higher is better, finite: a candidate that gave NaN carries the floor. Of a stopped one,
      its last.
    complete: trained to the end; False when it was stopped early.
    intermediate: step (epoch) → anytime accuracy there.
    generation: number of the generation that proposed it, from 0.
    architecture: the network proposed; None where a caller does not have it.
    proxy: its score by the study's proxy; None where a caller does not have it.
    """

    choices: Mapping[str, Primitive]
    domains: Mapping[str, Options]
    value: float
    complete: bool = True
    intermediate: Mapping[int, float] = field(default_factory=dict)
    generation: int = 0
    architecture: Architecture | None = None
    proxy: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise UserError(f"The value of a trial must be finite; pass the floor instead. Got {self.value=}.")
        if self.choices.keys() != self.domains.keys():
            raise UserError(
                "A trial must have the options of exactly the names it chose. "
                f"Got choices of {sorted(self.choices)}, options of {sorted(self.domains)}."
            )
        for name, value in self.choices.items():
            if index_of(self.domains[name], value) < 0:
                raise UserError(
                    f"A choice must be among its options. Got {value!r} of {self.domains[name]} for {name!r}."
                )


class Strategy(ABC):
    """Proposes candidates: answers the decisions of a search space, in the light of what has been trained.

    Life cycle
    ----------
    The driver constructs one for every generation, as `Strategy(seed=..., history=...)`, with a seed derived from study
    and generation and all trials trained so far, in any order. Then it calls `ask` once for each proposal, and hands
    the decision function that it returns to the search space, through a `Recorder`. The function is good until the next
    `ask` or `tell`. The space may ask for names never seen in history, may leave out others, and may raise in the
    middle.

    Most proposals are screened out untrained; a strategy never hears of those. There is no state beside seed and
    history, so a study resumes exactly: equal seed, history (as a set) and calls give equal proposals, in any process.

    An asynchronous driver keeps one for longer and calls `tell` as trials finish: late, out of order, or never.

    All calls come from one thread. A strategy uses no global random state, prints nothing and warns of nothing.

    """

    def __init__(self, *, seed: int, history: Sequence[Trial] = ()) -> None:
        self.seed = seed
        self.history = list(history)

    @property
    def pool_limit(self) -> int | None:
        """Most proposals that it can be asked for at a cost of a second or two; None where there is no limit."""
        return None

    @abstractmethod
    def ask(self) -> Decide:
        """The decisions of one new proposal: `decide(name, options) -> index`. The caller asks for each name once."""

    def score(self, architecture: Architecture, proxy: float | None) -> float | None:
        """What a candidate is expected to be worth: the driver trains first where it is highest, cost included.

        None, the default, leaves the order to the driver: by rank of the proxy's score and MACs. Called for every
        feasible proposal; between two calls of `tell` it gives a finite number for all of them or None for all, and it
        is pure: neither the order of the calls nor their number matters, nor do they change what `ask` proposes.

        proxy: the candidate's score by the study's proxy; None to do without.
        """
        return None

    def tell(self, trial: Trial) -> None:
        """Adds a trained candidate to the history; counts from the next `ask` on."""
        self.history.append(trial)


class Random(Strategy):
    """Every option with equal probability, whatever the history. About 0.2 µs a choice; no limit."""

    def __init__(self, *, seed: int, history: Sequence[Trial] = ()) -> None:
        super().__init__(seed=seed, history=history)
        self._decide = at_random(np.random.default_rng(seed))

    def ask(self) -> Decide:
        return self._decide


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


def export(trials: Sequence[Trial], url: str, name: str) -> int:
    """Copies trials to a persisted Optuna study, for optuna-dashboard; makes the study where there is none.

    Trials that an earlier call copied are left alone, so it may be called after every generation. Choices appear with
    their own values; where options are equal as numbers (1, True), as text. The generation is a user attribute.

    Parameters
    ----------
    trials: any trained candidates.
    url: an Optuna storage, such as "sqlite:///dashboard.db". Not the store of the study itself: table names may clash.
    name: the name of the Optuna study.

    Returns
    -------
    The number of trials added.

    Notes
    -----
    About 30 ms a trial on SQLite.
    """
    import optuna

    with _quiet():
        storage = optuna.storages.RDBStorage(url)
        try:
            study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
            present = {trial.user_attrs.get("id") for trial in study.get_trials(deepcopy=False)}
            added = 0
            for trial in trials:
                identity = sha256(repr((_order(trial), sorted(trial.intermediate.items()))).encode()).hexdigest()[:16]
                if identity not in present:
                    present.add(identity)
                    study.add_trial(_shown(trial, identity))
                    added += 1
            return added
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _shown(trial: Trial, identity: str) -> FrozenTrial:
    """A trial as the dashboard shows it."""
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import TrialState, create_trial

    params: dict[str, Primitive] = {}
    distributions: dict[str, Any] = {}
    for name, options in trial.domains.items():
        ambiguous = len(set(options)) < len(options)
        params[name] = repr(trial.choices[name]) if ambiguous else trial.choices[name]
        distributions[name] = CategoricalDistribution(tuple(map(repr, options)) if ambiguous else options)
    return create_trial(
        state=TrialState.COMPLETE if trial.complete else TrialState.PRUNED,
        params=params,
        distributions=distributions,
        value=trial.value,
        intermediate_values=dict(trial.intermediate),
        user_attrs={"id": identity, "generation": trial.generation},
    )


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

    return {name: CategoricalDistribution(range(len(options))) for name, options in domains.known.items()}


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
