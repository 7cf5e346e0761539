"""Random networks for Tune's own sampling: the configurations of a tuner without a searcher of ours."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.tune.search.sample import BaseSampler, Domain

from nas.errors import Unsatisfiable
from nas.ray.tune.problem import CHOICES, TRAINING, Problem, problem_of
from nas.screening.budgets import ATTEMPTS
from nas.screening.proposals import Proposal
from nas.screening.screener import Screener
from nas.spaces.choices import at_random
from nas.spaces.loading import Spaces


def param_space(data: str = "digits", *, space: Spaces = (), **settings: Any) -> dict[str, Any]:
    """The configurations of trials, for ``tune.Tuner(nas.tune.Trainable, param_space=…)``.

    Without a searcher, Tune draws random networks within the limits; :class:`nas.tune.Searcher` chooses them in its
    place, and must then have the same settings.

    Parameters
    ----------
    data
        Data specification, which the workers load: a name, or a path that exists on all nodes.
    space
        One or more names, ``file.py:Name``, classes or objects with a method ``architecture``. By default all
        installed spaces that suit the data and the settings.
    **settings
        Settings of :func:`nas.search` with their defaults: max_macs, max_params, low, points, evaluator, rule, epochs,
        images, seed, device, threads, layout, hierarchy, validation, metric, sampling, recipe, batch_size,
        learning_rate, augment and precision.

    Returns
    -------
    dict
        ``settings``: plain values that all trials share. ``choices``: the network, a domain of Tune.

    Raises
    ------
    UserError
        For an unknown setting, a value that cannot be used, or limits that no network keeps.

    Examples
    --------
    >>> from ray import tune  # doctest: +SKIP
    >>> tuner = tune.Tuner(
    ...     nas.tune.Trainable,
    ...     param_space=nas.tune.param_space("digits", max_macs=1e6),
    ...     tune_config=tune.TuneConfig(metric="anytime_accuracy", mode="max", num_samples=20),
    ... )  # doctest: +SKIP
    """
    problem = problem_of(data, space, settings, TRAINING)
    return problem.trial_settings() | {CHOICES: RandomNetworks(problem)}


class RandomNetworks(Domain):
    """The choices of random networks within the limits of a problem."""

    class _Draw(BaseSampler):
        def sample(self, domain: Any, config: Any = None, size: int = 1, random_state: Any = None) -> Any:
            networks = [domain.network(int(random_state.integers(2**31 - 1))) for _ in range(size)]
            return networks if size > 1 else networks[0]

    default_sampler_cls = _Draw  # type: ignore[assignment]

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._screener: Screener | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_problem": self._problem, "_screener": None}  # plug-ins from files cannot be pickled

    def network(self, number: int) -> dict[str, Any]:
        """The choices of the random network with this number."""
        self._screener = self._screener or self._problem.screener()
        decide = at_random(np.random.default_rng(number))
        for _ in range(ATTEMPTS):
            proposal = self._screener.propose(decide)
            if isinstance(proposal, Proposal):
                return dict(proposal.choices)
        raise Unsatisfiable(f"The spaces must offer networks within the limits. Got none in {ATTEMPTS:,} proposals.")

    @property
    def domain_str(self) -> str:
        """For displays."""
        return "random networks"
